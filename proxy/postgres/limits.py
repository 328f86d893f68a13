"""Statements that may touch or return so many rows only, or run for so long only.

The outcome of a limited statement is kept from the client until it is known to be within its limit, and what
follows it waits. A Query outside a transaction is run inside one of the gate's own, which is then committed
or rolled back; in a transaction, or before the Sync of the extended protocol, an error of the gate's making
aborts what was done as PostgreSQL does with any error.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.postgres import codec
from proxy.postgres.pipeline import ExecuteStep, Execution, QueryStep, Step
from proxy.postgres.poison import POISON_PARSE, POISON_QUERY
from proxy.sql.guard import Verdict
from workflows.model import StatementClass

if TYPE_CHECKING:
    from proxy.postgres.holding import Held
    from proxy.postgres.session import Session

_IDLE = ord("I")
_FAILED = ord("E")
_MOST = 0x7FFFFFFF
BEGIN = codec.query(b"BEGIN")
_COMMIT = codec.query(b"COMMIT")
_ROLLBACK = codec.query(b"ROLLBACK")
_NOTHING = codec.query(b"UNLISTEN portcullis_nothing")
COPY_FAIL = codec.message(b"f", b"over the limit of rows\0")


class Limit:
    """How many rows one execution may touch or return, and how far it is. `source` names who set it."""

    __slots__ = (
        "cancelling",
        "exceeded",
        "holds_commit",
        "kept",
        "reads",
        "rows",
        "seen",
        "source",
        "wrapped",
    )

    def __init__(self, rows: int, source: str, *, reads: bool, wrapped: bool = False) -> None:
        self.rows = rows
        self.source = source
        self.reads = reads
        self.wrapped = wrapped
        self.holds_commit = False
        self.seen = 0
        self.exceeded: Verdict | None = None
        self.kept = b""  # an outcome that the client does not have yet
        self.cancelling: asyncio.Task[None] | None = None  # the target is being told to stop

    def ask(self, asked: int) -> int:
        """The rows to ask of a portal when the client asks for so many (0: all)."""
        if not self.reads:
            return asked
        left = max(self.rows - self.seen, 0) + 1
        return min(asked or _MOST, left)

    def when_cancelled(self, then: Callable[[], object]) -> None:
        """Go on when no cancel is under way any more: one that comes late would hit what follows. (A target
        that is idle ignores it.)
        """
        if self.cancelling is None or self.cancelling.done():
            then()
        else:
            self.cancelling.add_done_callback(lambda _: then())

    def exceed(self, verdict: Verdict, rows: int | None = None) -> None:
        """Too many rows (None: nobody counts on): the statement is refused after all."""
        did = "returns" if self.reads else "affected"
        count = f"more than {self.rows}" if rows is None else str(rows)
        self.exceeded = replace(
            _plain(verdict),
            action="refuse",
            reason=f"the statement {did} {count} rows; {self.source} is {self.rows}"
            + ("" if self.reads else ", so it was rolled back"),
            hint="Narrow it." if self.reads else "Nothing was changed. Narrow it, or ask for more rows.",
            sqlstate="42501",
        )


def _plain(verdict: Verdict) -> Verdict:
    return Verdict(verdict.action, verdict.statement_class, verdict.statements, verdict.scrub_errors)


class OwnStep(Step):
    """The gate's own BEGIN ahead of a limited Query."""

    __slots__ = ()

    def __init__(self) -> None:
        self.own = True


class EndStep(Step):
    """The gate's own COMMIT, ROLLBACK or refusal behind a limited Query, whose outcome waits for it."""

    __slots__ = ("error", "query")

    def __init__(self, query: QueryStep) -> None:
        self.own = True
        self.query = query
        self.error = b""


class Limiter:
    """The target's answers to limited statements. Each call returns what the client gets, as in Replies."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pipeline = session.pipeline

    def rows(self, step: Execution, limit: Limit, count: int, *, copied: bool = False) -> bool:
        """`count` rows came: whether they may go on. Of a portal no more were asked for, but for COPY's."""
        limit.seen += count
        if limit.exceeded is None and limit.seen > limit.rows:
            limit.exceed(step.verdict)
            if copied or isinstance(step, QueryStep):
                limit.cancelling = self._session.cancel_what_runs()
        return limit.exceeded is None

    def completed(self, step: Execution, limit: Limit, message: bytes, rows: int) -> bytes:
        """A statement is through: its CommandComplete is kept until the next one, or the end."""
        if limit.exceeded is None and not limit.reads and rows > limit.rows:
            limit.exceed(step.verdict, rows)
        return b"" if limit.exceeded is not None else self.flush(limit, message)

    def flush(self, limit: Limit, then: bytes = b"") -> bytes:
        """Let what was kept go, and keep `then`."""
        kept, limit.kept = limit.kept, then
        return kept

    def executed(self, step: ExecuteStep, limit: Limit, rows: int, *, all_of_it: bool) -> bool:
        """An Execute has its outcome: whether it stands. If not, the target is made to fail."""
        over = limit.seen if limit.reads else max(rows, limit.seen)
        if limit.exceeded is None and (over > limit.rows or not (all_of_it or limit.reads)):
            limit.exceed(step.verdict, None if limit.reads else over)
        if limit.exceeded is None:
            return True
        self._send(limit, POISON_PARSE)
        return False

    def _send(self, limit: Limit, message: bytes) -> None:
        limit.when_cancelled(lambda: self._session.target.greeter.write(message))

    def ready(self, step: QueryStep, limit: Limit, status: int, message: bytes) -> bytes:
        """The Query is through, and its transaction is to be ended: the outcome waits for that."""
        if limit.wrapped:
            keep = limit.exceeded is None and status != _FAILED
            if keep and limit.holds_commit:
                return self._hold_commit(step, limit, status)
            return self._then(EndStep(step), _COMMIT if keep else _ROLLBACK, status)
        if limit.exceeded is not None and status not in (_FAILED, _IDLE):
            return self._then(EndStep(step), POISON_QUERY, status)
        if limit.cancelling is not None and not limit.cancelling.done():
            return self._then(EndStep(step), _NOTHING, status)
        return self._outcome(step, limit, b"") + message

    def _hold_commit(self, step: QueryStep, limit: Limit, status: int) -> bytes:
        """What the Query wrote waits, in the gate's own transaction, for those who decide."""
        session, end = self._session, EndStep(step)
        commits = session.approvals.commits
        assert commits is not None
        commits.add(step)
        self._pipeline.status = status
        self._pipeline.steps.appendleft(end)

        def decided(held: Held) -> None:
            step.review = held.review
            limit.exceeded = held.refusal
            session.target.greeter.write(_COMMIT if held.refusal is None else _ROLLBACK)

        if commits.pending:
            session.approvals.hold_commit(b"COMMIT", decided)
        else:
            session.target.greeter.write(_COMMIT)
        return b""

    def _then(self, end: EndStep, query: bytes, status: int) -> bytes:
        self._pipeline.status = status
        self._pipeline.steps.appendleft(end)
        assert end.query.limit is not None
        self._send(end.query.limit, query)
        return b""

    def ended(self, end: EndStep, status: int, message: bytes) -> bytes:
        """The gate's own end of the transaction is through."""
        limit = end.query.limit
        assert limit is not None
        if limit.wrapped and status != _IDLE:  # it was cancelled
            return self._then(end, _ROLLBACK, status)
        return self._outcome(end.query, limit, end.error) + message

    def _outcome(self, step: QueryStep, limit: Limit, error: bytes) -> bytes:
        """The last word on a Query, also for the recording."""
        if limit.exceeded is not None:
            it = step.verdict = limit.exceeded
            step.outcome, step.sqlstate, step.message = "refused", it.sqlstate.encode(), it.reason.encode()
            return codec.error("ERROR", it.sqlstate, it.reason, hint=it.hint)
        if error:  # a deferred constraint, say
            fields = codec.read_report(error)
            step.outcome, step.sqlstate = "error", fields.get(b"C", b"")
            step.message = fields.get(b"M", b"")
            return codec.message(b"E", error)
        return self.flush(limit)


class TimeLimit:
    """Has a statement cancelled that runs for longer than its guardrail allows."""

    def __init__(self, session: Session, step: Execution, seconds: float) -> None:
        self._session = session
        self._step = step
        self._seconds = seconds
        self._arm()

    def _arm(self) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._check)

    def _check(self) -> None:
        session, step = self._session, self._step
        if session.over or step not in session.pipeline.steps:
            return
        if session.pipeline.head() is not step:  # its own time has not begun
            self._arm()
            return
        step.late = replace(
            _plain(step.verdict),
            action="refuse",
            reason=f"the statement ran for longer than the {self._seconds:g} s that the guardrails allow it",
            hint="Narrow it, or ask for a role that may take longer.",
            sqlstate="57014",
        )
        session.cancel_what_runs()


def execute(portal: bytes, rows: int) -> bytes:
    return codec.message(b"E", portal + b"\0" + struct.pack("!I", rows))


def is_reading(verdict: Verdict) -> bool:
    return verdict.statement_class is StatementClass.READ
