"""Values to canonical JSON and back: sorted keys, no white space, UTF-8; equal values are equal bytes."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from workflows import access, events
from workflows.access import Event
from workflows.model import Story

T = TypeVar("T")

EVENT_KINDS: dict[str, type[Event]] = {
    "request.submitted": access.RequestSubmitted,
    "approval.given": access.ApprovalGiven,
    "request.approved": access.RequestApproved,
    "request.denied": access.RequestDenied,
    "request.cancelled": access.RequestCancelled,
    "request.lapsed": access.RequestLapsed,
    "grant.held": access.GrantHeld,
    "grant.ended": access.GrantEnded,
    "glass.broken": events.GlassBroken,
    "glass.reviewed": events.GlassReviewed,
    "glass.review_reminded": events.ReviewReminded,
    "request.narrowed": events.RequestNarrowed,
    "request.claimed": events.RequestClaimed,
    "request.nudged": events.ApproversNudged,
    "request.commented": events.Commented,
    "request.step_taken": events.StepTaken,
    "request.quorum_widened": events.QuorumWidened,
    "extension.asked": events.ExtensionAsked,
    "extension.approved": events.ExtensionApproved,
    "extension.denied": events.ExtensionDenied,
    "grant.extended": events.GrantExtended,
    "grant.end_warned": events.EndWarned,
}
"""How the audit trail names the events of a story."""

_KIND_OF = {event: kind for kind, event in EVENT_KINDS.items()}


def encode(value: object) -> str:
    """Canonical JSON of a value of the model."""
    return msgspec.json.encode(value, order="sorted").decode()


def decode(text: str, as_type: type[T]) -> T:
    """The value again. Raises msgspec.ValidationError where the text does not fit the type."""
    return msgspec.json.decode(text, type=as_type)


def kind_of(event: Event) -> str:
    return _KIND_OF[type(event)]


def decode_event(kind: str, body: str) -> Event | None:
    """The event of a story that an audit entry tells, None for entries of other kinds."""
    as_type = EVENT_KINDS.get(kind)
    return decode(body, as_type) if as_type else None


def fold(entries: list[tuple[str, str]]) -> Story | None:
    """The story that the audit trail tells: `entries` are (kind, body) in their order."""
    story: Story | None = None
    for kind, body in entries:
        event = decode_event(kind, body)
        if isinstance(event, access.RequestSubmitted):
            story = access.begin(event)
        elif event is not None and story is not None:
            story = access.evolve(story, event)
    return story
