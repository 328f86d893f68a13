"""Writing the recordings: put into lines in the data path; sealed, written and synced by a thread.

What cannot be recorded does not go on: a write that fails, a file that was removed, a disk that does not
answer and a backlog that grows too long all fail the tracks concerned, and their sessions are cut.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import msgspec

from proxy import recording
from proxy.files import sync, write_all
from proxy.journal import Journal, Piece, recover
from proxy.recording import GENESIS, Footer, Header, Statement

TEXT_LIMIT = 64 * 1024
"""Bytes of a statement that are kept; of a longer one the hash of the whole is kept beside its beginning."""

JOURNAL_LIMIT = 32 << 20
"""Bytes after which the files are synced and the journal begins anew."""

_encode = msgspec.json.Encoder().encode
_encode_into = msgspec.json.Encoder().encode_into


class RecordingError(Exception):
    """The session cannot be recorded. The text is for people and names no path."""


class Row(Protocol):
    """What a protocol appends: raw values, that make themselves into an entry, or into its line by a shorter
    way, where there is one.
    """

    def entry(self, n: int) -> Statement: ...

    def line(self, n: int) -> bytes | None: ...


class Track:
    """One session's recording while it is open. Its methods are called from the event loop only."""

    def __init__(self, recorder: Recorder, file: RecordingFile, failed: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._file = file
        self._failed = failed
        self._pending = bytearray()
        self._numbered = 0
        self._entries, self._seal = file.progress
        self._handed = 0
        self._footer = False
        self._ended: asyncio.Future[None] | None = None
        self._queued = False
        self.error = ""

    @property
    def progress(self) -> tuple[int, str]:
        """Entries that are on disk and the seal behind the last one."""
        return self._file.progress

    def append(self, row: Row) -> None:
        """Add an execution. It is on disk some 50 ms later, or the session's `failed` is called.

        It becomes a line here and now: what it is made of is still in the processor's cache, and a thread
        that did it would only take turns with this one for the interpreter.
        """
        self._numbered += 1
        line = row.line(self._numbered)
        if line is None:
            self.tell(row.entry(self._numbered))
            return
        self._pending += line
        self._note()
        self._check()

    def tell(self, entry: recording.Entry) -> None:
        """Add an entry as it is: what happened beside the executions."""
        self._add(entry)
        self._check()

    def _check(self) -> None:
        if len(self._pending) + self._handed - self._file.taken > self._recorder.backlog:
            self.fail("the recording cannot be written as fast as statements arrive")

    def _add(self, entry: recording.Entry) -> None:
        pending = self._pending
        _encode_into(entry, pending, -1)
        pending += b"\n"
        self._note()

    def _note(self) -> None:
        if not self._queued:
            self._queued = True
            self._recorder.note(self)

    def hand_over(self) -> Block:
        """What has come since the last time, sealed."""
        lines = self._pending
        self._pending = bytearray()
        self._queued = False
        self._seal, line = recording.seal(self._seal, lines)
        self._entries += lines.count(b"\n")
        lines += line
        self._handed += len(lines)
        return Block(self, self._file, bytes(lines), (self._entries, self._seal), self._footer)

    def fail(self, why: str) -> None:
        """Give up this recording and have its session cut, once."""
        if not self.error:
            self.error = self._file.error = why
            self._recorder.call(self._failed, why)

    async def close(self, footer: Footer) -> None:
        """Write the footer behind everything appended, and return when it is on disk (or has failed)."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            self._footer = True
            self._add(footer)
        await self._ended
        self._recorder.forget(self)

    def ended(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class Block(NamedTuple):
    """What the event loop hands to the thread: whole sealed lines of a track's, and how far the recording is
    with them. `last`: the footer is among them.
    """

    track: Track
    file: RecordingFile
    data: bytes
    progress: tuple[int, str]
    last: bool


class RecordingFile:
    """The file of a track; only the thread writes it. What it took is in the journal until it is synced."""

    def __init__(self, session: str, descriptor: int) -> None:
        self._session = session
        self._descriptor = descriptor
        self._size = 0
        self._unwritten = bytearray()
        self._reached = (0, GENESIS)
        self.progress = self._reached
        """Entries in the file, and the seal behind the last one."""
        self.taken = 0
        """Bytes that were taken from the track."""
        self.error = ""

    def take(self, data: bytes, progress: tuple[int, str]) -> Piece:
        """Keep `data` to be written, and say what the journal has to hold of it."""
        piece = Piece(self._session, self._size + len(self._unwritten), data)
        self._unwritten += data
        self.taken += len(data)
        self._reached = progress
        return piece

    def write(self) -> None:
        """Write what was taken. Raises OSError, also when the file is not there any more."""
        if self._unwritten:
            write_all(self._descriptor, bytes(self._unwritten))
            self._size += len(self._unwritten)
            self._unwritten.clear()
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError("it was removed")
        self.progress = self._reached

    def sync(self) -> None:
        """Have what was written on disk. Raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Recorder:
    """The thread that writes every session's recording of this process.

    Times are seconds: after `interval` what was appended is on disk, in the journal; after `filing` it is in
    the session's own file; for `patience` the disk may be silent while something is pending. `backlog` is the
    bytes a session may be ahead of the disk.
    """

    def __init__(
        self,
        directory: Path,
        *,
        interval: float = 0.05,
        filing: float = 1.0,
        patience: float = 2.0,
        backlog: int = 64 << 20,
    ) -> None:
        self._directory = directory
        self._interval = interval
        self._filing = filing
        self._patience = patience
        self.backlog = backlog
        self._dirty: list[Track] = []
        self._blocks: SimpleQueue[list[Block] | None] = SimpleQueue()
        self._tracks: set[Track] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._beat = time.monotonic()
        self._busy = False
        self._journal: Journal
        # The thread's: files that the journal is ahead of, and those that it holds something of.
        self._unwritten: dict[RecordingFile, Track] = {}
        self._unsynced: dict[RecordingFile, Track] = {}
        self._written = time.monotonic()

    def start(self) -> None:
        """Begin writing, after what a crash left behind was put right. Raises OSError when that cannot be."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        recover(self._directory)
        self._journal = Journal(self._directory)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is pending and end the thread; the sessions are closed by then."""
        self._hand_over()
        self._blocks.put(None)
        if self._thread is not None:
            self._thread.join(timeout=10)

    def path(self, session: str) -> Path:
        """Where a session's recording lies. Raises ValueError for an id that is no plain name."""
        if not session or not all(c.isalnum() or c in "-_" for c in session):
            raise ValueError(f"{session!r} is no session id")
        return self._directory / f"{session}.jsonl"

    async def open(self, header: Header, failed: Callable[[str], None]) -> Track:
        """Begin a recording; its header is on disk when this returns. Raises RecordingError.

        `failed` is called on the event loop, once, when the recording cannot go on.
        """
        work = asyncio.get_running_loop().run_in_executor(None, self._create, header, failed)
        try:
            track = await asyncio.wait_for(work, self._patience)
        except (OSError, TimeoutError, ValueError) as error:
            raise RecordingError("The session cannot be recorded, so it may not begin.") from error
        self._tracks.add(track)
        return track

    def stalled(self) -> bool:
        """Whether the disk has kept the thread waiting longer than `patience`."""
        return self._busy and time.monotonic() - self._beat > self._patience

    def fail_all(self, why: str) -> None:
        for track in tuple(self._tracks):
            track.fail(why)

    def forget(self, track: Track) -> None:
        self._tracks.discard(track)

    def note(self, track: Track) -> None:
        """`track` has something to write."""
        assert self._loop is not None
        if not self._dirty:
            self._loop.call_later(self._interval, self._hand_over)
        self._dirty.append(track)

    def _hand_over(self) -> None:
        dirty, self._dirty = self._dirty, []
        if dirty:
            self._blocks.put([track.hand_over() for track in dirty])

    def _create(self, header: Header, failed: Callable[[str], None]) -> Track:
        path = self.path(header.session)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        file = RecordingFile(header.session, descriptor)
        try:
            head, line = recording.seal(GENESIS, first := _encode(header) + b"\n")
            file.take(first + line, (1, head))
            file.write()
            file.sync()
            sync(self._directory)
        except OSError:
            file.close()
            raise
        file.taken = 0
        return Track(self, file, failed)

    # --- in the thread from here on

    def _run(self) -> None:
        while (blocks := self._next()) is not None:
            self._beat = time.monotonic()
            self._busy = True
            self._keep([block for block in blocks if not block.file.error])
            if self._journal.size > JOURNAL_LIMIT:
                self._begin_anew()
            elif time.monotonic() - self._written > self._filing:
                self._write_files()
            for block in blocks:
                if block.last:
                    self._finish(block)
            self._busy = False
        self._begin_anew()
        with suppress(OSError):
            self._journal.close()

    def _next(self) -> list[Block] | None:
        """What there is to take in: nothing when only files have to be written, None at the end."""
        try:
            return self._blocks.get(timeout=self._filing if self._unwritten else None)
        except Empty:
            return []

    def _keep(self, blocks: list[Block]) -> None:
        """Have the blocks on disk, in the journal. One that cannot be ends its recording."""
        if not blocks:
            return
        new = {block.file: block.track for block in blocks}
        self._unwritten |= new
        self._unsynced |= new
        try:
            self._journal.append([block.file.take(block.data, block.progress) for block in blocks])
        except OSError as error:
            for file, track in new.items():
                self._failed(file, track, error)

    def _write_files(self) -> None:
        """Bring what is in the journal into the files it belongs to."""
        self._written = time.monotonic()
        for file, track in self._unwritten.items():
            self._do(file, track, file.write)
        self._unwritten.clear()

    def _begin_anew(self) -> None:
        """Sync the files, and empty the journal."""
        self._write_files()
        for file, track in self._unsynced.items():
            self._do(file, track, file.sync)
        self._unsynced.clear()
        with suppress(OSError):  # it stays long, and is tried again
            self._journal.clear()

    def _finish(self, block: Block) -> None:
        file, track = block.file, block.track
        self._unwritten.pop(file, None)
        self._unsynced.pop(file, None)
        self._do(file, track, file.write)
        self._do(file, track, file.sync)
        file.close()
        self.call(track.ended)

    def _do(self, file: RecordingFile, track: Track, work: Callable[[], None]) -> None:
        self._beat = time.monotonic()
        if file.error:
            return
        try:
            work()
        except OSError as error:
            self._failed(file, track, error)

    def _failed(self, file: RecordingFile, track: Track, error: OSError) -> None:
        file.error = f"the recording cannot be written ({error.strerror or error})"
        self.call(track.fail, file.error)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run on the event loop, soon; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def kept_text(text: bytes) -> tuple[str, str, int]:
    """A statement as it is kept: text, and for one beyond TEXT_LIMIT the SHA-256 and length of the whole."""
    if len(text) <= TEXT_LIMIT:
        return text.decode("utf-8", "backslashreplace"), "", 0
    cut = text[:TEXT_LIMIT].decode("utf-8", "backslashreplace")
    return cut, hashlib.sha256(text).hexdigest(), len(text)
