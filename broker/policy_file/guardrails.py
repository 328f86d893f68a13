"""Guardrails in access.yaml: their shape, what is checked about them, and their values."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pg_query import pg_query_pb2
from pydantic import AfterValidator, Field

from broker.config import Problem
from broker.policy_file import marks
from broker.policy_file.basics import Name, Shape, Span
from broker.policy_file.marks import Marked
from broker.policy_file.near import near
from workflows import condition
from workflows.model import Action, Guardrail, Quorum, StatementClass

if TYPE_CHECKING:
    from broker.policy_file.schema import FileShape

_node: Any = pg_query_pb2.Node
KINDS = frozenset(
    field.name.removesuffix("_stmt") for field in _node.DESCRIPTOR.fields if field.name.endswith("_stmt")
)
"""What a statement may be, as PostgreSQL's grammar names it."""


def _pattern(parts: int, example: str) -> AfterValidator:
    def check(value: str) -> str:
        if value.count(".") != parts - 1 or not all(value.split(".")):
            raise ValueError(f"this is written {example}, with * for any part")
        return value

    return AfterValidator(check)


def _function(value: str) -> str:
    if not re.fullmatch(r"[^.\s()]+(\.[^.\s()]+)?", value):
        raise ValueError("a function is written name or schema.name, without brackets")
    return value


Function = Annotated[str, AfterValidator(_function)]
Detector = Literal["email", "card", "iban", "phone", "national_id"]


class SeatShape(Shape):
    group: str
    needed: int = Field(1, ge=1, le=100)


class RailShape(Shape):
    """What guardrails of every kind of resource share."""

    name: Name
    action: Literal["allow", "refuse", "hold"]
    classes: list[Literal["read", "write", "destructive", "admin", "unknown"]] = []
    kinds: list[str] = []
    when: str = ""
    approval: list[SeatShape] = []
    step_up: bool = False
    """Whether each yes needs a passkey, on a page of ours."""
    hold_for: Span | None = None
    message: str = Field("", max_length=500)


class GuardrailShape(RailShape):
    tables: list[Annotated[str, _pattern(2, "schema.table")]] = []
    columns: list[Annotated[str, _pattern(3, "schema.table.column")]] = []
    bounded: bool | None = None
    dry_run: bool = False
    row_limit: int | None = Field(None, ge=0, le=1_000_000_000)
    timeout: Span | None = None


class CommitShape(Shape):
    """Who says yes to what a transaction wrote, at its COMMIT."""

    name: Name = "hold-commit"
    approval: list[SeatShape] = Field(min_length=1)
    hold_for: Span = timedelta(minutes=15)
    step_up: bool = False
    """Whether each yes needs a passkey, on a page of ours."""
    message: str = Field("", max_length=500)


# ---------------------------------------------------------------- checking


def check(marked: Marked, shape: FileShape) -> Iterator[Problem]:
    """Every problem of the guardrails of resources and roles."""
    for key, resource in shape.resources.items():
        path: marks.Path = ("resources", key)
        yield from _listed(marked, shape, (*path, "guardrails"), resource.guardrails, {})
        taken = {rail.name: f"the guardrails of {key}" for rail in resource.guardrails}
        for name, role in resource.roles.items():
            here: marks.Path = (*path, "roles", name)
            yield from _listed(marked, shape, (*here, "guardrails"), role.guardrails, taken)
            commit = getattr(role, "hold_commit", None)  # databases only
            if isinstance(commit, CommitShape):
                yield from _seats(marked, shape, (*here, "hold_commit"), commit.approval)


def _listed(
    marked: Marked, shape: FileShape, path: marks.Path, rails: Sequence[RailShape], taken: dict[str, str]
) -> Iterator[Problem]:
    seen = dict(taken)
    for index, rail in enumerate(rails):
        here: marks.Path = (*path, index)
        if rail.name in seen:
            yield marked.problem((*here, "name"), f"“{rail.name}” is taken already", f"by {seen[rail.name]}")
        seen[rail.name] = "another guardrail here"
        if isinstance(rail, GuardrailShape):
            yield from _fitting(marked, here, rail)
        yield from _condition(marked, here, rail)
        yield from _answer(marked, shape, here, rail)


def _fitting(marked: Marked, path: marks.Path, rail: GuardrailShape) -> Iterator[Problem]:
    for index, name in enumerate(rail.kinds):
        if name not in KINDS:
            yield marked.problem(
                (*path, "kinds", index), f"there is no kind of statement “{name}”", _near_kind(name)
            )
    if rail.columns and rail.action == "allow":
        what = "a guardrail that allows cannot tell that no other column is meant"
        yield marked.problem((*path, "columns"), what, "name tables, or refuse or hold the columns")


def _condition(marked: Marked, path: marks.Path, rail: RailShape) -> Iterator[Problem]:
    if rail.when:
        try:
            condition.check(rail.when)
        except condition.Broken as error:
            yield marked.problem((*path, "when"), f"this condition {_said(error)}")


def _said(error: condition.Broken) -> str:
    text = str(error)
    return text if text.split(" ")[0] in ("is", "does") else f"cannot be used: {text}"


def _near_kind(name: str) -> str:
    found = near(name, KINDS)
    return found if found.startswith("did you") else "for example select, delete, drop, truncate, alter_table"


def _answer(marked: Marked, shape: FileShape, path: marks.Path, rail: RailShape) -> Iterator[Problem]:
    if rail.action != "hold":
        for key in ("approval", "hold_for", "dry_run", "step_up"):
            if getattr(rail, key, None):
                yield marked.problem(
                    (*path, key), f"“{key}” belongs to a guardrail that holds", "action: hold"
                )
    elif not rail.approval:
        yield marked.problem(path, "nobody is asked", "say approval: [{group: …, needed: 1}]")
    if rail.action == "refuse":
        for key in ("row_limit", "timeout"):
            if getattr(rail, key, None) is not None:
                yield marked.problem((*path, key), f"“{key}” has no meaning for what is refused")
    yield from _seats(marked, shape, path, rail.approval)


def _seats(marked: Marked, shape: FileShape, path: marks.Path, seats: list[SeatShape]) -> Iterator[Problem]:
    """Whether those who are asked are there."""
    for index, seat in enumerate(seats):
        here: marks.Path = (*path, "approval", index)
        if seat.group not in shape.groups:
            what = f"there is no group “{seat.group}”"
            yield marked.problem((*here, "group"), what, near(seat.group, shape.groups))
        elif shape.people:
            able = sum(
                seat.group in p.groups and p.active and p.kind == "person" for p in shape.people.values()
            )
            if able < seat.needed:
                what = f"{seat.needed} of {seat.group} can never agree: it has {able} active people"
                yield marked.problem(here, what)


# ------------------------------------------------------------------ values


_REACHES_LOGINS = (
    "statement.kinds.exists(k, k in ['alter_role', 'alter_role_set', 'create_role', 'drop_role', "
    "'grant_role', 'do', 'create_function'])"
)

OWN_LOGIN = Guardrail(
    name="own-login",
    action=Action.REFUSE,
    message="A login with a password of its own, or another login, would lead round the gate.",
    when=_REACHES_LOGINS,
)
"""Stands behind the guardrails of every role: the login of a grant may not be made to work without the gate,
neither at once nor by code that does it later. A guardrail of the policy's own may allow it, by naming the
kind: one that sets a limit on everything, or allows a class, does not mean this.
"""


def values(of_role: list[GuardrailShape], of_resource: list[GuardrailShape]) -> tuple[Guardrail, ...]:
    """The role's guardrails, after them the resource's, and ours at the end."""
    return (*(_value(rail) for rail in (*of_role, *of_resource)), OWN_LOGIN)


def commit_value(shape: CommitShape | None) -> Guardrail | None:
    """What holds the COMMIT of a role; None where nothing does."""
    if shape is None:
        return None
    return Guardrail(
        name=shape.name,
        action=Action.HOLD,
        quorum=tuple(Quorum(seat.group, seat.needed) for seat in shape.approval),
        hold_for=shape.hold_for,
        message=shape.message,
        step_up=shape.step_up,
    )


def _value(rail: GuardrailShape) -> Guardrail:
    return Guardrail(
        name=rail.name,
        action=Action(rail.action),
        classes=frozenset(StatementClass(name) for name in rail.classes),
        tables=tuple(rail.tables),
        quorum=tuple(Quorum(seat.group, seat.needed) for seat in rail.approval),
        hold_for=rail.hold_for or timedelta(minutes=15),
        row_limit=rail.row_limit,
        message=rail.message,
        columns=tuple(rail.columns),
        kinds=frozenset(rail.kinds),
        bounded=rail.bounded,
        when=_when(rail),
        timeout=rail.timeout,
        dry_run=rail.dry_run,
        step_up=rail.step_up,
    )


def _when(rail: GuardrailShape) -> str:
    """The condition of a guardrail. One that allows without naming kinds leaves out what reaches logins."""
    if rail.action != "allow" or rail.kinds:
        return rail.when
    return f"!{_REACHES_LOGINS} && ({rail.when})" if rail.when else f"!{_REACHES_LOGINS}"
