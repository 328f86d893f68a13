"""A shell of whole lines: each is judged as a command would be, and runs as one, in a shell of its own.

What a line sets (a folder, a variable) is forgotten after it. There is no terminal at the host, so that
nothing that runs there can take further orders which the gate does not read.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import asyncssh

from proxy.authority import ReviewDecided
from proxy.ssh.deciding import Deciding
from proxy.ssh.tape import Execution, Tape

if TYPE_CHECKING:
    from proxy.ssh.channel import Channel

_LONGEST = 64 * 1024
_LEAVE = ("exit", "logout")
_ESCAPE = re.compile(rb"\x1b(\[[0-9;?]*[ -/]*[@-~]?|O[A-Z])?")
_INTERRUPT, _END, _KILL = 0x03, 0x04, 0x15


class LineShell:
    """Reads lines from `channel`'s client, echoing where it has a terminal, and runs them one by one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._session = channel.session
        self._echo = channel.terminal is not None
        self._deciding = Deciding(self._session, channel.say)
        self._typed = bytearray()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._run: _Run | None = None
        self._over = False

    async def run(self, early: list[bytes]) -> None:
        """Until the client leaves."""
        for data in early:
            self.typed(data)
        self._channel.chan.resume_reading()
        self._prompt()
        while (line := await self._lines.get()) is not None and line.strip() not in _LEAVE:
            if line.strip() and not self._over:
                await self._do(line)
            self._prompt()
        self._channel.leave()

    def _prompt(self) -> None:
        if self._echo and not self._over:
            it = self._session.admission
            self._show(f"{it.role}@{it.resource}> ".encode())

    async def _do(self, line: str) -> None:
        session = self._session
        execution = Execution(line, "line", session.number(), round(session.now(), 6))
        assert session.track is not None
        hidden = session.admission.terms.detect
        run = self._run = _Run(self, Tape(session.track, session.now, execution, hidden=hidden))
        refusal = await self._deciding.refusal(execution, terminal=False)
        if refusal:
            self._channel.say(f"refused: {refusal}")
            run.end("refused", refusal)
        elif not self._over and session.far is not None:
            await run.go(session.far, line)
        self._deciding.over(run.tag or "it did not run", "the client left")
        self._run = None

    # --- what the client types

    def typed(self, data: bytes) -> None:
        for byte in _ESCAPE.sub(b"", data):
            if byte in (0x0D, 0x0A):
                self._enter()
            elif byte == _INTERRUPT:
                self._interrupt()
            elif byte == _END and not self._typed:
                self._lines.put_nowait(None)
            elif byte in (0x7F, 0x08):
                self._rub_out()
            elif byte == _KILL:
                while self._typed:
                    self._rub_out()
            elif (byte >= 0x20 or byte == 0x09) and len(self._typed) < _LONGEST:
                self._typed.append(byte)
                if self._echo:
                    self._show(bytes((byte,)))

    def _enter(self) -> None:
        if self._echo:
            self._show(b"\r\n")
        line, self._typed = bytes(self._typed), bytearray()
        try:
            self._lines.put_nowait(line.decode())
        except UnicodeDecodeError:
            self._channel.say("refused: this line is no UTF-8 text")

    def _rub_out(self) -> None:
        while self._typed and (byte := self._typed.pop()) & 0xC0 == 0x80:
            continue
        if self._echo and (self._typed or byte):
            self._show(b"\b \b")

    def _interrupt(self) -> None:
        self._typed.clear()
        if self._echo:
            self._show(b"^C\r\n")
        if self._run is not None:
            self._run.interrupt()
            self._deciding.over("it did not run", "the client took it back")
        else:
            self._prompt()

    def ended(self) -> None:
        """The client sends no more."""
        if self._typed:
            self._enter()
        self._lines.put_nowait(None)

    def cut(self, why: str) -> None:
        """The channel is over: nothing runs on."""
        self._over = True
        self._lines.put_nowait(None)
        if self._run is not None:
            self._run.cut(why)
        self._deciding.over("it did not run", why)

    def hold_back(self, full: bool) -> None:
        """The client takes no more for now, or again."""
        if self._run is not None:
            self._run.hold_back(full)

    def decided(self, notice: ReviewDecided) -> None:
        self._deciding.decided(notice)

    def shown(self, data: bytes, *, error: bool) -> None:
        """From what runs, as a terminal shows it."""
        self._session.bytes_out += len(data)
        self._show(data.replace(b"\n", b"\r\n") if self._echo else data, error)

    def _show(self, data: bytes, error: bool = False) -> None:
        chan = self._channel.chan
        if not chan.is_closing():
            chan.write(data, asyncssh.EXTENDED_DATA_STDERR if error and not self._echo else None)

    def record(self, execution: Execution) -> None:
        self._session.record(execution)


class _Run(asyncssh.SSHClientSession[bytes]):
    """One line at the host."""

    def __init__(self, shell: LineShell, tape: Tape) -> None:
        self._shell = shell
        self._tape = tape
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self._done = asyncio.Event()
        self.tag = ""

    async def go(self, far: asyncssh.SSHClientConnection, line: str) -> None:
        self._tape.begin()
        try:
            self._chan, _ = await far.create_session(lambda: self, line, request_pty=False, encoding=None)
        except (OSError, asyncssh.Error):
            self.end("error", "the host did not begin it")
            return
        self._chan.write_eof()
        await self._done.wait()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._tape.shown(data, error=datatype is not None)
        self._shell.shown(data, error=datatype is not None)

    def exit_status_received(self, status: int) -> None:
        self.tag = f"exit {status}"

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.tag = f"signal {signal}"

    def connection_lost(self, exc: Exception | None) -> None:
        self.end("ok" if self.tag else "error")

    def hold_back(self, full: bool) -> None:
        if self._chan is not None:
            self._chan.pause_reading() if full else self._chan.resume_reading()

    def interrupt(self) -> None:
        if self._chan is not None and not self._chan.is_closing():
            self._chan.send_signal("INT")

    def cut(self, why: str) -> None:
        self.end("unfinished", why)
        if self._chan is not None and not self._chan.is_closing():
            self._chan.send_signal("KILL")
            self._chan.close()

    def end(self, outcome: str, message: str = "") -> None:
        if (ended := self._tape.end(outcome, message, self.tag)) is not None:
            self._shell.record(ended)
        self._done.set()
