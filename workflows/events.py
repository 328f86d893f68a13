"""What can happen to a story besides asking, deciding and ending: the emergency, more time, and the waiting.

The decisions that lead to these are in break_glass.py, extension.py and escalation.py; `after` applies one.
workflows/access.py folds them together with its own events, so that one story has one line of versions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from workflows.model import (
    AccessRequest,
    Approval,
    Comment,
    Extension,
    ExtensionState,
    Grant,
    RequestState,
    Story,
    Terms,
    Verdict,
)

# ----------------------------------------------------------- the emergency


@dataclass(frozen=True, slots=True)
class GlassBroken:
    """Access was taken before anybody decided. `request` is the request as it is from now on."""

    request: AccessRequest
    grant: Grant


@dataclass(frozen=True, slots=True)
class GlassReviewed:
    by: str
    verdict: Verdict
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReviewReminded:
    """The `nth` reminder of a review that is owed."""

    nth: int
    at: datetime


# ------------------------------------------------------------ deciding less


@dataclass(frozen=True, slots=True)
class RequestNarrowed:
    """An approver made less of what was asked: never longer, never a wider role."""

    by: str
    role: str
    terms: Terms
    duration: timedelta
    at: datetime


# --------------------------------------------------------------- more time


@dataclass(frozen=True, slots=True)
class ExtensionAsked:
    extension: Extension


@dataclass(frozen=True, slots=True)
class ExtensionApproved:
    """One yes to the extension that waits."""

    approval: Approval


@dataclass(frozen=True, slots=True)
class ExtensionDenied:
    approval: Approval


@dataclass(frozen=True, slots=True)
class GrantExtended:
    expiry: datetime
    span: timedelta
    at: datetime


@dataclass(frozen=True, slots=True)
class EndWarned:
    """The holder is told that the end is near."""

    at: datetime


# --------------------------------------------------------------- the waiting


@dataclass(frozen=True, slots=True)
class StepTaken:
    """Step `nth` (from 1) of the ladder: `what` was done towards `target`."""

    nth: int
    what: str
    target: str
    at: datetime


@dataclass(frozen=True, slots=True)
class QuorumWidened:
    """Members of `group` may decide too from now on."""

    group: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RequestClaimed:
    """An approver says “looking”: the ladder waits."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ApproversNudged:
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Commented:
    comment: Comment


Later = (
    GlassBroken
    | GlassReviewed
    | ReviewReminded
    | RequestNarrowed
    | ExtensionAsked
    | ExtensionApproved
    | ExtensionDenied
    | GrantExtended
    | EndWarned
    | StepTaken
    | QuorumWidened
    | RequestClaimed
    | ApproversNudged
    | Commented
)


def after(story: Story, event: Later) -> Story:
    """The story with `event` in it, at the same version; the story itself where the event does not fit it."""
    request, grant = story.request, story.grant
    match event:
        case GlassBroken(broken, minted):
            request = replace(broken, state=RequestState.APPROVED, closed_at=minted.not_before)
            grant = minted
        case GlassReviewed(by, verdict, note, at) if request.emergency:
            reviewed = replace(
                request.emergency, verdict=verdict, reviewed_by=by, reviewed_at=at, review_note=note
            )
            request = replace(request, emergency=reviewed)
        case ReviewReminded(nth, _) if request.emergency:
            request = replace(request, emergency=replace(request.emergency, reminded=nth))
        case RequestNarrowed(_, role, terms, duration, _):
            request = replace(request, role=role, terms=terms, duration=duration)
        case ExtensionAsked(extension):
            request = replace(request, extensions=(*request.extensions, extension))
        case ExtensionApproved(approval) if request.extensions:
            request = _last(request, approvals=(*request.extensions[-1].approvals, approval))
        case ExtensionDenied(approval) if request.extensions:
            approvals = (*request.extensions[-1].approvals, approval)
            state = ExtensionState.DENIED
            request = _last(request, approvals=approvals, state=state, decided_at=approval.at)
        case GrantExtended(expiry, _, at) if grant and request.extensions:
            request = _last(request, state=ExtensionState.GRANTED, decided_at=at)
            request, grant = replace(request, warned=False), replace(grant, expiry=expiry)
        case EndWarned():
            request = replace(request, warned=True)
        case StepTaken(nth, _, _, _):
            request = replace(request, steps=nth)
        case QuorumWidened(group, _):
            wider = (replace(quorum, also=(*quorum.also, group)) for quorum in request.quorum)
            request = replace(request, quorum=tuple(wider))
        case RequestClaimed(by, at):
            request = replace(request, claimed_by=by, claimed_at=at)
        case ApproversNudged(_, at):
            request = replace(request, nudged_at=at)
        case Commented(comment):
            request = replace(request, comments=(*request.comments, comment))
        case _:
            return story
    return Story(request, grant, story.version)


def _last(request: AccessRequest, **changes: object) -> AccessRequest:
    """The request with its newest extension changed."""
    *before, last = request.extensions
    return replace(request, extensions=(*before, replace(last, **changes)))  # type: ignore[arg-type]
