"""Paths to fields of JSON: `$.users[*].email`, `$.items[0].id`, `$..email` (a subset of RFC 9535)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

ANY = "*"
DEEP = ".."
Step = str | int
"""A member's name, an index, ANY (of either) or DEEP (any number of both)."""

_STEP = re.compile(
    r"\.\.(?P<deep>[A-Za-z_][\w-]*|\*)|\.(?P<name>[A-Za-z_][\w-]*|\*)|\[(?P<index>\d+|\*)\]"
    r"|\[(?P<quoted>'[^'\]]+'|\"[^\"\]]+\")\]"
)


class BadPath(ValueError):
    """This is no path that is known here."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    steps: tuple[Step, ...]

    def values(self, document: object, *, fold: bool = False) -> list[object]:
        """Every value of a document that the path leads to. With `fold` names fit in any case of letters, as
        some services read them.
        """
        return list(_walk(document, self.steps, fold))

    def fits(self, at: tuple[Step, ...] | list[Step]) -> bool:
        """Whether the path leads to the place `at`: names and indexes from the root."""
        return _fits(self.steps, tuple(at))


@lru_cache(maxsize=1024)
def parse(text: str) -> JsonPath:
    """Raises BadPath."""
    if not text.startswith("$"):
        raise BadPath("a path into JSON begins with $, like $.users[*].email")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise BadPath(
                f"“{text[at:][:20]}” is no step of a path into JSON, like .name, [*], [0] or ..name"
            )
        at = found.end()
        if found["deep"]:
            steps += [DEEP, found["deep"]]
        elif found["name"]:
            steps.append(found["name"])
        elif found["quoted"]:
            steps.append(found["quoted"][1:-1])
        else:
            steps.append(ANY if found["index"] == ANY else int(found["index"]))
    if not steps:
        raise BadPath("$ alone is the whole document")
    return JsonPath(tuple(steps))


def text(value: object) -> str:
    """A value as it is compared: texts as they are, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _walk(value: object, steps: tuple[Step, ...], fold: bool) -> Iterator[object]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step == DEEP:
        yield from _walk(value, rest, fold)
        for inner in _inside(value):
            yield from _walk(inner, steps, fold)
    elif step == ANY:
        for inner in _inside(value):
            yield from _walk(inner, rest, fold)
    elif isinstance(step, int):
        if isinstance(value, list) and step < len(value):
            yield from _walk(value[step], rest, fold)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name == step or (fold and name.casefold() == step.casefold()):
                yield from _walk(inner, rest, fold)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


@lru_cache(maxsize=4096)
def _fits(steps: tuple[Step, ...], at: tuple[Step, ...]) -> bool:
    if not steps:
        return not at
    step = steps[0]
    if step == DEEP:
        return any(_fits(steps[1:], at[start:]) for start in range(len(at)))
    return bool(at) and (step == ANY or step == at[0]) and _fits(steps[1:], at[1:])
