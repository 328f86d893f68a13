"""Recordings, read for the broker and for `access audit verify`."""

from __future__ import annotations

from pathlib import Path

from broker.api.parts import RecordedStatement, RecordingView
from proxy import recording
from proxy.recording import Recording, Tampered


class Shelf:
    """The recordings in a directory, one `SESSION.jsonl` each, as proxy/recorder.py writes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, session: str, head: str) -> RecordingView:
        """See broker.api.parts.Recordings."""
        found = self._read(session, head)
        statements = tuple(
            RecordedStatement(s.n, s.at, s.text, s.outcome, s.took, s.tag, s.rows) for s in found.statements
        )
        return RecordingView(statements, tuple(recording.render(found)), found.footer is not None)

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
        try:
            return recording.read(self._place(session), head)
        except FileNotFoundError:
            raise LookupError(session) from None
        except Tampered as error:
            raise ValueError(str(error)) from None

    def _place(self, session: str) -> Path:
        if not session or not all(c.isalnum() or c in "-_" for c in session):
            raise LookupError(session)
        place = self._directory / f"{session}.jsonl"
        if not place.is_file():
            raise LookupError(session)
        return place
