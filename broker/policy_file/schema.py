"""The shape of access.yaml. What the parts mean together is checked in build.py."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from workflows.spans import read_span

METHODS = ("full", "null", "last4", "email", "hash")


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _span(value: Any) -> timedelta:
    found = read_span(value.strip().lower()) if isinstance(value, str) else None
    if found is None or found <= timedelta():
        raise ValueError("this is not a span of time; write it like 90m, 4h, 1h30 or 2d")
    return found


def _column(value: str) -> str:
    parts = value.split(".")
    if len(parts) != 3 or not all(parts):
        raise ValueError("a column is written schema.table.column, like public.users.email")
    return value


def _address(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s/]+):[0-9]{1,5}", value) or not _port(value) < 65536:
        raise ValueError("an address is written host:port, like db.example.com:5432")
    return value


def _port(value: str) -> int:
    return int(value.rpartition(":")[2])


def _secret(value: str) -> str:
    if not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", value):
        raise ValueError("a secret never stands in this file; write env:NAME or file:PATH")
    return value


def _zone(value: str) -> str:
    if value and value not in available_timezones():
        raise ValueError("this is not an IANA time zone; write it like Europe/London")
    return value


def _approval(value: Any) -> Any:
    return [] if value == "none" else value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise ValueError("a name has letters, digits, dot, dash and underscore, 63 at most")
    return value


Span = Annotated[timedelta, BeforeValidator(_span)]
Zone = Annotated[str, AfterValidator(_zone)]
Name = Annotated[str, AfterValidator(_name)]


class PersonShape(Shape):
    name: str
    email: str = ""
    slack: str = ""
    groups: list[str] = []
    timezone: Zone = ""
    kind: Literal["person", "agent"] = "person"
    active: bool = True


class GroupShape(Shape):
    title: str = ""
    channel: str = ""
    mention: str = ""


class MaskShape(Shape):
    column: Annotated[str, AfterValidator(_column)]
    method: Literal["full", "null", "last4", "email", "hash"] = "full"


class RoleShape(Shape):
    memberships: list[Annotated[str, Field(min_length=1, max_length=63)]] = Field(min_length=1)
    title: str = ""
    masks: list[MaskShape] | None = None
    """None: the masks of the resource. A list adds to them; an empty list takes them all off."""
    max_sessions: int = Field(20, ge=1, le=10_000)


class AdminShape(Shape):
    user: Annotated[str, Field(min_length=1, max_length=63)]
    password: Annotated[str, AfterValidator(_secret)]


class ResourceShape(Shape):
    kind: Literal["postgres"]
    title: str = ""
    aliases: list[Name] = []
    address: Annotated[str, AfterValidator(_address)]
    database: Annotated[str, Field(min_length=1, max_length=63)]
    tls: Literal["verify-full", "require", "disable"] = "verify-full"
    ca: str = ""
    admin: AdminShape
    masks: list[MaskShape] = []
    roles: dict[Name, RoleShape] = Field(min_length=1)

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return _port(self.address)


class QuorumShape(Shape):
    group: str
    needed: int = Field(1, ge=1, le=100)


class RuleShape(Shape):
    name: Name
    who: list[str] = Field(min_length=1)
    resources: list[str] = Field(min_length=1)
    roles: list[str] = Field(min_length=1)
    longest: Span
    usual: Span | None = None
    approval: Annotated[list[QuorumShape], BeforeValidator(_approval)]
    """There is no default: a rule that grants at once has to say `approval: none`."""
    lapses_after: Span = timedelta(hours=8)
    reason: Literal["required", "optional"] = "required"


class SlackShape(Shape):
    team: str = ""


class FileShape(Shape):
    people: dict[Name, PersonShape] = {}
    groups: dict[Name, GroupShape] = {}
    admins: list[str] = []
    resources: dict[Name, ResourceShape] = {}
    rules: list[RuleShape] = []
    slack: SlackShape = SlackShape()
    timezone: Zone = "UTC"
