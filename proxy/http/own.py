"""The gate's own places at a service's host: coming back from the broker's page, and waiting for a decision.

A browser without a session is sent to the broker with a challenge; the verifier stays in a cookie of this
host. What the broker sends back is half of a token, of no use without the verifier (the shape of PKCE, RFC
7636): neither a stolen address nor a link that somebody else has prepared opens anything. Nothing in an
address says where the browser goes afterwards, so that nobody else can.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from proxy.http import auth, fields, place
from proxy.http.auth import SESSION_COOKIE, WAY_COOKIE, Claim
from proxy.http.codec import Header, Malformed, RequestHead
from proxy.http.holding import PAGE, said_held
from proxy.http.kinds import Request
from proxy.http.pages import Said, Turned

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange

PREFIX = b"/.portcullis/"
_ENTER = PREFIX + b"enter"
_LEAVE = PREFIX + b"leave"
_WAY = re.compile(rb"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]*)")
_CODE = re.compile(r"[A-Za-z0-9_-]{20,100}")
_ATTRIBUTES = b"; Path=/; Secure; HttpOnly; SameSite=Lax"
_WAY_SECONDS = 900
_LONGEST_BACK = 2000
_NOT_OVER = Said(
    400,
    "login-broken",
    "This login was not begun in this browser, or took too long.",
    "Open the service anew.",
)


def is_own(target: bytes) -> bool:
    """Whether a request is for the gate and not for the service."""
    return target.startswith(PREFIX)


def to_login(head: RequestHead, login: str, resource: str) -> Said:
    """Sends a browser to the broker's page; it comes back to the page that it opened."""
    verifier = _verifier(head) or secrets.token_urlsafe(32)
    back = head.target if head.method in ("GET", "HEAD") and not is_own(head.target) else b"/"
    if len(back) > _LONGEST_BACK:
        back = b"/"
    kept = verifier.encode() + b"." + base64.urlsafe_b64encode(back).rstrip(b"=")
    asked = urlencode({"resource": resource, "challenge": challenge_of(verifier)})
    headers = (
        (b"location", f"{login}/http/enter?{asked}".encode()),
        _cookie(WAY_COOKIE, kept, _WAY_SECONDS),
    )
    return Said(303, "login", "Log in first.", "", headers)


def challenge_of(verifier: str) -> str:
    """RFC 7636, section 4.2: S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


async def answer(exchange: Exchange) -> None:
    """Answer a request to the gate itself; returns where a held request goes on. Raises Turned, Malformed."""
    head = exchange.head
    path, _, _ = head.target.partition(b"?")
    if path == _ENTER:
        raise Turned(await _enter(exchange))
    if path == _LEAVE:
        if not auth.of_this_host(head):
            raise Turned(Said(403, "cross-site", "A page of another site asked for this; you are still in."))
        headers = (_cookie(SESSION_COOKIE, b"", 0), _cookie(WAY_COOKIE, b"", 0))
        raise Turned(Said(200, "left", "You have left this service.", "", headers))
    if path.startswith(PAGE.encode()) and head.method == "GET":
        await _held(exchange, path[len(PAGE) :].decode())
        return
    raise Turned(Said(404, "no-such-page", "The gate has no such page."))


async def _enter(exchange: Exchange) -> Said:
    """Back from the broker: with the half of the token in the address and the one in the cookie."""
    head = exchange.head
    code = dict(place.read(head.target).query).get("code", "")
    way = _way(head)
    if way is None or _CODE.fullmatch(code) is None:
        return _NOT_OVER
    verifier, back = way
    token = f"pcw_{code}.{verifier}"
    await exchange.client.door.admit(Claim("", token, "", "cookie"), exchange)
    headers = (
        (b"location", back),
        _cookie(SESSION_COOKIE, token.encode(), None),
        _cookie(WAY_COOKIE, b"", 0),
    )
    return Said(303, "in", "You are in.", "", headers)


async def _held(exchange: Exchange, key: str) -> None:
    """The page that waits for a decision about a request of this very session."""
    claim = auth.read(exchange.head)
    session = exchange.client.door.known(claim, exchange.client) if claim is not None else None
    held = session.waiting.get(key) if session is not None else None
    if session is None or held is None:
        raise Turned(
            Said(404, "not-held", "No request waits here (any more).", "Send it again to ask again.")
        )
    if not held.approved and not held.task.done():
        raise Turned(said_held(held, browser=True))
    if held.request.method == "GET" and (held.approved or held.task.done()):
        # The page itself is opened again: what is in it leads on from its own address.
        raise Turned(Said(303, "go-on", "It goes on.", "", ((b"location", held.request.head.target),)))
    exchange.adopt(session, Request(held.request.head, session, browser=True, body=held.request.body))
    await session.fetch(exchange, held)


def _verifier(head: RequestHead) -> str:
    """The verifier of a login that is on its way already, so that two pages opened at once both come in."""
    way = _way(head)
    return way[0] if way is not None else ""


def _way(head: RequestHead) -> tuple[str, bytes] | None:
    """Verifier and the place to go to, from the cookie."""
    said = fields.our_cookie(head, WAY_COOKIE)
    found = _WAY.fullmatch(said or b"")
    if found is None:
        return None
    try:
        back = base64.urlsafe_b64decode(found[2] + b"=" * (-len(found[2]) % 4))
        place.check(back)
    except (ValueError, Malformed):
        back = b"/"
    return found[1].decode(), back


def _cookie(name: bytes, value: bytes, seconds: int | None) -> Header:
    age = b"" if seconds is None else b"; Max-Age=%d" % seconds
    return (b"set-cookie", name + b"=" + value + _ATTRIBUTES + age)
