"""One PostgreSQL session through the gate, from admission to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.authority import Admission, ReviewDecided
from proxy.postgres import codec
from proxy.postgres.approvals import Approvals, Wait
from proxy.postgres.auth import LoginError, fatal, known_encoding
from proxy.postgres.client_end import ClientEnd
from proxy.postgres.estimate import undo_query
from proxy.postgres.flushed import FlushedAnswer
from proxy.postgres.limits import EndStep
from proxy.postgres.picture import (
    Picture,
    full_query,
    of_pipelined,
    pipelined,
    read_picture,
    read_stamp,
    stamp_query,
)
from proxy.postgres.pipeline import Execution, ParseStep, Pipeline, Turn
from proxy.postgres.reading import CANCELLED, CHECK_AMID, CHECK_EVERY, PASS, Reading
from proxy.postgres.target import Answer, Target, cancel
from proxy.postgres.target_end import TargetEnd
from proxy.postgres.wire import Greeter
from proxy.sessions import CutReason, OpenSession
from proxy.sql.guard import Verdict

if TYPE_CHECKING:
    from proxy.gate import Gate

_IDLE = ord("I")
_OPEN = ord("T")
_FAILED = ord("E")
_CANCELED = b"57014"
_FLUSH = 0.3
"""Seconds that a client's last message may take to leave before its connection is dropped."""


class Session(OpenSession):
    """Relays between a client and a target. `begin` starts it, `end` is the one way out."""

    def __init__(self, gate: Gate, admission: Admission, client: Greeter, asked_at: float) -> None:
        super().__init__(admission, gate.clock, asked_at)
        self.gate = gate
        self.settings = gate.settings
        self.client = client
        terms = admission.terms
        self.guarded = bool(terms.masks or terms.guardrails or terms.detect or terms.hold_commit)
        self.holds = bool(admission.terms.guardrails or admission.terms.hold_commit)
        self.target: Target
        self.pipeline = Pipeline(ord("I"))
        self.approvals = Approvals(self, admission.terms.hold_commit)
        self.reading: Reading | None = None
        self._target_end: TargetEnd | None = None
        self._client_end: ClientEnd | None = None
        self._leaving = False
        self._farewell = ""
        self._catalog_moves = False  # a statement that changes the catalog is on its way
        self._wants_refresh = False
        self._looked_inside = False
        self._fresh = False  # the catalog has just been read for the statement that waited
        self.asking = ""
        """What the target is asked about its catalog at the moment."""
        self._cancelled = False
        self._on_end: list[Callable[[], object]] = []

    # --- beginning

    def begin(self, target: Target, welcome: bytes) -> None:
        """Let the client in, over `target`. Raises Lost when the client went away meanwhile."""
        self.target = target
        self.pipeline.status = target.status
        client_end = self._client_end = ClientEnd(self)
        self._target_end = TargetEnd(self)
        early = self.client.hand_over(client_end)
        self.client.write(welcome)
        late = target.greeter.hand_over(self._target_end)
        if late:
            self._target_end.data_received(late)
        if early:
            client_end.data_received(early)

    @property
    def begun(self) -> bool:
        return self._target_end is not None

    def on_end(self, call: Callable[[], object]) -> None:
        self._on_end.append(call)

    # --- what the two ends ask

    def verdict(self, text: bytes, now: float) -> Verdict:
        """The verdict on a text in a guarded session. Raises Wait when the catalog has to be read first."""
        reading = self.reading
        assert reading is not None
        fresh, self._fresh = self._fresh, False
        if self._cancelled:
            self._cancelled = False
            return CANCELLED
        if not fresh and self.pipeline.status != _FAILED:  # in a failed transaction nothing runs anyway
            moved = self._catalog_moves or reading.changed
            # A question of the gate's own ahead of SET TRANSACTION would make the target refuse that.
            due = now - reading.checked > CHECK_EVERY and text.lstrip()[:3].lower() != b"set"
            if moved or due:
                if self.pipeline.comes_to_rest:
                    raise Wait(self.refresh_when_idle)
                if moved or self._long_unchecked(reading, now):
                    raise Wait(self._look_amid)
        verdict = reading.verdict(text)
        # Rows of COPY carry no origin: the picture that they are masked by is taken right before.
        unsure = verdict.stale or (reading.masks and "copy_stmt" in verdict.kinds)
        if unsure and not fresh and self.pipeline.status != _FAILED:
            raise Wait(self.refresh_when_idle if self.pipeline.comes_to_rest else self._look_amid)
        if verdict.changes_catalog and verdict.action != "refuse":
            self._catalog_moves = True
        return verdict

    def typed(self, verdict: Verdict, types: bytes) -> Verdict:
        """See Reading.typed."""
        return verdict if self.reading is None else self.reading.typed(verdict, types)

    def plain_verdict(self, text: bytes, now: float) -> Verdict | None:
        """The verdict where it is known and plain, and nothing has to be found out first."""
        reading = self.reading
        if reading is None:
            return PASS
        if self._fresh or self._cancelled or self._catalog_moves or reading.changed:
            return None
        return None if now - reading.checked > CHECK_EVERY else reading.known_plain(text)

    def looked(self, now: float) -> bool:
        """Whether `look_again` has no reason to."""
        reading = self.reading
        return reading is None or not reading.masks or now - reading.checked <= CHECK_EVERY

    def look_again(self, now: float) -> None:
        """What runs again was read before: the catalog must not be older than CHECK_EVERY. Raises Wait."""
        reading = self.reading
        if reading is None or self.looked(now):
            return
        if self.pipeline.status == _FAILED:
            return
        if self.pipeline.comes_to_rest:
            raise Wait(self.refresh_when_idle)
        if self._long_unchecked(reading, now):
            raise Wait(self._look_amid)

    def _long_unchecked(self, reading: Reading, now: float) -> bool:
        """A pipeline that goes on and on never comes to rest: it is stopped now and then. Not ahead of its
        first statement, which may say what kind of transaction it is.
        """
        return now - reading.checked > CHECK_AMID and self.pipeline.executed

    def flow(self, target_full: bool) -> None:
        if self._client_end is not None and not self.over:
            self._client_end.flow(target_full)

    # --- the catalog, asked for over the session's own connection while nothing else is under way

    def refresh_when_idle(self) -> None:
        self._wants_refresh = True
        if not self.pipeline.steps:
            self.idle()

    def idle(self) -> None:
        """Everything is answered: the place for a question of the gate's own."""
        if self._looked_inside and self.pipeline.status == _IDLE:
            # The picture was taken inside a transaction that is over now, and may have been rolled back.
            self._looked_inside = False
            self._catalog_moves = True
        if not self._wants_refresh:
            return
        self._wants_refresh = False
        if self.pipeline.status == _FAILED:  # nothing can be asked, and nothing will run
            self._read_on()
            return
        self._look(amid=False)

    def _look_amid(self) -> None:
        """The same in the middle of a pipeline, whose transaction goes on."""
        if self.pipeline.rested:
            self._look(amid=True)
        else:
            self.approvals.rest()

    def _look(self, *, amid: bool) -> None:
        self._catalog_moves = False
        self._looked_inside = amid or self.pipeline.status == _OPEN
        self._ask(full=False, amid=amid)

    def _ask(self, *, full: bool, amid: bool) -> None:
        self.asking = "all" if full else "stamp"
        answer: Answer
        if amid:
            question, count = pipelined(full=full)
            answer = FlushedAnswer(self.pipeline.status, count)
        else:
            answer = Answer()
            question = codec.query((full_query if full else stamp_query)(self._looked_inside).encode())
        self.expect(answer, self._answered)
        self.target.greeter.write(question)

    def expect(self, answer: Answer, then: Callable[[Answer], object]) -> None:
        """The gate asks something itself, nothing else being under way; `then` gets the whole answer."""
        assert self._target_end is not None
        self._target_end.expect(answer, then)

    def _answered(self, answer: Answer) -> None:
        """The target answered the gate's own question about its catalog."""
        assert self.reading is not None
        self.pipeline.status = answer.status
        pictures, upstream = self.gate.pictures, self.admission.upstream
        asked, self.asking = self.asking, ""
        amid = isinstance(answer, FlushedAnswer)
        if answer.sqlstate == _CANCELED and not amid:
            self._cancelled_late()
            return
        try:
            results = of_pipelined(answer.results()) if amid else answer.results()
            if asked == "all":
                picture: Picture | None = read_picture(results)
                assert picture is not None
                pictures.keep(upstream, picture)
            else:
                picture = pictures.known(upstream, read_stamp(results))
        except (LoginError, ValueError) as error:
            self.breach(f"the catalog could not be read ({error})")
            return
        if picture is None:
            self._ask(full=True, amid=amid)
            return
        self.reading.take(picture, self.clock.monotonic())
        self._read_on()

    def _cancelled_late(self) -> None:
        """A cancel hit the gate's own question: it counts for what waits, as it would at the target."""
        self._cancelled = self._catalog_moves = True
        self.expect(Answer(), self._undone)
        self.target.greeter.write(undo_query(_OPEN if self._looked_inside else _IDLE))

    def _undone(self, answer: Answer) -> None:
        self.pipeline.status = answer.status
        if answer.failure:
            self.breach(f"the transaction could not be put back ({answer.failure})")
            return
        self._read_on()

    def _read_on(self) -> None:
        self._fresh = True
        asyncio.get_running_loop().call_soon(self.resume)

    def resume(self) -> None:
        """Read on from the message that had to wait."""
        if not self.over and self._client_end is not None:
            self._client_end.resume()

    def record(self, step: Execution) -> None:
        self.statements += 1
        self.rows += step.rows
        if step.outcome == "refused":
            self.refused += 1
        assert self.track is not None
        self.track.append(step)
        if step.review is not None:
            self.approvals.recorded(step)
        if self.approvals.commits is not None:
            self.approvals.commits.add(step)

    def record_turn(self, turn: Turn) -> None:
        """The same for an ordinary request, which went well; nobody was asked about it."""
        self.statements += 1
        self.rows += turn.rows
        assert self.track is not None
        self.track.append(turn)

    def decided(self, notice: ReviewDecided) -> None:
        self.approvals.decided(notice)

    def parameter(self, name: str, value: str) -> None:
        """A setting changed. One that makes the target read otherwise than the gate ends the session."""
        if not self.guarded:
            return
        if name == "client_encoding" and not known_encoding(value):
            self.breach(f"client_encoding is now {value}, in which the gate cannot read statements")
        if name == "standard_conforming_strings" and value != "on":
            self.breach("standard_conforming_strings is now off, and the gate reads strings by the standard")

    # --- ending

    def client_leaves(self) -> None:
        self._leaving = True

    def client_gone(self) -> None:
        self.end("client", "" if self._leaving else "the client closed the connection")

    def target_ends(self, fields: dict[bytes, bytes]) -> None:
        self._farewell = fields.get(b"M", b"").decode("utf-8", "replace")

    def target_gone(self) -> None:
        if self._leaving:
            self.end("client")
        else:
            self.end("target", self._farewell or "the target closed the connection")

    def breach(self, why: str) -> None:
        """The conversation cannot be followed any more; it fails closed."""
        self.gate.log.warning("protocol breach", session=self.admission.session, why=why)
        self.cut(CutReason(f"the gate ended the session: {why}", code="08P01", reason="error"))

    def cut(self, reason: CutReason) -> None:
        if self.over:
            return
        # In the middle of a big frame there is no place for a message: the connection just ends.
        if self._target_end is None or self._target_end.between_frames:
            self.client.write(fatal(reason.code, reason.why, reason.way_out))
        self.end(reason.reason, reason.why)

    def end(self, reason: str, detail: str = "") -> None:
        """Close both sides, let the target forget what was open, and report. Only the first call counts."""
        if self.over:
            return
        self.over = True
        for step in self.pipeline.steps:
            step = step.query if isinstance(step, EndStep) else step
            if isinstance(step, Execution) and not isinstance(step, ParseStep):
                step.outcome = "unfinished"
                step.took = self.clock.monotonic() - step.started
                self.record(step)
        self.approvals.end(detail or "the client left")
        if not self.client.lost:
            self.client.close()
            asyncio.get_running_loop().call_later(_FLUSH, self.client.abort)
        if self._target_end is not None:
            self._leave_target()
        for call in self._on_end:
            call()
        self.gate.ended(self, reason, detail)

    def _leave_target(self) -> None:
        transport = self.target.greeter
        if not self.pipeline.busy:
            if not self._leaving:
                transport.write(codec.message(b"X"))
            transport.close()
            asyncio.get_running_loop().call_later(_FLUSH, transport.abort)
            return
        # A backend that computes does not notice that its client is gone; the cancel makes it look, and
        # then it rolls back. One that waits for data or for its client to read notices the closed socket.
        transport.abort()
        self.cancel_what_runs()

    def cancel_what_runs(self) -> asyncio.Task[None]:
        return self.gate.spawn(self._cancel_what_runs())

    async def _cancel_what_runs(self) -> None:
        for pause in (0.05, 0.2, 0.5, 1.0):
            try:
                await cancel(self.target.upstream, self.target.pid, self.target.secret)
            except (OSError, LoginError, TimeoutError):
                await asyncio.sleep(pause)
            else:
                return
        self.gate.log.error("the target took no cancel request", session=self.admission.session)

    def cancel(self) -> asyncio.Task[None] | None:
        """The client asks to cancel what runs, or waits. Returns the passing on, where there is any."""
        if self.asking:  # what runs is the gate's own question; what is cancelled waits for the answer
            self._cancelled = True
            return None
        held = self.approvals.held
        if held is not None:
            held.cancel()
            if not held.measuring:
                return None
        if self.over or self._target_end is None:
            return None
        return self.cancel_what_runs()
