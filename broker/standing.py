"""What the database adds to the policy file: locks, and the people whom an identity provider has brought.

It is held in memory under the revision that the database has of it. Whoever decides something looks at the
revision in its own transaction and reads anew where it has changed, so that every broker decides by what is
there at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.clock import Chance
from broker.config import Config
from broker.identity.directory import Person, StaticDirectory, with_owners
from broker.store import facts, locks, scim
from broker.store.scim import UserRow
from broker.store.tables import settings
from workflows.lock import Lock, LockKind
from workflows.model import Principal

_FACT = "standing"


Brought = tuple[UserRow, frozenset[str]]
"""A user of the provider's, and the names of their groups there."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`revision` is the database's word for this state of it. `users` are all whom a provider has brought,
    those first who are gone.
    """

    revision: str = ""
    locks: tuple[Lock, ...] = ()
    users: tuple[Brought, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.locks and not self.users

    def on(self, config: Config) -> Config:
        """The configuration with this in it."""
        assert isinstance(config.directory, StaticDirectory), "the file's people come first"
        people = dict(config.directory.people)
        if config.provisioned:
            for user, groups in self.users:
                named = config.directory.people.get(user.principal)
                ours = frozenset(config.provider_groups[g] for g in groups if g in config.provider_groups)
                people[user.principal] = _joined(named, user, ours)
        locked = {lock.target for lock in self.locks if lock.kind is LockKind.PERSON}
        for name in locked & people.keys():
            person = people[name]
            people[name] = replace(person, principal=replace(person.principal, active=False, locked=True))
        return replace(config, directory=replace(config.directory, people=with_owners(people)))


@dataclass
class Standings:
    """The standing of one broker, brought up to date by whoever looks."""

    _now: Standing = field(default_factory=Standing)
    _of: tuple[Config, Standing, Config] | None = None

    @property
    def now(self) -> Standing:
        return self._now

    async def refresh(self, tx: AsyncConnection) -> None:
        """Read anew what has changed in the database. Not in a transaction that changes it itself."""
        query = select(settings.c.value).where(settings.c.name == _FACT)
        revision = (await tx.execute(query)).scalar() or ""
        if revision != self._now.revision:
            users = tuple(await scim.everybody(tx))
            self._now = Standing(revision, tuple(await locks.standing(tx)), users)

    def on(self, config: Config) -> Config:
        """The configuration as it is with all this, made once for each state of the two."""
        now = self._now
        if now.empty and not config.provisioned:
            return config
        if self._of is None or self._of[0] is not config or self._of[1] is not now:
            self._of = (config, now, now.on(config))
        return self._of[2]


def _joined(named: Person | None, user: UserRow, groups: frozenset[str]) -> Person:
    """A person whom the provider brings, or both it and the policy file: they are active where both say so,
    and in the groups of either.
    """
    here = user.deleted_at is None
    it = Principal(
        user.principal, user.name or user.principal, user.email, groups, active=here and user.active
    )
    if named is None:
        return Person(it, timezone=user.timezone)
    file = named.principal
    same = user.bound or user.email.casefold() == file.email.casefold()
    if not here or not same:
        # Two people under one name, or one who is gone there: nobody acts under it.
        return replace(named, principal=replace(file, active=False))
    email = user.email or file.email
    active = file.active and it.active
    merged = replace(
        file, name=user.name or file.name, email=email, groups=file.groups | groups, active=active
    )
    return replace(named, principal=merged, timezone=named.timezone or user.timezone)


async def changed(tx: AsyncConnection, chance: Chance) -> None:
    """Let every broker read anew, once the caller's transaction is there."""
    await facts.change(tx, _FACT, chance.token(12))
