"""More time, and less than was asked: never beyond the rule, never wider than the wish."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import access, extension
from workflows.access import ApproveForLess, Decision
from workflows.extension import ApproveExtension, DenyExtension, Extend
from workflows.model import (
    AccessRequest,
    Action,
    ExtensionState,
    Guardrail,
    Mask,
    Principal,
    Quorum,
    Refusal,
    Role,
    Story,
    Terms,
)
from workflows.policy import Rule

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RULE = Rule(
    "read", frozenset({"engineers"}), frozenset({"prod-db"}), ("readonly",), 2 * HOUR, HOUR,
    (Quorum("dba"),), 8 * HOUR, longest_total=4 * HOUR, extend_freely=30 * MINUTE,
)  # fmt: skip
PEOPLE = {
    name: Principal(name, name, "", frozenset(groups))
    for name, groups in {"ada": ("dba",), "grace": ("dba",), "linus": ("dba",), "zoe": ()}.items()
}
MASK = Mask("public.users", "email", "email")
WIDE = Terms((MASK,), 10, (Guardrail("hold-writes", Action.HOLD),))


def asked(quorum: tuple[Quorum, ...] = (Quorum("dba"),)) -> Story:
    return Story(
        AccessRequest(
            "R-1", "ada", "prod-db", "readwrite", HOUR, "INC-1", "read", quorum, WIDE, NOW, NOW + 8 * HOUR
        ),
        None,
        1,
    )


def held() -> Story:
    return after(asked(), access.decide(asked(), access.Approve("grace", PEOPLE, "G-1"), NOW))


def after(story: Story, decision: Decision) -> Story:
    assert not isinstance(decision, Refusal), decision
    for event in decision:
        story = access.evolve(story, event)
    return story


def code(decision: Decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


def more(story: Story, span: timedelta, at: datetime = NOW, who: str = "ada", rule: Rule = RULE) -> Decision:
    return extension.decide(story, Extend(who, span, rule), at)


def expiry(story: Story) -> timedelta:
    assert story.grant is not None
    return story.grant.expiry - NOW


# --------------------------------------------------------------- more time


def test_what_the_rule_gives_freely_is_given_at_once_and_not_twice() -> None:
    story = after(held(), more(held(), 20 * MINUTE))
    assert expiry(story) == HOUR + 20 * MINUTE
    story = after(story, more(story, 20 * MINUTE))
    assert expiry(story) == HOUR + 20 * MINUTE, "40 minutes are more than the 30 that are free"
    assert extension.waiting(story, NOW) is not None


def test_beyond_that_the_quorum_decides_again_and_the_first_yes_does_not_count() -> None:
    story = after(held(), more(held(), HOUR))
    assert expiry(story) == HOUR
    assert code(extension.decide(story, ApproveExtension("ada", PEOPLE, RULE), NOW)) == "own-request"
    assert code(extension.decide(story, ApproveExtension("zoe", PEOPLE, RULE), NOW)) == "not-an-approver"
    story = after(story, extension.decide(story, ApproveExtension("linus", PEOPLE, RULE), NOW))
    assert expiry(story) == 2 * HOUR
    assert extension.decide(story, ApproveExtension("linus", PEOPLE, RULE), NOW) == ()
    assert code(extension.decide(story, ApproveExtension("grace", PEOPLE, RULE), NOW)) == "nothing-waits"


def test_a_quorum_of_two_wants_two_for_the_extension_as_well() -> None:
    story = asked((Quorum("dba", 2),))
    for who in ("grace", "linus"):
        story = after(story, access.decide(story, access.Approve(who, PEOPLE, "G-1"), NOW))
    story = after(story, more(story, HOUR))
    for who in ("grace", "grace"):
        story = after(story, extension.decide(story, ApproveExtension(who, PEOPLE, RULE), NOW))
        assert expiry(story) == HOUR
    story = after(story, extension.decide(story, ApproveExtension("linus", PEOPLE, RULE), NOW))
    assert expiry(story) == 2 * HOUR


def test_no_chain_of_extensions_goes_beyond_the_total() -> None:
    assert code(more(held(), 3 * HOUR + MINUTE)) == "too-long"
    plain = replace(RULE, longest_total=None)
    assert code(more(held(), HOUR + MINUTE, rule=plain)) == "too-long"
    story = after(held(), more(held(), 3 * HOUR))
    smaller = replace(RULE, longest_total=2 * HOUR)
    refusal = extension.decide(story, ApproveExtension("grace", PEOPLE, smaller), NOW)
    assert code(refusal) == "too-long", "the rule of today holds at the click"


def test_only_the_holder_of_a_live_grant_extends_it() -> None:
    assert code(more(held(), MINUTE, who="grace")) == "not-yours"
    assert code(more(held(), MINUTE, NOW + HOUR)) == "grant-over"
    assert code(more(asked(), MINUTE)) == "no-grant"
    ended = after(held(), access.decide(held(), access.Release("ada"), NOW))
    assert code(more(ended, MINUTE)) == "grant-over"
    for span in (timedelta(), -HOUR, timedelta(seconds=59)):
        assert code(more(held(), span)) == "too-short"


def test_an_extension_nobody_decided_by_the_end_of_the_grant_is_a_no() -> None:
    story = after(held(), more(held(), HOUR))
    late = extension.decide(story, ApproveExtension("linus", PEOPLE, RULE), NOW + HOUR)
    assert code(late) == "nothing-waits"


def test_a_no_to_more_time_leaves_the_grant_as_it_is_and_it_may_be_asked_again() -> None:
    story = after(held(), more(held(), HOUR))
    story = after(story, extension.decide(story, DenyExtension("grace", PEOPLE), NOW))
    assert story.request.extensions[-1].state is ExtensionState.DENIED
    assert expiry(story) == HOUR
    assert extension.decide(story, DenyExtension("grace", PEOPLE), NOW) == ()
    assert code(extension.decide(story, ApproveExtension("linus", PEOPLE, RULE), NOW)) == "nothing-waits"
    again = after(story, more(story, 2 * HOUR))
    assert after(again, extension.decide(again, ApproveExtension("grace", PEOPLE, RULE), NOW)).grant


def test_asking_twice_asks_once() -> None:
    story = after(held(), more(held(), HOUR))
    assert more(story, HOUR) == ()
    assert code(more(story, 2 * HOUR)) == "already-asked"


def test_a_holder_who_left_gets_no_more_time() -> None:
    story = after(held(), more(held(), HOUR))
    gone = PEOPLE | {"ada": replace(PEOPLE["ada"], active=False)}
    assert code(extension.decide(story, ApproveExtension("grace", gone, RULE), NOW)) == "requester-inactive"


presses = st.lists(
    st.tuples(
        st.sampled_from(["extend", "approve", "deny", "expire", "release"]),
        st.sampled_from(["ada", "grace", "linus", "zoe"]),
        st.integers(1, 240),
        st.sampled_from([0, 0, 5, 30, 61]),
    ),
    max_size=30,
)


@given(presses)
def test_however_it_is_pressed_the_total_holds_and_what_ended_stays_ended(
    sequence: list[tuple[str, str, int, int]],
) -> None:
    story, now = held(), NOW
    for verb, who, minutes, wait in sequence:
        now += wait * MINUTE
        before = story
        command: extension.Command | access.Command
        if verb in ("expire", "release"):
            command = access.Expire() if verb == "expire" else access.Release(who)
            decision = access.decide(story, command, now)
        else:
            decision = extension.decide(
                story,
                {
                    "extend": Extend(who, minutes * MINUTE, RULE),
                    "approve": ApproveExtension(who, PEOPLE, RULE),
                    "deny": DenyExtension(who, PEOPLE),
                }[verb],
                now,
            )
        if not isinstance(decision, Refusal):
            story = after(story, decision)
            assert story.version == before.version + len(decision)
        assert expiry(story) <= RULE.total
        assert before.grant is not None
        assert story.grant is not None
        if before.grant.end_reason or now >= before.grant.expiry:
            assert story.grant.expiry == before.grant.expiry
        unasked = extension.freely_used(story.request)
        assert unasked <= RULE.extend_freely
        assert all(a.approver not in ("ada", "zoe") for e in story.request.extensions for a in e.approvals)


# -------------------------------------------------------------- less time

PART = Role("readonly", ("r",), Terms((), 20), within=("readwrite",))


def less(
    duration: timedelta | None = None,
    role: Role | None = None,
    who: str = "grace",
    story: Story | None = None,
) -> Decision:
    return access.decide(story or asked(), ApproveForLess(who, PEOPLE, "G-1", duration, role), NOW)


def test_an_approver_gives_less_time_and_a_narrower_role() -> None:
    story = after(asked(), less(20 * MINUTE, PART))
    assert story.grant is not None
    assert (story.grant.role, expiry(story)) == ("readonly", 20 * MINUTE)
    assert story.request.role == "readonly"


def test_the_narrower_role_shows_and_allows_nothing_that_the_asked_one_would_not() -> None:
    terms = after(asked(), less(role=PART)).request.terms
    assert terms.masks == (MASK,)
    assert terms.max_sessions == 10
    assert terms.guardrails == WIDE.guardrails


@pytest.mark.parametrize("role", [Role("admin", ("a",)), replace(PART, within=("other",))])
def test_a_role_that_is_no_part_of_the_asked_one_is_not_given(role: Role) -> None:
    assert code(less(role=role)) == "not-less"


@pytest.mark.parametrize("span", [HOUR + timedelta(seconds=1), timedelta(), -HOUR])
def test_more_time_than_asked_is_not_given(span: timedelta) -> None:
    assert code(less(span)) == "not-less"


def test_who_may_not_decide_gives_nothing_at_all() -> None:
    assert code(less(MINUTE, who="ada")) == "own-request"
    assert code(less(MINUTE, who="zoe")) == "not-an-approver"
    assert code(less(MINUTE, who="linus", story=held())) == "already-decided"


def test_the_least_of_what_a_quorum_gives_is_given() -> None:
    story = asked((Quorum("dba", 2),))
    story = after(story, less(20 * MINUTE, story=story))
    assert code(less(30 * MINUTE, who="linus", story=story)) == "not-less"
    story = after(story, access.decide(story, access.Approve("linus", PEOPLE, "G-1"), NOW))
    assert expiry(story) == 20 * MINUTE


def test_the_whole_is_a_plain_yes() -> None:
    story = after(asked(), less(HOUR))
    assert story == held()
