"""Whether an incident is open, as its keeper says it; and what is no answer."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from aiohttp import web

from broker.config import Config, ScheduleSource, SecretRef
from broker.oncall import OnCallUnavailable
from broker.oncall.incidents import state_of
from broker.oncall.roster import Roster
from workflows.break_glass import IncidentState

from . import schemas  # isort: skip
from .conftest import KEY, Vendor  # isort: skip


def iio_says(vendor: Vendor, category: str, reference: str = "INC-142") -> None:
    status = {"id": "01S", "name": "Fixing", "category": category}
    incident = {"id": "01I", "reference": reference, "name": "Checkout", "incident_status": status}
    vendor.says("/v2/incidents/142", schemas.INCIDENT_IO_INCIDENT, {"incident": incident})


@pytest.mark.parametrize(
    ("category", "state"),
    [("live", "open"), ("triage", "open"), ("paused", "open"), ("closed", "over"), ("learning", "over"),
     ("declined", "over"), ("merged", "over"), ("canceled", "over")],
)  # fmt: skip
async def test_incident_io_is_asked_by_the_number_of_the_reference(
    vendor: Vendor, http: Any, schedule: Any, category: str, state: str
) -> None:
    iio_says(vendor, category)
    assert await state_of(schedule("incident_io"), "INC-142", http) == IncidentState(state)
    assert vendor.asked[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_incident_io_does_not_tell_of_another_reference_with_that_number(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    iio_says(vendor, "live")
    assert await state_of(schedule("incident_io"), "OPS-142", http) is IncidentState.MISSING
    assert await state_of(schedule("incident_io"), "../../v1/x", http) is IncidentState.MISSING
    assert len(vendor.asked) == 1, "what is no reference is not asked for"


@pytest.mark.parametrize(
    ("status", "state"), [("triggered", "open"), ("acknowledged", "open"), ("resolved", "over")]
)
async def test_pagerduty_is_asked_by_the_id(
    vendor: Vendor, http: Any, schedule: Any, status: str, state: str
) -> None:
    incident = {"id": "Q2X8", "type": "incident", "incident_number": 12, "status": status}
    vendor.says("/incidents/Q2X8", schemas.PAGERDUTY_INCIDENT, {"incident": incident})
    assert await state_of(schedule("pagerduty"), "Q2X8", http) == IncidentState(state)
    assert vendor.asked[0].headers["Authorization"] == f"Token token={KEY}"


@pytest.mark.parametrize(
    ("category", "state"), [("new", "open"), ("indeterminate", "open"), ("done", "over")]
)
async def test_jira_is_asked_by_the_issue_and_tells_by_the_kind_of_its_status(
    vendor: Vendor, http: Any, schedule: Any, category: str, state: str
) -> None:
    status = {"name": "Whatever", "statusCategory": {"id": 4, "key": category}}
    issue = {"id": "1", "key": "INC-142", "fields": {"status": status}}
    vendor.says("/rest/api/3/issue/INC-142", schemas.JIRA_ISSUE, issue)
    assert await state_of(schedule("jira", user="bot@example.com"), "INC-142", http) == IncidentState(state)
    pair = base64.b64encode(f"bot@example.com:{KEY}".encode()).decode()
    assert vendor.asked[0].headers["Authorization"] == f"Basic {pair}"


@pytest.mark.parametrize("source", ["incident_io", "pagerduty", "jira"])
async def test_an_incident_that_is_not_there_is_missing_and_no_answer_is_none(
    vendor: Vendor, http: Any, schedule: Any, source: str
) -> None:
    assert await state_of(schedule(source), "INC-142", http) is IncidentState.MISSING
    paths = ("/v2/incidents/142", "/incidents/INC-142", "/rest/api/3/issue/INC-142")
    for answer in (web.Response(status=500), web.json_response({}), web.json_response([])):
        vendor.raw = dict.fromkeys(paths, answer)
        with pytest.raises(OnCallUnavailable):
            await state_of(schedule(source), "INC-142", http)


async def test_a_name_cannot_lead_to_another_address(vendor: Vendor, http: Any, schedule: Any) -> None:
    await state_of(schedule("jira"), "../../admin?x=1", http)
    assert vendor.asked[0].raw_path.startswith("/rest/api/3/issue/..%2F..%2Fadmin%3Fx%3D1")


async def test_where_nobody_keeps_incidents_none_is_asked_for_and_a_slow_keeper_is_not_waited_for(
    vendor: Vendor, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONCALL_TEST_KEY", KEY)
    roster = Roster(clock, httpx2.AsyncClient(), timeout=0.2)
    keeper = ScheduleSource("incident_io", key=SecretRef("env:ONCALL_TEST_KEY"), url=vendor.url)
    assert await roster.incident(Config(), "INC-142") is IncidentState.UNASKED
    assert vendor.asked == []
    iio_says(vendor, "live")
    assert await roster.incident(Config(incidents=keeper), "INC-142") is IncidentState.OPEN
    vendor.slow = 5
    assert await roster.incident(Config(incidents=keeper), "INC-142") is IncidentState.UNTOLD
    nowhere = replace(keeper, url="http://127.0.0.1:1")
    assert await roster.incident(Config(incidents=nowhere), "INC-142") is IncidentState.UNTOLD
    await roster.close()
