"""A schedule in access.yaml itself: for small teams, and for when nobody has another."""

from __future__ import annotations

from datetime import datetime

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCall


class Static:
    """Everybody of `people`, or each in turn for a `turn` counted from `starts`; nobody before that."""

    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        if schedule.turn is None or schedule.starts is None:
            return [OnCall(principal=name) for name in schedule.people]
        turns = (at - schedule.starts) // schedule.turn
        if turns < 0 or not schedule.people:
            return []
        ends = schedule.starts + (turns + 1) * schedule.turn
        return [OnCall(principal=schedule.people[turns % len(schedule.people)], until=ends)]
