"""The Web API: `/api/{method}`. Reads form and JSON bodies, checks the token, the scopes and the limits.

Every answer is Slack's: HTTP 200 with `ok` true or false, HTTP 429 with Retry-After when rate limited.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from . import methods_chat, methods_conversations, methods_files, methods_people, methods_views
from .core import Core
from .errors import SlackError
from .faults import API_FAULTS, Fault
from .limits import rate_limited
from .method import METHODS, Call, Method, need_scope
from .socket_mode import Sockets
from .state import Json

__all__ = ["METHODS", "WebApi"]
_REGISTERED = (methods_chat, methods_conversations, methods_files, methods_people, methods_views)


class LostReply(Response):
    """Promises a body and breaks the connection: the call was done, the caller cannot know."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


class WebApi:
    """`calls` records (method, arguments) in order, for tests that ask what was called."""

    def __init__(self, core: Core, sockets: Sockets) -> None:
        self.core = core
        self.sockets = sockets
        self.calls: list[tuple[str, Json]] = []

    async def handle(self, request: Request) -> Response:
        name = request.path_params["method"]
        if self.core.faults.away:
            return Response("Service Unavailable", status_code=503)
        args = await _arguments(request)
        token = _token(request, args)
        struck = {fault.name: fault for fault in self.core.faults.take(API_FAULTS, name)}
        if "slow" in struck:
            await asyncio.sleep(float(struck["slow"].value or 1))
        if "fail" in struck:
            return Response("Internal Server Error", status_code=int(struck["fail"].value or 500))
        try:
            body, headers = self._call(name, args, token, struck)
        except SlackError as error:
            return JSONResponse(error.body(), status_code=error.status, headers=error.headers)
        if "lose_reply" in struck:
            return LostReply()
        return JSONResponse({"ok": True, **body}, headers=headers)

    def _call(
        self, name: str, args: Json, token: str, struck: dict[str, Fault]
    ) -> tuple[Json, dict[str, str]]:
        if "rate_limit" in struck:
            raise rate_limited(float(struck["rate_limit"].value or 1))
        if "error" in struck:
            raise SlackError(str(struck["error"].value))
        if name == "apps.connections.open":
            return self._connections_open(token), {}
        method = METHODS.get(name)
        if method is None:
            raise SlackError("unknown_method", req_method=name)
        scopes = self._scopes(method, token)
        need_scope(scopes, method.scopes)
        self.core.limits.call(name, method.tier)
        self.calls.append((name, args))
        body = method.handler(Call(self.core, name, args, scopes))
        return body, {"X-OAuth-Scopes": ",".join(sorted(scopes))}

    def _scopes(self, method: Method, token: str) -> frozenset[str]:
        if not method.needs_token:
            return frozenset()
        if not token:
            raise SlackError("not_authed")
        if token == self.core.app.app_token:
            raise SlackError("not_allowed_token_type")
        if token != self.core.app.bot_token:
            raise SlackError("invalid_auth")
        return self.core.app.bot_scopes

    def _connections_open(self, token: str) -> Json:
        if not token:
            raise SlackError("not_authed")
        if token == self.core.app.bot_token:
            raise SlackError("not_allowed_token_type")
        if token != self.core.app.app_token:
            raise SlackError("invalid_auth")
        self.core.limits.call("apps.connections.open", 3)
        address = self.core.base_url.replace("http", "ws", 1)
        return {"url": f"{address}/link?ticket={self.sockets.ticket()}&app_id={self.core.app.id}"}


async def _arguments(request: Request) -> Json:
    args: Json = dict(request.query_params)
    content_type = request.headers.get("content-type", "").split(";")[0].strip()
    if content_type == "application/json":
        try:
            body: Any = json.loads(await request.body() or b"{}")
        except ValueError:
            body = {}
        args |= body if isinstance(body, dict) else {}
    elif content_type:
        form = await request.form()
        args |= {key: value for key, value in form.items() if isinstance(value, str)}
    return args


def _token(request: Request, args: Json) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return str(args.get("token") or "")
