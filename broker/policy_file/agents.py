"""Agents in access.yaml: which workload is which principal, whose it is, and how far it may go."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from broker.config import AgentRule
from broker.identity.directory import Person
from broker.policy_file.basics import Shape, Span
from broker.policy_file.marks import Marked
from broker.policy_file.near import near, unknown
from workflows.model import Principal, PrincipalKind

if TYPE_CHECKING:
    from broker.config import Problem
    from broker.policy_file.schema import FileShape

_MANY = {
    "https://token.actions.githubusercontent.com": (
        ("sub", "repository", "repository_id"),
        ("sub", "ref", "environment", "job_workflow_ref"),
    ),
    "https://gitlab.com": (("sub", "project_path", "project_id"), ("sub", "ref", "environment")),
}
"""Issuers that speak for everybody who likes: which claims tell one's own repository, and that it is no pull
request. Of each, one has to be asked for.
"""


def _values(value: object) -> object:
    return value if isinstance(value, list) else [value]


Claim = Annotated[list[str | int | bool], Field(min_length=1), BeforeValidator(_values)]


class LimitsShape(Shape):
    login: Span = timedelta(minutes=15)
    """How long one login lasts; its use does not prolong it."""
    requests_per_hour: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Requests and submitted statements together."""
    longest: Span | None = None
    """The longest grant; nothing: as the rules say."""


class AgentShape(Shape):
    name: str
    owner: str
    groups: list[str] = []
    issuer: str
    audience: Annotated[str, Field(min_length=1, max_length=500)]
    claims: Annotated[dict[str, Claim], Field(min_length=1)]
    keys: str = ""
    """A JWKS file, for an issuer that cannot be asked; nothing: as its discovery document says."""
    limits: LimitsShape = LimitsShape()


def check(marked: Marked, shape: FileShape, base: Path) -> Iterator[Problem]:
    """What is wrong with the agents of a file."""
    for key, agent in shape.agents.items():
        path = ("agents", key)
        yield from unknown(marked, (*path, "groups"), agent.groups, shape.groups, "group")
        if key in shape.people:
            yield marked.problem(path, f"a person is called “{key}” already", key=True)
        owner = shape.people.get(agent.owner)
        if owner is None and not shape.provisioned:
            what = f"there is no person “{agent.owner}”"
            yield marked.problem((*path, "owner"), what, near(agent.owner, shape.people))
        elif owner is not None and owner.kind != "person":
            yield marked.problem((*path, "owner"), "an agent belongs to a person")
        if not _https(agent.issuer):
            yield marked.problem((*path, "issuer"), "an issuer is an https address")
        for wanted in _MANY.get(agent.issuer.rstrip("/"), ()):
            if not agent.claims.keys() & set(wanted):
                what = "this issuer speaks for everybody's repositories and branches"
                yield marked.problem((*path, "claims"), what, f"ask for {' or '.join(wanted)} too")
        if agent.keys and _keys(base / agent.keys) is None:
            yield marked.problem((*path, "keys"), "this file holds no JWKS")


def _https(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")
    )


def _keys(file: Path) -> str | None:
    try:
        text = file.read_text()
        return text if isinstance(json.loads(text)["keys"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def rule(name: str, agent: AgentShape, base: Path) -> AgentRule:
    claims = tuple((claim, tuple(_text(value) for value in values)) for claim, values in agent.claims.items())
    return AgentRule(
        name=name,
        owner=agent.owner,
        issuer=agent.issuer,
        audience=agent.audience,
        claims=claims,
        keys=(_keys(base / agent.keys) or "") if agent.keys else "",
        login=agent.limits.login,
        requests_per_hour=agent.limits.requests_per_hour,
        longest=agent.limits.longest,
    )


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def person(name: str, agent: AgentShape) -> Person:
    """The agent in the directory. Whether it is active is its owner's matter, see broker/standing.py."""
    kind = PrincipalKind.AGENT
    return Person(Principal(name, agent.name, "", frozenset(agent.groups), kind, owner=agent.owner))
