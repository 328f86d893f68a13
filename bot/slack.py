"""Calls to Slack: a client that honours rate limits and never repeats a call by itself, and the kinds of no.

A call whose answer is lost may have been done. Repeating a post blindly would post twice, so the client
repeats only what Slack said it did not do (429); everything else is the courier's to find out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

TROUBLE = (SlackClientError, aiohttp.ClientError, TimeoutError, OSError)
"""What a call can raise when Slack does not do it, or does not say so."""

GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
"""The message is no longer ours to change: post another."""

NO_ENTRY = frozenset(
    {"channel_not_found", "not_in_channel", "is_archived", "restricted_action", "is_ext_shared"}
)
"""A channel cannot be posted to."""

NO_DM = frozenset(
    {"user_disabled", "user_not_found", "cannot_dm_bot", "messages_tab_disabled", "channel_not_found"}
)
"""A person cannot be written to."""

_CHANNEL_BURST, _CHANNEL_RATE = 4.0, 1.0  # chat.postMessage: about 1 a second a channel, bursts tolerated
_UPDATE_BURST, _UPDATE_RATE = 20.0, 0.8  # chat.update: tier 3, 50 a minute


def make_client(token: str, base_url: str, timeout: int = 10) -> AsyncWebClient:
    """`timeout` is seconds for one call."""
    handlers = [AsyncRateLimitErrorRetryHandler(max_retry_count=3)]
    return AsyncWebClient(token=token, base_url=base_url, timeout=timeout, retry_handlers=list(handlers))


def error_of(trouble: BaseException) -> str:
    """Slack's own word for what went wrong, or the kind of failure. Holds nothing private."""
    if isinstance(trouble, SlackApiError):
        try:
            return str(trouble.response["error"] or f"http_{trouble.response.status_code}")
        except (KeyError, TypeError, AttributeError):
            return "slack_error"
    return type(trouble).__name__


class Pace:
    """Waits before a call so that Slack's own limits are seldom met. `clock` gives real seconds: Slack's
    limits do not follow a clock of ours.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._buckets: dict[str, tuple[float, float]] = {}

    async def post(self, channel: str) -> None:
        await self._take(channel, _CHANNEL_BURST, _CHANNEL_RATE)

    async def update(self) -> bool:
        """Whether there was anything to wait for."""
        return await self._take("chat.update", _UPDATE_BURST, _UPDATE_RATE)

    def not_updated(self) -> None:
        """What `update` allowed was not done: another may do it."""
        if held := self._buckets.get("chat.update"):
            self._buckets["chat.update"] = (min(_UPDATE_BURST, held[0] + 1), held[1])

    async def _take(self, key: str, burst: float, rate: float) -> bool:
        """A bucket may go below nothing; who takes it there waits until it would be refilled."""
        now = self._clock()
        level, since = self._buckets.get(key, (burst, now))
        level = min(burst, level + (now - since) * rate) - 1
        self._buckets[key] = (level, now)
        if level < 0:
            await self._sleep(-level / rate)
        return level < 0
