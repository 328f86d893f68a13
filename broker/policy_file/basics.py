"""What the shapes of access.yaml are made of: names, spans, zones, and where secrets are."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from workflows.spans import read_span


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _span(value: Any) -> timedelta:
    found = read_span(value.strip().lower()) if isinstance(value, str) else None
    if found is None or found <= timedelta():
        raise ValueError("this is not a span of time; write it like 90m, 4h, 1h30 or 2d")
    return found


def _secret(value: str) -> str:
    if not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", value):
        raise ValueError("a secret never stands in this file; write env:NAME or file:PATH")
    return value


def _zone(value: str) -> str:
    if value and value not in available_timezones():
        raise ValueError("this is not an IANA time zone; write it like Europe/London")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise ValueError("a name has letters, digits, dot, dash and underscore, 63 at most")
    return value


Span = Annotated[timedelta, BeforeValidator(_span)]
Zone = Annotated[str, AfterValidator(_zone)]
Name = Annotated[str, AfterValidator(_name)]
Secret = Annotated[str, AfterValidator(_secret)]
