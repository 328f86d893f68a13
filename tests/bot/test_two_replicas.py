"""Two replicas on one PostgreSQL and one Redis: everybody presses everything, deliveries come doubled, Slack
goes away, replicas are killed. At rest one grant a request, a fair quorum, true cards, all in the trail.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from bot.app import Bot, create_bot
from bot.cards import approver_card, ending_card, requester_card
from bot.faces import faces_of
from bot.sandbox import Message, NotPossible
from bot.shown import Card
from bot.slack import Pace
from broker.bus import OUTBOX
from broker.bus.redis import RedisBus
from broker.clock import SystemChance
from broker.codec import fold
from broker.oncall.roster import Roster
from broker.outbox import Outbox, Work
from broker.service import Service
from broker.store.engine import Store
from broker.store.tables import outbox
from broker.trail import verify_store
from tests.bot.world import World, make_world, sample_config, serving, settings_for, urgent_config
from workflows.access import Wish
from workflows.model import GrantState, Quorum, RequestState, Story
from workflows.quorum import missing

ACTIONS = {
    "approve": 10, "less": 2, "claim": 3, "nudge": 2, "extend_short": 4, "extend_long": 2, "ask": 2,
    "extension_approve": 5, "extension_deny": 1, "release": 0.3, "kill": 0.3, "revoke": 0.3, "deny": 0.4,
    "cancel": 0.3, "review": 1, "emergency": 0.5, "answer": 1,
}  # fmt: skip
"""How often each is pressed; what ends a story is rare, so that there is something to end."""
PUBLIC = "https://portcullis.example.com"


class HeldOutbox(Outbox):
    """Knows which claims this replica holds, so that a test can kill it with them in its hands."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.held: set[str] = set()
        self.claiming = 0
        self.killed = False

    async def claim(self, *kinds: str, **options: Any) -> Work | None:
        self.claiming += 1
        try:
            work = await super().claim(*kinds, **options)
            if work is not None:
                self.held.add(work.claim)
            return work
        finally:
            self.claiming -= 1

    async def finish(self, work: Work) -> bool:
        if self.killed:
            await asyncio.Event().wait()
        done = await super().finish(work)
        self.held.discard(work.claim)
        return done

    async def retry(self, work: Work, *of: Any) -> None:
        if not self.killed:
            await super().retry(work, *of)
            self.held.discard(work.claim)


@dataclass
class Replica:
    bot: Bot
    box: HeldOutbox
    url: str

    async def is_killed(self, world: World) -> None:
        """The process is gone in the middle of what it does; its claims run out some time after, when what it
        had sent has long arrived.
        """
        self.box.killed = True
        await self.bot.stop()
        await asyncio.sleep(1)
        async with world.store.write() as tx:
            lost = outbox.c.claim.in_(self.box.held)
            await tx.execute(update(outbox).where(lost).values(claimed_until=world.clock.now()))
        self.box.held.clear()


@asynccontextmanager
async def replica(world: World, database: str, redis: str) -> AsyncIterator[Replica]:
    async with AsyncExitStack() as stack:
        store = Store(database)
        stack.push_async_callback(store.close)
        bus = RedisBus(redis)
        await bus.start()
        stack.push_async_callback(bus.close)
        roster = Roster(world.clock)
        stack.push_async_callback(roster.close)
        chance = SystemChance()
        service = Service(store, lambda: world.current[0], world.clock, chance, bus, roster)
        box = HeldOutbox(store, world.clock, chance)
        pace = Pace(sleep=lambda _: asyncio.sleep(0))
        bot = create_bot(service, settings_for(world.sandbox, "http"), outbox=box, pace=pace)
        await bot.start()
        stack.push_async_callback(bot.stop)
        url = await stack.enter_async_context(serving(bot))
        yield Replica(bot, box, url)


class Storm:
    """What happens to the two of them, and the check of what is left."""

    def __init__(self, world: World, stack: AsyncExitStack, database: str, redis: str, seed: int) -> None:
        self.world, self.stack, self.database, self.redis = world, stack, database, redis
        self.chance = random.Random(seed)
        self.replicas: list[Replica] = []

    async def start_one(self) -> None:
        made = replica(self.world, self.database, self.redis)
        self.replicas.append(await self.stack.enter_async_context(made))

    async def presses(self, people: Sequence[str], steps: int) -> None:
        """Some of the people press random buttons, as good or as stale as they are, at either replica."""
        for _ in range(steps):
            self.world.sandbox.request_url = self.chance.choice(self.replicas).url
            who = self.world.sandbox.as_user(self.chance.choice(people))
            cards = [m for m in who.everything() if m.metadata and not m.thread_ts]
            if cards:
                await self._press(who, self.chance.choice(cards))
            await asyncio.sleep(0)

    async def _press(self, who: Any, card: Message) -> None:
        request, version = (
            card.metadata["event_payload"]["request"],
            card.metadata["event_payload"]["version"],
        )
        (action,) = self.chance.choices(list(ACTIONS), list(ACTIONS.values()))
        value = f"{request}:{self.chance.randint(1, version)}"
        value += ":900" if action.startswith("extend_") else ""
        if self.chance.random() < 0.2:
            self.world.sandbox.faults.duplicate("block_actions", copies=2)
        try:
            await who.clicks(card, action, force=True, value=value)
            await asyncio.sleep(0.01)
            if who.modal is not None and "submit" in who.modal.payload:
                await who.submits({"reason": "INC-7 because of a dice"}, force=True)
        except (NotPossible, KeyError):
            pass
        while who.modal is not None:
            await who.closes(everything=True)

    async def disturbs(self, steps: int) -> None:
        faults = self.world.sandbox.faults
        for _ in range(steps):
            match self.chance.randint(0, 7):
                case 0:
                    faults.lose_reply("chat.postMessage")
                case 1:
                    faults.lose_reply("chat.update")
                case 2:
                    faults.fail("chat.update", times=2)
                case 3:
                    faults.lose_ack()
                case 4:
                    faults.go_away()
                    await asyncio.sleep(0.1)
                    faults.come_back()
                case 5:
                    index = self.chance.randrange(len(self.replicas))
                    await self.replicas.pop(index).is_killed(self.world)
                    await self.start_one()
                case _:
                    await self._time_passes()
            await self._gate_holds()
            await asyncio.sleep(0.05)

    async def _time_passes(self) -> None:
        """Never under a claim that is held: the living prolong their claims, which a leap would defeat."""
        await self.world.until(self._nothing_held, 20)
        await self.world.passes(minutes=self.chance.choice((1, 6, 20, 40)))

    async def _nothing_held(self) -> bool:
        return not any(one.box.held or one.box.claiming for one in self.replicas)

    async def _gate_holds(self) -> None:
        for story in await self.stories():
            if story.grant is not None and story.grant.state is GrantState.MINTING:
                await self.world.login_ready(story)
                await self.world.service.confirm_hold(story.grant.id, "gate-1")

    async def stories(self) -> list[Story]:
        return [*await self.world.stories("ada"), *await self.world.stories("mallory")]

    async def at_rest(self) -> None:
        """Until the courier has nothing left to do but to look at emergencies again."""
        to_show = outbox.c.kind.in_(["card", "notify"]) & outbox.c.done_at.is_(None)
        open_ = select(outbox.c.available_at).where(to_show)

        async def idle() -> bool:
            async with self.world.store.read() as tx:
                due = list((await tx.execute(open_)).scalars())
            if due and await self._nothing_held():
                self.world.clock.at = max(self.world.clock.at, *due)
                await self.world.service.bus.publish(OUTBOX, "")
            return not due

        try:
            await self.world.until(idle, 40)
        except TimeoutError:
            async with self.world.store.read() as tx:
                left = (await tx.execute(select(outbox).where(to_show))).all()
            held = [sorted(one.box.held) for one in self.replicas]
            raise AssertionError(f"not at rest at {self.world.clock.at}: {left}, held {held}") from None

    # --------------------------------------------------------------- the check

    async def is_true(self) -> None:
        everyone = self.world.config.directory.everyone()
        entries = list(reversed(await self.world.trail()))
        for story in await self.stories():
            request = story.request
            yes = [approval.approver for approval in request.approvals if approval.yes]
            assert len(yes) == len(set(yes)), "one person, one yes"
            assert request.requester not in yes
            if request.state is RequestState.APPROVED and request.emergency is None:
                assert missing(request, everyone) == (), "every seat is filled by a distinct eligible person"
            mine = [entry for entry in entries if entry.subject == request.id]
            kinds = Counter(entry.kind for entry in mine)
            assert kinds["request.approved"] + kinds["glass.broken"] == (story.grant is not None)
            assert fold([(entry.kind, entry.body) for entry in mine]) == story, "the trail tells the story"
            await self._is_shown(story)
        assert (await verify_store(self.world.store, {})).good

    async def _is_shown(self, story: Story) -> None:
        """Each card stands once, and shows what the story shows now."""
        ledger = self.replicas[0].bot.desk.ledger
        places = await ledger.of(story.request.id)
        standing = self._messages_of(story.request.id)
        twice = [name for name, count in Counter(name for name, _ in standing).items() if count > 1]
        assert twice == [], "nothing is posted twice"
        faces = await faces_of(self.world.service, story, PUBLIC)
        cards = [kind for kind in places if kind.startswith(("card:", "ending:")) or kind == "own"]
        assert "own" in cards
        for kind in cards:
            shown = next(message for name, message in standing if name == kind)
            wanted = self._card(story, faces, kind)
            assert shown.metadata["event_payload"]["version"] == story.version, kind
            assert without_ids(shown.blocks) == without_ids(wanted.blocks), kind

    def _messages_of(self, request_id: str) -> list[tuple[str, Message]]:
        found = []
        for message in self._messages():
            payload = (message.metadata or {}).get("event_payload") or {}
            if payload.get("request") == request_id:
                found.append((str(payload["place"]), message))
        return found

    def _messages(self) -> list[Message]:
        return [m for channel in self.world.sandbox.state.messages.values() for m in channel.values()]

    def _card(self, story: Story, faces: Any, kind: str) -> Card:
        if kind == "own":
            return requester_card(story, faces, kind)
        if kind.startswith("ending:"):
            return ending_card(story, faces, kind)
        number = kind.split(":")[1]
        groups = [quorum.group for quorum in story.request.quorum]
        group = groups[int(number)] if number.isdigit() else groups[0]
        return approver_card(story, faces, group, kind)


def without_ids(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slack gives a block an id where the app gave none."""
    return [{key: value for key, value in block.items() if key != "block_id"} for block in blocks]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_two_replicas_go_through_all_is_true_at_rest(
    tmp_path: Path, empty_database: Any, redis_url: str, seed: int
) -> None:
    extra = (Quorum("security", 1),)
    config = urgent_config(extra=extra) if seed % 2 else sample_config(extra=extra)
    bus = RedisBus(redis_url)
    await bus.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.close)
        url = empty_database.url()
        world = await stack.enter_async_context(
            make_world(tmp_path, config=config, database=url, bus=bus, rate_limits=False)
        )
        await world.bot.stop()
        storm = Storm(world, stack, url, redis_url, seed)
        await storm.start_one()
        await storm.start_one()
        for who in ("ada", "ada", "mallory"):
            await world.service.submit(who, Wish("prod-db", reason="INC-142"), via="cli")
        await storm.at_rest()
        await asyncio.gather(
            storm.presses(("ada", "grace"), 25),
            storm.presses(("linus", "mallory"), 25),
            storm.presses(("olive",), 20),
            storm.disturbs(14),
        )
        world.sandbox.faults.clear()
        await world.sandbox.settled()
        await storm._gate_holds()
        await storm.at_rest()
        await storm.replicas[0].bot.courier.sweep()
        await storm.at_rest()
        await storm.is_true()
