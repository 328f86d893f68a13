"""A session's recording: its format, and reading, verifying and replaying it.

One JSON line an entry, and behind each group of entries that was written at once its seal, `{"seal": …}`. The
seal is SHA-256 over the previous seal (hex, 64 zeros before the first) followed by the exact bytes of the
group's lines, so that an entry removed, changed or moved shows. The first entry is the header, the last the
footer; a recording without a footer was cut short by a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

GENESIS = "0" * 64


class Header(msgspec.Struct, tag="header", tag_field="kind", frozen=True, omit_defaults=True):
    """Who is in, under which grant. `started` is an ISO instant; entries count seconds from it. Of an agent,
    `owner` is the person it belongs to and `purpose` what it said that it wants to do.
    """

    session: str
    principal: str
    grant: str
    resource: str
    role: str
    client: str
    protocol: str
    started: str
    owner: str = ""
    purpose: str = ""


class Statement(msgspec.Struct, tag="statement", tag_field="kind", frozen=True, omit_defaults=True):
    """One execution and its outcome. `at` and `took` are seconds; `rows` is what the command tag counts.

    `outcome` is ok, error, refused, suspended (a portal with rows left) or unfinished (the session ended
    first). `sha256` and `length` (bytes) stand in when the text was too long to keep whole. `review` names
    the review of a statement that was held, `decision` tells how that ended, `decided_by` by whom, and
    `waited` after how many seconds. On an SSH host an execution is a channel of the connection: `channel`
    numbers it, `what` is exec, shell, sftp, subsystem or forward, `sent` and `received` are bytes from and to
    the client.
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
    channel: int = 0
    what: str = ""
    sent: int = 0
    received: int = 0


class Screen(msgspec.Struct, tag="screen", tag_field="kind", frozen=True, omit_defaults=True):
    """Something of a channel as it happened: `event` is begin (with what it runs), o (output), e (standard
    error), i (input), r (the terminal's size, COLUMNSxROWS), p (how much has passed), x (the exit) or n (a
    word of the gate's own).
    What a terminal's user types is not kept: it holds passwords, and what may be seen is echoed.
    """

    channel: int
    at: float
    event: str
    text: str


class FileOperation(msgspec.Struct, tag="file", tag_field="kind", frozen=True, omit_defaults=True):
    """What was done with a file, by sftp or scp. `outcome` is ok, error, refused or unfinished; `sha256` is
    of the bytes that passed, where they passed in order, from the beginning.
    """

    channel: int
    at: float
    operation: str
    path: str
    outcome: str
    to: str = ""
    size: int = 0
    sha256: str = ""
    message: str = ""


class Exchange(msgspec.Struct, tag="exchange", tag_field="kind", frozen=True, omit_defaults=True):
    """A request to an HTTP service and its answer, beside the statement of the same `channel` number, which
    tells line, outcome and sizes. Fields are as client and service sent them, without what is secret; texts
    are the beginnings of bodies that are texts, as the client saw them.
    """

    channel: int
    at: float
    status: int = 0
    request: list[tuple[str, str]] = []
    answer: list[tuple[str, str]] = []
    sent: str = ""
    received: str = ""


class Footer(msgspec.Struct, tag="footer", tag_field="kind", frozen=True, omit_defaults=True):
    """How the session ended, and its counts, which must agree with the entries."""

    at: float
    reason: str
    detail: str
    statements: int
    refused: int
    rows: int


Entry = Header | Statement | Screen | FileOperation | Exchange | Footer
Happened = Screen | FileOperation | Exchange
"""What happens in a session beside its statements."""


_ENTRY = msgspec.json.Decoder(Entry)
_SEALED = b'\n{"seal":"'
"""How a seal begins, behind the end of a line: entries begin otherwise, and hold no line's end."""
_SEAL_LENGTH = 80
_BLOCK = 256 * 1024


class Tampered(Exception):
    """The recording is not what the gate wrote. `line`, from 1, is the first that may not be."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording that was verified. `head` is the last seal, which the broker's trail holds too.
    `happened` is what happened in it beside its statements, in order.
    """

    header: Header
    statements: tuple[Statement, ...]
    footer: Footer | None
    head: str
    entries: int
    happened: tuple[Happened, ...] = ()


def seal(previous: str, group: bytes | bytearray) -> tuple[str, bytes]:
    """The seal of a group of whole lines after the seal `previous`, and the line that says it."""
    digest = hashlib.sha256(previous.encode())
    digest.update(group)
    sealed = digest.hexdigest()
    return sealed, b'{"seal":"%b"}\n' % sealed.encode()


class Group(NamedTuple):
    """Whole lines that were written at once and fit the chain. `first` is the number of the first, from 1."""

    first: int
    lines: bytes
    seal: str

    def entries(self) -> Iterator[Entry]:
        """Raises Tampered at a line that is no entry."""
        for number, line in enumerate(self.lines.split(b"\n")[:-1], self.first):
            yield _entry(number, line)


class Chain:
    """Makes verified groups of a recording's bytes as they come. It holds one group at most."""

    def __init__(self) -> None:
        self._previous = GENESIS
        self._line = 1
        self._held = bytearray()
        self._looked = 0

    @property
    def rest(self) -> bytes:
        """What came behind the last whole group."""
        return bytes(self._held)

    def feed(self, data: bytes) -> Iterator[Group]:
        """The groups that are whole by now. Raises Tampered at the first that does not fit."""
        held = self._held
        held += data
        while (at := held.find(_SEALED, self._looked)) >= 0 and (end := held.find(b"\n", at + 1)) >= 0:
            lines, line = bytes(held[: at + 1]), bytes(held[at + 1 : end + 1])
            sealed, right = seal(self._previous, lines)
            count = lines.count(b"\n")
            if line != right:
                why = f"the seal in line {self._line + count} does not follow from the lines before it"
                raise Tampered(self._line, why)
            del held[: end + 1]
            self._looked = 0
            group = Group(self._line, lines, sealed)
            self._previous, self._line = sealed, self._line + count + 1
            yield group
        self._looked = max(0, len(held) - _SEAL_LENGTH)


def groups(path: Path) -> Iterator[Group]:
    """The groups of a file, in order. Raises Tampered, or OSError when it cannot be read.

    What comes behind the last seal was being written when the gate died; it is left out.
    """
    chain = Chain()
    with path.open("rb") as file:
        while data := file.read(_BLOCK):
            yield from chain.feed(data)
    if chain.rest.startswith(_SEALED[1:]):
        raise Tampered(1, "a seal stands there without lines before it")


def entries(path: Path) -> Iterator[tuple[int, Entry, str]]:
    """The entries in order, numbered from 1, each with its group's seal and verified before it is given out.

    Raises Tampered at the first group that does not fit the chain, OSError when the file cannot be read.
    """
    count, ended = 0, False
    for group in groups(path):
        for entry in group.entries():
            if ended:
                raise Tampered(group.first, "an entry follows the footer")
            count += 1
            yield count, entry, group.seal
            ended = isinstance(entry, Footer)


def _entry(number: int, line: bytes) -> Entry:
    try:
        entry: Entry = _ENTRY.decode(line)
        return entry
    except msgspec.MsgspecError as error:
        raise Tampered(number, "it is no entry of a recording") from error


def read(path: Path, head: str = "") -> Recording:
    """Read and verify a whole recording; with `head`, also that it reaches that hash, as the trail says.

    Raises Tampered when the chain, the order or the counts do not hold.
    """
    header: Header | None = None
    footer: Footer | None = None
    statements: list[Statement] = []
    happened: list[Happened] = []
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
        elif isinstance(entry, Happened):
            happened.append(entry)
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
    return Recording(header, tuple(statements), footer, last, count, tuple(happened))


def render(recording: Recording) -> Iterator[str]:
    """The recording as lines for people: who, then each statement with its time, outcome and duration."""
    it = recording.header
    yield f"Session {it.session}: {it.principal} on {it.resource} as {it.role}, grant {it.grant}"
    yield f"From {it.client} over {it.protocol}, started {it.started}"
    files = [entry for entry in recording.happened if isinstance(entry, FileOperation)]
    told: list[Statement | FileOperation] = [*recording.statements, *files]
    for entry in sorted(told, key=lambda entry: entry.at):
        yield from _render_statement(entry) if isinstance(entry, Statement) else _render_file(entry)
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


def _render_file(it: FileOperation) -> Iterator[str]:
    yield f"{_clock(it.at)}  {file_line(it)}"


def file_line(it: FileOperation) -> str:
    """What was done with a file, in one line for people."""
    to = f" → {it.to}" if it.to else ""
    sealed = (
        f" · {it.size} bytes · sha256 {it.sha256}" if it.sha256 else f" · {it.size} bytes" if it.size else ""
    )
    said = "" if it.outcome == "ok" else f" · {it.outcome.upper()} {it.message}".rstrip()
    return f"{it.operation} {_printable(it.path + to)}{sealed}{_printable(said)}"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'} · " if count else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:06.3f}"


def _printable(text: str) -> str:
    """Without control characters, so that a recorded statement cannot drive the reader's terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
