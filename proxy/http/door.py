"""The door for HTTP: where it listens, which service a name means, and who comes in under which session."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.authority import Admission, Closing, Knock
from proxy.http import auth, own, pages
from proxy.http.auth import Claim
from proxy.http.client_end import ClientEnd
from proxy.http.exchange import Exchange
from proxy.http.pages import Said, Turned
from proxy.http.services import kind_of
from proxy.http.session import HttpSession, Key
from proxy.recorder import RecordingError
from workflows.model import Refusal

if TYPE_CHECKING:
    from proxy.gate import Gate

_SWEEP = 5.0
_NAMES = 1000


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where the gate listens for HTTP. A service is reached by its name before `domain`; `names` are the
    gate's own, by which it is reached where TLS names the service. `login` is the broker's address, for
    browsers without a session. Spans are seconds: a session ends `idle` after its last request, a connection
    `keep_alive` after its last byte.
    """

    host: str
    port: int
    domain: str
    tls: ssl.SSLContext = field(repr=False)
    names: tuple[str, ...] = ()
    login: str = ""
    idle: float = 300.0
    keep_alive: float = 120.0
    max_connections: int = 20_000


def http_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later for HTTP/1.1; remembers the name that a client asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])

    def named(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.portcullis_name = (name or "").lower()  # type: ignore[attr-defined]

    context.sni_callback = named
    return context


class HttpDoor:
    """The door for HTTP clients of one gate."""

    def __init__(self, gate: Gate, settings: HttpSettings) -> None:
        self.gate = gate
        self.settings = settings
        self.port = settings.port
        self._server: asyncio.Server | None = None
        self._clients: set[ClientEnd] = set()
        self._sessions: dict[Key, HttpSession] = {}
        self._entering: dict[Key, asyncio.Future[HttpSession]] = {}
        self._domain = "." + settings.domain.lower()
        self._own = frozenset(name.lower() for name in settings.names)
        self._named: dict[tuple[bytes, str], str | None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.now = time.monotonic

    async def listen(self) -> None:
        """Raises OSError where the port cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientEnd(self).channel,
            self.settings.host,
            self.settings.port,
            reuse_port=self.gate.settings.reuse_port or None,
            backlog=1024,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweep()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for client in tuple(self._clients):
            if client.exchange is None:
                client.close()

    # --- connections

    def come(self, client: ClientEnd) -> bool:
        """Whether there is room for another connection."""
        if len(self._clients) >= self.settings.max_connections:
            return False
        self._clients.add(client)
        return True

    def gone(self, client: ClientEnd) -> None:
        self._clients.discard(client)

    def _sweep(self) -> None:
        """Close connections on which nothing has come for long."""
        loop = asyncio.get_running_loop()
        late = self.now() - self.settings.keep_alive
        for client in tuple(self._clients):
            if client.exchange is None and client.seen < late:
                client.close()
        self._sweeper = loop.call_later(_SWEEP, self._sweep)

    def resource_of(self, host: bytes, server_name: str) -> str | None:
        """The resource that a request's host names; None where that and TLS name different ones, or none."""
        known = self._named.get((host, server_name), "")
        if known == "":
            known = self._resource_of(host, server_name)
            if len(self._named) < _NAMES:
                self._named[host, server_name] = known
        return known

    def _resource_of(self, host: bytes, server_name: str) -> str | None:
        name = _host_name(host)
        by_tls = self._label(server_name)
        if name in self._own:
            return by_tls
        named = self._label(name)
        if server_name and named is not None and server_name not in self._own and by_tls != named:
            return None
        return named

    def _label(self, name: str) -> str | None:
        if not name.endswith(self._domain):
            return None
        label = name[: -len(self._domain)]
        return label if label and "." not in label else None

    # --- who

    def known(self, claim: Claim, client: ClientEnd) -> HttpSession | None:
        """The open session of whoever shows this from there."""
        return self._sessions.get(_key(claim, client))

    async def admit(self, claim: Claim, exchange: Exchange) -> HttpSession:
        """The session for a claim: the one that is being opened, or a new one. Raises Turned."""
        key = _key(claim, exchange.client)
        if (session := self._sessions.get(key)) is not None:
            return session
        if (entering := self._entering.get(key)) is not None:
            return await asyncio.shield(entering)
        coming: asyncio.Future[HttpSession] = asyncio.get_running_loop().create_future()
        self._entering[key] = coming
        # Not cancelled with the client that came first: others may wait for the same.
        self.gate.spawn(self._enter(claim, key, exchange, coming))
        return await asyncio.shield(coming)

    async def _enter(
        self, claim: Claim, key: Key, exchange: Exchange, coming: asyncio.Future[HttpSession]
    ) -> None:
        try:
            session = await self._admitted(claim, key, exchange)
        except Turned as turned:
            coming.set_exception(turned)
        except BaseException:
            coming.set_exception(Turned(Said(500, "failed", "The gate failed.", "Tell the gate's keepers.")))
            raise
        else:
            coming.set_result(session)
        finally:
            del self._entering[key]
            coming.exception() if coming.done() else None  # that nobody waits any more is no error

    async def _admitted(self, claim: Claim, key: Key, exchange: Exchange) -> HttpSession:
        client, asked_at = exchange.client, self.gate.clock.monotonic()
        knock = Knock(
            gate=self.gate.settings.name,
            protocol="http",
            principal=claim.principal,
            token=claim.token,
            resource=client.resource,
            role=claim.role,
            client=client.peer,
        )
        answer = await self.gate.admit(knock)
        if isinstance(answer, Refusal):
            raise Turned(self._refused(answer, claim, exchange))
        session = self._joined(answer, client) or await self._open(answer, client, asked_at)
        session.keys.add(key)
        self._sessions[key] = session
        return session

    def _joined(self, admission: Admission, client: ClientEnd) -> HttpSession | None:
        """The session that this person has from there already, under the same grant, by another token."""
        for session in self.gate.registry.under(admission.grant):
            if not isinstance(session, HttpSession) or session.over or session.track is None:
                continue
            same = session.admission.principal == admission.principal
            if same and session.peer.rpartition(":")[0] == client.peer.rpartition(":")[0]:
                joined = f"joined {session.admission.session}"
                closing = Closing(admission.session, "client", joined, 0, "", 0, 0, 0)
                self.gate.spawn(self.gate.report(closing))
                return session
        return None

    async def _open(self, admission: Admission, client: ClientEnd, asked_at: float) -> HttpSession:
        session = HttpSession(self.gate, admission, client.peer, asked_at, self.settings.idle)
        session.ending = self._forget
        self.gate.register(session)
        if session.over:
            raise Turned(session.ended_said())
        try:
            kind = kind_of(session)
            if kind is None:
                why = "The grant is not for a service behind HTTP."
                raise Turned(Said(403, "wrong-kind", why))
            session.kind = kind
            await session.enter()
        except RecordingError as error:
            session.end("error", "the session could not begin")
            raise Turned(Said(503, "unrecorded", str(error), "Tell the people who run the gate.")) from error
        except BaseException:
            session.end("error", "the session could not begin")
            raise
        if session.over:
            raise Turned(session.ended_said())
        return session

    def _forget(self, session: HttpSession) -> None:
        for key in session.keys:
            self._sessions.pop(key, None)

    # --- who is not in

    def login(self, exchange: Exchange) -> Said:
        """What somebody is told who brings nothing: a browser is sent to log in, a program told how."""
        return self._no_session(exchange) or Said(
            401,
            "who",
            "The gate does not know who you are.",
            'Send a token of your own: curl -H "Authorization: Bearer $(access token '
            f'{exchange.client.resource})"',
            () if exchange.head.get(b"sec-fetch-mode") else pages.CHALLENGE,  # a browser would open a box
        )

    def _refused(self, refusal: Refusal, claim: Claim, exchange: Exchange) -> Said:
        if (
            claim.by == "cookie"
            and not own.is_own(exchange.head.target)
            and refusal.code in ("login-failed", "no-grant", "which-role")
        ):
            return self._no_session(exchange) or pages.refused(refusal)
        return pages.refused(refusal)

    def _no_session(self, exchange: Exchange) -> Said | None:
        """The way of a browser to the broker's page, if that is what looks at the answer."""
        if not self.settings.login or not auth.by_browser(exchange.head):
            return None
        return own.to_login(exchange.head, self.settings.login, exchange.client.resource)


def _key(claim: Claim, client: ClientEnd) -> Key:
    return (client.resource, claim.principal, claim.token, claim.role, client.address)


def _host_name(host: bytes) -> str:
    """The name in a Host field, in lower case; empty where it is not written as one."""
    name, colon, port = host.partition(b":") if not host.startswith(b"[") else _literal(host)
    if colon and not (port.isdigit() and len(port) <= 5):
        return ""
    try:
        return name.decode("ascii").lower()
    except UnicodeDecodeError:
        return ""


def _literal(host: bytes) -> tuple[bytes, bytes, bytes]:
    name, _, rest = host[1:].partition(b"]")
    return name, rest[:1], rest[1:]
