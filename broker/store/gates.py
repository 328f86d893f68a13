"""Gates and their authorities in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import gate_authorities as a
from broker.store.tables import gates as t


@dataclass(frozen=True, slots=True)
class GateRow:
    """A gate. Its join token is known by `token_hash`, and once used bound to the key in `joined_key`.
    `serial` is the certificate that it has, `former` the one before, until the newer one is used first.
    """

    name: str
    token_hash: str
    token_until: datetime
    joined_key: str
    serial: str
    former: str
    until: datetime | None
    made_by: str
    made_at: datetime
    joined_at: datetime | None
    ended_at: datetime | None

    def has(self, serial: str) -> bool:
        """Whether the certificate of this number opens."""
        return self.ended_at is None and bool(serial) and serial in (self.serial, self.former)


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """`sealed` is the private key."""

    id: str
    certificate: str
    sealed: str
    made_at: datetime


_columns = tuple(t.c[name] for name in GateRow.__slots__)


async def find(tx: AsyncConnection, name: str, *, lock: bool = False) -> GateRow | None:
    query = select(*_columns).where(t.c.name == name)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return GateRow(*row) if row else None


async def by_token(tx: AsyncConnection, token_hash: str) -> GateRow | None:
    """The gate whose join token this is, locked."""
    row = (
        await tx.execute(select(*_columns).where(t.c.token_hash == token_hash).with_for_update())
    ).one_or_none()
    return GateRow(*row) if row else None


async def save(tx: AsyncConnection, gate: GateRow) -> None:
    """Put a gate in the place of what is there of its name."""
    values = {name: getattr(gate, name) for name in GateRow.__slots__}
    changed = await tx.execute(update(t).where(t.c.name == gate.name).values(**values))
    if not changed.rowcount:
        await tx.execute(insert(t).values(**values))


async def listed(tx: AsyncConnection) -> list[GateRow]:
    """Those that are not removed, by their names."""
    query = select(*_columns).where(t.c.ended_at.is_(None)).order_by(t.c.name)
    return [GateRow(*row) for row in await tx.execute(query)]


async def authorities(tx: AsyncConnection) -> list[AuthorityRow]:
    """Every authority, oldest first."""
    query = select(a.c.id, a.c.certificate, a.c.sealed, a.c.made_at).order_by(a.c.made_at, a.c.id)
    return [AuthorityRow(*row) for row in await tx.execute(query)]


async def add_authority(tx: AsyncConnection, row: AuthorityRow) -> None:
    values = {name: getattr(row, name) for name in AuthorityRow.__slots__}
    await tx.execute(insert(a).values(**values))
