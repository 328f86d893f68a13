"""Cards stay equal to the database: with Slack away, answers lost, messages deleted, channels gone."""

from __future__ import annotations

import asyncio
import json

from bot.ledger import Place
from bot.sandbox import text_of
from broker.bus import OUTBOX
from broker.store import sessions
from broker.store.sessions import SessionRecord
from workflows.access import Wish
from workflows.gate import Closing


async def test_after_slack_was_away_every_card_is_there_once_in_order_and_true(http_world) -> None:
    world = http_world
    world.sandbox.faults.go_away()
    first = await world.service.submit("ada", Wish("prod-db", reason="first"), via="cli")
    await world.service.submit("mallory", Wish("prod-db", reason="second"), via="cli")
    await world.service.approve(first.request.id, "grace", via="cli")
    await world.service.expire_due()
    for _ in range(3):
        world.clock.advance(minutes=30)
        await world.service.bus.publish(OUTBOX, "")
    world.sandbox.faults.come_back()
    world.clock.advance(minutes=2)
    await world.service.bus.publish(OUTBOX, "")
    await world.at_rest()
    cards = [m for m in world.grace.messages("#dba") if not m.ephemeral_for]
    assert [("first" in text_of(m), "second" in text_of(m)) for m in cards] == [(True, False), (False, True)]
    assert "opening the gate" in text_of(cards[0])
    assert "asks for" in text_of(cards[1])
    replies = [m for m in world.grace.messages("#dba", thread=cards[0]) if m.ts != cards[0].ts]
    assert len(replies) == 1, "a long absence is one reply"


async def test_a_new_request_is_not_behind_the_updates_of_a_rush(worlds, monkeypatch) -> None:
    """All that usually works waits for Slack's leave to change cards; what is new is posted all the same."""
    leave = asyncio.Event()
    async with worlds(rate_limits=False) as world:
        for number in range(5):
            await world.ask(f"request prod-db 1h because INC-{number}")
        await world.at_rest()
        monkeypatch.setattr(world.bot.courier._places._pace, "update", leave.wait)
        for story in await world.stories():
            await world.service.approve(story.request.id, "grace", via="cli")
        await world.ask("request prod-db 1h because INC-NEW", who="mallory")
        cards = [m for m in world.grace.messages("#dba") if not m.ephemeral_for]
        assert len(cards) == 6
        assert not any("opening the gate" in text_of(card) for card in cards)
        leave.set()
        await world.at_rest()
        assert sum("opening the gate" in text_of(world.grace.now(card)) for card in cards) == 5


async def test_a_state_that_is_past_while_it_waits_for_slacks_leave_is_not_shown(worlds, monkeypatch) -> None:
    """In a rush one update stands for several: opening and open come as one."""
    leave = asyncio.Event()
    async with worlds(rate_limits=False) as world:
        card = await world.ask()
        await world.at_rest()
        before = len(world.sandbox.calls("chat.update"))
        monkeypatch.setattr(world.bot.courier._places._pace, "update", leave.wait)
        await world.service.approve((await world.story()).request.id, "grace", via="cli")
        await world.gate_holds()
        leave.set()
        await world.grace.sees_change(card, "🟢")
        await world.at_rest()
        shown = [str(call) for call in world.sandbox.calls("chat.update")[before:]]
        assert len(shown) == 2, "one in the channel, one in the direct messages"
        assert not any("opening the gate" in call for call in shown)


async def test_nobody_keeps_a_card_from_being_true_by_changing_it(worlds, monkeypatch) -> None:
    """However often a request changes while there is a wait, its card comes no further behind than some."""
    async with worlds(rate_limits=False) as world:
        card = await world.ask()
        await world.at_rest()
        request, said = (await world.story()).request.id, 0

        async def always_late() -> bool:
            nonlocal said
            said += 1
            if said < 60:
                await world.service.comment(request, "ada", f"please {said}", via="cli")
            return True

        monkeypatch.setattr(world.bot.courier._places._pace, "update", always_late)
        await world.service.claim(request, "grace", via="cli")
        await world.grace.sees_change(card, "is looking")
        assert said < 60, "it did not wait for the end of it"
        await world.at_rest()


async def test_a_post_whose_answer_was_lost_is_found_again_and_not_posted_twice(http_world) -> None:
    world = http_world
    world.sandbox.faults.lose_reply("chat.postMessage", times=2)
    await world.ada.commands("/access request prod-db 1h because INC-142")
    await world.ada.sees("asked Database", ephemeral=True)
    await world.at_rest()
    (card,) = [m for m in world.grace.messages("#dba") if not m.ephemeral_for]
    await world.grace.clicks(card, "approve")
    await world.grace.sees_change(card, "opening the gate")
    await world.at_rest()
    assert len([m for m in world.ada.dms() if not m.thread_ts]) == 1


async def test_a_reply_whose_answer_was_lost_is_not_posted_twice(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.at_rest()
    world.sandbox.faults.lose_reply("chat.postMessage")
    await world.grace.clicks(card, "approve")
    await world.grace.sees_change(card, "opening the gate")
    await world.at_rest()
    replies = [m for m in world.grace.messages("#dba", thread=card) if "said yes" in text_of(m)]
    assert len(replies) == 1


async def test_a_deleted_card_is_posted_anew_at_the_next_transition(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.at_rest()
    world.sandbox.admin.deletes(card)
    story = await world.story()
    await world.service.approve(story.request.id, "grace", via="cli")
    again = await world.grace.sees("opening the gate", channel="#dba")
    assert again.ts != card.ts


async def test_a_deleted_card_is_missed_by_the_sweep_and_posted_anew(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.at_rest()
    world.sandbox.admin.deletes(card)
    assert await world.bot.courier.sweep() == 1
    await world.at_rest()
    (again,) = [m for m in world.grace.messages("#dba") if not m.ephemeral_for]
    assert again.ts != card.ts
    assert await world.bot.courier.sweep() == 0


async def test_a_card_that_shows_an_old_version_is_mended_by_the_sweep(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.at_rest()
    story = await world.story()
    await world.bot.desk.ledger.put(story.request.id, {"card:0": Place(card.channel, card.ts, 0)})
    assert await world.bot.courier.sweep() == 1
    await world.at_rest()
    assert (await world.bot.desk.ledger.of(story.request.id))["card:0"].version == story.version


async def test_an_archived_channel_sends_the_card_to_each_approver_and_it_is_written_down(
    http_world,
) -> None:
    world = http_world
    world.sandbox.admin.archives("#dba")
    await world.ada.commands("/access request prod-db 1h because INC-142")
    card = await world.grace.sees("asks for", channel="@portcullis")
    await world.linus.sees("asks for", channel="@portcullis")
    await world.at_rest()
    (entry,) = [e for e in await world.trail() if e.kind == "channel_unusable"]
    assert json.loads(entry.body)["problem"] == "is_archived"
    await world.grace.clicks(card, "approve")
    await world.grace.sees_change(card, "opening the gate")
    assert (await world.story()).grant is not None


async def test_a_channel_that_the_bot_was_removed_from_sends_the_card_to_each_approver(http_world) -> None:
    http_world.sandbox.admin.removes_app("#dba")
    await http_world.ada.commands("/access request prod-db 1h because INC-142")
    await http_world.grace.sees("asks for", channel="@portcullis")


async def test_nothing_is_posted_into_a_channel_shared_with_outsiders(http_world) -> None:
    world = http_world
    world.sandbox.admin.shares_outside("#dba")
    await world.ada.commands("/access request prod-db 1h because INC-142")
    await world.grace.sees("asks for", channel="@portcullis")
    assert not [m for m in world.grace.messages("#dba") if not m.ephemeral_for]


async def test_a_requester_who_cannot_be_written_to_keeps_no_approver_waiting(http_world) -> None:
    world = http_world
    world.sandbox.faults.error("conversations.open", "fatal_error", times=3)
    await world.ask()


async def test_a_group_without_a_channel_reaches_its_members(worlds, configured) -> None:
    async with worlds(config=configured(channel="")) as world:
        await world.ada.commands("/access request prod-db 1h because INC-142")
        await world.linus.sees("asks for", channel="@portcullis")


async def test_rate_limits_delay_cards_and_lose_none(http_world) -> None:
    world = http_world
    world.sandbox.faults.rate_limit("chat.postMessage", times=2, retry_after=1)
    card = await world.ask()
    assert "INC-142" in text_of(card)


async def test_a_no_approval_rule_shows_nothing_before_the_gate_holds(http_world) -> None:
    world = http_world
    await world.olive.commands("/access request vault-db 30m because drill")
    told = await world.olive.sees("no approval is needed", ephemeral=True)
    assert "when the gate is open" in text_of(told)
    await world.olive.sees("opening the gate", channel="@portcullis")
    await world.gate_holds("olive")
    await world.olive.sees("access psql vault-db", channel="@portcullis")


async def test_the_card_tells_at_the_end_what_was_done_when_it_is_counted(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.grace.clicks(card, "approve")
    await world.gate_holds()
    await world.grace.sees_change(card, "until")
    story = await world.story()
    now = world.clock.now()
    record = SessionRecord(
        "S-1",
        story.request.id,
        story.grant.id,
        "ada",
        "prod-db",
        "readonly",
        "gate-1",
        "postgres",
        "",
        now,
        now,
    )
    async with world.store.write() as tx:
        await sessions.add(tx, record)
    await world.passes(hours=1)
    await world.grace.sees_change(card, "still counting")
    async with world.store.write() as tx:
        await sessions.close(tx, Closing("S-1", "cut", "", 0, "", 14, 1, 1200), world.clock.now())
    await world.at_rest()
    assert "1 session, 14 statements, 1,200 rows, 1 refused." in text_of(world.grace.now(card))


async def test_text_of_people_cannot_mention_link_or_break_out(http_world) -> None:
    world = http_world
    card = await world.ask("request prod-db 1h because <!channel> <https://evil.test|fix> & `code` *bold*")
    quote = next(block for block in card.blocks if block["type"] == "rich_text")
    typed = "<!channel> <https://evil.test|fix> & `code` *bold*"
    assert quote["elements"][0]["elements"] == [{"type": "text", "text": typed}], "shown as it was typed"
    marked_up = [block for block in card.blocks if block["type"] != "rich_text"]
    assert "<!channel" not in json.dumps(marked_up)
    assert "<!channel" not in card.text


async def test_a_group_that_nobody_can_be_reached_of_fails_closed_and_tells_the_requester(
    worlds, configured
) -> None:
    async with worlds(config=configured(channel="")) as world:
        for who in ("grace", "linus", "guest", "robot", "stranger", "gone"):
            world.regroup(who)
        await world.ada.commands("/access request prod-db 1h because INC-142")
        await world.ada.sees("Nobody of Database approvers could be told", channel="@portcullis")
        assert (await world.story()).grant is None


async def test_two_couriers_share_the_work_and_post_each_card_once(worlds) -> None:
    async with worlds(rate_limits=False) as world, world.another_bot():
        for number in range(12):
            await world.service.submit("ada", Wish("prod-db", reason=f"INC-{number}"), via="cli")
        await world.at_rest()
        for story in await world.stories():
            await world.service.approve(story.request.id, "grace", via="cli")
        await world.at_rest()
        cards = [m for m in world.grace.messages("#dba") if not m.ephemeral_for]
        assert len(cards) == 12
        assert all("opening the gate" in text_of(card) for card in cards)
