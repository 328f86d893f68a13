"""People's passkeys: the public halves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import passkeys as t


@dataclass(frozen=True, slots=True)
class Passkey:
    """`credential` and `public_key` are base 64 for URLs. `sign_count` is what the authenticator last told;
    `synced` keys are on several devices of their owner's.
    """

    id: str
    principal: str
    credential: str
    public_key: str
    sign_count: int
    name: str
    transports: str
    synced: bool
    made_at: datetime
    used_at: datetime | None = None


async def of_person(tx: AsyncConnection, principal: str) -> list[Passkey]:
    """Oldest first."""
    rows = await tx.execute(select(t).where(t.c.principal == principal).order_by(t.c.made_at, t.c.id))
    return [Passkey(*row) for row in rows]


async def add(tx: AsyncConnection, key: Passkey) -> None:
    """Raises sqlalchemy.exc.IntegrityError where this credential is known already, whosoever it is."""
    await tx.execute(insert(t).values(**{name: getattr(key, name) for name in Passkey.__slots__}))


async def used(tx: AsyncConnection, key: Passkey, sign_count: int, at: datetime) -> bool:
    """Write down a use. False where the key is gone, or was used by somebody else in the meantime."""
    same = (t.c.id == key.id) & (t.c.principal == key.principal) & (t.c.sign_count == key.sign_count)
    done = await tx.execute(update(t).where(same).values(sign_count=sign_count, used_at=at))
    return done.rowcount == 1


async def remove(tx: AsyncConnection, principal: str, key_id: str) -> bool:
    gone = await tx.execute(delete(t).where(t.c.id == key_id, t.c.principal == principal))
    return gone.rowcount == 1
