"""One PostgreSQL session through the gate, from admission to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.authority import Admission
from proxy.postgres import codec
from proxy.postgres.auth import LoginError, fatal, known_encoding
from proxy.postgres.client_end import ClientEnd
from proxy.postgres.pipeline import Execution, ParseStep, Pipeline
from proxy.postgres.reading import PASS, Ruling
from proxy.postgres.target import Target, cancel
from proxy.postgres.target_end import TargetEnd
from proxy.postgres.wire import Greeter
from proxy.sessions import CutReason, OpenSession
from workflows.model import Refusal

if TYPE_CHECKING:
    from proxy.gate import Gate

_FLUSH = 0.3
"""Seconds that a client's last message may take to leave before its connection is dropped."""


class Session(OpenSession):
    """Relays between a client and a target. `begin` starts it, `end` is the one way out."""

    def __init__(self, gate: Gate, admission: Admission, client: Greeter, asked_at: float) -> None:
        super().__init__(admission, gate.clock, asked_at)
        self.gate = gate
        self.settings = gate.settings
        self.client = client
        self.guarded = bool(admission.terms.masks)
        self.target: Target
        self.pipeline = Pipeline(ord("I"))
        self.no_function_call = Ruling(
            Refusal(
                "function-call",
                "The gate does not let FunctionCall messages through, it cannot read them.",
                "Call the function in a SELECT.",
            ),
            label="refused",
        )
        self._target_end: TargetEnd | None = None
        self._leaving = False
        self._farewell = ""
        self._on_end: list[Callable[[], object]] = []

    # --- beginning

    def begin(self, target: Target, welcome: bytes) -> None:
        """Let the client in, over `target`. Raises Lost when the client went away meanwhile."""
        self.target = target
        self.pipeline.status = target.status
        client_end, self._target_end = ClientEnd(self), TargetEnd(self)
        early = self.client.hand_over(client_end)
        self.client.send(welcome)
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

    def judge(self, text: bytes) -> Ruling:
        return PASS

    def record(self, step: Execution) -> None:
        self.statements += 1
        self.rows += step.rows
        if step.outcome == "refused":
            self.refused += 1
        assert self.track is not None
        self.track.append(step)

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
            self.client.transport.write(fatal(reason.code, reason.why, reason.way_out))
        self.end(reason.reason, reason.why)

    def end(self, reason: str, detail: str = "") -> None:
        """Close both sides, let the target forget what was open, and report. Only the first call counts."""
        if self.over:
            return
        self.over = True
        for step in self.pipeline.steps:
            if isinstance(step, Execution) and not isinstance(step, ParseStep):
                step.outcome = "unfinished"
                step.took = self.clock.monotonic() - step.started
                self.record(step)
        if not self.client.lost:
            self.client.transport.close()
            asyncio.get_running_loop().call_later(_FLUSH, self.client.transport.abort)
        if self._target_end is not None:
            self._leave_target()
        for call in self._on_end:
            call()
        self.gate.ended(self, reason, detail)

    def _leave_target(self) -> None:
        transport = self.target.greeter.transport
        if not self.pipeline.busy:
            if not self._leaving:
                transport.write(codec.message(b"X"))
            transport.close()
            asyncio.get_running_loop().call_later(_FLUSH, transport.abort)
            return
        # A backend that computes does not notice that its client is gone; the cancel makes it look, and
        # then it rolls back. One that waits for data or for its client to read notices the closed socket.
        transport.abort()
        self.gate.spawn(self._cancel_what_runs())

    async def _cancel_what_runs(self) -> None:
        for pause in (0.05, 0.2, 0.5, 1.0):
            try:
                await cancel(self.target.upstream, self.target.pid, self.target.secret)
            except (OSError, LoginError, TimeoutError):
                await asyncio.sleep(pause)
            else:
                return
        self.gate.log.error("the target took no cancel request", session=self.admission.session)

    def cancel(self) -> None:
        """The client asks to cancel what runs."""
        if not self.over and self._target_end is not None:
            self.gate.spawn(self._cancel_what_runs())
