"""The end: whatever a session has open is closed within a second of its grant's end."""

# ruff: noqa: ASYNC110  (a line of a corpus stays one line; nothing sleeps but in a loop)

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import aiohttp
import pytest

from proxy.sessions import OpenSession
from tests.proxy.http.conftest import HttpHouse, request
from workflows.http import RequestMatch
from workflows.model import Action, Guardrail, Quorum, ReviewState


async def _first(house: HttpHouse) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has begun."""
    reader, writer = await house.open()
    writer.write(request("GET /events HTTP/1.1"))
    await asyncio.wait_for(reader.readuntil(b"first"), 5)
    return reader, writer


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with suppress(ConnectionError):
        while piece := await asyncio.wait_for(reader.read(65536), 5):
            got += piece
    return got


async def test_a_stream_ends_with_its_grant_and_does_not_look_whole(house: HttpHouse) -> None:
    reader, _ = await _first(house)
    began = time.monotonic()
    house.authority.end(next(iter(house.authority.grants)))
    rest = await _until_closed(reader)
    assert time.monotonic() - began < 1
    assert not rest.endswith(b"0\r\n\r\n")
    await asyncio.wait_for(house.service.gone.wait(), 2)
    closing = (await house.closed())[0]
    assert closing.reason == "cut"


async def test_a_websocket_is_closed(house: HttpHouse) -> None:
    async with house.client() as client, client.ws_connect(house.address("/ws")) as ws:
        await ws.send_str("hello")
        await ws.receive(5)
        began = time.monotonic()
        house.authority.end(next(iter(house.authority.grants)))
        message = await ws.receive(5)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert time.monotonic() - began < 1
    await asyncio.wait_for(house.service.gone.wait(), 2)


async def test_an_upload_is_cut_in_its_middle(house: HttpHouse) -> None:
    reader, writer = await house.open()
    writer.write(request("POST /count HTTP/1.1", "Content-Length: 1000000", body=b"x" * 1000))
    await writer.drain()
    while not house.service.requests:
        await asyncio.sleep(0.01)
    house.authority.end(next(iter(house.authority.grants)))
    got = await _until_closed(reader)
    assert got.startswith(b"HTTP/1.1 403")
    assert b"revoked" in got


async def test_idle_connections_are_closed_and_the_next_request_is_refused(house: HttpHouse) -> None:
    reader, writer = await house.open()
    writer.write(request())
    await reader.readuntil(b"\r\n\r\n")
    house.authority.end(next(iter(house.authority.grants)))
    await _until_closed(reader)
    got = await house.raw(request())
    assert got.startswith(b"HTTP/1.1 403")
    assert b"no-grant" in got


async def test_the_gate_ends_it_itself_when_the_broker_is_away(open_http, service) -> None:
    house = await open_http()
    house.authority.lease = 0.6
    house.authority.service_grant(service.upstream())
    reader, _ = await _first(house)
    house.authority.lose()
    began = time.monotonic()
    await _until_closed(reader)
    assert time.monotonic() - began < 1.6
    assert (await house.raw(request())).startswith(b"HTTP/1.1 503")


async def test_a_grant_that_runs_out_cuts_by_the_gates_own_clock(open_http, service) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), seconds=1.0)
    reader, _ = await _first(house)
    began = time.monotonic()
    await _until_closed(reader)
    assert time.monotonic() - began < 2


async def test_what_was_held_when_the_grant_runs_out_is_refused_and_never_sent(open_http, service) -> None:
    house = await open_http()
    match = RequestMatch(methods=frozenset({"DELETE"}))
    ask = Guardrail("ask", Action.HOLD, quorum=(Quorum("dba"),), request=match)
    house.authority.service_grant(service.upstream(), seconds=1.0, guardrails=(ask,))
    began = time.monotonic()
    waiting = asyncio.create_task(house.raw(request("DELETE /all HTTP/1.1"), wait=10))
    asked = await house.authority.reviews.asked()
    got = await waiting
    assert time.monotonic() - began < 2
    assert got.startswith(b"HTTP/1.1 403"), got
    assert b"access-ended" in got
    await house.authority.reviews.state(asked.id, ReviewState.WITHDRAWN)
    assert service.requests == []


async def test_a_session_that_is_not_used_ends_by_itself_and_the_token_opens_another(
    open_http, service
) -> None:
    house = await open_http(idle=0.2)
    house.authority.service_grant(service.upstream())
    async with house.client() as client:
        for number in range(2):
            async with client.get(house.address(f"/{number}")) as answer:
                assert answer.status == 200
            closing = (await house.closed(number + 1))[number]
            assert (closing.reason, closing.statements) == ("client", 1)
    assert len(house.authority.knocks) == 2


async def test_what_cannot_be_recorded_is_cut(house: HttpHouse) -> None:
    reader, _ = await _first(house)
    (session,) = house.gate.registry.all()
    assert session.track is not None
    session.track.fail("the disk is full")
    await _until_closed(reader)
    assert (await house.closed())[0].reason == "error"


async def test_a_session_that_cannot_be_recorded_does_not_begin(
    house: HttpHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.recorder import RecordingError

    async def broken(*_arguments: object) -> None:
        raise RecordingError("The session cannot be recorded, so it may not begin.")

    monkeypatch.setattr(OpenSession, "begin_recording", broken)
    got = await house.raw(request())
    assert got.startswith(b"HTTP/1.1 503")
    assert house.service.requests == []


async def test_a_client_that_leaves_ends_what_it_asked_for(house: HttpHouse) -> None:
    _, writer = await _first(house)
    writer.transport.abort()
    await asyncio.wait_for(house.service.gone.wait(), 5)


async def test_a_client_that_says_nothing_is_sent_away(open_http, service) -> None:
    house = await open_http(keep_alive=0.3)
    house.authority.service_grant(service.upstream())
    reader, writer = await house.open()
    writer.write(b"GET / HT")
    assert house.gate.http is not None
    await asyncio.sleep(0.5)
    house.gate.http._sweep()
    assert await asyncio.wait_for(reader.read(), 5) == b""
