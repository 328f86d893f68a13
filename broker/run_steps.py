"""What a submitted statement needs inside the reviews' transactions: its grant, and its one session."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import outbox
from broker.service import Service
from broker.store import reviews as table
from broker.store import stories
from broker.store.sessions import SessionRecord
from workflows import policy, run
from workflows.gate import HeldStatement
from workflows.model import Refusal, ReviewState, StatementReview, Story
from workflows.policy import Route
from workflows.quorum import missing
from workflows.review import Event, RunBound


def still_allowed(service: Service, review: StatementReview) -> Route | Refusal:
    """The rule that lets this person have that role now."""
    person = service.principal(review.requester)
    if person is not None:
        route = policy.route(service.policy, person, review.resource, review.role)
        if isinstance(route, Route):
            return route
    return Refusal(
        "policy-changed",
        f"The policy no longer gives {review.requester} {review.role} on {review.resource}.",
        "Deny it, or have it submitted again.",
    )


async def give_grant(
    tx: AsyncConnection, service: Service, review: StatementReview, route: Route, now: datetime
) -> tuple[Story, Event]:
    """Give an approved statement a grant of its own, and somebody the work to run it."""
    request_id = await stories.free_id(tx, service.chance, "R")
    grant_id = await stories.free_id(tx, service.chance, "G")
    events = run.grant_for(review, route, request_id, grant_id, now)
    story = await service._write(tx, None, events, review.requester, "system", now)
    await table.bind(tx, review.id, request_id=request_id)
    # The key is not the card's, so that the card goes on while it runs.
    await outbox.put(tx, outbox.RUN, f"{review.id}:run", now, review.id)
    return story, RunBound(grant_id)


async def fits(
    tx: AsyncConnection, service: Service, story: Story, session: SessionRecord, held: HeldStatement
) -> tuple[StatementReview, Event | None] | Refusal:
    """What is held under a grant of its own: the approved statement, to be bound to its session."""
    review = await table.lock(tx, story.request.statement)
    if review is None or review.grant_id != session.grant_id:
        return Refusal("no-such-review", "Nothing was approved under this grant.")
    if refusal := run.does_not_fit(review, held.statement.digest):
        return refusal
    if review.state is not ReviewState.APPROVED or review.session_id not in ("", session.id):
        return Refusal("not-approved", f"{review.id} is {review.state}.", "An approval is good for one run.")
    stricter = replace(review, quorum=held.quorum)
    if lacking := missing(stricter, service.config.directory.everyone()):
        asked = " and ".join(f"{q.needed} of {q.group}" for q in lacking)
        return Refusal(
            "more-approval",
            f"At the target the statement meets the rule {held.rule}, which asks for {asked} besides.",
            "Ask for access, and send it in a session: it is held there for them.",
        )
    if story.request.terms.steps_up(held.rule) and not all(a.proof for a in review.approvals if a.yes):
        return Refusal(
            "more-approval",
            f"At the target the statement meets the rule {held.rule}, whose approvers need a passkey.",
            "Ask for access, and send it in a session: it is held there for them.",
        )
    return review, None if review.session_id else RunBound(review.grant_id, session.id)
