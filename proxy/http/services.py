"""HTTP services: guardrails on requests, masks in answers, and which kind of service a grant is for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from proxy.http import guard
from proxy.http.codec import Header, ResponseHead
from proxy.http.kinds import Blocked, Kind, NeedBody, Request, Tap, Transform
from proxy.http.masking import Masking
from proxy.http.sockets import SocketTape
from proxy.kubernetes.kind import Cluster
from proxy.sql.guardrails import Allow, Circumstances, Hold, Judgement, Refuse
from workflows.http import HttpTerms

if TYPE_CHECKING:
    from proxy.http.session import HttpSession

_PASSING = (
    b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"user-agent", b"cookie",
    b"referer", b"origin", b"cache-control", b"pragma", b"date", b"dnt", b"priority", b"expect",
    b"traceparent", b"baggage", b"tracestate", b"x-request-id", b"x-requested-with", b"if-none-match",
    b"if-modified-since", b"prefer", b"upgrade-insecure-requests", b"content-length",
)  # fmt: skip
"""Fields that change nothing about what a request does; any other is part of what is approved."""


_UNMASKED = "what a WebSocket carries cannot be masked, and this role has masks"


def kind_of(session: HttpSession) -> Kind | None:
    """What a session's grant is for; None where it is for nothing behind HTTP."""
    terms = session.admission.terms
    if terms.http is not None:
        return HttpService(session, terms.http)
    if terms.cluster is not None:
        return Cluster(session, terms.cluster)
    return None


class HttpService(Kind):
    """A service of which only HTTP is known."""

    def __init__(self, session: HttpSession, http: HttpTerms) -> None:
        super().__init__(session)
        it = session.admission
        self._http = http
        self._rails = it.terms.guardrails
        self._hold_all = it.terms.hold_all
        self._where = Circumstances(it.principal, it.resource, it.role)
        self._masking = Masking(http, it.terms.detect, it.mask_key) if http.masks or it.terms.detect else None
        self._matter = frozenset(name.lower().encode() for name in http.matter)
        self._reads_sockets = http.record == "bodies"
        if http.websocket:
            self.upgrades = frozenset({b"websocket"})

    def judge(self, request: Request) -> Judgement | NeedBody:
        request.verdict = guard.class_of(request.method).value
        judgement: Judgement | NeedBody = Allow()
        if request.head.upgrade == b"websocket":
            if not self.upgrades:
                return Refuse("websocket", "this role opens no WebSocket", "Ask for a role that does.")
            if self._masking is not None:
                return Refuse("masks", _UNMASKED, "Ask for a role without masks.")
        if self._rails:
            judgement = guard.judge(request, self._rails, self._where, encoded_slash=self._http.encoded_slash)
        if self._hold_all is not None and isinstance(judgement, Allow):
            return Hold((self._hold_all,))
        return judgement

    def outgoing(self, request: Request, headers: list[Header]) -> list[Header]:
        if self._reads_sockets and request.head.upgrade:
            headers = [header for header in headers if header[0] != b"sec-websocket-extensions"]
        return headers if self._masking is None else self._masking.outgoing(headers)

    def incoming(self, request: Request, head: ResponseHead) -> Transform | None:
        if self._masking is None:
            return None
        return self._masking.transform(head, request.method)

    def tap(self, request: Request, head: ResponseHead) -> Tap | None:
        if self._masking is not None:
            raise Blocked(_UNMASKED)
        if not self._reads_sockets:
            return None
        if head.get(b"sec-websocket-extensions"):
            raise Blocked("the service changed the WebSocket in a way that was not asked for")
        session = self.session
        tape = next(it.tape for it in session.exchanges if it.request is request)
        assert tape is not None, "an exchange that has a session has a tape"
        return SocketTape(lambda event, text: tape.show(session.now(), event, text))

    async def card(self, request: Request) -> str:
        head, body = request.head, request.body or b""
        lines = [f"{head.method} {head.target.decode('ascii')}"]
        for name, value in sorted(head.headers):
            if name in self._matter or self._matters(name):
                lines.append(f"{name.decode()}: {self._shown(name, value)}")
        text = "\n".join(lines)
        if not body:
            return text
        try:
            said = body.decode()
        except UnicodeDecodeError:
            said = f"({len(body)} bytes that are no text, SHA-256 {hashlib.sha256(body).hexdigest()})"
        return f"{text}\n\n{said}"

    def _matters(self, name: bytes) -> bool:
        from proxy.http import fields

        passing = name in _PASSING or name.startswith((b"sec-", b"portcullis-")) or name in fields.HOP
        return not passing and name != b"host" and not fields.tells_identity(name)

    def _shown(self, name: bytes, value: bytes) -> str:
        if name == b"authorization":
            return f"(SHA-256 {hashlib.sha256(value).hexdigest()})"
        return value.decode("latin-1")
