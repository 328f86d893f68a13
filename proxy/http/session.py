"""A person's session at one HTTP service: their requests from one machine, while there are some."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from proxy.authority import Admission, ReviewDecided, Upstream
from proxy.http import auth, fields
from proxy.http.asking import Answer, ask
from proxy.http.codec import Header, RequestHead
from proxy.http.holding import Deferred, key_of, prefers_async, said_held
from proxy.http.kinds import Hold, Kind
from proxy.http.pages import Said, Turned
from proxy.http.tape import Tape
from proxy.http.target_end import TargetEnd
from proxy.sessions import CutReason, OpenSession

if TYPE_CHECKING:
    from proxy.gate import Gate
    from proxy.http.client_end import ClientEnd
    from proxy.http.exchange import Exchange

_IDLE_TARGETS = 16
"""Connections to the target that a session keeps open for its next requests."""


Key = tuple[str, str, str, str, bytes]
"""By what the door finds a session: resource, principal, token, role, and the client's address."""


class HttpSession(OpenSession):
    """`enter` opens it, `end` is the one way out, of which `ending` hears. By `keys` the door finds it."""

    def __init__(self, gate: Gate, admission: Admission, peer: str, asked_at: float, idle: float) -> None:
        super().__init__(admission, gate.clock, asked_at)
        self.gate = gate
        self.peer = peer
        self.kind: Kind
        self.clients: set[ClientEnd] = set()
        self.exchanges: set[Exchange] = set()
        self.keys: set[Key] = set()
        self.ending: Callable[[HttpSession], None] = lambda _session: None
        up = admission.upstream
        self.secrets = tuple((name.lower().encode(), value.encode()) for name, value in up.headers)
        names = {name for name, _ in self.secrets} | {name.lower().encode() for name in up.removed}
        self.removed = frozenset(name.replace(b"_", b"-") for name in names)
        self.authority = (up.authority or _authority(up)).encode()
        self.record_level = admission.terms.http.record if admission.terms.http else "heads"
        self.holds: set[Deferred] = set()
        self.waiting: dict[str, Deferred] = {}
        self._idle: list[TargetEnd] = []
        self._targets: set[TargetEnd] = set()
        self._numbered = 0
        self._idle_seconds = idle
        self._quiet: asyncio.TimerHandle | None = None
        self._why: Said | None = None

    async def enter(self) -> None:
        """Begin the recording. Raises RecordingError."""
        await self.begin_recording(self.gate.recorder, self.peer, "http")
        if not self.over:
            self._wait_for_more()

    def now(self) -> float:
        """Seconds since the session began."""
        return self.clock.monotonic() - self.origin

    # --- exchanges

    def begin(self, exchange: Exchange) -> Tape:
        """A request of this session's begins."""
        self.exchanges.add(exchange)
        self.clients.add(exchange.client)
        exchange.client.sessions.add(self)
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        self._numbered += 1
        assert self.track is not None
        detect = self.admission.terms.detect
        return Tape(self.track, exchange.request.head, self._numbered, self.now(), self.record_level, detect)

    def ended_exchange(self, exchange: Exchange, outcome: str, message: str) -> None:
        """Record it, once."""
        tape, request = exchange.tape, exchange.request
        self.exchanges.discard(exchange)
        self.statements += 1
        if outcome == "refused":
            self.refused += 1
        if exchange.tunnel is None:
            self.bytes_in += exchange.sent
            self.bytes_out += exchange.received
        if tape is not None:
            if exchange.held is not None:
                exchange.held.finished(f"{tape.status}" if tape.status else outcome)
            sizes = (exchange.sent, exchange.received)
            tape.end(request.line, outcome, message, self.now() - tape.at, request.verdict, sizes)
        if not self.exchanges and not self.over:
            self._wait_for_more()

    def _wait_for_more(self) -> None:
        loop = asyncio.get_running_loop()
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = loop.call_later(self._idle_seconds, self._nothing_came)

    def _nothing_came(self) -> None:
        if self.holds:
            self._wait_for_more()
        elif not self.exchanges:
            self.end("client", "no request came for a while")

    # --- the target

    def take_idle(self) -> TargetEnd | None:
        """A connection that waits for the next request."""
        while self._idle:
            target = self._idle.pop()
            if not target.lost:
                return target
        return None

    def give_back(self, target: TargetEnd) -> None:
        self._targets.add(target)
        if self.over or target.lost or target.full or len(self._idle) >= _IDLE_TARGETS:
            target.close()
            self._targets.discard(target)
        else:
            target.hold(False)
            self._idle.append(target)

    def forget(self, target: TargetEnd) -> None:
        self._targets.discard(target)
        if target in self._idle:
            self._idle.remove(target)

    def drops(self, exchange: Exchange) -> bool:
        """Whether the Authorization of a request was meant for the gate."""
        claim = exchange.claim or auth.read(exchange.request.head)
        return claim is not None and claim.spends_authorization

    def dressed(self, exchange: Exchange, headers: list[Header]) -> list[Header]:
        """The fields as they go to the target: its host, the gate's own, and the way the request came."""
        head = exchange.request.head
        dressed = [(b"host", self.authority), *headers, *self.secrets]
        dressed += [
            (b"x-forwarded-for", exchange.client.address),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", head.host),
        ]
        if self.upgrades(head):
            dressed += [(b"connection", b"Upgrade"), (b"upgrade", head.upgrade)]
        return dressed

    def upgrades(self, head: RequestHead) -> bool:
        """Whether the target is asked to change the protocol."""
        return bool(self.kind.upgrades) and head.minor == 1 and head.upgrade in self.kind.upgrades

    def undressed(self, headers: list[Header]) -> list[Header]:
        """The fields of an answer without the target's own address."""
        return [
            (name, fields.inside(value, self.authority) if name == b"location" else value)
            for name, value in headers
        ]

    async def ask(
        self, method: str, target: bytes, headers: list[Header], body: bytes = b"", limit: int = 1 << 20
    ) -> Answer:
        """A request of the gate's own, with the gate's own fields. Raises Unreachable, Blocked."""
        return await ask(self, method, target, headers, body, limit)

    # --- held requests

    async def hold(self, exchange: Exchange, judgement: Hold) -> None:
        """Returns once people have said yes. Raises Turned, Blocked where they have not, or not yet."""
        request = exchange.request
        text = await self.kind.card(request)
        away = request.browser or prefers_async(request.head)
        held = self.waiting.get(key_of(text))
        if held is None:
            held = Deferred(self, text, request, judgement, fetched=away)
            self.holds.add(held)
            held.task.add_done_callback(partial(self._no_longer, held))
            if away:
                self.waiting[held.key] = held
        if away:
            await self.fetch(exchange, held)
        else:
            await self._wait(exchange, held)

    async def fetch(self, exchange: Exchange, held: Deferred) -> None:
        """Go on with what was approved, for somebody who was sent away. Raises Turned while it waits."""
        await held.standing.wait()
        if not held.approved and not held.task.done():
            raise Turned(said_held(held, browser=exchange.request.browser))
        self.waiting.pop(held.key, None)
        held.wanted.set()
        await self._wait(exchange, held)

    async def _wait(self, exchange: Exchange, held: Deferred) -> None:
        try:
            why = await asyncio.shield(held.task)
        except asyncio.CancelledError:
            held.abandon("the client closed the connection")
            raise
        finally:
            if exchange.tape is not None:
                exchange.tape.decided = held.review
        if why:
            raise Turned(Said(403, "not-approved", why[:1].upper() + why[1:]))
        exchange.held = held

    def _no_longer(self, held: Deferred, _task: asyncio.Task[str]) -> None:
        self.holds.discard(held)

    def decided(self, notice: ReviewDecided) -> None:
        for held in tuple(self.holds):
            held.decided(notice)

    # --- ending

    def ended_said(self) -> Said:
        """What a request is told that comes too late."""
        return self._why or Said(403, "ended", "This session has ended.", "Send the request again.")

    def cut(self, reason: CutReason) -> None:
        if self.over:
            return
        self._why = Said(403, "access-ended", f"{reason.why}.", reason.way_out)
        for exchange in tuple(self.exchanges):
            exchange.cut(self._why)
        self.end(reason.reason, reason.why)

    def end(self, reason: str, detail: str = "") -> None:
        """Close every connection of it and report. Only the first call counts."""
        if self.over:
            return
        self.over = True
        self.ending(self)
        if self._quiet is not None:
            self._quiet.cancel()
        for exchange in tuple(self.exchanges):
            exchange.cut(self.ended_said())
        for held in tuple(self.holds):
            held.abandon(detail or "the session ended")
        for target in (*self._targets, *self._idle):
            target.abort()
        self._targets.clear()
        self._idle.clear()
        for client in tuple(self.clients):
            client.left(self)
        self.clients.clear()
        self.gate.ended(self, reason, detail)


def _authority(upstream: Upstream) -> str:
    name = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    usual = 80 if upstream.tls == "disable" else 443
    return name if upstream.port == usual else f"{name}:{upstream.port}"
