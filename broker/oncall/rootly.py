"""Rootly: GET /v1/oncalls for one schedule, with its users (JSON:API).

Source: docs.rootly.com, “List on-calls”. The API allows five reads a minute unless more were arranged; a
refusal for that (429) is a source that is away. It does not tell of overrides.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.asking import at as part
from broker.oncall.asking import get_json, instant, items, key_of, text

API = "https://api.rootly.com"


class Rootly:
    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        headers = {
            "Authorization": f"Bearer {key_of(schedule)}",
            "Content-Type": "application/vnd.api+json",
            "Accept": "application/vnd.api+json",
        }
        params = {"filter[schedule_ids]": schedule.id, "include": "user"}
        url = f"{schedule.url or API}/v1/oncalls"
        answer = await get_json(http, url, headers=headers, params=params)
        entries = [
            entry
            for entry in items(answer, "data")
            if text(entry, "attributes", "schedule_id") == schedule.id
        ]
        emails = _emails(answer)
        return [_person(entry, emails) for entry in entries if _covers(entry, at)]


def _emails(answer: Any) -> dict[str, str]:
    users = items(answer, "included") if part(answer, "included") is not None else []
    return {text(u, "id"): text(u, "attributes", "email") for u in users if text(u, "type") == "users"}


def _covers(entry: Any, at: datetime) -> bool:
    start, end = _times(entry)
    return start <= at < end


def _times(entry: Any) -> tuple[datetime, datetime]:
    start = instant(part(entry, "attributes", "starts_at"))
    end = instant(part(entry, "attributes", "ends_at"))
    if start is None or end is None:
        raise OnCallUnavailable("the answer has a shift without beginning or end")
    return start, end


def _person(entry: Any, emails: dict[str, str]) -> OnCall:
    level = part(entry, "attributes", "escalation_level")
    if level is None:
        level = 1
    if isinstance(level, bool) or not isinstance(level, int):
        raise OnCallUnavailable("the answer lacks an escalation level")
    user = str(part(entry, "attributes", "user_id"))
    return OnCall(email=emails.get(user, ""), level=level, until=_times(entry)[1])
