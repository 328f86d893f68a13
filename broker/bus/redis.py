"""The bus over Redis streams: every subscriber sees every key from when it subscribed on.

Publishing only queues; one task writes to Redis and comes back after Redis has been away. One task reads all
topics. What is lost meanwhile is lost, as a bus may: the receivers' own looks at the database make up for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker import metrics
from broker.bus import DEADLINES, GRANTS, OUTBOX
from broker.bus.in_process import MOST_WAITING, InProcessBus, push

TOPICS = (GRANTS, OUTBOX, DEADLINES)
PREFIX = "portcullis:bus:"
KEPT = 1000
"""Entries that a stream keeps, about: a reader that is further behind has lost them."""
BLOCK_SECONDS = 2.0
AGAIN_SECONDS = 0.2

log = structlog.get_logger(__name__)


class RedisBus:
    """`start` it before use. Own subscribers are reached through Redis too, like everybody else's."""

    def __init__(self, url: str) -> None:
        # A read blocks for BLOCK_SECONDS; redis-py's own time-out has to be longer than that.
        self._redis = Redis.from_url(url, socket_timeout=BLOCK_SECONDS + 5, decode_responses=True)
        self._local = InProcessBus()
        self._outgoing: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue(MOST_WAITING)
        self._seen: dict[Any, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises ConnectionError where Redis cannot be reached at the beginning."""
        try:
            await self._find_ends()
        except (RedisError, OSError) as error:
            raise ConnectionError(f"Redis cannot be reached ({type(error).__name__}).") from error
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    async def publish(self, topic: str, key: str) -> None:
        push(self._outgoing, (topic, key))

    def subscribe(self, topic: str) -> AsyncIterator[str]:
        return self._local.subscribe(topic)

    async def close(self) -> None:
        """Write what is queued if Redis takes it, then end every subscription."""
        if self._tasks:
            writer, reader = self._tasks
            push(self._outgoing, None)
            with suppress(TimeoutError):
                await asyncio.wait_for(writer, 1)
            reader.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
        await self._local.close()
        await self._redis.aclose()

    # ------------------------------------------------------------- inside

    async def _find_ends(self) -> None:
        """Where each stream ends now: reading goes on from there, through any number of reconnections."""
        for topic in TOPICS:
            last: Any = await self._redis.xrevrange(PREFIX + topic, count=1)
            self._seen[PREFIX + topic] = last[0][0] if last else "0-0"

    async def _write(self) -> None:
        while (item := await self._outgoing.get()) is not None:
            topic, key = item
            while True:
                try:
                    await self._redis.xadd(PREFIX + topic, {"key": key}, maxlen=KEPT, approximate=True)
                    break
                except (RedisError, OSError) as error:
                    await self._away(error)

    async def _read(self) -> None:
        while True:
            try:
                found: Any = await self._redis.xread(self._seen, count=500, block=int(BLOCK_SECONDS * 1000))
            except (RedisError, OSError) as error:
                await self._away(error)
                continue
            for stream, entries in _streams(found):
                for entry_id, fields in entries:
                    self._seen[stream] = entry_id
                    await self._local.publish(stream.removeprefix(PREFIX), fields.get("key", ""))

    async def _away(self, error: Exception) -> None:
        metrics.bus_failures.inc()
        log.warning("bus: Redis is away", problem=type(error).__name__)
        await asyncio.sleep(AGAIN_SECONDS)


def _streams(found: Any) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """What XREAD answered, in RESP2 (pairs) or RESP3 (a mapping of lists of pages)."""
    if isinstance(found, dict):
        return [(stream, [entry for page in pages for entry in page]) for stream, pages in found.items()]
    return found or []
