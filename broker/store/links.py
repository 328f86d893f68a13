"""Which Slack account is whose, as people have linked them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import slack_links as t


@dataclass(frozen=True, slots=True)
class SlackLink:
    """`email` and `slack_email` are what both sides had when it was linked; the latter is empty where Slack
    did not tell it. `how` is `login` (confirmed after a login) or `email` (the same verified address).
    """

    team: str
    slack_user: str
    principal: str
    email: str
    slack_email: str
    how: str
    linked_at: datetime


async def of_account(tx: AsyncConnection, team: str, user: str) -> SlackLink | None:
    row = (await tx.execute(select(t).where(t.c.team == team, t.c.slack_user == user))).first()
    return SlackLink(*row) if row else None


async def of_people(tx: AsyncConnection, people: Collection[str]) -> list[SlackLink]:
    """The links of these people, in every workspace, the newest first."""
    if not people:
        return []
    query = select(t).where(t.c.principal.in_(list(people))).order_by(t.c.linked_at.desc())
    return [SlackLink(*row) for row in await tx.execute(query)]


async def every(tx: AsyncConnection) -> list[SlackLink]:
    return [SlackLink(*row) for row in await tx.execute(select(t))]


async def add(tx: AsyncConnection, link: SlackLink) -> None:
    """Raises sqlalchemy.exc.IntegrityError where the account, or the person there, is linked already."""
    await tx.execute(insert(t).values(**{name: getattr(link, name) for name in SlackLink.__slots__}))


async def remove(tx: AsyncConnection, link: SlackLink) -> bool:
    """Take exactly this link out. False where it is not there any more."""
    same = (t.c.team == link.team) & (t.c.slack_user == link.slack_user) & (t.c.principal == link.principal)
    return (await tx.execute(delete(t).where(same, t.c.linked_at == link.linked_at))).rowcount == 1
