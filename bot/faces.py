"""From the service to what a card needs to know about people, groups and what was done."""

from __future__ import annotations

from bot.cards import Done, Faces
from broker.service import Service
from broker.store import sessions
from workflows.model import GrantState, RequestState, ReviewState, StatementReview, Story
from workflows.quorum import missing


async def faces_of(service: Service, story: Story, public_url: str) -> Faces:
    """How everybody and everything in this story is shown at this moment."""
    request, grant = story.request, story.grant
    config = service.config
    everyone = config.directory.everyone()
    people = {request.requester, request.closed_by, *(a.approver for a in request.approvals)}
    people |= {grant.ended_by} if grant else set()
    people.discard("")
    slack = {p: user for p in people if (user := config.directory.slack_user(p))}
    names = {p: found.name for p in people if (found := everyone.get(p))}
    resource = config.policy.resources.get(request.resource)
    ended = grant is not None and grant.state is GrantState.ENDED
    return Faces(
        slack=slack,
        names=names,
        groups=config.policy.groups,
        resource=resource.title if resource else "",
        missing=missing(request, everyone) if request.state is RequestState.PENDING else (),
        done=await done_of(service, story) if ended else None,
        public_url=public_url,
    )


def faces_of_review(service: Service, review: StatementReview, public_url: str) -> Faces:
    """The same for a held statement."""
    config = service.config
    everyone = config.directory.everyone()
    people = {review.requester, review.closed_by, *(a.approver for a in review.approvals)} - {""}
    return Faces(
        slack={p: user for p in people if (user := config.directory.slack_user(p))},
        names={p: found.name for p in people if (found := everyone.get(p))},
        groups=config.policy.groups,
        missing=missing(review, everyone) if review.state is ReviewState.PENDING else (),
        public_url=public_url,
    )


async def done_of(service: Service, story: Story) -> Done:
    """What was done in the sessions of this story, as far as they have been counted."""
    async with service.store.read() as tx:
        found = await sessions.newest(tx, key=story.request.id, limit=1000)
    return Done(
        sessions=len(found),
        open=sum(record.closed_at is None for record in found),
        statements=sum(record.statements for record in found),
        rows=sum(record.rows for record in found),
        refused=sum(record.refused for record in found),
    )
