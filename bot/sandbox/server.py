"""The sandbox as one object: its ASGI application, its server, its people, its faults."""

from __future__ import annotations

import asyncio
import copy
import socket
import time
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from . import answers, persist
from .admin import Admin
from .client import Client
from .config import Workspace
from .core import Core
from .delivery import ACK_SECONDS, RETRY_DELAYS, Deliverer, Delivery
from .driver import Driver
from .errors import SlackError
from .faults import Faults
from .limits import Limits
from .methods_files import receive_upload
from .page import page_routes
from .seed import seed
from .serving import Server
from .socket_mode import Sockets
from .state import Clock, Json, State
from .web_api import WebApi

SAVE_AFTER_SECONDS = 0.2


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; OSError, saying what to do, where the address is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = f"the Slack page cannot be served on {host}:{port} ({error.strerror}); choose another port"
        raise OSError(error.errno, reason) from error
    return listener


class Sandbox:
    """Made by `create_sandbox`. Use `start`/`stop`, or `async with sandbox:` for an ephemeral port."""

    def __init__(
        self,
        workspace: Workspace,
        clock: Clock,
        *,
        state_file: Path | None,
        ack_seconds: float,
        retry_delays: tuple[float, ...],
        rate_limits: bool,
        rate_clock: Callable[[], float],
    ) -> None:
        self.workspace = workspace
        self.state = State(clock)
        self.state_file = state_file
        if state_file is not None:
            persist.load_file(self.state, state_file)
        self.faults = Faults()
        self.core = Core(workspace, self.state, clock, Limits(rate_clock, rate_limits), self.faults)
        self.sockets = Sockets(workspace.app.id, clock)
        self.deliverer = Deliverer(
            self.core, self.sockets, ack_seconds=ack_seconds, retry_delays=retry_delays
        )
        self.client = Client(self.core, self.deliverer)
        self.admin = Admin(self.core)
        self.web_api = WebApi(self.core, self.sockets)
        self.asgi = Starlette(routes=self._routes())
        self.faults.on_away = self._went_away
        self._server: Server | None = None
        self._saving: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()
        seed(self.state, workspace)
        self.state.listeners.append(self._save_soon)

    # -- running ---------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve on host and port (0 picks a free one). The base URL, also in `base_url` from now on."""
        listener = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.core.base_url = f"http://{shown}:{listener.getsockname()[1]}"
        self._server = Server(self.asgi, ws="wsproto")
        await self._server.begin(listener)
        return self.core.base_url

    async def stop(self) -> None:
        """Stop serving and write the state file. `start` may be called again."""
        await self.deliverer.close()
        await self.sockets.drop()
        if self._server is not None:
            await self._server.end()
            self._server = None
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        self.save()

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def save(self) -> None:
        """Write the state file now, if there is one."""
        if self.state_file is not None:
            persist.save_file(self.state, self.state_file)

    def _save_soon(self) -> None:
        if self.state_file is None or self._saving is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._saving = loop.call_later(SAVE_AFTER_SECONDS, self._save_now)

    def _save_now(self) -> None:
        self._saving = None
        self.save()

    # -- addresses -------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return self.core.base_url

    @base_url.setter
    def base_url(self, url: str) -> None:
        self.core.base_url = url.rstrip("/")

    @property
    def api_url(self) -> str:
        """The `base_url` for `AsyncWebClient`."""
        return f"{self.core.base_url}/api/"

    @property
    def request_url(self) -> str | None:
        """Where the app's HTTP endpoint is; None for Socket Mode. May be set at any time."""
        return self.deliverer.request_url

    @request_url.setter
    def request_url(self, url: str | None) -> None:
        self.deliverer.request_url = url

    # -- people and deliveries -------------------------------------------------------------------------------

    def as_user(self, name: str) -> Driver:
        """Be a person, by handle or id. LookupError where there is none."""
        return Driver(self.client, self.state, self.state.user_named(name))

    @property
    def deliveries(self) -> list[Delivery]:
        """What was brought to the app, oldest first (the latest thousand)."""
        return list(self.deliverer.log)

    @property
    def last_delivery(self) -> Delivery:
        return self.deliverer.log[-1]

    async def replay(
        self, delivery: Delivery, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Delivery:
        """Send a delivery's very bytes again, or with the body or headers changed (the signature is not)."""
        return await self.deliverer.replay(delivery, body=body, headers=headers)

    async def resend(self, delivery: Delivery, alter: Callable[[Json], None]) -> Delivery:
        """Send a delivery anew with its payload altered in place, genuinely signed now: what another
        workspace, or an attacker inside Slack's client, could send."""
        payload = copy.deepcopy(delivery.payload)
        alter(payload)
        return await self.deliverer.send(delivery.kind, payload)

    async def settled(self) -> None:
        """Wait until every event under way was acknowledged or given up."""
        await self.deliverer.settled()

    def calls(self, method: str | None = None) -> list[dict[str, object]]:
        """Arguments of the Web API calls that were let through, oldest first."""
        return [args for name, args in self.web_api.calls if method in (None, name)]

    def _went_away(self) -> None:
        task = asyncio.get_running_loop().create_task(self.sockets.drop())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- routes ----------------------------------------------------------------------------------------------

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/api/{method}", self.web_api.handle, methods=["GET", "POST"]),
            WebSocketRoute("/link", self._link),
            Route("/commands/{team}/{key}", self._response_url, methods=["POST"]),
            Route("/actions/{team}/{key}", self._response_url, methods=["POST"]),
            Route("/upload/v1/{file}", self._upload, methods=["POST"]),
            *page_routes(self.core, self.client, self.deliverer, self.sockets, self.admin),
        ]

    async def _link(self, web: object) -> None:
        self.sockets.refusing = self.faults.away
        await self.sockets.serve(web)  # type: ignore[arg-type]

    async def _response_url(self, request: Request) -> Response:
        if self.faults.away:
            return PlainTextResponse("Service Unavailable", status_code=503)
        try:
            answers.response_url_used(self.core, request.path_params["key"], await request.json())
        except ValueError:
            return PlainTextResponse("invalid_payload", status_code=400)
        except SlackError as error:
            return Response(
                f'{{"ok":false,"error":"{error.code}"}}',
                status_code=error.status,
                media_type="application/json",
            )
        return PlainTextResponse("ok")

    async def _upload(self, request: Request) -> Response:
        content = await request.body()
        if request.headers.get("content-type", "").startswith("multipart/"):
            form = await request.form()
            part = next((item for item in form.values() if not isinstance(item, str)), None)
            content = await part.read() if part is not None else b""
        taken = receive_upload(self.core, request.path_params["file"], content)
        return PlainTextResponse(f"OK - {len(content)}" if taken else "upload refused", 200 if taken else 400)


def create_sandbox(
    workspace: Workspace,
    clock: Clock = time.time,
    *,
    state_file: Path | str | None = None,
    ack_seconds: float = ACK_SECONDS,
    retry_delays: tuple[float, ...] = RETRY_DELAYS,
    rate_limits: bool = True,
    rate_clock: Callable[[], float] = time.monotonic,
) -> Sandbox:
    """A workspace ready to be served.

    `clock` gives seconds since the epoch: message time stamps, signatures, trigger ids (3 s) and response
    URLs (30 min) follow it. `ack_seconds` and `retry_delays` are real seconds; rate limits follow
    `rate_clock`.
    With `state_file` the workspace is kept there and found again. ValueError where that file is damaged.
    """
    return Sandbox(
        workspace,
        clock,
        state_file=Path(state_file) if state_file is not None else None,
        ack_seconds=ack_seconds,
        retry_delays=retry_delays,
        rate_limits=rate_limits,
        rate_clock=rate_clock,
    )
