"""The keeper put together: store, bus, service, workers and clock, started in order and stopped in reverse.

Nothing in memory matters: a keeper that is killed at any point leaves its truth in the database, and the next
one goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType

import structlog

from broker import audit, outbox
from broker.authority import LocalAuthority
from broker.bus import OUTBOX, Bus
from broker.bus.in_process import InProcessBus
from broker.bus.redis import RedisBus
from broker.clock import Chance, Clock, SystemChance, SystemClock
from broker.config import Problem
from broker.credentials import seal
from broker.credentials.seal import Seal
from broker.credentials.worker import CredentialWorker
from broker.identity import tokens
from broker.identity.bindings import Bindings
from broker.identity.ending import Ending
from broker.identity.kept import Keep
from broker.identity.links import Links
from broker.identity.logins import Logins
from broker.identity.looking import Looking
from broker.identity.people import People
from broker.identity.providers import Providers, from_environment
from broker.identity.tokens import Tokens
from broker.oncall.roster import Roster
from broker.outbox import Outbox
from broker.paging.worker import PagingWorker
from broker.policy_file.holder import ConfigHolder
from broker.reviews import Reviews
from broker.runs import Runs
from broker.scheduler import Scheduler
from broker.service import Service
from broker.settings import Settings
from broker.store import deliveries, facts, results
from broker.store.engine import Store
from broker.trail import Signer

MINTERS = 4
"""Logins that are made or dropped at the same time."""
KEPT_DELIVERIES = timedelta(days=7)
KEPT_DONE = timedelta(days=1)
KEPT_NOTICES = timedelta(days=2)
"""A message to people that could not be sent for so long would only confuse them."""
ORPHANS_EVERY = 600.0
TIDY_EVERY = 3600.0

log = structlog.get_logger(__name__)


@dataclass
class Broker:
    """Everything that bot, API, CLI and gate are given. Made and started by `create_broker`."""

    settings: Settings
    config: ConfigHolder
    store: Store
    bus: Bus
    clock: Clock
    chance: Chance
    service: Service
    authority: LocalAuthority
    reviews: Reviews
    runs: Runs
    tokens: Tokens
    keep: Keep
    people: People
    logins: Logins
    outbox: Outbox
    seal: Seal
    signer: Signer
    credentials: CredentialWorker
    paging: PagingWorker
    scheduler: Scheduler = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def reload_policy(self) -> list[Problem]:
        """Read access.yaml again. Problems are logged, and mean that the former policy stays."""
        problems = await asyncio.to_thread(self.config.reload)
        if problems:
            log.error("policy not reloaded", problems=[str(problem) for problem in problems])
            return problems
        await self._note_policy()
        return []

    async def stop(self) -> None:
        """Stop cleanly: sign the trail's head, end the workers, close the database. May be repeated."""
        await self.scheduler.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        try:
            await self.signer.checkpoint(self.store, self.clock)
        except Exception as error:  # stopping goes on, whatever the database says
            log.error("the trail was not signed at the end", problem=type(error).__name__)
        while self._closers:
            await self._closers.pop()()

    async def __aenter__(self) -> Broker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # ------------------------------------------------------------- inside

    async def _start(self) -> None:
        await self._note_policy()
        await self.people.refresh()
        await self.scheduler.start()
        self._tasks = [
            asyncio.create_task(self.credentials.run(), name=f"credentials-{n}") for n in range(MINTERS)
        ]
        self._tasks.append(asyncio.create_task(self.paging.run(), name="paging"))
        self._tasks.append(asyncio.create_task(self._sweep_orphans(), name="orphans"))

    async def _sweep(self) -> None:
        """What the scheduler does at every look besides deadlines."""
        await self.authority.close_lost()
        await self.reviews.close_over()
        await Links(self.service).sweep()
        await self.bus.publish(OUTBOX, "sweep")
        await self.people.refresh()
        if self.config.changed():
            await self.reload_policy()

    async def _sweep_orphans(self) -> None:
        while True:
            try:
                await self.credentials.sweep_orphans()
            except Exception as error:
                log.error("orphans: cannot sweep", problem=type(error).__name__)
            await asyncio.sleep(ORPHANS_EVERY)

    async def _checkpoint(self) -> None:
        await self.signer.checkpoint(self.store, self.clock)

    async def _tidy(self) -> None:
        """Delete what nobody needs any more. Stories, sessions and the trail stay."""
        now = self.clock.now()
        async with self.store.write() as tx:
            await outbox.give_up(tx, outbox.NOTIFY, now - KEPT_NOTICES, now)
            await outbox.sweep(tx, now - KEPT_DONE)
            await deliveries.forget(tx, now - KEPT_DELIVERIES)
            await results.sweep(tx, now)
            await tokens.sweep(tx, now - KEPT_DONE)

    async def _note_policy(self) -> None:
        """Write into the trail which policy holds from now on, unless it is the one that held before."""
        digest, now = self.config().policy.digest, self.clock.now()
        async with self.store.write() as tx:
            if await facts.change(tx, "policy_digest", digest):
                note = audit.Note("policy.loaded", "policy", {"digest": digest})
                await audit.append(tx, [note], at=now, actor="", via="system")


async def create_broker(
    settings: Settings, *, clock: Clock | None = None, chance: Chance | None = None, bus: Bus | None = None
) -> Broker:
    """Put a broker together and start it. `await broker.stop()` when done, or use it with `async with`.

    Raises ConfigError where access.yaml cannot be used, ValueError or PermissionError for a key, OSError or
    SQLAlchemyError where the database cannot be reached, ConnectionError where Redis cannot.
    """
    config = ConfigHolder(settings.policy)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    sealer = seal.from_settings(settings.seal_key.get_secret_value(), settings.data_dir)
    signer = Signer(settings.data_dir)
    store = Store(settings.database)
    closers: list[Callable[[], Awaitable[None]]] = [store.close]
    try:
        await store.migrate()
        bus = bus or await _bus(settings)
        closers.append(bus.close)
        chance, clock = chance or SystemChance(), clock or SystemClock()
        roster = Roster(clock)
        closers.append(roster.close)
        installation = await _installation(store, chance, sealer)
        broker = _wire(settings, config, store, bus, clock, chance, roster, sealer, signer, installation)
        closers += [broker.paging.close, broker.logins.providers.aclose]
        broker._closers = closers
        await broker._start()
    except BaseException:
        while closers:
            await closers.pop()()
        raise
    return broker


def _wire(
    settings: Settings,
    config: ConfigHolder,
    store: Store,
    bus: Bus,
    clock: Clock,
    chance: Chance,
    roster: Roster,
    sealer: Seal,
    signer: Signer,
    installation: str,
) -> Broker:
    keep, tokens = Keep(store, clock, chance), Tokens(store, clock, chance)
    service = Service(store, config, clock, chance, bus, roster)
    people = People(store, lambda: service.filed, clock, from_environment(settings))
    providers = Providers(people, clock, chance, keep, settings.public_url)
    service.public_url = settings.public_url
    looking = Looking(
        store, people, providers, clock, seal=sealer, keep=keep, ended=Ending(service).logged_out
    )
    service.look_again, service.stands, service.overlay = looking.again, looking.stands, people.over
    box = Outbox(store, clock, chance)
    authority = LocalAuthority(service, sealer, settings.lease_seconds, settings.public_url)
    broker = Broker(
        settings=settings,
        config=config,
        store=store,
        bus=bus,
        clock=clock,
        chance=chance,
        service=service,
        authority=authority,
        reviews=authority.reviews,
        runs=Runs(authority.reviews, sealer),
        tokens=tokens,
        keep=keep,
        people=people,
        logins=Logins(providers, Bindings(store, people, clock, sealer), keep, tokens, chance),
        outbox=box,
        seal=sealer,
        signer=signer,
        credentials=CredentialWorker(service, box, sealer, installation),
        paging=PagingWorker(service, box, settings.public_url),
    )
    broker.scheduler = Scheduler(
        service,
        sweep_seconds=settings.sweep_seconds,
        sweep=broker._sweep,
        chores={
            "checkpoint": (settings.checkpoint_seconds, broker._checkpoint),
            "tidy": (TIDY_EVERY, broker._tidy),
        },
    )
    return broker


async def _bus(settings: Settings) -> Bus:
    if not settings.redis_url:
        return InProcessBus()
    redis = RedisBus(settings.redis_url)
    try:
        await redis.start()
    except ConnectionError:
        await redis.close()
        raise
    return redis


async def _installation(store: Store, chance: Chance, sealer: Seal) -> str:
    """The name of this installation, by which logins at targets are known as ours.

    Raises ValueError where the database was sealed with a key that this broker does not have: it could
    neither open the logins that are there nor be understood by its peers.
    """
    async with store.write() as tx:
        sealed_with = await facts.first(tx, "seal_key_id", sealer.current)
        if not sealer.knows(sealed_with):
            raise ValueError(
                f"The database was sealed with the key {sealed_with}, which is not here. Give every broker "
                "the same PORTCULLIS_SEAL_KEY (or seal.key); an old key goes after the new one and a comma."
            )
        await facts.change(tx, "seal_key_id", sealer.current)
        return await facts.first(tx, "installation", chance.id("P", 12))
