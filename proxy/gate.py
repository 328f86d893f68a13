"""The gate: listeners, open sessions, leases, and the broker's notices."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog

from proxy.authority import (
    Admission,
    Authority,
    Closing,
    GrantEnded,
    GrantMinted,
    Knock,
    LoginLink,
    Progress,
    ReviewDecided,
    SessionKilled,
)
from proxy.http.door import HttpDoor, HttpSettings
from proxy.postgres.door import PostgresDoor
from proxy.postgres.picture import Pictures
from proxy.recorder import Recorder
from proxy.recording import Footer
from proxy.sessions import Clock, CutReason, OpenSession, Registry, SystemClock
from proxy.shipping import Send, Shipping
from proxy.ssh.door import SshDoor, SshSettings
from proxy.tls import ask_for_certificates
from workflows.model import Refusal


class Door(Protocol):
    """What a protocol's folder gives: a handler for each new connection, and cancels from other workers."""

    def connection(self) -> asyncio.BaseProtocol: ...

    def cancel(self, pid: int, secret: bytes) -> asyncio.Task[None] | None: ...


DOORS: dict[str, Callable[[Gate], Door]] = {}


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How a gate listens and keeps. Spans are seconds, sizes bytes.

    `login` is scram, by which no token crosses the network, or password, which asks for it inside TLS. With
    `end_point` (tls.end_point of the certificate in `tls`) a SCRAM login can be bound to this gate. With
    `certificates` clients are asked for one of the broker's, too, as soon as the broker has told its CA.
    `worker` (0 to 127) tells the worker processes behind one port apart; a cancel request that arrives at
    another worker than its session's is given to `cancel_elsewhere(pid, secret)`, which asks all others
    and waits until it is passed on.
    `ssh` is where it listens for SSH, if it does; `http` for HTTP.
    """

    name: str
    recordings: Path
    tls: ssl.SSLContext = field(repr=False)
    end_point: bytes = field(default=b"", repr=False)
    login: Literal["scram", "password"] = "scram"
    certificates: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    protocol: str = "postgres"
    reuse_port: bool = False
    worker: int = 0
    cancel_elsewhere: Callable[[int, bytes], Awaitable[None]] | None = None
    renew_every: float = 2.0
    answer_timeout: float = 5.0
    hold_notice_every: float = 60.0
    greeting_timeout: float = 60.0
    max_greetings: int = 1000
    max_message: int = 64 << 20
    ssh: SshSettings | None = None
    http: HttpSettings | None = None


@dataclass(slots=True)
class Metrics:
    """Counts since the gate started; `open` is now."""

    opened: int = 0
    open: int = 0
    turned_away: int = 0
    cuts: int = 0
    statements: int = 0
    refused: int = 0
    rows: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Log:
    """structlog, except that a log that cannot be written (its disk is full) never stops a cut."""

    def __init__(self, **bound: object) -> None:
        self._log = structlog.get_logger("gate").bind(**bound)

    def info(self, event: str, **fields: object) -> None:
        with suppress(OSError):
            self._log.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        with suppress(OSError):
            self._log.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        with suppress(OSError):
            self._log.error(event, **fields)


class Gate:
    """One gate process. It lets in what the authority admits and holds every deadline itself.

    With `ship` the recordings are brought to a broker that cannot read this machine's disk.
    """

    def __init__(
        self,
        authority: Authority,
        settings: GateSettings,
        clock: Clock | None = None,
        *,
        ship: Send | None = None,
    ) -> None:
        self.authority = authority
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.recorder = Recorder(settings.recordings)
        self.registry = Registry(self.clock)
        self.shipping: Shipping | None = None
        self.log = Log(gate=settings.name, worker=settings.worker)
        self.pictures = Pictures(self.log.warning)
        if ship is not None:
            self.shipping = Shipping(settings.recordings, ship, self.log.error)
        self.port = settings.port
        self._door = DOORS[settings.protocol](self)
        self.ssh = SshDoor(self, settings.ssh) if settings.ssh is not None else None
        self.http = HttpDoor(self, settings.http) if settings.http is not None else None
        self._totals = Metrics()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._ask_now = asyncio.Event()
        self._stopping = False

    # --- life

    async def start(self) -> None:
        """Listen and follow the broker. Raises OSError when the port or the recordings cannot be had."""
        self.recorder.start()
        self._server = await asyncio.get_running_loop().create_server(
            self._door.connection,
            self.settings.host,
            self.settings.port,
            reuse_port=self.settings.reuse_port or None,
            backlog=1024,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        if self.ssh is not None:
            await self.ssh.listen()
        if self.http is not None:
            await self.http.listen()
        loops = [self._renew, self._follow, self._watch]
        if self.settings.certificates:
            loops.append(self._trust)
        if self.shipping is not None:
            loops.append(self.shipping.run)
        self._loops = [asyncio.create_task(loop()) for loop in loops]
        self.log.info("gate open", host=self.settings.host, port=self.port)

    async def stop(self) -> None:
        """Stop listening, cut what is open, and have the recordings closed."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        if self.ssh is not None:
            self.ssh.close()
        if self.http is not None:
            self.http.close()
        for session in self.registry.all():
            session.cut(CutReason("the gate is shutting down", "Connect again in a moment."))
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=5)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self.recorder.stop)
        self.log.info("gate closed")

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else; its failure is logged, never lost."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("a task failed", error=type(error).__name__, exc_info=error)

    def cancel(self, pid: int, secret: bytes) -> asyncio.Task[None] | None:
        """A cancel request that reached another worker. Returns the passing on, where there is any."""
        return self._door.cancel(pid, secret)

    def metrics(self) -> Metrics:
        total = replace(self._totals, open=len(self.registry))
        for session in self.registry.all():
            _add(total, session)
        return total

    # --- sessions

    async def admit(self, knock: Knock) -> Admission | Refusal:
        """Ask the broker; no answer is a no."""
        if self._stopping:
            return Refusal("stopping", "The gate is shutting down.", "Connect again in a moment.")
        try:
            async with asyncio.timeout(self.settings.answer_timeout):
                answer = await self.authority.admit(knock)
        except (ConnectionError, TimeoutError):
            answer = Refusal(
                "no-broker",
                "The broker cannot be reached, and without it nobody enters.",
                "Try again in a moment; if it lasts, tell the people who run the gate.",
            )
        if isinstance(answer, Admission):
            held = len(self.registry.under(answer.grant))
            if held < answer.terms.max_sessions:
                return answer
            self.spawn(self.report(Closing(answer.session, "error", "too many sessions", 0, "", 0, 0, 0)))
            answer = Refusal(
                "too-many-sessions",
                f"The grant already has {held} sessions open, as many as its terms allow.",
                "Close one of them first.",
            )
        if answer.code != "login-pending":
            self._totals.turned_away += 1
            self.log.info("turned away", principal=knock.principal, client=knock.client, code=answer.code)
        return answer

    async def start_login(self, knock: Knock) -> LoginLink | Refusal:
        """A login by a browser for somebody who has no proof; no answer is a no."""
        try:
            async with asyncio.timeout(self.settings.answer_timeout):
                return await self.authority.start_login(knock)
        except (ConnectionError, TimeoutError):
            return Refusal("no-broker", "The broker cannot be reached.", "Try again in a moment.")

    def register(self, session: OpenSession) -> None:
        self._totals.opened += 1
        it = session.admission
        self.log.info(
            "session opened", session=it.session, principal=it.principal, grant=it.grant, resource=it.resource
        )
        if self.shipping is not None:
            self.shipping.begin(it.session)
        self.registry.add(session)

    def ended(self, session: OpenSession, reason: str, detail: str) -> None:
        """A session is over: forget it, close its recording, tell the broker."""
        self.registry.remove(session)
        _add(self._totals, session)
        if reason == "cut":
            self._totals.cuts += 1
        self.log.info("session ended", session=session.admission.session, reason=reason, detail=detail)
        self.spawn(self._close(session, reason, detail))

    async def _close(self, session: OpenSession, reason: str, detail: str) -> None:
        entries, head = 0, ""
        if session.track is not None:
            at = round(session.clock.monotonic() - session.origin, 6)
            footer = Footer(at, reason, detail, session.statements, session.refused, session.rows)
            try:
                await asyncio.wait_for(session.track.close(footer), self.settings.answer_timeout)
            except TimeoutError:
                self.log.error("a recording was not closed in time", session=session.admission.session)
            entries, head = session.track.progress
        await self._finish_shipping(session.admission.session)
        await self.report(
            Closing(
                session.admission.session,
                reason,
                detail,
                entries,
                head,
                session.statements,
                session.refused,
                session.rows,
            )
        )

    async def _finish_shipping(self, session: str) -> None:
        """Bring the whole recording to the broker before its session is closed there, if it is to be had."""
        if self.shipping is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.shipping.finish(session), self.settings.answer_timeout)

    async def report(self, closing: Closing) -> None:
        """Tell the broker of a session's end, until it hears."""
        for pause in (0.2, 1.0, 2.0, 0.0):
            try:
                async with asyncio.timeout(self.settings.answer_timeout):
                    await self.authority.close(self.settings.name, closing)
                    return
            except (ConnectionError, TimeoutError):
                # A session that is not reported loses its lease; the broker then knows by itself.
                await asyncio.sleep(0 if self._stopping else pause)
        self.log.error("a session's end could not be reported", session=closing.session)

    # --- the broker

    async def _renew(self) -> None:
        while True:
            asked = self.registry.all()
            if asked:
                await self._renew_once(asked)
            for session in self.registry.all():
                session.check()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.renew_every):  # wait_for may swallow the stop
                    await self._ask_now.wait()
            self._ask_now.clear()

    async def _renew_once(self, asked: tuple[OpenSession, ...]) -> None:
        progress = [p for p in (self._progress(session) for session in asked) if p is not None]
        asked = tuple(session for session in asked if session.track is not None)
        asked_at = self.clock.monotonic()
        try:
            async with asyncio.timeout(self.settings.answer_timeout):
                answer = await self.authority.renew(self.settings.name, progress)
        except (ConnectionError, TimeoutError):
            self.log.warning("the broker did not renew the leases", sessions=len(asked))
            return
        for end in answer.ends:
            self._ended(end)
        self.registry.renewed(asked_at, asked, answer.remaining)

    def _progress(self, session: OpenSession) -> Progress | None:
        """How far a session's recording has come, as far as the broker can read it."""
        progress = session.progress()
        if progress is None or self.shipping is None:
            return progress
        return Progress(progress.session, *self.shipping.progress(progress.session))

    async def _follow(self) -> None:
        pause = 0.1
        while True:
            try:
                async for notice in self.authority.notices(self.settings.name):
                    pause = 0.1
                    if isinstance(notice, GrantMinted):
                        self.spawn(self._hold(notice.grant))
                    elif isinstance(notice, ReviewDecided):
                        self.registry.decided(notice)
                    else:
                        self._ended(notice)
            except ConnectionError as error:
                self.log.warning("the broker's notices broke off", error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            self._ask_now.set()  # what ended meanwhile is missing from the next renewal

    async def _trust(self) -> None:
        """Have clients asked for certificates of the broker's CA; until it is known they come with tokens."""
        pause = 0.1
        while True:
            try:
                async with asyncio.timeout(self.settings.answer_timeout):
                    ask_for_certificates(self.settings.tls, await self.authority.client_ca())
                    return
            except (ConnectionError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _ended(self, notice: GrantEnded | SessionKilled) -> None:
        if isinstance(notice, GrantEnded):
            count = self.registry.end_grant(notice.grant, notice.reason, notice.detail)
            self.log.info("grant ended", grant=notice.grant, reason=notice.reason.value, sessions=count)
        else:
            here = self.registry.kill(notice.session, notice.by, notice.reason)
            self.log.info("session killed", session=notice.session, by=notice.by, here=here)

    async def _hold(self, grant: str) -> None:
        for pause in (0.1, 0.5, 1.0, 2.0, 0.0):
            try:
                async with asyncio.timeout(self.settings.answer_timeout):
                    await self.authority.hold(self.settings.name, grant)
                    return
            except (ConnectionError, TimeoutError):
                await asyncio.sleep(pause)
        self.log.error("a grant could not be confirmed to the broker", grant=grant)

    def withdraw_review(self, review: str, why: str) -> None:
        """Tell the broker, beside everything else, that a held statement is no longer wanted."""
        name = self.settings.name
        self.spawn(self._insist("withdrawal", lambda: self.authority.withdraw_review(name, review, why)))

    def finish_run(self, review: str, outcome: str) -> None:
        """Tell the broker, beside everything else, how an approved run went."""
        name = self.settings.name
        self.spawn(self._insist("outcome", lambda: self.authority.finish_run(name, review, outcome)))

    async def _insist(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        for pause in (0.1, 0.5, 1.0, 2.0, 0.0):
            try:
                async with asyncio.timeout(self.settings.answer_timeout):
                    await call()
                    return
            except (ConnectionError, TimeoutError):
                await asyncio.sleep(0 if self._stopping else pause)
        self.log.error("the broker did not hear of a review", what=what)

    async def _watch(self) -> None:
        """Cut everything when the disk under the recordings has gone silent."""
        while True:
            await asyncio.sleep(0.5)
            if self.recorder.stalled():
                self.recorder.fail_all("the disk under the recordings does not answer")


def _add(total: Metrics, session: OpenSession) -> None:
    total.statements += session.statements
    total.refused += session.refused
    total.rows += session.rows
    total.bytes_in += session.bytes_in
    total.bytes_out += session.bytes_out


DOORS["postgres"] = PostgresDoor
