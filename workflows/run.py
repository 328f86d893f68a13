"""A statement submitted in chat: who must agree to it, and the grant of its own that it runs under. Pure.

The grant opens nothing but the gate for these very bytes: every statement under it is held, and the broker
lets go only the one that was approved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from workflows.access import RequestApproved, RequestSubmitted
from workflows.model import (
    AccessRequest,
    Action,
    Grant,
    Guardrail,
    Quorum,
    Refusal,
    RequestState,
    StatementReview,
    Terms,
)
from workflows.policy import Route, spell

RUN_FOR = timedelta(minutes=5)
"""How long a statement has from its approval to its end."""
MAX_BYTES = 65536
"""Of a submitted statement, in UTF-8."""


def quorum_for(*asked: Iterable[Quorum]) -> tuple[Quorum, ...]:
    """All that is asked for, each group once with the greatest number."""
    most: dict[str, Quorum] = {}
    for quorum in (q for some in asked for q in some):
        known = most.get(quorum.group)
        if known is None or known.needed < quorum.needed:
            most[quorum.group] = quorum
    return tuple(most.values())


def check(route: Route, text: str, reason: str, *, holds: bool) -> Refusal | None:
    """Why this cannot be put before anybody; `holds` says that the asker has the role already."""
    if not text.strip():
        return Refusal("no-statement", "There is no statement.", f'Say: run {route.resource.name} "SELECT 1"')
    if "\0" in text or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Refusal(
            "bad-statement", f"A statement has at most {MAX_BYTES:,} bytes, and no NUL.", "Part it."
        )
    if route.rule.reason_required and not holds and not reason.strip():
        return Refusal(
            "no-reason",
            f"Rule {route.rule.name} wants a reason.",
            "Add one: because INC-142 checkout is slow.",
        )
    return None


def terms_for(terms: Terms, review_id: str) -> Terms:
    """The role's terms, with every statement held. The role's guardrails refuse what they refuse."""
    everything = Guardrail(f"run {review_id}", Action.HOLD, hold_for=RUN_FOR)
    return replace(
        terms,
        max_sessions=1,
        guardrails=(*terms.guardrails, everything),
        hold_commit=None,  # what it writes is what was approved
        hold_all=everything,
    )


def grant_for(
    review: StatementReview, route: Route, request_id: str, grant_id: str, now: datetime
) -> tuple[RequestSubmitted, RequestApproved]:
    """The events that give an approved statement a grant of its own."""
    span = min(RUN_FOR, route.rule.longest)
    request = AccessRequest(
        id=request_id,
        requester=review.requester,
        resource=review.resource,
        role=review.role,
        duration=span,
        reason=review.reason,
        rule=route.rule.name,
        quorum=review.quorum,
        terms=terms_for(route.role.terms, review.id),
        created_at=now,
        lapses_at=now + span,
        state=RequestState.PENDING,
        approvals=review.approvals,
        statement=review.id,
        step_up=review.step_up,
        owner=review.owner,
    )
    grant = Grant(
        id=grant_id,
        request_id=request_id,
        principal=review.requester,
        resource=review.resource,
        role=review.role,
        terms=request.terms,
        not_before=now,
        expiry=now + span,
    )
    return RequestSubmitted(request), RequestApproved(grant, now)


def does_not_fit(review: StatementReview, digest: str) -> Refusal | None:
    """Why a statement under a grant of its own may not run; None where it is the one that was approved."""
    if digest != review.statement.digest:
        return Refusal(
            "not-what-was-approved",
            f"This is not the statement that {review.id} is about.",
            f"The grant is good for that one only, and for {spell(RUN_FOR)}.",
        )
    return None
