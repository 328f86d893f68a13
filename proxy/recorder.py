"""Writing the recordings: hashed in the data path, written and synced in a thread, every 50 ms.

What cannot be recorded does not go on: a write that fails, a file that was removed, a disk that does not
answer and a backlog that grows too long all fail the tracks concerned, and their sessions are cut.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from proxy import recording
from proxy.recording import GENESIS, Footer, Header, Statement

TEXT_LIMIT = 64 * 1024
"""Bytes of a statement that are kept; of a longer one the hash of the whole is kept beside its beginning."""

_encode = msgspec.json.Encoder().encode
_HASH = slice(-67, -3)
"""Where a line has its hash: in front of `"}` and the line's end."""


class RecordingError(Exception):
    """The session cannot be recorded. The text is for people and names no path."""


class Row(Protocol):
    """What a protocol appends: raw values, that make themselves into an entry."""

    def entry(self, n: int) -> Statement: ...


class Track:
    """One session's recording while it is open. `append` is called from the event loop only."""

    def __init__(self, recorder: Recorder, descriptor: int, failed: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._descriptor = descriptor
        self._failed = failed
        self._lines: deque[bytes] = deque()
        self._added = 0  # bytes, written by the event loop only
        self._taken = 0  # bytes, written by the thread only
        self._numbered = 0
        self._finished = False
        self._ended: asyncio.Future[None] | None = None
        self._next = GENESIS.encode()
        self.queued = False
        self.error = ""
        self.progress = (0, GENESIS)
        """Entries that are on disk and the hash of the last one."""

    def append(self, row: Row) -> None:
        """Add an execution. It is on disk some 50 ms later, or the session's `failed` is called.

        It becomes a line here and now: what it is made of is still in the processor's cache, and a thread
        that did it would only take turns with this one for the interpreter.
        """
        self._numbered += 1
        line = self._line(row.entry(self._numbered))
        self._lines.append(line)
        self._added += len(line)
        if not self.queued:
            self.queued = True
            self._recorder.dirty.append(self)
        if self._added - self._taken > self._recorder.backlog:
            self.fail("the recording cannot be written as fast as statements arrive")

    def fail(self, why: str) -> None:
        """Give up this recording and have its session cut; from any thread, once."""
        if self.error:
            return
        self.error = why
        self._recorder.call(self._failed, why)

    async def close(self, footer: Footer) -> None:
        """Write the footer behind everything appended, and return when it is on disk (or has failed)."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            self._lines.append(self._line(footer))
            self._finished = True
            self.queued = True
            self._recorder.dirty.append(self)
        await self._ended
        self._recorder.forget(self)

    def _line(self, entry: recording.Entry) -> bytes:
        encoded = _encode(entry)
        self._next = linked = hashlib.sha256(self._next + encoded).hexdigest().encode()  # recording.chain
        return b'{"entry":%b,"hash":"%b"}\n' % (encoded, linked)

    # --- in the thread from here on

    def write(self) -> None:
        """Write and sync what is pending. Raises OSError."""
        self.queued = False  # before draining: what comes in meanwhile queues this track again
        # Looked at before the lines: nothing is appended behind the footer, so it is among them.
        finished = self._finished
        lines: list[bytes] = []
        while self._lines:
            lines.append(self._lines.popleft())
        if lines and not self.error:
            self._put(lines)
        if finished:
            self.release()

    def begin(self, header: Header) -> None:
        self._put([self._line(header)])

    def release(self) -> None:
        """Close the file and let `close` return."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._ended is not None:
            self._recorder.call(_settle, self._ended)

    def _put(self, lines: list[bytes]) -> None:
        whole = b"".join(lines)
        view = memoryview(whole)
        self._taken += len(whole)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fdatasync(self._descriptor)
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError("it was removed")
        self.progress = (self.progress[0] + len(lines), lines[-1][_HASH].decode())


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


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
        self.dirty: deque[Track] = deque()
        self._tracks: set[Track] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
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
        self._stopping.set()
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

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run on the event loop, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _create(self, header: Header, failed: Callable[[str], None]) -> Track:
        path = self.path(header.session)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        track = Track(self, descriptor, failed)
        try:
            track.begin(header)
            _sync_directory(self._directory)
        except OSError:
            track.release()
            raise
        return track

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._turn()
        self._turn()

    def _turn(self) -> None:
        for _ in range(len(self.dirty)):
            track = self.dirty.popleft()
            self._beat = time.monotonic()
            self._busy = True
            try:
                track.write()
            except OSError as error:
                track.fail(f"the recording cannot be written ({error.strerror or error})")
                track.release()
            self._busy = False


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
