"""Time and chance, passed in so that tests hold both in their hands."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U, so that an id survives being read aloud."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class Chance(Protocol):
    def token(self, nbytes: int) -> str:
        """A secret of `nbytes` random bytes, in URL-safe base 64 without padding."""
        ...

    def id(self, prefix: str, length: int = 6) -> str:
        """A name such as `R-7K3F9Q`: `prefix`, a dash and `length` characters of Crockford's base 32.

        Short ids can collide; whoever stores one makes sure that it is free.
        """
        ...


_wall = time.time
_running = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Seconds that the machine runs, asleep or not; nobody can set them."""


class SystemClock:
    """The machine's clock, except that it never goes back: where somebody sets it back, the time that the
    machine runs is counted on from before. So no grant lasts longer for it. A clock that was ahead and was
    put right is ahead here until the broker starts again.
    """

    def __init__(self) -> None:
        self._booted = _wall() - _running()

    def now(self) -> datetime:
        # In this order: a pause between the two looks must not pass for a step forward.
        wall = _wall()
        running = _running()
        self._booted = max(self._booted, wall - running)
        return datetime.fromtimestamp(self._booted + running, UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemChance:
    def token(self, nbytes: int) -> str:
        return secrets.token_urlsafe(nbytes)

    def id(self, prefix: str, length: int = 6) -> str:
        return f"{prefix}-" + "".join(secrets.choice(CROCKFORD) for _ in range(length))
