"""What a session needs for its held statements: the rest before one, the question, the run, its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from proxy.authority import ReviewDecided
from proxy.postgres import codec, estimate
from proxy.postgres.commits import Commits
from proxy.postgres.flushed import FlushedAnswer
from proxy.postgres.holding import Held, Measure, PlanFailed, Review, Words, span
from proxy.postgres.parameters import shown
from proxy.postgres.reading import Ruled
from proxy.postgres.target import Answer
from proxy.sql.guard import Verdict
from workflows.model import Guardrail, ReviewState

if TYPE_CHECKING:
    from proxy.postgres.pipeline import Execution
    from proxy.postgres.session import Session

_OPEN = ord("T")
_FAILED = ord("E")
_ENDED = "not through: the session ended first"


class Wait(Exception):
    """A message cannot be decided on yet; it is read again at `ClientEnd.resume`.

    `then` is called once everything ahead of it has been sent on.
    """

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__("wait")
        self.then = then


class Approvals:
    """One session's dealings with those who decide about its statements."""

    def __init__(self, session: Session, hold_commit: Guardrail | None = None) -> None:
        self._session = session
        self._pipeline = session.pipeline
        self._running: dict[str, Review] = {}
        self.held: Held | None = None
        self.commits = None if hold_commit is None else Commits(hold_commit)
        self.resting = False
        """A message waits until everything ahead of it is answered."""
        self._opened = 0.0
        self._before = 0

    # --- before the statement

    def rest(self) -> None:
        """Have everything that was sent answered, and go on then."""
        self.resting = True
        if self._pipeline.rested:
            self.rested()
        elif not self._pipeline.comes_to_rest:
            self._session.target.greeter.write(codec.message(b"H"))

    def rested(self) -> None:
        self.resting = False
        asyncio.get_running_loop().call_soon(self._session.resume)

    def settle(
        self, words: Words, verdict: Ruled, *, bound: bool = False, counted: int | None = None
    ) -> tuple[Verdict, Held | None]:
        """What becomes of a statement that is to be held: its refusal, or leave to run. Raises Wait."""
        held = self.held
        if held is None:
            if not self._pipeline.rested:
                raise Wait(self.rest)
            if self._will_fail(verdict):
                return replace(verdict, action="allow"), None
            self.held = self._hold(words, verdict, bound, counted)
            raise Wait(self.held.start)
        if not held.over:
            raise Wait(_nothing)
        self.held = None
        if held.digest != words.digest:  # cannot be: what waits is what is read again
            held.abandon("the statement changed")
            raise codec.WireError("a held statement changed while it waited")
        if held.refusal is not None:
            return held.refusal, held
        if held.run is not None:
            self._running[held.review.id] = held.review
        return replace(verdict, action="allow"), held

    def settle_commit(self, last: bytes) -> tuple[Verdict, Held | None]:
        """The same for what a transaction has written, before `last` keeps it. Raises Wait."""
        assert self.commits is not None
        verdict, held = self.settle(self.commits.words(last), self.commits.held(), counted=self.commits.rows)
        over = self._over_budget(held)
        return (verdict if over is None else over), held

    def hold_commit(self, last: bytes, then: Callable[[Held], None]) -> None:
        """Hold what a Query of its own has written; `then` is called when that is decided."""
        assert self.commits is not None
        held = self._hold(self.commits.words(last), self.commits.held(), False, self.commits.rows)
        held.then = lambda: self._commit_decided(held, then)
        self.held = held
        held.start()

    def _commit_decided(self, held: Held, then: Callable[[Held], None]) -> None:
        self.held = None
        if held.run is not None:
            self._running[held.review.id] = held.review
            held.refusal = self._over_budget(held)
        then(held)

    def _over_budget(self, held: Held | None) -> Verdict | None:
        """The refusal of a COMMIT that keeps more rows than were approved."""
        if held is None or held.run is None or held.run.row_budget is None or self.commits is None:
            return None
        if self.commits.rows <= held.run.row_budget:
            return None
        return Verdict(
            "refuse",
            self.commits.held().statement_class,
            reason=f"the transaction touched {self.commits.rows} rows; {held.run.row_budget} are approved",
            hint="Nothing was committed. Narrow it, or ask for more rows.",
            sqlstate="42501",
        )

    def drop(self) -> None:
        """What was held has become another thing to the reader: its run is spent, and it does not run."""
        held, self.held = self.held, None
        if held is None:
            return
        if not held.over:
            held.abandon("the catalog changed meanwhile")
        elif held.run is not None:
            self._finished(held.review, "not run: the catalog changed meanwhile")

    def _will_fail(self, verdict: Ruled) -> bool:
        """In a failed transaction one statement that does not end it is refused by the target itself."""
        return (
            self._pipeline.status == _FAILED
            and len(verdict.statements) == 1
            and verdict.statements[0].kind != "transaction_stmt"
        )

    def _hold(self, words: Words, verdict: Ruled, bound: bool, counted: int | None = None) -> Held:
        measure: Measure | None = None
        if counted is not None:
            measure = partial(_known, counted)
            return Held(
                self._session, words, verdict, shown(words), measure, "all that it wrote, at its COMMIT"
            )
        opaque = any(statement.traits.opaque for statement in verdict.statements)
        if estimate.can_explain(verdict.kinds) and not opaque and self._pipeline.status != _FAILED:
            measure = partial(self._measure_bound if bound else self._measure, words, verdict)
        return Held(self._session, words, verdict, shown(words), measure, self._transaction())

    # --- how much it will touch

    async def _measure(self, words: Words, verdict: Ruled) -> tuple[int | None, bool]:
        """The planner's guess, or the count where a guardrail allows the dry run."""
        if _may_count(verdict):
            answer = await self._aside(estimate.count_query, words, estimate.Counting())
            counted = estimate.counted_rows(answer)
            if counted is not None:
                return counted, True
        return estimate.planned_rows(await self._aside(estimate.explain_query, words, Answer())), False

    async def _aside(self, question: Callable[[bytes, int], bytes], words: Words, answer: Answer) -> Answer:
        """Ask and leave the transaction as it was."""
        before = self._pipeline.status
        await self.ask(question(words.text, before), answer)
        if answer.status != before:
            await self.ask(estimate.undo_query(before), Answer())
        return answer

    async def _measure_bound(self, words: Words, verdict: Ruled) -> tuple[int | None, bool]:
        """The count, or the planner's guess, amid a client's pipeline. A plan that fails would fail for the
        client, too.
        """
        before = self._pipeline.status
        # What ran since the last Sync may be in no transaction block: ROLLBACK would undo it, a Sync keep it.
        if _may_count(verdict) and not self._pipeline.executed:
            counting = estimate.Counting()
            question = estimate.count_messages(words.text, words.types, words.values, before)
            await self.ask(question, counting)
            await self.ask(estimate.undo_messages(before), Answer())
            counted = estimate.counted_rows(counting)
            if counted is not None:
                return counted, True
        answer = FlushedAnswer(self._pipeline.status)
        await self.ask(estimate.explain_messages(words.text, words.types, words.values), answer)
        if answer.error:
            fields = codec.read_report(answer.error)
            # The position is one in the gate's own text.
            raise PlanFailed({key: text for key, text in fields.items() if key not in b"Ppq"})
        return estimate.planned_rows(answer), False

    async def ask(self, question: bytes, answer: Answer) -> Answer:
        """Ask the target something while nothing else is under way; the client does not see it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session.expect(answer, lambda _: _resolve(done))
        self._session.target.greeter.write(question)
        await asyncio.shield(done)
        self._pipeline.status = answer.status
        return answer

    # --- its words

    def transaction_moved(self, status: int) -> None:
        """The target's transaction status is another now."""
        if status == _OPEN and self._pipeline.status != _FAILED:
            self._opened = self._session.clock.monotonic()
            self._before = self._session.statements

    def _transaction(self) -> str:
        if self._pipeline.status not in (_OPEN, _FAILED):
            return "on its own"
        count = self._session.statements - self._before
        ago = span(self._session.clock.monotonic() - self._opened)
        state = "a failed transaction" if self._pipeline.status == _FAILED else "a transaction"
        return f"in {state} opened {ago} ago, after {count} statement{'' if count == 1 else 's'} in it"

    # --- afterwards

    def decided(self, notice: ReviewDecided) -> None:
        """The broker's word on a review. One approved that nothing waits for is taken back."""
        held = self.held
        if held is not None and held.review.id in ("", notice.review):
            held.decided(notice)
        elif notice.state is ReviewState.APPROVED and notice.review not in self._running:
            self._session.gate.withdraw_review(notice.review, "nothing waits for it any more")

    def recorded(self, step: Execution) -> None:
        """A held statement came to an outcome; it goes to the broker without its values."""
        review = step.review
        if review is None or review.id not in self._running or step.outcome == "suspended":
            return
        tag = step.tag.decode("utf-8", "replace")
        failed = f"{step.outcome} {step.sqlstate.decode('ascii', 'replace')}".strip()
        if step.limit is not None and step.limit.exceeded is not None:
            failed = step.limit.exceeded.reason
        self._finished(review, tag if step.outcome == "ok" else failed)

    def through(self, held: Held, outcome: str) -> None:
        """A held message that leaves no step of its own was sent on."""
        self._finished(held.review, outcome)

    def _finished(self, review: Review, outcome: str) -> None:
        self._running.pop(review.id, None)
        self._session.gate.finish_run(review.id, outcome)

    def end(self, why: str) -> None:
        """The session is over: nothing that waits will run."""
        held, self.held = self.held, None
        if held is not None:
            held.abandon(why)
        for review in tuple(self._running.values()):
            self._finished(review, _ENDED)


def _may_count(verdict: Ruled) -> bool:
    assert verdict.hold is not None
    return estimate.can_count(verdict.kinds) and any(rail.dry_run for rail in verdict.hold.guardrails)


async def _known(rows: int) -> tuple[int | None, bool]:
    return rows, True


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _nothing() -> None:
    return None
