"""Logging in over HTTP: a browser's way to the identity provider and back, a command line's two ways."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, StringConstraints

from broker.api.auth import P
from broker.api.models import EmptyIn, In
from broker.api.parts import Parts
from broker.api.problems import Problem, documented
from broker.console.pages import render
from broker.identity.device_codes import DEVICE_LIFETIME
from broker.identity.logins import DEVICE_INTERVAL, CliGoal, Goal, Logins, WebGoal
from broker.identity.oidc import OidcError
from broker.identity.tokens import Issued
from workflows.model import Refusal

router = APIRouter(tags=["login"])

Secret = Annotated[str, StringConstraints(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
Opaque = Annotated[str, Query(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
_FLOW_COOKIE = "portcullis_login"


class CodeIn(In):
    code: Secret
    verifier: Secret


class DeviceIn(In):
    device_code: Secret


class LoginOut(BaseModel):
    """A login token, shown this once. Each use makes it last longer."""

    token: str
    principal: str
    expires_at: datetime


class DeviceOut(BaseModel):
    """`interval` and `expires_in` are seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


def logins_of(parts: Parts) -> Logins:
    if parts.provider is None:
        raise Problem(
            503, Refusal("no-provider", "No identity provider is set up here.", "Set PORTCULLIS_OIDC_ISSUER.")
        )
    everyone = parts.service.config.directory.everyone
    return Logins(
        parts.provider,
        parts.keep,
        parts.tokens,
        parts.chance,
        lambda: everyone().values(),
        parts.principal_claim,
    )


# ------------------------------------------------------------- the browser


@router.get("/login", include_in_schema=False)
async def login(parts: P, next: str = "/") -> RedirectResponse:
    return await _to_provider(parts, WebGoal(next))


@router.get("/auth/cli/start", include_in_schema=False)
async def cli_start(
    parts: P,
    port: Annotated[int, Query(ge=1024, le=65535)],
    challenge: Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{43}$")],
    state: Opaque,
) -> RedirectResponse:
    return await _to_provider(parts, CliGoal(port, challenge, state))


async def _to_provider(parts: Parts, goal: Goal) -> RedirectResponse:
    try:
        address, secret = await logins_of(parts).begin(goal, f"{parts.public_url}/auth/callback")
    except OidcError as error:
        raise Problem(503, Refusal("no-provider", error.why, error.way_out)) from None
    answer = RedirectResponse(address, 303)
    answer.set_cookie(
        _FLOW_COOKIE,
        secret,
        max_age=600,
        path="/auth",
        httponly=True,
        secure=parts.secure,
        samesite="lax",
    )
    return answer


@router.get("/auth/callback", include_in_schema=False, response_model=None)
async def callback(request: Request, parts: P) -> RedirectResponse | HTMLResponse:
    """The identity provider sent the browser back."""
    try:
        secret = request.cookies.get(_FLOW_COOKIE, "")
        await parts.service.fresh()
        person, goal = await logins_of(parts).finish(secret, dict(request.query_params))
        if stopped := parts.service.login_stopped(person.id):
            raise OidcError(stopped.why, stopped.way_out)
    except OidcError as error:
        await parts.service.note("login.refused", "", {"why": error.why}, actor="", via="api")
        page = render("message.html", 403, title="Not logged in", why=error.why, way_out=error.way_out)
        page.delete_cookie(_FLOW_COOKIE, path="/auth")
        return page
    if isinstance(goal, CliGoal):
        query = urlencode({"code": await logins_of(parts).hand_over(person, goal), "state": goal.state})
        answer = RedirectResponse(f"http://127.0.0.1:{goal.port}/callback?{query}", 303)
    else:
        session = await parts.web.open(person.id, request.cookies.get(cookie_name(parts), ""))
        answer = RedirectResponse(goal.page, 303)
        set_session(answer, parts, session.secret)
    how = "command line" if isinstance(goal, CliGoal) else "browser"
    await parts.service.note("login", person.id, {"how": how}, actor=person.id, via="api")
    answer.delete_cookie(_FLOW_COOKIE, path="/auth")
    return answer


def cookie_name(parts: Parts) -> str:
    """With https the name binds the cookie to this host (RFC 6265bis section 4.1.3.2)."""
    return "__Host-portcullis" if parts.secure else "portcullis"


def set_session(answer: RedirectResponse, parts: Parts, secret: str) -> None:
    answer.set_cookie(
        cookie_name(parts), secret, path="/", httponly=True, secure=parts.secure, samesite="lax"
    )


# -------------------------------------------------------- the command line


@router.post("/auth/cli/token", responses=documented(400, 403, 422, 503))
async def cli_token(said: CodeIn, parts: P) -> LoginOut:
    """Redeem the one-time code that came to the loopback listener."""
    await parts.service.fresh()
    redeemed = await logins_of(parts).redeem(said.code, said.verifier)
    if redeemed is None:
        raise Problem(
            403, Refusal("wrong-code", "This code is not good, or was used.", "Start again: access login.")
        )
    return _login_out(*redeemed)


@router.post("/auth/device/start", responses=documented(400, 422, 503))
async def device_start(_said: EmptyIn, parts: P) -> DeviceOut:
    """Begin a login for a command line without a browser: show the code, then ask at every interval."""
    started = await logins_of(parts).devices.start()
    return DeviceOut(
        device_code=started.device_code,
        user_code=started.user_code,
        verification_uri=f"{parts.public_url}/device",
        verification_uri_complete=f"{parts.public_url}/device?code={started.user_code}",
        expires_in=int(DEVICE_LIFETIME.total_seconds()),
        interval=DEVICE_INTERVAL,
    )


@router.post("/auth/device/token", responses=documented(400, 403, 409, 422, 503))
async def device_token(said: DeviceIn, parts: P) -> LoginOut:
    """The login token once the code was confirmed; until then 409 with the code `authorization_pending`."""
    outcome = await logins_of(parts).poll_device(said.device_code)
    match outcome:
        case "pending":
            raise Problem(
                409, Refusal("authorization_pending", "Nobody has confirmed the code yet.", "Ask again.")
            )
        case "denied":
            raise Problem(403, Refusal("access_denied", "The code was turned down in the browser."))
        case "gone":
            raise Problem(
                403, Refusal("expired_token", "This code is not good any more.", "Start again: access login.")
            )
        case (principal, issued):
            await parts.service.fresh()
            if stopped := parts.service.login_stopped(principal):
                await parts.tokens.end(issued.token, via="cli")
                raise Problem(403, stopped)
            await parts.service.note("login", principal, {"how": "code"}, actor=principal, via="cli")
            return _login_out(principal, issued)


def _login_out(principal: str, issued: Issued) -> LoginOut:
    return LoginOut(token=issued.token, principal=principal, expires_at=issued.expires_at)
