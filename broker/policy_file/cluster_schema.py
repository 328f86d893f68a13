"""Kubernetes clusters in access.yaml: their shape, what is checked about them, and their values."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from broker.config import ClusterTarget, Mint, Problem, SecretRef
from broker.policy_file import marks
from broker.policy_file.basics import Name, Secret, Shape
from broker.policy_file.guardrails import RailShape
from broker.policy_file.http_schema import is_label
from broker.policy_file.marks import Marked
from broker.policy_file.resource_schema import ResourceShape, RoleShape
from workflows.model import (
    Action,
    ApiMatch,
    ClusterTerms,
    Guardrail,
    Quorum,
    Resource,
    Role,
    StatementClass,
    Terms,
)

Verb = Literal[
    "*", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "connect"
]


def _resource(value: str) -> str:
    if not re.fullmatch(r"\*|[a-z0-9*.-]+(/[A-Za-z0-9*._:-]+)?", value):
        raise ValueError("a resource is written pods, pods/exec, */scale or *; its group stands in groups")
    return value


def _path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("a path begins with /, like /metrics or /logs/*")
    return value


def _label(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", value):
        raise ValueError("this is no name of a Kubernetes object")
    return value


ResourcePattern = Annotated[str, AfterValidator(_resource)]
ObjectName = Annotated[str, AfterValidator(_label)]


class ClusterRailShape(RailShape):
    verbs: list[Verb] = []
    groups: list[str] = []
    resources: list[ResourcePattern] = []
    namespaces: list[Annotated[str, Field(min_length=1)]] = []
    names: list[Annotated[str, Field(min_length=1)]] = []
    paths: list[Annotated[str, AfterValidator(_path)]] = []
    """For requests that are for no resource."""


class ClusterRoleShape(RoleShape):
    groups: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    """The groups of the cluster whose rights a session has."""
    user: str = ""
    """Whom it acts as; nothing: whoever holds the grant."""
    connect: list[ResourcePattern] = []
    """The ways into the cluster that are open at all: pods/exec, pods/attach, pods/portforward,
    services/proxy.
    """
    secrets: Literal["mask", "clear"] = "mask"
    guardrails: list[ClusterRailShape] = []


class MintShape(Shape):
    namespace: ObjectName
    service_account: ObjectName


class ClusterShape(ResourceShape):
    kind: Literal["kubernetes"]
    ca: str = ""
    token: Secret
    mint: MintShape | None = None
    """With it `token` only makes tokens of this service account, one a grant; else sessions enter with it."""
    guardrails: list[ClusterRailShape] = []
    roles: dict[Name, ClusterRoleShape] = Field(min_length=1)


# ---------------------------------------------------------------- checking


def check(
    marked: Marked, path: marks.Path, cluster: ClusterShape, base: Path, name: str
) -> Iterator[Problem]:
    """Every problem of one cluster beside its guardrails' approvals."""
    if not any(is_label(label) for label in (name, *cluster.aliases)):
        what = f"“{name}” cannot stand before the gate's domain, by which kubectl names the cluster"
        mend = "a name or an alias of small letters, digits and dashes, 63 at most"
        yield marked.problem(path, what, mend, key=True)
    if cluster.ca:
        yield from _certificate(marked, (*path, "ca"), base / cluster.ca)
    for index, rail in enumerate(cluster.guardrails):
        yield from _rail(marked, (*path, "guardrails", index), rail)
    for name, role in cluster.roles.items():
        for index, rail in enumerate(role.guardrails):
            yield from _rail(marked, (*path, "roles", name, "guardrails", index), rail)


def _rail(marked: Marked, path: marks.Path, rail: ClusterRailShape) -> Iterator[Problem]:
    if rail.kinds:
        yield marked.problem((*path, "kinds"), "requests to a cluster have verbs, not kinds", "verbs: […]")
    if rail.paths and (rail.groups or rail.resources or rail.namespaces or rail.names):
        what = "paths are for requests that are for no resource, so that both can never fit"
        yield marked.problem((*path, "paths"), what, "make two guardrails of it")


def _certificate(marked: Marked, path: marks.Path, file: Path) -> Iterator[Problem]:
    try:
        ssl.create_default_context(cadata=file.read_text())
    except OSError as error:
        yield marked.problem(path, f"cannot be read: {error.strerror or 'not a PEM certificate'}")
    except ValueError:
        yield marked.problem(path, "this file holds no PEM certificate")


# ------------------------------------------------------------------ values


OWN_LOGIN = Guardrail(
    name="own-login",
    action=Action.REFUSE,
    message="A token or a certificate of one's own for the cluster would lead round the gate.",
    api=ApiMatch(
        verbs=("create", "update", "patch"),
        resources=(
            "serviceaccounts/token",
            "certificatesigningrequests",
            "certificatesigningrequests/approval",
        ),
    ),
)
"""Stands behind the guardrails of every role; one of them may allow it, by naming the very resource."""


def resource(name: str, cluster: ClusterShape) -> Resource:
    """The cluster as a resource, with its roles."""
    roles = tuple(
        Role(key, tuple(role.groups), _terms(cluster, role), role.title, tuple(role.within))
        for key, role in cluster.roles.items()
    )
    return Resource(name, cluster.kind, cluster.title, tuple(cluster.aliases), roles)


def target(cluster: ClusterShape, base: Path) -> ClusterTarget:
    """Where the API server is, and how the gate and the broker enter."""
    mint = cluster.mint
    return ClusterTarget(
        host=cluster.host,
        port=cluster.port,
        ca=(base / cluster.ca).read_text() if cluster.ca else "",
        token=SecretRef(cluster.token, base.absolute()),
        mint=Mint(mint.namespace, mint.service_account) if mint else None,
    )


def _terms(cluster: ClusterShape, role: ClusterRoleShape) -> Terms:
    return Terms(
        max_sessions=role.max_sessions,
        guardrails=(*(_guardrail(rail) for rail in (*role.guardrails, *cluster.guardrails)), OWN_LOGIN),
        detect=() if role.detect == [] else tuple(dict.fromkeys((*cluster.detect, *(role.detect or ())))),
        cluster=ClusterTerms(tuple(role.groups), role.user, tuple(role.connect), role.secrets),
    )


def _guardrail(rail: ClusterRailShape) -> Guardrail:
    return Guardrail(
        name=rail.name,
        action=Action(rail.action),
        classes=frozenset(StatementClass(name) for name in rail.classes),
        quorum=tuple(Quorum(seat.group, seat.needed) for seat in rail.approval),
        hold_for=rail.hold_for or timedelta(minutes=15),
        message=rail.message,
        when=rail.when,
        step_up=rail.step_up,
        api=ApiMatch(
            tuple(rail.verbs),
            tuple(rail.groups),
            tuple(rail.resources),
            tuple(rail.namespaces),
            tuple(rail.names),
            tuple(rail.paths),
        ),
    )
