"""What logins keep on the server side while they go on: web sessions, logins under way, codes, devices.

All of it lives in the table of tokens, under kinds of its own, as the SHA-256 of a secret that only the
browser or the command line holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.clock import Chance, Clock
from broker.store.engine import Store
from broker.store.tables import tokens as t


class Kind(StrEnum):
    WEB = "web"
    """A web session; its secret is the cookie."""
    FLOW = "flow"
    """A login at the identity provider under way; its secret is a cookie of the browser that began it."""
    CODE = "code"
    """A finished login that the command line has yet to pick up, once, with its PKCE verifier."""
    DEVICE = "device"
    """A command line without a browser that waits for somebody to confirm its short code."""
    LINK = "link"
    """A Slack account that asks to be linked; its secret is the link that only that account was shown."""
    BROWSER = "browser"
    """The broker's half of a browser's entry to an HTTP service (broker/identity/browser_entries.py)."""
    STEP_UP = "step_up"
    """A decision that lacks a passkey; its secret is the address of its page."""
    CHALLENGE = "challenge"
    """What a passkey is asked to sign, for one answer from one browser."""
    ANSWER = "answer"
    """A verified SAML answer that its browser has yet to pick up, with the cookie that it began with."""
    SEEN = "seen"
    """Something that is good once (a SAML assertion, a logout token), so that no replica takes it again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """`principal` is "" until somebody has logged in. `label` is for look-up, `payload` the kind's own,
    `origin` stands for the login at the identity provider that it comes from.
    """

    principal: str
    label: str
    payload: str
    created_at: datetime
    expires_at: datetime
    origin: str = ""


class Keep:
    def __init__(self, store: Store, clock: Clock, chance: Chance) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance

    @property
    def clock(self) -> Clock:
        return self._clock

    async def put(
        self,
        kind: Kind,
        lifetime: timedelta,
        *,
        principal: str = "",
        label: str = "",
        payload: str = "",
        origin: str = "",
    ) -> str:
        """Keep something for `lifetime`; returns its secret, in clear for the only time."""
        secret, now = self._chance.token(32), self._clock.now()
        values = {"kind": kind, "principal": principal, "label": label[:200], "payload": payload}
        values["origin"] = origin
        async with self._store.write() as tx:
            await tx.execute(
                insert(t).values(hash=_hash(secret), created_at=now, expires_at=now + lifetime, **values)
            )
        return secret

    async def first_time(self, what: str, until: datetime) -> bool:
        """Whether `what` comes for the first time, at any of the brokers; it is remembered for `until`."""
        values = {"kind": Kind.SEEN, "principal": "", "label": "", "payload": ""}
        try:
            async with self._store.write() as tx:
                await tx.execute(
                    insert(t).values(
                        hash=_hash(f"seen {what}"), created_at=self._clock.now(), expires_at=until, **values
                    )
                )
        except IntegrityError:
            return False
        return True

    async def look(self, kind: Kind, secret: str) -> Kept | None:
        """What belongs to this secret; None where it is unknown, over or used up."""
        async with self._store.read() as tx:
            return await self._find(tx, (t.c.hash == _hash(secret)) & (t.c.kind == kind))

    async def take(self, kind: Kind, secret: str) -> Kept | None:
        """The same, and it is used up: of any number of calls at once, one gets it."""
        row = (t.c.hash == _hash(secret)) & (t.c.kind == kind)
        async with self._store.write() as tx:
            kept = await self._find(tx, row, lock=True)
            if kept:
                await tx.execute(update(t).where(row).values(ended_at=self._clock.now(), payload=""))
        return kept

    async def touch(self, kind: Kind, secret: str, payload: str) -> None:
        """Replace the payload of what is still good."""
        row = (t.c.hash == _hash(secret)) & (t.c.kind == kind) & t.c.ended_at.is_(None)
        async with self._store.write() as tx:
            await tx.execute(update(t).where(row).values(payload=payload))

    async def bind(self, kind: Kind, secret: str, *, principal: str, payload: str) -> bool:
        """Give what belongs to nobody yet to `principal`: one call of many is first."""
        alive = t.c.ended_at.is_(None) & (t.c.expires_at > self._clock.now())
        row = (t.c.hash == _hash(secret)) & (t.c.kind == kind) & (t.c.principal == "") & alive
        async with self._store.write() as tx:
            done = await tx.execute(update(t).where(row).values(principal=principal, payload=payload))
        return done.rowcount == 1

    async def end_labelled(self, kind: Kind, label: str) -> None:
        """End everything of this kind that is kept under this label."""
        row = (t.c.kind == kind) & (t.c.label == label) & t.c.ended_at.is_(None)
        async with self._store.write() as tx:
            await tx.execute(update(t).where(row).values(ended_at=self._clock.now(), payload=""))

    async def labelled(self, kind: Kind, label: str) -> Kept | None:
        """What is kept under this label and belongs to nobody yet."""
        async with self._store.read() as tx:
            return await self._find(tx, self._unclaimed(kind, label))

    async def claim(self, kind: Kind, label: str, *, principal: str, payload: str, origin: str = "") -> bool:
        """Give what is kept under this label to `principal`. False where it is gone or already somebody's."""
        row = self._unclaimed(kind, label)
        alive = row & t.c.ended_at.is_(None) & (t.c.expires_at > self._clock.now())
        async with self._store.write() as tx:
            given = {"principal": principal, "payload": payload, "origin": origin}
            done = await tx.execute(update(t).where(alive).values(**given))
        return done.rowcount == 1

    def _unclaimed(self, kind: Kind, label: str) -> ColumnElement[bool]:
        return (t.c.kind == kind) & (t.c.label == label) & (t.c.principal == "")

    async def _find(
        self, tx: AsyncConnection, row: ColumnElement[bool], *, lock: bool = False
    ) -> Kept | None:
        columns = (t.c.principal, t.c.label, t.c.payload, t.c.created_at, t.c.expires_at, t.c.origin)
        query = select(*columns).where(row, t.c.ended_at.is_(None), t.c.expires_at > self._clock.now())
        found = (await tx.execute(query.with_for_update() if lock else query)).first()
        return Kept(*found) if found else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
