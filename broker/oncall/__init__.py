"""Who is on call for a schedule, asked of whoever keeps it: one interface, one file a source.

Nothing here decides. What a source says is handed on with the time at which it was asked, so that the rules
(workflows/break_glass.py) can tell a fresh answer from an old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import httpx2

from broker.config import ScheduleSource


class OnCallUnavailable(Exception):
    """The source gave no usable answer. The text holds no secret and nothing of the answer."""


@dataclass(frozen=True, slots=True)
class OnCall:
    """One person on call. `email` or `slack` says who, or `principal` where the schedule is our own.

    `level` is the escalation level, 1 the first; `until` the end of the shift, None where the source does not
    tell; `since_override` how long ago somebody put them there by hand, None where nobody did or the source
    does not tell.
    """

    email: str = ""
    slack: str = ""
    principal: str = ""
    level: int = 1
    until: datetime | None = None
    since_override: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Who is on call, as the source said when it was asked at `as_of`."""

    people: tuple[OnCall, ...]
    as_of: datetime


class Source(Protocol):
    """An adapter. Raises OnCallUnavailable for everything that is not a plain answer."""

    async def on_call(
        self, schedule: ScheduleSource, at: datetime, http: httpx2.AsyncClient
    ) -> list[OnCall]: ...
