"""PagerDuty: GET /oncalls of the REST API v2, for one schedule.

Source: developer.pagerduty.com, “List all of the on-calls” and “List overrides”. An override does not tell
when it was made, so its beginning stands for that: one made to get in at once begins at once.
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

API = "https://api.pagerduty.com"


class PagerDuty:
    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        base = schedule.url or API
        headers = {
            "Authorization": f"Token token={key_of(schedule)}",
            "Accept": "application/vnd.pagerduty+json;version=2",
        }
        params = {"schedule_ids[]": schedule.id, "include[]": "users", "limit": "100"}
        answer = await get_json(http, f"{base}/oncalls", headers=headers, params=params)
        if part(answer, "more") is True:
            raise OnCallUnavailable("the answer has more pages than one schedule can fill")
        # What is for another schedule, or for none (always on call by a policy), says nothing about this one.
        entries = [e for e in items(answer, "oncalls") if text(e, "schedule", "id") == schedule.id]
        now = [entry for entry in entries if _covers(entry, at)]
        overrides = await _overrides(http, base, schedule.id, headers, at) if now else {}
        return [_person(entry, overrides) for entry in now]


def _covers(entry: Any, at: datetime) -> bool:
    start, end = instant(part(entry, "start")), instant(part(entry, "end"))
    return (start is None or start <= at) and (end is None or at < end)


def _person(entry: Any, overrides: dict[str, timedelta]) -> OnCall:
    level = part(entry, "escalation_level")
    if isinstance(level, bool) or not isinstance(level, int):
        raise OnCallUnavailable("the answer lacks an escalation level")
    return OnCall(
        email=text(entry, "user", "email"),
        level=level,
        until=instant(part(entry, "end")),
        since_override=overrides.get(text(entry, "user", "id")),
    )


async def _overrides(
    http: httpx2.AsyncClient, base: str, schedule: str, headers: dict[str, str], at: datetime
) -> dict[str, timedelta]:
    """For each user who is on call by an override now, how long it has been. An override is shown to the
    reviewer and decides nothing, so where they cannot be read there are none.
    """
    span = {"since": at.isoformat(), "until": (at + timedelta(seconds=1)).isoformat()}
    url = f"{base}/schedules/{quote(schedule, safe='')}/overrides"
    try:
        answer = await get_json(http, url, headers=headers, params=span)
        found = [(text(o, "user", "id"), instant(part(o, "start"))) for o in items(answer, "overrides")]
    except OnCallUnavailable:
        return {}
    return {user: at - start for user, start in found if start is not None and start <= at}
