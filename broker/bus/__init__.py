"""A wake-up between processes. It may lose, repeat and reorder: receivers read the truth in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

GRANTS = "grants"
"""A grant changed; the key is its id."""
OUTBOX = "outbox"
"""There is work; the key is its kind."""
DEADLINES = "deadlines"
"""A deadline was set; the key is the request's id."""


class Bus(Protocol):
    async def publish(self, topic: str, key: str) -> None:
        """Tell every subscriber. Returns at once, raises nothing; what cannot be sent is lost."""
        ...

    def subscribe(self, topic: str) -> AsyncIterator[str]:
        """Every key published on `topic` from now on, until the iterator is closed."""
        ...

    async def close(self) -> None: ...
