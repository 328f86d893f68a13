"""Opsgenie, and Jira Service Management which succeeds it (Opsgenie's API ends on 5 April 2027).

Sources: docs.opsgenie.com, “Who is On Call API”, and developer.atlassian.com, “Schedule on-calls” of the
Jira Service Management ops REST API. Neither tells of the end of a shift or of overrides in this answer.
"""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime
from urllib.parse import quote

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.asking import get_json, items, key_of, text

API = "https://api.opsgenie.com"
MOST_PEOPLE = 20


class Opsgenie:
    """`id` is the schedule's id; `url` is https://api.eu.opsgenie.com in Europe."""

    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        url = f"{schedule.url or API}/v2/schedules/{quote(schedule.id, safe='')}/on-calls"
        headers = {"Authorization": f"GenieKey {key_of(schedule)}"}
        params = {"flat": "true", "date": at.isoformat(timespec="seconds")}
        answer = await get_json(http, url, headers=headers, params=params)
        if text(answer, "data", "_parent", "id") not in ("", schedule.id):
            raise OnCallUnavailable("the answer is about another schedule")
        return [OnCall(email=name) for name in items(answer, "data", "onCallRecipients") if "@" in str(name)]


class ServiceManagement:
    """`url` is https://api.atlassian.com/jsm/ops/api/{cloudId}, `user` whose the API token is.

    The answer names Atlassian accounts; their addresses are asked for one by one, and who hides theirs
    cannot be recognised.
    """

    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        pair = f"{schedule.user}:{key_of(schedule)}".encode()
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "Accept": "application/json",
        }
        url = f"{schedule.url}/v1/schedules/{quote(schedule.id, safe='')}/on-calls"
        params = {"flat": "true", "date": at.isoformat(timespec="seconds")}
        answer = await get_json(http, url, headers=headers, params=params)
        accounts = [str(account) for account in items(answer, "onCallUsers")]
        if len(accounts) > MOST_PEOPLE:
            raise OnCallUnavailable("the answer names more people than can be looked up")
        root, _, cloud = schedule.url.partition("/jsm/ops/api/")
        users = f"{root}/ex/jira/{cloud}/rest/api/3/user"
        found = await asyncio.gather(
            *(get_json(http, users, headers=headers, params={"accountId": account}) for account in accounts)
        )
        return [OnCall(email=text(user, "emailAddress")) for user in found]
