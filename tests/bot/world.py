"""The real bot on the real service and SQLite, in front of the sandbox's Slack, over HTTP or Socket Mode.

`world` is all of it: `world.ada`, `world.grace`, … are people in Slack; `world.clock` is the broker's clock,
which stands still until a test moves it. Cards are delivered by the courier in the background as in life.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from bot.app import EVENTS_PATH, Bot, create_bot
from bot.sandbox import App, Driver, Group, Message, Person, Room, Sandbox, Workspace, create_sandbox
from bot.sandbox.serving import serving as served
from bot.slack import Pace
from broker.audit import Entry, newest
from broker.bus import OUTBOX, Bus
from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance
from broker.config import Config, ScheduleSource, SlackSettings
from broker.identity.directory import Person as Known
from broker.identity.directory import StaticDirectory
from broker.oncall.roster import Roster
from broker.service import Service
from broker.settings import Settings
from broker.store import credentials, sessions
from broker.store.engine import Store
from broker.store.sessions import SessionRecord
from broker.store.tables import outbox
from cli.recordings import Shelf
from tests import tables
from workflows.gate import Closing
from workflows.model import Group as ModelGroup
from workflows.model import Principal, Quorum, Resource, Role, Story
from workflows.policy import Emergency, Policy, Rule

MANIFEST = Path(__file__).parents[2] / "app-manifest.yaml"
TEAM = "T0SANDBOX1"
HOUR = timedelta(hours=1)
MEMBERS = {
    "ada": ("engineers",),
    "grace": ("dba",),
    "linus": ("dba",),
    "olive": ("security",),
    "mallory": ("engineers",),
    "guest": ("dba",),
    "robot": ("dba",),
    "stranger": ("dba",),
    "gone": ("dba",),
}


class FakeClock:
    """Stands still until it is moved; begins now, since Slack's own time is real."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def advance(self, **span: float) -> None:
        self.at += timedelta(**span)


def sample_config(
    *,
    needed: int = 1,
    channel: str = "C0DBA",
    extra: tuple[Quorum, ...] = (),
    rule: dict[str, Any] | None = None,
    emergencies: tuple[Emergency, ...] = (),
    schedules: dict[str, ScheduleSource] | None = None,
) -> Config:
    """`rule` changes the everyday rule; `emergencies` and `schedules` are added to the policy."""
    readonly = Role("readonly", ("app_readonly",), within=("readwrite",))
    readwrite = Role("readwrite", ("app_readwrite",))
    prod = Resource("prod-db", "postgres", "Shop, production", ("shop",), (readonly, readwrite))
    vault = Resource("vault-db", "postgres", "Vault", (), (readonly,))
    quorum = (Quorum("dba", needed), *extra)
    everyday = Rule(
        "engineers-read-prod",
        frozenset({"engineers", "dba"}),
        frozenset({"prod-db"}),
        ("readonly", "readwrite"),
        4 * HOUR,
        HOUR,
        quorum,
        8 * HOUR,
    )
    everyday = replace(everyday, **(rule or {}))
    closed = Rule(
        "vault",
        frozenset({"security"}),
        frozenset({"vault-db"}),
        ("readonly",),
        HOUR,
        HOUR,
        (),
        8 * HOUR,
    )
    groups = {
        "engineers": ModelGroup("engineers", "Engineers"),
        "dba": ModelGroup("dba", "Database approvers", channel, "S0DBA"),
        "security": ModelGroup("security", "Security", "C0SEC"),
    }
    people = {
        name: Known(
            Principal(name, f"{name.title()} Example", f"{name}@example.com", frozenset(of)),
            slack=f"U0{name.upper()}",
            timezone="Europe/London",
        )
        for name, of in MEMBERS.items()
    }
    policy = Policy(
        groups,
        {"prod-db": prod, "vault-db": vault},
        (everyday, closed),
        frozenset({"security"}),
        "0" * 64,
        emergencies,
    )
    return Config(
        policy,
        StaticDirectory(people, TEAM),
        slack=SlackSettings(TEAM),
        timezone="Europe/London",
        schedules=schedules or {},
    )


def urgent_config(**more: Any) -> Config:
    """The same, where whoever is on call (ada) may break the glass of prod-db, and olive and grace review."""
    night = Emergency(
        "night",
        frozenset({"prod-db"}),
        "readwrite",
        timedelta(minutes=30),
        reviewers=("security",),
        schedules=("primary",),
        **more.pop("emergency", {}),
    )
    schedules = {"primary": ScheduleSource("static", people=("ada",))}
    return sample_config(emergencies=(night,), schedules=schedules, **more)


def workspace(manifest: dict[str, Any]) -> Workspace:
    flags: dict[str, dict[str, Any]] = {
        "guest": {"is_restricted": True},
        "robot": {"is_bot": True},
        "stranger": {"is_stranger": True, "team_id": "T0ELSE"},
        "gone": {"deleted": True},
    }
    people = [
        Person(
            name,
            f"{name.title()} Example",
            f"{name}@example.com",
            id=f"U0{name.upper()}",
            **flags.get(name, {}),
        )
        for name in [*MEMBERS, "unlinked"]
    ]
    all_names = tuple(person.handle for person in people)
    return Workspace(
        people=tuple(people),
        channels=(
            Room("general", members=all_names, id="C0GENERAL"),
            Room("dba", members=all_names, id="C0DBA"),
            Room("security", members=("olive",), is_private=True, id="C0SEC"),
        ),
        groups=(Group("dba", ("grace", "linus"), id="S0DBA"),),
        app=App(manifest=manifest),
        team_id=TEAM,
    )


@dataclass
class World:
    """Everything, and short words for what tests do with it."""

    sandbox: Sandbox
    store: Store
    clock: FakeClock
    service: Service
    bot: Bot
    config: Config
    current: list[Config]
    recordings: Path
    deleted: set[str] = field(default_factory=set)
    """Requests whose card an administrator of Slack deleted."""

    def __getattr__(self, name: str) -> Driver:
        if name not in MEMBERS and name != "unlinked":
            raise AttributeError(name)
        return self.sandbox.as_user(name)

    async def ask(self, line: str = "request prod-db 1h because INC-142", who: str = "ada") -> Message:
        """Somebody asks; the card in the approvers' channel, once their own direct message is there too."""
        before = len(await self.stories(who))
        delivery = await self.sandbox.as_user(who).commands(f"/access {line}")
        assert delivery.acked, delivery

        async def asked() -> bool:
            return len(await self.stories(who)) > before

        await self.until(asked)
        newest_id = (await self.stories(who))[0].request.id
        return await self.grace.sees(newest_id, channel="#dba", ephemeral=False)

    async def stories(self, who: str = "ada") -> list[Story]:
        return await self.service.stories_of(who)

    async def story(self, who: str = "ada") -> Story:
        found = await self.stories(who)
        assert len(found) == 1, found
        return found[0]

    async def until(self, what: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not await what():  # noqa: ASYNC110 - any fact may be waited for
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def another_bot(self) -> AsyncIterator[Bot]:
        """A second replica on the same database."""
        pace = Pace(sleep=lambda _: asyncio.sleep(0))
        shelf = Shelf(self.recordings)
        replica = create_bot(self.service, settings_for(self.sandbox, "http"), pace=pace, recordings=shelf)
        await replica.start()
        try:
            yield replica
        finally:
            await replica.stop()

    async def breaks(self, who: str = "ada", reason: str = "checkout is down", **more: Any) -> Message:
        """Somebody breaks the glass of prod-db by the form; the card in the approvers' channel."""
        user = self.sandbox.as_user(who)
        await user.commands("/access break-glass prod-db because INC-142 " + reason)
        await user.sees_modal("What is broken")
        delivery = await user.submits(more)
        assert delivery.acked, delivery
        return await self.grace.sees("Emergency INC-142", channel="#dba")

    async def session(self, name: str = "S-1", who: str = "ada", **done: Any) -> None:
        """A session under the newest grant; with `done` it has ended and did that."""
        story = (await self.stories(who))[0]
        assert story.grant is not None
        now, request = self.clock.now(), story.request
        record = SessionRecord(
            name, request.id, story.grant.id, who, request.resource, request.role, "gate-1", "postgres",
            "127.0.0.1", now, now,
        )  # fmt: skip
        async with self.store.write() as tx:
            if await sessions.find(tx, name) is None:
                await sessions.add(tx, record)
            if done:
                await sessions.close(tx, Closing(name, "client", "", 1, "x", **done), now)

    def regroup(self, who: str, *groups: str) -> None:
        """From now on this person is in these groups and no other."""
        people = self.config.directory.people
        known = people[who]
        person = replace(known, principal=replace(known.principal, groups=frozenset(groups)))
        directory = replace(self.config.directory, people={**people, who: person})
        self.current[0] = self.config = replace(self.config, directory=directory)

    def relates(self, who: str, **relations: str) -> None:
        """From now on this is known of what this person shares: manager="grace"."""
        people = self.config.directory.people
        person = replace(
            people[who], principal=replace(people[who].principal, relations=frozenset(relations.items()))
        )
        directory = replace(self.config.directory, people={**people, who: person})
        self.current[0] = self.config = replace(self.config, directory=directory)

    async def gate_holds(self, who: str = "ada") -> None:
        """What the login maker and the gate do: the login is ready, then the gate says that it holds."""

        async def granted() -> bool:
            return any(s.grant is not None for s in await self.stories(who))

        await self.until(granted)
        story = next(s for s in await self.stories(who) if s.grant is not None)
        assert story.grant is not None
        await self.login_ready(story)
        held = await self.service.confirm_hold(story.grant.id, "gate-1")
        assert isinstance(held, Story)

    async def login_ready(self, story: Story) -> None:
        """A login was made for the story's grant."""
        assert story.grant is not None
        now, grant = self.clock.now(), story.grant.id
        login = credentials.SealedLogin(grant, story.request.resource, grant, "x", "k", now, ready_at=now)
        async with self.store.write() as tx:
            if await credentials.find(tx, grant) is None:
                await credentials.add(tx, login)

    async def passes(self, **span: float) -> None:
        """Time passes, and the scheduler does what is due."""
        self.clock.advance(**span)
        await self.service.expire_due()
        await self.service.wake_due()
        await self.service.bus.publish(OUTBOX, "")

    async def trail(self) -> list[Entry]:
        async with self.store.read() as tx:
            return await newest(tx, limit=1000)

    async def refused(self) -> list[str]:
        """The codes of everything that was refused, newest first."""
        return [yaml.safe_load(e.body)["code"] for e in await self.trail() if e.kind == "refused"]

    async def at_rest_but_for_watching(self) -> None:
        """The same in an emergency, which is looked at again every few seconds: the clock stands still."""
        due = select(outbox.c.id).where(
            outbox.c.kind.in_(["card", "notify"]),
            outbox.c.done_at.is_(None),
            outbox.c.available_at <= self.clock.now(),
        )

        async def idle() -> bool:
            async with self.store.read() as tx:
                return (await tx.execute(due)).first() is None

        await self.until(idle, 60)

    async def at_rest(self) -> None:
        """Wait until the courier has nothing left to do, whatever the clock says."""

        waiting = select(outbox.c.available_at, outbox.c.claimed_until).where(
            outbox.c.kind.in_(["card", "notify"]), outbox.c.done_at.is_(None)
        )

        async def idle() -> bool:
            async with self.store.read() as tx:
                rows = (await tx.execute(waiting)).all()
            now = self.clock.now()
            if rows and not any(row.claimed_until and row.claimed_until > now for row in rows):
                self.clock.at = max(now, *(row.available_at for row in rows))
                await self.service.bus.publish(OUTBOX, "")
            return not rows

        await self.until(idle, 60)


@functools.cache
def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return found


@asynccontextmanager
async def make_world(
    tmp_path: Path,
    *,
    mode: str = "http",
    config: Config | None = None,
    change_manifest: Callable[[dict[str, Any]], None] | None = None,
    database: str = "",
    bus: Bus | None = None,
    **sandbox_options: Any,
) -> AsyncIterator[World]:
    """`database` is the URL of one with our tables in place of a new SQLite file."""
    chosen = config or sample_config()
    manifest = copy.deepcopy(_manifest())
    if change_manifest:
        change_manifest(manifest)
    sandbox = create_sandbox(workspace(manifest), retry_delays=(0.0, 0.2, 0.5), **sandbox_options)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sandbox)
        store = Store(database or tables.sqlite(tmp_path / "portcullis.db"))
        stack.push_async_callback(store.close)
        clock = FakeClock()
        current = [chosen]
        roster = Roster(clock)
        stack.push_async_callback(roster.close)
        service = Service(store, lambda: current[0], clock, SystemChance(), bus or InProcessBus(), roster)
        pace = None if sandbox_options.get("rate_limits", True) else Pace(sleep=lambda _: asyncio.sleep(0))
        recordings = tmp_path / "recordings"
        shelf = Shelf(recordings)
        bot = create_bot(service, settings_for(sandbox, mode), pace=pace, recordings=shelf)
        await bot.start()
        stack.push_async_callback(bot.stop)
        if mode == "http":
            sandbox.request_url = await stack.enter_async_context(serving(bot))
        else:
            assert bot.sockets is not None
            while bot.sockets.connected < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield World(sandbox, store, clock, service, bot, chosen, current, recordings)


def settings_for(sandbox: Sandbox, mode: str) -> Settings:
    app = sandbox.workspace.app
    http, sockets = {"slack_signing_secret": app.signing_secret}, {"slack_app_token": app.app_token}
    return Settings(
        slack_bot_token=app.bot_token,
        slack_api_url=sandbox.api_url,
        public_url="https://portcullis.example.com",
        **(http if mode == "http" else sockets),
    )


@asynccontextmanager
async def serving(bot: Bot) -> AsyncIterator[str]:
    """Serve the bot's HTTP endpoint on a free port; its URL."""
    async with served(bot.asgi) as url:
        yield f"{url}{EVENTS_PATH}"
