"""What every answer and every request of the HTTP side is held to: security headers and a bound on bodies."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.problems import problem_response
from workflows.model import Refusal

BODY_LIMIT = 64 * 1024
GATE_BODY_LIMIT = 8 * 1024 * 1024
"""A gate renews all its sessions in one question."""
CHAT_BODY_LIMIT = 1024 * 1024
SCIM_BODY_LIMIT = 4 * 1024 * 1024
"""A group comes with all its members."""
RUN_BODY_LIMIT = 1024 * 1024
"""The longest statement that may be submitted, with every character escaped."""
SAML_BODY_LIMIT = 512 * 1024
"""A signed answer with many groups, in base 64 and escaped for a form."""

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class SecurityHeaders:
    """Adds what is missing; a mounted application that sets its own keeps it."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._always = {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if secure:
            self._always["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._always.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class BodyLimit:
    """Answers 413 for a body longer than its path allows, whatever Content-Length said.

    The body is read here, whole, before the application sees it: what parses bodies inside would take the
    interruption for a fault of the sender's JSON.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope["path"])
        body = await _read(receive, limit)
        if body is None:
            refusal = Refusal("too-large", f"The body is longer than {limit} bytes.")
            await problem_response(413, refusal, {"Connection": "close"})(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The body; None where it is longer than `limit`. A sender that goes away leaves what it had sent."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


def _limit(path: str) -> int:
    if path.startswith("/gate/"):
        return GATE_BODY_LIMIT
    if path.startswith("/auth/saml/"):
        return SAML_BODY_LIMIT
    if path.startswith("/scim/"):
        return SCIM_BODY_LIMIT
    if path == "/api/v1/runs":
        return RUN_BODY_LIMIT
    return CHAT_BODY_LIMIT if path.startswith("/slack/") else BODY_LIMIT
