"""Grafana OnCall and Grafana Cloud IRM: who is on call now by a schedule, and their addresses.

Source: grafana.com/docs, OnCall HTTP API, “Schedules” and “Users”. `url` is the OnCall API's address, as the
OnCall settings page shows it. It tells neither the end of a shift nor overrides.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.asking import at as part
from broker.oncall.asking import get_json, items, key_of, text

MOST_PEOPLE = 20


class Grafana:
    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        headers = {"Authorization": key_of(schedule), "Content-Type": "application/json"}
        base = f"{schedule.url}/api/v1"
        url = f"{base}/schedules/{quote(schedule.id, safe='')}/"
        answer = await get_json(http, url, headers=headers)
        if text(answer, "id") != schedule.id:
            raise OnCallUnavailable("the answer is about another schedule")
        ids = [str(user) for user in items(answer, "on_call_now")]
        if len(ids) > MOST_PEOPLE:
            raise OnCallUnavailable("the answer names more people than can be looked up")
        users = await asyncio.gather(
            *(get_json(http, f"{base}/users/{quote(user, safe='')}/", headers=headers) for user in ids)
        )
        if any(text(user, "id") != wanted for user, wanted in zip(users, ids, strict=True)):
            raise OnCallUnavailable("the answer is about another person")
        return [OnCall(email=text(user, "email"), slack=_slack(user)) for user in users]


def _slack(user: Any) -> str:
    """The one Slack account; documented as a list, and sent as one object by some versions."""
    linked = part(user, "slack")
    if isinstance(linked, list):
        return text(linked, 0, "user_id") if len(linked) == 1 else ""
    return text(linked, "user_id")
