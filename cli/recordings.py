"""Recordings, read for the broker and for `access audit verify`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.recordings import Found, RecordedScreen, RecordedStatement, RecordingView, Sought
from proxy import recording, recording_search
from proxy.http.har import har
from proxy.recording import FileOperation, Recording, Screen, Statement, Tampered
from proxy.recording_tail import Tail
from proxy.shipping import SHIPPED
from proxy.ssh.cast import casts


class Shelf:
    """The recordings in a directory, one `SESSION.jsonl` each, as proxy/recorder.py writes them.

    See broker.recordings.Recordings.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keeping = threading.Lock()

    def read(self, session: str, head: str) -> RecordingView:
        """The whole of a recording."""
        found = self._read(session, head)
        statements = tuple(map(told, found.statements))
        lines, whole = tuple(recording.render(found)), found.footer is not None
        return RecordingView(statements, lines, whole, casts(found))

    def har(self, session: str, head: str) -> dict[str, Any]:
        """Its HTTP requests as an HTTP Archive."""
        return har(self._read(session, head))

    def search(self, session: str, head: str, sought: Sought, most: int) -> Found:
        """The newest statements that fit."""
        wanted = recording_search.Sought(
            sought.like, sought.since, sought.until, sought.refused, sought.statement_class, sought.below
        )
        with _told(session):
            found = recording_search.search(self._place(session), wanted, most, head)
        return Found(found.started, tuple(map(told, found.statements)))

    def follow(self, session: str, *, from_start: bool) -> Follower:
        """Follow a recording while it is written."""
        with _told(session):
            return Follower(session, Tail(self._place(session), from_start=from_start))

    def keep(self, session: str, offset: int, piece: bytes) -> int:
        """Put a piece behind what is here; nothing is ever written over."""
        with self._keeping:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = self._there(session) or self._directory / f"{_plain(session)}.jsonl"
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                held = os.fstat(descriptor).st_size
                if held == offset and piece:
                    file.write(piece)
                    file.flush()
                    os.fdatasync(descriptor)
                    held += len(piece)
            return held

    def check(self, session: str, entries: int, head: str) -> str | None:
        """What is wrong with a recording of which the trail says that entry `entries` has the hash `head`."""
        try:
            for number, _entry, found in recording.entries(self._place(session)):
                if number == entries:
                    return None if found == head else f"line {entries}: not the hash that the trail holds"
        except LookupError:
            return "it is not there"
        except Tampered as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return f"it ends before line {entries}"

    def _read(self, session: str, head: str) -> Recording:
        with _told(session):
            return recording.read(self._place(session), head)

    def _place(self, session: str) -> Path:
        place = self._there(session)
        if place is None:
            raise LookupError(session)
        return place

    def _there(self, session: str) -> Path | None:
        """Where the recording lies: also where a gate has set it aside, having brought it to its broker."""
        name = f"{_plain(session)}.jsonl"
        places = (self._directory / name, self._directory / SHIPPED / name)
        return next((place for place in places if place.is_file()), None)


def _plain(session: str) -> str:
    """The id as a file's name. Raises LookupError for what is no plain name."""
    if not session or not all(c.isalnum() or c in "-_" for c in session):
        raise LookupError(session)
    return session


class Follower:
    """See broker.recordings.Tail."""

    def __init__(self, session: str, tail: Tail) -> None:
        self._session = session
        self._tail = tail

    @property
    def ended(self) -> str:
        return self._tail.ended.reason if self._tail.ended else ""

    @property
    def behind(self) -> bool:
        return self._tail.behind

    def step(self) -> list[RecordedStatement | RecordedScreen]:
        with _told(self._session):
            return [told(it) if isinstance(it, Statement) else _shown(it) for it in self._tail.step()]

    def close(self) -> None:
        self._tail.close()


@contextmanager
def _told(session: str) -> Iterator[None]:
    """The gate's errors in the broker's words."""
    try:
        yield
    except FileNotFoundError:
        raise LookupError(session) from None
    except (Tampered, OSError) as error:
        raise ValueError(
            str(error) if isinstance(error, Tampered) else f"it cannot be read ({error.strerror})"
        ) from None


def _shown(it: Screen | FileOperation) -> RecordedScreen:
    if isinstance(it, FileOperation):
        return RecordedScreen(it.channel, it.at, "f", recording.file_line(it))
    return RecordedScreen(it.channel, it.at, it.event, it.text)


def told(it: Statement) -> RecordedStatement:
    """A statement as the broker knows it."""
    return RecordedStatement(
        n=it.n,
        at=it.at,
        text=it.text,
        outcome=it.outcome,
        took=it.took,
        tag=it.tag,
        rows=it.rows,
        parameters=tuple(it.parameters),
        sqlstate=it.sqlstate,
        message=it.message,
        statement_class=it.verdict,
        length=it.length,
        review=it.review,
        decision=it.decision,
        decided_by=it.decided_by,
        waited=it.waited,
    )
