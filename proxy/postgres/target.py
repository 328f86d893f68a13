"""The gate's own connections to a target: logging in, cancelling, and asking it things by itself."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.authority import Upstream
from proxy.postgres import codec
from proxy.postgres.auth import LoginError, TargetLogin
from proxy.postgres.wire import Greeter, Lost
from proxy.tls import target_context

CONNECT_TIMEOUT = 10.0
_LIMIT = 64 << 20
_GREETING = 1 << 20
"""Bytes that a target may say before it is ready for queries."""
_NONSENSE = (codec.WireError, ValueError, IndexError, struct.error)
_NO_POSTGRES = "the target does not speak PostgreSQL's protocol"
Rows = list[tuple[bytes | None, ...]]


class Answer:
    """The answer to a query of the gate's own, as it comes in."""

    def __init__(self) -> None:
        self._results: list[Rows] = []
        self.tags: list[bytes] = []
        self.failure = ""
        self.sqlstate = b""
        self.status = ord("I")

    def take(self, kind: bytes, body: bytes) -> bool:
        """Take the next message; True when it was the last, ReadyForQuery."""
        if kind == b"T":
            self._results.append([])
        elif kind == b"D":
            self._results[-1].append(codec.read_data_row(body))
        elif kind == b"C":
            self.tags.append(body[:-1])
        elif kind == b"E":
            fields = codec.read_report(body)
            self.failure = fields.get(b"M", b"unknown").decode("utf-8", "replace")
            self.sqlstate = fields.get(b"C", b"")
        elif kind == b"Z":
            self.status = body[0]
            return True
        return False

    def results(self) -> list[Rows]:
        """The rows of each result. Raises LoginError when the query failed."""
        if self.failure:
            raise LoginError(f"the target refused a query of the gate: {self.failure}")
        return self._results

    @property
    def rows(self) -> list[Rows]:
        """The rows of each result that came, of a query that may have failed."""
        return self._results


@dataclass(slots=True)
class Target:
    """A connection that is logged in and idle. `greeting` is the ParameterStatus messages for the client."""

    greeter: Greeter
    upstream: Upstream
    pid: int = 0
    secret: bytes = field(default=b"", repr=False)
    greeting: bytes = b""
    parameters: dict[str, str] = field(default_factory=dict)
    status: int = ord("I")

    async def ask(self, text: str) -> list[Rows]:
        """Run a query of the gate's own; returns the rows, as text, of each of its results.

        Raises LoginError when the target refuses it.
        """
        self.greeter.write(codec.query(text.encode()))
        answer = Answer()
        try:
            while not answer.take(*await self.greeter.message(_LIMIT)):
                pass
        except _NONSENSE as error:
            raise LoginError(_NO_POSTGRES) from error
        return answer.results()

    def close(self) -> None:
        self.greeter.write(codec.message(b"X"))
        self.greeter.close()


async def connect(upstream: Upstream, parameters: Mapping[str, str]) -> Target:
    """Connect and log in as the minted login with these startup parameters.

    Raises LoginError with a text for people (no address, no secret), within CONNECT_TIMEOUT seconds.
    """
    greeter: Greeter | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            greeter = await _dial(upstream)
            login = {"user": upstream.user, "database": upstream.database, **parameters}
            greeter.write(codec.startup(login))
            target = Target(greeter, upstream)
            await _log_in(target)
            return target
    except BaseException as error:
        if greeter is not None:
            greeter.abort()
        if isinstance(error, ssl.SSLError):
            raise LoginError(f"the target's TLS was not accepted ({_tls_reason(error)})") from error
        if isinstance(error, TimeoutError):
            raise LoginError("the target did not answer in time") from error
        if isinstance(error, (OSError, Lost)):
            raise LoginError("the target cannot be reached") from error
        if isinstance(error, _NONSENSE):
            raise LoginError(_NO_POSTGRES) from error
        raise


async def cancel(upstream: Upstream, pid: int, secret: bytes) -> None:
    """Ask the target to cancel what runs in the session with this key. Raises OSError, LoginError."""
    greeter = await _dial(upstream)
    greeter.write(codec.cancel_request(pid, secret))
    try:
        # The server closes when it has passed the signal on; until then the bytes may still be on the way.
        await asyncio.wait_for(greeter.take(1), 2)
    except (Lost, TimeoutError):
        pass
    finally:
        greeter.abort()


async def _dial(upstream: Upstream) -> Greeter:
    loop = asyncio.get_running_loop()
    context = target_context(upstream.tls, upstream.ca)
    greeter: Greeter
    if upstream.host.startswith("/"):
        path = f"{upstream.host}/.s.PGSQL.{upstream.port}"
        _, greeter = await loop.create_unix_connection(Greeter, path)
        return greeter
    _, greeter = await loop.create_connection(Greeter, upstream.host, upstream.port)
    if context is None:
        return greeter
    try:
        greeter.write(codec.untagged(codec.SSL_REQUEST))
        if await greeter.take(1) != b"S":
            raise LoginError("the target does not offer TLS")
        await greeter.encrypt(context, server=False, hostname=upstream.host)
    except BaseException:
        greeter.abort()
        raise
    return greeter


async def _log_in(target: Target) -> None:
    greeter = target.greeter
    login = TargetLogin(target.upstream, greeter.tls)
    statuses: list[bytes] = []
    left = _GREETING
    while True:
        kind, body = await greeter.message(left)
        left -= len(body) + 5
        if kind == b"R":
            greeter.write(login.answer(body))
        elif kind == b"E":
            fields = codec.read_report(body)
            text = fields.get(b"M", b"").decode("utf-8", "replace")
            # The login is the gate's own; its name in the server's words helps nobody outside.
            raise LoginError(f"the target said: {text.replace(target.upstream.user, 'the login')}")
        elif not login.done:
            raise LoginError("the target broke the protocol before the login was over")
        elif kind == b"S":
            statuses.append(codec.message(b"S", body))
            name, at = codec.cstring(body, 0)
            value, _ = codec.cstring(body, at)
            target.parameters[name.decode()] = value.decode("utf-8", "replace")
        elif kind == b"K":
            (target.pid,) = struct.unpack_from("!I", body)
            target.secret = body[4:]
        elif kind == b"N":
            statuses.append(codec.message(b"N", body))
        elif kind == b"Z":
            target.greeting = b"".join(statuses)
            target.status = body[0]
            return


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason or "handshake failed"
