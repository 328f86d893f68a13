"""What a change of a story leaves for the pagers, in the transaction of that change."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import outbox
from broker.outbox import PAGE
from broker.store import pages
from workflows.model import GrantState, RequestState, Story


async def settle_all(tx: AsyncConnection, request_id: str, now: datetime) -> None:
    """Have every page of this request settled, in the caller's transaction."""
    for name in await pages.open_of(tx, request_id):
        await put(tx, request_id, name, now, settle=True)


async def put(
    tx: AsyncConnection, request_id: str, name: str, now: datetime, *, settle: bool = False
) -> None:
    """Leave a page, or its settling, to be sent. Those of one request and pager go out in their order."""
    body = json.dumps({"request": request_id, "pager": name, "settle": settle})
    await outbox.put(tx, PAGE, f"{request_id}:page:{name}"[:64], now, body)


def page_key(request_id: str) -> str:
    return f"portcullis-{request_id}"


def is_wanted(story: Story) -> bool:
    """Whether there is still something to be called for: a decision, or the end of an emergency."""
    if story.request.emergency is not None:
        return story.grant is not None and story.grant.state is not GrantState.ENDED
    return story.request.state is RequestState.PENDING
