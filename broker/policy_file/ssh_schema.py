"""SSH hosts in access.yaml: their shape, what is checked about them, and their values."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import AfterValidator, BeforeValidator, Field

from broker.config import Problem, SecretRef, SshTarget
from broker.policy_file import marks
from broker.policy_file.basics import Name, Shape
from broker.policy_file.guardrails import RailShape
from broker.policy_file.marks import Marked
from broker.policy_file.near import near
from broker.policy_file.resource_schema import ResourceShape, RoleShape
from workflows.model import (
    Action,
    FileRule,
    Guardrail,
    HostTerms,
    Quorum,
    Resource,
    Role,
    StatementClass,
    Terms,
)

TRAITS = (
    "recursive_delete",
    "raw_device",
    "power",
    "recursive_permissions",
    "download_and_run",
    "privilege",
    "login",
    "interpreter",
    "service",
    "package",
    "network",
)
"""What a command line may be besides the names of its commands; proxy/ssh/commands.py finds them."""


def _key(value: str) -> str:
    """An OpenSSH public key without its comment."""
    if value == "certificate" or re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", value):
        return value
    raise ValueError("a key never stands in this file; write certificate, env:NAME or file:PATH")


def _public(value: str) -> str:
    try:
        load_ssh_public_key(value.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is no OpenSSH public key; it is written like ssh-ed25519 AAAA…") from error
    return " ".join(value.split()[:2])


def _place(value: str) -> str:
    if value.startswith("/") or re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s/]+):(\*|[0-9]{1,5})", value):
        return value
    raise ValueError("a place is written host:port, host:* or, for a socket, /path")


def _path(value: str) -> str:
    if not value.startswith("/") or "/../" in f"{value}/":
        raise ValueError("a path begins with / and has no .. in it; ** is any part of it")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _files(value: Any) -> Any:
    everything = {"read": ["list", "read"], "write": ["list", "read", "write", "delete"]}
    if isinstance(value, str) and value in everything:
        return [{"paths": ["/**"], "allow": everything[value]}]
    return value


PublicKeys = Annotated[list[Annotated[str, AfterValidator(_public)]], BeforeValidator(_listed)]
Place = Annotated[str, AfterValidator(_place)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\*?$")]


class HostRailShape(RailShape):
    commands: list[Annotated[str, Field(min_length=1, max_length=500)]] = []
    """Patterns over one command's words, like `systemctl restart *`."""


class FileShape(Shape):
    paths: list[Annotated[str, AfterValidator(_path)]] = Field(min_length=1)
    allow: list[Literal["list", "read", "write", "delete"]] = []


class HostRoleShape(RoleShape):
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$")]
    shell: Literal["refuse", "record", "lines"] = "refuse"
    """What becomes of a shell without a command: refused, recorded, or line by line, each judged."""
    environment: list[Variable] = ["LANG", "LC_*"]
    files: Annotated[list[FileShape], BeforeValidator(_files)] = []
    forward: list[Place] = []
    listen: list[Place] = []
    subsystems: list[Name] = []
    guardrails: list[HostRailShape] = []


class HostShape(ResourceShape):
    kind: Literal["ssh"]
    host_key: PublicKeys = []
    host_ca: PublicKeys = []
    key: Annotated[str, AfterValidator(_key)] = "certificate"
    guardrails: list[HostRailShape] = []
    roles: dict[Name, HostRoleShape] = Field(min_length=1)


# ---------------------------------------------------------------- checking


def check(marked: Marked, path: marks.Path, host: HostShape) -> Iterator[Problem]:
    """Every problem of one host beside its guardrails' approvals."""
    if not host.host_key and not host.host_ca:
        what = "nothing says how this host proves that it is itself"
        yield marked.problem(path, what, f"host_key: the line of ssh-keyscan -t ed25519 {host.host}")
    for index, rail in enumerate(host.guardrails):
        yield from _kinds(marked, (*path, "guardrails", index), rail)
    for name, role in host.roles.items():
        here = (*path, "roles", name)
        for index, rail in enumerate(role.guardrails):
            yield from _kinds(marked, (*here, "guardrails", index), rail)
        if role.shell == "lines" and not (role.guardrails or host.guardrails):
            yield marked.problem((*here, "shell"), "no guardrail says which lines may run", "shell: record")


def _kinds(marked: Marked, path: marks.Path, rail: HostRailShape) -> Iterator[Problem]:
    for index, name in enumerate(rail.kinds):
        if name in TRAITS or re.fullmatch(r"[A-Za-z0-9\[][A-Za-z0-9+.@-]*", name):
            continue
        what = f"“{name}” is neither the name of a command nor a trait of one"
        yield marked.problem((*path, "kinds", index), what, near(name, TRAITS))


# ------------------------------------------------------------------ values


OWN_KEY = Guardrail(
    name="own-login",
    action=Action.REFUSE,
    message="A key or a password of one's own on the host would lead round the gate.",
    kinds=frozenset({"login"}),
)
"""Stands behind the guardrails of a role that has some; one of them may allow it, by naming the kind. Where
there are none, commands are recorded and not read: then only the host itself can close this way (ssh-ca).
"""


def resource(name: str, host: HostShape) -> Resource:
    """The host as a resource, with its roles."""
    roles = tuple(
        Role(key, (role.user,), _terms(host, role), role.title, tuple(role.within))
        for key, role in host.roles.items()
    )
    return Resource(name, host.kind, host.title, tuple(host.aliases), roles)


def target(host: HostShape, base: Path) -> SshTarget:
    """Where the host is, and how it and the gate prove themselves."""
    key = None if host.key == "certificate" else SecretRef(host.key, base.absolute())
    return SshTarget(host.host, host.port, tuple(host.host_key), tuple(host.host_ca), key)


def _terms(host: HostShape, role: HostRoleShape) -> Terms:
    rails = (*role.guardrails, *host.guardrails)
    return Terms(
        max_sessions=role.max_sessions,
        guardrails=(*(_guardrail(rail) for rail in rails), OWN_KEY) if rails else (),
        detect=() if role.detect == [] else tuple(dict.fromkeys((*host.detect, *(role.detect or ())))),
        host=HostTerms(
            user=role.user,
            shell=role.shell,
            environment=tuple(role.environment),
            files=tuple(FileRule(tuple(it.paths), frozenset(it.allow)) for it in role.files),
            forward=tuple(role.forward),
            listen=tuple(role.listen),
            subsystems=tuple(role.subsystems),
        ),
    )


def _guardrail(rail: HostRailShape) -> Guardrail:
    return Guardrail(
        name=rail.name,
        action=Action(rail.action),
        classes=frozenset(StatementClass(name) for name in rail.classes),
        quorum=tuple(Quorum(seat.group, seat.needed) for seat in rail.approval),
        hold_for=rail.hold_for or timedelta(minutes=15),
        message=rail.message,
        kinds=frozenset(rail.kinds),
        when=rail.when,
        commands=tuple(rail.commands),
        step_up=rail.step_up,
    )
