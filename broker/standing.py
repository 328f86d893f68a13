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
from broker.identity.directory import StaticDirectory
from broker.store import facts, locks
from broker.store.tables import settings
from workflows.lock import Lock, LockKind

_FACT = "standing"


@dataclass(frozen=True, slots=True)
class Standing:
    """`revision` is the database's word for this state of it."""

    revision: str = ""
    locks: tuple[Lock, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.locks

    def on(self, config: Config) -> Config:
        """The configuration with this in it."""
        assert isinstance(config.directory, StaticDirectory), "the file's people come first"
        people = dict(config.directory.people)
        locked = {lock.target for lock in self.locks if lock.kind is LockKind.PERSON}
        for name in locked & people.keys():
            person = people[name]
            people[name] = replace(person, principal=replace(person.principal, active=False, locked=True))
        return replace(config, directory=replace(config.directory, people=people))


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
            self._now = Standing(revision, tuple(await locks.standing(tx)))

    def on(self, config: Config) -> Config:
        """The configuration as it is with all this, made once for each state of the two."""
        now = self._now
        if now.empty:
            return config
        if self._of is None or self._of[0] is not config or self._of[1] is not now:
            self._of = (config, now, now.on(config))
        return self._of[2]


async def changed(tx: AsyncConnection, chance: Chance) -> None:
    """Let every broker read anew, once the caller's transaction is there."""
    await facts.change(tx, _FACT, chance.token(12))
