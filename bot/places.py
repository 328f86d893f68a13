"""Putting one card where it belongs: post, find again, update, post anew.

Every method is safe to repeat. What went out under a call whose answer was lost is looked for by the
message's metadata before anything is posted again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.ledger import Ledger, Place
from bot.markup import uncoloured
from bot.shown import EVENT_TYPE, Card
from bot.slack import GONE, NO_ENTRY, Pace, error_of

_PAGES, _PAGE = 5, 200
_MOST_SKIPPED = 10
"""So many versions a card may be behind for the sake of fewer updates."""


class Overtaken(Exception):
    """While a card waited for Slack's allowance its story went on, and that left work of its own."""


class Places:
    def __init__(self, client: AsyncWebClient, ledger: Ledger, pace: Pace) -> None:
        self._client = client
        self._ledger = ledger
        self._pace = pace

    async def show(
        self,
        request_id: str,
        kind: str,
        channel: str,
        card: Card,
        version: int,
        *,
        force: bool = False,
        parent: Place | None = None,
        known: Mapping[str, Place] | None = None,
    ) -> Place:
        """Make the card of this kind stand in `channel`, in the thread of `parent` if given, and show
        `version`. `known` is what the ledger holds of the request, where it was just read.
        """
        place = (await self._ledger.of(request_id) if known is None else known).get(kind)
        if place is not None and place.channel != channel:
            place = None
        if place is not None and not place.ts:
            place = await self._found_again(request_id, kind, place, parent)
        if place is not None and (place.version != version or force):
            place = await self._update(request_id, kind, place, card, version, own_version=parent is not None)
        if place is None:
            place = await self._post(request_id, kind, channel, card, version, parent)
            if place.version != version:  # another posted it meanwhile, and showed an older state
                place = await self._update(request_id, kind, place, card, version) or place
        return place

    async def reply(
        self,
        request_id: str,
        kinds: list[str],
        parent: Place,
        text: str,
        version: int,
        *,
        loud: bool = False,
        known: Mapping[str, Place] | None = None,
    ) -> None:
        """Post one reply that stands for all of `kinds`, unless a lost answer hid that it was posted. A
        `loud` one is shown in the channel as well. `known` as in `show`.
        """
        known = await self._ledger.of(request_id) if known is None else known
        if all(known.get(kind, Place("")).ts for kind in kinds):
            return
        if any(kind in known for kind in kinds):
            found = await self._found_again(request_id, kinds[0], parent, parent)
            ts = found.ts if found else None
        else:
            await self._ledger.put(request_id, dict.fromkeys(kinds, Place(parent.channel)))
            ts = None
        if ts is None:
            await self._pace.post(parent.channel)
            posted = await self._client.chat_postMessage(
                channel=parent.channel,
                thread_ts=parent.ts,
                reply_broadcast=loud,
                text=text,
                metadata=_metadata(request_id, kinds[0], version),
                unfurl_links=False,
                unfurl_media=False,
            )
            ts = str(posted["ts"])
        await self._settle(request_id, dict.fromkeys(kinds, Place(parent.channel, ts, version)))

    async def is_shown(self, request_id: str, kind: str) -> bool:
        """Whether a message of this kind was posted."""
        return bool((await self._ledger.of(request_id)).get(kind, Place("")).ts)

    async def link(self, request_id: str, near: str) -> str:
        """The address in Slack of a request's card, the one in the channel `near` first; empty where there is
        none. Raises what Slack's client raises, but where it knows of no such message.
        """
        known = await self._ledger.of(request_id)
        cards = [place for kind, place in sorted(known.items()) if kind.startswith("card:") and place.ts]
        in_channels = [place for place in cards if not place.channel.startswith("D")]
        in_channels.sort(key=lambda place: place.channel != near)
        if not in_channels:
            return ""
        at = in_channels[0]
        try:
            found = await self._client.chat_getPermalink(channel=at.channel, message_ts=at.ts)
        except SlackApiError as error:
            if error_of(error) not in NO_ENTRY | GONE:
                raise
            return ""
        return str(found["permalink"])

    async def stands(self, place: Place) -> bool:
        """Whether the message is still there."""
        found = await self._client.conversations_history(
            channel=place.channel, latest=place.ts, oldest=place.ts, inclusive=True, limit=1
        )
        return any(message.get("ts") == place.ts for message in found["messages"])

    async def _post(
        self, request_id: str, kind: str, channel: str, card: Card, version: int, parent: Place | None
    ) -> Place:
        standing = await self._ledger.begin(request_id, kind, channel)
        if standing.ts:
            return standing
        await self._pace.post(channel)
        try:
            how: dict[str, Any] = {"unfurl_links": False, "unfurl_media": False}
            how |= {"thread_ts": parent.ts} if parent else {}
            posted = await self._put(self._client.chat_postMessage, channel, card, **how)
        except SlackApiError:
            # Slack said no, so nothing stands there and there is nothing to look for later.
            await self._ledger.forget(request_id, kind)
            raise
        place = Place(channel, str(posted["ts"]), version)
        return (await self._settle(request_id, {kind: place}))[kind]

    async def _put(self, call: Callable[..., Awaitable[Any]], channel: str, card: Card, **more: Any) -> Any:
        """Post or update a card. A Slack that does not take a coloured line gets a plain one: an emergency
        must not go unseen because of a colour.
        """
        common = {"channel": channel, "text": card.text, "metadata": card.metadata, **more}
        try:
            return await call(blocks=card.blocks, **common)
        except SlackApiError as error:
            if error_of(error) != "invalid_blocks" or not any(b["type"] == "alert" for b in card.blocks):
                raise
            return await call(blocks=[uncoloured(block) for block in card.blocks], **common)

    async def _settle(self, request_id: str, places: dict[str, Place]) -> dict[str, Place]:
        """Write down what was posted. Where another courier, who thought that we were dead, posted it as well
        and was first, ours is taken away again.
        """
        standing = await self._ledger.settle(request_id, places)
        kept = {place.ts for place in standing.values()}
        for place in {place for place in places.values() if place.ts not in kept}:
            await self._client.chat_delete(channel=place.channel, ts=place.ts)
        return standing

    async def _update(
        self, request_id: str, kind: str, place: Place, card: Card, version: int, *, own_version: bool = False
    ) -> Place | None:
        """The place with the card brought up to date; None where the message is gone. A card in a thread
        has its `own_version`, other than its story's. Raises Overtaken.
        """
        waited = await self._pace.update()
        if waited and not own_version and await self._is_overtaken(request_id, place, version):
            self._pace.not_updated()
            raise Overtaken
        try:
            await self._put(self._client.chat_update, place.channel, card, ts=place.ts)
        except SlackApiError as error:
            if error_of(error) in GONE:
                await self._ledger.forget(request_id, kind)
                return None
            raise
        shown = Place(place.channel, place.ts, version)
        await self._ledger.put(request_id, {kind: shown})
        return shown

    async def _is_overtaken(self, request_id: str, place: Place, version: int) -> bool:
        """Whether a newer state than `version` will be shown anyhow, so that this one need not be: in a rush
        one update then stands for several. Not for ever: nobody keeps a card from being true by changing it.
        """
        newest = await self._ledger.newest(request_id)
        return version < newest <= place.version + _MOST_SKIPPED

    async def _found_again(
        self, request_id: str, kind: str, place: Place, parent: Place | None
    ) -> Place | None:
        """Look for a message whose posting was never confirmed. Version 0, so that it is updated next."""
        cursor = ""
        look: Callable[..., Awaitable[Any]] = self._client.conversations_history
        where: dict[str, Any] = {"channel": place.channel, "include_all_metadata": True, "limit": _PAGE}
        if parent is not None:
            look, where = self._client.conversations_replies, where | {"ts": parent.ts}
        for _ in range(_PAGES):
            page = await look(**where, cursor=cursor or None)
            if ts := _with_place(page["messages"], request_id, kind):
                return Place(place.channel, ts)
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
        return None


def _metadata(request_id: str, place: str, version: int) -> dict[str, Any]:
    payload = {"request": request_id, "place": place, "version": version}
    return {"event_type": EVENT_TYPE, "event_payload": payload}


def _with_place(messages: list[dict[str, Any]], request_id: str, place: str) -> str | None:
    for message in messages:
        metadata = message.get("metadata") or {}
        payload = metadata.get("event_payload") or {}
        ours = metadata.get("event_type") == EVENT_TYPE
        if ours and payload.get("request") == request_id and payload.get("place") == place:
            return str(message["ts"])
    return None
