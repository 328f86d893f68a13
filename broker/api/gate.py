"""The door for gates in other processes: proxy/remote.py speaks to it, over TCP or a Unix socket.

Authenticated by the gate token. Not a part of the public API.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from broker.api.auth import P, parts_of
from broker.api.parts import Parts
from broker.api.problems import Problem
from broker.reading import NO_SESSION
from workflows import gate_wire as wire
from workflows.gate import Notice
from workflows.model import Refusal

T = TypeVar("T")

GateToken = Refusal("wrong-gate-token", "This is no gate of ours.", "Give it PORTCULLIS_GATE_TOKEN.")


def _known_gate(request: Request, parts: Annotated[Parts, Depends(parts_of)]) -> None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    good = hmac.compare_digest(token.encode(), parts.gate_token.encode())
    # An empty token is configured by nobody: it opens nothing.
    if not (good and parts.gate_token and kind.lower() == "bearer"):
        raise Problem(401, GateToken)


router = APIRouter(prefix="/gate", include_in_schema=False, dependencies=[Depends(_known_gate)])


@router.get("/client-ca")
async def client_ca(parts: P) -> Response:
    return _json(wire.ClientCaAnswer(await parts.door.client_ca()))


@router.post("/admit")
async def admit(request: Request, parts: P) -> Response:
    outcome = await parts.door.admit(_read(await request.body(), wire.decode_knock))
    return _json(wire.admit_answer(outcome))


@router.post("/login")
async def login(request: Request, parts: P) -> Response:
    outcome = await parts.door.start_login(_read(await request.body(), wire.decode_knock))
    return _json(wire.login_answer(outcome))


@router.post("/renew")
async def renew(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_renew_question)
    return _json(wire.renew_answer(await parts.door.renew(question.gate, question.progress)))


@router.post("/hold")
async def hold(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_hold_question)
    await parts.door.hold(question.gate, question.grant)
    return Response(status_code=204)


@router.post("/close")
async def close(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_close_question)
    await parts.door.close(question.gate, question.closing)
    return Response(status_code=204)


@router.post("/review")
async def review(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_ask_question)
    return _json(wire.ask_answer(await parts.door.ask_review(question.gate, question.held)))


@router.post("/run")
async def run(request: Request, parts: P) -> Response:
    it = _read(await request.body(), wire.decode_run_question)
    return _json(wire.run_answer(await parts.door.take_run(it.gate, it.review, it.session, it.digest)))


@router.post("/finish")
async def finish(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_finish_question)
    await parts.door.finish_run(question.gate, question.review, question.outcome)
    return Response(status_code=204)


@router.post("/withdraw")
async def withdraw(request: Request, parts: P) -> Response:
    question = _read(await request.body(), wire.decode_withdraw_question)
    await parts.door.withdraw_review(question.gate, question.review, question.why)
    return Response(status_code=204)


@router.post("/recording")
async def recording(request: Request, parts: P, gate: str, session: str, offset: int) -> Response:
    """A piece of the recording of a session of this gate's. It is put behind what is here, never over it."""
    record = await parts.service.session_at(gate, session)
    if record is None:
        raise Problem(404, NO_SESSION)
    piece = await request.body()
    return _json(wire.HeldAnswer(await asyncio.to_thread(parts.recordings.keep, record.id, offset, piece)))


@router.get("/notices")
async def notices(gate: str, parts: P) -> StreamingResponse:
    return StreamingResponse(_stream(parts.door.notices(gate)), media_type="application/x-ndjson")


async def _stream(source: AsyncIterator[Notice]) -> AsyncIterator[bytes]:
    """Notices as they come, and a heartbeat whenever there was none for a while. Ends with its source."""
    coming: asyncio.Task[Notice] | None = None
    try:
        yield wire.notice_line(None)
        while True:
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


def _read(body: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(body)
    except msgspec.MsgspecError:
        # Not what it says: it could quote the body, and the body can hold a person's token.
        raise Problem(422, Refusal("invalid", "The question is not in the form of this broker.")) from None


def _json(answer: object) -> Response:
    return Response(wire.encode(answer), media_type="application/json")
