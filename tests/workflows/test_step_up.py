"""The rules of step-up, alone: where a passkey is wanted, no yes counts without its proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import access, allowance, extension, review
from workflows.access import Wish
from workflows.model import (
    Action,
    Group,
    Guardrail,
    Principal,
    Quorum,
    Refusal,
    RequestState,
    Resource,
    ReviewState,
    Role,
    Statement,
    StatementClass,
    StatementReview,
    Story,
    Terms,
)
from workflows.policy import Policy, Route, Rule, decided_by
from workflows.step_up import Proof, lacking, stale

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PEOPLE = {
    name: Principal(name, name.title(), f"{name}@example.com", frozenset(groups))
    for name, groups in {"ada": ["engineers"], "grace": ["dba"], "linus": ["dba"]}.items()
}
READ = Role("readonly", ("app",), within=("write",))
WRITE = Role("write", ("app",))
RULE = Rule(
    "strict", frozenset({"engineers"}), frozenset({"prod-db"}), ("write",), 4 * HOUR, HOUR,
    (Quorum("dba", 2),), HOUR, step_up=True,
)  # fmt: skip
ROUTE = Route(Resource("prod-db", "postgres", roles=(READ, WRITE)), WRITE, RULE)


def asked(rule: Rule = RULE) -> Story:
    events = access.submit(
        replace(ROUTE, rule=rule), PEOPLE["ada"], Wish("prod-db", reason="x"), "R-1", "G-1", NOW
    )
    assert not isinstance(events, Refusal)
    return after(None, events)


def after(story: Story | None, decision: access.Decision) -> Story:
    assert not isinstance(decision, Refusal), decision
    for event in decision:
        story = access.begin(event) if isinstance(event, access.RequestSubmitted) else (
            access.evolve(story, event) if story else None
        )  # fmt: skip
    assert story is not None
    return story


def yes(who: str, proof: str = "", *, step_up: bool = False) -> access.Approve:
    return access.Approve(who, PEOPLE, "G-1", "", proof, step_up)


def code(decision: access.Decision) -> str:
    return decision.code if isinstance(decision, Refusal) else ""


def test_a_request_remembers_that_its_rule_wanted_it() -> None:
    assert asked().request.step_up
    assert not asked(replace(RULE, step_up=False)).request.step_up
    assert "each with a passkey" in decided_by(RULE)


@given(st.lists(st.tuples(st.sampled_from(["grace", "linus"]), st.booleans(), st.booleans()), max_size=8))
def test_no_grant_comes_of_any_number_of_yeses_without_proof(yeses: list[tuple[str, bool, bool]]) -> None:
    story, proven = asked(), set[str]()
    for who, proof, less in yeses:
        by = "passkey K-1" if proof else ""
        command = access.ApproveForLess(who, PEOPLE, "G-1", HOUR / 2, READ, "", by) if less else yes(who, by)
        decision = access.decide(story, command, NOW)
        if not isinstance(decision, Refusal):
            story = after(story, decision)
            proven |= {who} if proof else set()
    assert (story.grant is not None) == (proven == {"grace", "linus"})
    assert all(approval.proof for approval in story.request.approvals)


def test_the_refusals_that_stand_in_the_way_anyhow_come_first() -> None:
    story = asked()
    assert code(access.decide(story, yes("ada"), NOW)) == "own-request"
    assert code(access.decide(story, yes("grace"), NOW + 2 * HOUR)) == "lapsed"
    denied = after(story, access.decide(story, access.Deny("linus", PEOPLE), NOW))
    assert denied.request.state is RequestState.DENIED
    assert code(access.decide(denied, yes("grace"), NOW)) == "already-decided"


def test_the_rule_of_today_may_want_more_than_that_of_then() -> None:
    story = asked(replace(RULE, step_up=False))
    assert code(access.decide(story, yes("grace", step_up=True), NOW)) == "step-up"
    assert code(access.decide(story, yes("grace"), NOW)) == ""
    assert code(access.decide(asked(), yes("grace", step_up=False), NOW)) == "step-up"


def test_more_time_wants_it_by_the_request_or_by_the_rule_of_today() -> None:
    story = asked()
    for who in ("grace", "linus"):
        story = after(story, access.decide(story, yes(who, "passkey K-1"), NOW))
    longer = replace(RULE, longest_total=4 * HOUR)
    story = after(story, extension.decide(story, extension.Extend("ada", HOUR, longer, "more"), NOW))
    plain = replace(longer, step_up=False)
    without = extension.ApproveExtension("grace", PEOPLE, plain)
    assert code(extension.decide(story, without, NOW)) == "step-up"
    proven = replace(without, proof="passkey K-1")
    assert code(extension.decide(story, proven, NOW)) == ""
    easy = replace(story, request=replace(story.request, step_up=False))
    assert code(extension.decide(easy, without, NOW)) == ""
    assert code(extension.decide(easy, replace(without, rule=longer), NOW)) == "step-up"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_statement_wants_it_where_its_guardrail_does(wanted: bool) -> None:
    statement = Statement("DELETE", "d", StatementClass.DESTRUCTIVE)
    held = StatementReview(
        "V-1", "ada", "prod-db", "write", "G-1", "S-1", statement, "r", (Quorum("dba"),), NOW, NOW + HOUR,
        step_up=wanted,
    )  # fmt: skip
    decision = review.decide(held, review.Approve("grace", PEOPLE), NOW)
    assert isinstance(decision, Refusal) is wanted
    proven = review.decide(held, review.Approve("grace", PEOPLE, proof="passkey K-1"), NOW)
    assert not isinstance(proven, Refusal)
    for event in proven:
        held = review.evolve(held, event)
    assert held.state is ReviewState.APPROVED


def test_of_several_guardrails_that_hold_one_text_one_is_enough_to_want_it() -> None:
    rails = (Guardrail("a", Action.HOLD), Guardrail("b", Action.HOLD, step_up=True))
    terms = Terms(guardrails=rails)
    assert [terms.steps_up(rule) for rule in ("a", "b", "a, b", "b, a", "", "c")] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    assert Terms(hold_commit=Guardrail("c", Action.HOLD, step_up=True)).steps_up("c")


def test_no_yes_is_given_in_advance_where_each_wants_a_passkey() -> None:
    """And one that was given before the rule said so counts for nothing."""
    groups = {"engineers": Group("engineers"), "dba": Group("dba")}
    policy = Policy(groups, {"prod-db": ROUTE.resource}, (RULE,))
    wanted = allowance.Allow(PEOPLE["grace"], PEOPLE["ada"], "prod-db", reason="release duty")
    refusal = allowance.allow(policy, wanted, "A-1", NOW)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "step-up-each-time"
    easy = replace(policy, rules=(replace(RULE, step_up=False),))
    before = allowance.allow(easy, wanted, "A-1", NOW)
    assert isinstance(before, allowance.Allowance)
    for story, counted in ((asked(), 0), (asked(replace(RULE, step_up=False)), 1)):
        _, used = allowance.given(story, [before], PEOPLE, "G-1", NOW)
        assert len(used) == counted


def test_a_proof_is_good_for_the_version_that_was_shown() -> None:
    assert stale(None, 3) is None
    assert stale(Proof("passkey K-1", 3), 3) is None
    assert stale(Proof("passkey K-1", 2), 3) is not None
    assert lacking(False, "") is None
    assert lacking(True, "passkey K-1") is None
