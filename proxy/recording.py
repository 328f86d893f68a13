"""A session's recording: its format, and reading, verifying and replaying it.

One JSON line an entry: `{"entry": …, "hash": …}`. The hash is SHA-256 over the previous line's hash (hex, 64
zeros before the first) followed by the entry's exact bytes, so that an entry removed, changed or moved shows.
The first entry is the header, the last the footer; a recording without a footer was cut short by a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

GENESIS = "0" * 64


class Header(msgspec.Struct, tag="header", tag_field="kind", frozen=True, omit_defaults=True):
    """Who is in, under which grant. `started` is an ISO instant; entries count seconds from it."""

    session: str
    principal: str
    grant: str
    resource: str
    role: str
    client: str
    protocol: str
    started: str


class Statement(msgspec.Struct, tag="statement", tag_field="kind", frozen=True, omit_defaults=True):
    """One execution and its outcome. `at` and `took` are seconds; `rows` is what the command tag counts.

    `outcome` is ok, error, refused, suspended (a portal with rows left) or unfinished (the session ended
    first). `sha256` and `length` (bytes) stand in when the text was too long to keep whole. `review` names
    the review of a statement that was held, `decision` tells how that ended, `decided_by` by whom, and
    `waited` after how many seconds.
    """

    n: int
    at: float
    text: str
    outcome: str
    took: float = 0.0
    tag: str = ""
    rows: int = 0
    parameters: list[str | None] = []
    sqlstate: str = ""
    message: str = ""
    verdict: str = ""
    sha256: str = ""
    length: int = 0
    review: str = ""
    decision: str = ""
    decided_by: str = ""
    waited: float = 0.0


class Footer(msgspec.Struct, tag="footer", tag_field="kind", frozen=True, omit_defaults=True):
    """How the session ended, and its counts, which must agree with the entries."""

    at: float
    reason: str
    detail: str
    statements: int
    refused: int
    rows: int


Entry = Header | Statement | Footer


class _Line(msgspec.Struct, frozen=True):
    entry: msgspec.Raw
    hash: str


_ENTRY = msgspec.json.Decoder(Entry)
_LINE = msgspec.json.Decoder(_Line)


class Tampered(Exception):
    """The recording is not what the gate wrote. `line` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording that was verified. `head` is the last hash, which the broker's trail holds too."""

    header: Header
    statements: tuple[Statement, ...]
    footer: Footer | None
    head: str
    entries: int


def chain(previous: str, entry: bytes) -> str:
    """The hash of `entry` after `previous`."""
    return hashlib.sha256(previous.encode() + entry).hexdigest()


def entries(path: Path) -> Iterator[tuple[int, Entry, str]]:
    """The entries in order with line number and hash, each verified before it is given out.

    Raises Tampered at the first line that does not fit the chain, OSError when the file cannot be read. A
    last line without a line end was being written when the gate died; it is left out.
    """
    previous = GENESIS
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                parsed = _LINE.decode(line)
                entry = _ENTRY.decode(parsed.entry)
            except msgspec.MsgspecError as error:
                raise Tampered(number, "it is no entry of a recording") from error
            if chain(previous, bytes(parsed.entry)) != parsed.hash:
                raise Tampered(number, "its hash does not follow from its content and the line before it")
            previous = parsed.hash
            yield number, entry, previous


def read(path: Path, head: str = "") -> Recording:
    """Read and verify a whole recording; with `head`, also that it reaches that hash, as the trail says.

    Raises Tampered when the chain, the order or the counts do not hold.
    """
    header: Header | None = None
    footer: Footer | None = None
    statements: list[Statement] = []
    last, count, seen = GENESIS, 0, not head
    for number, entry, last in entries(path):
        count = number
        seen = seen or last == head
        if footer is not None:
            raise Tampered(number, "an entry follows the footer")
        if (header is None) != isinstance(entry, Header):
            raise Tampered(number, "the header is not the first entry and the only one")
        if isinstance(entry, Header):
            header = entry
        elif isinstance(entry, Footer):
            footer = entry
        elif entry.n != len(statements) + 1:
            raise Tampered(number, f"statement {entry.n} stands where {len(statements) + 1} should")
        else:
            statements.append(entry)
    if header is None:
        raise Tampered(1, "the recording is empty")
    if footer is not None and footer.statements != len(statements):
        raise Tampered(count, f"the footer counts {footer.statements} statements, {len(statements)} are here")
    if not seen:
        raise Tampered(count, "the trail holds a later hash than this recording reaches: its end is missing")
    return Recording(header, tuple(statements), footer, last, count)


def render(recording: Recording) -> Iterator[str]:
    """The recording as lines for people: who, then each statement with its time, outcome and duration."""
    it = recording.header
    yield f"Session {it.session}: {it.principal} on {it.resource} as {it.role}, grant {it.grant}"
    yield f"From {it.client} over {it.protocol}, started {it.started}"
    for statement in recording.statements:
        yield from _render_statement(statement)
    if recording.footer is None:
        yield "(no end recorded: the gate stopped in the middle, or the session is still open)"
        return
    end = recording.footer
    yield (
        f"{_clock(end.at)}  ended by {end.reason}: {end.detail}"
        if end.detail
        else (f"{_clock(end.at)}  ended by {end.reason}")
    )
    yield f"{end.statements} statements, {end.refused} refused, {end.rows} rows; chain verified"


def _render_statement(it: Statement) -> Iterator[str]:
    lines = _printable(it.text).splitlines() or [""]
    yield f"{_clock(it.at)}  {lines[0]}"
    for line in lines[1:]:
        yield f"{'':12}  {line}"
    for index, value in enumerate(it.parameters, 1):
        yield f"{'':12}  ${index} = {'NULL' if value is None else _printable(value)}"
    if it.decision:
        by = f" by {it.decided_by}" if it.decided_by else ""
        review = it.review or "nobody was asked"
        yield f"{'':12}  held {it.waited:.1f} s, {it.decision}{_printable(by)} ({review})"
    said = it.tag if it.outcome == "ok" else f"{it.outcome.upper()} {it.sqlstate} {it.message}".strip()
    yield f"{'':12}  → {_printable(said)} · {_rows(it.rows)}{it.took * 1000:.1f} ms"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'} · " if count else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:06.3f}"


def _printable(text: str) -> str:
    """Without control characters, so that a recorded statement cannot drive the reader's terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
