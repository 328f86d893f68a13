"""The door for gates in other processes: proxy/remote.py speaks to it.

A gate on another machine shows its certificate (mutual TLS, broker/gates) and speaks for itself alone. The
worker processes of this broker's own house show the gate token. Not a part of the public API.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from broker.api.auth import P, parts_of
from broker.api.parts import Parts
from broker.api.problems import Problem
from broker.gates.authority import Signed
from broker.gates.gates import BAD_REQUEST, NO_GATE
from broker.reading import NO_SESSION
from workflows import gate_wire as wire
from workflows.gate import Notice
from workflows.model import Refusal

T = TypeVar("T")

UNKNOWN_GATE = Refusal(
    "unknown-gate", "This is no gate of ours, or no longer.", "Add it: access gates add; then let it join."
)
NO_DOOR = Refusal(
    "no-door", "This broker lets in no gates from other machines.", "Set PORTCULLIS_GATES_PORT at the broker."
)
ANOTHER_GATE = Refusal("another-gate", "A gate speaks for itself alone.")


async def _known_gate(request: Request, parts: Annotated[Parts, Depends(parts_of)]) -> None:
    """Whoever came to the door for gates by TLS is that gate and no other; else it takes the token."""
    if (shown := _certificate(request)) is not None:
        bearer = await parts.gates.known(shown)
        if bearer is None:
            raise Problem(401, UNKNOWN_GATE)
        request.state.gate = bearer
        return
    request.state.gate = None
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    good = hmac.compare_digest(token.encode(), parts.gate_token.encode())
    # An empty token is configured by nobody: it opens nothing.
    if not (good and parts.gate_token and kind.lower() == "bearer"):
        raise Problem(401, UNKNOWN_GATE)


def _certificate(request: Request) -> str | None:
    """The client's certificate (PEM) as ASGI's TLS extension tells it, "" for none; None where there is no
    TLS of ours.
    """
    tls = request.scope.get("extensions", {}).get("tls")
    return None if tls is None else next(iter(tls["client_cert_chain"]), "")


def _speaks_for(request: Request, gate: str) -> None:
    """Refuse the name of another gate. The processes of one call themselves gate/0, gate/1 and so on."""
    bearer = request.state.gate
    if bearer is not None and gate != bearer.gate and not gate.startswith(f"{bearer.gate}/"):
        raise Problem(403, ANOTHER_GATE)


router = APIRouter(prefix="/gate", include_in_schema=False, dependencies=[Depends(_known_gate)])


@router.get("/client-ca")
async def client_ca(parts: P) -> Response:
    return _json(wire.ClientCaAnswer(await parts.door.client_ca()))


@router.post("/admit")
async def admit(request: Request, parts: P) -> Response:
    knock = _read(await request.body(), wire.decode_knock)
    _speaks_for(request, knock.gate)
    outcome = await parts.door.admit(knock)
    return _json(wire.admit_answer(outcome))


@router.post("/login")
async def login(request: Request, parts: P) -> Response:
    knock = _read(await request.body(), wire.decode_knock)
    _speaks_for(request, knock.gate)
    outcome = await parts.door.start_login(knock)
    return _json(wire.login_answer(outcome))


@router.post("/renew")
async def renew(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_renew_question)
    _speaks_for(request, question.gate)
    return _json(wire.renew_answer(await parts.door.renew(question.gate, question.progress)))


@router.post("/hold")
async def hold(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_hold_question)
    _speaks_for(request, question.gate)
    await parts.door.hold(question.gate, question.grant)
    return Response(status_code=204)


@router.post("/close")
async def close(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_close_question)
    _speaks_for(request, question.gate)
    await parts.door.close(question.gate, question.closing)
    return Response(status_code=204)


@router.post("/review")
async def review(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_ask_question)
    _speaks_for(request, question.gate)
    return _json(wire.ask_answer(await parts.door.ask_review(question.gate, question.held)))


@router.post("/run")
async def run(request: Request, parts: P) -> Response:
    it = _read(await request.body(), wire.decode_run_question)
    _speaks_for(request, it.gate)
    return _json(wire.run_answer(await parts.door.take_run(it.gate, it.review, it.session, it.digest)))


@router.post("/finish")
async def finish(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_finish_question)
    _speaks_for(request, question.gate)
    await parts.door.finish_run(question.gate, question.review, question.outcome)
    return Response(status_code=204)


@router.post("/withdraw")
async def withdraw(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_withdraw_question)
    _speaks_for(request, question.gate)
    await parts.door.withdraw_review(question.gate, question.review, question.why)
    return Response(status_code=204)


@router.post("/recording")
async def recording(request: Request, parts: P, gate: str, session: str, offset: int) -> Response:
    """A piece of the recording of a session of this gate's. It is put behind what is here, never over it."""
    _speaks_for(request, gate)
    record = await parts.service.session_at(gate, session)
    if record is None:
        raise Problem(404, NO_SESSION)
    piece = await request.body()
    return _json(wire.HeldAnswer(await asyncio.to_thread(parts.recordings.keep, record.id, offset, piece)))


@router.get("/notices")
async def notices(request: Request, gate: str, parts: P) -> StreamingResponse:
    _speaks_for(request, gate)

    async def stands() -> bool:
        shown = _certificate(request)
        return shown is None or await parts.gates.known(shown) is not None

    lines = _stream(parts.door.notices(gate), stands)
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def _stream(
    source: AsyncIterator[Notice], stands: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Notices as they come, and a heartbeat whenever there was none for a while. Ends with its source, or
    when the gate is known no longer.
    """
    coming: asyncio.Task[Notice] | None = None
    looked = time.monotonic()
    try:
        yield wire.notice_line(None)
        while True:
            if time.monotonic() - looked >= wire.HEARTBEAT:
                if not await stands():
                    return
                looked = time.monotonic()
            coming = coming or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({coming}, timeout=wire.HEARTBEAT)
            if not done:
                yield wire.notice_line(None)
                continue
            try:
                notice = coming.result()
            except (StopAsyncIteration, ConnectionError):
                return
            coming = None
            yield wire.notice_line(notice)
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        if hasattr(source, "aclose"):
            await source.aclose()


@router.post("/identity")
async def renew_identity(request: Request, parts: P) -> Response:
    """The next certificate, for a gate that has come with its last."""
    bearer = request.state.gate
    if bearer is None:
        raise Problem(403, ANOTHER_GATE)
    question = _read(await request.body(), wire.decode_renewal_question)
    made = await parts.gates.renew(bearer, question.request)
    if isinstance(made, Refusal):
        raise Problem(401 if made is NO_GATE else 422, made)
    return _json(_identity(parts, bearer.gate, made))


joining = APIRouter(prefix="/gate", include_in_schema=False)
"""Where a gate that has no certificate yet comes to; it is asked over the broker's public address."""


@joining.post("/join")
async def join(request: Request, parts: P) -> Response:
    """The first certificate, for a join token."""
    if not parts.gates_door:
        raise Problem(409, NO_DOOR)
    question = _read(await request.body(), wire.decode_join_question)
    client = request.client.host if request.client else ""
    joined = await parts.gates.join(question.token, question.request, client)
    if isinstance(joined, Refusal):
        raise Problem(422 if joined is BAD_REQUEST else 403, joined)
    return _json(_identity(parts, *joined))


def _identity(parts: Parts, gate: str, made: Signed) -> wire.IdentityAnswer:
    now = parts.clock.now()
    left = (made.until - now).total_seconds()
    return wire.IdentityAnswer(gate, made.certificate, parts.gates.trust.bundle(now), left, parts.gates_door)


def _read(body: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(body)
    except msgspec.MsgspecError:
        # Not what it says: it could quote the body, and the body can hold a person's token.
        raise Problem(422, Refusal("invalid", "The question is not in the form of this broker.")) from None


def _json(answer: object) -> Response:
    return Response(wire.encode(answer), media_type="application/json")
