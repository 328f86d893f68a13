"""The waiting: ladders, quiet hours, nudges, claims, comments, and the warning before the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import access, escalation
from workflows.access import Decision
from workflows.escalation import Claim, Climb, Nudge, Say, Warn, loud_after, next_step, warn_at
from workflows.events import QuorumWidened, StepTaken
from workflows.model import AccessRequest, Principal, Quorum, Refusal, Story, Terms
from workflows.policy import Ladder, QuietHours, Step, StepKind

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LADDER = Ladder(
    (
        Step(5 * MINUTE, StepKind.MENTION),
        Step(15 * MINUTE, StepKind.PAGE, "dba-primary", wakes=True),
        Step(HOUR, StepKind.WIDEN, "security"),
    )
)
PEOPLE = {
    name: Principal(name, name, "", frozenset(groups))
    for name, groups in {
        "ada": ("dba",), "grace": ("dba",), "linus": ("dba",), "sam": ("security",), "zoe": (),
    }.items()
}  # fmt: skip


def asked(at: datetime = NOW, quorum: tuple[Quorum, ...] = (Quorum("dba"),)) -> Story:
    return Story(
        AccessRequest(
            "R-1", "ada", "prod-db", "readonly", HOUR, "INC-1", "read", quorum, Terms(), at, at + 8 * HOUR
        ),
        None,
        1,
    )


def after(story: Story, decision: Decision) -> Story:
    assert not isinstance(decision, Refusal), decision
    for event in decision:
        story = access.evolve(story, event)
    return story


def climbed(story: Story, at: datetime, ladder: Ladder = LADDER) -> Story:
    return after(story, escalation.decide(story, Climb(ladder), at))


def code(decision: Decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


def test_each_step_comes_at_its_time_once_and_the_lapse_is_the_last() -> None:
    story, seen = asked(), []
    while (found := next_step(story, LADDER, NOW)) and found[1].kind is not StepKind.LAPSE:
        seen.append(((found[0] - NOW) // MINUTE, found[1].kind))
        assert escalation.decide(story, Climb(LADDER), found[0] - timedelta(seconds=1)) == ()
        story = climbed(story, found[0])
        assert climbed(story, found[0]) == story
    assert seen == [(5, "mention"), (15, "page"), (60, "widen")]
    assert found == (story.request.lapses_at, Step(8 * HOUR, StepKind.LAPSE, wakes=True))


def test_after_an_absence_every_step_that_is_due_is_taken_once_in_order() -> None:
    decision = escalation.decide(asked(), Climb(LADDER), NOW + 2 * HOUR)
    assert not isinstance(decision, Refusal)
    steps = [event.nth for event in decision if isinstance(event, StepTaken)]
    assert steps == [1, 2, 3]
    assert climbed(climbed(asked(), NOW + 2 * HOUR), NOW + 3 * HOUR).request.steps == 3


def test_the_second_group_decides_too_once_its_step_is_taken() -> None:
    early = access.decide(asked(), access.Approve("sam", PEOPLE, "G-1"), NOW)
    assert code(early) == "not-an-approver"
    story = climbed(asked(), NOW + HOUR)
    assert story.request.quorum == (Quorum("dba", 1, ("security",)),)
    story = after(story, access.decide(story, access.Approve("sam", PEOPLE, "G-1"), NOW + HOUR))
    assert story.grant is not None


def test_widening_lowers_no_quorum_and_lets_nobody_fill_two_seats() -> None:
    both = (Quorum("dba", 2), Quorum("security"))
    story = climbed(asked(quorum=both), NOW + HOUR)
    assert story.request.quorum == both, "security decides already"
    other = replace(LADDER, steps=(Step(HOUR, StepKind.WIDEN, "managers"),))
    story = climbed(asked(quorum=(Quorum("dba", 2),)), NOW + HOUR, other)
    people = PEOPLE | {"grace": replace(PEOPLE["grace"], groups=frozenset({"dba", "managers"}))}
    for who in ("grace", "grace"):
        story = after(story, access.decide(story, access.Approve(who, people, "G-1"), NOW + HOUR))
    assert story.grant is None


def test_nothing_is_done_for_what_is_decided() -> None:
    story = after(asked(), access.decide(asked(), access.Deny("grace", PEOPLE), NOW))
    assert next_step(story, LADDER, NOW) is None
    assert escalation.decide(story, Climb(LADDER), NOW + 5 * HOUR) == ()


# ------------------------------------------------------------- quiet hours

BERLIN = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("at", "loud"),
    [
        ("2026-11-24T20:59:59+00:00", "2026-11-24T20:59:59+00:00"),
        ("2026-11-24T21:00:00+00:00", "2026-11-25T06:00:00+00:00"),
        ("2026-11-25T03:00:00+00:00", "2026-11-25T06:00:00+00:00"),
        ("2026-11-25T06:00:00+00:00", "2026-11-25T06:00:00+00:00"),
        ("2026-07-01T20:00:00+00:00", "2026-07-02T05:00:00+00:00"),
    ],
)
def test_quiet_hours_are_read_on_the_clock_of_their_zone(at: str, loud: str) -> None:
    assert loud_after(BERLIN, datetime.fromisoformat(at)) == datetime.fromisoformat(loud)


def test_in_the_night_only_what_wakes_goes_out() -> None:
    night = datetime(2026, 11, 24, 23, 0, tzinfo=UTC)
    ladder = replace(LADDER, quiet=BERLIN)
    story = asked(night)
    morning = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
    found = next_step(story, ladder, night)
    assert found is not None
    assert found == (morning, LADDER.steps[0])
    loud_first = replace(ladder, steps=(LADDER.steps[1], LADDER.steps[0]))
    assert climbed(story, night + 15 * MINUTE, loud_first).request.steps == 1


def test_a_lapse_in_the_night_is_put_off_by_nothing() -> None:
    night = datetime(2026, 11, 24, 21, 30, tzinfo=UTC)
    story = replace(asked(night), request=replace(asked(night).request, lapses_at=night + HOUR))
    found = next_step(story, replace(LADDER, quiet=BERLIN), night)
    assert found is not None
    assert (found[0], found[1].kind) == (night + HOUR, StepKind.LAPSE)


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]
).map(ZoneInfo)
clocks = st.times().map(lambda t: t.replace(microsecond=0, tzinfo=None))
moments = st.integers(0, 15 * 366 * 86400).map(
    lambda s: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)


@given(clocks, clocks, zones, moments)
def test_a_loud_moment_is_never_before_and_at_most_a_day_and_a_change_of_the_clock_after(
    start: time, end: time, zone: ZoneInfo, at: datetime
) -> None:
    loud = loud_after(QuietHours(start, end, zone), at)
    assert at <= loud <= at + timedelta(hours=26)


kinds = st.sampled_from([StepKind.GROUP, StepKind.MENTION, StepKind.PAGE, StepKind.WIDEN])
ladders = st.builds(
    Ladder,
    steps=st.lists(
        st.builds(
            Step, st.integers(1, 900).map(lambda m: m * MINUTE), kinds, st.sampled_from(["x", "dba", "y"]),
            st.booleans(),
        ),
        max_size=5,
    ).map(lambda steps: tuple(sorted(steps, key=lambda step: step.after))),
    quiet=st.none() | st.builds(QuietHours, clocks, clocks, zones),
)  # fmt: skip


@given(ladders, st.lists(st.integers(0, 200), max_size=30), st.sets(st.integers(0, 29)))
def test_however_often_time_is_looked_at_every_step_is_taken_at_most_once_and_not_early(
    ladder: Ladder, minutes: list[int], claims: set[int]
) -> None:
    story, now, taken = asked(), NOW, list[int]()
    for index, wait in enumerate(minutes):
        now += wait * MINUTE
        if index in claims:
            claim = escalation.decide(story, Claim("grace", PEOPLE, ladder), now)
            story = story if isinstance(claim, Refusal) else after(story, claim)
        decision = escalation.decide(story, Climb(ladder), now)
        assert not isinstance(decision, Refusal)
        for event in decision:
            if isinstance(event, StepTaken):
                taken.append(event.nth)
                step = ladder.steps[event.nth - 1]
                assert now >= story.request.created_at + step.after
                assert now < story.request.lapses_at
                if ladder.quiet and not step.wakes:
                    assert loud_after(ladder.quiet, now) == now
            else:
                assert isinstance(event, QuorumWidened)
        story = after(story, decision)
        found = next_step(story, ladder, now)
        assert found is not None
        assert found[0] > now or found[1].kind is StepKind.LAPSE
    assert taken == list(range(1, len(taken) + 1))
    assert [quorum.needed for quorum in story.request.quorum] == [1]


# ------------------------------------------------------------------ people


def test_a_nudge_has_a_cool_down_and_is_the_requesters_alone() -> None:
    soon, later = NOW + 14 * MINUTE, NOW + 15 * MINUTE
    assert code(escalation.decide(asked(), Nudge("ada", LADDER), soon)) == "too-soon"
    assert code(escalation.decide(asked(), Nudge("grace", LADDER), later)) == "not-yours"
    story = after(asked(), escalation.decide(asked(), Nudge("ada", LADDER), later))
    assert code(escalation.decide(story, Nudge("ada", LADDER), later)) == "too-soon"
    assert code(escalation.decide(story, Nudge("ada", LADDER), NOW + 8 * HOUR)) == "already-decided"


def test_looking_stops_the_ladder_for_a_while_but_not_for_good() -> None:
    story = after(asked(), escalation.decide(asked(), Claim("grace", PEOPLE, LADDER), NOW + 4 * MINUTE))
    found = next_step(story, LADDER, NOW + 4 * MINUTE)
    assert found == (NOW + 34 * MINUTE, LADDER.steps[0])
    assert climbed(story, NOW + 33 * MINUTE) == story
    assert climbed(story, NOW + 34 * MINUTE).request.steps == 2


def test_one_looks_at_a_time_and_only_who_may_decide() -> None:
    for who in ("ada", "zoe", "nobody"):
        assert code(escalation.decide(asked(), Claim(who, PEOPLE, LADDER), NOW)) in (
            "own-request",
            "not-an-approver",
        )
    story = after(asked(), escalation.decide(asked(), Claim("grace", PEOPLE, LADDER), NOW))
    assert escalation.decide(story, Claim("grace", PEOPLE, LADDER), NOW) == ()
    assert code(escalation.decide(story, Claim("linus", PEOPLE, LADDER), NOW)) == "claimed"
    left = PEOPLE | {"grace": replace(PEOPLE["grace"], active=False)}
    taken = after(story, escalation.decide(story, Claim("linus", left, LADDER), NOW))
    assert taken.request.claimed_by == "linus"
    assert not isinstance(access.decide(story, access.Approve("linus", PEOPLE, "G-1"), NOW), Refusal)


def test_what_is_said_stays_with_the_request_for_whoever_may_see_it() -> None:
    story = after(asked(), escalation.decide(asked(), Say("grace", " which table? ", True), NOW))
    assert [(c.by, c.text) for c in story.request.comments] == [("grace", "which table?")]
    assert code(escalation.decide(asked(), Say("zoe", "hm", False), NOW)) == "no-such-request"
    assert escalation.decide(asked(), Say("grace", "  ", True), NOW) == ()
    assert code(escalation.decide(asked(), Say("grace", "x" * 2001, True), NOW)) == "too-long"


# ------------------------------------------------------------- before the end


def test_the_holder_is_warned_once_before_the_end() -> None:
    story = after(asked(), access.decide(asked(), access.Approve("grace", PEOPLE, "G-1"), NOW))
    at = warn_at(story)
    assert at == NOW + 50 * MINUTE
    assert escalation.decide(story, Warn(), NOW + 49 * MINUTE) == ()
    warned = after(story, escalation.decide(story, Warn(), at))
    assert warn_at(warned) is None
    assert escalation.decide(warned, Warn(), at) == ()
    assert escalation.decide(story, Warn(), NOW + HOUR) == (), "over already"
