"""After the glass was broken: the review that is owed, and the reminders until it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from workflows.access import Decision, GrantEnded
from workflows.events import GlassReviewed, ReviewReminded
from workflows.model import (
    BreakGlass,
    EndReason,
    GrantState,
    Principal,
    PrincipalKind,
    Refusal,
    Story,
    Verdict,
)
from workflows.quorum import nearness

REMIND_EVERY = timedelta(hours=24)
"""How often an overdue review is asked for."""


@dataclass(frozen=True, slots=True)
class Review:
    """Somebody looked at what was done, as a member of one of the reviewers' groups."""

    by: str
    verdict: Verdict
    directory: Mapping[str, Principal]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Remind:
    """Time passed: ask again for a review that is owed."""


def owes_review(story: Story) -> bool:
    """Whether this emergency still has to be reviewed. Where no login could be made nothing was ever open,
    nor in a drill.
    """
    emergency = story.request.emergency
    failed = story.grant is not None and story.grant.end_reason is EndReason.FAILED
    return emergency is not None and emergency.verdict is None and not failed and not emergency.drill


def decide(story: Story, command: Review | Remind, now: datetime) -> Decision:
    """What follows from a review, or from time passing without one."""
    if isinstance(command, Remind):
        at = next_reminder(story)
        emergency = story.request.emergency
        return (ReviewReminded(emergency.reminded + 1, now),) if emergency and at and now >= at else ()
    return _review(story, command, now)


def may_review(story: Story, reviewer: Principal | None, directory: Mapping[str, Principal]) -> bool:
    """Whether this person, as known now, may review: never whoever did it, nor who is too near to them, nor
    an agent.
    """
    emergency = story.request.emergency
    return (
        emergency is not None
        and reviewer is not None
        and reviewer.active
        and reviewer.kind is PrincipalKind.PERSON
        and reviewer.id not in story.request.parties
        and not reviewer.groups.isdisjoint(emergency.reviewers)
        and not nearness(emergency.apart, reviewer, story.request.parties, directory)
    )


def may_not_review(story: Story, reviewer: str, directory: Mapping[str, Principal]) -> Refusal | None:
    """Why this person may not review an emergency; None where they may."""
    emergency = story.request.emergency
    if emergency is None:
        return Refusal("no-emergency", f"{story.request.id} is no emergency.", "There is nothing to review.")
    if reviewer in story.request.parties:
        return Refusal("own-request", "You cannot review your own emergency.", _reviewers(emergency))
    if not may_review(story, directory.get(reviewer), directory):
        why = f"You are not a reviewer of {story.request.id}."
        return Refusal("not-a-reviewer", why, _reviewers(emergency))
    return None


def _review(story: Story, command: Review, now: datetime) -> Decision:
    emergency, grant = story.request.emergency, story.grant
    if emergency is None or grant is None:
        return Refusal("no-emergency", f"{story.request.id} is no emergency.", "There is nothing to review.")
    if refusal := may_not_review(story, command.by, command.directory):
        return refusal
    if emergency.verdict is not None:
        if (emergency.reviewed_by, emergency.verdict) == (command.by, command.verdict):
            return ()
        by = f"{emergency.verdict} by {emergency.reviewed_by}"
        return Refusal("already-reviewed", f"{story.request.id} was found {by}.")
    live = grant.state is not GrantState.ENDED and now < grant.expiry
    if live and command.verdict is Verdict.JUSTIFIED:
        return Refusal(
            "still-open", f"{story.request.id} is still open; what comes yet would not be reviewed.",
            "End it (revoke), or review it after.",
        )  # fmt: skip
    if command.verdict is Verdict.NOT_JUSTIFIED and not command.note.strip():
        return Refusal("no-note", "Say why it was not justified.", "Add a note.")
    reviewed = GlassReviewed(command.by, command.verdict, command.note.strip(), now)
    if not live:
        return (reviewed,)
    return (GrantEnded(EndReason.REVOKED, command.by, now, "not justified"), reviewed)


def _reviewers(emergency: BreakGlass) -> str:
    shared = " or ".join(relation.name for relation in emergency.apart)
    near = f" and who shares their {shared}" if shared else ""
    return f"Who can: anyone of {' or '.join(emergency.reviewers)}, except whoever did it{near}."


def next_reminder(story: Story) -> datetime | None:
    """When a review is next asked for: half-way, when it is due, then every day."""
    emergency = story.request.emergency
    if emergency is None or not owes_review(story):
        return None
    if emergency.reminded == 0:
        return emergency.at + (emergency.review_due - emergency.at) / 2
    return emergency.review_due + (emergency.reminded - 1) * REMIND_EVERY
