"""A clock that tells the real time until a test moves it: for what compares with the system's own clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.clock import SystemClock


class Movable(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.moved = timedelta()

    def advance(self, **span: float) -> None:
        self.moved += timedelta(**span)

    def now(self) -> datetime:
        return super().now() + self.moved

    def monotonic(self) -> float:
        return super().monotonic() + self.moved.total_seconds()
