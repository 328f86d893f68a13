"""Recordings as the gate writes them, for tests of whoever reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from proxy.recording import GENESIS, Entry, Footer, Header, Statement, seal


class Written:
    """One recording's file; what `add` writes is one sealed group, as one look of the recorder's is."""

    def __init__(self, directory: Path, header: Header) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{header.session}.jsonl"
        self.head = GENESIS
        self.count = 0
        self._write([header])

    def add(self, *statements: Statement | str) -> None:
        """Statements, numbered as they come; a text alone is one that read a row."""
        made = []
        for it in statements:
            self.count += 1
            one = (
                it
                if isinstance(it, Statement)
                else Statement(0, float(self.count), it, "ok", 0.001, "SELECT 1", 1)
            )
            made.append(msgspec.structs.replace(one, n=self.count))
        self._write(made)

    def put(self, *entries: Entry) -> None:
        """Whatever else happens in a session."""
        self._write(entries)

    def close(self, reason: str = "client", refused: int = 0, rows: int = 0) -> None:
        self._write([Footer(float(self.count + 1), reason, "", self.count, refused, rows)])

    def _write(self, entries: Sequence[Entry]) -> None:
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        self.head, line = seal(self.head, lines)
        with self.path.open("ab") as file:
            file.write(lines + line)


def recorded(
    directory: Path,
    session: str,
    statements: Iterable[Statement | str] = (),
    *,
    principal: str = "ada",
    grant: str = "G-1",
    started: datetime,
    closed: bool = True,
) -> Written:
    """A recording of a session of Ada's on prod-db, one group a statement."""
    header = Header(
        session, principal, grant, "prod-db", "readonly", "192.0.2.7:5", "postgresql", started.isoformat()
    )
    written = Written(directory, header)
    for statement in statements:
        written.add(statement)
    if closed:
        written.close()
    return written
