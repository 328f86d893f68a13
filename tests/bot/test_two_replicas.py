"""Two replicas on one PostgreSQL and one Redis: everybody presses everything, deliveries come doubled, Slack
goes away, replicas are killed. At rest one grant a request, a fair quorum, true cards, all in the trail; and
what was held ran once at most.
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
from bot.faces import faces_of, faces_of_review
from bot.review_cards import review_card
from bot.sandbox import Message, NotPossible, View
from bot.sandbox.values import elements, options_of
from bot.shown import Card
from bot.slack import Pace
from bot.story_courier import AGAIN
from broker.bus import OUTBOX
from broker.bus.redis import RedisBus
from broker.clock import SystemChance
from broker.codec import fold
from broker.oncall.roster import Roster
from broker.outbox import CARD, Outbox, Work, put
from broker.service import Service
from broker.store import sessions
from broker.store.engine import Store
from broker.store.tables import outbox
from broker.trail import verify_store
from tests.bot.test_reviews import DIGEST, hold_statement
from tests.bot.world import World, make_world, sample_config, serving, settings_for, urgent_config
from workflows.access import Wish
from workflows.gate import Closing, RunPass
from workflows.model import GrantState, Quorum, RequestState, ReviewState, StatementReview, Story
from workflows.quorum import missing

ENDING = ("release", "kill", "revoke", "deny", "cancel", "emergency", "extension_deny", "review_deny")
"""What ends a story, or leads to its end: pressed seldom, so that there is something to end."""
BUTTONS = (
    "approve", "less", "ask", "claim", "nudge", "answer", "extend_short", "extend_long", "extension_approve",
    "review", "review_approve", "review_budget", *ENDING,
)  # fmt: skip
APPROVERS = ("grace", "linus", "olive")
GLASS = Wish("prod-db", reason="the checkout is down")
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
        self.blind = self.chance.sample(BUTTONS, len(BUTTONS))
        self.ran = Counter[str]()
        """How often the gate was let run each held statement."""

    async def start_one(self) -> None:
        made = replica(self.world, self.database, self.redis)
        self.replicas.append(await self.stack.enter_async_context(made))

    async def presses(self, people: Sequence[str], steps: int) -> None:
        """Some of the people press buttons at either replica: mostly such as are meant for them, with what
        these carry; some that are not there, or are stale.
        """
        for step in range(steps):
            name = self.chance.choice(people)
            who = self._at_either(name)
            cards = _story_cards(who)
            own = [m for m in cards if name in APPROVERS or m.channel.startswith("D")]
            there = [(card, b) for card in own for _, b in elements(card.blocks) if self._is_pressed(b)]
            if step % 4 == 0 and self.blind and cards:
                await self._press_blindly(who, self.chance.choice(cards))
            elif there:
                card, pressed = self.chance.choice(there)
                await self._press(who, card, pressed["action_id"], pressed["value"])
            await asyncio.sleep(0.02)

    async def presses_the_rest(self) -> None:
        """So that every button was pressed by somebody, whatever they saw."""
        while self.blind:
            who = self._at_either(self.chance.choice(("ada", *APPROVERS)))
            cards = _story_cards(who)
            await self._press_blindly(who, self.chance.choice(cards))

    def _at_either(self, name: str) -> Any:
        self.world.sandbox.request_url = self.chance.choice(self.replicas).url
        return self.world.sandbox.as_user(name)

    async def _press_blindly(self, who: Any, card: Message) -> None:
        await self._press(who, card, self.blind.pop(), self._guess(card))

    def _is_pressed(self, element: Any) -> bool:
        if element["type"] != "button" or "value" not in element or element["action_id"] == "mended":
            return False
        return element["action_id"] not in ENDING or self.chance.random() < 0.15

    def _guess(self, card: Message) -> str:
        """A version of the card's story that is as good as any, or that was."""
        about = card.metadata["event_payload"]
        return f"{about['request']}:{self.chance.randint(1, max(1, about['version'] % 50))}"

    async def _press(self, who: Any, card: Message, action: str, value: str) -> None:
        if action.startswith("extend_") and value.count(":") == 1:
            value += ":900"
        if self.chance.random() < 0.2:
            self.world.sandbox.faults.duplicate("block_actions", copies=2)
        try:
            await who.clicks(card, action, force=True, value=value)
            await asyncio.sleep(0.01)
            if who.modal is not None and "submit" in who.modal.payload:
                await who.submits(self._filled(who.modal), force=True)
        except (NotPossible, KeyError):
            pass
        while who.modal is not None:
            await who.closes(everything=True)

    def _filled(self, modal: View) -> dict[str, Any]:
        """Something for every field of a form."""
        values: dict[str, Any] = {}
        for _, field in elements(modal.payload["blocks"]):
            if offered := options_of(field):
                values[field["action_id"]] = self.chance.choice(offered)["value"]
            elif field["type"] == "plain_text_input":
                values[field["action_id"]] = "INC-7 because of a dice"
            elif field["type"] == "number_input":
                values[field["action_id"]] = "5"
        return values

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
            await self._gate_runs()
            await asyncio.sleep(0.05)

    async def _time_passes(self) -> None:
        """Never under a claim that is held: the living prolong their claims, which a leap would defeat."""
        await self.world.until(self._nothing_held, 20)
        await self.world.passes(minutes=self.chance.choice((1, 3, 6, 20)))
        await self.held.close_over()

    async def _nothing_held(self) -> bool:
        return not any(one.box.held or one.box.claiming for one in self.replicas)

    async def _gate_holds(self) -> None:
        for story in await self.stories():
            if story.grant is not None and story.grant.state is GrantState.MINTING:
                await self.world.login_ready(story)
                await self.world.service.confirm_hold(story.grant.id, "gate-1")

    async def _gate_runs(self) -> None:
        """The gate asks for the pass of every held statement, twice at once, as after a lost answer."""
        for review in await self.reviews():
            asked = [self.held.take_run("g1", review.id, "S-1", DIGEST) for _ in range(2)]
            passes = await asyncio.gather(*asked)
            self.ran[review.id] += sum(isinstance(one, RunPass) for one in passes)

    async def reviews(self) -> list[StatementReview]:
        found = await self.held.find(self.review)
        assert found is not None
        return [found]

    async def holds(self) -> None:
        """Ada's first request is granted, she is in, and what she sends is held."""
        asked = [story for story in await self.world.stories("ada") if story.request.emergency is None]
        first = asked[0].request.id
        for approver in ("grace", "olive"):
            await self.world.service.approve(first, approver, via="cli")
        await self._gate_holds()
        self.held, self.review = await hold_statement(self.world, first, (Quorum("dba"), Quorum("security")))

    async def sitting_ends(self) -> None:
        """Until then it is counted again and again what is done in it."""
        stories = await self.stories()
        async with self.world.store.write() as tx:
            closing = Closing("S-1", "client", "", 1, "x", statements=1, rows=3, refused=0)
            await sessions.close(tx, closing, self.world.clock.now())
            for story in stories:  # a recount that was overtaken meanwhile is not asked for again
                await put(tx, CARD, story.request.id, self.world.clock.now(), AGAIN)

    async def stories(self) -> list[Story]:
        return [*await self.world.stories("ada"), *await self.world.stories("mallory")]

    async def at_rest(self) -> None:
        """Until the courier has nothing left to do but to look at emergencies again."""
        to_show = outbox.c.kind.in_(["card", "notify", "review"]) & outbox.c.done_at.is_(None)
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
        for review in await self.reviews():
            yes = [approval.approver for approval in review.approvals if approval.yes]
            assert len(yes) == len(set(yes))
            assert "ada" not in yes
            if review.state in (ReviewState.APPROVED, ReviewState.RUNNING):
                assert missing(review, everyone) == ()
            assert self.ran[review.id] <= 1, "what is approved runs once"
            await self._is_shown_as(review)
        assert self.blind == []
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

    async def _is_shown_as(self, review: StatementReview) -> None:
        faces = await faces_of_review(self.world.service, review, PUBLIC)
        standing = self._messages_of(review.id)
        assert sorted(name for name, _ in standing) == ["card:0", "card:1"]
        for name, shown in standing:
            wanted = review_card(review, faces, review.quorum[int(name[-1])].group, name)
            assert shown.metadata["event_payload"]["version"] == review.version
            assert without_ids(shown.blocks) == without_ids(wanted.blocks), name

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


def _story_cards(who: Any) -> list[Message]:
    """The cards of requests that this person sees."""
    return [m for m in who.everything() if m.metadata and "request" in m.metadata["event_payload"]]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_two_replicas_go_through_all_is_true_at_rest(
    tmp_path: Path, our_database: Any, redis_url: str, seed: int
) -> None:
    extra = (Quorum("security", 1),)
    config = urgent_config(extra=extra) if seed % 2 else sample_config(extra=extra)
    bus = RedisBus(redis_url)
    await bus.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.close)
        url = our_database.url()
        world = await stack.enter_async_context(
            make_world(tmp_path, config=config, database=url, bus=bus, rate_limits=False)
        )
        await world.bot.stop()
        storm = Storm(world, stack, url, redis_url, seed)
        await storm.start_one()
        await storm.start_one()
        for who in ("ada", "ada", "mallory"):
            await world.service.submit(who, Wish("prod-db", reason="INC-142"), via="cli")
        if seed % 2:
            await world.service.break_glass("ada", GLASS, "INC-142", via="cli")
        await storm.holds()
        await storm.at_rest()
        await asyncio.gather(
            storm.presses(("ada", "grace"), 30),
            storm.presses(("linus", "mallory"), 30),
            storm.presses(("olive", "ada"), 30),
            storm.disturbs(14),
        )
        await storm.presses_the_rest()
        world.sandbox.faults.clear()
        await world.sandbox.settled()
        await storm._gate_holds()
        await storm.sitting_ends()
        await storm.at_rest()
        await storm.replicas[0].bot.courier.sweep()
        await storm.at_rest()
        await storm.is_true()
