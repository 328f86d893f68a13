"""The shape that resources of every kind share in access.yaml."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from broker.policy_file.basics import Name, Shape
from broker.policy_file.guardrails import Detector, RailShape


def _address(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s/]+):[0-9]{1,5}", value) or not _port(value) < 65536:
        raise ValueError("an address is written host:port, like db.example.com:5432")
    return value


def _port(value: str) -> int:
    return int(value.rpartition(":")[2])


Address = Annotated[str, AfterValidator(_address)]


class RoleShape(Shape):
    title: str = ""
    guardrails: Sequence[RailShape] = []
    """They come before those of the resource."""
    detect: list[Detector] | None = None
    """None: what the resource detects. A list adds to it; an empty list takes all of it off."""
    max_sessions: int = Field(20, ge=1, le=10_000)
    within: list[Name] = []
    """The wider roles in whose place an approver may give this one."""


class ResourceShape(Shape):
    kind: str
    title: str = ""
    aliases: list[Name] = []
    address: Address
    guardrails: Sequence[RailShape] = []
    detect: list[Detector] = []
    roles: Mapping[Name, RoleShape] = Field(min_length=1)

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return _port(self.address)
