"""From the service to what a card needs to know about people, groups and what was done."""

from __future__ import annotations

from datetime import timedelta

from bot.shown import Done, Faces, Sitting
from broker.config import Config
from broker.service import Service
from broker.store import sessions
from broker.store.sessions import SessionRecord
from workflows import break_glass, extension
from workflows.model import (
    GrantState,
    Quorum,
    RequestState,
    ReviewState,
    StatementReview,
    Story,
)
from workflows.policy import Route, route
from workflows.quorum import fills, has_a_say, missing

_MOST_SESSIONS = 1000


async def faces_of(service: Service, story: Story, public_url: str) -> Faces:
    """How everybody and everything in this story is shown at this moment."""
    request, grant = story.request, story.grant
    config = service.config
    everyone = config.directory.everyone()
    resource = config.policy.resources.get(request.resource)
    pending = request.state is RequestState.PENDING
    ended = grant is not None and grant.state is GrantState.ENDED
    found = await _sessions(service, story) if grant is not None and (ended or request.emergency) else []
    people = _people(story) | {record.killed_by for record in found} - {""}
    return Faces(
        slack=await service.slack_users(people),
        names={p: known.name for p in people if (known := everyone.get(p))},
        groups=config.policy.groups,
        resource=resource.title if resource else "",
        missing=missing(request, everyone) if pending else (),
        done=_done(found) if ended else None,
        public_url=public_url,
        short=short_seats(config, story) if pending else (),
        may_break=pending and _may_break(config, story),
        room=_room(config, story),
        sittings=tuple(_sitting(record) for record in reversed(found)) if request.emergency else (),
    )


async def faces_of_review(service: Service, review: StatementReview, public_url: str) -> Faces:
    """The same for a held statement."""
    config = service.config
    everyone = config.directory.everyone()
    people = {review.requester, review.closed_by, *(a.approver for a in review.approvals)} - {""}
    return Faces(
        slack=await service.slack_users(people),
        names={p: found.name for p in people if (found := everyone.get(p))},
        groups=config.policy.groups,
        missing=missing(review, everyone) if review.state is ReviewState.PENDING else (),
        public_url=public_url,
    )


def short_seats(config: Config, story: Story) -> tuple[Quorum, ...]:
    """The seats that cannot be filled, because too few people who could are there."""
    request, everyone = story.request, config.directory.everyone()
    able = [p for p in everyone.values() if has_a_say(request, p)]
    return tuple(q for q in request.quorum if sum(fills(q, p, request, everyone) for p in able) < q.needed)


def _people(story: Story) -> set[str]:
    """Everybody who is named on a card or in its thread."""
    request, grant = story.request, story.grant
    people = {*request.parties, request.closed_by, request.claimed_by}
    people |= {approval.approver for approval in request.approvals}
    people |= {comment.by for comment in request.comments}
    people |= {a.approver for wish in request.extensions for a in wish.approvals}
    if request.emergency:
        people |= {*request.emergency.skipped, *request.emergency.told, request.emergency.reviewed_by}
    if grant:
        people.add(grant.ended_by)
    return people - {""}


def _may_break(config: Config, story: Story) -> bool:
    person = config.directory.principal(story.request.holder)
    rules = break_glass.emergencies(config.policy, person, story.request.resource) if person else ()
    return bool(rules)


def _room(config: Config, story: Story) -> timedelta:
    """How much longer the grant may yet become, under the rule of today."""
    grant, person = story.grant, config.directory.principal(story.request.holder)
    if grant is None or grant.state is GrantState.ENDED or person is None:
        return timedelta()
    way = route(config.policy, person, grant.resource, grant.role)
    return extension.room(story, way.rule) if isinstance(way, Route) else timedelta()


async def _sessions(service: Service, story: Story) -> list[SessionRecord]:
    async with service.store.read() as tx:
        return await sessions.newest(tx, key=story.request.id, limit=_MOST_SESSIONS)


def _done(found: list[SessionRecord]) -> Done:
    """What was done in the sessions of a story, as far as they have been counted."""
    return Done(
        sessions=len(found),
        open=sum(record.closed_at is None for record in found),
        statements=sum(record.statements for record in found),
        rows=sum(record.rows for record in found),
        refused=sum(record.refused for record in found),
        ids=tuple(record.id for record in found),
    )


def _sitting(record: SessionRecord) -> Sitting:
    return Sitting(
        record.id,
        record.protocol,
        record.opened_at,
        record.closed_at,
        record.close_reason,
        record.statements,
        record.rows,
        record.refused,
        record.killed_by,
    )
