"""Rate limits: a bucket a method (its tier) and a bucket a channel (about one message a second, with bursts).

Source: docs.slack.dev/apis/web-api/rate-limits. Measured on a clock of its own, since Slack's limits run in
real time even where the workspace's clock is a test's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .errors import SlackError

TIER_PER_MINUTE = {1: 1, 2: 20, 3: 50, 4: 100}
CHANNEL_BURST = 10
CHANNEL_PER_SECOND = 1.0
WORKSPACE_POSTS_PER_MINUTE = 300


class Limits:
    """`take` spends one call or raises `ratelimited` with the seconds to wait."""

    def __init__(self, clock: Callable[[], float], enabled: bool = True) -> None:
        self.clock = clock
        self.enabled = enabled
        self._buckets: dict[str, tuple[float, float]] = {}

    def _take(self, key: str, capacity: float, per_second: float) -> None:
        now = self.clock()
        level, since = self._buckets.get(key, (capacity, now))
        level = min(capacity, level + (now - since) * per_second)
        if level < 1:
            self._buckets[key] = (level, now)
            raise rate_limited(math.ceil((1 - level) / per_second))
        self._buckets[key] = (level - 1, now)

    def call(self, method: str, tier: int | None) -> None:
        if self.enabled and tier is not None:
            capacity = TIER_PER_MINUTE[tier]
            self._take(f"method:{method}", capacity, capacity / 60)

    def post(self, channel: str) -> None:
        if self.enabled:
            self._take(f"channel:{channel}", CHANNEL_BURST, CHANNEL_PER_SECOND)
            self._take("workspace", WORKSPACE_POSTS_PER_MINUTE, WORKSPACE_POSTS_PER_MINUTE / 60)


def rate_limited(retry_after: float) -> SlackError:
    seconds = str(max(1, math.ceil(retry_after)))
    return SlackError("ratelimited", status=429, headers={"Retry-After": seconds})
