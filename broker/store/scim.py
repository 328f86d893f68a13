"""People and groups as an identity provider has brought them (SCIM): rows, and who is in which group.

A user's row stays when it is deleted, without what the provider said of it, so that the principal's id is
never given to anybody else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import scim_groups as g
from broker.store.tables import scim_members as m
from broker.store.tables import scim_users as u


@dataclass(frozen=True, slots=True)
class UserRow:
    """`document` is the provider's resource in JSON, without id, meta and groups. `name_key` is the userName
    without case. `bound` says that `principal` is a person of the policy file.
    """

    id: str
    principal: str
    bound: bool
    name_key: str
    external_id: str
    email: str
    name: str
    timezone: str
    active: bool
    document: str
    version: int
    created_at: datetime
    changed_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """`document` is the provider's resource in JSON, without id, meta and members."""

    id: str
    name: str
    external_id: str
    document: str
    version: int
    created_at: datetime
    changed_at: datetime


def _values(row: UserRow | GroupRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in type(row).__slots__}


# ------------------------------------------------------------------- users


async def user(tx: AsyncConnection, user_id: str, *, lock: bool = False) -> UserRow | None:
    query = select(u).where(u.c.id == user_id, u.c.deleted_at.is_(None))
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return UserRow(*row) if row else None


async def user_of(tx: AsyncConnection, name_key: str) -> UserRow | None:
    row = (await tx.execute(select(u).where(u.c.name_key == name_key, u.c.deleted_at.is_(None)))).first()
    return UserRow(*row) if row else None


async def principals(tx: AsyncConnection, like: str) -> dict[str, bool]:
    """The ids that begin like this and are somebody's, or were; whether they are now."""
    query = select(u.c.principal, u.c.deleted_at).where(u.c.principal.startswith(like, autoescape=True))
    found: dict[str, bool] = {}
    for name, deleted_at in await tx.execute(query):
        found[name] = found.get(name, False) or deleted_at is None
    return found


async def add_user(tx: AsyncConnection, row: UserRow) -> None:
    await tx.execute(insert(u).values(**_values(row)))


async def save_user(tx: AsyncConnection, row: UserRow) -> None:
    await tx.execute(update(u).where(u.c.id == row.id).values(**_values(row)))


async def delete_user(tx: AsyncConnection, user_id: str, now: datetime) -> None:
    gone = {"deleted_at": now, "active": False, "document": "{}", "external_id": ""}
    await tx.execute(update(u).where(u.c.id == user_id).values(**gone))
    await tx.execute(delete(m).where(m.c.user_id == user_id))


async def users(
    tx: AsyncConnection, *, offset: int = 0, limit: int | None = None, **only: str
) -> list[UserRow]:
    """The provider's users in the order in which they came; `only` are columns and what they hold."""
    query = select(u).where(u.c.deleted_at.is_(None), *(u.c[name] == value for name, value in only.items()))
    query = query.order_by(u.c.created_at, u.c.id).offset(offset).limit(limit)
    return [UserRow(*row) for row in await tx.execute(query)]


async def count_users(tx: AsyncConnection, **only: str) -> int:
    where = (u.c.deleted_at.is_(None), *(u.c[name] == value for name, value in only.items()))
    return int((await tx.execute(select(func.count()).select_from(u).where(*where))).scalar_one())


async def everybody(tx: AsyncConnection) -> list[tuple[UserRow, frozenset[str]]]:
    """Every user that is or was, those that were first, with the names of their groups."""
    names: dict[str, set[str]] = {}
    for user_id, name in await tx.execute(select(m.c.user_id, g.c.name).join(g, g.c.id == m.c.group_id)):
        names.setdefault(user_id, set()).add(name)
    query = select(u).order_by(u.c.deleted_at.is_(None), u.c.created_at)
    return [(row := UserRow(*it), frozenset(names.get(row.id, ()))) for it in await tx.execute(query)]


# ------------------------------------------------------------------ groups


async def group(tx: AsyncConnection, group_id: str, *, lock: bool = False) -> GroupRow | None:
    query = select(g).where(g.c.id == group_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return GroupRow(*row) if row else None


async def add_group(tx: AsyncConnection, row: GroupRow) -> None:
    await tx.execute(insert(g).values(**_values(row)))


async def save_group(tx: AsyncConnection, row: GroupRow) -> None:
    await tx.execute(update(g).where(g.c.id == row.id).values(**_values(row)))


async def delete_group(tx: AsyncConnection, group_id: str) -> None:
    await tx.execute(delete(m).where(m.c.group_id == group_id))
    await tx.execute(delete(g).where(g.c.id == group_id))


async def groups(
    tx: AsyncConnection, *, offset: int = 0, limit: int | None = None, **only: str
) -> list[GroupRow]:
    query = select(g).where(*(g.c[name] == value for name, value in only.items()))
    query = query.order_by(g.c.created_at, g.c.id).offset(offset).limit(limit)
    return [GroupRow(*row) for row in await tx.execute(query)]


async def count_groups(tx: AsyncConnection, **only: str) -> int:
    where = [g.c[name] == value for name, value in only.items()]
    return int((await tx.execute(select(func.count()).select_from(g).where(*where))).scalar_one())


# ----------------------------------------------------------------- members


async def members(tx: AsyncConnection, group_ids: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """The members of these groups: their ids, and how they are shown: as the provider said, else by name."""
    shown = func.coalesce(func.nullif(m.c.display, ""), u.c.name)
    query = (
        select(m.c.group_id, u.c.id, shown)
        .join(u, u.c.id == m.c.user_id)
        .where(m.c.group_id.in_(list(group_ids)))
        .order_by(u.c.created_at, u.c.id)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for group_id, user_id, name in await tx.execute(query):
        found.setdefault(group_id, []).append((user_id, name))
    return found


async def groups_of(tx: AsyncConnection, user_ids: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """The groups of these users: their ids and names."""
    query = (
        select(m.c.user_id, g.c.id, g.c.name)
        .join(g, g.c.id == m.c.group_id)
        .where(m.c.user_id.in_(list(user_ids)))
        .order_by(g.c.name)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for user_id, group_id, name in await tx.execute(query):
        found.setdefault(user_id, []).append((group_id, name))
    return found


async def set_members(tx: AsyncConnection, group_id: str, wanted: Mapping[str, str]) -> list[str]:
    """Have exactly these users (ids, and how the provider shows them) in a group. Returns those of them whom
    there are not: they are left out.
    """
    query = select(u.c.id).where(u.c.id.in_(list(wanted)), u.c.deleted_at.is_(None))
    known = {row.id for row in await tx.execute(query)}
    here = select(m.c.user_id, m.c.display).where(m.c.group_id == group_id)
    there = {row.user_id: row.display for row in await tx.execute(here)}
    same = {one for one in known if there.get(one) == wanted[one]}
    if gone := there.keys() - same:
        await tx.execute(delete(m).where(m.c.group_id == group_id, m.c.user_id.in_(list(gone))))
    if new := known - same:
        rows = [{"group_id": group_id, "user_id": one, "display": wanted[one]} for one in sorted(new)]
        await tx.execute(insert(m), rows)
    return [one for one in wanted if one not in known]
