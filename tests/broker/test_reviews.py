"""Held statements at the broker: who is asked, who decides, and that the run is given out once."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from broker.audit import all_entries
from broker.authority import LocalAuthority
from broker.bus.in_process import InProcessBus
from broker.credentials.seal import Seal
from broker.identity.tokens import Tokens
from broker.reviews import Reviews
from broker.service import Service
from broker.store.engine import Store
from tests.broker.test_authority import Changing, enter, grant_to
from workflows.gate import Closing, GrantMinted, HeldStatement, ReviewDecided, ReviewTicket, RunPass
from workflows.model import Quorum, Refusal, ReviewState, Statement, StatementClass, StatementReview

TEXT = "DELETE FROM orders WHERE customer = 'secret name'"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()
GATE = "g1"


@pytest.fixture
def current(config: Any) -> Changing:
    return Changing(config)


@pytest.fixture
def authority(store: Store, clock: Any, chance: Any, current: Changing) -> LocalAuthority:
    return LocalAuthority(Service(store, current, clock, chance, InProcessBus()), Seal([b"k" * 32]), 10.0)


@pytest.fixture
def reviews(authority: LocalAuthority) -> Reviews:
    return authority.reviews


@pytest.fixture
async def session(authority: LocalAuthority, store: Store, clock: Any, chance: Any) -> str:
    await grant_to(authority, role="readwrite")
    return (await enter(authority, Tokens(store, clock, chance))).session


def held(session: str, *, needed: int = 1, quorum: tuple[Quorum, ...] | None = None) -> HeldStatement:
    statement = Statement(TEXT, DIGEST, StatementClass.DESTRUCTIVE, ("public.orders",), True, 3)
    seats = (Quorum("dba", needed),) if quorum is None else quorum
    return HeldStatement(session, statement, "deletes-are-held", seats, 900.0, "alone")


async def ask(authority: LocalAuthority, session: str, needed: int = 1) -> str:
    ticket = await authority.ask_review(GATE, held(session, needed=needed))
    assert isinstance(ticket, ReviewTicket)
    return ticket.review


async def code(answer: object) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


async def test_a_held_statement_is_put_before_its_quorum_and_runs_once(
    authority: LocalAuthority, reviews: Reviews, session: str
) -> None:
    ticket = await authority.ask_review(GATE, held(session))
    assert isinstance(ticket, ReviewTicket)
    assert (ticket.asked, ticket.remaining) == ("1 of dba", 900.0)
    assert [it.id for it in await reviews.waiting_for("linus")] == [ticket.review]
    assert await code(await authority.take_run(GATE, ticket.review, session, DIGEST)) == "not-approved"
    yes = await reviews.approve(ticket.review, "linus", via="slack", row_budget=5)
    assert isinstance(yes, StatementReview)
    assert yes.state is ReviewState.APPROVED
    assert await authority.take_run(GATE, ticket.review, session, DIGEST) == RunPass(ticket.review, 5)
    assert await code(await authority.take_run(GATE, ticket.review, session, DIGEST)) == "not-approved"
    await authority.finish_run(GATE, ticket.review, "DELETE 3")
    done = await reviews.find(ticket.review)
    assert done is not None
    assert (done.state, done.outcome) == (ReviewState.FINISHED, "DELETE 3")


async def test_asked_again_while_it_waits_it_is_the_same_review(
    authority: LocalAuthority, session: str
) -> None:
    assert await ask(authority, session) == await ask(authority, session)


async def test_an_approval_fits_no_other_bytes_session_or_gate(
    authority: LocalAuthority, reviews: Reviews, session: str, store: Store, clock: Any, chance: Any
) -> None:
    review = await ask(authority, session)
    await reviews.approve(review, "linus", via="slack")
    other = (await enter(authority, Tokens(store, clock, chance))).session
    changed = hashlib.sha256(b"DELETE FROM orders").hexdigest()
    assert await code(await authority.take_run(GATE, review, session, changed)) == "not-what-was-approved"
    assert await code(await authority.take_run(GATE, review, other, DIGEST)) == "not-what-was-approved"
    assert await code(await authority.take_run("g2", review, session, DIGEST)) == "no-such-review"
    assert isinstance(await authority.take_run(GATE, review, session, DIGEST), RunPass)


@pytest.mark.parametrize("who", ["ada", "bob", "sam", "nobody"])
async def test_nobody_decides_who_is_not_of_the_quorum(
    authority: LocalAuthority, reviews: Reviews, session: str, who: str
) -> None:
    review = await ask(authority, session)
    assert await code(await reviews.approve(review, who, via="slack")) in {"own-request", "not-an-approver"}
    assert await code(await reviews.deny(review, who, via="slack")) in {"own-request", "not-an-approver"}


async def test_two_brokers_racing_count_every_person_once_and_give_one_run(
    authority: LocalAuthority, reviews: Reviews, session: str, make_service: Any, current: Changing
) -> None:
    review = await ask(authority, session, needed=2)
    second = Reviews(make_service(current.config))
    votes = [one.approve(review, who, via="slack") for one in (reviews, second) for who in ("grace", "linus")]
    await asyncio.gather(*votes)
    both = [reviews.take_run(GATE, review, session, DIGEST), second.take_run(GATE, review, session, DIGEST)]
    passes = [it for it in await asyncio.gather(*both) if isinstance(it, RunPass)]
    assert len(passes) == 1
    found = await reviews.find(review)
    assert found is not None
    assert sorted(approval.approver for approval in found.approvals) == ["grace", "linus"]


async def test_after_the_grant_has_ended_a_yes_and_a_run_come_to_nothing(
    authority: LocalAuthority, reviews: Reviews, session: str
) -> None:
    waiting = await ask(authority, session)
    drop = Statement("DROP TABLE x", "0" * 64, StatementClass.DESTRUCTIVE)
    ticket = await authority.ask_review(GATE, replace(held(session), statement=drop))
    assert isinstance(ticket, ReviewTicket)
    approved = ticket.review
    assert isinstance(await reviews.approve(approved, "linus", via="slack"), StatementReview)
    review = await reviews.find(waiting)
    assert review is not None
    await authority.service.release(review.grant_id, "ada", via="slack")
    assert await code(await reviews.approve(waiting, "linus", via="slack")) == "grant-ended"
    assert await code(await authority.take_run(GATE, approved, session, "0" * 64)) == "grant-ended"
    assert await reviews.close_over() == 2
    assert {(await reviews.find(it)).state for it in (waiting, approved)} == {ReviewState.WITHDRAWN}  # type: ignore[union-attr]


async def test_an_approver_who_left_the_group_a_second_ago_has_no_say(
    authority: LocalAuthority, reviews: Reviews, session: str, current: Changing
) -> None:
    review = await ask(authority, session)
    current.person("linus", groups=frozenset())
    assert await code(await reviews.approve(review, "linus", via="slack")) == "not-an-approver"


async def test_what_nobody_decides_lapses_and_what_its_sender_leaves_is_withdrawn(
    authority: LocalAuthority, reviews: Reviews, session: str, clock: Any
) -> None:
    review = await ask(authority, session)
    clock.advance(minutes=15)
    assert await code(await reviews.approve(review, "linus", via="slack")) == "lapsed"
    assert await reviews.close_over() == 1
    assert (await reviews.find(review)).state is ReviewState.LAPSED  # type: ignore[union-attr]
    again = await ask(authority, session)
    await authority.close(GATE, Closing(session, "client", "", 1, "h", 0, 0, 0))
    assert await reviews.close_over() == 1
    assert (await reviews.find(again)).state is ReviewState.WITHDRAWN  # type: ignore[union-attr]


async def test_a_rule_that_names_nobody_lets_nothing_run(authority: LocalAuthority, session: str) -> None:
    assert await code(await authority.ask_review(GATE, held(session, quorum=()))) == "nobody-to-ask"


async def test_only_the_sessions_own_gate_may_ask(authority: LocalAuthority, session: str) -> None:
    assert await code(await authority.ask_review("g2", held(session))) == "no-such-session"


async def test_the_gate_is_told_of_the_answer_and_again_when_it_follows_anew(
    authority: LocalAuthority, reviews: Reviews, session: str
) -> None:
    review = await ask(authority, session)
    following = authority.notices(GATE)
    assert isinstance(await anext(following), GrantMinted)
    await reviews.deny(review, "linus", via="slack", reason="use the runbook")
    told = ReviewDecided(review, session, ReviewState.DENIED, "linus", "use the runbook")
    async with asyncio.timeout(5):
        assert await anext(following) == told
        anew = authority.notices(GATE)
        assert [await anext(anew), await anext(anew)][1] == told
    await following.aclose()  # type: ignore[attr-defined]
    await anew.aclose()  # type: ignore[attr-defined]


async def test_the_trail_has_every_step_and_never_the_text(
    authority: LocalAuthority, reviews: Reviews, session: str
) -> None:
    review = await ask(authority, session)
    await reviews.approve(review, "ada", via="slack")
    await reviews.approve(review, "linus", via="slack")
    await authority.take_run(GATE, review, session, DIGEST)
    await authority.finish_run(GATE, review, "DELETE 3")
    async with authority.service.store.read() as tx:
        entries = [entry async for entry in all_entries(tx)]
    about = [entry.kind for entry in entries if entry.subject == review]
    assert about == [
        "review.opened", "refused", "review.voted", "review.approved", "review.run_taken",
        "review.run_finished",
    ]  # fmt: skip
    assert all("secret name" not in entry.body for entry in entries)


async def test_a_review_is_shown_to_its_sender_its_approvers_and_administrators_only(
    authority: LocalAuthority, reviews: Reviews, session: str
) -> None:
    review = await ask(authority, session)
    for who in ("ada", "linus", "sam"):
        assert isinstance(await reviews.find_for(review, who), StatementReview)
    for who in ("bob", "olive", "nobody"):
        assert await code(await reviews.find_for(review, who)) == "no-such-review"
