"""Whether an incident is open, asked of whoever keeps it.

Sources: developer.pagerduty.com, “Get an incident” (by its id); api-docs.incident.io, “Show Incidents V2” (by
the number in its reference, 142 of INC-142); developer.atlassian.com, “Get issue” of the Jira REST API v3.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCallUnavailable
from broker.oncall.asking import NotThere, get_json, key_of, text
from workflows.break_glass import IncidentState

_LIVE_AT_INCIDENT_IO = frozenset({"triage", "live", "paused"})
_OVER_AT_INCIDENT_IO = frozenset({"learning", "closed", "declined", "merged", "canceled"})


async def state_of(source: ScheduleSource, incident: str, http: httpx2.AsyncClient) -> IncidentState:
    """Raises OnCallUnavailable."""
    try:
        return await _ASKED[source.source](source, incident, http)
    except NotThere:
        return IncidentState.MISSING


async def _pagerduty(source: ScheduleSource, incident: str, http: httpx2.AsyncClient) -> IncidentState:
    headers = {
        "Authorization": f"Token token={key_of(source)}",
        "Accept": "application/vnd.pagerduty+json;version=2",
    }
    url = f"{source.url or 'https://api.pagerduty.com'}/incidents/{quote(incident, safe='')}"
    answer = await get_json(http, url, headers=headers)
    status = text(answer, "incident", "status")
    return _told(status, {"triggered", "acknowledged"}, {"resolved"})


async def _incident_io(source: ScheduleSource, incident: str, http: httpx2.AsyncClient) -> IncidentState:
    number = re.fullmatch(r"(?:[A-Za-z][A-Za-z0-9_]*-|#)?([0-9]+)", incident)
    if number is None:
        return IncidentState.MISSING
    headers = {"Authorization": f"Bearer {key_of(source)}", "Accept": "application/json"}
    url = f"{source.url or 'https://api.incident.io'}/v2/incidents/{number[1]}"
    answer = await get_json(http, url, headers=headers)
    reference = text(answer, "incident", "reference")
    if "-" in incident and reference and reference.casefold() != incident.casefold():
        return IncidentState.MISSING
    status = text(answer, "incident", "incident_status", "category")
    return _told(status, _LIVE_AT_INCIDENT_IO, _OVER_AT_INCIDENT_IO)


async def _jira(source: ScheduleSource, incident: str, http: httpx2.AsyncClient) -> IncidentState:
    pair = f"{source.user}:{key_of(source)}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}", "Accept": "application/json"}
    url = f"{source.url}/rest/api/3/issue/{quote(incident, safe='')}"
    answer = await get_json(http, url, headers=headers, params={"fields": "status"})
    status = text(answer, "fields", "status", "statusCategory", "key")
    return _told(status, {"new", "indeterminate"}, {"done"})


def _told(status: str, live: set[str] | frozenset[str], over: set[str] | frozenset[str]) -> IncidentState:
    if status in live:
        return IncidentState.OPEN
    if status in over:
        return IncidentState.OVER
    raise OnCallUnavailable("the answer tells no state that is known")


_ASKED: dict[str, Callable[[ScheduleSource, str, httpx2.AsyncClient], Awaitable[IncidentState]]] = {
    "pagerduty": _pagerduty,
    "incident_io": _incident_io,
    "jira": _jira,
}
