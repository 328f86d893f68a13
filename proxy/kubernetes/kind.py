"""Kubernetes behind the gate's HTTP: requests read and judged, people impersonated, Secrets masked, execs
heard.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.http import fields
from proxy.http.codec import Header, RequestHead, ResponseHead
from proxy.http.kinds import Blocked, Kind, NeedBody, Request, Tap, Transform
from proxy.http.pages import Said
from proxy.http.target_end import Unreachable
from proxy.kubernetes import changes, secrets, status, streams
from proxy.kubernetes.guard import judge
from proxy.kubernetes.request import ApiRequest, Unreadable, understand
from proxy.sql.guardrails import UNREAD_RULE, Allow, Circumstances, Hold, Judgement, Refuse
from workflows.model import ClusterTerms

if TYPE_CHECKING:
    from proxy.http.session import HttpSession

_WRITES = ("create", "update", "patch")
_BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
"""A WebSocket protocol by which a client would bring credentials of its own."""
_BODY_LIMIT = 3 << 20
"""Bytes; what the API server itself takes at most (its limit for etcd is half of that)."""
_OLD_CLIENT = "The gate reads v4.channel.k8s.io and v5.channel.k8s.io, over WebSocket or SPDY/3.1."
_MASKED = "the data of Secrets is masked for this role"
_IN_CLEAR = "Ask for a role that has Secrets in clear."
_WEBSOCKET, _SPDY = b"websocket", b"spdy/3.1"
_OFFERS = {_WEBSOCKET: b"sec-websocket-protocol", _SPDY: b"x-stream-protocol-version"}
"""Where each way of carrying streams says which protocols it offers, and which one was taken."""


@dataclass(slots=True)
class _Read:
    """What a kind keeps of a request: how it was understood, whether its answer is masked, and as YAML."""

    api: ApiRequest
    masked: bool = False
    accept: str = ""
    as_yaml: bool = False
    held: str = ""
    turned: Refuse | None = None


class Cluster(Kind):
    """One person's session at one API server."""

    upgrades = frozenset(_OFFERS)

    def __init__(self, session: HttpSession, cluster: ClusterTerms) -> None:
        super().__init__(session)
        it = session.admission
        self._cluster = cluster
        self._terms = it.terms
        self._where = Circumstances(it.principal, it.resource, it.role)
        self._identity: list[Header] = [(b"impersonate-user", (cluster.user or it.principal).encode())]
        self._identity += [(b"impersonate-group", group.encode()) for group in cluster.groups]
        self._turned: dict[str, Refuse] = {}
        """Why a WebSocket was refused: kubectl then tries SPDY, and shows only what comes of that."""

    # --- before it goes on

    def judge(self, request: Request) -> Judgement | NeedBody:
        try:
            read = self._read(request)
        except Unreadable as error:
            request.verdict = "unknown"
            said = f"the gate cannot read this request: {error}"
            return Refuse(UNREAD_RULE, said, "Write it as kubectl does.")
        api = read.api
        request.verdict = api.statement_class.value
        refused = _impersonates(request.head)
        if refused is not None:
            return refused
        judgement = judge(api, self._cluster, self._terms.guardrails, self._where)
        if isinstance(judgement, Refuse):
            return judgement
        refused = _upgrade(api, request.head)
        if refused is not None:
            return refused
        if request.head.upgrade == _SPDY:
            read.turned = read.turned or self._turned.pop(api.target, None)
            if read.turned is not None:
                return read.turned
        if api.secret and api.verb in _WRITES:
            if request.body is None:
                return NeedBody(_BODY_LIMIT)
            made = self._makes_login(request, api)
            if isinstance(made, Refuse) or isinstance(judgement, Allow):
                judgement = made
            if isinstance(judgement, Refuse):
                return judgement
        try:
            self._check_secrets(request, read)
        except secrets.Unmaskable as error:
            return Refuse("secrets", f"{error} ({_MASKED})", _IN_CLEAR)
        if isinstance(judgement, Allow) and self._terms.hold_all is not None and not api.discovery:
            judgement = Hold((self._terms.hold_all,))
        if isinstance(judgement, Hold):
            read.held = judgement.rule
            if request.body is None:
                return NeedBody(_BODY_LIMIT)
        return judgement

    def _read(self, request: Request) -> _Read:
        """Understand it once. What goes on to the server is written anew from what was understood."""
        if isinstance(request.state, _Read):
            return request.state
        head = request.head
        kinds = head.all(b"content-type")
        if len(kinds) > 1:
            raise Unreadable("it says twice what its body is")
        api = understand(
            head.method, head.target.decode("ascii"), kinds[0].decode("latin-1") if kinds else ""
        )
        head.target = api.target.encode()
        request.note = f"{_line(api)} — {head.method} {api.target}"
        request.state = read = _Read(api)
        return read

    def _makes_login(self, request: Request, api: ApiRequest) -> Judgement:
        """A Secret that is a token for the cluster, or is filled with one, is a credential of one's own."""
        if not secrets.makes_token(request.body or b""):
            return Allow()
        token = replace(api, verb="create", resource="serviceaccounts", subresource="token", name="")
        return judge(token, self._cluster, self._terms.guardrails, self._where)

    def _check_secrets(self, request: Request, read: _Read) -> None:
        """Whether what is asked can be masked. Raises Unmaskable."""
        if self._cluster.secrets != "mask" or not read.api.secret:
            return
        accept = ", ".join(value.decode("latin-1") for value in request.head.all(b"accept"))
        read.masked = True
        read.accept, read.as_yaml = secrets.accepted(accept)
        if read.as_yaml and read.api.verb == "watch":
            raise secrets.Unmaskable("a watch is given out as JSON only")
        if read.api.verb in _WRITES:
            kind = (request.head.get(b"content-type") or b"").decode("latin-1")
            secrets.check_written(request.body or b"", kind)
            if read.api.verb != "create":
                secrets.check_changed(request.body or b"", read.api)

    async def ready(self, request: Request) -> None:
        """A Secret that may not change any more says, to every guess at its data, whether that is right."""
        read = _of(request)
        if not read.masked or read.api.verb not in ("update", "patch"):
            return
        headers = [*self._identity, (b"accept", b"application/json")]
        answer = await self.session.ask("GET", read.api.path.encode(), headers, b"", _BODY_LIMIT)
        if answer.status == 404:
            return
        if answer.status != 200:
            raise Blocked(
                "this role may not look at the Secret that it changes, so that it may not be guessed at"
            )
        if secrets.read(answer.body).get("immutable"):
            raise Blocked("this Secret is immutable, and its data is masked for this role")

    # --- on its way

    def outgoing(self, request: Request, headers: list[Header]) -> list[Header]:
        read = _of(request)
        dropped = {b"sec-websocket-extensions"}
        if read.masked:
            dropped |= {b"accept", b"accept-encoding"}
        kept = [(name, value) for name, value in headers if name not in dropped]
        if request.head.upgrade:
            kept = _offering(read.api, request.head.upgrade, kept)
        if read.masked:
            kept.append((b"accept", read.accept.encode("latin-1")))
        return [*kept, *self._identity]

    def incoming(self, request: Request, head: ResponseHead) -> Transform | None:
        read = _of(request)
        if read.held:
            said = f'299 portcullis "held by the rule {read.held}, approved"'
            head.headers.append((b"warning", said.encode("ascii", "replace")))
        if read.masked and "owner=helm" in read.api.parameter("labelSelector"):
            head.headers.append(
                (b"warning", b'299 portcullis "%b, so that helm cannot read its releases"' % _MASKED.encode())
            )
        if not read.masked or head.length == 0:
            return None
        if not head.has_body(request.method):
            head.length = None  # it tells how long the data is
            return None
        kind = (head.get(b"content-type") or b"").decode("latin-1")
        secrets.check_form(kind, (head.get(b"content-encoding") or b"").decode("latin-1"))
        if read.api.verb == "watch" and head.status == 200:
            return secrets.Events()
        if read.as_yaml:
            head.headers = [it for it in head.headers if it[0] != b"content-type"]
            head.headers.append((b"content-type", b"application/yaml"))
        return secrets.Whole(as_yaml=read.as_yaml)

    def tap(self, request: Request, head: ResponseHead) -> Tap | None:
        api = _of(request).api
        if api.subresource not in ("exec", "attach"):
            return None
        if head.get(b"sec-websocket-extensions"):
            raise Blocked("the API server changed the stream in a way that was not asked for")
        wished = request.head.upgrade
        if (head.get(b"upgrade") or wished).lower() != wished:
            raise Blocked("the API server changed to another protocol than was asked for")
        if (head.get(_OFFERS[wished]) or b"").decode("latin-1") not in _known(api, wished):
            raise Blocked("the API server speaks no protocol that the gate reads")
        session = self.session
        tape = next(it.tape for it in session.exchanges if it.request is request)
        assert tape is not None, "an exchange that has a session has a tape"

        def tell(event: str, text: str) -> None:
            tape.show(session.now(), event, text)

        terminal = api.flag("tty")
        ear = streams.Ear if wished == _WEBSOCKET else streams.SpdyEar
        return ear(tell, terminal=terminal, hidden=self._terms.detect)

    # --- for people

    async def card(self, request: Request) -> str:
        """What is asked, as whom, and what it would change. The body's hash binds the approval to it."""
        read, body = _of(request), request.body or b""
        it = self.session.admission
        lines = [_line(read.api), f"{request.method} {read.api.target}"]
        lines.append(f"as {self._cluster.user or it.principal}, of {', '.join(self._cluster.groups)}")
        if body:
            kind = (request.head.get(b"content-type") or b"").decode("latin-1")
            lines.append(
                f"body: {len(body)} bytes of {kind or 'no type'}, SHA-256 {hashlib.sha256(body).hexdigest()}"
            )
        if read.api.resource and read.api.verb in (*_WRITES, "delete"):
            lines += ["", await self._change(request, read.api, body)]
        return "\n".join(lines)

    async def _change(self, request: Request, api: ApiRequest, body: bytes) -> str:
        """The change as a diff, from a rehearsal at the API server (dryRun), or what is sent. Raises Blocked
        where nobody can see what they would agree to.
        """
        if api.verb != "delete" and not api.rehearsed:
            return _text(body)
        try:
            live = await self._object("GET", api.path) if api.name else None
            if api.verb == "delete":
                return changes.diff(live, None, _key(self.session)) or "(it is not there)"
            joined = f"{api.target}{'&' if api.query else '?'}dryRun=All"
            after = await self._object(request.method, joined, body, request.head)
        except Unreachable as error:
            raise Blocked(f"what it would change cannot be shown: {error}") from error
        if after is None:
            raise Blocked("the API server refuses it, also as a rehearsal (dryRun=All)")
        return changes.diff(live, after, _key(self.session)) or "(nothing would change)"

    async def _object(
        self, method: str, target: str, body: bytes = b"", head: RequestHead | None = None
    ) -> dict[str, object] | None:
        """An object as this person may see it; None where there is none for them. Raises Unreachable."""
        headers = list(self._identity)
        if head is not None and (kind := head.get(b"content-type")):
            headers.append((b"content-type", kind))
        headers.append((b"accept", b"application/json"))
        answer = await self.session.ask(method, target.encode(), headers, body, _BODY_LIMIT)
        if answer.status // 100 != 2:
            return None
        try:
            return secrets.read(answer.body)
        except secrets.Unmaskable:
            raise Unreachable("its answer cannot be read") from None

    def say(self, request: Request, said: Said) -> tuple[bytes, bytes]:
        text = f"{said.why} {said.way_out}".strip()
        if request.head.upgrade == _WEBSOCKET and isinstance(request.state, _Read):
            self._turned = {request.state.api.target: Refuse(said.code, said.why, said.way_out)}
        return b"application/json", status.status(said.status, f"Portcullis: {text}")


# ------------------------------------------------------------------- helpers


def _key(session: HttpSession) -> bytes:
    return session.admission.mask_key


def _of(request: Request) -> _Read:
    assert isinstance(request.state, _Read), "it was judged first"
    return request.state


def _line(api: ApiRequest) -> str:
    """A request in words; an exec with its command."""
    if not (commands := api.commands()):
        return api.said
    container = api.parameter("container")
    return f"{api.said}{f' ({container})' if container else ''}: {shlex.join(commands)}"


def _text(body: bytes) -> str:
    """What is sent, for people. Raises Blocked where it is no text."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Blocked("what it sends is no text that people can read") from None


def _impersonates(head: RequestHead) -> Refuse | None:
    """Whom a request acts as only its grant says. Silently dropped, `kubectl --as` would seem to work."""
    if any(fields.plain(name).startswith(b"impersonate-") for name, _ in head.headers):
        what = "the grant alone says whom this session acts as (--as, --as-group, Impersonate-…)"
        return Refuse("impersonation", what, "Leave it out; ask for the role that you need.")
    return None


def _upgrade(api: ApiRequest, head: RequestHead) -> Refuse | None:
    """Why the connection may not change its protocol; None where it may, or does not wish to."""
    wished = head.upgrade
    if api.verb != "connect":
        if wished:
            return Refuse("upgrade", "only exec, attach, port-forward and proxy change the protocol", "")
        return None
    if api.subresource == "proxy":
        return (
            Refuse("upgrade", "the gate passes only WebSocket on to a proxy")
            if wished not in (b"", b"websocket")
            else None
        )
    if wished not in _OFFERS:
        return Refuse("upgrade", f"this client cannot {api.subresource} through the gate", _OLD_CLIENT)
    offer = _offer(head.headers, wished)
    if not streams.offered(offer, _known(api, wished)):
        return Refuse(
            "upgrade", f"the gate reads none of the protocols {offer or 'of this client'}", _OLD_CLIENT
        )
    return None


def _known(api: ApiRequest, wished: bytes) -> tuple[str, ...]:
    if api.subresource == "portforward":
        return streams.TUNNELS if wished == _WEBSOCKET else (streams.SPDY_FORWARD,)
    return streams.PROTOCOLS if wished == _WEBSOCKET else (streams.SPDY_PROTOCOL,)


def _offer(headers: list[Header], wished: bytes) -> str:
    return ", ".join(value.decode("latin-1") for name, value in headers if name == _OFFERS[wished])


def _offering(api: ApiRequest, wished: bytes, headers: list[Header]) -> list[Header]:
    """The fields with the protocols that are known here in place of all that are offered; to a proxy with
    all, without what would be a credential.
    """
    offer = _offer(headers, wished)
    if api.subresource == "proxy":
        asked = [it.strip() for it in offer.split(",")]
        said = [it for it in asked if it and not it.startswith(_BEARER_PROTOCOL)]
    else:
        said = [*streams.offered(offer, _known(api, wished))]
    kept = [header for header in headers if header[0] not in _OFFERS.values()]
    return [*kept, (_OFFERS[wished], ", ".join(said).encode("latin-1"))] if said else kept
