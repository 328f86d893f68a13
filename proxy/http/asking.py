"""A request of the gate's own to the target, and its whole answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from proxy.http import codec
from proxy.http.codec import Header, RequestHead, ResponseHead
from proxy.http.kinds import Blocked
from proxy.http.target_end import TargetEnd, Unreachable

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange
    from proxy.http.session import HttpSession

_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[Header]
    body: bytes


async def ask(
    session: HttpSession, method: str, target: bytes, headers: list[Header], body: bytes, limit: int
) -> Answer:
    """Send it with the gate's own fields. Raises Unreachable, Blocked for an answer beyond `limit` bytes."""
    try:
        async with asyncio.timeout(_WITHIN):
            end = await TargetEnd.connect(session)
            question = _Question(method, limit)
            try:
                fields = [(b"host", session.authority), *headers, *session.secrets]
                if body:
                    fields.append((b"content-length", b"%d" % len(body)))
                end.begin(cast("Exchange", question), codec.request(method, target, fields) + body)
                return await question.answer
            finally:
                end.exchange = None
                end.abort()
    except TimeoutError:
        raise Unreachable("it did not answer in time") from None


class _Question:
    """Stands where an Exchange does, for its TargetEnd."""

    def __init__(self, method: str, limit: int) -> None:
        self.request: Any = RequestHead(1, [], method=method)
        self.client: Any = self
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._head: ResponseHead | None = None
        self._body = bytearray()

    def hold_body(self, _on: bool) -> None:
        """What is sent is short."""

    def informed(self, _head: ResponseHead) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do."""

    def answered(self, head: ResponseHead) -> None:
        self._head = head

    def answer_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            self._fail(Blocked("the service's answer is too long to be read"))

    def answer_over(self, _trailers: list[Header]) -> bool:
        assert self._head is not None
        if not self.answer.done():
            self.answer.set_result(Answer(self._head.status, self._head.headers, bytes(self._body)))
        return False

    def target_failed(self, why: str) -> None:
        self._fail(Unreachable(why))

    def switched(self, _head: ResponseHead, _rest: bytes) -> None:
        self._fail(Unreachable("it changed the protocol without being asked"))

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
