"""A rush in Slack: requests typed at a steady pace, approvers pressing buttons meanwhile, all in the sandbox.

The gate holds what is granted, so each card goes from waiting over opening to open. The sandbox enforces
Slack's rate limits, on a clock that runs `speed` times as fast as the real one, and the bot keeps its pace by
the same clock; what is typed and pressed, and how soon it is acknowledged, is in real time. The floor is the
least time in which these limits let every message be posted, and every card that was posted with an older
state be updated once. It is of use only where `speed` leaves the limits slower than the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import func, select

from bot.app import EVENTS_PATH, Bot, create_bot
from bot.sandbox import App, Message, Person, Room, Sandbox, Workspace, create_sandbox
from bot.sandbox.limits import CHANNEL_BURST, CHANNEL_PER_SECOND, TIER_PER_MINUTE, WORKSPACE_POSTS_PER_MINUTE
from bot.sandbox.serving import serving
from bot.slack import Pace
from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance, SystemClock
from broker.codec import decode, fold
from broker.config import Config, SlackSettings
from broker.identity.directory import Person as Known
from broker.identity.directory import StaticDirectory
from broker.service import Service
from broker.settings import Settings
from broker.store import credentials, stories
from broker.store.credentials import SealedLogin
from broker.store.engine import Store
from broker.store.tables import audit, outbox
from broker.store.tables import stories as table
from workflows.model import Grant, GrantState, Group, Principal, Quorum, RequestState, Resource, Role, Story
from workflows.policy import Policy, Rule

MANIFEST = Path(__file__).parents[1] / "app-manifest.yaml"
TEAM = "T0BENCH01"
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Shape:
    """How big the rush is. `seconds` of real time for all `requests`; the approvers share `channels`."""

    requests: int = 500
    seconds: float = 60.0
    requesters: int = 50
    approvers: int = 20
    channels: int = 5
    speed: float = 3.0
    seed: int = 1


@dataclass
class Rush:
    """What came of it. Acknowledgements in seconds; `lost`, `doubled` and `untrue` count messages."""

    shape: Shape
    acks: list[float] = field(default_factory=list)
    unacknowledged: int = 0
    granted: int = 0
    presses: int = 0
    lost: int = 0
    doubled: int = 0
    untrue: int = 0
    untold: int = 0
    """Stories that the trail tells otherwise than the database."""
    posts: int = 0
    updates: int = 0
    needed: int = 0
    """Cards that were posted with an older state than their last: each takes one update at least."""
    took: float = 0.0
    """Real seconds from the first request until every card was true."""
    floor: float = 0.0
    """The least real seconds for these posts and the updates needed, under the sandbox's limits."""

    @property
    def over(self) -> float:
        """How many times the floor it took; 1 where the asking alone takes longer than the floor."""
        return self.took / self.floor if self.floor > self.shape.seconds else 1.0

    def percentile(self, of: float) -> float:
        ordered = sorted(self.acks)
        return ordered[min(len(ordered) - 1, int(len(ordered) * of))]


async def measure(shape: Shape, folder: Path, database: str = "") -> Rush:
    """Run it once. `database` is a URL; a new SQLite file in `folder` where there is none."""
    rush = Rush(shape)
    async with _house(shape, folder, database) as house:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_ask_all(house, shape, rush))
            group.create_task(_gate(house, shape))
            for number in range(shape.approvers):
                group.create_task(_approve(house, shape, rush, number, asking))
        await _at_rest(house, shape)
        rush.took = time.monotonic() - began
        await _check(house, rush)
        rush.floor = _floor(house, rush)
    return rush


# ------------------------------------------------------------------- the house


@dataclass
class House:
    sandbox: Sandbox
    store: Store
    service: Service
    bot: Bot
    clock: SystemClock
    decided: set[str] = field(default_factory=set)


@asynccontextmanager
async def _house(shape: Shape, folder: Path, database: str) -> AsyncIterator[House]:
    def fast() -> float:
        return time.monotonic() * shape.speed

    async with AsyncExitStack() as stack:
        sandbox = create_sandbox(_workspace(shape), rate_clock=fast)
        await stack.enter_async_context(sandbox)
        store = Store(database or f"sqlite:///{folder / 'portcullis.db'}")
        stack.push_async_callback(store.close)
        await store.migrate()
        config = _config(shape)
        clock = SystemClock()
        service = Service(store, lambda: config, clock, SystemChance(), InProcessBus())
        app = sandbox.workspace.app
        settings = Settings(
            slack_bot_token=app.bot_token,
            slack_api_url=sandbox.api_url,
            slack_signing_secret=app.signing_secret,
        )
        pace = Pace(fast, lambda seconds: asyncio.sleep(seconds / shape.speed))
        bot = create_bot(service, settings, pace=pace)
        await bot.start()
        stack.push_async_callback(bot.stop)
        sandbox.request_url = await stack.enter_async_context(_serving(bot))
        yield House(sandbox, store, service, bot, clock)


@asynccontextmanager
async def _serving(bot: Bot) -> AsyncIterator[str]:
    async with serving(bot.asgi) as url:
        yield f"{url}{EVENTS_PATH}"


def _names(shape: Shape) -> tuple[list[str], list[str]]:
    return [f"asker{n}" for n in range(shape.requesters)], [f"decider{n}" for n in range(shape.approvers)]


def _workspace(shape: Shape) -> Workspace:
    askers, deciders = _names(shape)
    people = tuple(
        Person(name, name, f"{name}@example.com", id=f"U0{name.upper()}") for name in [*askers, *deciders]
    )
    everybody = (*askers, *deciders)
    rooms = [Room("general", members=everybody, id="C0GENERAL")]
    rooms += [Room(f"team{n}", members=tuple(deciders), id=f"C0TEAM{n}") for n in range(shape.channels)]
    app = App(manifest=yaml.safe_load(MANIFEST.read_text()))
    return Workspace(people=people, channels=tuple(rooms), app=app, team_id=TEAM)


def _config(shape: Shape) -> Config:
    askers, deciders = _names(shape)
    role = Role("readonly", ("r",))
    resources = {f"db-{n}": Resource(f"db-{n}", "postgres", "", (), (role,)) for n in range(shape.channels)}
    rules = tuple(
        Rule(
            f"read-{n}", frozenset({"askers"}), frozenset({f"db-{n}"}), ("readonly",), HOUR, HOUR,
            (Quorum(f"team{n}"),), 8 * HOUR,
        )
        for n in range(shape.channels)
    )  # fmt: skip
    groups = {f"team{n}": Group(f"team{n}", f"Team {n}", f"C0TEAM{n}") for n in range(shape.channels)}
    people = dict.fromkeys(askers, ("askers",))
    people |= {name: (f"team{number % shape.channels}",) for number, name in enumerate(deciders)}
    known = {
        name: Known(Principal(name, name, f"{name}@example.com", frozenset(of)), slack=f"U0{name.upper()}")
        for name, of in people.items()
    }
    policy = Policy({"askers": Group("askers"), **groups}, resources, rules)
    return Config(policy, StaticDirectory(known, TEAM), slack=SlackSettings(TEAM))


# ------------------------------------------------------------------ the people


async def _ask_all(house: House, shape: Shape, rush: Rush) -> None:
    """One request after the other at a steady pace, whether the last was answered or not."""
    began, every = time.monotonic(), shape.seconds / shape.requests
    async with asyncio.TaskGroup() as group:
        for number in range(shape.requests):
            await asyncio.sleep(max(0.0, began + number * every - time.monotonic()))
            who = house.sandbox.as_user(f"asker{number % shape.requesters}")
            line = f"/access request db-{number % shape.channels} 1h because INC-{number}"
            group.create_task(_timed(rush, who.commands(line)))


async def _approve(house: House, shape: Shape, rush: Rush, number: int, asking: asyncio.Task[None]) -> None:
    """Press Approve on what waits in one's channel until nothing is asked and nothing waits any more."""
    chance = random.Random(f"{shape.seed}/{number}")
    channel, who = f"C0TEAM{number % shape.channels}", house.sandbox.as_user(f"decider{number}")
    pressed: set[str] = set()
    while not (asking.done() and len(house.decided) >= shape.requests):
        waiting = [m for m in _cards(house.sandbox, channel) if m.ts not in pressed and _waits(m)]
        if waiting:
            card = chance.choice(waiting[:5])
            pressed.add(card.ts)
            rush.presses += 1
            await _timed(rush, who.clicks(card, "approve", force=True))
            house.decided.add(card.ts)
        await asyncio.sleep(chance.uniform(0.05, 0.3))


async def _gate(house: House, shape: Shape) -> None:
    """Make a login for every grant, as soon as there is one, and hold it."""
    opening = select(table.c.grant).where(table.c.grant_state == GrantState.MINTING)
    held = 0
    while held < shape.requests:
        async with house.store.read() as tx:
            grants = [decode(row, Grant) for row in (await tx.execute(opening)).scalars()]
        for grant in grants:
            now = house.clock.now()
            login = SealedLogin(grant.id, grant.resource, grant.id, "x", "k", now, ready_at=now)
            async with house.store.write() as tx:
                await credentials.add(tx, login)
            await house.service.confirm_hold(grant.id, "gate-1")
            held += 1
        await asyncio.sleep(0.2)


def _cards(sandbox: Sandbox, channel: str) -> list[Message]:
    there = sandbox.state.messages.get(channel, {}).values()
    return [m for m in there if m.metadata and m.thread_ts in (None, m.ts)]


def _waits(message: Message) -> bool:
    return any(block["type"] == "actions" and len(block["elements"]) > 1 for block in message.blocks or [])


async def _timed(rush: Rush, delivery: Any) -> None:
    began = time.monotonic()
    done = await delivery
    rush.acks.append(time.monotonic() - began)
    rush.unacknowledged += not done.acked


# ------------------------------------------------------------------- the check


async def _at_rest(house: House, shape: Shape) -> None:
    """Until every request was decided and the bot has nothing left to show."""
    open_ = (
        select(outbox.c.id).where(outbox.c.kind.in_(["card", "notify"]), outbox.c.done_at.is_(None)).limit(1)
    )
    decided = select(func.count()).where(table.c.request_state != RequestState.PENDING)
    while True:
        async with house.store.read() as tx:
            busy = (await tx.execute(open_)).first() is not None
            count = (await tx.execute(decided)).scalar_one()
        if count == shape.requests and not busy:
            return
        await asyncio.sleep(0.2)


async def _stories(house: House, shape: Shape) -> list[Story]:
    async with house.store.read() as tx:
        return await stories.newest(tx, limit=shape.requests + 1)


async def _check(house: House, rush: Rush) -> None:
    found = await _stories(house, rush.shape)
    messages = [m for channel in house.sandbox.state.messages.values() for m in channel.values()]
    shown: dict[tuple[str, str], list[int]] = {}
    for message in messages:
        payload = (message.metadata or {}).get("event_payload") or {}
        if "request" in payload:
            shown.setdefault((payload["request"], payload["place"]), []).append(payload["version"])
    rush.doubled = sum(len(versions) - 1 for versions in shown.values())
    for story, place in itertools.product(found, ("own", "card:0")):
        versions = shown.get((story.request.id, place), [])
        rush.lost += not versions
        rush.untrue += bool(versions) and versions[-1] != story.version
    rush.granted = sum(story.grant is not None and bool(story.grant.held_by) for story in found)
    rush.needed = _needed(house, found)
    rush.untold = await _untold(house, found)
    calls = Counter(name for name, _ in house.sandbox.web_api.calls)
    rush.posts, rush.updates = calls["chat.postMessage"], calls["chat.update"]


def _needed(house: House, found: Sequence[Story]) -> int:
    last = {story.request.id: story.version for story in found}
    posted = [call["metadata"] for call in house.sandbox.calls("chat.postMessage") if call.get("blocks")]
    about: list[dict[str, Any]] = [_read(metadata)["event_payload"] for metadata in posted]
    return sum(last.get(it["request"], 0) != it["version"] for it in about)


def _read(metadata: Any) -> dict[str, Any]:
    """An argument of a call, which a form carries as JSON."""
    return dict(json.loads(metadata) if isinstance(metadata, str) else metadata)


async def _untold(house: House, found: Sequence[Story]) -> int:
    told: dict[str, list[tuple[str, str]]] = {}
    async with house.store.read() as tx:
        query = select(audit.c.subject, audit.c.kind, audit.c.body).order_by(audit.c.seq)
        for subject, kind, body in await tx.execute(query):
            told.setdefault(subject, []).append((kind, body))
    return sum(fold(told.get(story.request.id, [])) != story for story in found)


def _floor(house: House, rush: Rush) -> float:
    """Real seconds that Slack's limits ask for: posts in the fullest channel, all posts, updates needed."""
    posts = Counter(str(call["channel"]) for call in house.sandbox.calls("chat.postMessage"))
    fullest = max(posts.values(), default=0)
    tier = TIER_PER_MINUTE[3]
    spans = (
        (fullest - CHANNEL_BURST) / CHANNEL_PER_SECOND,
        (sum(posts.values()) - WORKSPACE_POSTS_PER_MINUTE) / (WORKSPACE_POSTS_PER_MINUTE / 60),
        (rush.needed - tier) / (tier / 60),
    )
    return max(0.0, *spans) / rush.shape.speed
