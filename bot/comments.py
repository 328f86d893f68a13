"""What people write in the thread of a card is kept with the request, and shown in its other threads.

Only whoever may see the request writes into it; what anybody else says there is left alone, unanswered.
"""

from __future__ import annotations

from bot.desk import Body, Desk, key_of, log, team_of
from bot.ledger import Place, said_kind
from bot.markup import MAX_REASON
from workflows.model import Refusal
from workflows.words import from_slack, without_mentions


async def written(desk: Desk, body: Body) -> None:
    """A message was posted in a channel that the bot is in."""
    event = body.get("event") or {}
    thread, user = str(event.get("thread_ts") or ""), str(event.get("user") or "")
    ours = event.get("bot_id") or event.get("subtype") not in (None, "thread_broadcast")
    if ours or not thread or not user or thread == event.get("ts"):
        return
    channel = str(event.get("channel") or "")
    request_id = await desk.ledger.request_at(channel, thread)
    if request_id is None or not request_id.startswith("R-") or not await desk.ledger.first(key_of(body)):
        return
    person = await desk.people.identify(team_of(body), user)
    story = await desk.service.story(request_id)
    if isinstance(person, Refusal) or story is None or not desk.service.takes_part(story, person.id):
        return
    text = " ".join(without_mentions(from_slack(str(event.get("text") or ""))).split())[:MAX_REASON]
    if not text:
        return
    here = Place(channel, str(event.get("ts")), story.version)
    await desk.ledger.put(request_id, {said_kind(person.id, text): here})
    result = await desk.service.comment(request_id, person.id, text, via="slack", dedupe=key_of(body))
    if isinstance(result, Refusal):
        log.info("comment_not_kept", request=request_id, code=result.code)
