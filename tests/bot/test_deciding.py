"""Deciding in Slack: less than was asked, questions and answers, “looking”, and several groups at once."""

from __future__ import annotations

from datetime import timedelta

from bot.sandbox import text_of
from tests.bot.world import sample_config
from workflows.model import Quorum, RequestState

HOUR = timedelta(hours=1)


async def test_approve_for_less_gives_a_shorter_time_and_a_narrower_role(world) -> None:
    card = await world.ask("request prod-db as readwrite 2h because INC-142")
    await world.grace.clicks(card, "less")
    modal = await world.grace.sees_modal("Approve for less")
    offered = [o["value"] for o in modal.payload["blocks"][1]["element"]["options"]]
    assert max(map(int, offered)) == 7200, "never more than was asked"
    await world.grace.submits({"less_span": "1800", "less_role": "readonly", "reason": "reading is enough"})
    card = await world.grace.sees_change(card, "opening the gate")
    story = await world.story()
    assert (story.request.role, story.request.duration) == ("readonly", HOUR / 2)
    assert story.grant.role == "readonly"
    told = await world.grace.sees("30m instead of 2h, readonly instead of readwrite", thread=card)
    assert "reading is enough" in text_of(told)


async def test_only_who_may_decide_gets_the_form_for_less(world) -> None:
    card = await world.ask()
    await world.mallory.clicks(card, "less")
    await world.mallory.sees("not an approver", ephemeral=True)
    await world.ada.clicks(card, "less")
    await world.ada.sees("cannot decide your own request", ephemeral=True)
    assert world.ada.modal is None


async def test_a_question_reaches_the_requester_and_the_answer_the_thread(world) -> None:
    card = await world.ask()
    await world.grace.clicks(card, "ask")
    await world.grace.sees_modal("Ask a question")
    await world.grace.submits({"reason": "Is the replica not enough?"})
    await world.grace.sees("Is the replica not enough?", thread=card)
    await world.ada.sees("Is the replica not enough?", channel="@portcullis")
    mine = await world.ada.sees("You ask for", channel="@portcullis")
    await world.until(lambda: _has_button(world, mine, "Answer…"))
    await world.ada.clicks(world.ada.now(mine), "answer")
    await world.ada.sees_modal("Is the replica not enough?")
    await world.ada.submits({"reason": "No, it is two hours behind."})
    await world.grace.sees("two hours behind", thread=card)
    comments = (await world.story()).request.comments
    assert [(c.by, c.text) for c in comments] == [
        ("grace", "Is the replica not enough?"),
        ("ada", "No, it is two hours behind."),
    ]


async def test_outsiders_write_nothing_into_a_request(world) -> None:
    card = await world.ask()
    await world.mallory.clicks(card, "ask")
    await world.mallory.sees("Only those who decide this", ephemeral=True)
    assert world.mallory.modal is None


async def test_what_is_written_in_a_cards_thread_is_kept_with_the_request(world) -> None:
    card = await world.ask()
    await world.at_rest()
    await world.grace.types("#dba", "who is on the *other* side <!channel>?", thread=card)
    await world.ada.sees("who is on the", channel="@portcullis")
    (comment,) = (await world.story()).request.comments
    assert comment.by == "grace"
    await world.at_rest()
    again = [m for m in world.grace.messages("#dba", thread=card) if "other" in text_of(m)]
    assert len(again) == 1, "the thread it was written in does not repeat it"
    told = await world.ada.sees("who is on the", channel="@portcullis")
    assert "<!channel>" not in told.text


async def test_what_others_write_in_the_thread_is_left_alone(world) -> None:
    card = await world.ask()
    await world.at_rest()
    await world.mallory.types("#dba", "me too", thread=card)
    await world.unlinked.types("#dba", "hello", thread=card)
    await world.grace.types("#dba", "good morning")
    await world.sandbox.settled()
    await world.grace.types("#dba", "last one", thread=card)
    await world.ada.sees("last one", channel="@portcullis")
    assert [c.text for c in (await world.story()).request.comments] == ["last one"]
    assert [m for m in world.mallory.ephemerals() if "⛔" in text_of(m)] == []


async def test_looking_is_shown_on_the_card_and_to_the_requester(world) -> None:
    card = await world.ask()
    await world.grace.clicks(card, "claim")
    card = await world.grace.sees_change(card, "<@U0GRACE> is looking")
    await world.ada.sees("<@U0GRACE> is looking", channel="@portcullis")
    await world.linus.clicks(card, "claim")
    await world.linus.sees("grace is looking at", ephemeral=True)


async def test_two_groups_decide_each_in_its_own_channel(worlds) -> None:
    async with worlds(config=sample_config(extra=(Quorum("security", 1),))) as world:
        card = await world.ask()
        other = await world.olive.sees("asks for", channel="#security")
        assert "0 of 1 Security" in text_of(card)
        await world.grace.clicks(card, "approve")
        other = await world.olive.sees_change(other, "1 of 1 Database approvers and 0 of 1 Security")
        assert (await world.story()).request.state is RequestState.PENDING
        await world.olive.clicks(other, "approve")
        await world.grace.sees_change(card, "opening the gate")
        await world.olive.sees_change(other, "opening the gate")


async def _has_button(world, message, label: str) -> bool:
    return label in world.ada.buttons(world.ada.now(message))
