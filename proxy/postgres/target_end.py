"""The target's end of a session: takes the frames apart, and sends them on as they came.

Frames go to the client whole (up to HOLD bytes), so that a cut can speak between two of them. Row data is
looked at only where the current result has a masked column.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.postgres import codec
from proxy.postgres.codec import BROKEN, WireError
from proxy.postgres.replies import READERS, Replies
from proxy.postgres.target import Answer

if TYPE_CHECKING:
    from proxy.postgres.session import Session

HOLD = 256 * 1024

_HEAD = struct.Struct("!BI").unpack_from
_DATA_ROW = ord("D")
_COPY_DATA = ord("d")
_UNREAD = (_DATA_ROW, _COPY_DATA)


class TargetEnd:
    """Receives from the target."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._replies = Replies(session)
        self._write = session.client.write
        self._reading = session.reading
        self._own: Answer | None = None
        self._then: Callable[[Answer], object]
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        self._skip = 0

    @property
    def between_frames(self) -> bool:
        """Whether the client has had whole frames only."""
        return self._skip == 0

    def expect(self, answer: Answer, then: Callable[[Answer], object]) -> None:
        """The gate asks something itself, nothing else being under way: the answer is not for the client."""
        self._own = answer
        self._then = then

    # --- what its channel calls

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.target_gone()

    def pause_writing(self) -> None:
        self._session.flow(target_full=True)

    def resume_writing(self) -> None:
        self._session.flow(target_full=False)

    def data_received(self, chunk: bytes) -> None:
        session = self._session
        if session.over:
            return
        session.bytes_out += len(chunk)
        turn = session.pipeline.turn
        try:
            whole = None if turn is None or self._parts or self._skip else self._replies.answered(turn, chunk)
            if whole is None:
                self._receive(chunk)
            else:
                self._write(whole)
        except BROKEN as error:
            session.breach(str(error))
        if session.approvals.resting and session.pipeline.rested:
            session.approvals.rested()

    def _receive(self, chunk: bytes) -> None:
        if self._parts:
            self._parts.append(chunk)
            self._have += len(chunk)
            if self._have < self._need:
                return
            chunk = b"".join(self._parts)
            self._parts.clear()
        if self._own is not None:
            self._receive_own(chunk, self._own)
            return
        size = len(chunk)
        if self._skip >= size:
            self._skip -= size
            self._write(chunk)
            return
        start, at = 0, self._skip
        self._skip = 0
        guarded = self._reading is not None
        replies = self._replies
        last = size - 5
        while at <= last:
            kind, length = _HEAD(chunk, at)
            end = at + 1 + length
            if end > size:
                break
            if kind == _DATA_ROW and guarded:
                end, instead = replies.data_rows(chunk, at, end)
            elif kind == _COPY_DATA and replies.copying is not None:
                end, instead = replies.copy_data(chunk, at, end, replies.copying)
            elif kind in _UNREAD:
                at = end
                continue
            else:
                reader = READERS[kind]
                if reader is None or length < 4:
                    raise WireError(f"message type {kind:#04x} is not one the gate lets a target send")
                instead = reader(replies, chunk, at + 5, end)
            if instead is not None:
                if at > start:
                    self._write(chunk[start:at])
                if instead:
                    self._write(instead)
                start = end
            at = end
        if start == 0 and at == size:
            self._write(chunk)
            return
        if at > start:
            self._write(memoryview(chunk)[start:at])
        if at < size:
            self._keep(chunk, at, size)

    def _receive_own(self, chunk: bytes, answer: Answer) -> None:
        size, at = len(chunk), 0
        while size - at >= 5:
            kind, length = _HEAD(chunk, at)
            end = at + 1 + length
            if end > size:
                break
            if kind == ord("A"):
                self._write(self._replies.notification(chunk, at + 5, end) or chunk[at:end])
            elif kind == ord("N"):
                pass  # about the gate's own question; a trigger in a dry run may put values into it
            elif kind == ord("E") and codec.read_report(chunk[at + 5 : end]).get(b"V") != b"ERROR":
                self._replies.error(chunk, at + 5, end)
                self._write(chunk[at:end])
            elif answer.take(bytes((kind,)), chunk[at + 5 : end]):
                self._own = None
                self._then(answer)
                if end < size:
                    self._receive(chunk[end:])
                return
            at = end
        if at < size:
            self._keep(chunk, at, size)

    def _keep(self, chunk: bytes, at: int, size: int) -> None:
        """A frame is not whole: hold it, or let it go on in pieces when it is big and need not be read."""
        if size - at >= 5:
            kind, length = _HEAD(chunk, at)
            whole = self._replies.copying if kind == _COPY_DATA else self._reading
            if length >= HOLD and kind in _UNREAD and whole is None:
                self._skip = at + 1 + length - size
                self._write(chunk[at:])
                return
            if length > self._session.settings.max_message:
                raise WireError(f"the target sent a message of {length} bytes, over this gate's limit")
            self._need = 1 + length
        else:
            self._need = 5
        self._parts.append(chunk[at:])
        self._have = size - at
