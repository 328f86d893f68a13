"""The gate's own connection to an SSH host: who it is is proved, and the login is the grant's."""

from __future__ import annotations

import asyncio

import asyncssh

from proxy.authority import Upstream
from proxy.ssh import algorithms
from proxy.ssh.fast import FastClientConnection

CONNECT_SECONDS = 10.0


class LoginError(Exception):
    """The host cannot be entered. The text is for people and names neither address nor secret."""


class _Far(asyncssh.SSHClient):
    """What a host may ask of the gate's client: nothing. It says when the connection is over."""

    def __init__(self, lost: asyncio.Future[str]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result("the host closed the connection" if exc is None else _why(exc))


async def connect(upstream: Upstream, lost: asyncio.Future[str]) -> asyncssh.SSHClientConnection:
    """Enter the host; `lost` gets the reason when it is over. Raises LoginError."""
    no_keys: list[asyncssh.SSHKey] = []
    try:
        known = (
            [asyncssh.import_public_key(line) for line in upstream.host_keys],
            [asyncssh.import_public_key(line) for line in upstream.host_cas],
            no_keys,
        )
        key = asyncssh.import_private_key(upstream.key)
        certificate = asyncssh.import_certificate(upstream.certificate) if upstream.certificate else None
    except (asyncssh.KeyImportError, ValueError) as error:
        raise LoginError("the gate's key for it cannot be used") from error
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            options = await asyncssh.SSHClientConnectionOptions.construct(
                None,
                host=upstream.host,
                port=upstream.port,
                client_factory=lambda: _Far(lost),
                username=upstream.user,
                client_keys=[(key, certificate)],
                known_hosts=known,
                agent_path=None,
                preferred_auth="publickey",
                **algorithms.ON_BOTH_SIDES,
                login_timeout=CONNECT_SECONDS,
            )
            return await _enter(options)
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise LoginError(_why(error)) from error


async def _enter(options: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHClientConnection:
    """As asyncssh.connect does, with a connection of our own class."""
    loop = asyncio.get_running_loop()
    options.waiter = loop.create_future()
    _, connection = await loop.create_connection(
        lambda: FastClientConnection(loop, options, wait="auth"), options.host, options.port
    )
    try:
        await options.waiter
    except BaseException:
        connection.abort()
        raise
    return connection


def _why(error: Exception) -> str:
    """In words of ours: a host's own text may quote what it was sent."""
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return "the host does not prove that it is itself"
        case asyncssh.PermissionDenied():
            return "the host refuses the gate's login"
        case asyncssh.KeyExchangeFailed():
            return "the host speaks no algorithm that the gate takes"
        case asyncssh.Error():
            return "the connection to the host broke off"
        case TimeoutError():
            return "the host does not answer"
        case _:
            return "the host cannot be reached"
