"""The figures of a week, from stories."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker.statistics import figures
from workflows.model import (
    AccessRequest,
    Approval,
    EndReason,
    Grant,
    GrantState,
    Quorum,
    RequestState,
    Story,
    Terms,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)


def story(name: str, seconds: int | None, state: RequestState = RequestState.APPROVED) -> Story:
    """A request that somebody decided after so many seconds; nobody where there are none."""
    at = NOW + timedelta(seconds=seconds or 0)
    approvals = (Approval("grace", True, at),) if seconds is not None else ()
    request = AccessRequest(
        name, "ada", "prod-db", "readonly", HOUR, "x", "rule", (Quorum("dba"),), Terms(), NOW, NOW + HOUR,
        state, approvals, closed_at=at,
    )  # fmt: skip
    return Story(request)


def over(it: Story, reason: EndReason = EndReason.EXPIRED) -> Story:
    held = "" if reason is EndReason.FAILED else "gate-1"
    grant = Grant(
        f"G-{it.request.id}", it.request.id, "ada", "prod-db", "readonly", Terms(), NOW, NOW + HOUR,
        GrantState.ENDED, held, reason,
    )  # fmt: skip
    return replace(it, grant=grant)


def test_times_to_decide_are_the_median_and_the_95th_of_100() -> None:
    found = figures([story(f"R-{n}", 60 * n) for n in range(1, 101)], frozenset(), (), NOW, NOW + WEEK)
    assert (found.decided, found.usual) == (100, timedelta(minutes=50, seconds=30))
    assert found.slowest == timedelta(minutes=95)


def test_a_yes_within_seconds_is_counted_as_quick() -> None:
    found = figures([story("R-1", 2), story("R-2", 5), story("R-3", 90)], frozenset(), (), NOW, NOW + WEEK)
    assert len(found.quick) == 1


def test_access_without_a_session_is_unused_and_what_never_opened_is_not_counted() -> None:
    told = [over(story("R-1", 60)), over(story("R-2", 60)), over(story("R-3", 60), EndReason.FAILED)]
    found = figures(told, frozenset({"R-1"}), (), NOW, NOW + WEEK)
    assert (found.ended, len(found.unused)) == (2, 1)


def test_denied_and_lapsed_are_told_apart_and_nothing_is_no_figure() -> None:
    told = [story("R-1", None, RequestState.DENIED), story("R-2", None, RequestState.LAPSED)]
    found = figures(told, frozenset(), ("R-9",), NOW, NOW + WEEK)
    assert (found.asked, found.denied, len(found.lapsed), found.unreviewed) == (2, 1, 1, ("R-9",))
    assert (found.usual, found.slowest) == (None, None)
