"""A cluster for tests: the traffic of a real API server, recorded once and replayed; or the real one.

`Replay` answers what was recorded and nothing else. Execs it serves itself: it runs the command here, and
speaks v5.channel.k8s.io, as the API server does. `proof/kubernetes/run` records anew, against a real API
server with etcd, and runs the same tests with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from proxy.kubernetes import streams

TOKEN = "the-clusters-own-token"
_HOP = {
    "transfer-encoding",
    "connection",
    "keep-alive",
    "content-length",
    "content-encoding",
    "date",
    "audit-id",
}
_ATTACHED = ["sh", "-c", "echo attached; while read -r line; do echo $line | tr a-z A-Z; done"]
_ASKED = ("impersonate-user", "impersonate-group", "accept", "content-type")


@dataclass
class Exchange:
    """One request and its answer. `open` tells that the answer did not end by itself, as a watch's."""

    method: str
    target: str
    asked: dict[str, str]
    sent: str
    status: int
    headers: dict[str, str]
    pieces: list[str] = field(default_factory=list)
    open: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What has to be the same. Accept is: what may be answered depends on it."""
        return self.method, self.target, json.dumps(self.asked, sort_keys=True), self.sent


@dataclass
class Seen:
    """A request as it reached the API server."""

    method: str
    target: str
    headers: Mapping[str, list[str]]
    body: bytes


class Replay:
    """An API server behind TLS on loopback. `seen` is everything that reached it."""

    def __init__(self, tape: Path, certificate: ssl.SSLContext) -> None:
        self.seen: list[Seen] = []
        self.unknown: list[str] = []
        self.port = 0
        self.open = 0
        """Streams that are open now."""
        self.answers_anything = False
        """Whether it answers {} to what was not recorded."""
        self._context = certificate
        self._known: dict[tuple[str, str, str, str], list[Exchange]] = {}
        if tape.exists():
            for line in tape.read_text().splitlines():
                it = Exchange(**json.loads(line))
                self._known.setdefault(it.key, []).append(it)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        self.seen.append(Seen(request.method, request.raw_path, headers, body))
        if headers.get("authorization") != [f"Bearer {TOKEN}"]:
            return web.json_response({"kind": "Status", "status": "Failure", "code": 401}, status=401)
        if headers.get("upgrade") == ["websocket"]:
            self.open += 1
            try:
                return await self.stream(request)
            finally:
                self.open -= 1
        return await self.answer(request, asked(headers), body)

    async def answer(self, request: web.Request, about: dict[str, str], body: bytes) -> web.StreamResponse:
        key = (request.method, request.raw_path, json.dumps(about, sort_keys=True), sent(body))
        found = self._known.get(key)
        if not found and self.answers_anything:
            return web.json_response({})
        if not found:
            self.unknown.append(f"{request.method} {request.raw_path} {about} {body[:2000]!r}")
            return web.json_response(
                {"kind": "Status", "status": "Failure", "code": 500, "message": f"not recorded: {key}"},
                status=500,
            )
        it = found.pop(0) if len(found) > 1 else found[0]
        return await self._play(request, it)

    async def _play(self, request: web.Request, it: Exchange) -> web.StreamResponse:
        response = web.StreamResponse(status=it.status, headers=it.headers)
        self.open += 1
        try:
            await response.prepare(request)
            for piece in it.pieces:
                await response.write(base64.b64decode(piece))
            if it.open:
                await asyncio.Event().wait()  # until the client goes
            await response.write_eof()
        finally:
            self.open -= 1
        return response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """An exec, or an attach to something that says in capitals what it hears."""
        command = _ATTACHED if request.path.endswith("/attach") else request.query.getall("command")
        socket = web.WebSocketResponse(protocols=streams.PROTOCOLS, compress=False)
        await socket.prepare(request)
        await _run(socket, command, tty=request.query.get("tty") == "true")
        return socket


async def _run(socket: web.WebSocketResponse, command: list[str], *, tty: bool) -> None:
    """Run it here, with a terminal if one is asked for."""
    ours, theirs = pty.openpty() if tty else (-1, -1)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=theirs if tty else pipe,
        stdout=theirs if tty else pipe,
        stderr=theirs if tty else pipe,
        start_new_session=True,
    )
    if tty:
        os.close(theirs)
    reading = asyncio.create_task(_feed(socket, process, ours))
    try:
        if tty:
            await _show(socket, streams.OUT, await _reader_of(ours))
        else:
            assert process.stdout is not None
            assert process.stderr is not None
            await asyncio.gather(
                _show(socket, streams.OUT, process.stdout), _show(socket, streams.ERR, process.stderr)
            )
        code = await process.wait()
        outcome: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            message = f"command terminated with non-zero exit code: exit status {code}"
            outcome = {"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
                       "details": {"causes": causes}}  # fmt: skip
        with suppress(ConnectionError):
            await socket.send_bytes(bytes([streams.OUTCOME]) + json.dumps(outcome).encode())
            await socket.close()
    finally:
        reading.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _feed(socket: web.WebSocketResponse, process: asyncio.subprocess.Process, terminal: int) -> None:
    async for message in socket:
        data: bytes = message.data if message.type == aiohttp.WSMsgType.BINARY else b""
        if data[:1] == b"\x00" and terminal >= 0:
            os.write(terminal, data[1:])
        elif data[:1] == b"\x00" and process.stdin is not None:
            process.stdin.write(data[1:])
        elif data[:2] == b"\xff\x00" and process.stdin is not None:
            process.stdin.close()
    with suppress(ProcessLookupError):
        process.kill()


async def _reader_of(terminal: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    file = os.fdopen(terminal, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader


async def _show(socket: web.WebSocketResponse, channel: int, stream: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while data := await stream.read(32 * 1024):
            await socket.send_bytes(bytes([channel]) + data)


class Recorder(Replay):
    """Asks a real API server, and writes down what it answers."""

    def __init__(self, tape: Path, certificate: ssl.SSLContext, real: str, token: str, ca: Path) -> None:
        super().__init__(tape.with_name("none"), certificate)
        tape.parent.mkdir(exist_ok=True)
        self._tape = tape
        self._real = real
        self._token = token
        self._ca = ssl.create_default_context(cafile=str(ca))

    async def answer(self, request: web.Request, about: dict[str, str], body: bytes) -> web.StreamResponse:
        headers = [
            (k, v) for k, v in request.headers.items() if k.lower() not in ("host", "authorization", *_HOP)
        ]
        headers.append(("Authorization", f"Bearer {self._token}"))
        it = Exchange(request.method, request.raw_path, about, sent(body), 0, {})
        async with aiohttp.ClientSession(auto_decompress=True) as client:
            url = URL(f"{self._real}{request.raw_path}", encoded=True)
            try:
                async with client.request(
                    request.method, url, headers=headers, data=body or None, ssl=self._ca
                ) as answer:
                    it.status = answer.status
                    it.headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
                    response = web.StreamResponse(status=it.status, headers=it.headers)
                    it.open = True
                    self.open += 1
                    try:
                        await response.prepare(request)
                        async for piece, _ in answer.content.iter_chunks():
                            it.pieces.append(base64.b64encode(piece).decode())
                            await response.write(piece)
                        it.open = False
                        await response.write_eof()
                    finally:
                        self.open -= 1
                    return response
            finally:
                with self._tape.open("a") as file:
                    file.write(json.dumps(asdict(it)) + "\n")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Whatever the real one makes of a WebSocket."""
        offered = [it.strip() for it in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        headers = [(k, v) for k, v in request.headers.items() if k.lower().startswith("impersonate-")]
        headers.append(("Authorization", f"Bearer {self._token}"))
        url = URL(f"{self._real}{request.raw_path}", encoded=True)
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(url, headers=headers, protocols=offered, ssl=self._ca, max_msg_size=0) as there,
        ):
            chosen = (there.protocol,) if there.protocol else ()
            here = web.WebSocketResponse(protocols=chosen, compress=False, max_msg_size=0)
            await here.prepare(request)
            back = asyncio.create_task(_carry(there, here))
            try:
                await _carry(here, there)
            finally:
                await there.close()
                await back
        return here


async def _carry(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    target: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    with suppress(ConnectionError):
        async for message in source:
            if message.type == aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
    await target.close()


def asked(headers: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: ", ".join(headers[name]) for name in _ASKED if name in headers}


def sent(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")
