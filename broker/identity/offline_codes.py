"""Sealed codes for when chat, identity provider and on-call schedule are all away.

An administrator makes them beforehand; they are shown once, printed and sealed. A code is bound to one
person, opens one emergency, and can be withdrawn. The database holds scrypt of it (RFC 7914), never the code.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit
from broker.clock import Chance
from broker.store.engine import Store
from broker.store.tables import offline_codes as t

LIFETIME = timedelta(days=365)
MOST_AT_ONCE = 20
_FORM = re.compile(r"pcb-([0-9a-z]{8})-([0-9a-z]{5})-([0-9a-z]{5})-([0-9a-z]{5})-([0-9a-z]{5})-([0-9a-z]{5})")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing that is read as something else
_COST = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26}  # 32 MB; 125 random bits need no more


@dataclass(frozen=True, slots=True)
class Held:
    """A code that there is: its id, which is no secret, whose it is, and whether all of it was right."""

    id: str
    principal: str
    right: bool = True


@dataclass(frozen=True, slots=True)
class Listed:
    """What may be shown of a code later."""

    id: str
    principal: str
    made_by: str
    made_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    used_for: str


async def make(
    store: Store, chance: Chance, now: datetime, *, principal: str, actor: str, via: str, count: int = 1
) -> list[str]:
    """New codes for one person, in clear for the only time. Who may ask for them the caller has checked.

    Raises ValueError for fewer than 1 or more than 20 at once.
    """
    if not 1 <= count <= MOST_AT_ONCE:
        raise ValueError(f"1 to {MOST_AT_ONCE} codes at once")
    codes = [_new(chance) for _ in range(count)]
    async with store.write() as tx:
        for code in codes:
            salt = base64.b64encode(hashlib.sha256(chance.token(32).encode()).digest()[:16]).decode()
            values = {"id": _id(code), "principal": principal, "salt": salt, "hash": _hash(code, salt)}
            made = {"made_by": actor, "made_at": now, "expires_at": now + LIFETIME}
            await tx.execute(insert(t).values(**values, **made))
        body = {"codes": [_id(code) for code in codes], "until": now + LIFETIME}
        note = audit.Note("offline_code.made", principal, body)
        await audit.append(tx, [note], at=now, actor=actor, via=via)
    return codes


async def check(store: Store, code: str, now: datetime) -> Held | None:
    """Whose code this is; None for one that is unknown, withdrawn or too old. Not `right`: somebody knows of
    the code and not the code. One that is spent is told as well, so that whoever lost the answer on the way
    can ask for it again; `lock` tells whether it opens anything.
    """
    plain = tidy(code)
    if plain is None:
        return None
    known = _good(now) | ((t.c.used_for != "") & (t.c.expires_at > now))
    async with store.read() as tx:
        row = (
            await tx.execute(select(t.c.principal, t.c.salt, t.c.hash).where(t.c.id == _id(plain), known))
        ).first()
    if row is None:
        return None
    digest = await asyncio.to_thread(_hash, plain, row.salt)
    return Held(_id(plain), row.principal, hmac.compare_digest(row.hash, digest))


async def lock(tx: AsyncConnection, code_id: str, now: datetime) -> bool:
    """Whether the code is still good, with its row locked: of any number of uses at once, one gets it."""
    query = select(t.c.id).where(t.c.id == code_id, _good(now)).with_for_update()
    return (await tx.execute(query)).first() is not None


async def spend(tx: AsyncConnection, code_id: str, request_id: str, now: datetime) -> None:
    await tx.execute(update(t).where(t.c.id == code_id).values(ended_at=now, used_for=request_id))


async def withdraw(
    store: Store, now: datetime, *, actor: str, via: str, principal: str = "", code_id: str = ""
) -> int:
    """End a code, or every code of a person. Returns how many were good until now."""
    which = t.c.id == code_id if code_id else t.c.principal == principal
    async with store.write() as tx:
        ended = (await tx.execute(update(t).where(which, _good(now)).values(ended_at=now))).rowcount
        note = audit.Note("offline_code.withdrawn", principal or code_id, {"count": ended})
        await audit.append(tx, [note], at=now, actor=actor, via=via)
    return ended


async def listed(store: Store, principal: str = "") -> list[Listed]:
    """Every code, or those of one person, newest first."""
    columns = (getattr(t.c, name) for name in Listed.__slots__)
    query = select(*columns).order_by(t.c.made_at.desc(), t.c.id)
    async with store.read() as tx:
        rows = await tx.execute(query.where(t.c.principal == principal) if principal else query)
        return [Listed(*row) for row in rows]


def tidy(code: str) -> str | None:
    """The code as it was printed, however it was typed; None where it cannot be one."""
    typed = re.sub(r"[\s_–—‐-]+", "-", code.strip().lower()).translate(str.maketrans("oil", "011"))
    return typed if _FORM.fullmatch(typed) else None


def _new(chance: Chance) -> str:
    number = int.from_bytes(hashlib.sha512(chance.token(48).encode()).digest(), "big")
    signs = "".join(_ALPHABET[(number >> (5 * i)) & 31] for i in range(33))
    groups = [signs[:8], *(signs[i : i + 5] for i in range(8, 33, 5))]
    return "pcb-" + "-".join(groups)


def _id(code: str) -> str:
    return code.split("-")[1]


def _hash(code: str, salt: str) -> str:
    return hashlib.scrypt(code.encode(), salt=base64.b64decode(salt), dklen=32, **_COST).hex()


def _good(now: datetime) -> ColumnElement[bool]:
    return t.c.ended_at.is_(None) & (t.c.expires_at > now)
