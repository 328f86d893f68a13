"""From a wish to the dropped gate, decision by decision."""

from datetime import UTC, datetime, timedelta

import pytest

from workflows.access import (
    Approve,
    Cancel,
    ConfirmHold,
    Decision,
    Deny,
    Expire,
    FailGrant,
    Lapse,
    Release,
    RequestSubmitted,
    Revoke,
    Wish,
    begin,
    decide,
    evolve,
    submit,
)
from workflows.model import (
    EndReason,
    GrantState,
    Principal,
    PrincipalKind,
    Quorum,
    Refusal,
    RequestState,
    Resource,
    Role,
    Story,
)
from workflows.policy import Route, Rule
from workflows.quorum import missing

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROLE = Role("readonly", ("app_readonly",))
DIRECTORY = {
    "ada": Principal("ada", "Ada", "", frozenset({"engineers", "dba"})),
    "grace": Principal("grace", "Grace", "", frozenset({"dba"})),
    "linus": Principal("linus", "Linus", "", frozenset({"dba", "security"})),
    "mallory": Principal("mallory", "Mallory", "", frozenset({"engineers"})),
    "robot": Principal("robot", "Robot", "", frozenset({"dba"}), PrincipalKind.AGENT),
    "gone": Principal("gone", "Gone", "", frozenset({"dba"}), active=False),
}


def route(*quorum: Quorum) -> Route:
    rule = Rule(
        "engineers-read-prod",
        frozenset({"engineers"}),
        frozenset({"prod-db"}),
        ("readonly",),
        4 * HOUR,
        HOUR,
        quorum,
        8 * HOUR,
    )
    return Route(Resource("prod-db", "postgres", roles=(ROLE,)), ROLE, rule)


def asked(*quorum: Quorum) -> Story:
    decision = submit(route(*quorum), DIRECTORY["ada"], Wish("prod-db", reason="INC-1"), "R-1", "G-1", NOW)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], RequestSubmitted)
    story = begin(decision[0])
    for event in decision[1:]:
        story = evolve(story, event)
    return story


def after(story: Story, *commands: object, at: datetime = NOW) -> Story:
    for command in commands:
        decision = decide(story, command, at)
        assert not isinstance(decision, Refusal), decision
        for event in decision:
            story = evolve(story, event)
    return story


def yes(who: str) -> Approve:
    return Approve(who, DIRECTORY, f"G-{who}")


def code(decision: Decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


def test_one_approver_of_a_quorum_of_one_makes_the_grant() -> None:
    story = after(asked(Quorum("dba")), yes("grace"))
    assert story.request.state is RequestState.APPROVED
    assert story.grant is not None
    assert (story.grant.principal, story.grant.state) == ("ada", GrantState.MINTING)
    assert story.grant.expiry == NOW + HOUR


def test_a_second_approval_makes_no_second_grant() -> None:
    story = after(asked(Quorum("dba")), yes("grace"))
    assert code(decide(story, yes("linus"), NOW)) == "already-decided"
    assert decide(story, yes("grace"), NOW) == ()


@pytest.mark.parametrize("command", [yes("ada"), Deny("ada", DIRECTORY)])
def test_the_requester_decides_nothing_even_as_a_member_of_the_group(command: object) -> None:
    assert code(decide(asked(Quorum("dba")), command, NOW)) == "own-request"


@pytest.mark.parametrize("who", ["mallory", "robot", "gone", "nobody"])
def test_strangers_agents_and_people_who_left_decide_nothing(who: str) -> None:
    refusal = decide(asked(Quorum("dba")), yes(who), NOW)
    assert code(refusal) == "not-an-approver"
    assert "anyone of dba, except ada" in str(refusal)


def test_an_approver_who_left_since_no_longer_counts() -> None:
    story = after(asked(Quorum("dba", 2)), yes("grace"))
    now = DIRECTORY | {"grace": Principal("grace", "Grace", "", frozenset())}
    assert missing(story.request, now) == (Quorum("dba", 2),)
    assert after(story, Approve("linus", now, "G-2")).grant is None


def test_one_person_fills_one_seat_of_two_groups() -> None:
    story = after(asked(Quorum("dba"), Quorum("security")), yes("linus"))
    assert story.grant is None
    assert after(story, yes("grace")).grant is not None


def test_no_quorum_grants_at_once() -> None:
    assert asked().grant is not None


def test_a_request_of_somebody_who_left_cannot_be_approved() -> None:
    now = DIRECTORY | {"ada": Principal("ada", "Ada", "", active=False)}
    assert code(decide(asked(Quorum("dba")), Approve("grace", now, "G-1"), NOW)) == "requester-inactive"


def test_a_request_nobody_decides_lapses_and_cannot_be_approved_after() -> None:
    story = asked(Quorum("dba"))
    late = NOW + 8 * HOUR
    assert code(decide(story, yes("grace"), late)) == "lapsed"
    assert decide(story, Lapse(), late - timedelta(seconds=1)) == ()
    assert after(story, Lapse(), at=late).request.state is RequestState.LAPSED


def test_only_the_requester_cancels() -> None:
    assert code(decide(asked(Quorum("dba")), Cancel("grace"), NOW)) == "not-yours"
    story = after(asked(Quorum("dba")), Cancel("ada"))
    assert story.request.state is RequestState.CANCELLED
    assert code(decide(story, yes("grace"), NOW)) == "already-decided"


def test_the_gate_confirms_once_and_never_after_the_end() -> None:
    story = after(asked(Quorum("dba")), yes("grace"), ConfirmHold("gate"))
    assert story.grant is not None
    assert story.grant.state is GrantState.ACTIVE
    assert decide(story, ConfirmHold("other"), NOW) == ()
    ended = after(story, Expire(), at=NOW + HOUR)
    assert decide(ended, ConfirmHold("gate"), NOW + HOUR) == ()


def test_a_grant_ends_at_its_expiry_and_not_before() -> None:
    story = after(asked(Quorum("dba")), yes("grace"), ConfirmHold("gate"))
    assert decide(story, Expire(), NOW + HOUR - timedelta(seconds=1)) == ()
    grant = after(story, Expire(), at=NOW + HOUR).grant
    assert grant is not None
    assert grant.end_reason is EndReason.EXPIRED


def test_the_holder_releases_and_an_approver_revokes() -> None:
    story = after(asked(Quorum("dba")), yes("grace"), ConfirmHold("gate"))
    assert code(decide(story, Release("grace"), NOW)) == "not-yours"
    assert code(decide(story, Revoke("mallory", DIRECTORY), NOW)) == "not-an-approver"
    assert code(decide(story, Revoke("ada", DIRECTORY), NOW)) == "not-an-approver"
    for command in (Release("ada"), Revoke("linus", DIRECTORY, "left"), Revoke("olive", {}, "", True)):
        grant = after(story, command).grant
        assert grant is not None
        assert grant.state is GrantState.ENDED


def test_a_login_that_could_not_be_made_ends_the_grant_as_failed() -> None:
    story = after(asked(Quorum("dba")), yes("grace"), FailGrant("the target is away"))
    assert story.grant is not None
    assert (story.grant.end_reason, story.grant.end_note) == (EndReason.FAILED, "the target is away")
    assert decide(story, ConfirmHold("gate"), NOW) == ()


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Wish("prod-db", duration=timedelta(seconds=59), reason="x"), "too-short"),
        (Wish("prod-db", duration=-HOUR, reason="x"), "too-short"),
        (Wish("prod-db", duration=5 * HOUR, reason="x"), "too-long"),
        (Wish("prod-db", reason="  "), "no-reason"),
    ],
)
def test_a_wish_outside_its_rule_is_refused(wish: Wish, why: str) -> None:
    assert code(submit(route(Quorum("dba")), DIRECTORY["ada"], wish, "R-1", "G-1", NOW)) == why
