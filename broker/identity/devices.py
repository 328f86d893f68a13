"""Where somebody is logged in: command lines and browsers, to be seen and ended one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, update

from broker import audit
from broker.clock import Clock
from broker.identity.kept import Kind
from broker.identity.tokens import LIFETIMES, TokenKind
from broker.store.engine import Store
from broker.store.tables import tokens as t

_NAMES = {TokenKind.LOGIN.value: "command line", Kind.WEB.value: "browser"}
_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Device:
    """A login. `id` is the beginning of its hash: it names the login and opens nothing."""

    id: str
    kind: str
    since: datetime
    used: datetime
    until: datetime


class Devices:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def of(self, principal: str) -> list[Device]:
        """The logins of somebody that are good now, the last used first."""
        columns = (t.c.hash, t.c.kind, t.c.payload, t.c.created_at, t.c.expires_at)
        async with self._store.read() as tx:
            rows = (await tx.execute(select(*columns).where(self._good(principal)))).all()
        found = [
            Device(row.hash[:_SHOWN], _NAMES[row.kind], row.created_at, _used(row), row.expires_at)
            for row in rows
        ]
        return sorted(found, key=lambda device: device.used, reverse=True)

    async def end(self, principal: str, *, actor: str, via: str, device: str = "") -> int:
        """End one login of somebody's, or all of them. Returns how many were good until now."""
        now, row = self._clock.now(), self._good(principal)
        if device:
            row &= t.c.hash.startswith(device, autoescape=True)
        async with self._store.write() as tx:
            ended = (await tx.execute(update(t).where(row).values(ended_at=now, payload=""))).rowcount
            if ended:
                body = {"device": device} if device else {"all": ended}
                note = audit.Note("token.ended", principal, body)
                await audit.append(tx, [note], at=now, actor=actor, via=via)
        return ended

    def _good(self, principal: str) -> ColumnElement[bool]:
        alive = t.c.ended_at.is_(None) & (t.c.expires_at > self._clock.now())
        return (t.c.principal == principal) & t.c.kind.in_(list(_NAMES)) & alive


def _used(row: object) -> datetime:
    """When it was last used, within some minutes: a command line's end moves with its use, and a browser's
    session writes it down.
    """
    payload, until, since = (getattr(row, name) for name in ("payload", "expires_at", "created_at"))
    if getattr(row, "kind", "") == Kind.WEB.value:
        return datetime.fromisoformat(str(payload))
    used: datetime = max(until - LIFETIMES[TokenKind.LOGIN], since)
    return used
