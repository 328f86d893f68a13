"""The client's end of a session: reads what is asked, and sends it on as it came."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.postgres import codec, function_call, turns
from proxy.postgres.approvals import Wait
from proxy.postgres.codec import BROKEN, WireError
from proxy.postgres.held_messages import HeldMessages
from proxy.postgres.pipeline import (
    COPY_END,
    PORTAL,
    SYNC,
    BindStep,
    CloseStep,
    DescribeStep,
    ExecuteStep,
    ParseStep,
    QueryStep,
    Turn,
)
from proxy.postgres.poison import POISON_PARSE, POISON_QUERY
from proxy.postgres.reading import NO_FUNCTION_CALL, NO_LIMITS, PASS, Ruled, is_plain
from proxy.sql.guard import Verdict

if TYPE_CHECKING:
    from proxy.postgres.session import Session

_HEAD = struct.Struct("!BI").unpack_from
_COPY_DATA = ord("d")
_NAMED = 63
"""Bytes of a statement's or portal's name that the server looks at (NAMEDATALEN - 1)."""
_READ_AHEAD = 4 << 20
"""Bytes that are taken in behind a message that waits; a client that pipelines more is not read from."""


class ClientEnd:
    """Receives from the client. Frames that need reading wait until they are whole; others in pieces."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pipeline = session.pipeline
        self._write = session.target.greeter.write
        self._now = session.clock.monotonic
        self._limit = session.settings.max_message
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0  # bytes until the frame that is waited for is whole
        self._skip = 0  # bytes of a frame that go on unread
        self._waiting = False
        self._target_full = False
        self._described: set[bytes] = set()
        self._held = HeldMessages(session)

    # --- what its channel calls

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.client_gone()

    def resume(self) -> None:
        """Read on from the message that had to wait."""
        self._waiting = False
        chunk = b"".join(self._parts)
        self._parts.clear()
        self.flow(self._target_full)
        try:
            self._read(chunk)
        except BROKEN as error:
            self._session.breach(str(error))

    def flow(self, target_full: bool) -> None:
        """Read from the client when the target takes more. While a message waits for a decision, read ahead
        some: so a client that leaves is noticed.
        """
        self._target_full = target_full
        transport = self._session.client
        if target_full or (self._waiting and self._have > _READ_AHEAD):
            transport.pause_reading()
        else:
            transport.resume_reading()

    def pause_writing(self) -> None:
        self._session.target.greeter.pause_reading()

    def resume_writing(self) -> None:
        self._session.target.greeter.resume_reading()

    def data_received(self, chunk: bytes) -> None:
        session = self._session
        if session.over:
            return
        session.bytes_in += len(chunk)
        if self._parts:
            self._parts.append(chunk)
            self._have += len(chunk)
            if self._waiting and self._have > _READ_AHEAD:
                self.flow(self._target_full)
            if self._have < self._need or self._waiting:
                return
            chunk = b"".join(self._parts)
            self._parts.clear()
        try:
            if self._skip or not self._turn(chunk):
                self._read(chunk)
        except BROKEN as error:
            session.breach(str(error))

    def _turn(self, chunk: bytes) -> bool:
        """Send the chunk on where it is a whole ordinary request, and nothing is to be found out about it."""
        pipeline = self._pipeline
        if not pipeline.takes_turn or not self._held.takes_turn:
            return False
        now = self._now()
        turn = self._query_turn(chunk, now) if chunk[0] == _QUERY else self._batch_turn(chunk, now)
        if turn is None:
            return False
        pipeline.turn = turn
        if not turn.described:  # its columns have to be known, as in _execute
            at = len(chunk) - len(turn.portal) - _EXECUTE_AND_SYNC
            chunk = chunk[:at] + codec.describe_portal(turn.portal) + chunk[at:]
        self._write(chunk)
        return True

    def _query_turn(self, chunk: bytes, now: float) -> Turn | None:
        text = turns.read_query(chunk)
        if text is None:
            return None
        session = self._session
        verdict = session.plain_verdict(text, now)
        return None if verdict is None else Turn(text, verdict, now, session.origin)

    def _batch_turn(self, chunk: bytes, now: float) -> Turn | None:
        session = self._session
        batch = turns.read_batch(chunk)
        if batch is None or not session.looked(now):
            return None
        turn = Turn(b"", PASS, now, session.origin)
        turn.portal, turn.statement, turn.bound, text, types, turn.described = batch
        if session.reading is None and not turn.described:
            return None
        turn.ahead = b"2"
        if text is not None and types is not None:
            verdict = session.plain_verdict(text, now)
            if verdict is None or session.typed(verdict, types) is not verdict:
                return None
            turn.ahead = b"12"
            turn.parse = self._parse_step(b"", text, verdict, now)
            turn.parse.types = types
        if session.holds and not self._held.turn(turn.portal, turn.statement, parsed=text is not None):
            return None
        self._described.clear()
        self._pipeline.executed = False
        return turn

    def _read(self, chunk: bytes) -> None:
        size = len(chunk)
        if self._skip >= size:
            self._skip -= size
            self._write(chunk)
            return
        start, at = 0, self._skip
        self._skip = 0
        then, held = None, self._held
        while size - at >= 5:
            kind, length = _HEAD(chunk, at)
            end = at + 1 + length
            if length < 4:
                raise WireError("a message length is below four")
            if end > size:
                if kind != _COPY_DATA:
                    break
                self._skip = end - size
                end = size
            elif kind != _COPY_DATA:
                reader = _READERS.get(kind)
                if reader is None:
                    raise WireError(f"message type {kind:#04x} is not one a client sends")
                try:
                    if held.limited:
                        held.hold_back(kind)
                    instead = reader(self, chunk, at + 5, end)
                except Wait as wait:
                    then = wait.then
                    self._waiting = True
                    break
                if instead is not None:
                    self._write(chunk[start:at] + instead)
                    start = end
            at = end
        if start == 0 and at == size:
            self._write(chunk)
            return
        if at > start:
            self._write(chunk[start:at])
        if at < size:
            self._keep(chunk[at:])
        if then is not None:
            then()

    def _keep(self, rest: bytes) -> None:
        """Wait for the rest of a frame. Raises WireError when it would be longer than allowed."""
        self._need = 5
        if len(rest) >= 5:
            self._need = 1 + _HEAD(rest, 0)[1]
            if self._need > self._limit:
                raise WireError(f"a message of {self._need} bytes is over this gate's limit of {self._limit}")
        self._parts.append(rest)
        self._have = len(rest)

    # --- one reader a message type; each returns what to send instead, None for the message as it came

    def _query(self, chunk: bytes, at: int, end: int) -> bytes | None:
        text = _text(chunk, at, end)
        pipeline = self._pipeline
        if pipeline.skipping:
            return None
        self._no_copy()
        session = self._session
        now = self._now()
        verdict = PASS if session.reading is None else session.verdict(text, now)
        step = QueryStep(text, verdict, now, session.origin)
        if session.holds:
            return self._held.query(step, chunk[at - 5 : end])
        pipeline.steps.append(step)
        return None if verdict.action == "allow" else POISON_QUERY

    def _parse(self, chunk: bytes, at: int, end: int) -> bytes | None:
        name, at = codec.cstring(chunk, at)
        text, at = codec.cstring(chunk, at)
        name = name[:_NAMED]
        if at > end:
            raise WireError("a Parse is cut short")
        pipeline = self._pipeline
        if pipeline.skipping:
            return None
        self._no_copy()
        session = self._session
        now = self._now()
        verdict = PASS if session.reading is None else session.verdict(text, now)
        verdict = session.typed(verdict, chunk[at:end])
        step = self._parse_step(name, text, verdict, now)
        if session.holds:
            step.types = chunk[at:end]
            self._held.parse(step)
        pipeline.steps.append(step)
        pipeline.unsynced = True
        return POISON_PARSE if verdict.action == "refuse" else None

    def _parse_step(self, name: bytes, text: bytes, verdict: Verdict, now: float) -> ParseStep:
        session = self._session
        step = ParseStep(name, text, verdict, now, session.origin)
        step.plain = True
        if session.reading is not None:
            step.stamp = session.reading.stamp_for(verdict)
            step.plain = is_plain(verdict)
        return step

    def _bind(self, chunk: bytes, at: int, end: int) -> bytes | None:
        portal, after = codec.cstring(chunk, at)
        statement, after = codec.cstring(chunk, after)
        portal, statement = portal[:_NAMED], statement[:_NAMED]
        if after > end:
            raise WireError("a Bind is cut short")
        if not self._pipeline.skipping:
            self._no_copy()
            self._session.look_again(self._now())
            step = BindStep(portal, statement, chunk[at:end])
            if self._session.holds and (refused := self._held.bind(step, chunk[after:end])) is not None:
                return refused
            self._pipeline.steps.append(step)
            self._pipeline.unsynced = True
            self._described.discard(portal)
        return None

    def _describe(self, chunk: bytes, at: int, end: int) -> bytes | None:
        name = _text(chunk, at + 1, end)[:_NAMED]
        if not self._pipeline.skipping:
            self._no_copy()
            self._pipeline.steps.append(DescribeStep(chunk[at], name))
            if chunk[at] == PORTAL:
                self._described.add(name)
        return None

    def _execute(self, chunk: bytes, at: int, end: int) -> bytes | None:
        if self._pipeline.skipping:
            return None
        self._no_copy()
        portal, after = codec.cstring(chunk, at)
        portal = portal[:_NAMED]
        if after + 4 != end:
            raise WireError("an Execute has a wrong size")
        session = self._session
        self._pipeline.executed = True
        step = ExecuteStep(portal, self._now(), session.origin)
        instead = None
        if session.holds:
            instead = self._held.execute(step, int.from_bytes(chunk[after:end], "big"))
        if session.reading is None or portal in self._described:
            self._pipeline.steps.append(step)
            return instead
        # Masking needs the row description of this very portal, so the gate asks for it where the client
        # did not. A statement's own description may be stale: its plan follows search_path.
        self._described.add(portal)
        self._pipeline.steps.append(DescribeStep(PORTAL, portal, own=True))
        self._pipeline.steps.append(step)
        return codec.describe_portal(portal) + (instead or chunk[at - 5 : end])

    def _close(self, chunk: bytes, at: int, end: int) -> bytes | None:
        if not self._pipeline.skipping:
            self._no_copy()
            self._pipeline.steps.append(CloseStep(chunk[at], _text(chunk, at + 1, end)[:_NAMED]))
        return None

    def _sync(self, chunk: bytes, at: int, end: int) -> bytes | None:
        pipeline = self._pipeline
        instead = self._held.sync(chunk[at - 5 : end]) if self._session.holds else None
        pipeline.skipping = pipeline.unsynced = pipeline.executed = False
        self._described.clear()
        if not pipeline.copying_in:  # in COPY the target swallows it
            pipeline.steps.append(SYNC)
        return instead

    def _flush(self, chunk: bytes, at: int, end: int) -> bytes | None:
        return None

    def _copy_end(self, chunk: bytes, at: int, end: int) -> bytes | None:
        if not self._pipeline.skipping:
            self._pipeline.copying_in = False
            self._pipeline.steps.append(COPY_END)
        return None

    def _function_call(self, chunk: bytes, at: int, end: int) -> bytes | None:
        if self._pipeline.skipping:
            return None
        self._no_copy()
        session = self._session
        now = self._now()
        body = chunk[at:end]
        text, verdict = function_call.as_select(body), NO_FUNCTION_CALL
        if text is not None:
            verdict = PASS if session.reading is None else session.verdict(text, now)
            if _waits_or_is_counted(session, verdict):
                verdict = NO_FUNCTION_CALL
        step = QueryStep(text or b"(a FunctionCall message)", verdict, now, session.origin)
        step.bound = function_call.as_bind(body)
        self._pipeline.steps.append(step)
        return None if verdict.action == "allow" else POISON_QUERY

    def _terminate(self, chunk: bytes, at: int, end: int) -> bytes | None:
        self._session.client_leaves()
        return None

    def _no_copy(self) -> None:
        if self._pipeline.copying_in:
            raise WireError("a message came where COPY data was due")


def _waits_or_is_counted(session: Session, verdict: Verdict) -> bool:
    """Whether more is to happen than to let it through, which the gate does for statements only."""
    limited = isinstance(verdict, Ruled) and (verdict.hold is not None or verdict.limits != NO_LIMITS)
    return limited or session.admission.terms.hold_commit is not None


def _text(chunk: bytes, at: int, end: int) -> bytes:
    """The one string that fills the rest of a message. Raises WireError when it is not just that."""
    if chunk.find(b"\0", at, end) != end - 1:
        raise WireError("a message holds something else than one string")
    return chunk[at : end - 1]


_QUERY = ord("Q")
_EXECUTE_AND_SYNC = 15
"""Bytes of an Execute without its portal's name, and of the Sync behind it."""
_Reader = Callable[[ClientEnd, bytes, int, int], bytes | None]
_READERS: dict[int, _Reader] = {
    ord("Q"): ClientEnd._query,
    ord("P"): ClientEnd._parse,
    ord("B"): ClientEnd._bind,
    ord("D"): ClientEnd._describe,
    ord("E"): ClientEnd._execute,
    ord("C"): ClientEnd._close,
    ord("S"): ClientEnd._sync,
    ord("H"): ClientEnd._flush,
    ord("c"): ClientEnd._copy_end,
    ord("f"): ClientEnd._copy_end,
    ord("F"): ClientEnd._function_call,
    ord("X"): ClientEnd._terminate,
}
