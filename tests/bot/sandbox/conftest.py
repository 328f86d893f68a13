"""A small real Bolt app against a real sandbox, over HTTP and over Socket Mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient
from starlette.applications import Starlette
from starlette.routing import Route

from bot.sandbox import App, Group, Person, Room, Sandbox, Workspace, create_sandbox
from bot.sandbox.serving import serving


class FakeClock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def workspace(**app: Any) -> Workspace:
    return Workspace(
        people=(
            Person("ada", "Ada Lovelace", "ada@example.com"),
            Person("grace", "Grace Hopper", "grace@example.com"),
            Person("linus", "Linus Torvalds", "linus@example.com"),
            Person("gus", "Gus Guest", is_ultra_restricted=True),
        ),
        channels=(
            Room("general", topic="Company-wide"),
            Room("approvers", ("grace", "linus"), is_private=True),
            Room("elsewhere", ("ada",), with_app=False),
            Room("old", is_archived=True),
        ),
        groups=(Group("db-owners", ("grace", "linus")),),
        app=App(**app),
    )


@dataclass
class Bolt:
    """The sandbox and an AsyncApp that talks to it; `app` takes listeners as any Bolt app does."""

    sandbox: Sandbox
    app: AsyncApp
    client: AsyncWebClient


@asynccontextmanager
async def serve(app: AsyncApp) -> AsyncIterator[str]:
    handler = AsyncSlackRequestHandler(app)
    asgi = Starlette(routes=[Route("/slack/events", handler.handle, methods=["POST"])])
    async with serving(asgi) as url:
        yield f"{url}/slack/events"


def bolt_app(sandbox: Sandbox) -> AsyncApp:
    token = sandbox.workspace.app.bot_token
    client = AsyncWebClient(token, base_url=sandbox.api_url)
    return AsyncApp(client=client, signing_secret=sandbox.workspace.app.signing_secret)


@asynccontextmanager
async def bolt_over_http(sandbox: Sandbox) -> AsyncIterator[Bolt]:
    async with sandbox:
        app = bolt_app(sandbox)
        async with serve(app) as url:
            sandbox.request_url = url
            yield Bolt(sandbox, app, app.client)


@asynccontextmanager
async def bolt_over_socket(sandbox: Sandbox) -> AsyncIterator[Bolt]:
    async with sandbox:
        app = bolt_app(sandbox)
        handler = AsyncSocketModeHandler(app, sandbox.workspace.app.app_token, web_client=app.client)
        handler.client.web_client = app.client
        await handler.connect_async()
        await until(lambda: len(sandbox.sockets.open) == 1)
        try:
            yield Bolt(sandbox, app, app.client)
        finally:
            await handler.close_async()


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something that tells nobody of itself is true."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(time.time())


@pytest.fixture(params=["http", "socket"])
async def bolt(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[Bolt]:
    """Everything that must hold the same over both transports."""
    sandbox = create_sandbox(workspace(), clock, ack_seconds=1.0, retry_delays=(0.0, 0.0, 0.0))
    connect = bolt_over_http if request.param == "http" else bolt_over_socket
    async with connect(sandbox) as bolt:
        yield bolt


@pytest.fixture
async def http_bolt(clock: FakeClock) -> AsyncIterator[Bolt]:
    sandbox = create_sandbox(workspace(), clock, ack_seconds=1.0, retry_delays=(0.0, 0.0, 0.0))
    async with bolt_over_http(sandbox) as bolt:
        yield bolt


@pytest.fixture
async def socket_bolt(clock: FakeClock) -> AsyncIterator[Bolt]:
    sandbox = create_sandbox(workspace(), clock, ack_seconds=1.0, retry_delays=(0.0, 0.0, 0.0))
    async with bolt_over_socket(sandbox) as bolt:
        yield bolt


@pytest.fixture
async def api(clock: FakeClock) -> AsyncIterator[Bolt]:
    """The Web API alone, with a real client and nobody listening."""
    sandbox = create_sandbox(workspace(), clock)
    async with sandbox:
        app = bolt_app(sandbox)
        yield Bolt(sandbox, app, app.client)


@pytest.fixture
def workspace_with() -> Callable[..., Workspace]:
    """The usual workspace with another `App`."""
    return workspace


@pytest.fixture
def over_socket() -> Any:
    """`async with over_socket(sandbox) as bolt` for a sandbox made by the test."""
    return bolt_over_socket


@pytest.fixture(name="until")
def wait_until() -> Any:
    return until
