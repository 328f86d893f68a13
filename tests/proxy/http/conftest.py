"""A real service (aiohttp), real clients, and gates between them that an authority in memory commands."""

# ruff: noqa: E501  (a line of a corpus stays one line; nothing sleeps but in a loop)

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy import tls
from proxy.authority import Admission, Knock, Upstream
from proxy.gate import Gate, GateSettings
from proxy.http.door import HttpSettings, http_context
from tests.proxy.conftest import Ended, MemoryAuthority
from workflows.http import HttpTerms
from workflows.model import Refusal

TOKEN = "pce_ada-token-1"
DOMAIN = "gate.test"
HOST = f"grafana.{DOMAIN}"
SECRET = "Bearer the-sealed-credential"
SIGNED = "a.signed.identity"


class HttpAuthority(MemoryAuthority):
    """Also takes a token that names its person itself, as the broker does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.tokens = {TOKEN: "ada", "pce_bob-token-1": "bob"}

    def service_grant(
        self, upstream: Upstream, seconds: float = 3600, *, resource: str = "grafana", **terms: Any
    ) -> str:
        ours = {name: terms.pop(name) for name in ("guardrails", "detect", "max_sessions") if name in terms}
        grant = self.grant(upstream, seconds, http=HttpTerms(**terms), **ours)
        self.grants[grant] = replace(self.grants[grant], resource=resource, role="viewer")
        return grant

    async def admit(self, knock: Knock) -> Admission | Refusal:
        if not knock.principal:
            knock = replace(knock, principal=self.tokens.get(knock.token, ""))
        answer = await super().admit(knock)
        wrong = isinstance(answer, Refusal) and answer.code == "wrong-token"
        return replace(answer, code="login-failed") if wrong else answer


class Service:
    """The service behind the gate, and what reached it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.written = 0
        self.port = 0
        self.gone = asyncio.Event()
        self.go = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/ws", self._ws)
        app.router.add_get("/events", self._events)
        app.router.add_get("/flood", self._flood)
        app.router.add_get("/file", self._file)
        app.router.add_post("/count", self._count)
        app.router.add_get("/moved", self._moved)
        app.router.add_get("/status/{code}", self._status)
        app.router.add_route("*", "/{rest:.*}", self._echo)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.go.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def upstream(self, **changes: Any) -> Upstream:
        headers = (("Authorization", SECRET), ("Portcullis-Identity", SIGNED))
        it = Upstream("127.0.0.1", self.port, "", "", "", "disable", headers=headers)
        return replace(it, **changes)

    def _note(self, request: web.Request) -> None:
        self.requests.append((request.method, request.raw_path))

    async def _echo(self, request: web.Request) -> web.Response:
        self._note(request)
        body = await request.read()
        headers = [[name.lower(), value] for name, value in request.headers.items()]
        said = {
            "method": request.method,
            "path": request.raw_path,
            "headers": headers,
            "body": body.decode("latin-1"),
        }
        return web.json_response(said)

    async def _count(self, request: web.Request) -> web.Response:
        self._note(request)
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        return web.json_response({"size": size})

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]))

    async def _moved(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://127.0.0.1:{self.port}/there?x=1")

    async def _file(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(Path(__file__))

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        self._note(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        try:
            async for message in ws:
                if message.type == aiohttp.WSMsgType.TEXT:
                    await ws.send_str(f"you said {message.data}")
                elif message.type == aiohttp.WSMsgType.BINARY:
                    await ws.send_bytes(message.data)
        finally:
            self.gone.set()
        return ws

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            await answer.write(b"data: first\n\n")
            await self.go.wait()
            await answer.write(b"data: second\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.gone.set()
            raise
        self.gone.set()
        return answer

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            for _ in range(4096):
                await answer.write(b"x" * 65536)
                self.written += 65536
        return answer


class RawTarget:
    """A service of bytes: answers each connection with what it is told to."""

    def __init__(self, *answers: bytes, close: bool = True) -> None:
        self.answers = list(answers)
        self.close = close
        self.got: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while self.answers:
                self.got.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answers.pop(0))
                await writer.drain()
                if self.close:
                    break
            if self.close:
                writer.write_eof()
            await reader.read()  # what was not read would make a reset of the end
        writer.close()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def upstream(self, **changes: Any) -> Upstream:
        return replace(Upstream("127.0.0.1", self.port, "", "", "", "disable"), **changes)


class _Here(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


@dataclass
class HttpHouse(Ended):
    """A gate in front of the service."""

    gate: Gate
    authority: HttpAuthority
    service: Service
    ca: Path

    @property
    def port(self) -> int:
        assert self.gate.http is not None
        return self.gate.http.port

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def address(self, path: str = "/", name: str = HOST) -> str:
        return f"https://{name}:{self.port}{path}"

    def client(self, token: str = TOKEN, **more: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(resolver=_Here(), ssl=self.context())
        headers = (
            {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
            if token
            else more.pop("headers", {})
        )
        return aiohttp.ClientSession(connector=connector, headers=headers, **more)

    async def open(self, name: str = HOST) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context(), server_hostname=name)

    async def raw(self, data: bytes, *, name: str = HOST, wait: float = 5.0) -> bytes:
        """Send these bytes and take what comes until the gate closes, or nothing more has come for a moment."""
        reader, writer = await self.open(name)
        writer.write(data)
        got = b""
        with suppress(TimeoutError, ConnectionError):
            while piece := await asyncio.wait_for(reader.read(65536), wait if not got else 0.3):
                got += piece
        writer.close()
        return got

    async def curl(self, *arguments: str, token: str = TOKEN) -> tuple[int, bytes, str]:
        """Run the real curl; exit code, output and what it said."""
        pipe = asyncio.subprocess.PIPE
        known = ("--cacert", str(self.ca), "--resolve", f"{HOST}:{self.port}:127.0.0.1")
        who = ("-H", f"Authorization: Bearer {token}") if token else ()
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--max-time", "30", *known, *who, *arguments, stdout=pipe, stderr=pipe
        )
        out, err = await process.communicate()
        return process.returncode or 0, out, err.decode()


def request(line: str = "GET / HTTP/1.1", *headers: str, body: bytes = b"", host: str = HOST) -> bytes:
    """A request of Ada's, as bytes."""
    lines = [line, f"Host: {host}", f"Authorization: Bearer {TOKEN}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@pytest.fixture(scope="session")
def http_identity(tmp_path_factory: pytest.TempPathFactory) -> tls.Identity:
    names = ["127.0.0.1", "localhost", f"*.{DOMAIN}", "gate.elsewhere"]
    return tls.self_made(tmp_path_factory.mktemp("http-tls"), names, datetime.now(UTC))


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    it = Service()
    await it.start()
    yield it
    await it.stop()


OpenHouse = Callable[..., Awaitable[HttpHouse]]


@pytest.fixture
async def open_http(
    http_identity: tls.Identity, service: Service, tmp_path: Path
) -> AsyncIterator[OpenHouse]:
    """Opens gates; each call takes HttpSettings to change."""
    gates: list[Gate] = []

    async def build(**changes: Any) -> HttpHouse:
        context = http_context(http_identity.certificate, http_identity.key)
        http = HttpSettings("127.0.0.1", 0, DOMAIN, context, ("127.0.0.1", "localhost", "gate.elsewhere"))
        settings = GateSettings(
            name="gate-1",
            recordings=tmp_path / f"recordings{len(gates)}",
            tls=tls.server_context(http_identity.certificate, http_identity.key),
            renew_every=0.2,
            http=replace(http, **changes),
        )
        authority = HttpAuthority(asyncio.get_running_loop().time)
        gate = Gate(authority, settings)
        await gate.start()
        gates.append(gate)
        return HttpHouse(gate, authority, service, http_identity.ca)

    yield build
    for gate in gates:
        await gate.stop()


@pytest.fixture
async def house(open_http: OpenHouse, service: Service) -> HttpHouse:
    """A gate with an hour's grant for Ada on grafana."""
    it = await open_http()
    it.authority.service_grant(service.upstream())
    return it


@pytest.fixture
async def behind(
    open_http: OpenHouse,
) -> AsyncIterator[Callable[..., Awaitable[tuple[HttpHouse, RawTarget]]]]:
    """Opens a gate before a service of bytes."""
    targets: list[RawTarget] = []

    async def build(*answers: bytes, close: bool = True, **terms: Any) -> tuple[HttpHouse, RawTarget]:
        target = RawTarget(*answers, close=close)
        await target.start()
        targets.append(target)
        it = await open_http()
        it.authority.service_grant(target.upstream(), **terms)
        return it, target

    yield build
    for target in targets:
        target.stop()
