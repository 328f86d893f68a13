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
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Protocol

import msgspec

from proxy import recording
from proxy.recording import GENESIS, Footer, Header, Statement

TEXT_LIMIT = 64 * 1024
"""Bytes of a statement that are kept; of a longer one the hash of the whole is kept beside its beginning."""

_encode = msgspec.json.Encoder().encode
_encode_into = msgspec.json.Encoder().encode_into


class RecordingError(Exception):
    """The session cannot be recorded. The text is for people and names no path."""


class Row(Protocol):
    """What a protocol appends: raw values, that make themselves into an entry."""

    def entry(self, n: int) -> Statement: ...


class Track:
    """One session's recording while it is open. Its methods are called from the event loop only."""

    def __init__(self, recorder: Recorder, file: RecordingFile, failed: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._file = file
        self._failed = failed
        self._pending = bytearray()
        self._numbered = 0
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
        self._add(row.entry(self._numbered))
        if len(self._pending) + self._handed - self._file.taken > self._recorder.backlog:
            self.fail("the recording cannot be written as fast as statements arrive")

    def _add(self, entry: recording.Entry) -> None:
        pending = self._pending
        _encode_into(entry, pending, -1)
        pending += b"\n"
        if not self._queued:
            self._queued = True
            self._recorder.note(self)

    def hand_over(self) -> Block:
        """What has come since the last time."""
        block = Block(self, self._file, self._pending, self._footer)
        self._handed += len(self._pending)
        self._pending = bytearray()
        self._queued = False
        return block

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
    """What the event loop hands to the thread: whole lines of a track's. `last`: the footer is among them."""

    track: Track
    file: RecordingFile
    lines: bytearray
    last: bool


class RecordingFile:
    """The file of a track; only the thread writes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seal = GENESIS
        self._entries = 0
        self.progress = (0, GENESIS)
        self.taken = 0
        """Bytes of lines that were taken from the track."""
        self.error = ""

    def write(self, lines: bytes | bytearray) -> None:
        """Write whole lines and their seal, to be synced. Raises OSError."""
        self.taken += len(lines)
        self._seal, line = recording.seal(self._seal, lines)
        self._entries += lines.count(b"\n")
        view = memoryview(lines + line)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Have what was written on disk. Raises OSError, also when the file is not there any more."""
        os.fdatasync(self._descriptor)
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError("it was removed")
        self.progress = (self._entries, self._seal)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Recorder:
    """The thread that writes every session's recording of this process.

    `interval` and `patience` are seconds: how often it writes, and how long the disk may be silent while
    something is pending. `backlog` is the bytes a session may be ahead of the disk.
    """

    def __init__(
        self, directory: Path, *, interval: float = 0.05, patience: float = 2.0, backlog: int = 64 << 20
    ) -> None:
        self._directory = directory
        self._interval = interval
        self._patience = patience
        self.backlog = backlog
        self._dirty: list[Track] = []
        self._blocks: SimpleQueue[list[Block] | None] = SimpleQueue()
        self._tracks: set[Track] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._beat = time.monotonic()
        self._busy = False

    def start(self) -> None:
        """Begin writing. Raises OSError when the directory cannot be made."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        file = RecordingFile(descriptor)
        try:
            file.write(_encode(header) + b"\n")
            file.sync()
            _sync_directory(self._directory)
        except OSError:
            file.close()
            raise
        file.taken = 0
        return Track(self, file, failed)

    # --- in the thread from here on

    def _run(self) -> None:
        while (blocks := self._blocks.get()) is not None:
            self._beat = time.monotonic()
            self._busy = True
            # All are written before the first is synced: the file system then commits them together.
            for block in blocks:
                self._do(block, lambda block: block.file.write(block.lines))
            for block in blocks:
                self._do(block, lambda block: block.file.sync())
                if block.last:
                    block.file.close()
                    self.call(block.track.ended)
            self._busy = False

    def _do(self, block: Block, work: Callable[[Block], None]) -> None:
        self._beat = time.monotonic()
        if block.file.error:
            return
        try:
            work(block)
        except OSError as error:
            block.file.error = f"the recording cannot be written ({error.strerror or error})"
            self.call(block.track.fail, block.file.error)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run on the event loop, soon; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept_text(text: bytes) -> tuple[str, str, int]:
    """A statement as it is kept: text, and for one beyond TEXT_LIMIT the SHA-256 and length of the whole."""
    if len(text) <= TEXT_LIMIT:
        return text.decode("utf-8", "backslashreplace"), "", 0
    cut = text[:TEXT_LIMIT].decode("utf-8", "backslashreplace")
    return cut, hashlib.sha256(text).hexdigest(), len(text)
