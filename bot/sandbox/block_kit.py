"""A strict Block Kit validator over plain dicts.

`check_message` and `check_view` return what Slack would complain about, each with a JSON pointer, as in
`response_metadata.messages` of an `invalid_blocks` answer. The rules (block_kit_rules.py) are the limits of
docs.slack.dev/reference/block-kit. Stricter than Slack in one point on purpose: an unknown key is an error,
and a message with blocks must have a fallback text (web_api asks for that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass
class Report:
    """Collects complaints, and the ids that have to be unique on a surface."""

    errors: list[str] = field(default_factory=list)
    block_ids: set[str] = field(default_factory=set)

    def error(self, text: str, pointer: str) -> None:
        self.errors.append(f"[ERROR] {text} [json-pointer:{pointer}]")


Check = Callable[[Any, str, Report], None]


@dataclass(frozen=True)
class Shape:
    """The keys of an object: which are required, and a check for each. `also` looks at the whole object."""

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    also: Check | None = None

    def __call__(self, value: Any, at: str, report: Report) -> None:
        if not isinstance(value, Mapping):
            report.error("must be an object", at)
            return
        for key in self.required:
            if key not in value:
                report.error(f"missing required field: {key}", at or "/")
        for key, item in value.items():
            check = self.required.get(key) or self.optional.get(key)
            if check is not None:
                check(item, f"{at}/{key}", report)
            elif key != "type":
                report.error(f"invalid additional property: {key}", at or "/")
        if self.also is not None:
            self.also(value, at, report)


def string(maximum: int, minimum: int = 1) -> Check:
    def check(value: Any, at: str, report: Report) -> None:
        if not isinstance(value, str):
            report.error("must be a string", at)
        elif len(value) > maximum:
            report.error(f"must be less than {maximum + 1} characters", at)
        elif len(value) < minimum:
            report.error(f"must be more than {minimum - 1} characters", at)

    return check


def boolean(value: Any, at: str, report: Report) -> None:
    if not isinstance(value, bool):
        report.error("must be a boolean", at)


def integer(minimum: int, maximum: int) -> Check:
    def check(value: Any, at: str, report: Report) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            report.error(f"must be an integer between {minimum} and {maximum}", at)

    return check


def objects(value: Any) -> list[Json]:
    """The objects of what ought to be a list of objects."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def anything(value: Any, at: str, report: Report) -> None:
    """No rule for this value."""


def choice(*allowed: str) -> Check:
    def check(value: Any, at: str, report: Report) -> None:
        if value not in allowed:
            report.error(f"must be one of: {', '.join(allowed)}", at)

    return check


def pattern(matches: Callable[[str], object], what: str) -> Check:
    def check(value: Any, at: str, report: Report) -> None:
        if not isinstance(value, str) or not matches(value):
            report.error(f"must be {what}", at)

    return check


def items(each: Check, minimum: int, maximum: int) -> Check:
    def check(value: Any, at: str, report: Report) -> None:
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            report.error("must be an array", at)
            return
        if len(value) > maximum:
            report.error(f"no more than {maximum} items allowed", at)
        if len(value) < minimum:
            report.error(f"must have at least {minimum} items", at)
        for index, item in enumerate(value):
            each(item, f"{at}/{index}", report)

    return check


def text(maximum: int, *, plain_only: bool = False, minimum: int = 1) -> Check:
    """A text object: plain_text (with emoji) or mrkdwn (with verbatim)."""
    body = string(maximum, minimum)

    def check(value: Any, at: str, report: Report) -> None:
        kind = value.get("type") if isinstance(value, Mapping) else None
        if kind == "plain_text":
            Shape({"text": body}, {"emoji": boolean})(value, at, report)
        elif kind == "mrkdwn" and not plain_only:
            Shape({"text": body}, {"verbatim": boolean})(value, at, report)
        else:
            report.error("must be a plain_text object" if plain_only else "must be a text object", at)

    return check


def typed(shapes: Mapping[str, Check], what: str) -> Check:
    """An object whose `type` picks its rules; other types are refused here."""

    def check(value: Any, at: str, report: Report) -> None:
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or kind not in shapes:
            report.error(f"unsupported type of {what}: {kind}", f"{at}/type")
        else:
            shapes[kind](value, at, report)

    return check


def unique(key: str, among: Callable[[Json], list[Any]]) -> Check:
    """No two of the objects that `among` lists may share `key`."""

    def check(value: Any, at: str, report: Report) -> None:
        seen: set[Any] = set()
        for item in among(value):
            if not isinstance(item, Mapping) or not isinstance(item.get(key), str):
                continue
            if item[key] in seen:
                report.error(f"`{key}` already exists: {item[key]}", at)
            seen.add(item[key])

    return check


def all_of(*checks: Check) -> Check:
    def check(value: Any, at: str, report: Report) -> None:
        for each in checks:
            each(value, at, report)

    return check


def one_of(*keys: str) -> Check:
    """At least one of the keys is there."""

    def check(value: Any, at: str, report: Report) -> None:
        if not any(key in value for key in keys):
            report.error(f"one of {', '.join(keys)} is required", at or "/")

    return check
