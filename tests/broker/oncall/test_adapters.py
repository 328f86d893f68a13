"""Each vendor's answer, read: who is on call for this schedule, now, and nothing that it does not say."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import web

from broker.config import ScheduleSource, SecretRef
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.sources import SOURCES

from . import schemas  # isort: skip
from .conftest import KEY, NOW, Vendor  # isort: skip

SOON = NOW + timedelta(hours=6)
BEFORE = NOW - timedelta(hours=6)


def z(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def ask(schedule: ScheduleSource, http: httpx2.AsyncClient, at: datetime = NOW) -> list[OnCall]:
    return await SOURCES[schedule.source].on_call(schedule, at, http)


# ----------------------------------------------------------------- PagerDuty


def pd_entry(**more: Any) -> dict[str, Any]:
    return {
        "escalation_policy": {"id": "PT20YPA", "type": "escalation_policy_reference"},
        "escalation_level": 1,
        "schedule": {"id": "S1", "type": "schedule_reference"},
        "user": {"id": "PU1", "type": "user", "name": "Olive", "email": "olive@example.com"},
        "start": z(BEFORE),
        "end": z(SOON),
    } | more


def pd_says(vendor: Vendor, *entries: dict[str, Any], overrides: list[dict[str, Any]] | None = None) -> None:
    body = {"oncalls": list(entries), "limit": 100, "offset": 0, "more": False, "total": None}
    vendor.says("/oncalls", schemas.PAGERDUTY_ONCALLS, body)
    vendor.says("/schedules/S1/overrides", schemas.PAGERDUTY_OVERRIDES, {"overrides": overrides or []})


async def test_pagerduty_tells_who_is_on_call_for_this_schedule(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    pd_says(
        vendor,
        pd_entry(),
        pd_entry(escalation_level=2, user={"id": "PU2", "type": "user", "email": "b@x.io"}),
    )
    assert await ask(schedule("pagerduty"), http) == [
        OnCall(email="olive@example.com", until=SOON),
        OnCall(email="b@x.io", level=2, until=SOON),
    ]
    asked = vendor.asked[0]
    assert asked.headers["Authorization"] == f"Token token={KEY}"
    assert asked.headers["Accept"] == "application/vnd.pagerduty+json;version=2"
    assert asked.query.getall("schedule_ids[]") == ["S1"]
    assert asked.query.getall("include[]") == ["users"]


async def test_pagerduty_may_say_more_than_was_asked_and_it_counts_for_nothing(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    pd_says(
        vendor,
        pd_entry(schedule={"id": "S2", "type": "schedule_reference"}),
        pd_entry(schedule=None, start=None, end=None),
        pd_entry(start=z(SOON), end=z(SOON + timedelta(hours=1))),
        pd_entry(end=z(NOW)),
    )
    assert await ask(schedule("pagerduty"), http) == []


async def test_pagerduty_tells_of_an_override_that_began_a_moment_ago(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    user = {"id": "PU1", "type": "user_reference"}
    made = {"id": "O1", "start": z(NOW - timedelta(minutes=4)), "end": z(SOON), "user": user}
    pd_says(vendor, pd_entry(), overrides=[made])
    assert (await ask(schedule("pagerduty"), http))[0].since_override == timedelta(minutes=4)
    vendor.raw["/schedules/S1/overrides"] = web.Response(status=403)
    assert (await ask(schedule("pagerduty"), http))[0].since_override is None


# --------------------------------------------------------------- incident.io


def iio_says(vendor: Vendor, *shifts: dict[str, Any], overrides: Any = (), **more: Any) -> None:
    body = {
        "schedule": {"id": "S1", "name": "Primary", "timezone": "UTC", "current_shifts": list(shifts)} | more
    }
    vendor.says("/v2/schedules/S1", schemas.INCIDENT_IO_SCHEDULE, body)
    entries = {"schedule_entries": {"final": list(shifts), "overrides": list(overrides), "scheduled": []}}
    vendor.says("/v2/schedule_entries", schemas.INCIDENT_IO_ENTRIES, entries)


def shift(**more: Any) -> dict[str, Any]:
    user = {
        "id": "01U",
        "name": "Olive",
        "role": "responder",
        "email": "olive@example.com",
        "slack_user_id": "U1",
    }
    return {"start_at": z(BEFORE), "end_at": z(SOON), "entry_id": "01E", "user": user} | more


async def test_incident_io_tells_who_has_the_shift(vendor: Vendor, http: Any, schedule: Any) -> None:
    iio_says(vendor, shift(), shift(end_at=z(NOW)), shift(start_at=z(SOON)))
    found = await ask(schedule("incident_io"), http)
    assert found == [OnCall(email="olive@example.com", slack="U1", until=SOON)]
    assert vendor.asked[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_incident_io_tells_of_overrides_and_of_an_empty_schedule(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    iio_says(vendor, shift(), overrides=[shift(start_at=z(NOW - timedelta(minutes=3)))])
    assert (await ask(schedule("incident_io"), http))[0].since_override == timedelta(minutes=3)
    empty = {"schedule": {"id": "S1", "name": "Primary", "timezone": "UTC"}}
    vendor.says("/v2/schedules/S1", schemas.INCIDENT_IO_SCHEDULE, empty)
    assert await ask(schedule("incident_io"), http) == []


async def test_incident_io_answering_for_another_schedule_is_no_answer(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    iio_says(vendor, shift(), id="S2")
    with pytest.raises(OnCallUnavailable, match="another schedule"):
        await ask(schedule("incident_io"), http)


# -------------------------------------------------------------------- Rootly


def rootly_entry(**more: Any) -> dict[str, Any]:
    attributes = {
        "escalation_policy_id": "ep-1",
        "escalation_policy_name": "Platform",
        "user_id": 678,
        "starts_at": z(BEFORE),
        "ends_at": z(SOON),
        "escalation_level": 1,
        "schedule_id": "S1",
    }
    return {"id": "1", "type": "on_call_resources", "attributes": attributes | more}


async def test_rootly_tells_who_is_on_call_and_joins_the_users(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    users = [
        {"id": "678", "type": "users", "attributes": {"email": "olive@example.com", "full_name": "Olive"}}
    ]
    entries = [
        rootly_entry(),
        rootly_entry(schedule_id="S2"),
        rootly_entry(schedule_id=None),
        rootly_entry(ends_at=z(NOW)),
    ]
    vendor.says("/v1/oncalls", schemas.ROOTLY_ONCALLS, {"data": entries, "included": users})
    assert await ask(schedule("rootly"), http) == [OnCall(email="olive@example.com", until=SOON)]
    assert vendor.asked[0].query["filter[schedule_ids]"] == "S1"
    assert vendor.asked[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_rootly_out_of_breath_is_away(vendor: Vendor, http: Any, schedule: Any) -> None:
    vendor.raw["/v1/oncalls"] = web.Response(status=429, body=b'{"error": "Rate limit exceeded."}')
    with pytest.raises(OnCallUnavailable, match="429"):
        await ask(schedule("rootly"), http)


# ---------------------------------------------------------- Opsgenie and JSM


async def test_opsgenie_tells_the_recipients_of_its_schedule(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    data = {
        "_parent": {"id": "S1", "name": "ops", "enabled": True},
        "onCallRecipients": ["olive@example.com"],
    }
    body = {"data": data, "took": 0.1, "requestId": "r"}
    vendor.says("/v2/schedules/S1/on-calls", schemas.OPSGENIE_ON_CALL, body)
    assert await ask(schedule("opsgenie"), http) == [OnCall(email="olive@example.com")]
    assert vendor.asked[0].query["flat"] == "true"
    assert vendor.asked[0].query["date"] == "2026-11-24T03:00:00+00:00"
    assert vendor.asked[0].headers["Authorization"] == f"GenieKey {KEY}"
    data["_parent"]["id"] = "S2"  # type: ignore[index]
    vendor.says("/v2/schedules/S1/on-calls", schemas.OPSGENIE_ON_CALL, body)
    with pytest.raises(OnCallUnavailable, match="another schedule"):
        await ask(schedule("opsgenie"), http)


async def test_jira_service_management_names_accounts_whose_addresses_are_looked_up(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    on_calls = "/jsm/ops/api/C1/v1/schedules/S1/on-calls"
    vendor.says(on_calls, schemas.JSM_ON_CALL, {"onCallUsers": ["acc-1", "acc-2"]})
    users = "/ex/jira/C1/rest/api/3/user"
    vendor.says(
        f"{users}?accountId=acc-1",
        schemas.JIRA_USER,
        {"accountId": "acc-1", "emailAddress": "olive@example.com"},
    )
    vendor.says(f"{users}?accountId=acc-2", schemas.JIRA_USER, {"accountId": "acc-2", "displayName": "Shy"})
    source = schedule("jsm", url=f"{vendor.url}/jsm/ops/api/C1", user="keeper@example.com")
    assert await ask(source, http) == [OnCall(email="olive@example.com"), OnCall()]
    basic = base64.b64encode(f"keeper@example.com:{KEY}".encode()).decode()
    assert vendor.asked[0].headers["Authorization"] == f"Basic {basic}"


# ------------------------------------------------------------------- Grafana


async def test_grafana_names_users_whose_addresses_are_looked_up(
    vendor: Vendor, http: Any, schedule: Any
) -> None:
    body = {"id": "S1", "name": "Primary", "type": "web", "team_id": None, "on_call_now": ["U1", "U2"]}
    vendor.says("/api/v1/schedules/S1/", schemas.GRAFANA_SCHEDULE, body)
    for number, slack in (
        ("U1", [{"user_id": "W1", "team_id": "T1"}]),
        ("U2", {"user_id": "W2", "team_id": "T1"}),
    ):
        user = {"id": number, "email": f"{number}@example.com".lower(), "username": number, "slack": slack}
        vendor.says(f"/api/v1/users/{number}/", schemas.GRAFANA_USER, user)
    assert await ask(schedule("grafana"), http) == [
        OnCall(email="u1@example.com", slack="W1"),
        OnCall(email="u2@example.com", slack="W2"),
    ]
    assert vendor.asked[0].headers["Authorization"] == KEY


# ------------------------------------------------------------------ calendars

CALENDAR = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:night
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260105T220000
DTEND;TZID=Europe/Berlin:20260106T080000
RRULE:FREQ=DAILY
EXDATE;TZID=Europe/Berlin:20261126T220000
SUMMARY:On call
ATTENDEE;CN=Olive:mailto:olive@example.com
END:VEVENT
BEGIN:VEVENT
UID:night
RECURRENCE-ID;TZID=Europe/Berlin:20261127T220000
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20261127T220000
DTEND;TZID=Europe/Berlin:20261128T080000
SUMMARY:Swapped: grace@example.com
END:VEVENT
BEGIN:VEVENT
UID:off
DTSTAMP:20260101T000000Z
DTSTART:20261124T000000Z
DTEND:20261125T000000Z
STATUS:CANCELLED
SUMMARY:zoe@example.com
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("at", "who"),
    [
        ("2026-11-24T03:00:00+00:00", ["olive@example.com"]),
        ("2026-11-24T06:59:59+00:00", ["olive@example.com"]),
        ("2026-11-24T07:00:00+00:00", []),
        ("2026-11-24T20:59:59+00:00", []),
        ("2026-11-24T21:00:00+00:00", ["olive@example.com"]),
        ("2026-11-27T03:00:00+00:00", []),
        ("2026-11-28T03:00:00+00:00", ["grace@example.com"]),
        ("2026-07-10T05:30:00+00:00", ["olive@example.com"]),
        ("2026-07-10T06:30:00+00:00", []),
    ],
)
async def test_a_calendar_is_read_with_its_repetitions_swaps_and_zone(
    tmp_path: Path, http: Any, at: str, who: list[str]
) -> None:
    (tmp_path / "rota.ics").write_text(CALENDAR)
    source = ScheduleSource("ical", file=tmp_path / "rota.ics")
    found = await ask(source, http, datetime.fromisoformat(at))
    assert [person.email for person in found] == who


async def test_a_calendar_comes_from_an_address_that_may_be_a_secret(
    vendor: Vendor, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.raw["/rota.ics"] = web.Response(body=CALENDAR.encode())
    monkeypatch.setenv("CALENDAR", f"{vendor.url}/rota.ics")
    for source in (
        ScheduleSource("ical", url=f"{vendor.url}/rota.ics"),
        ScheduleSource("ical", key=SecretRef("env:CALENDAR")),
    ):
        assert [person.email for person in await ask(source, http)] == ["olive@example.com"]
    monkeypatch.setenv("CALENDAR", "file:///etc/passwd")
    with pytest.raises(OnCallUnavailable):
        await ask(ScheduleSource("ical", key=SecretRef("env:CALENDAR")), http)


@pytest.mark.parametrize(
    "text",
    ["", "no calendar", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n", CALENDAR.replace("FREQ=DAILY", "FREQ=NEVER")],
)
async def test_a_broken_calendar_is_no_answer(tmp_path: Path, http: Any, text: str) -> None:
    (tmp_path / "rota.ics").write_text(text)
    with pytest.raises(OnCallUnavailable):
        await ask(ScheduleSource("ical", file=tmp_path / "rota.ics"), http)
    with pytest.raises(OnCallUnavailable):
        await ask(ScheduleSource("ical", file=tmp_path / "none.ics"), http)


# -------------------------------------------------------------------- static


async def test_people_of_the_file_take_turns(http: Any) -> None:
    starts = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    source = ScheduleSource("static", people=("ada", "bob"), turn=timedelta(days=7), starts=starts)
    turns = [(await ask(source, http, starts + timedelta(days=day))) for day in (-1, 0, 6, 7, 14)]
    assert [[p.principal for p in found] for found in turns] == [[], ["ada"], ["ada"], ["bob"], ["ada"]]
    assert turns[1][0].until == starts + timedelta(days=7)
    always = ScheduleSource("static", people=("ada", "bob"))
    assert [p.principal for p in await ask(always, http)] == ["ada", "bob"]


# ------------------------------------------------- answers that are no answer

PATHS = {
    "pagerduty": "/oncalls",
    "incident_io": "/v2/schedules/S1",
    "rootly": "/v1/oncalls",
    "opsgenie": "/v2/schedules/S1/on-calls",
    "jsm": "/jsm/ops/api/C1/v1/schedules/S1/on-calls",
    "grafana": "/api/v1/schedules/S1/",
}
NO_ANSWERS = {
    "an error": web.Response(status=500, body=b"{}"),
    "a wrong key": web.Response(status=401, body=b"{}"),
    "a redirect": web.Response(status=302, headers={"Location": "https://evil.example/"}),
    "an empty success": web.Response(status=204),
    "a login page": web.Response(body=b"<html>log in</html>"),
    "a list": web.Response(body=b"[]"),
    "another object": web.Response(body=b'{"hello": "world"}'),
    "wrong types": web.Response(body=b'{"oncalls": {}, "schedule": [], "data": 3, "on_call_now": {"a": 1}}'),
    "not UTF-8": web.Response(body=b"\xff\xfe\x00"),
    "too much": web.Response(body=b'{"a": "' + b"x" * 2_100_000 + b'"}'),
}


@pytest.mark.parametrize("source", PATHS)
@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_whatever_is_no_answer_is_told_as_none_and_tells_no_secret(
    vendor: Vendor, http: Any, schedule: Any, source: str, what: str
) -> None:
    vendor.raw[PATHS[source]] = NO_ANSWERS[what]
    url = f"{vendor.url}/jsm/ops/api/C1" if source == "jsm" else vendor.url
    with pytest.raises(OnCallUnavailable) as caught:
        await ask(schedule(source, url=url, user="k@example.com"), http)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("source", PATHS)
async def test_nobody_there_and_no_key_are_no_answer(http: Any, source: str) -> None:
    closed = "http://127.0.0.1:1/jsm/ops/api/C1"
    with pytest.raises(OnCallUnavailable, match="no answer"):
        await ask(ScheduleSource(source, "S1", SecretRef("file:/dev/null"), url=closed), http)
    with pytest.raises(OnCallUnavailable, match="not set"):
        await ask(ScheduleSource(source, "S1", SecretRef("env:NO_SUCH_KEY_HERE"), url=closed), http)


@pytest.mark.parametrize("at", ["yesterday", 5, "2026-11-24T03:00:00", {"a": 1}])
async def test_a_time_that_cannot_be_read_is_no_answer(
    vendor: Vendor, http: Any, schedule: Any, at: Any
) -> None:
    body = {"oncalls": [pd_entry(end=at)]}
    vendor.raw["/oncalls"] = web.json_response(body)
    with pytest.raises(OnCallUnavailable):
        await ask(schedule("pagerduty"), http)


async def test_a_schedule_name_cannot_climb_out_of_its_path(vendor: Vendor, http: Any, schedule: Any) -> None:
    with pytest.raises(OnCallUnavailable):
        await ask(schedule("opsgenie", id="../../v2/users"), http)
    assert vendor.asked[0].raw_path.startswith("/v2/schedules/..%2F..%2Fv2%2Fusers/on-calls")
    await asyncio.sleep(0)
