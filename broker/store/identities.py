"""Which account at an identity provider is whose, and the groups that the provider told last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store import facts
from broker.store.tables import identities as t

_STATE = "identities"


@dataclass(frozen=True, slots=True)
class Binding:
    """`groups` are the provider's own names, as told at `groups_at`; None where it told none. `renewal` is
    sealed; the provider said at `confirmed_at` that the login stands.
    """

    issuer: str
    subject: str
    principal: str
    provider: str
    email: str
    bound_at: datetime
    groups: tuple[str, ...] | None = None
    groups_at: datetime | None = None
    confirmed_at: datetime | None = None
    renewal: str = field(default="", repr=False)


async def of_account(tx: AsyncConnection, issuer: str, subject: str) -> Binding | None:
    row = (await tx.execute(select(t).where(t.c.issuer == issuer, t.c.subject == subject))).first()
    return _binding(row) if row else None


async def of_principal(tx: AsyncConnection, principal: str) -> Binding | None:
    row = (await tx.execute(select(t).where(t.c.principal == principal))).first()
    return _binding(row) if row else None


async def every(tx: AsyncConnection) -> list[Binding]:
    return [_binding(row) for row in await tx.execute(select(t))]


async def state(tx: AsyncConnection) -> str:
    """Something that differs whenever bindings or groups have changed; cheap to ask for."""
    return await facts.look(tx, _STATE)


async def add(tx: AsyncConnection, it: Binding) -> None:
    """Raises sqlalchemy.exc.IntegrityError where the account or the principal is bound already."""
    values = {name: getattr(it, name) for name in Binding.__slots__}
    values["confirmed_at"] = it.confirmed_at or it.bound_at
    await facts.count_up(tx, _STATE)
    await tx.execute(insert(t).values(**values | {"groups": _text(it.groups)}))


async def know_groups(
    tx: AsyncConnection, issuer: str, subject: str, groups: Sequence[str] | None, now: datetime
) -> None:
    """What the provider says of the groups of this account now."""
    await facts.count_up(tx, _STATE)
    row = (t.c.issuer == issuer) & (t.c.subject == subject)
    await tx.execute(update(t).where(row).values(groups=_text(groups), groups_at=now))


async def confirm(
    tx: AsyncConnection, issuer: str, subject: str, now: datetime, renewal: str | None = None
) -> None:
    """The provider says that the login stands. `renewal` replaces the refresh token; None keeps it."""
    await facts.count_up(tx, _STATE)
    row = (t.c.issuer == issuer) & (t.c.subject == subject)
    more = {} if renewal is None else {"renewal": renewal}
    await tx.execute(update(t).where(row).values(confirmed_at=now, **more))


async def remove(tx: AsyncConnection, principal: str) -> bool:
    await facts.count_up(tx, _STATE)
    return (await tx.execute(delete(t).where(t.c.principal == principal))).rowcount == 1


def _text(groups: Sequence[str] | None) -> str | None:
    return None if groups is None else json.dumps(list(groups))


def _binding(row: Row[tuple[object, ...]]) -> Binding:
    it = row._mapping
    told = None if it["groups"] is None else tuple(json.loads(str(it["groups"])))
    return Binding(**{**it, "groups": told})
