"""A statement review: who decides, what the approval binds to, and that it runs once."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import review as rules
from workflows.model import (
    Principal,
    PrincipalKind,
    Quorum,
    Refusal,
    ReviewState,
    Statement,
    StatementClass,
    StatementReview,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TEXT = "DELETE FROM orders WHERE id = 7"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()
PEOPLE = {
    "ada": Principal("ada", "Ada", "ada@example.com", frozenset({"engineers", "dba"})),
    "grace": Principal("grace", "Grace", "grace@example.com", frozenset({"dba"})),
    "linus": Principal("linus", "Linus", "linus@example.com", frozenset({"dba"})),
    "robot": Principal("robot", "Robot", "r@example.com", frozenset({"dba"}), PrincipalKind.AGENT),
    "gone": Principal("gone", "Gone", "g@example.com", frozenset({"dba"}), active=False),
    "eve": Principal("eve", "Eve", "eve@example.com", frozenset({"engineers"})),
}


def held(needed: int = 1) -> StatementReview:
    return StatementReview(
        id="V-1",
        requester="ada",
        resource="prod-db",
        role="readwrite",
        grant_id="G-1",
        session_id="S-1",
        statement=Statement(TEXT, DIGEST, StatementClass.DESTRUCTIVE, ("public.orders",), True, 1),
        rule="deletes-are-held",
        quorum=(Quorum("dba", needed),),
        created_at=NOW,
        lapses_at=NOW + timedelta(minutes=15),
    )


def after(review: StatementReview, command: rules.Command, now: datetime = NOW) -> StatementReview:
    events = rules.decide(review, command, now)
    assert not isinstance(events, Refusal), events
    for event in events:
        review = rules.evolve(review, event)
    return review


def refusal(review: StatementReview, command: rules.Command, now: datetime = NOW) -> str:
    events = rules.decide(review, command, now)
    assert isinstance(events, Refusal)
    return events.code


APPROVE = rules.Approve("grace", PEOPLE)
RUN = rules.Run(DIGEST, "G-1", "S-1")


def test_an_approved_statement_runs_once_and_says_how_it_went() -> None:
    running = after(after(held(), APPROVE), RUN)
    assert running.state is ReviewState.RUNNING
    assert refusal(running, RUN) == "not-approved"
    finished = after(running, rules.Finish("DELETE 1"))
    assert (finished.state, finished.outcome) == (ReviewState.FINISHED, "DELETE 1")
    assert rules.decide(finished, rules.Finish("DELETE 1"), NOW) == ()


@pytest.mark.parametrize(
    "run",
    [
        rules.Run(hashlib.sha256(TEXT.replace("7", "8").encode()).hexdigest(), "G-1", "S-1"),
        rules.Run(DIGEST, "G-2", "S-1"),
        rules.Run(DIGEST, "G-1", "S-2"),
    ],
)
def test_other_bytes_another_grant_or_another_session_do_not_run(run: rules.Run) -> None:
    assert refusal(after(held(), APPROVE), run) == "not-what-was-approved"


def test_nothing_runs_before_the_quorum_is_complete() -> None:
    review = after(held(needed=2), APPROVE)
    assert refusal(review, RUN) == "not-approved"
    assert after(review, rules.Approve("linus", PEOPLE)).state is ReviewState.APPROVED


def test_a_second_yes_of_the_same_person_fills_no_second_seat() -> None:
    review = after(after(held(needed=2), APPROVE), APPROVE)
    assert review.state is ReviewState.PENDING
    assert len(review.approvals) == 1


@pytest.mark.parametrize("who", ["ada", "robot", "gone", "eve", "nobody"])
def test_neither_requester_nor_agent_nor_inactive_nor_stranger_decides(who: str) -> None:
    assert refusal(held(), rules.Approve(who, PEOPLE)) in {"own-request", "not-an-approver"}
    assert refusal(held(), rules.Deny(who, PEOPLE)) in {"own-request", "not-an-approver"}


def test_a_yes_that_came_too_late_or_ran_too_late_does_nothing() -> None:
    late = NOW + timedelta(minutes=15)
    assert refusal(held(), APPROVE, late) == "lapsed"
    assert refusal(after(held(), APPROVE), RUN, late) == "lapsed"
    assert after(after(held(), APPROVE), rules.Lapse(), late).state is ReviewState.LAPSED


def test_budgets_only_narrow() -> None:
    review = after(held(needed=2), rules.Approve("grace", PEOPLE, row_budget=10))
    review = after(review, rules.Approve("linus", PEOPLE, row_budget=50))
    assert review.row_budget == 10


def test_what_was_withdrawn_or_denied_stays_closed() -> None:
    withdrawn = after(held(), rules.Withdraw("the client went away"))
    assert refusal(withdrawn, APPROVE) == "already-decided"
    denied = after(held(), rules.Deny("grace", PEOPLE, "use the runbook"))
    assert (denied.closed_by, denied.close_reason) == ("grace", "use the runbook")
    assert refusal(denied, rules.Approve("linus", PEOPLE)) == "already-decided"
    assert rules.decide(denied, rules.Deny("grace", PEOPLE), NOW) == ()


COMMANDS: st.SearchStrategy[rules.Command] = st.one_of(
    st.builds(rules.Approve, st.sampled_from([*PEOPLE]), st.just(PEOPLE), st.none() | st.integers(0, 99)),
    st.builds(rules.Deny, st.sampled_from([*PEOPLE]), st.just(PEOPLE)),
    st.just(rules.Withdraw("gone")),
    st.just(rules.Lapse()),
    st.builds(
        rules.Run, st.sampled_from([DIGEST, "0" * 64]), st.just("G-1"), st.sampled_from(["S-1", "S-2"])
    ),
    st.just(rules.Finish("DELETE 1")),
)


@given(st.integers(1, 3), st.lists(st.tuples(COMMANDS, st.integers(0, 1200)), max_size=25))
def test_in_any_order_of_commands_it_runs_at_most_once_and_only_with_a_quorum(
    needed: int, story: list[tuple[rules.Command, int]]
) -> None:
    review, runs, clock = held(needed), 0, NOW
    for command, seconds in story:
        clock += timedelta(seconds=seconds)
        events = rules.decide(review, command, clock)
        if isinstance(events, Refusal):
            continue
        for event in events:
            if isinstance(event, rules.RunTaken):
                runs += 1
                yes = {a.approver for a in review.approvals if a.yes}
                assert len(yes & {"grace", "linus"}) >= needed
                assert clock < review.lapses_at
            before, review = review, rules.evolve(review, event)
            assert review.version == before.version + 1
    assert runs <= 1
