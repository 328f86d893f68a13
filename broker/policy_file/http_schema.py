"""HTTP services in access.yaml: their shape, what is checked about them, and their values."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from broker.config import HttpTarget, Problem, SecretRef
from broker.policy_file import marks
from broker.policy_file.basics import Name, Secret, Shape
from broker.policy_file.guardrails import RailShape
from broker.policy_file.marks import Marked
from broker.policy_file.near import near
from broker.policy_file.resource_schema import ResourceShape, RoleShape
from workflows import json_path
from workflows.http import FieldMask, FieldMatch, HttpTerms, RequestMatch
from workflows.model import Action, Guardrail, Quorum, Resource, Role, StatementClass, Terms

IDENTITY_HEADER = "Portcullis-Identity"
PLACES = ("principal", "name", "email", "groups", "role", "resource")
"""What may stand in braces in the value of a header."""
_FRAMING = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
        "cookie",
        "expect",
    }
)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _matches(value: Any) -> Any:
    """`name: value`, `name: [value, …]`, or a list of names that have to be there."""
    if isinstance(value, list):
        return {name: [] for name in value}
    return {name: _listed(said) for name, said in value.items()} if isinstance(value, dict) else value


def _template(value: str) -> str:
    if not value.startswith("/") or "//" in value or re.search(r"(^|/)\.{1,2}(/|$)|[?#\\%\s]", value):
        raise ValueError("a path is written /api/users/{id}, decoded; * is any part of a name, ** any parts")
    return value


def _json_path(value: str) -> str:
    try:
        json_path.parse(value)
    except json_path.BadPath as error:
        raise ValueError(str(error)) from error
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,64}", value):
        raise ValueError("a header's name has letters, digits and dashes")
    if value.lower() in _FRAMING:
        raise ValueError("this header belongs to the connection, which is the gate's")
    return value


def _value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("a header's value is printable ASCII")
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
    except ValueError as error:
        raise ValueError("braces hold a name, like {principal}") from error
    for name in names:
        if name not in PLACES:
            raise ValueError(f"there is no {{{name}}}, only {', '.join(f'{{{place}}}' for place in PLACES)}")
    return value


HeaderName = Annotated[str, AfterValidator(_header)]
HeaderValue = Annotated[str, AfterValidator(_value)]
Pattern = Annotated[str, Field(max_length=500)]
Matches = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=200)], list[Pattern]], BeforeValidator(_matches)
]
Template = Annotated[str, AfterValidator(_template)]
Method = Annotated[str, Field(pattern=r"^[A-Z]{1,32}$")]


class HttpRailShape(RailShape):
    methods: Annotated[list[Method], BeforeValidator(_listed)] = []
    paths: Annotated[list[Template], BeforeValidator(_listed)] = []
    query: Matches = {}
    headers: Matches = {}
    body: Matches = {}
    """Fields of a JSON body, by paths like `$.user.role`."""


class FieldMaskShape(Shape):
    field: Annotated[str, AfterValidator(_json_path)]
    method: Literal["full", "null", "last4", "email", "hash", "pseudonym"] = "full"


class CredentialShape(Shape):
    """What the gate shows the service: the prefix and the secret, in this header."""

    header: HeaderName = "Authorization"
    prefix: Annotated[str, Field(max_length=64, pattern=r"^[ -~]*$")] = ""
    value: Secret


class HttpRoleShape(RoleShape):
    headers: dict[HeaderName, HeaderValue] = {}
    """They come over those of the service."""
    masks: list[FieldMaskShape] | None = None
    """None: the masks of the service. A list adds to them; an empty list takes them all off."""
    record: Literal["lines", "heads", "bodies"] | None = None
    websocket: bool = True
    pass_types: list[Annotated[str, Field(pattern=r"^[a-z0-9.+*-]+/[a-z0-9.+*-]+$")]] = []
    """Media types of answers that pass unread although something is masked, like text/css or image/*."""
    approval_headers: list[HeaderName] = []
    encoded_slash: bool = False
    guardrails: list[HttpRailShape] = []


class HttpShape(ResourceShape):
    kind: Literal["http"]
    tls: Literal["verify-full", "require", "disable"] = "verify-full"
    ca: str = ""
    host_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]*$")] = ""
    """Under which name the service knows itself; nothing: its address."""
    credential: CredentialShape | None = None
    identity_header: HeaderName = IDENTITY_HEADER
    headers: dict[HeaderName, HeaderValue] = {}
    remove_headers: list[HeaderName] = []
    masks: list[FieldMaskShape] = []
    record: Literal["lines", "heads", "bodies"] = "heads"
    guardrails: list[HttpRailShape] = []
    roles: dict[Name, HttpRoleShape] = Field(min_length=1)


# ---------------------------------------------------------------- checking


def check(marked: Marked, path: marks.Path, service: HttpShape, name: str) -> Iterator[Problem]:
    """Every problem of one service beside its guardrails' approvals and its TLS."""
    labels = [label for label in (name, *service.aliases) if is_label(label)]
    if not labels:
        what = f"“{name}” cannot stand before the gate's domain in a browser's address"
        yield marked.problem(
            path, what, "a name or an alias of small letters, digits and dashes, 63 at most", key=True
        )
    yield from _rails(marked, (*path, "guardrails"), service.guardrails)
    taken = [service.identity_header.lower()]
    if service.credential is not None:
        taken.append(service.credential.header.lower())
    if len(set(taken)) != len(taken):
        yield marked.problem(
            (*path, "identity_header"), "the credential is in this header already", "another one"
        )
    for key, role in service.roles.items():
        here = (*path, "roles", key)
        yield from _rails(marked, (*here, "guardrails"), role.guardrails)
        for header in role.headers:
            if header.lower() in taken:
                yield marked.problem(
                    (*here, "headers", header), f"“{header}” is filled in by the gate already"
                )
    for header in service.headers:
        if header.lower() in taken:
            yield marked.problem((*path, "headers", header), f"“{header}” is filled in by the gate already")


def is_label(text: str) -> bool:
    """Whether this can be one part of a host's name."""
    return re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", text) is not None


def _rails(marked: Marked, path: marks.Path, rails: list[HttpRailShape]) -> Iterator[Problem]:
    for index, rail in enumerate(rails):
        for name in rail.kinds:
            what = "requests are told apart by methods, not by kinds"
            yield marked.problem((*path, index, "kinds"), what, f"methods: [{name.upper()}]")
            break
        for field in rail.body:
            try:
                json_path.parse(field)
            except json_path.BadPath as error:
                yield marked.problem((*path, index, "body"), str(error), near(f"$.{field}", [f"$.{field}"]))
        if rail.body and "GET" in rail.methods:
            yield marked.problem((*path, index, "body"), "a GET has no body that a service looks at")


# ------------------------------------------------------------------ values


def resource(name: str, service: HttpShape) -> Resource:
    """The service as a resource, with its roles."""
    roles = tuple(
        Role(key, (), _terms(service, role), role.title, tuple(role.within))
        for key, role in service.roles.items()
    )
    return Resource(name, service.kind, service.title, tuple(service.aliases), roles)


def target(service: HttpShape, base: Path) -> HttpTarget:
    """Where the service is, and what the gate tells it."""
    secret = service.credential
    return HttpTarget(
        host=service.host,
        port=service.port,
        tls=service.tls,
        ca=(base / service.ca).read_text() if service.ca else "",
        authority=service.host_header,
        identity_header=service.identity_header,
        credential_header=secret.header if secret else "",
        credential_prefix=secret.prefix if secret else "",
        credential=SecretRef(secret.value, base.absolute()) if secret else None,
        headers=dict(service.headers),
        role_headers={key: dict(role.headers) for key, role in service.roles.items()},
        removed=tuple(service.remove_headers),
    )


def _terms(service: HttpShape, role: HttpRoleShape) -> Terms:
    return Terms(
        max_sessions=role.max_sessions,
        guardrails=tuple(_guardrail(rail) for rail in (*role.guardrails, *service.guardrails)),
        detect=() if role.detect == [] else tuple(dict.fromkeys((*service.detect, *(role.detect or ())))),
        http=HttpTerms(
            masks=_masks(service.masks, role.masks),
            record=role.record or service.record,
            websocket=role.websocket,
            pass_types=tuple(role.pass_types),
            matter=tuple(role.approval_headers),
            encoded_slash=role.encoded_slash,
        ),
    )


def _masks(of_service: list[FieldMaskShape], of_role: list[FieldMaskShape] | None) -> tuple[FieldMask, ...]:
    """The role's masks over the service's; an empty list of the role takes all of them off."""
    if of_role == []:
        return ()
    chosen = {mask.field: mask.method for mask in (*of_service, *(of_role or ()))}
    return tuple(FieldMask(field, method) for field, method in chosen.items())


def _guardrail(rail: HttpRailShape) -> Guardrail:
    return Guardrail(
        name=rail.name,
        action=Action(rail.action),
        classes=frozenset(StatementClass(name) for name in rail.classes),
        quorum=tuple(Quorum(seat.group, seat.needed) for seat in rail.approval),
        hold_for=rail.hold_for or timedelta(minutes=15),
        message=rail.message,
        when=rail.when,
        step_up=rail.step_up,
        request=RequestMatch(
            methods=frozenset(rail.methods),
            paths=tuple(rail.paths),
            query=_wanted(rail.query),
            headers=_wanted(rail.headers),
            body=_wanted(rail.body),
        ),
    )


def _wanted(matches: dict[str, list[str]]) -> tuple[FieldMatch, ...]:
    return tuple(FieldMatch(name, tuple(values)) for name, values in matches.items())
