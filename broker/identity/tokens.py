"""Opaque tokens: 256 random bits, stored as their SHA-256, so that the database gives none away.

Kinds: `login` opens CLI and API (12 hours, counted from its last use; 30 days at most), `entry` is the
password at the gate (10 minutes to log in with, as often as one likes, by its principal only), `reveal` shows
a page once, `scim` is an identity provider that brings people (a year, unless said otherwise), `agent` the
login of a workload, which use does not prolong. Of an `entry` its SCRAM verifier is kept, too: at the gate it
is proved, not shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit
from broker.clock import Chance, Clock
from broker.store.engine import Store
from broker.store.tables import tokens as t
from workflows import scram


class TokenKind(StrEnum):
    LOGIN = "login"
    ENTRY = "entry"
    REVEAL = "reveal"
    SCIM = "scim"
    AGENT = "agent"


LIFETIMES = {
    TokenKind.LOGIN: timedelta(hours=12),
    TokenKind.ENTRY: timedelta(minutes=10),
    TokenKind.REVEAL: timedelta(minutes=10),
    TokenKind.SCIM: timedelta(days=365),
    TokenKind.AGENT: timedelta(minutes=15),
}
LONGEST = timedelta(days=30)
"""What no login outlives, however often it is used: a stolen one is not good for ever."""
MOST = 1000
"""How many good entry tokens of one principal a proof is tried against, the newest first."""
_NOBODYS = scram.Verifier(bytes(32), bytes(32))
PREFIXES = {
    TokenKind.LOGIN: "pcl_",
    TokenKind.ENTRY: "pce_",
    TokenKind.REVEAL: "pcr_",
    TokenKind.SCIM: "pcs_",
}
PREFIXES[TokenKind.AGENT] = "pca_"
"""So that a scanner of leaked secrets, and our own log scrubber, know one when they see it."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token, in clear for the only time."""

    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Issued(until {self.expires_at})"


@dataclass(frozen=True, slots=True)
class Held:
    """What a good token stands for. `payload` is what it was issued with, `device` the login it came of."""

    principal: str
    expires_at: datetime
    label: str = ""
    payload: str = ""
    device: str = ""


class Tokens:
    def __init__(self, store: Store, clock: Clock, chance: Chance) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance

    async def issue(
        self,
        kind: TokenKind,
        principal: str,
        *,
        via: str,
        label: str = "",
        payload: str = "",
        lifetime: timedelta | None = None,
        device: str = "",
        origin: str = "",
    ) -> Issued:
        """Make a token. The trail says that, never which. `device` is the login that asks for it."""
        now = self._clock.now()
        token = PREFIXES[kind] + self._chance.token(32)
        until = now + (lifetime or LIFETIMES[kind])
        values = {"kind": kind, "principal": principal, "label": label[:200], "payload": payload}
        values["device"] = device
        values["origin"] = origin
        if kind is TokenKind.ENTRY:
            known = scram.verifier(token, principal)
            values |= {"stored_key": known.stored_key.hex(), "server_key": known.server_key.hex()}
        async with self._store.write() as tx:
            await tx.execute(
                insert(t).values(hash=hash_of(token), created_at=now, expires_at=until, **values)
            )
            note = audit.Note("token.issued", principal, {"kind": kind, "label": label, "until": until})
            await audit.append(tx, [note], at=now, actor=principal, via=via)
        return Issued(token, until)

    async def check(self, kind: TokenKind, token: str) -> Held | None:
        """What a token stands for now; None for one that is unknown, of another kind, over or ended.

        The use of a login token makes it last longer.
        """
        async with self._store.read() as tx:
            held = await find(tx, kind, token, self._clock.now())
        if held and kind is TokenKind.LOGIN:
            await self._prolong(token, held)
        return held

    async def spend(self, kind: TokenKind, token: str) -> Held | None:
        """Check a token and end it: of any number of calls at once, one gets it."""
        now = self._clock.now()
        async with self._store.write() as tx:
            held = await find(tx, kind, token, now, lock=True)
            if held:
                await tx.execute(update(t).where(t.c.hash == hash_of(token)).values(ended_at=now, payload=""))
        return held

    async def end(self, token: str, *, via: str) -> None:
        """Log out: the token is good for nothing from now on."""
        now = self._clock.now()
        row = (t.c.hash == hash_of(token)) & t.c.ended_at.is_(None)
        async with self._store.write() as tx:
            owner = (await tx.execute(select(t.c.principal, t.c.kind).where(row))).first()
            if owner is None:
                return
            await tx.execute(update(t).where(row).values(ended_at=now, payload=""))
            note = audit.Note("token.ended", owner.principal, {"kind": owner.kind})
            await audit.append(tx, [note], at=now, actor=owner.principal, via=via)

    async def end_all(self, principal: str, *, actor: str, via: str) -> int:
        """End every token of a person. Returns how many were good until now."""
        now = self._clock.now()
        row = (t.c.principal == principal) & t.c.ended_at.is_(None) & (t.c.expires_at > now)
        async with self._store.write() as tx:
            ended = (await tx.execute(update(t).where(row).values(ended_at=now, payload=""))).rowcount
            note = audit.Note("token.ended", principal, {"all": ended})
            await audit.append(tx, [note], at=now, actor=actor, via=via)
        return ended

    async def gate_principal(self, token: str) -> str | None:
        """Whose password at the gate this is."""
        held = await self.check(TokenKind.ENTRY, token)
        return held.principal if held else None

    async def _prolong(self, token: str, held: Held) -> None:
        until = self._clock.now() + LIFETIMES[TokenKind.LOGIN]
        if until - held.expires_at < timedelta(minutes=5):
            return  # one write in five minutes is enough
        young = t.c.created_at >= until - LONGEST
        good = (t.c.hash == hash_of(token)) & t.c.ended_at.is_(None) & young
        async with self._store.write() as tx:
            await tx.execute(update(t).where(good).values(expires_at=until))


async def find(
    tx: AsyncConnection, kind: StrEnum, token: str, now: datetime, *, lock: bool = False
) -> Held | None:
    """The same check in the caller's transaction."""
    query = select(t.c.principal, t.c.expires_at, t.c.label, t.c.payload, t.c.device).where(
        t.c.hash == hash_of(token), t.c.kind == kind, t.c.ended_at.is_(None), t.c.expires_at > now
    )
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return Held(*row) if row else None


@dataclass(frozen=True, slots=True)
class Proved:
    """The token that a proof is of, and what answers the proof. `grant` is the one that it opens, if one."""

    held: Held
    hash: str
    signature: bytes
    grant: str = ""


async def prove(tx: AsyncConnection, principal: str, proof: scram.Proof, now: datetime) -> Proved | None:
    """Which of a principal's good entry tokens a proof is of, in the caller's transaction; None for none.

    Whoever has no token costs the same work as who has one: that somebody exists is not to be timed.
    """
    query = (
        select(
            t.c.principal,
            t.c.expires_at,
            t.c.label,
            t.c.payload,
            t.c.device,
            t.c.hash,
            t.c.stored_key,
            t.c.server_key,
        )
        .where(
            t.c.kind == TokenKind.ENTRY,
            t.c.principal == principal,
            t.c.ended_at.is_(None),
            t.c.expires_at > now,
            t.c.stored_key != "",
        )
        .order_by(t.c.created_at.desc())
        .limit(MOST)
    )
    rows = (await tx.execute(query)).all()
    if not rows:
        scram.signature(_NOBODYS, proof)
    for row in rows:
        known = scram.Verifier(bytes.fromhex(row.stored_key), bytes.fromhex(row.server_key))
        signature = scram.signature(known, proof)
        if signature is not None:
            return Proved(Held(*row[:5]), row.hash, signature)
    return None


async def end(tx: AsyncConnection, hashed: str, now: datetime) -> None:
    """The token with this hash is good for nothing from now on, in the caller's transaction."""
    await tx.execute(update(t).where(t.c.hash == hashed).values(ended_at=now, payload=""))


async def sweep(tx: AsyncConnection, before: datetime) -> int:
    """Delete tokens that were over before `before`."""
    return (await tx.execute(delete(t).where(t.c.expires_at < before))).rowcount


def hash_of(token: str) -> str:
    """By what a token is found."""
    return hashlib.sha256(token.encode()).hexdigest()


def login_kind(token: str) -> TokenKind:
    """Which kind of login a bearer token claims to be, an agent's or a person's; only a look-up tells."""
    return TokenKind.AGENT if token.startswith(PREFIXES[TokenKind.AGENT]) else TokenKind.LOGIN


def device_of(token: str) -> str:
    """How the login with this token, or browser session, is named: it opens nothing."""
    return hash_of(token)[:16]
