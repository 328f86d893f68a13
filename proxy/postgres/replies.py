"""What the target answers, matched to what was asked: outcomes are recorded, rows masked, refusals worded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from proxy.postgres import codec, turns
from proxy.postgres.codec import WireError
from proxy.postgres.limits import COPY_FAIL, EndStep, Limit, Limiter, OwnStep
from proxy.postgres.pipeline import (
    SYNC,
    UNKNOWN_TEXT,
    BindStep,
    CloseStep,
    DescribeStep,
    ExecuteStep,
    Execution,
    ParseStep,
    QueryStep,
    Step,
    Turn,
)
from proxy.postgres.reading import PASS, Reading, scrub
from proxy.sql.copy import CopyPlan, CopyStream
from proxy.sql.rows import BrokenRow, rewrite_data_rows

if TYPE_CHECKING:
    from proxy.postgres.session import Session

_LENGTH = struct.Struct("!I").unpack_from
_WIDTH = struct.Struct("!xH").unpack_from
_DATA_ROW = ord("D")
_COPY_DATA = ord("d")
_EMPTY = 5
"""Bytes of a message with nothing in it."""
_TRAILER = b"d\0\0\0\6\xff\xff"
"""The last message of a COPY in binary, which is no row. (The header comes with the first.)"""
_IDLE = ord("I")
_STATEMENT = ord("S")
_RUNS = (QueryStep, ExecuteStep)
_S = TypeVar("_S", bound=Step)


class CopyOut:
    """A COPY to the client that is under way. `stream` is there where its rows change; `titled` says that its
    first message is a line of names.
    """

    __slots__ = ("step", "stream", "titled")

    def __init__(self, step: Execution, stream: CopyStream | None, titled: bool) -> None:
        self.step = step
        self.stream = stream
        self.titled = titled


class Replies:
    """Reads the target's answers in order, one method a message type.

    Each returns what to send instead of the message, None for the message as it came. Raises WireError when
    an answer does not fit what was asked.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pipeline = session.pipeline
        self._now = session.clock.monotonic
        self._reading = session.reading
        self._limiter = Limiter(session)
        self.copying: CopyOut | None = None
        """The COPY to the client whose rows change or are counted."""

    def answered(self, turn: Turn, chunk: bytes) -> bytes | None:
        """Take the chunk as the whole answer to the turn, where it is ordinary and no row of it changes.

        Returns what the client gets; None where it has to be read message by message.
        """
        found = turns.read_answer(chunk, turn.ahead)
        pipeline, reading = self._pipeline, self._reading
        if found is None or found[3] != pipeline.status:
            return None
        description, turn.tag, turn.rows, status = found
        prepared = turn.parse
        if turn.ahead:
            prepared = prepared or pipeline.statements.get(turn.statement)
            if prepared is None or not prepared.plain:
                return None
            turn.text, turn.verdict = prepared.text, prepared.verdict
        if reading is not None:
            if reading.changed or (prepared is not None and prepared.stamp != reading.stamp):
                return None
            if description is not None and reading.plan(description, turn.verdict.statements[0]) is not None:
                return None  # its rows change
        pipeline.turn = None
        turn.took = self._now() - turn.started
        self._leave_behind(turn, prepared, status)
        self._session.record_turn(turn)
        self._session.idle()
        if turn.described:
            return chunk
        at = _EMPTY * len(turn.ahead)
        return chunk[:at] + chunk[at + _EMPTY + len(description or b"") :]

    def _leave_behind(self, turn: Turn, prepared: ParseStep | None, status: int) -> None:
        """The names that stand after a turn: of the unnamed statement, and of the portal in a transaction."""
        pipeline = self._pipeline
        if not turn.ahead:
            if pipeline.statements:
                pipeline.statements.pop(b"", None)
        elif turn.parse is not None:
            pipeline.statements[b""] = turn.parse
        if status == _IDLE:
            if pipeline.portals:
                pipeline.portals.clear()
        elif turn.ahead:
            portal = pipeline.portals[turn.portal] = turn.bind()
            portal.prepared = prepared
            self._bound(turn.portal, prepared)
            portal.described = self._reading is not None

    def _parse_complete(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._take(ParseStep)
        if step.verdict.action == "refuse":
            raise WireError("the target accepted a statement that the gate refused")
        self._pipeline.statements[step.name] = step
        if step.name and self._reading is not None:
            self._reading.parsed(step.name, step.text, step.verdict)
        return None

    def _bind_complete(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._take(BindStep)
        step.prepared = self._pipeline.statements.get(step.statement)
        self._pipeline.portals[step.portal] = step
        self._bound(step.portal, step.prepared)
        return None

    def _bound(self, portal: bytes, prepared: ParseStep | None) -> None:
        if portal and self._reading is not None:
            verdict, stamp = (prepared.verdict, prepared.stamp) if prepared is not None else (None, "")
            self._reading.bound(portal, verdict, stamp)

    def _close_complete(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._take(CloseStep)
        table: dict[bytes, ParseStep] | dict[bytes, BindStep] = (
            self._pipeline.statements if step.of == _STATEMENT else self._pipeline.portals
        )
        table.pop(step.name, None)
        if step.of == _STATEMENT and self._reading is not None:
            self._reading.closed(step.name)
        return None

    def _parameter_description(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._pipeline.head()
        if not isinstance(step, DescribeStep):
            raise WireError("a ParameterDescription came to something else than a Describe")
        if step.of == _STATEMENT and (prepared := self._pipeline.statements.get(step.name)) is not None:
            prepared.parameters = chunk[at:end]
        return None

    def _row_description(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._pipeline.head()
        if isinstance(step, DescribeStep):
            self._pipeline.steps.popleft()
            if self._reading is not None and step.of != _STATEMENT:
                self._plan_portal(step.name, chunk[at:end], self._reading)
            return b"" if step.own else None
        if not isinstance(step, QueryStep):
            raise WireError("a RowDescription came to something else than a Query or a Describe")
        if self._reading is not None:
            statements = step.verdict.statements
            statement = statements[step.result] if step.result < len(statements) else None
            step.plan = self._reading.plan(chunk[at:end], statement)
            step.described = True
        return None if step.limit is None else self._kept(step.limit, chunk[at - 5 : end])

    def _plan_portal(self, name: bytes, body: bytes, reading: Reading) -> None:
        portal = self._pipeline.portals.get(name)
        if portal is None:  # a cursor declared by SQL: the origins of its columns decide
            portal = self._pipeline.portals[name] = BindStep(name, b"", b"")
        statement, hide = None, False
        prepared = portal.prepared
        if prepared is not None:
            verdict = prepared.verdict
            if prepared.stamp != reading.stamp:  # the catalog may be another than at the Parse
                verdict = reading.verdict(prepared.text)
            hide = verdict.action == "refuse"
            statement = verdict.statements[0] if len(verdict.statements) == 1 else None
        portal.plan = reading.plan(body, statement, hide=hide)
        portal.described = True

    def _no_data(self, chunk: bytes, at: int, end: int) -> bytes | None:
        return b"" if self._take(DescribeStep).own else None

    def data_rows(self, chunk: bytes, at: int, end: int) -> tuple[int, bytes | None]:
        """The run of whole rows from `at`: where it ends, and its bytes when they change."""
        step = self._execution()
        holder = step if isinstance(step, QueryStep) else self._pipeline.portals.get(step.portal)
        if holder is None or not holder.described:
            raise WireError("rows came whose columns were not described")
        end = _run(chunk, end, _DATA_ROW)
        if step.limit is not None and not self._limiter.rows(step, step.limit, _count(chunk, at, end)):
            return end, b""
        if holder.plan is None:
            return end, None
        try:
            return end, rewrite_data_rows(chunk[at:end], holder.plan)
        except BrokenRow as error:
            raise WireError(str(error)) from error

    def copy_data(self, chunk: bytes, at: int, end: int, copying: CopyOut) -> tuple[int, bytes | None]:
        """The run of whole CopyData messages from `at`: where it ends, and its bytes when they change."""
        end = _run(chunk, end, _COPY_DATA)
        step = copying.step
        if step.limit is not None:
            rows = _count(chunk, at, end) - copying.titled - chunk.endswith(_TRAILER, at, end)
            copying.titled = False
            if not self._limiter.rows(step, step.limit, rows, copied=True):
                return end, b""
        if copying.stream is None:
            return end, None
        try:
            return end, copying.stream.rewrite(chunk[at:end])
        except BrokenRow as error:
            raise WireError(str(error)) from error

    def _copy_done(self, chunk: bytes, at: int, end: int) -> bytes | None:
        copying, self.copying = self.copying, None
        if copying is None:
            return None
        if copying.step.limit is not None and copying.step.limit.exceeded is not None:
            return b""
        try:
            return None if copying.stream is None else copying.stream.finish() + chunk[at - 5 : end]
        except BrokenRow as error:
            raise WireError(str(error)) from error

    def _command_complete(self, chunk: bytes, at: int, end: int) -> bytes | None:
        if self._pipeline.head().own:
            return b""
        step = self._execution()
        tag = chunk[at : end - 1]
        rows = codec.command_rows(tag)
        if self._pipeline.in_copy:
            self._pipeline.copy_in_over()
        if isinstance(step, ExecuteStep):
            step.tag = tag
            step.rows = rows
            return self._executed(step, chunk[at - 5 : end])
        else:
            step.tag = step.tag + b"; " + tag if step.tag else tag
            step.rows += rows
            if self._reading is not None:
                self._ran(step, step.result, self._reading)
            step.result += 1
            step.described = False
            if step.limit is not None:
                return self._limiter.completed(step, step.limit, chunk[at - 5 : end], rows)
        return None

    def _ran(self, step: Execution, index: int, reading: Reading) -> None:
        """A statement went through: what it named, and what it changed in the catalog."""
        verdict = step.verdict
        if verdict.changes_catalog:
            reading.changed = True
        if index >= len(verdict.statements):
            return
        statement = verdict.statements[index]
        reading.ran(statement, step.text)
        if statement.defines is not None:  # by SQL: what we knew under that name is gone
            kind, name = statement.defines
            if kind == "prepared":
                self._pipeline.statements.pop(name.encode(), None)
            else:
                self._pipeline.portals.pop(name.encode(), None)

    def _function_result(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._execution()
        if not isinstance(step, QueryStep) or not step.bound:
            raise WireError("a FunctionCallResponse came to something else than a FunctionCall")
        step.tag = b"SELECT 1"
        step.rows = 1
        return None

    def _empty(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._execution()
        if isinstance(step, ExecuteStep):
            return self._executed(step, chunk[at - 5 : end])
        return None if step.limit is None else self._kept(step.limit, chunk[at - 5 : end])

    def _suspended(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._execution()
        if not isinstance(step, ExecuteStep):
            raise WireError("PortalSuspended came to a simple query")
        step.outcome = "suspended"
        return self._executed(step, chunk[at - 5 : end])

    def error(self, chunk: bytes, at: int, end: int) -> bytes | None:
        body = chunk[at:end]
        fields = codec.read_report(body)
        if fields.get(b"V") in (b"FATAL", b"PANIC"):
            self._session.target_ends(fields)
            return None
        pipeline = self._pipeline
        self.copying = None
        step = pipeline.head()
        if isinstance(step, EndStep):
            step.error = chunk[at:end]
            return b""
        if isinstance(step, OwnStep):
            raise WireError("the target would not begin a transaction")
        instead: bytes | None = None
        if self._scrubs(step):
            fields = scrub(fields)
            instead = codec.report(b"E", fields)
        if isinstance(step, Execution):
            instead = self._failed(step, fields) or instead
        if isinstance(step, QueryStep):
            if pipeline.in_copy:
                pipeline.copy_in_over()
            return instead if step.limit is None else self._kept(step.limit, instead or chunk[at - 5 : end])
        for skipped in pipeline.failed():
            if skipped is step and isinstance(step, (Execution, BindStep)):
                self._session.record(step if isinstance(step, Execution) else self._unbound(step, fields))
            elif isinstance(skipped, Execution) and skipped.verdict.action == "refuse":
                skipped.outcome = "refused"
                self._session.record(skipped)
        return instead

    def _failed(self, step: Execution, fields: dict[bytes, bytes]) -> bytes | None:
        """Note how `step` failed, and put a refusal into the gate's own words."""
        step.took = self._now() - step.started
        step.outcome = "error"
        step.sqlstate = fields.get(b"C", b"")
        step.message = fields.get(b"M", b"")
        if isinstance(step, ExecuteStep):
            self._fill(step)
        verdict = step.verdict
        if step.late is not None and step.sqlstate == b"57014":
            verdict = step.verdict = step.late
        if verdict.action != "refuse":
            return None
        state = verdict.sqlstate or "42501"
        step.outcome = "refused"
        step.sqlstate = state.encode()
        step.message = verdict.reason.encode()
        return codec.error("ERROR", state, verdict.reason, hint=verdict.hint, position=verdict.position)

    def _scrubs(self, step: Step) -> bool:
        """Whether errors and notices of `step` may hold masked values. In doubt they may."""
        reading = self._reading
        if reading is None or not reading.masks:
            return False
        if isinstance(step, BindStep):
            prepared = self._pipeline.statements.get(step.statement)
        elif isinstance(step, ExecuteStep):
            portal = self._pipeline.portals.get(step.portal)
            prepared = portal.prepared if portal is not None else None
        else:
            prepared = step if isinstance(step, (QueryStep, ParseStep)) else None  # type: ignore[assignment]
        return prepared is None or reading.changed or prepared.verdict.scrub_errors

    def _unbound(self, step: BindStep, fields: dict[bytes, bytes]) -> Execution:
        """What to record of a Bind that failed: the attempt, with its statement and values."""
        session = self._session
        prepared = self._pipeline.statements.get(step.statement)
        text, verdict = (UNKNOWN_TEXT, PASS) if prepared is None else (prepared.text, prepared.verdict)
        attempt = Execution(text, verdict, self._now(), session.origin)
        attempt.bound = step.body
        attempt.review = step.review
        attempt.outcome = "error"
        attempt.sqlstate = fields.get(b"C", b"")
        attempt.message = fields.get(b"M", b"")
        return attempt

    def _ready(self, chunk: bytes, at: int, end: int) -> bytes | None:
        pipeline = self._pipeline
        step = pipeline.head()
        instead: bytes | None = None
        if isinstance(step, (OwnStep, EndStep)) or (isinstance(step, QueryStep) and step.limit is not None):
            instead = self._limited(step, chunk[at], chunk[at - 5 : end])
            if not instead:
                return b""
            step = step.query if isinstance(step, EndStep) else step
            pipeline.steps.appendleft(step)
        if isinstance(step, QueryStep):
            pipeline.steps.popleft()
            if not step.took:
                step.took = self._now() - step.started
            self._session.record(step)
            if pipeline.statements:
                pipeline.statements.pop(b"", None)
        elif step is SYNC:
            pipeline.steps.popleft()
        else:
            raise WireError("ReadyForQuery came before everything was answered")
        if chunk[at] != pipeline.status:
            self._session.approvals.transaction_moved(chunk[at])
            pipeline.status = chunk[at]
        if chunk[at] == _IDLE and self._session.approvals.commits is not None:
            self._session.approvals.commits.reset()
        if pipeline.portals and chunk[at] == _IDLE:
            pipeline.portals.clear()
        if not pipeline.steps:
            self._session.idle()
        return instead

    def _limited(self, step: Step, status: int, message: bytes) -> bytes:
        """ReadyForQuery in the course of a limited Query: nothing until its outcome stands."""
        self._pipeline.steps.popleft()
        if isinstance(step, EndStep):
            return self._limiter.ended(step, status, message)
        if isinstance(step, QueryStep) and step.limit is not None:
            return self._limiter.ready(step, step.limit, status, message)
        self._pipeline.status = status
        return b""

    def _copy_in(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._execution()
        if self._session.approvals.resting:
            raise WireError("a message came where COPY data was due")
        limit = step.limit
        if limit is not None and limit.exceeded is not None:  # the client does not get here any more
            self._session.target.greeter.write(COPY_FAIL)
            return b""
        self._pipeline.copy_in_began()
        return None if limit is None else self._kept(limit, chunk[at - 5 : end])

    def _copy_out(self, chunk: bytes, at: int, end: int) -> bytes | None:
        step = self._execution()
        if isinstance(step, ExecuteStep):
            self._fill(step)
        index = step.result if isinstance(step, QueryStep) else 0
        stream, warning = None, b""
        if self._reading is not None:
            try:
                plan = self._reading.copy_plan(step.text, index, _WIDTH(chunk, at)[0])
            except ValueError as error:
                raise WireError(str(error)) from error
            if plan is not None:
                stream = CopyStream(plan, self._session.settings.max_message)
                warning = _warning(plan)
        statements = step.verdict.statements
        if stream is not None or step.limit is not None:
            titled = index < len(statements) and statements[index].titled
            self.copying = CopyOut(step, stream, titled)
        message = warning + chunk[at - 5 : end]
        return message if step.limit is None else self._kept(step.limit, message)

    def _notice(self, chunk: bytes, at: int, end: int) -> bytes | None:
        steps, reading = self._pipeline.steps, self._reading
        if reading is None or not reading.masks:
            return None
        fields = codec.read_report(chunk[at:end])
        # A context says that a function speaks: whatever called it.
        if b"W" in fields or (steps and self._scrubs(steps[0])):
            return codec.report(b"N", scrub(fields))
        return None

    def notification(self, chunk: bytes, at: int, end: int) -> bytes | None:
        """What stands in a payload, nobody can tell: a trigger may have put a whole row into it."""
        if self._reading is None or not self._reading.masks:
            return None
        _, payload = codec.cstring(chunk, at + 4)
        return codec.message(b"A", chunk[at:payload] + (b"***\0" if chunk[payload] else b"\0"))

    def _pass(self, chunk: bytes, at: int, end: int) -> bytes | None:
        return None

    def _parameter_status(self, chunk: bytes, at: int, end: int) -> bytes | None:
        name, after = codec.cstring(chunk, at)
        value, _ = codec.cstring(chunk, after)
        self._session.parameter(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
        return None

    # --- steps

    def _take(self, kind: type[_S]) -> _S:
        step = self._pipeline.head()
        if not isinstance(step, kind):
            raise WireError(f"an answer to a {kind.__name__} came where another was due")
        self._pipeline.steps.popleft()
        return step

    def _execution(self) -> QueryStep | ExecuteStep:
        step = self._pipeline.head()
        if not isinstance(step, _RUNS):
            raise WireError("a result came to something that runs nothing")
        return step

    def _fill(self, step: ExecuteStep) -> None:
        portal = self._pipeline.portals.get(step.portal)
        prepared = portal.prepared if portal is not None else None
        if portal is None or prepared is None:
            step.text = UNKNOWN_TEXT if portal is None else portal.meaning or UNKNOWN_TEXT
            return
        step.text = prepared.text
        step.verdict = prepared.verdict
        if step.limit is not None and step.limit.exceeded is not None:
            step.verdict = step.limit.exceeded
        step.bound = portal.body
        step.review = portal.review

    def _kept(self, limit: Limit, message: bytes) -> bytes:
        """What was kept of a limited Query, and the message behind it."""
        return b"" if limit.exceeded is not None else self._limiter.flush(limit) + message

    def _executed(self, step: ExecuteStep, message: bytes) -> bytes | None:
        """An Execute has come to its outcome. One beyond its limit is made to fail and gets another."""
        limit = step.limit
        if limit is not None and not self._limiter.executed(
            step, limit, step.rows, all_of_it=step.outcome == "ok"
        ):
            return b""
        self._pipeline.steps.popleft()
        step.took = self._now() - step.started
        self._fill(step)
        if self._reading is not None and step.outcome == "ok":
            self._ran(step, 0, self._reading)
        self._session.record(step)
        return None


def _warning(plan: CopyPlan) -> bytes:
    """A dump with masked values in it looks like one without: whoever takes it is told."""
    if not plan.masked:
        return b""
    text = f"this COPY holds masked values: {', '.join(plan.masked)}"
    detail = "A dump made of it does not bring the real values back."
    fields = {b"S": "WARNING", b"V": "WARNING", b"C": "01000", b"M": text, b"D": detail}
    return codec.report(b"N", {key: value.encode() for key, value in fields.items()})


def _run(chunk: bytes, end: int, kind: int) -> int:
    """Where the run of whole messages of a kind ends that goes on at `end`."""
    size = len(chunk)
    last = size - 5
    while end <= last and chunk[end] == kind:
        after: int = end + 1 + _LENGTH(chunk, end + 1)[0]
        if after > size:
            break
        end = after
    return end


def _count(chunk: bytes, at: int, end: int) -> int:
    """How many whole messages there are from `at` to `end`."""
    count = 0
    while at < end:
        at += 1 + _LENGTH(chunk, at + 1)[0]
        count += 1
    return count


_Reader = Callable[[Replies, bytes, int, int], bytes | None]
_READERS: dict[int, _Reader] = {
    ord("1"): Replies._parse_complete,
    ord("2"): Replies._bind_complete,
    ord("3"): Replies._close_complete,
    ord("t"): Replies._parameter_description,
    ord("T"): Replies._row_description,
    ord("n"): Replies._no_data,
    ord("C"): Replies._command_complete,
    ord("V"): Replies._function_result,
    ord("I"): Replies._empty,
    ord("s"): Replies._suspended,
    ord("E"): Replies.error,
    ord("Z"): Replies._ready,
    ord("G"): Replies._copy_in,
    ord("H"): Replies._copy_out,
    ord("c"): Replies._copy_done,
    ord("A"): Replies.notification,
    ord("N"): Replies._notice,
    ord("S"): Replies._parameter_status,
}
READERS: list[_Reader | None] = [_READERS.get(kind) for kind in range(256)]
