"""People and groups of the provider, written down: each change is one transaction with its audit entries.

Whoever is deactivated or deleted is logged out and cut in that same transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from scim2_models import Context, EnterpriseUser, Group, NotFoundException, UniquenessException, User
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, standing
from broker.bus import GRANTS, OUTBOX
from broker.identity.links import Links
from broker.scim import people
from broker.service import Service
from broker.store import locks
from broker.store import scim as table
from broker.store.scim import GroupRow, UserRow
from workflows.lock import Lock, LockKind

AnyUser = User[EnterpriseUser]
R = TypeVar("R", UserRow, GroupRow)


@dataclass(frozen=True, slots=True)
class Cut:
    """What the trail tells of a user: who it is here, and what its end ended."""

    user: str
    principal: str
    active: bool
    logins: int = 0
    sessions: int = 0


class Provisioning:
    """The provider's half of the directory. `source` names the provider in the trail."""

    def __init__(self, service: Service, source: str) -> None:
        self.service = service
        self.actor = f"scim:{source}"

    # ------------------------------------------------------------------ users

    async def create_user(self, user: AnyUser) -> UserRow:
        """Raises UniquenessException where the userName, or the person of the file, is taken."""
        async with self.service.store.write() as tx:
            now, key = self.service.clock.now(), _key(user)
            await self._free(tx, key, "")
            email = people.address_of(user)
            principal, bound = await self._principal(tx, user, email)
            row = _filled(
                UserRow(str(uuid.uuid4()), principal, bound, key, "", email, "", "", True, "", 1, now, now),
                user,
            )
            await table.add_user(tx, row)
            await self._wrote(tx, "scim.user_created", row, now)
        await self._tell()
        return row

    async def change_user(
        self, user_id: str, change: Callable[[UserRow], AnyUser], check: Callable[[UserRow], None]
    ) -> UserRow:
        """Replace what is kept of a user by what `change` makes of it. `check` may raise, to change nothing.
        Raises NotFoundException, UniquenessException.
        """
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            before = await _there(table.user(tx, user_id, lock=True), "user")
            check(before)
            user = change(before)
            await self._free(tx, _key(user), before.id)
            row = _filled(replace(before, name_key=_key(user), email=people.address_of(user)), user)
            if row == before:
                return before
            row = replace(row, version=before.version + 1, changed_at=now)
            await table.save_user(tx, row)
            await self._wrote(tx, "scim.user_changed", row, now)
        await self._tell()
        return row

    async def delete_user(self, user_id: str, check: Callable[[UserRow], None]) -> None:
        """Raises NotFoundException."""
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            before = await _there(table.user(tx, user_id, lock=True), "user")
            check(before)
            await table.delete_user(tx, user_id, now)
            await self._wrote(tx, "scim.user_deleted", replace(before, active=False), now)
        await self._tell()

    # ----------------------------------------------------------------- groups

    async def create_group(self, group: Group, members: Mapping[str, str]) -> GroupRow:
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            await self._free_group(tx, group.display_name or "", "")
            row = GroupRow(str(uuid.uuid4()), "", "", "", 1, now, now)
            row = _filled_group(row, group)
            await table.add_group(tx, row)
            await self._set_members(tx, "scim.group_created", row, members, now)
        await self._tell()
        return row

    async def change_group(
        self,
        group_id: str,
        change: Callable[[GroupRow, list[tuple[str, str]]], tuple[Group, Mapping[str, str]]],
        check: Callable[[GroupRow], None],
    ) -> GroupRow:
        """The same for a group and its members. Raises NotFoundException, UniquenessException."""
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            before = await _there(table.group(tx, group_id, lock=True), "group")
            check(before)
            there = (await table.members(tx, [group_id])).get(group_id, [])
            group, members = change(before, there)
            await self._free_group(tx, group.display_name or "", group_id)
            row = _filled_group(before, group)
            if row == before and dict(members) == dict(there):
                return before
            row = replace(row, version=before.version + 1, changed_at=now)
            await table.save_group(tx, row)
            await self._set_members(tx, "scim.group_changed", row, members, now)
        await self._tell()
        return row

    async def delete_group(self, group_id: str, check: Callable[[GroupRow], None]) -> None:
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            before = await _there(table.group(tx, group_id, lock=True), "group")
            check(before)
            await table.delete_group(tx, group_id)
            note = audit.Note("scim.group_deleted", before.name[:200], {"group": group_id})
            await audit.append(tx, [note], at=now, actor=self.actor, via="api")
            await standing.changed(tx, self.service.chance)
        await self._tell()

    # ----------------------------------------------------------- the inside

    async def _free(self, tx: AsyncConnection, key: str, own: str) -> None:
        there = await table.user_of(tx, key)
        if there is not None and there.id != own:
            raise UniquenessException(detail="There is a user with this userName already")

    async def _free_group(self, tx: AsyncConnection, name: str, own: str) -> None:
        if any(row.id != own for row in await table.groups(tx, name=name)):
            raise UniquenessException(detail="There is a group with this displayName already")

    async def _principal(self, tx: AsyncConnection, user: AnyUser, email: str) -> tuple[str, bool]:
        """Who this user is here. Raises UniquenessException where another user is that person already."""
        config, user_name = self.service.file, user.user_name or ""
        taken = await table.principals(tx, "")
        if named := people.of_the_file(config, user_name, email):
            if taken.get(named):
                raise UniquenessException(detail="Another user is this person of the policy file already")
            return named, True
        return people.new_id(user_name, {**dict.fromkeys(config.directory.everyone()), **taken}), False

    async def _wrote(self, tx: AsyncConnection, kind: str, row: UserRow, now: datetime) -> None:
        """Note a change, and end what is open where the user may not be here any more."""
        told = Cut(row.id, row.principal, row.active)
        if not row.active:
            gone = Lock("", LockKind.PERSON, row.principal, "", self.actor, now)
            why = "the identity provider has ended this account"
            logins = await locks.end_tokens(tx, now, principal=row.principal)
            told = replace(told, logins=logins, sessions=await locks.kill_sessions(tx, gone, why, now))
        await audit.append(tx, [audit.Note(kind, row.principal, told)], at=now, actor=self.actor, via="api")
        await standing.changed(tx, self.service.chance)

    async def _set_members(
        self, tx: AsyncConnection, kind: str, row: GroupRow, members: Mapping[str, str], now: datetime
    ) -> None:
        unknown = await table.set_members(tx, row.id, members)
        body = {"group": row.id, "members": len(members) - len(unknown), "unknown": unknown[:20]}
        note = audit.Note(kind, row.name[:200], body)
        await audit.append(tx, [note], at=now, actor=self.actor, via="api")
        await standing.changed(tx, self.service.chance)

    async def _tell(self) -> None:
        """Our own standing up to date, gates and workers awake, links of whoever is gone taken away."""
        await self.service.fresh()
        await self.service.bus.publish(GRANTS, "scim")
        await Links(self.service).sweep()
        await self.service.bus.publish(OUTBOX, "scim")


async def _there(looked: Awaitable[R | None], what: str) -> R:
    """What was looked for. Raises NotFoundException."""
    found = await looked
    if found is None:
        raise NotFoundException(detail=f"There is no such {what}")
    return found


def _key(user: AnyUser) -> str:
    return (user.user_name or "").casefold()[:320]


def _filled(row: UserRow, user: AnyUser) -> UserRow:
    kept = user.model_dump_json(exclude={"id", "meta", "groups", "password"}, scim_ctx=Context.DEFAULT)
    return replace(
        row,
        external_id=(user.external_id or "")[:320],
        name=people.name_of(user),
        timezone=people.timezone_of(user),
        # Taken away, it is as it was: nobody comes back by an attribute that is missing.
        active=row.active if user.active is None else bool(user.active),
        document=kept,
    )


def _filled_group(row: GroupRow, group: Group) -> GroupRow:
    kept = group.model_dump_json(exclude={"id", "meta", "members"}, scim_ctx=Context.DEFAULT)
    name, external = group.display_name or "", group.external_id or ""
    return replace(row, name=name[:320], external_id=external[:320], document=kept)
