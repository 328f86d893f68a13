"""Looking for statements in recordings, without holding more of one than a group of lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import msgspec

from proxy.recording import Group, Header, Statement, Tampered, groups


@dataclass(frozen=True, slots=True)
class Sought:
    """What a statement has to be like. `like` is a part of its text, the case of A to Z aside; `since` and
    `until` are instants it began at; `kind` is its class as the gate read it; `below` is a number it stands
    before in its session (None: anywhere).
    """

    like: str = ""
    since: datetime | None = None
    until: datetime | None = None
    refused: bool = False
    kind: str = ""
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The newest statements that fit, newest first. `started` is what their `at` counts from."""

    started: datetime
    statements: tuple[Statement, ...]


def search(path: Path, sought: Sought, most: int, head: str = "") -> Found:
    """The newest `most` statements of a recording that fit. All of it is verified, also that it reaches the
    seal `head`.

    Raises Tampered where the chain does not hold, and OSError.
    """
    started: datetime | None = None
    newest: deque[Statement] = deque(maxlen=most)
    seen = not head
    needle = _as_written(sought.like)
    for group in groups(path):
        seen = seen or group.seal == head
        if started is None:
            started = _started(group)
        if needle in group.lines.lower():
            fit = (it for it in _from_the_last(group, needle) if _fits(it, sought, started))
            newest.extend(reversed(list(islice(fit, most))))
    if started is None:
        raise Tampered(1, "the recording is empty")
    if not seen:
        raise Tampered(1, "the trail holds a later hash than this recording reaches: its end is missing")
    return Found(started, tuple(reversed(newest)))


def _started(group: Group) -> datetime:
    header = next(group.entries())
    if not isinstance(header, Header):
        raise Tampered(1, "the header is not the first entry")
    return datetime.fromisoformat(header.started)


def _from_the_last(group: Group, needle: bytes) -> Iterator[Statement]:
    """Those whose line holds the needle, the last first: most lines need not be read."""
    for line in reversed(group.lines.split(b"\n")[:-1]):
        if needle in line.lower():
            entry = next(Group(group.first, line + b"\n", group.seal).entries())
            if isinstance(entry, Statement):
                yield entry


def _as_written(like: str) -> bytes:
    """A part of a text as it stands in a line, in lower case: JSON writes each character by itself."""
    return msgspec.json.encode(like)[1:-1].lower()


def _fits(it: Statement, sought: Sought, started: datetime) -> bool:
    if sought.below is not None and it.n >= sought.below:
        return False
    if sought.refused and it.outcome != "refused":
        return False
    if sought.kind and it.verdict != sought.kind:
        return False
    if sought.like and sought.like.encode().lower() not in it.text.encode().lower():
        return False
    if sought.since is None and sought.until is None:
        return True
    began = started + timedelta(seconds=it.at)
    return (sought.since is None or began >= sought.since) and (sought.until is None or began < sought.until)
