"""The bus of one process: a queue a subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")

MOST_WAITING = 10_000
"""Keys that a subscriber may leave unread; older ones are lost then, as a bus may."""


class InProcessBus:
    def __init__(self) -> None:
        self._queues: dict[str, set[asyncio.Queue[str | None]]] = {}
        self._closed = False

    async def publish(self, topic: str, key: str) -> None:
        for queue in self._queues.get(topic, ()):
            push(queue, key)

    def subscribe(self, topic: str) -> AsyncIterator[str]:
        """Counts from this call on, not from the first `anext`."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(MOST_WAITING)
        self._queues.setdefault(topic, set()).add(queue)
        if self._closed:
            push(queue, None)
        return Subscription(queue, self._queues[topic])

    async def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for queues in self._queues.values():
            for queue in queues:
                push(queue, None)


class Subscription:
    """The keys of one subscriber; it ends when the bus is closed or `aclose` is called."""

    def __init__(self, queue: asyncio.Queue[str | None], queues: set[asyncio.Queue[str | None]]) -> None:
        self._queue = queue
        self._queues = queues

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> str:
        key = await self._queue.get()
        if key is None:
            await self.aclose()
            raise StopAsyncIteration
        return key

    async def aclose(self) -> None:
        self._queues.discard(self._queue)


def push(queue: asyncio.Queue[T], key: T) -> None:
    """Add an item, at the cost of the oldest where the queue is full."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(key)
