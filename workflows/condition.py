"""Conditions of guardrails, in the Common Expression Language (https://github.com/google/cel-spec).

A condition sees `statement` (class, classes, kind, kinds, tables, bounded, opaque), and the texts
`principal`, `resource` and `role`. It has no clock, reads nothing else, and its cost is bounded by its
length: CEL has no loops but over the statement's own tables.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from functools import lru_cache

import cel

LONGEST = 2000
"""Characters that a condition may have."""

TEXTS = ("principal", "resource", "role")
FIELDS = ("class", "classes", "kind", "kinds", "tables", "bounded", "opaque")

_FUNCTIONS = frozenset({"size", "startsWith", "endsWith", "contains", "matches", "string", "int"})
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_FIELD = re.compile(r"\bstatement\s*\.\s*([A-Za-z_]\w*)")


class Broken(ValueError):
    """A condition that cannot be used; the text says why."""


@lru_cache(maxsize=1024)
def _compiled(text: str) -> cel.Program:
    if len(text) > LONGEST:
        raise Broken(f"is longer than {LONGEST} characters")
    try:
        return cel.compile(text)
    except BaseException as error:  # the library's parser may also panic, which is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise Broken(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    found = re.search(r"ERROR: <input>:\d+:(\d+): (.*)", str(error))
    return f"{found[2][:120]} (character {found[1]})" if found else "this is no CEL expression"


def check(text: str) -> None:
    """Raises Broken for a condition that is no CEL, names what there is not, or is not true or false."""
    program = _compiled(text)
    for name in _FIELD.findall(_LITERAL.sub("''", text)):
        if name not in FIELDS:
            raise Broken(f"a statement has no “{name}”, only {', '.join(FIELDS)}")
    for name in program.functions():
        if re.match(r"[A-Za-z]", name) and name not in _FUNCTIONS:
            raise Broken(f"there is no function “{name}”, only {', '.join(sorted(_FUNCTIONS))}")
    for facts in _samples():
        try:
            answer = program.execute(dict(facts))
        except Exception as error:
            raise Broken(f"does not work for every statement: {str(error)[:160]}") from error
        if not isinstance(answer, bool):
            raise Broken("is not true or false")


def holds(text: str, facts: Mapping[str, object]) -> bool | None:
    """What a condition says of these facts; None when it cannot be evaluated."""
    try:
        answer = _compiled(text).execute(dict(facts))
    except Exception:
        return None
    return answer if isinstance(answer, bool) else None


def _samples() -> list[Mapping[str, object]]:
    """Facts of every shape there is, so that a type error is found when the policy is read."""
    shapes = itertools.product(
        ("read", "unknown"), ([], ["public.users", "hr.salaries"]), (None, True, False), (True, False)
    )
    return [
        {
            "statement": {
                "class": of_class,
                "classes": [of_class],
                "kind": "select",
                "kinds": ["select", "delete"],
                "tables": tables,
                "bounded": bounded,
                "opaque": opaque,
            },
            "principal": "ada",
            "resource": "prod-db",
            "role": "readonly",
        }
        for of_class, tables, bounded, opaque in shapes
    ]
