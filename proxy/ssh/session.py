"""One SSH connection through the gate: a grant's session, with all its channels, from entry to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import asyncssh

from proxy.authority import Admission, ReviewDecided
from proxy.sessions import CutReason, OpenSession
from proxy.ssh import target
from proxy.ssh.tape import Execution
from workflows.model import HostTerms

if TYPE_CHECKING:
    from proxy.gate import Gate

_SWEEP = 'for p in $(ps -o pid= --ppid $PPID); do [ "$p" = $$ ] || kill -KILL $(ps -o pid= --sid "$p"); done'
"""What ends everything that this connection began at the host: all in the sessions of its sshd's children. A
command without a terminal does not notice that its connection is gone, and sshd passes no signals on to root.
"""
_SWEEP_SECONDS = 3.0
"""A busy host needs some; to give up is to let what ran run on."""
_FLUSH = 0.3
"""Seconds that a client's last message may take to leave before its connection is dropped."""
DISCONNECT_BYTES = 500


class Part(Protocol):
    """What a session has open: a channel, or a place where one side listens for the other. `runs` tells
    whether something runs for it at the host that would not end by itself.
    """

    @property
    def runs(self) -> bool: ...

    def cut(self, why: str) -> None:
        """Tell the client, end what runs at the host, and record it as unfinished."""
        ...

    def decided(self, notice: ReviewDecided) -> None: ...


class Session(OpenSession):
    """`enter` opens it, `end` is the one way out. `near` is the client's connection, `far` the host's."""

    def __init__(
        self, gate: Gate, admission: Admission, near: asyncssh.SSHServerConnection, peer: str, asked_at: float
    ) -> None:
        super().__init__(admission, gate.clock, asked_at)
        self.gate = gate
        self.near = near
        self.peer = peer
        self.far: asyncssh.SSHClientConnection | None = None
        self.parts: set[Part] = set()
        self._channels = 0
        self._sweeps = False
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._lost.add_done_callback(self._host_gone)

    @property
    def host(self) -> HostTerms:
        """What may be done at the host. A grant without such terms is for another kind of resource."""
        assert self.admission.terms.host is not None, "the door lets nobody in without"
        return self.admission.terms.host

    async def enter(self) -> None:
        """Begin the recording, then enter the host. Raises RecordingError, target.LoginError."""
        await self.begin_recording(self.gate.recorder, self.peer, "ssh")
        far = await target.connect(self.admission.upstream, self._lost)
        if self.over:
            far.abort()
            raise target.LoginError("the session ended first")
        self.far = far

    def now(self) -> float:
        """Seconds since the session began."""
        return self.clock.monotonic() - self.origin

    def number(self) -> int:
        """A number for a new channel."""
        self._channels += 1
        return self._channels

    def record(self, execution: Execution) -> None:
        self.statements += 1
        if execution.outcome == "refused":
            self.refused += 1
        assert self.track is not None
        self.track.append(execution)

    def decided(self, notice: ReviewDecided) -> None:
        for part in tuple(self.parts):
            part.decided(notice)

    # --- ending

    def client_gone(self, why: str) -> None:
        self.end("client", why)

    def _host_gone(self, lost: asyncio.Future[str]) -> None:
        if not lost.cancelled() and not self.over:
            # Channels have their own last words, which come first.
            asyncio.get_running_loop().call_soon(self._leave, lost.result())

    def _leave(self, why: str) -> None:
        if not self.over:
            self._farewell(why)
            self.end("target", why)

    def cut(self, reason: CutReason) -> None:
        if self.over:
            return
        said = f"{reason.why}. {reason.way_out}".strip()
        self._sweeps = any(part.runs for part in self.parts)
        for part in tuple(self.parts):
            part.cut(said)
        self._farewell(said)
        self.end(reason.reason, reason.why)

    def _farewell(self, said: str) -> None:
        """The client's own program shows the reason of a disconnect."""
        self.near.disconnect(asyncssh.DISC_BY_APPLICATION, said[:DISCONNECT_BYTES])

    def end(self, reason: str, detail: str = "") -> None:
        """Close both sides and report. Only the first call counts."""
        if self.over:
            return
        self.over = True
        for part in tuple(self.parts):
            part.cut(detail or "the session ended")
        self.parts.clear()
        self.near.close()
        loop = asyncio.get_running_loop()
        loop.call_later(_FLUSH, self.near.abort)
        if self.far is not None and self._sweeps:
            self.gate.spawn(self._sweep(self.far))
        elif self.far is not None:
            self._leave_host(self.far)
        self.gate.ended(self, reason, detail)

    async def _sweep(self, far: asyncssh.SSHClientConnection) -> None:
        """End what runs at the host, then leave it."""
        try:
            async with asyncio.timeout(_SWEEP_SECONDS):
                await far.run(_SWEEP, stdin=asyncssh.DEVNULL)
        except (OSError, TimeoutError, asyncssh.Error):
            self.gate.log.warning("what ran at a host may run on", session=self.admission.session)
        finally:
            self._leave_host(far)

    def _leave_host(self, far: asyncssh.SSHClientConnection) -> None:
        far.close()
        asyncio.get_running_loop().call_later(_FLUSH, far.abort)
