"""The Slack bot as one object: made with a service and tokens, started, stopped.

With an app token it listens over Socket Mode, with a signing secret over HTTP (`asgi`, path /slack/events),
with both over both. `SLACK_API_URL` points it at another server of Slack's Web API, such as the sandbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
from slack_bolt import BoltResponse
from slack_bolt.adapter.starlette.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.error import BoltUnhandledRequestError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot.courier import Courier
from bot.desk import Body, Desk, Moment, team_of, user_of
from bot.ledger import Ledger
from bot.people import People
from bot.slack import Pace, make_client
from bot.sockets import Sockets
from bot.wiring import wire
from broker.outbox import Outbox
from broker.recordings import Recordings
from broker.runs import Runs
from broker.service import Service
from broker.settings import Settings
from workflows.model import Principal, Refusal

log = structlog.get_logger(__name__)

EVENTS_PATH = "/slack/events"
MAX_BODY = 1_000_000
WRONG_WORKSPACE = Refusal(
    "wrong-workspace", "You are not a member of the workspace that this bot serves.", "Ask one who is."
)


class NotConfigured(ValueError):
    """The tokens do not suffice; the text says which one is missing and where to find it."""


class Bot:
    """`asgi` is to be mounted or served for HTTP mode; it refuses everything where there is no secret."""

    def __init__(
        self, desk: Desk, courier: Courier, app: AsyncApp, sockets: Sockets | None, http: bool
    ) -> None:
        self.desk = desk
        self.courier = courier
        self.app = app
        self.sockets = sockets
        self.asgi = _asgi(app if http else None)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to deliver cards, and to listen over Socket Mode where there is an app token."""
        self._tasks = [asyncio.create_task(self.courier.run(), name="courier")]
        if self.sockets is not None:
            self._tasks.append(asyncio.create_task(self.sockets.run(), name="sockets"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def troubles(self) -> list[str]:
        """What is not well, for /readyz."""
        down = [f"{task.get_name()} has stopped" for task in self._tasks if task.done()]
        if self.sockets is not None and not self.sockets.connected:
            down.append("no Socket Mode connection")
        return down


def create_bot(
    service: Service,
    settings: Settings,
    *,
    outbox: Outbox | None = None,
    runs: Runs | None = None,
    recordings: Recordings | None = None,
    pace: Pace | None = None,
    sweep_seconds: float = 60.0,
) -> Bot:
    """Make the bot from `settings` (SLACK_BOT_TOKEN and so on); without `runs` no statement can be submitted,
    without `recordings` none of an emergency is told.

    Raises NotConfigured where a token lacks.
    """
    token = settings.slack_bot_token.get_secret_value()
    secret = settings.slack_signing_secret.get_secret_value()
    app_token = settings.slack_app_token.get_secret_value()
    if not token:
        raise NotConfigured("SLACK_BOT_TOKEN is missing: OAuth & Permissions, “Bot User OAuth Token”.")
    if not secret and not app_token:
        raise NotConfigured(
            "Neither SLACK_SIGNING_SECRET (for HTTP: Basic Information, “Signing Secret”) nor "
            "SLACK_APP_TOKEN (for Socket Mode: Basic Information, “App-Level Tokens”, scope "
            "connections:write) is set."
        )
    client = make_client(token, settings.slack_api_url)
    ledger = Ledger(service.store, service.clock)
    desk = Desk(service, client, ledger, People(service, client), settings.public_url, runs)
    box = outbox or Outbox(service.store, service.clock, service.chance)
    courier = Courier(
        service,
        box,
        client,
        ledger,
        pace or Pace(),
        public_url=settings.public_url,
        sweep_seconds=sweep_seconds,
        runs=runs,
        recordings=recordings,
    )
    app = _bolt(desk, secret)
    sockets = Sockets(app, app_token, make_client(token, settings.slack_api_url)) if app_token else None
    return Bot(desk, courier, app, sockets, http=bool(secret))


def _bolt(desk: Desk, secret: str) -> AsyncApp:
    quiet = logging.getLogger("slack_bolt")
    app = AsyncApp(
        client=desk.client,
        signing_secret=secret or "unused: no HTTP endpoint is served",
        raise_error_for_unhandled_request=True,
        logger=quiet,
    )

    @app.middleware
    async def one_workspace(
        body: Body, context: AsyncBoltContext, next: Callable[[], Awaitable[None]]
    ) -> BoltResponse | None:
        """Another workspace's people are refused, even well signed, also in a channel shared with them."""
        installed = context.authorize_result.team_id if context.authorize_result else None
        wanted = desk.service.config.slack.team or installed
        if not wanted or team_of(body) not in ("", wanted) or (installed and installed != wanted):
            log.warning("slack_wrong_workspace", team=team_of(body))
            outsider = Principal(f"slack:{team_of(body)}/{user_of(body)}", "", "")
            await Moment(desk, body, outsider, "").refuse(WRONG_WORKSPACE)
            return BoltResponse(status=403, body=WRONG_WORKSPACE.why)
        await next()
        return None

    @app.error
    async def failed(error: Exception, body: Body) -> BoltResponse | None:
        """A click is never silently ignored: whoever pressed is told, with a number to ask for."""
        if isinstance(error, BoltUnhandledRequestError):
            log.error("slack_unhandled", kind=body.get("type"), callback=_named(body))
            return BoltResponse(status=404, body="unhandled request")
        reference = desk.service.chance.id("E")
        log.error("slack_failed", reference=reference, kind=body.get("type"), exc_info=error)
        moment = Moment(desk, body, Principal("", "", ""), "")
        await moment.say(f"⚠️ That failed, ref #{reference}. `/access status` tells what is so now.")
        return None

    wire(app, desk)
    return app


def _named(body: Body) -> str:
    """The name of what nobody handles; names are ours, never a person's text."""
    action = (body.get("actions") or [{}])[0].get("action_id")
    return str(action or body.get("callback_id") or (body.get("view") or {}).get("callback_id") or "")[:80]


def _asgi(app: AsyncApp | None) -> Starlette:
    handler = AsyncSlackRequestHandler(app) if app is not None else None

    async def events(request: Request) -> Response:
        if handler is None:
            return PlainTextResponse("This bot listens over Socket Mode only.", status_code=404)
        length: Any = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            return PlainTextResponse("The body is too long or of unknown length.", status_code=413)
        return await handler.handle(request)

    return Starlette(routes=[Route(EVENTS_PATH, events, methods=["POST"])])
