"""Who is too near to decide for whom: `relations` and `apart` in access.yaml, checked, and as values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from broker.config import Problem
from broker.policy_file import marks
from broker.policy_file.marks import Marked
from broker.policy_file.near import near, unknown
from workflows.model import Quorum, Relation

if TYPE_CHECKING:
    from broker.policy_file.schema import FileShape, PersonShape, RuleShape

NONE = "none"
"""Written for somebody who has no team, no manager."""

T = TypeVar("T")


def check(marked: Marked, shape: FileShape) -> Iterator[Problem]:
    """Every problem of the relations, of where they are used, and of people of whom they are not known."""
    for name, groups in shape.relations.items():
        yield from unknown(marked, ("relations", name), groups, shape.groups, "group")
    yield from unknown(marked, ("apart",), shape.apart, shape.relations, "relation")
    for index, rule in enumerate(shape.rules):
        yield from unknown(marked, ("rules", index, "apart"), rule.apart or [], shape.relations, "relation")
    used = {*shape.apart, *(name for rule in shape.rules for name in rule.apart or [])}
    said_of_each = [name for name, groups in shape.relations.items() if not groups and name in used]
    for key, person in shape.people.items():
        yield from _person(marked, shape, ("people", key), person, said_of_each)


def _person(
    marked: Marked, shape: FileShape, path: marks.Path, person: PersonShape, wanted: list[str]
) -> Iterator[Problem]:
    for name in person.relations:
        if name not in shape.relations:
            what = f"there is no relation “{name}”"
            yield marked.problem((*path, "relations", name), what, near(name, shape.relations), key=True)
        elif shape.relations[name]:
            what = f"{name} follows from the groups: {', '.join(shape.relations[name])}"
            yield marked.problem((*path, "relations", name), what, "leave it out", key=True)
    for name in wanted:
        if person.active and name not in person.relations:
            what = f"“{name}” is missing, which keeps approvers apart"
            yield marked.problem(path, what, f"relations: {{{name}: …}}, or {name}: {NONE}")


def of_file(shape: FileShape) -> tuple[Relation, ...]:
    """The relations that keep approvers from deciding wherever nothing else is said."""
    return _values(shape, shape.apart)


def of_rule(shape: FileShape, rule: RuleShape) -> tuple[Relation, ...]:
    return _values(shape, shape.apart if rule.apart is None else rule.apart)


def of_person(person: PersonShape) -> frozenset[tuple[str, str]]:
    return frozenset((name, "" if value == NONE else value) for name, value in person.relations.items())


def everywhere(value: T, apart: tuple[Relation, ...]) -> T:
    """The same value of the model, with every quorum in it, however deep, kept apart like this."""
    if isinstance(value, Quorum):
        return cast("T", replace(value, apart=apart))
    if isinstance(value, tuple):
        return cast("T", tuple(everywhere(item, apart) for item in value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    named: dict[str, Any] = {field.name: getattr(value, field.name) for field in fields(value)}
    return cast("T", replace(value, **{name: everywhere(part, apart) for name, part in named.items()}))


def _values(shape: FileShape, names: list[str]) -> tuple[Relation, ...]:
    return tuple(Relation(name, tuple(shape.relations[name])) for name in dict.fromkeys(names))
