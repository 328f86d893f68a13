"""incident.io: the shifts of a schedule that are on now, GET /v2/schedules/{id}.

Source: api-docs.incident.io, Schedules V2 (the key needs to view schedules). Overrides come from
GET /v2/schedule_entries, which does not tell when one was made: its beginning stands for that.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.asking import at as part
from broker.oncall.asking import get_json, instant, items, key_of, text

API = "https://api.incident.io"


class IncidentIo:
    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        base = schedule.url or API
        headers = {"Authorization": f"Bearer {key_of(schedule)}", "Accept": "application/json"}
        url = f"{base}/v2/schedules/{quote(schedule.id, safe='')}"
        answer = await get_json(http, url, headers=headers)
        if text(answer, "schedule", "id") != schedule.id:
            raise OnCallUnavailable("the answer is about another schedule")
        # A schedule on which nobody has a shift leaves the list out.
        shifts = items(answer, "schedule", "current_shifts") if _has_shifts(answer) else []
        now = [shift for shift in shifts if _covers(shift, at)]
        overrides = await _overrides(http, base, schedule.id, headers, at) if now else {}
        return [
            OnCall(
                email=text(shift, "user", "email"),
                slack=text(shift, "user", "slack_user_id"),
                until=instant(part(shift, "end_at")),
                since_override=overrides.get(text(shift, "user", "id")),
            )
            for shift in now
        ]


def _has_shifts(answer: Any) -> bool:
    return part(answer, "schedule", "current_shifts") is not None


def _covers(shift: Any, at: datetime) -> bool:
    start, end = instant(part(shift, "start_at")), instant(part(shift, "end_at"))
    if start is None or end is None:
        raise OnCallUnavailable("the answer has a shift without beginning or end")
    return start <= at < end


async def _overrides(
    http: httpx2.AsyncClient, base: str, schedule: str, headers: dict[str, str], at: datetime
) -> dict[str, timedelta]:
    """How long each user has been on call by an override; none where they cannot be read."""
    params = {
        "schedule_id": schedule,
        "entry_window_start": at.isoformat(),
        "entry_window_end": (at + timedelta(seconds=1)).isoformat(),
    }
    try:
        answer = await get_json(http, f"{base}/v2/schedule_entries", headers=headers, params=params)
        entries = items(answer, "schedule_entries", "overrides")
        found = [(text(e, "user", "id"), instant(part(e, "start_at"))) for e in entries]
    except OnCallUnavailable:
        return {}
    return {user: at - start for user, start in found if start is not None and start <= at}
