"""The broker behind HTTP, for a gate in another process (Unix socket) or on another machine (mutual TLS).

Implements proxy.authority.Authority. Anything but a whole, well-formed answer in time is a ConnectionError:
the gate then fails closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from proxy.identity import GateIdentity
from proxy.shipping import NotOurs
from workflows import gate_wire as wire
from workflows.gate import (
    Admission,
    Closing,
    HeldStatement,
    Knock,
    LoginLink,
    Notice,
    Progress,
    Renewal,
    ReviewTicket,
    RunPass,
)
from workflows.model import Refusal

T = TypeVar("T")

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_LONGEST_LINE = 64 * 1024


class _Line:
    """A client that lives while it is in use or the one of now."""

    def __init__(self, http: httpx2.AsyncClient, stamp: int = 0) -> None:
        self.http = http
        self.stamp = stamp
        self.users = 0


class RemoteAuthority:
    """The broker behind the Unix socket `socket` or at `address` on this machine, to which `token` is shown;
    or wherever `identity` says, over mutual TLS.

    A renewed identity is used from the next question on. `timeout` is the seconds one answer may take,
    `silence` the seconds without a word on the stream of notices after which the broker counts as lost.

    Raises ValueError for an address that would carry the token over a network.
    """

    def __init__(
        self,
        address: str = "",
        token: str = "",
        *,
        socket: Path | None = None,
        identity: GateIdentity | None = None,
        timeout: float = 5.0,
        silence: float = 4.0,
    ) -> None:
        if identity is None and socket is None and urlsplit(address).hostname not in _LOOPBACK:
            raise ValueError(f"A gate elsewhere reaches its broker as who it is, not by a token: {address}")
        self._silence = silence
        self._timeout = timeout
        self._identity = identity
        if identity is not None:
            self._line = _Line(identity.client(timeout), identity.stamp)
            return
        http = httpx2.AsyncClient(
            base_url=address,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=timeout,
            transport=httpx2.AsyncHTTPTransport(uds=str(socket)) if socket else None,
            trust_env=False,
        )
        self._line = _Line(http)

    async def __aenter__(self) -> RemoteAuthority:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._line.http.aclose()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx2.AsyncClient]:
        """The client of now. One that was replaced is closed when nobody uses it any more."""
        if self._identity is not None and self._identity.stamp != self._line.stamp:
            former = self._line
            self._line = _Line(self._identity.client(self._timeout), self._identity.stamp)
            if not former.users:
                await former.http.aclose()
        line = self._line
        line.users += 1
        try:
            yield line.http
        finally:
            line.users -= 1
            if line is not self._line and not line.users:
                await line.http.aclose()

    async def client_ca(self) -> str:
        return (await self._ask("/gate/client-ca", None, wire.decode_client_ca_answer)).ca

    async def admit(self, knock: Knock) -> Admission | Refusal:
        answer = await self._ask("/gate/admit", knock, wire.decode_admit_answer)
        if answer.refusal is not None:
            return answer.refusal
        if answer.admission is None:
            raise ConnectionError("The broker answered a knock with neither yes nor no.")
        return answer.admission

    async def start_login(self, knock: Knock) -> LoginLink | Refusal:
        answer = await self._ask("/gate/login", knock, wire.decode_login_answer)
        if answer.refusal is not None:
            return answer.refusal
        if answer.link is None:
            raise ConnectionError("The broker answered a question for a login with neither yes nor no.")
        return answer.link

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Renewal:
        question = wire.renew_question(gate, progress)
        return (await self._ask("/gate/renew", question, wire.decode_renew_answer)).renewal

    async def hold(self, gate: str, grant: str) -> None:
        await self._ask("/gate/hold", wire.HoldQuestion(gate, grant), _nothing)

    async def close(self, gate: str, closing: Closing) -> None:
        await self._ask("/gate/close", wire.CloseQuestion(gate, closing), _nothing)

    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        answer = await self._ask("/gate/review", wire.AskQuestion(gate, held), wire.decode_ask_answer)
        if answer.refusal is not None:
            return answer.refusal
        if answer.ticket is None:
            raise ConnectionError("The broker answered a question for review with neither yes nor no.")
        return answer.ticket

    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal:
        question = wire.RunQuestion(gate, review, session, digest)
        answer = await self._ask("/gate/run", question, wire.decode_run_answer)
        if answer.refusal is not None:
            return answer.refusal
        if answer.run is None:
            raise ConnectionError("The broker answered a question for a run with neither yes nor no.")
        return answer.run

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        await self._ask("/gate/finish", wire.FinishQuestion(gate, review, outcome), _nothing)

    async def withdraw_review(self, gate: str, review: str, why: str) -> None:
        await self._ask("/gate/withdraw", wire.WithdrawQuestion(gate, review, why), _nothing)

    async def ship(self, gate: str, session: str, offset: int, piece: bytes) -> int:
        """Bring a piece of a recording; how many bytes of it the broker holds. See proxy.shipping.Send."""
        where = {"gate": gate, "session": session, "offset": str(offset)}
        try:
            async with self._client() as http, asyncio.timeout(self._timeout):
                answer = await http.post(
                    "/gate/recording",
                    params=where,
                    content=piece,
                    headers={"Content-Type": "application/octet-stream"},
                )
            if answer.status_code == 404:
                raise NotOurs(session)
            _expect_yes(answer)
            return wire.decode_held(answer.content).held
        except (httpx2.HTTPError, msgspec.MsgspecError, OSError, TimeoutError) as error:
            raise ConnectionError(f"The broker took no recording ({type(error).__name__}).") from None

    async def notices(self, gate: str) -> AsyncIterator[Notice]:
        timeout = httpx2.Timeout(self._silence)
        try:
            async with (
                self._client() as http,
                http.stream("GET", "/gate/notices", params={"gate": gate}, timeout=timeout) as answer,
            ):
                _expect_yes(answer)
                async for line in _lines(answer.aiter_raw()):
                    notice = wire.decode_notice_line(line).notice
                    if notice is not None:
                        yield notice
        except ConnectionError:
            raise
        except (httpx2.HTTPError, httpx2.StreamError, msgspec.MsgspecError, OSError) as error:
            raise ConnectionError(f"The broker's notices broke off ({type(error).__name__}).") from None

    async def _ask(self, path: str, question: object | None, decode: Callable[[bytes], T]) -> T:
        try:
            # httpx counts its time-out per read; a broker that dribbles must not hold the gate for longer.
            async with self._client() as http, asyncio.timeout(self._timeout):
                if question is None:
                    answer = await http.get(path)
                else:
                    answer = await http.post(path, content=wire.encode(question))
            _expect_yes(answer)
            return decode(answer.content)
        except ConnectionError:
            raise
        except (httpx2.HTTPError, msgspec.MsgspecError, OSError, TimeoutError) as error:
            # `from None`: what the library says may quote the question, and the question holds a token.
            raise ConnectionError(f"The broker did not answer {path} ({type(error).__name__}).") from None


def _expect_yes(answer: httpx2.Response) -> None:
    if answer.status_code == 401:
        raise ConnectionError("The broker does not know this gate.")
    if answer.status_code not in (200, 204):
        raise ConnectionError(f"The broker answered {answer.status_code}.")


def _nothing(_content: bytes) -> None:
    return None


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines. What follows the last line end when the stream stops is broken off, not a notice."""
    pending = b""
    async for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        if len(pending) > _LONGEST_LINE:
            raise ConnectionError("The broker sent a notice without an end.")
        for line in whole:
            yield line
