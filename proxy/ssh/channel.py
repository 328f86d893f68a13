"""A client's session channel (a command, a shell, a subsystem) and the one at the host that answers it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import asyncssh

from proxy.authority import ReviewDecided
from proxy.recording import FileOperation
from proxy.ssh import scp
from proxy.ssh.deciding import Deciding
from proxy.ssh.fast import write
from proxy.ssh.lines import LineShell
from proxy.ssh.sftp import Done, Sftp
from proxy.ssh.sftp_wire import BadPacket
from proxy.ssh.tape import Execution, Tape

if TYPE_CHECKING:
    from proxy.ssh.session import Session

REFUSED = 126
"""The exit status of what the gate refused: as of a command that may not be run."""
_EXIT_SOON = 5.0
"""Seconds that the end of output waits for the exit status. On a busy host half a second was too few; only a
command that closes its output and goes on is told to be at its end so much later.
"""
WINDOW = 2 << 20
PACKET = 32 << 10
_VALUE = re.compile(rb"[\x20-\x7e\x80-\xff]{0,1024}")


@dataclass(frozen=True, slots=True)
class Terminal:
    kind: str
    size: tuple[int, int, int, int]
    modes: dict[int, int]


class Far(asyncssh.SSHClientSession[bytes]):
    """The channel at the host: everything goes on to the client's."""

    def __init__(self, near: Channel) -> None:
        self._near = near

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._near.shown(data, datatype)

    def eof_received(self) -> bool:
        self._near.host_finished()
        return True

    def exit_status_received(self, status: int) -> None:
        self._near.exit = lambda channel: channel.exit(status)
        self._near.tag = f"exit {status}"

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._near.exit = lambda channel: channel.exit_with_signal(signal, core_dumped, msg, lang)
        self._near.tag = f"signal {signal}"

    def connection_lost(self, exc: Exception | None) -> None:
        self._near.host_gone()

    def pause_writing(self) -> None:
        self._near.hold_back(True)

    def resume_writing(self) -> None:
        self._near.hold_back(False)


class Channel(asyncssh.SSHServerSession[bytes]):
    """The client's channel. What it asks for is decided, recorded, and only then begun at the host."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.number = session.number()
        self.chan: asyncssh.SSHServerChannel[bytes]
        self.far: asyncssh.SSHClientChannel[bytes] | None = None
        self.terminal: Terminal | None = None
        self.exit: Callable[[asyncssh.SSHServerChannel[bytes]], None] | None = None
        self.tag = ""
        self.tape: Tape | None = None
        self._what = ""
        self._text = ""
        self._early: list[bytes] = []
        self._early_end = False
        self._early_signals: list[str] = []
        self._over = False
        self._deciding = Deciding(session, self.say)
        self._sftp: Sftp | None = None
        self._scp: scp.Scp | None = None
        self._lines: LineShell | None = None
        session.parts.add(self)

    # --- what the client asks for

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.chan = chan

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        self.terminal = Terminal(term_type, term_size, dict(term_modes))
        return True

    def exec_requested(self, command: str) -> bool:
        return self._asked("exec", command) and bool(command.strip())

    def shell_requested(self) -> bool:
        return self._asked("shell", "")

    def subsystem_requested(self, subsystem: str) -> bool:
        return self._asked("subsystem", subsystem)

    def _asked(self, what: str, text: str) -> bool:
        self._what, self._text = what, text
        return not self.session.over

    def session_started(self) -> None:
        """The tape is there before the client's first byte, which may come before anything is decided."""
        session = self.session
        execution = Execution(self._text, self._what, self.number, round(session.now(), 6))
        assert session.track is not None
        tape = self.tape = Tape(
            session.track,
            session.now,
            execution,
            terminal=self.terminal is not None,
            opaque=self._is_sftp,
            hidden=session.admission.terms.detect,
        )
        session.gate.spawn(self._begin(tape))

    @property
    def _is_sftp(self) -> bool:
        return self._what == "subsystem" and self._text == "sftp"

    async def _begin(self, tape: Tape) -> None:
        host = self.session.host
        try:
            refusal = self._refusal()
            if not refusal and self._what == "exec":
                refusal = await self._deciding.refusal(tape.execution, terminal=self.terminal is not None)
            if refusal:
                self.refuse(refusal)
                return
            if self._is_sftp:
                self._sftp = Sftp(host.files, self._to_far, self._to_client, self._file_done)
            elif self._what == "exec":
                self._scp = scp.reading(self._text, self._file_done)
            tape.begin()
            if self._what == "shell" and host.shell == "lines":
                self._lines = LineShell(self)
                await self._lines.run(self._taken_early())
            else:
                await self._open()
        except (OSError, asyncssh.Error) as error:
            self.fail(f"the host did not begin it ({_said(error)})")
        except BaseException:
            self.fail("the gate failed")
            raise

    def _refusal(self) -> str:
        it, host = self.session.admission, self.session.host
        if it.terms.hold_all is not None and self._what != "exec":
            return "this grant is for one command, and for nothing else"
        if self._what == "shell" and host.shell == "refuse":
            return f"{it.role} has no shell here, only commands: ssh … COMMAND"
        if self._what != "subsystem":
            return ""
        if self._text == "sftp":
            return "" if host.files else f"{it.role} may not transfer files here"
        return "" if self._text in host.subsystems else f"{it.role} may not use the subsystem {self._text}"

    def _taken_early(self) -> list[bytes]:
        early, self._early = self._early, []
        return early

    async def _open(self) -> None:
        session = self.session
        if self._over or session.far is None:
            return
        terminal = self.terminal
        chan, _ = await session.far.create_session(
            lambda: Far(self),
            self._text if self._what == "exec" else None,
            subsystem=self._text if self._what == "subsystem" else None,
            env=self._environment(),
            request_pty="force" if terminal else False,
            term_type=terminal.kind if terminal else None,
            term_size=terminal.size if terminal else None,
            term_modes=terminal.modes if terminal else {},
            encoding=None,
            window=WINDOW,
            max_pktsize=PACKET,
        )
        self.far = chan
        if self._over:
            self._end_far()
            return
        if terminal and self.tape:
            self.tape.tell("r", f"{terminal.size[0]}x{terminal.size[1]}")
        for data in self._taken_early():
            self._onward(data)
        if self._early_end:
            chan.write_eof()
        for signal in self._early_signals:
            chan.send_signal(signal)
        if not self._over:
            self.chan.resume_reading()

    def _environment(self) -> Mapping[bytes | str, bytes | str]:
        """What of the client's environment its role lets through."""
        patterns = self.session.host.environment
        return {
            name: value
            for name, value in self.chan.get_environment_bytes().items()
            if any(fnmatchcase(name.decode("ascii", "replace"), pattern) for pattern in patterns)
            and _VALUE.fullmatch(value)
        }

    # --- from the client

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.session.bytes_in += len(data)
        if self.tape is not None:
            self.tape.typed(data)
        if self._lines is not None:
            self._lines.typed(data)
        elif self.far is None:
            self._early.append(data)
            self.chan.pause_reading()
        else:
            self._onward(data)

    def _onward(self, data: bytes) -> None:
        """To the host; of SFTP, what the rules let through."""
        if self._sftp is None:
            self._to_far(data)
            return
        try:
            self._sftp.from_client(data)
        except BadPacket as error:
            self.fail(f"this is not SFTP ({error})")
            return
        if self._sftp.full:
            self.chan.pause_reading()

    def _to_far(self, data: bytes) -> None:
        if self._scp is not None and not self._scp.sends:
            self._scp.pass_on(data)
        if self.far is not None and not self.far.is_closing():
            write(self.far, data)

    def eof_received(self) -> bool:
        if self._lines is not None:
            self._lines.ended()
        elif self.far is None:
            self._early_end = True
        elif not self.far.is_closing():
            self.far.write_eof()
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self.far is None and self.terminal is not None:
            self.terminal = replace(self.terminal, size=(width, height, pixwidth, pixheight))
        elif self.far is not None and not self._over:
            self.far.change_terminal_size(width, height, pixwidth, pixheight)
            if self.tape is not None:
                self.tape.tell("r", f"{width}x{height}")

    def signal_received(self, signal: str) -> None:
        if self.far is None:
            self._early_signals.append(signal)
        elif not self._over:
            self.far.send_signal(signal)

    def break_received(self, msec: int) -> bool:
        if self.far is not None and not self._over:
            self.far.send_break(msec)
        return self.far is not None

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over:
            self._finish("unfinished" if not self.tag else "ok", "the client closed it")
            self._end_far()

    def pause_writing(self) -> None:
        if self._lines is not None:
            self._lines.hold_back(True)
        elif self.far is not None:
            self.far.pause_reading()

    def resume_writing(self) -> None:
        if self._lines is not None:
            self._lines.hold_back(False)
        elif self.far is not None:
            self.far.resume_reading()

    # --- from the host

    def shown(self, data: bytes, datatype: int | None) -> None:
        self.session.bytes_out += len(data)
        if self._over:
            return
        if self.tape is not None:
            self.tape.shown(data, error=datatype is not None)
        if self._scp is not None and self._scp.sends and datatype is None:
            self._scp.pass_on(data)
        if self._sftp is None or datatype is not None:
            self._to_client(data, datatype)
            return
        try:
            self._sftp.from_host(data)
        except BadPacket as error:
            self.fail(f"the host does not speak SFTP ({error})")
            return
        if not self._sftp.full:
            self.chan.resume_reading()

    def _to_client(self, data: bytes, datatype: int | None = None) -> None:
        if self.chan.is_closing():
            return
        if datatype is None:
            write(self.chan, data)
        else:
            self.chan.write(data, datatype)

    def _file_done(self, done: Done) -> None:
        """An operation on a file, for the recording."""
        if self.tape is not None:
            at = round(self.session.now(), 6)
            self.tape.file(
                FileOperation(
                    self.number, at, done.operation, done.path, done.outcome, done.to, done.size, done.sha256,
                    done.message,
                )
            )  # fmt: skip

    def host_finished(self) -> None:
        """The host sends no more output. Clients close a channel that is at its end both ways, and asyncssh
        then takes no exit status for it: so the exit, which follows at once as a rule, goes first.
        """
        asyncio.get_running_loop().call_later(_EXIT_SOON, self._pass_end)

    def _pass_end(self) -> None:
        if not self._over and not self.chan.is_closing():
            self.chan.write_eof()

    def host_gone(self) -> None:
        """The channel at the host is closed: so is the client's, with the same exit."""
        if self._over:
            return
        self._finish("ok" if self.exit else "error", "" if self.exit else "it ended without an exit status")
        if self.exit is not None:
            self.exit(self.chan)
        self.chan.close()

    def hold_back(self, full: bool) -> None:
        """The host takes no more for now, or again."""
        if self._over:
            return
        if full:
            self.chan.pause_reading()
        else:
            self.chan.resume_reading()

    # --- ending

    def leave(self) -> None:
        """The client has left its shell of lines."""
        if not self._over:
            self.tag = "exit 0"
            self._finish("ok", "")
            self.chan.exit(0)

    def refuse(self, why: str) -> None:
        """Nothing runs; the client hears why."""
        self._finish("refused", why)
        self.say(f"refused: {why}")
        self.chan.exit(REFUSED)

    def fail(self, why: str) -> None:
        if not self._over:
            self._finish("error", why)
            self.say(why)
            self.chan.exit(255)

    @property
    def runs(self) -> bool:
        """See Part."""
        return self._sftp is None and (self.far is not None or self._lines is not None)

    def cut(self, why: str) -> None:
        """See Part."""
        if self._over:
            return
        self._finish("unfinished", why)
        self.say(why)
        if self.far is not None and not self.far.is_closing():
            self.far.send_signal("KILL")
        self.chan.close()

    def decided(self, notice: ReviewDecided) -> None:
        """See Part."""
        self._deciding.decided(notice)
        if self._lines is not None:
            self._lines.decided(notice)

    def say(self, text: str) -> None:
        """A word of the gate's own, on standard error."""
        if not self.chan.is_closing():
            self.chan.write_stderr(f"portcullis: {text}\r\n".encode())

    def _end_far(self) -> None:
        if self.far is not None:
            self.far.close()

    def _finish(self, outcome: str, message: str) -> None:
        if self._over:
            return
        self._over = True
        self.session.parts.discard(self)
        if self.tape is None:
            return
        if self._lines is not None:
            self._lines.cut(message or outcome)
        if self._sftp is not None:
            self._sftp.end()
        if self._scp is not None:
            self._scp.end()
        self._deciding.over(self.tag or f"{outcome} {message}".strip(), message or "the client left")
        if (ended := self.tape.end(outcome, message, self.tag)) is not None:
            self.session.record(ended)


def _said(error: Exception) -> str:
    return "it cannot be reached" if isinstance(error, OSError) else "it said no"
