"""Who a request is from, by what it brings: a token of their own, or the cookie of a login for this host."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Literal

from proxy.http import fields
from proxy.http.codec import Malformed, RequestHead

OWN_FIELD = b"portcullis-authorization"
"""For clients whose Authorization belongs to the service."""
ROLE_FIELD = b"portcullis-role"
_LONGEST = 4096
SESSION_COOKIE, WAY_COOKIE = fields.OUR_COOKIES


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody says who they are, with the token that proves it. `principal` may be empty: a token names
    its own. `by` is how it came.
    """

    principal: str
    token: str = field(repr=False)
    role: str
    by: Literal["bearer", "basic", "own", "cookie"]

    @property
    def spends_authorization(self) -> bool:
        """Whether the Authorization field was for the gate, and so is not for the service."""
        return self.by in ("bearer", "basic")


def read(head: RequestHead) -> Claim | None:
    """The claim of a request; None where it brings nothing that the gate knows. Raises Malformed.

    What is said to the gate by its own field or cookie leaves Authorization to the service.
    """
    role = _text(head.get(ROLE_FIELD) or b"")
    own = head.all(OWN_FIELD)
    if len(own) > 1:
        raise Malformed("a request says once who it is from")
    if own:
        found = _authorization(own[0], role)
        return Claim(found.principal, found.token, found.role, "own") if found else None
    cookie = fields.our_cookie(head, SESSION_COOKIE)
    if cookie:
        return Claim("", _text(cookie), role, "cookie")
    said = head.all(b"authorization")
    if len(said) > 1:
        raise Malformed("a request says once who it is from")
    return _authorization(said[0], role) if said else None


def _authorization(value: bytes, role: str) -> Claim | None:
    scheme, _, rest = value.partition(b" ")
    rest = rest.strip(b" ")
    if len(value) > _LONGEST:
        return None
    if scheme.lower() == b"bearer":
        # `role~token` for programs that can send a token and nothing else; neither has a ~ in it.
        named, tilde, token = _text(rest).partition("~")
        return Claim("", token, named or role, "bearer") if tilde else Claim("", named, role, "bearer")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _, token = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    principal, _, named = user.partition("/")
    return Claim(principal, token, named or role, "basic")


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("who a request is from is said in ASCII") from None


def of_this_host(head: RequestHead) -> bool:
    """Whether a request that a browser sends with its cookie by itself comes from a page of the same host.

    Another service behind the same gate is the same site to a browser, so that SameSite does not part the
    two; Origin and Sec-Fetch-Site do.
    """
    origin = head.get(b"origin")
    if origin is not None:
        return origin.lower() == b"https://" + head.host.lower()
    site = head.get(b"sec-fetch-site")
    return site in (None, b"same-origin", b"none")


def by_browser(head: RequestHead) -> bool:
    """Whether a person looks at what is answered: a browser that opens a page."""
    mode = head.get(b"sec-fetch-mode")
    if mode is not None:
        return mode == b"navigate"
    return head.method in ("GET", "HEAD") and b"text/html" in (head.get(b"accept") or b"")
