"""Recordings as the broker knows them. Their format is the gate's; the composition root brings a reader."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RecordedStatement:
    """One statement of a recording: `at` and `took` in seconds, `outcome` as the gate wrote it.

    Everything stands as it was recorded: what the gate masks, it masked before. `statement_class` is empty
    where the gate had nothing to guard or mask. `length` (bytes) is of a text that was too long to be kept
    whole. `review`, `decision`, `decided_by` and `waited` (seconds) tell of one that was held.
    """

    n: int
    at: float
    text: str
    outcome: str
    took: float
    tag: str
    rows: int
    parameters: tuple[str | None, ...] = ()
    sqlstate: str = ""
    message: str = ""
    statement_class: str = ""
    length: int = 0
    review: str = ""
    decision: str = ""
    decided_by: str = ""
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedScreen:
    """What one channel of a session on a host showed or did at `at` seconds, as the gate wrote it. The event
    f is something done with a file.
    """

    channel: int
    at: float
    event: str
    text: str


@dataclass(frozen=True, slots=True)
class RecordingView:
    """A recording that was verified: its statements, the lines to show people, and an asciicast for each
    terminal in it.
    """

    statements: tuple[RecordedStatement, ...]
    lines: tuple[str, ...]
    whole: bool
    casts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sought:
    """What a statement has to be like. `like` is a part of its text, the case of A to Z aside; `since` and
    `until` are instants it began at; `below` is a number it stands before in its session (None: anywhere).
    """

    like: str = ""
    since: datetime | None = None
    until: datetime | None = None
    refused: bool = False
    statement_class: str = ""
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What fits in one recording, newest first; `started` is what `at` counts from."""

    started: datetime
    statements: tuple[RecordedStatement, ...]


class Tail(Protocol):
    """A recording that is followed while it is written. `ended` tells how its session ended, once that is
    written; `behind` whether there may be more at once.
    """

    @property
    def ended(self) -> str: ...
    @property
    def behind(self) -> bool: ...

    def step(self) -> list[RecordedStatement | RecordedScreen]:
        """What has come, verified; of a bounded size. Raises ValueError as Recordings does."""
        ...

    def close(self) -> None: ...


class Recordings(Protocol):
    """Where recordings are read. Each method raises LookupError when there is none of that session here, and
    ValueError (saying where) when it is not as the gate wrote it.
    """

    def read(self, session: str, head: str) -> RecordingView:
        """The whole; it has to reach `head`, the seal that the broker was told last."""
        ...

    def har(self, session: str, head: str) -> dict[str, Any]:
        """Its HTTP requests as an HTTP Archive (HAR 1.2). All of the recording is verified."""
        ...

    def search(self, session: str, head: str, sought: Sought, most: int) -> Found:
        """The newest `most` statements that fit. All of the recording is verified."""
        ...

    def follow(self, session: str, *, from_start: bool) -> Tail:
        """Follow a recording from its beginning, or from what is written next. The caller closes it."""
        ...

    def keep(self, session: str, offset: int, piece: bytes) -> int:
        """Put what a gate elsewhere has written behind what is here, where it fits there, and sync it.
        Returns how many bytes are here. Raises OSError.
        """
        ...
