"""Held statements in Slack: the card, who may press what, and that it always shows the database."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.cards import Faces
from bot.review_cards import review_card
from bot.sandbox import text_of
from bot.sandbox.block_kit_rules import check_message, too_many_characters
from broker.reviews import Reviews
from broker.store import sessions
from broker.store.sessions import SessionRecord
from workflows.gate import HeldStatement, ReviewTicket, RunPass
from workflows.model import Group, Quorum, ReviewState, Statement, StatementClass, StatementReview

TEXT = "DELETE FROM orders WHERE note = '<!channel> `x` *y*' AND id < 7"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


async def held(world: Any, *, needed: int = 1) -> tuple[Reviews, str]:
    """Ada holds a grant and has a session open, in which a DELETE is held."""
    card = await world.ask("request prod-db readwrite 1h because INC-142")
    await world.grace.clicks(card, "approve")
    await world.grace.sees_change(card, "opening the gate")
    await world.gate_holds()
    return await hold_statement(world, (await world.story()).request.id, (Quorum("dba", needed),))


async def hold_statement(world: Any, request: str, quorum: tuple[Quorum, ...]) -> tuple[Reviews, str]:
    """Whoever holds the grant of this request has a session open, in which a DELETE is held."""
    story = await world.service.story(request)
    now = world.clock.now()
    record = SessionRecord(
        id="S-1",
        request_id=request,
        grant_id=story.grant.id,
        principal="ada",
        resource="prod-db",
        role=story.grant.role,
        gate="g1",
        protocol="postgres",
        client="c",
        opened_at=now,
        lease_until=now + timedelta(hours=1),
    )
    async with world.store.write() as tx:
        await sessions.add(tx, record)
    reviews = Reviews(world.service)
    statement = Statement(TEXT, DIGEST, StatementClass.DESTRUCTIVE, ("public.orders",), True, 3, True)
    ticket = await reviews.ask(
        "g1", HeldStatement("S-1", statement, "deletes-are-held", quorum, 900.0, "alone")
    )
    assert isinstance(ticket, ReviewTicket)
    return reviews, ticket.review


async def state(reviews: Reviews, review: str) -> ReviewState:
    found = await reviews.find(review)
    assert found is not None
    return found.state


async def test_the_card_shows_what_is_decided_on_and_a_press_lets_it_run_once(world: Any) -> None:
    reviews, review = await held(world)
    card = await world.grace.sees(review, channel="#dba")
    told = text_of(card)
    for words in ("wants to run this", TEXT, "public.orders", "exactly 3", "deletes-are-held", "0 of 1"):
        assert words in told
    assert world.grace.buttons(card) == ["Approve, once", "At most … rows", "Deny…"]
    await world.grace.clicks(card, "review_approve")
    card = await world.grace.sees_change(card, "may run this once")
    assert world.grace.buttons(card) == []
    assert isinstance(await reviews.take_run("g1", review, "S-1", DIGEST), RunPass)
    await reviews.finish_run("g1", review, "DELETE 3")
    card = await world.grace.sees_change(card, "Ran on")
    assert "DELETE 3" in text_of(card)


async def test_the_sender_a_stranger_and_a_guest_are_refused_and_told_who_can(world: Any) -> None:
    reviews, review = await held(world)
    card = await world.grace.sees(review, channel="#dba")
    await world.ada.clicks(card, "review_approve", force=True)
    assert "own request" in text_of(await world.ada.sees("⛔", ephemeral=True))
    await world.mallory.clicks(card, "review_approve", force=True)
    assert "anyone of dba" in text_of(await world.mallory.sees("⛔", ephemeral=True))
    await world.guest.clicks(card, "review_deny", force=True)
    await world.guest.sees("⛔", ephemeral=True)
    assert await state(reviews, review) is ReviewState.PENDING


@pytest.mark.parametrize("value", ["V-AAAAAA:1", "R-AAAAAA:1", "{review}:99", "{review}", "x" * 100])
async def test_a_tampered_button_decides_nothing(world: Any, value: str) -> None:
    reviews, review = await held(world)
    card = await world.grace.sees(review, channel="#dba")
    await world.grace.clicks(card, "review_approve", force=True, value=value.format(review=review))
    await world.grace.sees("⛔", ephemeral=True)
    assert await state(reviews, review) is ReviewState.PENDING


async def test_a_denial_asks_for_the_reason_and_says_it(world: Any) -> None:
    reviews, review = await held(world)
    card = await world.grace.sees(review, channel="#dba")
    await world.grace.clicks(card, "review_deny")
    await world.grace.sees_modal("Deny the statement")
    await world.grace.submits({"reason": "use the runbook"})
    card = await world.grace.sees_change(card, "Denied by")
    assert "use the runbook" in text_of(card)
    assert await state(reviews, review) is ReviewState.DENIED


async def test_two_of_a_quorum_and_a_repeated_press_make_one_decision(world: Any) -> None:
    reviews, review = await held(world, needed=2)
    card = await world.grace.sees(review, channel="#dba")
    pressed = await world.grace.clicks(card, "review_approve")
    card = await world.grace.sees_change(card, "1 of 2")
    await world.sandbox.replay(pressed)
    assert await state(reviews, review) is ReviewState.PENDING
    await world.linus.clicks(card, "review_approve")
    await world.grace.sees_change(card, "may run this once")


async def test_what_lapses_or_loses_its_grant_says_so(world: Any) -> None:
    reviews, review = await held(world)
    card = await world.grace.sees(review, channel="#dba")
    world.clock.advance(minutes=15)
    assert await reviews.close_over() == 1
    card = await world.grace.sees_change(card, "Nobody decided in time")
    assert world.grace.buttons(card) == []


@pytest.mark.parametrize("which", list(ReviewState))
@pytest.mark.parametrize(
    "text", ["", TEXT, "SELECT '" + "é<&>`" * 3000 + "'"], ids=["empty", "usual", "huge"]
)
def test_every_state_of_the_card_is_one_that_slack_takes(which: ReviewState, text: str) -> None:
    tables = tuple(f"public.t{n}" for n in range(40))
    now = datetime(2026, 11, 24, tzinfo=UTC)
    shown = StatementReview(
        id="V-1",
        requester="ada",
        resource="prod-db",
        role="readwrite",
        grant_id="G-1",
        session_id="S-1",
        statement=Statement(text, DIGEST, StatementClass.DESTRUCTIVE, tables, False, 3),
        rule="deletes-are-held",
        quorum=(Quorum("dba", 1),),
        created_at=now,
        lapses_at=now,
        transaction="in a transaction opened 3 min ago",
        reason="<!channel>" * 100,
        state=which,
        closed_by="grace",
        outcome="x" * 200,
    )
    faces = Faces(groups={"dba": Group("dba", "Approvers", "C0DBA", "S0DBA")})
    card = review_card(shown, faces, "dba", "card:0")
    assert check_message(card.blocks) == []
    assert not too_many_characters(card.blocks)
    assert "<!channel>" not in str([b for b in card.blocks if b["type"] != "rich_text"])
