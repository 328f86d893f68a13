"""A calendar (RFC 5545) at an address or in a file: whoever attends an event that is on now is on call.

People are the ATTENDEEs of an event, or the e-mail addresses in its summary. Repetitions, exceptions and time
zones are the library's work. A time without a zone, and a whole day, are read in UTC.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import httpx2
import icalendar
import recurring_ical_events

from broker.config import ScheduleSource
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.asking import MOST_BYTES, get, key_of

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


class Calendar:
    """`url`, `file`, or a `key` that holds the address where that is itself a secret."""

    async def on_call(self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient) -> list[OnCall]:
        text = await asyncio.to_thread(_file, schedule.file) if schedule.file else await _web(schedule, http)
        return await asyncio.to_thread(_people, text, at)


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise OnCallUnavailable("the calendar is too large")
        return path.read_bytes()
    except OSError as error:
        raise OnCallUnavailable(f"the calendar cannot be read: {error.strerror}") from error


async def _web(schedule: ScheduleSource, http: httpx2.AsyncClient) -> bytes:
    url = schedule.url or key_of(schedule)
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise OnCallUnavailable("the calendar's address does not begin with https://")
    return (await get(http, url)).content


def _people(text: bytes, at: datetime) -> list[OnCall]:
    try:
        calendar = icalendar.Calendar.from_ical(text)
        events = recurring_ical_events.of(calendar).between(at, at + timedelta(seconds=1))
        return [
            OnCall(email=email, until=_instant(event.end))
            for event in events
            if str(event.get("STATUS", "")).upper() != "CANCELLED"
            and _instant(event.start) <= at < _instant(event.end)
            for email in _emails(event)
        ]
    except Exception as error:  # whatever a broken calendar makes the parser do, it is no answer
        raise OnCallUnavailable(f"the calendar cannot be read ({type(error).__name__})") from error


def _emails(event: Any) -> list[str]:
    attendees = event.get("ATTENDEE", [])
    each = attendees if isinstance(attendees, list) else [attendees]
    named = [str(a)[len("mailto:") :] for a in each if str(a).lower().startswith("mailto:")]
    return list(dict.fromkeys(named or _EMAIL.findall(str(event.get("SUMMARY", "")))))


def _instant(value: date | datetime) -> datetime:
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
