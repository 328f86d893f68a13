"""The page: a Slack look-alike in the browser, its snapshot, its acts, its live updates, and the faults.

The page is for loopback and has no log-in: whoever opens it may be anybody. So that no other website can use
it through the reader's browser, acts must be JSON, and the Host and Origin headers must be the sandbox's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from .admin import Admin
from .client import Client, Surface
from .core import Core
from .delivery import Deliverer, Delivery
from .errors import NotPossible
from .faults import API_FAULTS, DELIVERY_FAULTS
from .page_view import snapshot
from .socket_mode import Sockets
from .state import Json, Message, User, View

STATIC = Path(__file__).parent / "static"
LIVE_EVERY_SECONDS = 0.03
LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "::1"}

Endpoint = Callable[[Request], Awaitable[Response]]


def is_ours(request: HTTPConnection, base_url: str) -> bool:
    """Whether the Host is loopback or the sandbox's address, and the Origin (if any) is that same host."""
    host = request.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if name not in LOOPBACK and host != urlsplit(base_url).netloc:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


class Page:
    def __init__(
        self, core: Core, client: Client, deliverer: Deliverer, sockets: Sockets, admin: Admin
    ) -> None:
        self.core = core
        self.client = client
        self.deliverer = deliverer
        self.sockets = sockets
        self.admin = admin

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        async def only_ours(request: Request) -> Response:
            if not is_ours(request, self.core.base_url):
                return PlainTextResponse("This page answers only to its own address.", status_code=403)
            return await endpoint(request)

        return only_ours

    async def index(self, _request: Request) -> Response:
        policy = "default-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:"
        headers = {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Cache-Control": "no-store"}
        return FileResponse(STATIC / "index.html", headers=headers)

    async def view(self, request: Request) -> Response:
        try:
            user = (
                self.core.state.user_named(request.query_params["user"])
                if "user" in request.query_params
                else None
            )
        except LookupError:
            user = None
        channel, thread = request.query_params.get("channel"), request.query_params.get("thread")
        return JSONResponse(snapshot(self.core, user, channel, thread))

    async def act(self, request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return PlainTextResponse("acts are JSON", status_code=415)
        try:
            asked = await request.json()
            user = self.core.state.user_named(asked["user"])
            outcome = await getattr(self, f"_act_{_known(asked['do'])}")(user, asked)
        except (NotPossible, LookupError, ValueError) as error:
            return JSONResponse({"ok": False, "error": str(error)})
        return JSONResponse({"ok": True, **_outcome(outcome)})

    # -- acts ------------------------------------------------------------------------------------------------

    async def _act_type(self, user: User, asked: Json) -> Any:
        channel = self.core.state.channels[asked["channel"]]
        return await self.client.types(user, channel, asked["text"], asked.get("thread"))

    async def _act_press(self, user: User, asked: Json) -> Any:
        surface = self._surface(user, asked)
        self._fill(user, surface, asked)
        return await self.client.presses(
            user, surface, asked["action_id"], asked.get("choice"), block_id=asked.get("block_id")
        )

    async def _act_search(self, user: User, asked: Json) -> Any:
        surface = self._surface(user, asked)
        return {"options": await self.client.searches(user, surface, asked["action_id"], asked["text"])}

    async def _act_submit(self, user: User, asked: Json) -> Any:
        view = self._surface(user, asked)
        if not isinstance(view, View):
            raise NotPossible("only a modal is submitted")
        self._fill(user, view, asked)
        try:
            return await self.client.submits(user, view)
        except NotPossible:
            return {"errors": view.errors}

    async def _act_close(self, user: User, asked: Json) -> Any:
        view = self._surface(user, asked)
        assert isinstance(view, View)
        return await self.client.closes(user, view, everything=bool(asked.get("everything")))

    async def _act_home(self, user: User, _asked: Json) -> Any:
        self.client.opens_home(user)

    async def _act_shortcut(self, user: User, asked: Json) -> Any:
        return await self.client.shortcut(user, asked["callback_id"])

    async def _act_react(self, user: User, asked: Json) -> Any:
        message = self._surface(user, asked)
        assert isinstance(message, Message)
        self.client.reacts(user, message, asked["name"])

    async def _act_read(self, user: User, asked: Json) -> Any:
        mine = self.core.state.read.setdefault(user.id, {})
        if asked["ts"] > mine.get(asked["channel"], ""):
            mine[asked["channel"]] = asked["ts"]
            self.core.state.changed()

    def _surface(self, user: User, asked: Json) -> Surface:
        state = self.core.state
        found = (
            state.view(asked["view"]) if asked.get("view") else state.message(asked["channel"], asked["ts"])
        )
        if found is None or (isinstance(found, View) and found.user != user.id):
            raise NotPossible("this message or view is gone")
        return found

    def _fill(self, user: User, surface: Surface, asked: Json) -> None:
        self.client.puts_in(user, surface, asked.get("values") or {})

    # -- faults ----------------------------------------------------------------------------------------------

    async def faults(self, request: Request) -> Response:
        faults = self.core.faults
        if request.method == "GET":
            armed = [{"fault": f.name, "on": f.on, "times": f.times, "value": f.value} for f in faults.armed]
            kinds = {"api": API_FAULTS, "delivery": DELIVERY_FAULTS, "other": OTHER_FAULTS}
            return JSONResponse(
                {"armed": armed, "away": faults.away, "held": len(faults.held), "kinds": kinds}
            )
        try:
            await self._fault(await request.json())
        except (ValueError, KeyError, LookupError) as error:
            return JSONResponse({"ok": False, "error": str(error)}, status_code=400)
        return JSONResponse({"ok": True})

    async def _fault(self, asked: Json) -> None:
        name = asked["fault"]
        faults = self.core.faults
        if name == "away":
            faults.go_away()
        elif name == "back":
            faults.come_back()
        elif name == "clear":
            faults.clear()
        elif name == "release":
            faults.release(reverse=bool(asked.get("reverse")))
        elif name == "disconnect":
            await self.sockets.disconnect(asked.get("value") or "refresh_requested")
        elif name == "half_open":
            self.sockets.half_open()
        elif name == "expire_triggers":
            self.core.state.expire_triggers()
        elif name == "delete_message":
            message = self.core.state.message(asked["channel"], asked["ts"])
            if message is None:
                raise LookupError("there is no such message")
            self.admin.deletes(message)
        else:
            faults.arm(name, asked.get("on", "*"), int(asked.get("times", 1)), asked.get("value"))

    # -- live ------------------------------------------------------------------------------------------------

    async def live(self, web: WebSocket) -> None:
        if not is_ours(web, self.core.base_url):
            await web.close(code=4403)
            return
        await web.accept()
        changed = asyncio.Event()
        self.core.state.listeners.append(changed.set)
        gone = asyncio.create_task(_until_gone(web))
        try:
            while not gone.done():
                await web.send_text(json.dumps({"version": self.core.state.version}))
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                await asyncio.sleep(LIVE_EVERY_SECONDS)
                changed.clear()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self.core.state.listeners.remove(changed.set)
            gone.cancel()


OTHER_FAULTS = {
    "away": "the whole workspace answers 503 and closes its sockets, until `back`",
    "back": "ends `away`",
    "clear": "forgets every armed fault",
    "release": "lets held deliveries go; `reverse`: last first",
    "disconnect": "a Socket Mode disconnect frame; value is its reason",
    "half_open": "the open sockets look alive but carry nothing",
    "expire_triggers": "every trigger id given out so far is expired",
    "delete_message": "an admin deletes the message at `channel` and `ts`",
}
ACTS = ("type", "press", "search", "submit", "close", "home", "shortcut", "react", "read")


def _known(act: str) -> str:
    if act not in ACTS:
        raise ValueError(f"no act {act!r}; there are {', '.join(ACTS)}")
    return act


def _outcome(outcome: Any) -> Json:
    if isinstance(outcome, Delivery):
        return {"trouble": outcome.error}
    return outcome if isinstance(outcome, dict) else {}


async def _until_gone(web: WebSocket) -> None:
    try:
        while True:
            await web.receive_text()
    except (WebSocketDisconnect, RuntimeError):
        return


def page_routes(
    core: Core, client: Client, deliverer: Deliverer, sockets: Sockets, admin: Admin
) -> list[BaseRoute]:
    page = Page(core, client, deliverer, sockets, admin)
    return [
        Route("/", page.guarded(page.index)),
        Route("/sandbox/view", page.guarded(page.view)),
        Route("/sandbox/act", page.guarded(page.act), methods=["POST"]),
        Route("/sandbox/faults", page.guarded(page.faults), methods=["GET", "POST"]),
        WebSocketRoute("/sandbox/live", page.live),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
