"""Which of a client's messages have to wait for people: a Query with its text, a Bind with its values.

A Bind is where text and values meet, and ahead of any planning, which may already call functions. Which text
a name stands for is only certain when everything ahead is answered (a Parse under way may fail), so a name
that ever stood for something to be held is looked up at rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.postgres import codec
from proxy.postgres.approvals import Wait
from proxy.postgres.commits import Commits, cannot_be_held, may_commit, writes
from proxy.postgres.holding import Held, Words
from proxy.postgres.limits import BEGIN, Limit, OwnStep, TimeLimit, execute, is_reading
from proxy.postgres.pipeline import BindStep, ExecuteStep, Execution, ParseStep, QueryStep
from proxy.postgres.poison import POISON_PARSE, POISON_QUERY
from proxy.postgres.reading import NO_LIMITS, Ruled, scrub
from proxy.sql.guard import Verdict
from proxy.sql.guardrails import no_such_statement
from proxy.sql.tree import words
from workflows.model import StatementClass

if TYPE_CHECKING:
    from proxy.postgres.session import Session

_FLUSH = codec.message(b"H")
_IDLE = ord("I")
_FAILED = ord("E")
_MOST = 0x7FFFFFFF
_ALLOWED = "the most its guardrail allows"
_FOLLOWS = frozenset(b"QPBDECFS")
_ROWS = words(
    """
    select_stmt insert_stmt update_stmt delete_stmt merge_stmt create_table_as_stmt copy_stmt execute_stmt
    fetch_stmt explain_stmt
    """
)
"""Kinds of statements that return or touch rows."""


class HeldMessages:
    """For sessions whose terms hold or limit statements. Each call raises Wait where the message waits."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pipeline = session.pipeline
        self._approvals = session.approvals
        self._commits = session.approvals.commits
        self._free: set[bytes] = set()  # names that only ever stood for what runs freely
        self._watched: set[bytes] = set()
        self._limits: dict[bytes, tuple[Verdict, Limit | None]] = {}  # by portal
        self.limited = False
        """A limited statement is under way."""

    @property
    def takes_turn(self) -> bool:
        """Whether an ordinary request can be one turn: nothing waits, is counted or held at COMMIT."""
        return not (self.limited or self._commits is not None or self._approvals.held is not None)

    def turn(self, portal: bytes, name: bytes, *, parsed: bool) -> bool:
        """What `parse`, `bind`, `execute` and `sync` do to a batch, where that is nothing at all. `parsed`: a
        Parse of a text that runs freely is ahead.
        """
        if parsed and name not in self._watched:
            self._free.add(name)
        if name not in self._free:
            return False
        self._limits.pop(portal, None)
        return True

    def query(self, step: QueryStep, message: bytes) -> bytes | None:
        """What to send instead of a Query; None for the message as it came."""
        if self._commits is not None:
            self._before_commit(step, self._commits)
        verdict = step.verdict
        self._settle_names(verdict)
        held: Held | None = None
        step.meaning = self._meaning(verdict)
        words = Words(step.text, meaning=step.meaning)
        if words.too_long and verdict.action == "hold":
            step.verdict = verdict = _too_long(verdict)
        if isinstance(verdict, Ruled) and verdict.action == "hold":
            step.verdict, held = self._approvals.settle(words, verdict)
            step.review = held.review if held is not None else None
        elif step.review is None:
            self._approvals.drop()
        limit = self._limit_of(verdict, held) if step.verdict.action == "allow" else None
        if limit is None and self._commits is not None and _may_write(step.verdict):
            limit = Limit(_MOST, "", reads=False)
        if limit is not None and not self._pipeline.rested:
            raise Wait(self._approvals.rest)
        self._defined(verdict)
        if limit is not None and (why := _cannot_be_limited(verdict)):
            step.verdict = _unlimitable(verdict, why)
        self._pipeline.steps.append(step)
        if step.verdict.action != "allow":
            return POISON_QUERY
        self._time(step, verdict)
        if limit is None:
            return None
        step.limit = limit
        self.limited = True
        limit.wrapped = not limit.reads and self._pipeline.status == _IDLE
        limit.holds_commit = self._commits is not None and limit.wrapped
        if not limit.wrapped:
            return None
        self._pipeline.steps.appendleft(OwnStep())
        return BEGIN + message

    def parse(self, step: ParseStep) -> None:
        """A Parse runs nothing, but it says what a name will stand for."""
        verdict = step.verdict
        self._settle_names(verdict)
        if verdict.action == "refuse":
            return
        self._defined(verdict)
        free = _runs_freely(verdict)
        if self._commits is not None and (may_commit(verdict, step.text) or cannot_be_held(verdict)):
            free = False
        if free and step.name not in self._watched:
            self._free.add(step.name)
        else:
            self._watch(step.name)

    def bind(self, step: BindStep, values: bytes) -> bytes | None:
        """What to send instead of a Bind that may not go on; None when it may."""
        name = step.statement
        self._limits.pop(step.portal, None)
        if name in self._free:
            return None
        if not self._pipeline.rested:
            raise Wait(self._approvals.rest)
        reading = self._session.reading
        assert reading is not None
        prepared = self._pipeline.statements.get(name)
        verdict = reading.prepared(name) if prepared is None else reading.verdict(prepared.text)
        if verdict is None:
            verdict = _no_such_statement(name)
        words = (
            Words(b"execute " + name, values=values, meaning=reading.meaning(name))
            if prepared is None
            else Words(prepared.text, prepared.types, values, self._meaning(verdict), prepared.parameters)
        )
        step.meaning = b"" if prepared is not None else words.meaning
        held: Held | None = None
        if self._commits is not None and verdict.action != "refuse":
            if why := cannot_be_held(verdict):
                return self._refuse(step, words, _out_of_sight(verdict, why))
            if may_commit(verdict, words.text) and self._keeps_something(self._commits):
                verdict, held = self._approvals.settle_commit(words.text)
                step.review = held.review if held is not None else None
                return None if verdict.action == "allow" else self._refuse(step, words, verdict)
        if words.too_long and verdict.action == "hold":
            verdict = _too_long(verdict)
        if isinstance(verdict, Ruled) and verdict.action == "hold":
            verdict, held = self._approvals.settle(words, verdict, bound=True)
            step.review = held.review if held is not None else None
        else:
            self._approvals.drop()
            if _runs_freely(verdict) and prepared is not None:
                self._watched.discard(name)
                self._free.add(name)
        if held is not None and held.failure is not None:
            return self._fail(step, words, verdict, held.failure)
        if verdict.action != "allow":
            return self._refuse(step, words, verdict)
        limit = self._limit_of(verdict, held)
        if limit is not None and (why := _cannot_be_limited(verdict, bound=True)):
            return self._refuse(step, words, _unlimitable(verdict, why))
        if isinstance(verdict, Ruled) and (limit is not None or verdict.limits.timeout is not None):
            self._limits[step.portal] = (verdict, limit)
        return None

    def sync(self, message: bytes) -> bytes | None:
        """What to send instead of a Sync, which commits what stands outside a transaction."""
        pipeline, commits = self._pipeline, self._commits
        if commits is None or not pipeline.unsynced or pipeline.skipping or pipeline.copying_in:
            return None
        if not pipeline.rested:
            raise Wait(self._approvals.rest)
        if not commits.pending or commits.in_block or pipeline.status != _IDLE:
            return None
        verdict, held = self._approvals.settle_commit(b"COMMIT")
        if verdict.action == "allow":
            if held is not None:
                self._approvals.through(held, "COMMIT")
            return None
        attempt = BindStep(b"", b"", b"")
        attempt.review = held.review if held is not None else None
        self._refuse(attempt, Words(b"COMMIT"), verdict)
        return POISON_PARSE + message

    def _before_commit(self, step: QueryStep, commits: Commits) -> None:
        """A Query may keep what was written: then that is held here, where it does not hide how."""
        if step.verdict.action == "refuse":
            return
        if not self._pipeline.rested:
            raise Wait(self._approvals.rest)
        if why := cannot_be_held(step.verdict):
            step.verdict = _out_of_sight(step.verdict, why)
        elif self._pipeline.unsynced and commits.pending:
            step.verdict = _out_of_sight(step.verdict, "a Query ahead of the Sync")
        elif may_commit(step.verdict, step.text) and self._keeps_something(commits):
            verdict, held = self._approvals.settle_commit(step.text)
            step.review = held.review if held is not None else None
            if verdict.action == "refuse":
                step.verdict = verdict

    def _keeps_something(self, commits: Commits) -> bool:
        return commits.pending and self._pipeline.status != _FAILED

    def execute(self, step: ExecuteStep, asked: int) -> bytes | None:
        """What to send instead of an Execute for `asked` rows (0: all); None for the message as it came."""
        known = self._limits.get(step.portal)
        if known is None:
            return None
        verdict, limit = known
        self._time(step, verdict)
        # The first Flush lets the answers ahead out, so that it shows when this one's own time begins.
        if limit is None:
            return _FLUSH + execute(step.portal, asked)
        step.limit = limit
        self.limited = True
        return _FLUSH + execute(step.portal, limit.ask(asked)) + _FLUSH

    def hold_back(self, kind: int) -> None:
        """Nothing follows a limited statement before its outcome stands. Raises Wait."""
        if kind in _FOLLOWS and not self._pipeline.copying_in:
            if not self._pipeline.rested:
                raise Wait(self._approvals.rest)
            self.limited = False

    def _limit_of(self, verdict: Verdict, held: Held | None) -> Limit | None:
        """The tighter of the approver's row budget and the guardrails' row limit."""
        if not _ROWS.intersection(verdict.kinds):
            return None
        allowed = verdict.limits.rows if isinstance(verdict, Ruled) else None
        budget = held.run.row_budget if held is not None and held.run is not None else None
        reads = is_reading(verdict)
        if budget is not None and (allowed is None or budget <= allowed):
            return Limit(budget, "what was approved", reads=reads)
        return None if allowed is None else Limit(allowed, _ALLOWED, reads=reads)

    def _time(self, step: Execution, verdict: Verdict) -> None:
        if isinstance(verdict, Ruled) and verdict.limits.timeout is not None:
            TimeLimit(self._session, step, verdict.limits.timeout.total_seconds())

    def _settle_names(self, verdict: Verdict) -> None:
        """What EXECUTE's name stands for may be on its way."""
        if isinstance(verdict, Ruled) and verdict.named and not self._pipeline.rested:
            raise Wait(self._approvals.rest)

    def _defined(self, verdict: Verdict) -> None:
        for statement in verdict.statements:
            if statement.defines is None:
                continue
            space, name = statement.defines[0], statement.defines[1].encode()
            if space == "prepared":
                self._watch(name)
            elif isinstance(verdict, Ruled) and verdict.limits.rows is not None:  # a cursor: a portal by SQL
                limit = Limit(verdict.limits.rows, _ALLOWED, reads=True)
                self._limits[name] = (verdict, limit)

    def _meaning(self, verdict: Verdict) -> bytes:
        """The texts behind the names that a text executes."""
        reading = self._session.reading
        names = [statement.runs[1].encode() for statement in verdict.statements if statement.runs is not None]
        return b"\n".join(reading.meaning(name) for name in names) if names and reading is not None else b""

    def _watch(self, name: bytes) -> None:
        self._free.discard(name)
        self._watched.add(name)

    def _refuse(self, step: BindStep, words: Words, verdict: Verdict) -> bytes:
        self._pipeline.steps.append(self._attempt(step, words, verdict))
        return POISON_PARSE

    def _fail(self, step: BindStep, words: Words, verdict: Verdict, fields: dict[bytes, bytes]) -> bytes:
        """The target could not plan it and already skips to the next Sync: so say it, and skip, too."""
        session = self._session
        attempt = self._attempt(step, words, verdict)
        attempt.outcome = "error"
        attempt.sqlstate = fields.get(b"C", b"")
        if session.reading is not None and session.reading.masks:
            fields = scrub(fields)
        attempt.message = fields.get(b"M", b"")
        session.client.write(codec.report(b"E", fields))
        session.record(attempt)
        self._pipeline.skipping = True
        return _FLUSH

    def _attempt(self, step: BindStep, words: Words, verdict: Verdict) -> Execution:
        session = self._session
        attempt = ParseStep(b"", words.text, verdict, session.clock.monotonic(), session.origin)
        attempt.bound = step.body
        attempt.review = step.review
        return attempt


def _runs_freely(verdict: Verdict) -> bool:
    """Whether the verdict asks for nothing but reading, whatever its names stand for."""
    if verdict.action != "allow":
        return False
    return not (isinstance(verdict, Ruled) and (verdict.named or verdict.limits != NO_LIMITS))


def _no_such_statement(name: bytes) -> Verdict:
    said = no_such_statement(name.decode("utf-8", "replace"))
    return Verdict("refuse", StatementClass.UNKNOWN, reason=said, sqlstate="26000")


def _cannot_be_limited(verdict: Verdict, *, bound: bool = False) -> str:
    """Why the rows of this text cannot be bounded; empty when they can."""
    if len(verdict.kinds) > 1 and "transaction_stmt" in verdict.kinds:
        return "the rows of a text that begins or ends a transaction cannot be limited"
    if "copy_stmt" in verdict.kinds and bound and not is_reading(verdict):
        return "the rows of a COPY FROM STDIN in the extended protocol cannot be limited"
    return ""


def _may_write(verdict: Verdict) -> bool:
    return verdict.action == "allow" and writes(verdict) and "transaction_stmt" not in verdict.kinds


def _out_of_sight(verdict: Verdict, why: str) -> Verdict:
    return Verdict(
        "refuse",
        verdict.statement_class,
        verdict.statements,
        reason=f"{why} could commit unseen, and this role's commits are held",
        hint="Send BEGIN, the statements and COMMIT one by one.",
        sqlstate="42501",
    )


def _too_long(verdict: Verdict) -> Verdict:
    return Verdict(
        "refuse",
        verdict.statement_class,
        verdict.statements,
        reason="the statement needs an approval, and is too long for people to read",
        hint="Send it in smaller statements.",
        sqlstate="42501",
    )


def _unlimitable(verdict: Verdict, why: str) -> Verdict:
    return Verdict(
        "refuse",
        verdict.statement_class,
        verdict.statements,
        reason=f"{why}, and a limit applies here",
        hint="Send the statements one by one, COPY FROM STDIN as a simple query.",
        sqlstate="42501",
    )
