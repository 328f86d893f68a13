"""How far an agent may go: so many requests in an hour, and none for longer than its limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.config import AgentRule
from broker.store.tables import reviews, stories
from workflows.access import Wish
from workflows.model import Refusal
from workflows.policy import spell

HOUR = timedelta(hours=1)


async def over_limit(
    tx: AsyncConnection, rule: AgentRule | None, now: datetime, duration: timedelta | None = None
) -> Refusal | None:
    """Why an agent may not ask for this now; None for a person, and where it may. `duration` None: the usual
    one, which the rule that fits bounds.
    """
    if rule is None:
        return None
    if rule.longest is not None and duration is not None and duration > rule.longest:
        return Refusal(
            "too-long", f"{rule.name} may have access for at most {spell(rule.longest)}.", "Ask for less."
        )
    since = now - HOUR
    # In the documents a text has its quotes escaped, so that no reason can look like one of these fields.
    asked = (
        select(func.count())
        .select_from(stories)
        .where(stories.c.requester == rule.name, stories.c.created_at > since)
        .where(stories.c.request.not_like('%"statement":"V-%'))
    )
    sent = (
        select(func.count())
        .select_from(reviews)
        .where(reviews.c.requester == rule.name, reviews.c.created_at > since)
        .where(reviews.c.review.like('%"submitted":true%'))
    )
    count = int((await tx.execute(asked)).scalar_one()) + int((await tx.execute(sent)).scalar_one())
    if count < rule.requests_per_hour:
        return None
    return Refusal(
        "too-many-requests",
        f"{rule.name} has asked {count} times in an hour, as often as it may.",
        "Wait, or have its owner raise requests_per_hour in the policy.",
    )


def for_agent(rule: AgentRule | None, wish: Wish, usual: timedelta) -> Wish:
    """The wish of an agent that named no span, within its limit."""
    if rule is None or rule.longest is None or wish.duration is not None:
        return wish
    return replace(wish, duration=min(usual, rule.longest))
