"""Logging in over HTTP: a browser's way to the identity provider and back, a command line's two ways."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, StringConstraints

from broker.api.auth import P
from broker.api.models import EmptyIn, In
from broker.api.parts import Parts
from broker.api.problems import Problem, documented
from broker.console.pages import render
from broker.identity.answer import LoginError
from broker.identity.device_codes import DEVICE_LIFETIME
from broker.identity.logins import DEVICE_INTERVAL, Came, CliGoal, Goal, Logins, WebGoal
from broker.identity.people import DEFAULT
from broker.identity.tokens import Issued
from broker.identity.web import own_page
from workflows.model import Refusal

router = APIRouter(tags=["login"])

Secret = Annotated[str, StringConstraints(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
Opaque = Annotated[str, Query(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
Chosen = Annotated[str, Query(max_length=63, pattern=r"^[A-Za-z0-9._-]*$")]
ProviderName = Annotated[str, Path(max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Address = Annotated[str, Query(max_length=320)]
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
    if parts.logins is None or not parts.logins.providers.every():
        raise Problem(
            503,
            Refusal(
                "no-provider",
                "No identity provider is set up here.",
                "Name one in access.yaml (providers), or set PORTCULLIS_OIDC_ISSUER.",
            ),
        )
    return parts.logins


# ------------------------------------------------------------- the browser


@router.get("/login", include_in_schema=False, response_model=None)
async def login(parts: P, next: str = "/", provider: Chosen = "", email: Address = "") -> Response:
    return await _to_provider(parts, WebGoal(next), provider, email, {"next": own_page(next)})


@router.get("/auth/cli/start", include_in_schema=False, response_model=None)
async def cli_start(
    parts: P,
    port: Annotated[int, Query(ge=1024, le=65535)],
    challenge: Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{43}$")],
    state: Opaque,
    provider: Chosen = "",
    email: Address = "",
) -> Response:
    asked = {"port": str(port), "challenge": challenge, "state": state}
    return await _to_provider(parts, CliGoal(port, challenge, state), provider, email, asked)


async def _to_provider(
    parts: Parts, goal: Goal, provider: str, email: str, asked: dict[str, str]
) -> Response:
    """To the provider that was chosen, or the only one; else let choose.

    What an address leads to is a page, which goes on by itself: a form may not lead to another site.
    """
    logins = logins_of(parts)
    every = logins.providers.every()
    name = provider or (every[0].name if len(every) == 1 else "")
    if not name:
        chosen = logins.providers.of_email(email) if email else None
        return render(
            "providers.html",
            where="/auth/cli/start" if isinstance(goal, CliGoal) else "/login",
            asked=asked,
            providers=every,
            chosen=chosen,
            email=email,
            wrong="No identity provider here speaks for that address." if email and not chosen else "",
        )
    try:
        address, secret = await logins.begin(name, goal)
    except LoginError as error:
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
async def callback(request: Request, parts: P) -> Response:
    """The identity provider that the environment names sent the browser back."""
    return await came_back(request, parts, DEFAULT, each_once(request))


@router.get("/auth/callback/{provider}", include_in_schema=False, response_model=None)
async def callback_of(provider: ProviderName, request: Request, parts: P) -> Response:
    """One of the identity providers of access.yaml sent the browser back."""
    return await came_back(request, parts, provider, each_once(request))


def each_once(request: Request) -> dict[str, str]:
    """The answer; an empty one where something is said twice (RFC 6749 section 3.1), since who reads it first
    may read another than we do.
    """
    said = request.query_params.multi_items()
    return dict(said) if len(dict(said)) == len(said) else {}


async def came_back(request: Request, parts: Parts, provider: str, answer: dict[str, str]) -> Response:
    """Log in whoever came back, in the browser that began it."""
    secret = request.cookies.get(_FLOW_COOKIE, "")
    await parts.service.fresh()
    try:
        came = await logins_of(parts).finish(secret, provider, answer)
    except LoginError as error:
        return await refused(parts, error)
    return await let_in(request, parts, came)


async def refused(parts: Parts, error: LoginError) -> Response:
    await parts.service.note("login.refused", "", {"why": error.why}, actor="", via="api")
    page = render("message.html", 403, title="Not logged in", why=error.why, way_out=error.way_out)
    page.delete_cookie(_FLOW_COOKIE, path="/auth")
    return page


async def let_in(request: Request, parts: Parts, came: Came) -> Response:
    person, goal = came.person, came.goal
    if stopped := parts.service.login_stopped(person.id):
        return await refused(parts, LoginError(stopped.why, stopped.way_out))
    if isinstance(goal, CliGoal):
        code = await logins_of(parts).hand_over(person, goal, came.origin)
        query = urlencode({"code": code, "state": goal.state})
        answer = RedirectResponse(f"http://127.0.0.1:{goal.port}/callback?{query}", 303)
    else:
        former = request.cookies.get(cookie_name(parts), "")
        session = await parts.web.open(person.id, former, came.origin)
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
