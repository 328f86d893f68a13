"""One request and its answer: admitted, judged, sent on, answered, recorded; in this order or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from proxy.http import auth, body, codec, fields, own, pages, place
from proxy.http.codec import Header, Malformed, RequestHead, ResponseHead
from proxy.http.holding import Deferred
from proxy.http.kinds import Allow, Blocked, Hold, NeedBody, Refuse, Request, Transform
from proxy.http.pages import Said, Turned
from proxy.http.tape import Tape
from proxy.http.target_end import TargetEnd, Unreachable
from proxy.http.tunnel import Tunnel

if TYPE_CHECKING:
    from proxy.http.client_end import ClientEnd
    from proxy.http.session import HttpSession

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOST = Said(502, "target-lost", "The service broke off.", "Try again; if it lasts, tell the gate's keepers.")


class Exchange:
    """From a request's head to the end of its answer. `sent` and `received` are bytes of bodies, from and to
    the client.
    """

    def __init__(self, client: ClientEnd, head: RequestHead) -> None:
        self.client = client
        self.head = head
        self.request: Request
        self.claim: auth.Claim | None = None
        self.session: HttpSession | None = None
        self.target: TargetEnd | None = None
        self.tunnel: Tunnel | None = None
        self.tape: Tape | None = None
        self.held: Deferred | None = None
        self.sent = 0
        self.received = 0
        self.done = False
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._body_over = not (head.chunked or head.length)
        self._pending = b""
        self._chunked = False
        self._transform: Transform | None = None
        self._whole: asyncio.Future[bytes] | None = None
        self._collected = bytearray()
        self._limit = 0
        self._retried = False

    # --- before anything goes on

    def begin(self) -> None:
        """Take the short way where the session, a yes and a connection are there, else the long one."""
        try:
            place.check(self.head.target)
            claim = self._claim()
            self.claim = claim
            if claim is None:
                self._task = self.client.door.gate.spawn(self._own())
                return
            session = self.client.door.known(claim, self.client)
            if session is not None and self._quick(session):
                return
        except Turned as turned:
            self.say(turned.said)
            return
        except Malformed as error:
            self.say(Said(error.status, "malformed", f"The request was not passed on: {error}."), close=True)
            return
        self._task = self.client.door.gate.spawn(self._slow(claim, session))

    def _claim(self) -> auth.Claim | None:
        """Who the request is from; None for one to the gate itself. Raises Turned, Malformed."""
        head = self.head
        if head.method in ("CONNECT", "TRACE"):
            why = f"The gate passes no {head.method} on."
            raise Turned(Said(405, "method", why))
        resource = self.client.door.resource_of(head.host, self.client.server_name)
        if resource is None:
            why = "No service is reached by this name here."
            raise Turned(Said(421, "misdirected", why, "Use the name that access http prints."))
        self.client.resource = resource
        if own.is_own(head.target):
            return None
        claim = auth.read(head)
        if claim is None:
            raise Turned(self.client.door.login(self))
        unsafe = head.method not in _SAFE or head.upgrade
        if claim.by == "cookie" and unsafe and not auth.of_this_host(head):
            why = "A page of another site sent this request in your name; it was not passed on."
            raise Turned(Said(403, "cross-site", why))
        return claim

    def _quick(self, session: HttpSession) -> bool:
        """Send it at once where nothing has to be waited for. Raises Turned, Malformed."""
        self._enter(session)
        if not isinstance(session.kind.judge(self.request), Allow):
            return False
        target = session.take_idle()
        if target is None:
            return False
        self._send(target)
        return True

    async def _slow(self, claim: auth.Claim, session: HttpSession | None) -> None:
        async def judged() -> None:
            if session is None:
                self._enter(await self.client.door.admit(claim, self))
            await self._judged()

        await self._guarded(judged())

    async def _own(self) -> None:
        await self._guarded(own.answer(self))

    def adopt(self, session: HttpSession, request: Request) -> None:
        """Go on with a request that came before, in place of this one."""
        self._begin(session, request)

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do what comes before a request goes on, send it, and answer whatever stands in its way."""
        try:
            await work
            assert self.session is not None
            self._send(self.session.take_idle() or await TargetEnd.connect(self.session))
        except Turned as turned:
            self.say(turned.said)
        except Malformed as error:
            self.say(Said(error.status, "malformed", f"The request was not passed on: {error}."), close=True)
        except Blocked as blocked:
            self.say(Said(403, "refused", f"The request was not passed on: {blocked}."))
        except Unreachable as error:
            why = f"The gate could not enter {self.client.resource}: {error}."
            self.say(Said(502, "unreachable", why, "Tell the gate's keepers."))
        except asyncio.CancelledError:
            if not self.done:
                self.finish("unfinished", message="the client left")
            raise
        except BaseException:
            self.say(Said(500, "failed", "The gate failed.", "Tell the gate's keepers."), close=True)
            raise

    def _enter(self, session: HttpSession) -> None:
        if session.over:
            raise Turned(session.ended_said())
        self._begin(session, Request(self.head, session, auth.by_browser(self.head)))

    def _begin(self, session: HttpSession, request: Request) -> None:
        self.session = session
        self.request = request
        self.tape = session.begin(self)

    async def _judged(self) -> None:
        """Returns where the request may go on. Raises Turned, Malformed, Blocked."""
        assert self.session is not None
        kind = self.session.kind
        judgement = kind.judge(self.request)
        if isinstance(judgement, NeedBody):
            self.request.body = await self._read_body(judgement.limit)
            judgement = kind.judge(self.request)
        if isinstance(judgement, NeedBody):
            raise Blocked("it cannot be read")
        if isinstance(judgement, Refuse):
            raise Turned(Said(403, judgement.rule, f"{judgement.message}.", judgement.hint))
        if isinstance(judgement, Hold):
            if self.request.body is None:
                self.request.body = await self._read_body(NeedBody().limit)
            await self.session.hold(self, judgement)
        await kind.ready(self.request)

    async def _read_body(self, limit: int) -> bytes:
        """The whole body of the request. Raises Turned where it is longer than `limit` bytes."""
        if self._body_over:
            return b""
        too_long = Said(413, "too-long", f"The gate reads bodies of up to {limit} bytes here.")
        if self.head.length is not None and self.head.length > limit:
            raise Turned(too_long)
        if self.head.get(b"expect") is not None and self.head.minor == 1:
            self.client.write(codec.response(100, b"Continue", ()))
        self._limit = limit
        self._whole = asyncio.get_running_loop().create_future()
        self.client.start_body()
        try:
            return await self._whole
        finally:
            self._whole = None

    # --- to the target

    def _send(self, target: TargetEnd) -> None:
        """Send the request. Raises Turned, Malformed."""
        session, request = self.session, self.request
        head = request.head
        assert session is not None
        if session.over or self.done:
            target.abort()
            raise Turned(session.ended_said())
        try:
            if session.upgrades(head) and (head.chunked or head.length):
                # Behind the answer the service would take the body for the new protocol's, unheard.
                raise Malformed("a request to change the protocol has no body")
            kept = fields.for_target(head, session.removed, drop_authorization=session.drops(self))
            headers = session.dressed(self, session.kind.outgoing(request, kept))
        except BaseException:
            session.give_back(target)
            raise
        self.target = target
        if request.body is not None:
            headers = [header for header in headers if header[0] != b"expect"]
            if request.body or head.chunked or head.length is not None:
                headers.append((b"content-length", b"%d" % len(request.body)))
        elif head.chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        elif head.length is not None:
            headers.append((b"content-length", b"%d" % head.length))
        if head.method not in _WITH_BODY and (head.chunked or head.length):
            # A service that looks for no body there would take it for the next request, unjudged.
            headers.append((b"connection", b"close"))
            target.last = True
        target.begin(self, codec.request(head.method, head.target, headers))
        if request.body:
            target.channel.write(request.body)
        elif not self._body_over:
            self.client.start_body()

    def request_body(self, data: bytes) -> None:
        """A piece of the client's body."""
        if self._whole is not None:
            self._collected += data
            if len(self._collected) > self._limit and not self._whole.done():
                said = Said(413, "too-long", f"The gate reads bodies of up to {self._limit} bytes here.")
                self._whole.set_exception(Turned(said))
            return
        self.sent += len(data)
        if self.tape is not None:
            self.tape.sent(data)
        if self.target is not None and self.target.exchange is self:
            self.target.channel.write(body.chunk(data) if self.head.chunked else data)

    def request_over(self, trailers: list[Header]) -> None:
        """The client's body is whole."""
        self._body_over = True
        if self._whole is not None:
            if not self._whole.done():
                self.sent = len(self._collected)
                if self.tape is not None:
                    self.tape.sent(bytes(self._collected))
                self._whole.set_result(bytes(self._collected))
        elif self.head.chunked and self.target is not None and self.target.exchange is self:
            assert self.session is not None
            self.target.channel.write(body.last_chunk(fields.trailers(trailers, self.session.removed)))

    def body_malformed(self, said: Said) -> None:
        """What the client sends cannot be read any further."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._drop_target()
        if self._begun:
            self.finish("error", message=said.why, abort=True)
        else:
            self.say(said, close=True)

    # --- from the target

    def informed(self, head: ResponseHead) -> None:
        """An interim answer. A client of HTTP/1.0 knows none."""
        if self.head.minor == 1 and (head.status != 100 or self.head.get(b"expect") is not None):
            self.client.write(codec.response(head.status, head.reason, fields.for_client(head)))

    def answered(self, head: ResponseHead) -> None:
        """The head of the answer."""
        session = self.session
        assert session is not None
        try:
            self._transform = session.kind.incoming(self.request, head)
        except Blocked as blocked:
            self._drop_target()
            self.say(Said(502, "masked", f"The answer was not passed on: {blocked}."))
            return
        headers = session.undressed(fields.for_client(head))
        if head.has_body(self.request.method):
            plain = head.length is not None and self._transform is None
            if plain:
                headers.append((b"content-length", b"%d" % (head.length or 0)))
            elif self.head.minor == 1:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self.client.close_after = True
        elif head.length is not None and self._transform is None and head.status >= 200:
            headers.append((b"content-length", b"%d" % head.length))
        if not self._body_over or not self.head.keep_alive:
            self.client.close_after = True
        if self.client.close_after:
            headers.append((b"connection", b"close"))
        if self.tape is not None:
            self.tape.answered(head)
        self._begun = True
        self._pending = codec.response(head.status, head.reason, headers)

    def answer_body(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self._transform is not None:
            try:
                data = self._transform.feed(data)
            except Blocked as blocked:
                self._broken(str(blocked))
                return
        if data:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        self.received += len(data)
        if self.tape is not None:
            self.tape.received(data)
        if self._chunked:
            data = body.chunk(data)
        if self._pending:
            data = self._pending + data
            self._pending = b""
        self.client.write(data)

    def answer_over(self, trailers: list[Header]) -> bool:
        """The answer is whole. Returns whether the target's connection may serve again."""
        if self._transform is not None:
            try:
                rest = self._transform.end()
            except Blocked as blocked:
                self._broken(str(blocked))
                return False
            if rest:
                self._pass_on(rest)
        if self._chunked:
            assert self.session is not None
            kept = () if self._transform is not None else fields.trailers(trailers, self.session.removed)
            self._pending += body.last_chunk(kept)  # those of a changed answer tell of the clear one
        self.flush()
        self.target = None
        whole = self._body_over
        self.finish("")
        return whole

    def flush(self) -> None:
        """Let go what waits for something to go with it."""
        if self._pending:
            self.client.write(self._pending)
            self._pending = b""

    def target_failed(self, why: str) -> None:
        """The target broke off, or what it said cannot be read."""
        target, self.target = self.target, None
        session = self.session
        assert session is not None
        if self._begun:
            self._broken(f"the service failed: {why}")
            return
        idle = target is not None and target.used and self._body_over and not self._retried
        if idle and self.head.method in _SAFE and not session.over:
            self._retried = True  # it had closed an idle connection just as the request was on its way
            self._task = session.gate.spawn(self._again(session))
            return
        self.say(_LOST, message=why)

    async def _again(self, session: HttpSession) -> None:
        try:
            self._send(await TargetEnd.connect(session))
        except (Turned, Malformed, Unreachable):
            self.say(_LOST)

    def _broken(self, why: str) -> None:
        """An answer that had begun cannot go on: the client has to see that it is not whole."""
        self._drop_target()
        self.finish("error", message=why, abort=True)

    def _drop_target(self) -> None:
        target, self.target = self.target, None
        if target is not None:
            target.exchange = None
            target.abort()

    # --- an upgrade

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """The target changes the protocol, as it was asked to."""
        session, target = self.session, self.target
        assert session is not None
        assert target is not None
        if not session.upgrades(self.head):
            self._drop_target()
            self.say(_LOST, message="it changed the protocol without being asked")
            return
        try:
            tap = session.kind.tap(self.request, head)
        except Blocked as blocked:
            self._drop_target()
            self.say(Said(502, "masked", f"The connection was not opened: {blocked}."))
            return
        headers = session.undressed(fields.for_client(head))
        headers += [(b"connection", b"Upgrade"), (b"upgrade", head.get(b"upgrade") or self.head.upgrade)]
        self._begun = True
        if self.tape is not None:
            self.tape.answered(head)
            self.tape.begin(self.request.line)
        self.client.write(codec.response(101, head.reason, headers))
        self.tunnel = target.tunnel = Tunnel(self, target, tap)
        if rest:
            self.tunnel.from_target(rest)
        self.client.start_tunnel(self.tunnel)

    def session_bytes(self, sent: int, received: int) -> None:
        if self.session is not None:
            self.session.bytes_in += sent
            self.session.bytes_out += received

    def tunnel_over(self, how: str, why: str) -> None:
        outcome = {"cut": "unfinished", "refused": "refused"}.get(how, "")
        self.target = None
        self.finish(outcome, message=why if outcome else "", abort=None)

    # --- the end

    def say(self, said: Said, *, close: bool = False, message: str = "") -> None:
        """Answer in place of the target."""
        if self.done:
            return
        client = self.client
        unread = not self._body_over
        client.close_after = client.close_after or close or unread or not self.head.keep_alive
        request = self.request if self.session is not None else None
        if request is not None and self.session is not None:
            kind, text = self.session.kind.say(request, said)
        else:
            kind, text = pages.body(said, html=auth.by_browser(self.head))
        client.write(pages.answer(said, kind, text, close=client.close_after, method=self.head.method))
        if self.tape is not None:
            self.tape.said(said)
        outcome = "suspended" if said.status == 202 else "refused" if said.status < 500 else "error"
        self.finish(outcome, message=message or said.why, unread=unread)

    def client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self.tunnel is not None:
            self.tunnel.client_gone()
            return
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._drop_target()
        self.finish("unfinished", message="the client closed the connection")

    def cut(self, said: Said) -> None:
        """The session has ended."""
        if self.done:
            return
        if self.tunnel is not None:
            self.tunnel.cut(said.why)
            return
        if self._task is not None and not self._task.done() and self._task is not asyncio.current_task():
            self._task.cancel()
        self._drop_target()
        if self._begun:
            self.finish("unfinished", message=said.why, abort=True)
        else:
            self.say(said, close=True)

    def finish(
        self, outcome: str, *, message: str = "", abort: bool | None = False, unread: bool = False
    ) -> None:
        """Record it, and let the client's connection go on or end. `abort` None: it is the tunnel's."""
        if self.done:
            return
        self.done = True
        if self.session is not None:
            self.session.ended_exchange(self, outcome, message)
        if abort is not None:
            self.client.exchange_over(abort=abort, unread=unread)
