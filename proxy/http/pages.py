"""What the gate itself answers: a page for people, a problem (RFC 9457) for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from proxy.http import codec
from proxy.http.codec import Header
from workflows.model import Refusal

_HTML = b"text/html; charset=utf-8"
_PROBLEM = b"application/problem+json"
_ALWAYS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"portcullis", b"answered-by-gate"),
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:12vh auto;padding:0 1rem;color:#1c2430}"
    "h1{font-size:1.3rem}p{margin:.6rem 0}.way{color:#52606d}@media(prefers-color-scheme:dark)"
    "{body{background:#14181d;color:#e5e9ee}.way{color:#9aa5b1}}"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What happened, why, and what to do next. `headers` go with it; `again` has a browser come back by
    itself after so many seconds, to `back` where that is another page.
    """

    status: int
    code: str
    why: str
    way_out: str = ""
    headers: tuple[Header, ...] = ()
    again: int = 0
    back: str = ""


class Turned(Exception):
    """A request goes no further; `said` answers it."""

    def __init__(self, said: Said) -> None:
        super().__init__(said.why)
        self.said = said


def refused(refusal: Refusal, status: int = 403) -> Said:
    """The broker's no."""
    status = {"login-failed": 401, "no-broker": 503, "not-ready": 503, "stopping": 503}.get(
        refusal.code, status
    )
    headers: tuple[Header, ...] = CHALLENGE if status == 401 else ()
    if status == 503:
        headers = ((b"retry-after", b"2"),)
    return Said(status, refusal.code, refusal.why, refusal.way_out, headers)


CHALLENGE: tuple[Header, ...] = (
    (b"www-authenticate", b'Bearer realm="Portcullis"'),
    (b"www-authenticate", b'Basic realm="Portcullis", charset="UTF-8"'),
)


def body(said: Said, *, html: bool) -> tuple[bytes, bytes]:
    """Media type and body."""
    if html:
        return _HTML, _page(said)
    told = {"status": said.status, "code": said.code, "title": said.why, "detail": said.way_out}
    return _PROBLEM, json.dumps({key: value for key, value in told.items() if value}).encode() + b"\n"


def answer(
    said: Said, kind: bytes, body: bytes, *, close: bool, method: str, extra: Sequence[Header] = ()
) -> bytes:
    """A whole answer of the gate's own."""
    headers = [*_ALWAYS, *said.headers, *extra]
    if said.status not in (204, 304):
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    if close:
        headers.append((b"connection", b"close"))
    head = codec.response(said.status, codec.reason_of(said.status), headers)
    return head if method == "HEAD" else head + body


def _page(said: Said) -> bytes:
    back = f";url={escape(said.back)}" if said.back else ""
    again = f'<meta http-equiv="refresh" content="{said.again}{back}">' if said.again else ""
    way_out = f'<p class="way">{escape(said.way_out)}</p>' if said.way_out else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}<meta name="robots" '
        f'content="noindex"><title>Portcullis</title><style>{_STYLE}</style></head><body><h1>'
        f"{escape(said.why)}</h1>{way_out}</body></html>\n"
    ).encode()
