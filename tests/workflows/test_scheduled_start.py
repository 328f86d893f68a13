"""Access that begins later: decided now, open only from then on, and for its whole time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workflows import access
from workflows.access import Approve, Decision, Wish
from workflows.model import Principal, Quorum, Refusal, Resource, Role, Story
from workflows.policy import Route, Rule

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROLE = Role("readonly", ("r",))
RULE = Rule(
    "read", frozenset({"engineers"}), frozenset({"prod-db"}), ("readonly",), 4 * HOUR, HOUR,
    (Quorum("dba"),), 8 * HOUR,
)  # fmt: skip
WAY = Route(Resource("prod-db", "postgres", roles=(ROLE,)), ROLE, RULE)
PEOPLE = {
    "ada": Principal("ada", "Ada", "", frozenset({"engineers"})),
    "grace": Principal("grace", "Grace", "", frozenset({"dba"})),
}


def ask(starts_at: datetime | None) -> Decision:
    return access.submit(WAY, PEOPLE["ada"], Wish("prod-db", "", HOUR, "x", starts_at), "R-1", "G-0", NOW)


def granted(starts_at: datetime | None, at: datetime) -> Story:
    decision = ask(starts_at)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    story = access.begin(decision[0])
    decision = access.decide(story, Approve("grace", PEOPLE, "G-1"), at)
    assert not isinstance(decision, Refusal)
    for event in decision:
        story = access.evolve(story, event)
    return story


def test_a_grant_that_begins_later_is_closed_until_then_and_lasts_its_whole_time() -> None:
    story = granted(NOW + 6 * HOUR, NOW + HOUR)
    assert story.grant is not None
    assert (story.grant.not_before, story.grant.expiry) == (NOW + 6 * HOUR, NOW + 7 * HOUR)
    assert story.request.closed_at == NOW + HOUR
    assert not story.grant.live(NOW + 6 * HOUR - timedelta(seconds=1))
    assert story.grant.live(NOW + 6 * HOUR)


def test_a_yes_after_the_beginning_opens_at_once_and_for_the_whole_time() -> None:
    grant = granted(NOW + HOUR, NOW + 2 * HOUR).grant
    assert grant is not None
    assert (grant.not_before, grant.expiry) == (NOW + 2 * HOUR, NOW + 3 * HOUR)


@pytest.mark.parametrize("off", [-2 * HOUR, timedelta(seconds=-61), timedelta(days=30, seconds=1)])
def test_a_beginning_in_the_past_or_too_far_ahead_is_refused(off: timedelta) -> None:
    decision = ask(NOW + off)
    assert isinstance(decision, Refusal)
    assert decision.code == "bad-start"


def test_it_may_be_given_back_before_it_begins() -> None:
    story = granted(NOW + 6 * HOUR, NOW)
    assert access.decide(story, access.Release("ada"), NOW) != ()
    assert access.decide(story, access.Expire(), NOW + HOUR) == ()
