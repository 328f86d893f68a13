"""Reading `run RESOURCE "SQL" because …`. The statement is taken as it was typed: no character of it is
mended, since what is approved is what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workflows.asking import nearest
from workflows.lines import MAX_REASON, Context, Mistake, because
from workflows.words import tidy

MAX_RUN_LINE = 20_000
_LINE = re.compile(
    r"run(?:\s+(?P<resource>[^\s\"'`“”„‘’]+))?(?:\s+as\s+(?P<role>\S+))?\s*(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_CLOSERS = {"```": "```", "`": "`"}
_CLOSERS |= dict.fromkeys("'‘’", "['‘’]") | dict.fromkeys('"“”„', '["“”]')
_BECAUSE = ("because", "bc", "for")


@dataclass(frozen=True, slots=True)
class Run:
    """One statement to run. No `text` means that it is still to be written."""

    resource: str = ""
    role: str = ""
    text: str = ""
    reason: str = ""

    def line(self) -> str:
        parts = ["run", self.resource]
        if self.role:
            parts.append(f"as {self.role}")
        if self.text:
            parts.append(f'"{self.text}"')
        return " ".join([*parts, because(self.reason) if self.reason else ""]).strip()


def is_run(line: str) -> bool:
    """Whether a line as it was typed is a `run`."""
    return line.split(None, 1)[:1] != [] and line.split(None, 1)[0].casefold() == "run"


def statement_in(message: str) -> str:
    """The statement that a message holds: what stands between its first code marks, else all of it."""
    for mark in ("```", "`"):
        _, found, rest = message.partition(mark)
        inside, closed, _ = rest.partition(mark)
        if found and closed and inside.strip():
            return inside.strip()
    return message.strip()


def read_run(line: str, context: Context) -> Run | Mistake:
    """What the line as it was typed means."""
    if len(line) > MAX_RUN_LINE:
        return Mistake(f"A line has at most {MAX_RUN_LINE} characters; yours has {len(line)}.")
    match = _LINE.fullmatch(line.strip())
    assert match is not None, "is_run looked at it"
    given, role, rest = match["resource"] or "", match["role"] or "", match["rest"].strip()
    if not given and rest:
        return Mistake('Run it where? Say run RESOURCE "SELECT …".')
    resource = _resource(given, context)
    if not rest:
        run = Run(resource, role)
    elif (quoted := _unquoted(rest)) is not None:
        run = Run(resource, role, *quoted)
    else:
        mended = Run(resource, role, rest).line() if '"' not in rest else None
        return Mistake("Put the statement in quotes, and the reason behind it: because …", mended)
    if resource.casefold() != given.casefold() and not _known(given, context):
        return Mistake(f"There is no resource “{given[:80]}” that you may ask for.", run.line())
    return run


def _unquoted(rest: str) -> tuple[str, str] | None:
    """The shortest quoted text behind which nothing but a reason comes, and the reason."""
    at = 0
    while match := _closing(rest, at):
        tail = rest[match.end() :].strip()
        words = tail.split(None, 1)
        if not words:
            return rest[_opening(rest) : match.start()].strip(), ""
        if words[0].casefold().rstrip(":") in _BECAUSE:
            reason = tidy(words[1]) if len(words) > 1 else ""
            return rest[_opening(rest) : match.start()].strip(), reason.strip('"')[:MAX_REASON]
        at = match.end()
    return None


def _opening(rest: str) -> int:
    return 3 if rest.startswith("```") else 1


def _closing(rest: str, at: int) -> re.Match[str] | None:
    first = "```" if rest.startswith("```") else rest[:1]
    if first not in _CLOSERS:
        return None
    return re.compile(_CLOSERS[first]).search(rest, max(at, len(first)))


def _resource(given: str, context: Context) -> str:
    """The resource's own name, for its name, an alias or a slip; what is unknown is handed on as it is."""
    for offer in context.offers:
        if given.casefold() in (offer.name.casefold(), *(alias.casefold() for alias in offer.aliases)):
            return offer.name
    close = nearest(given.casefold(), [offer.name for offer in context.offers], 1) if given else []
    return close[0] if close else given


def _known(given: str, context: Context) -> bool:
    names = (n for offer in context.offers for n in (offer.name, *offer.aliases))
    return given.casefold() in {name.casefold() for name in names}
