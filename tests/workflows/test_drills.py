"""A drill is decided like an emergency, and is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from workflows import access, break_glass
from workflows.access import Wish
from workflows.break_glass import DRILL_SPAN, Break, Duty, OnDuty
from workflows.glass_review import next_reminder, owes_review
from workflows.model import Principal, Quorum, Refusal, Resource, Role, Story, Terms
from workflows.policy import Emergency, Policy, Rule

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROD = Resource("prod-db", "postgres", roles=(Role("readwrite", ("w",), Terms(max_sessions=20)),))
RULE = Rule(
    "write",
    frozenset({"engineers"}),
    frozenset({"prod-db"}),
    ("readwrite",),
    HOUR,
    HOUR,
    (Quorum("dba"),),
    HOUR,
)
NIGHT = Emergency(
    "night", frozenset({"prod-db"}), "readwrite", HOUR / 2, ("security",), schedules=("primary",)
)
POLICY = Policy(resources={"prod-db": PROD}, rules=(RULE,), emergencies=(NIGHT,))
PEOPLE = {
    "ada": Principal("ada", "Ada", "", frozenset({"engineers"})),
    "grace": Principal("grace", "Grace", "", frozenset({"dba"})),
}


def command(*history: Story, on_call: str = "ada") -> Break:
    duty = OnDuty((Duty("primary", on_call, NOW),))
    return Break(PEOPLE["ada"], Wish("prod-db"), "", duty, history, PEOPLE, "G-1", findings=("found",))


def drilled(*history: Story) -> Story:
    decision = break_glass.drill(POLICY, command(*history), "R-1", NOW)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    story = access.begin(decision[0])
    for event in decision[1:]:
        story = access.evolve(story, event)
    return story


def in_earnest(at: datetime) -> Story:
    wish = Wish("prod-db", reason="checkout is down for all")
    earnest = replace(
        command(), wish=wish, incident="INC-1", findings=None, on_duty=OnDuty((Duty("primary", "ada", at),))
    )
    decision = break_glass.break_glass(POLICY, earnest, "R-0", at)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    return access.evolve(access.begin(decision[0]), decision[1])


def test_its_grant_lets_nobody_in_and_is_over_in_a_minute() -> None:
    story = drilled()
    assert story.grant is not None
    assert story.grant.terms.max_sessions == 0
    assert story.grant.expiry - story.grant.not_before == DRILL_SPAN
    assert story.request.emergency is not None
    assert story.request.emergency.skipped == ("grace",)
    assert story.request.emergency.findings == ("found",)


def test_it_owes_no_review() -> None:
    story = drilled()
    assert not owes_review(story)
    assert next_reminder(story) is None


def test_who_may_is_decided_as_in_earnest() -> None:
    refused = break_glass.drill(POLICY, command(on_call="grace"), "R-1", NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "not-on-call"


def test_what_would_stand_in_the_way_is_found_and_does_not_stand_in_its_way() -> None:
    story = drilled(in_earnest(NOW - timedelta(days=3)))
    assert story.request.emergency is not None
    assert "has not been reviewed" in story.request.emergency.concerns[0]


def test_a_drill_stands_in_no_emergencys_way() -> None:
    before = drilled()
    wish = Wish("prod-db", reason="checkout is down for all")
    earnest = replace(command(before), wish=wish, incident="INC-1", findings=None)
    assert not isinstance(break_glass.break_glass(POLICY, earnest, "R-2", NOW), Refusal)


def test_one_drill_at_a_time() -> None:
    again = break_glass.drill(POLICY, command(drilled()), "R-2", NOW)
    assert isinstance(again, Refusal)
    assert again.code == "one-at-a-time"
