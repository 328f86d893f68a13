"""The shape of what is urgent in access.yaml: emergencies, on-call schedules, ladders, quiet hours."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from broker.policy_file.basics import Name, Secret, Shape, Span, Zone


def _clock(value: Any) -> time:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1440:
        return time(*divmod(value, 60))  # YAML 1.1 reads 22:00 without quotes as a number of base 60
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError("a time of day is written 22:00")
    return time(int(match[1]), int(match[2]))


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("an instant is written with its zone, like 2026-01-05T09:00+01:00")
    return value


def _https(value: str) -> str:
    local = re.match(r"http://(127\.[0-9.]+|localhost|\[::1\])(:[0-9]+)?(/|$)", value)
    if value and not value.startswith("https://") and not local:
        raise ValueError("this is an address that begins with https://")
    return value.rstrip("/")


Clock = Annotated[time, BeforeValidator(_clock)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Url = Annotated[str, AfterValidator(_https)]


class QuietShape(Shape):
    """Over midnight where the end comes first."""

    start: Clock = Field(alias="from")
    end: Clock = Field(alias="until")
    timezone: Zone = ""
    """Empty: the zone of the file."""


class StepShape(Shape):
    after: Span
    do: Literal["group", "mention", "page", "widen"]
    who: str = ""
    """The schedule that is paged, or the group that may decide too."""
    wakes: bool | None = None
    """Whether it goes out in quiet hours; nothing: a page does, the others do not."""


class ScheduleShape(Shape):
    """Where it is looked up who is on call. Which keys belong to which source is checked in urgency.py."""

    source: Literal["pagerduty", "incident_io", "rootly", "opsgenie", "jsm", "grafana", "ical", "static"]
    id: str = ""
    key: Secret | None = None
    user: str = ""
    """JSM: the e-mail address that belongs to the API token."""
    url: Url = ""
    """Where the source is, where it is not the usual place; for ical the calendar's own address."""
    file: str = ""
    people: list[str] = []
    """Static: who is on call, in turns of `turn` from `starts` on; without a turn all of them at once."""
    turn: Span | None = None
    starts: Instant | None = None
    pager: str = ""
    """The pager that calls whoever is on call."""


class IncidentsShape(Shape):
    """Where it is looked up whether the incident of an emergency is open."""

    source: Literal["pagerduty", "incident_io", "jira"]
    key: Secret
    user: str = ""
    """Jira: the e-mail address that belongs to the API token."""
    url: Url = ""
    """Where it is, where that is not the usual place. Jira: https://YOURS.atlassian.net."""


class PagerShape(Shape):
    via: Literal["pagerduty", "incident_io", "rootly", "opsgenie", "jsm", "grafana"]
    key: Secret
    url: Url = ""
    """Where the service is, where it is not the usual place (in Europe, say). incident.io: the source's."""
    schedule: str = ""
    """Opsgenie and JSM: the id of the schedule that is called; nothing: as the integration says."""


class EmergencyShape(Shape):
    name: Name
    resources: list[str] = Field(min_length=1)
    role: str
    who: list[str] = []
    on_call: list[str] = []
    level: int = Field(1, ge=1, le=10)
    when_away: list[str] = []
    """Groups that may, while no schedule can be asked. Empty: nobody."""
    codes: bool = False
    longest: Span = timedelta(minutes=30)
    reviewers: list[str] = Field(min_length=1)
    review_within: Span = timedelta(hours=24)
    cool_down: Span = timedelta(minutes=15)
    owed: int = Field(0, ge=0, le=10)
    """How many reviews a person may owe and still break the glass."""
    reason: int = Field(10, ge=1, le=500)
    """The shortest reason, in characters."""
    type_name: bool = False
    """Whether a form asks for the resource's name to be typed, for the most dangerous ones."""
    pagers: list[str] = []
    """Pagers that are called at once, whoever broke the glass."""
    step_up: bool = False
    """Whether it takes a passkey, on a page of ours; an offline code does without."""
    open_incident: bool = False
    """Whether the incident has to be open where `incidents` looks it up; else it is only noted."""
    tells: list[str] = []
    """Relations that name a person, like the manager, who hears of it as well."""
