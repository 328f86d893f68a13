"""Letting an SSH client in: key exchange, who it is, admission, recording, host; each or not at all.

All of it happens before the client is told that it is authenticated, so that nothing but authentication is
open to anybody without a grant. A certificate is held against the broker's authority by the broker itself;
what the gate has seen is that the client holds its key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from proxy.authority import Admission, Knock, LoginLink
from proxy.recorder import RecordingError
from proxy.ssh import algorithms
from proxy.ssh.channel import Channel
from proxy.ssh.fast import FastServerConnection
from proxy.ssh.forward import End, Forwards, Listening
from proxy.ssh.session import DISCONNECT_BYTES, Session
from proxy.ssh.target import LoginError
from workflows.model import Refusal

if TYPE_CHECKING:
    from proxy.gate import Gate

_TRIES = 3
"""Wrong passwords or certificates before the connection is ended."""
_TOKEN_LIMIT = 16 * 1024
_CONFIRM_SECONDS = 15.0
_CONFIRM_EVERY = 1.0
"""Seconds that a login by a browser is waited for after Enter, and between two looks at it."""


@dataclass(frozen=True, slots=True)
class SshSettings:
    """Where the gate listens for SSH, and its host key and certificate (OpenSSH files)."""

    host: str
    port: int
    key: Path
    certificate: Path | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """`principal+resource` or `principal+resource+role`; with a certificate the principal may be left out."""

    principal: str
    resource: str
    role: str = ""


def read_name(text: str) -> Name | None:
    """The parts of a login name; None where there is no resource in it."""
    parts = text.split("+")
    if len(parts) not in (2, 3) or not parts[1] or (len(parts) == 3 and not parts[2]):
        return None
    return Name(*parts)


class SshDoor:
    """The door for SSH clients of one gate."""

    def __init__(self, gate: Gate, settings: SshSettings) -> None:
        self.gate = gate
        self.settings = settings
        self.port = settings.port
        self.greeting = 0
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Raises OSError where the port cannot be had, ValueError for keys of no use."""
        loop = asyncio.get_running_loop()
        options = await asyncio.to_thread(self._options, loop)
        self._server = await loop.create_server(
            partial(_Connection, loop, options),
            self.settings.host,
            self.settings.port,
            reuse_port=self.gate.settings.reuse_port or None,
            backlog=1024,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _options(self, loop: asyncio.AbstractEventLoop) -> asyncssh.SSHServerConnectionOptions:
        key = asyncssh.read_private_key(self.settings.key)
        certificate = self.settings.certificate
        host_key = (key, asyncssh.read_certificate(certificate)) if certificate else key
        return asyncssh.SSHServerConnectionOptions(
            loop=loop,
            server_factory=partial(Entrance, self),
            server_host_keys=[host_key],
            server_version="Portcullis",
            host_based_auth=False,
            x11_forwarding=False,
            agent_forwarding=False,
            encoding=None,
            line_editor=False,
            login_timeout=self.gate.settings.greeting_timeout,
            **algorithms.ON_BOTH_SIDES,
        )


class _Connection(FastServerConnection):
    """asyncssh's connection, which lets us see the certificate whose key the client has proved to hold."""

    async def reload_config(self) -> None:
        """There is no configuration that differs by user, so nothing to read again."""

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        if not await super().validate_public_key(username, key_data, msg, signature):
            return False
        if not msg:  # only asked whether the key would do
            return True
        entrance = self._owner
        assert isinstance(entrance, Entrance)
        return await entrance.certified(key_data)


class Entrance(asyncssh.SSHServer):
    """One client, from its first packet to the end of its session."""

    def __init__(self, door: SshDoor) -> None:
        self._door = door
        self._gate = door.gate
        self._conn: asyncssh.SSHServerConnection
        self._peer = ""
        self._name: Name | None = None
        self._tries = 0
        self._greeting = False
        self._link: LoginLink | None = None
        self._entering = False
        self.session: Session | None = None

    # --- asyncssh.SSHServer: life

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        peer = conn.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"
        if self._door.greeting >= self._gate.settings.max_greetings:
            conn.abort()
            return
        self._greeting = True
        self._door.greeting += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._greeted()
        if self.session is not None:
            self.session.client_gone("" if exc is None else "the client closed the connection")

    def _greeted(self) -> None:
        if self._greeting:
            self._greeting = False
            self._door.greeting -= 1

    # --- who

    def begin_auth(self, username: str) -> bool:
        self._name = read_name(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whose authority it is the broker tells, which is asked next."""
        return True

    async def certified(self, certificate: bytes) -> bool:
        """The client has proved that it holds the key of this certificate."""
        line = asyncssh.public_key.decode_ssh_certificate(certificate).export_certificate("openssh")
        return await self._enter(certificate=line.strip())

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        return await self._enter(token=password)

    def kbdint_auth_supported(self) -> bool:
        return True

    async def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        """A page to log in at, where there are browsers; a password is taken in any case."""
        name = self._name
        ask = f"A password that is good for 10 minutes: access token {name.resource if name else 'RESOURCE'}"
        if name is None or not name.principal:
            return "Portcullis", ask, "en", [("Password: ", False)]
        if self._link is None:
            answer = await self._gate.start_login(self._knock(name))
            if isinstance(answer, Refusal):
                return "Portcullis", ask, "en", [("Password: ", False)]
            self._link = answer
        said = f"Log in at {self._link.link}\nIt must show the code {self._link.code}. Then press Enter.\n"
        return "Portcullis", f"{said}Or: {ask}", "en", [("Enter, or a password: ", False)]

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        if len(responses) != 1:
            return False
        if responses[0] or self._link is None:
            return await self._enter(token=responses[0])
        return await self._enter(device=self._link.device)

    # --- in, or not

    async def _enter(self, token: str = "", certificate: bytes = b"", device: str = "") -> bool:
        """Whether the client is in: admitted, recorded, and at the host."""
        if self._entering or self.session is not None or len(token) > _TOKEN_LIMIT:
            return False
        self._entering = True
        try:
            return await self._admit(token, certificate, device)
        finally:
            self._entering = False

    def _knock(self, name: Name, token: str = "", certificate: bytes = b"", device: str = "") -> Knock:
        return Knock(
            gate=self._gate.settings.name,
            protocol="ssh",
            principal=name.principal,
            token=token,
            resource=name.resource,
            role=name.role,
            client=self._peer,
            certificate=certificate,
            device=device,
        )

    async def _admit(self, token: str, certificate: bytes, device: str) -> bool:
        name = self._name
        if name is None or not (name.principal or certificate):
            self._turn_away("Say where to: ssh YOU+RESOURCE@gate, or access ssh RESOURCE")
            return False
        asked_at = self._gate.clock.monotonic()
        answer = await self._admission(self._knock(name, token, certificate, device))
        if isinstance(answer, Refusal):
            self._refused(answer)
            return False
        return await self._open(answer, asked_at)

    async def _admission(self, knock: Knock) -> Admission | Refusal:
        """The broker's answer; who logs in by a browser is given a while to do so."""
        clock, began = self._gate.clock, self._gate.clock.monotonic()
        while True:
            answer = await self._gate.admit(knock)
            waits = isinstance(answer, Refusal) and answer.code == "login-pending"
            if not waits or clock.monotonic() - began > _CONFIRM_SECONDS:
                return answer
            await asyncio.sleep(_CONFIRM_EVERY)

    def _refused(self, refusal: Refusal) -> None:
        self._tries += 1
        if refusal.code == "login-failed":
            self._link = None
        if refusal.code not in ("login-failed", "login-pending") or self._tries >= _TRIES:
            self._turn_away(str(refusal))

    def _turn_away(self, said: str) -> None:
        """The client's own program shows the reason of a disconnect."""
        self._conn.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, said[:DISCONNECT_BYTES])

    async def _open(self, admission: Admission, asked_at: float) -> bool:
        session = Session(self._gate, admission, self._conn, self._peer, asked_at)
        self._gate.register(session)
        self.session = session
        try:
            if admission.terms.host is None:
                raise LoginError("the grant is not for an SSH host")
            await session.enter()
        except LoginError as error:
            self._turn_away(
                f"The gate could not enter {admission.resource}: {error}. Tell the gate's keepers."
            )
        except RecordingError as error:
            self._turn_away(f"{error} Tell the people who run the gate.")
        except BaseException:
            self._turn_away("The gate failed. Tell the gate's keepers.")
            session.end("error", "the session could not begin")
            raise
        else:
            return not session.over
        session.end("error", "the session could not begin")
        return False

    def auth_completed(self) -> None:
        self._greeted()
        if self.session is None or self.session.over:
            self._conn.abort()

    # --- what an admitted client may ask of its connection

    def session_requested(self) -> Channel | bool:
        session = self._open_session()
        return Channel(session) if session is not None else False

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[End] | bool:
        session = self._open_session()
        if session is None:
            return False
        return Forwards(session).to_place(dest_host, dest_port, orig_host, orig_port)

    def unix_connection_requested(self, dest_path: str) -> Awaitable[End] | bool:
        session = self._open_session()
        return Forwards(session).to_socket(dest_path) if session is not None else False

    async def server_requested(self, listen_host: str, listen_port: int) -> Listening | bool:  # type: ignore[override]
        session = self._open_session()
        return await Forwards(session).listen(listen_host, listen_port) if session is not None else False

    async def unix_server_requested(self, listen_path: str) -> Listening | bool:  # type: ignore[override]
        session = self._open_session()
        return await Forwards(session).listen_socket(listen_path) if session is not None else False

    def _open_session(self) -> Session | None:
        session = self.session
        return None if session is None or session.over or session.far is None else session
