"""Connections through the host and back from it, each only where the role names its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh

from proxy.authority import ReviewDecided
from proxy.ssh.fast import write
from proxy.ssh.tape import Execution, Tape

if TYPE_CHECKING:
    from proxy.ssh.session import Session

PROHIBITED = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED


def granted(places: tuple[str, ...], place: str) -> bool:
    """Whether `host:port` or a socket's path is among the places, where `host:*` is any port of a host."""
    host = place.rpartition(":")[0]
    return any(
        place.lower() == it.lower() or (it.endswith(":*") and it[:-2].lower() == host.lower())
        for it in places
    )


class End(asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """One end of a connection that passes; what comes in goes out at the other end."""

    def __init__(self, passage: Passage, from_client: bool) -> None:
        self._passage = passage
        self._from_client = from_client
        self.chan: asyncssh.SSHTCPChannel[bytes] | asyncssh.SSHUNIXChannel[bytes] | None = None
        self.other: End
        self._early: list[bytes] = []
        self._early_end = False

    def connection_made(self, chan: object) -> None:
        assert isinstance(chan, (asyncssh.SSHTCPChannel, asyncssh.SSHUNIXChannel))
        self.chan = chan
        early, self._early = self._early, []
        for data in early:
            chan.write(data)
        if self._early_end:
            chan.write_eof()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._passage.passed(len(data), self._from_client)
        self.other.send(data)

    def send(self, data: bytes) -> None:
        if self.chan is None:
            self._early.append(data)
        elif not self.chan.is_closing():
            write(self.chan, data)

    def eof_received(self) -> bool:
        other = self.other
        if other.chan is None:
            other._early_end = True
        elif not other.chan.is_closing():
            other.chan.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._passage.end("ok" if exc is None else "error")

    def pause_writing(self) -> None:
        if self.other.chan is not None:
            self.other.chan.pause_reading()

    def resume_writing(self) -> None:
        if self.other.chan is not None:
            self.other.chan.resume_reading()

    def close(self) -> None:
        if self.chan is not None:
            self.chan.close()


class Passage:
    """A connection between a client's end and the host's, recorded by its sizes."""

    def __init__(self, session: Session, place: str) -> None:
        self._session = session
        assert session.track is not None
        at = round(session.now(), 6)
        self._tape = Tape(
            session.track, session.now, Execution(place, "forward", session.number(), at), opaque=True
        )
        self.near, self.far = End(self, True), End(self, False)
        self.near.other, self.far.other = self.far, self.near
        session.parts.add(self)
        self._tape.begin()

    @property
    def runs(self) -> bool:
        return False

    def passed(self, size: int, from_client: bool) -> None:
        if from_client:
            self._session.bytes_in += size
            self._tape.passed(size, 0)
        else:
            self._session.bytes_out += size
            self._tape.passed(0, size)

    def end(self, outcome: str, why: str = "") -> None:
        if (ended := self._tape.end(outcome, why)) is not None:
            self._session.record(ended)
        self._session.parts.discard(self)
        self.near.close()
        self.far.close()

    def cut(self, why: str) -> None:
        """See session.Part."""
        self.end("unfinished", why)

    def decided(self, notice: ReviewDecided) -> None:
        """See session.Part: nothing of this waits."""


class Listening:
    """A place at the host whose connections come to the client."""

    def __init__(self, session: Session, listener: asyncssh.SSHListener) -> None:
        self._session = session
        self._listener = listener
        session.parts.add(self)

    @property
    def runs(self) -> bool:
        return False

    def get_port(self) -> int:
        return self._listener.get_port()

    def close(self) -> None:
        self._session.parts.discard(self)
        self._listener.close()

    def cut(self, why: str) -> None:
        """See session.Part."""
        self.close()

    def decided(self, notice: ReviewDecided) -> None:
        """See session.Part: nothing of this waits."""


class Forwards:
    """What a session's client asks to have forwarded."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def to_place(self, host: str, port: int, from_host: str, from_port: int) -> End:
        """Open a connection from the host. Raises ChannelOpenError where it is not granted, or fails."""
        passage = self._passage(f"{host}:{port}")
        far = self._session.far
        assert far is not None
        try:
            await far.create_connection(lambda: passage.far, host, port, from_host, from_port)
        except (OSError, asyncssh.Error) as error:
            passage.end("error", "the host could not connect")
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the host could not connect"
            ) from error
        return passage.near

    async def to_socket(self, path: str) -> End:
        """The same to a Unix socket of the host's."""
        passage = self._passage(path)
        far = self._session.far
        assert far is not None
        try:
            await far.create_unix_connection(lambda: passage.far, path)
        except (OSError, asyncssh.Error) as error:
            passage.end("error", "the host could not connect")
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the host could not connect"
            ) from error
        return passage.near

    def _passage(self, place: str) -> Passage:
        session = self._session
        if session.admission.terms.hold_all is not None or not granted(session.host.forward, place):
            self._refused(place)
            said = f"{session.admission.role} may not connect to {place}"
            raise asyncssh.ChannelOpenError(PROHIBITED, said)
        return Passage(session, place)

    async def listen(self, host: str, port: int) -> Listening | bool:
        """Have the host take connections for the client at a place of its own."""
        session = self._session
        place = f"{host or '*'}:{port}"
        one_command = session.admission.terms.hold_all is not None
        if one_command or session.far is None or not granted(session.host.listen, place):
            self._refused(f"listen {place}")
            return False

        def came(from_host: str, from_port: int) -> End:
            passage = Passage(session, f"from {from_host}:{from_port} at {place}")
            session.gate.spawn(self._hand_on(passage, host, port, from_host, from_port))
            return passage.far

        try:
            listener = await session.far.create_server(came, host, port, encoding=None)
        except (OSError, asyncssh.Error):
            return False
        return Listening(session, listener)

    async def listen_socket(self, path: str) -> Listening | bool:
        """The same at a Unix socket of the host's."""
        session = self._session
        one_command = session.admission.terms.hold_all is not None
        if one_command or session.far is None or not granted(session.host.listen, path):
            self._refused(f"listen {path}")
            return False

        def came() -> End:
            passage = Passage(session, f"at {path}")
            session.gate.spawn(self._hand_on_socket(passage, path))
            return passage.far

        try:
            listener = await session.far.create_unix_server(came, path, encoding=None)
        except (OSError, asyncssh.Error):
            return False
        return Listening(session, listener)

    async def _hand_on(self, passage: Passage, host: str, port: int, from_host: str, from_port: int) -> None:
        try:
            await self._session.near.create_connection(lambda: passage.near, host, port, from_host, from_port)
        except (OSError, asyncssh.Error):
            passage.end("error", "the client took no connection")

    async def _hand_on_socket(self, passage: Passage, path: str) -> None:
        try:
            await self._session.near.create_unix_connection(lambda: passage.near, path)
        except (OSError, asyncssh.Error):
            passage.end("error", "the client took no connection")

    def _refused(self, place: str) -> None:
        session = self._session
        at = round(session.now(), 6)
        session.record(Execution(place, "forward", session.number(), at, outcome="refused"))
