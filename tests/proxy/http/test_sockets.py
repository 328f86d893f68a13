"""WebSockets in the recording: each message, whoever said it, where the policy keeps bodies."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import frames
from proxy.http.kinds import Blocked
from proxy.http.sockets import SocketTape
from proxy.recording import Screen
from tests.proxy.http.conftest import HttpHouse


def frame(data: bytes, opcode: int = frames.TEXT, *, final: bool = True, masked: bool = True) -> bytes:
    size, first = len(data), (0x80 if final else 0) | opcode
    bit = 0x80 if masked else 0
    head = (
        struct.pack("!BB", first, bit | size) if size < 126 else struct.pack("!BBH", first, bit | 126, size)
    )
    if not masked:
        return head + data
    return head + b"mask" + bytes(a ^ b for a, b in zip(data, itertools.cycle(b"mask"), strict=False))


def heard(*said: bytes, from_client: bool = True) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    tape = SocketTape(lambda event, text: told.append((event, text)))
    for one in said:
        passed = tape.from_client(one) if from_client else tape.from_target(one)
        assert passed == one
    return told


async def test_messages_are_recorded_with_who_said_them(open_http: Any, service: Any) -> None:
    house: HttpHouse = await open_http(idle=0.2)
    house.authority.service_grant(service.upstream(), record="bodies", websocket=True)
    async with house.client() as client, client.ws_connect(house.address("/ws"), compress=15) as ws:
        assert not ws.compress, "what is compressed could not be read"
        await ws.send_str('{"op": "login", "password": "hunter2"}')
        assert (await ws.receive(5)).data.startswith("you said")
        await ws.send_bytes(b"\0" * 300_000)
        assert len((await ws.receive(5)).data) == 300_000
    await asyncio.wait_for(service.gone.wait(), 5)
    shown = [it for it in (await house.recording()).happened if isinstance(it, Screen)]
    blob = f"(300000 bytes, SHA-256 {hashlib.sha256(bytes(300_000)).hexdigest()})"
    assert [(it.event, it.text) for it in shown if it.event in "io"] == [
        ("i", '{"op": "login", "password": "***"}'),
        ("o", 'you said {"op": "login", "password": "***"}'),
        ("i", blob),
        ("o", blob),
    ]
    assert "hunter2" not in str(shown)


async def test_where_no_bodies_are_kept_a_websocket_passes_compressed_and_unread(house: HttpHouse) -> None:
    async with house.client() as client, client.ws_connect(house.address("/ws"), compress=15) as ws:
        assert ws.compress
        await ws.send_str("hello")
        assert (await ws.receive(5)).data == "you said hello"


async def test_what_is_no_websocket_ends_where_it_is_recorded(open_http: Any, service: Any) -> None:
    house: HttpHouse = await open_http(idle=0.2)
    house.authority.service_grant(service.upstream(), record="bodies")
    async with house.client() as client, client.ws_connect(house.address("/ws")) as ws:
        await ws.send_str("hello")
        await ws.receive(5)
        writer = ws._writer.transport
        writer.write(frame(b"unmasked", masked=False))
        assert (await ws.receive(5)).data == 1008
    (statement,) = (await house.recording()).statements
    assert statement.outcome == "refused"
    assert "cannot be recorded" in statement.message


@given(st.lists(st.text(max_size=200), max_size=5), st.integers(1, 60))
def test_a_message_in_any_frames_and_pieces_is_one(said: list[str], size: int) -> None:
    raw = b""
    for text in said:
        data = text.encode()
        middle = len(data) // 2
        raw += frame(data[:middle], final=False) + frame(b"", frames.PING)
        raw += frame(data[middle:], frames.CONTINUATION)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    from proxy.http.tape import hidden_text

    assert heard(*pieces) == [("i", hidden_text(text)) for text in said]


def test_of_a_long_text_the_beginning_is_kept_and_its_hash() -> None:
    data = b"y" * 40_000
    told = heard(frame(data, masked=False), from_client=False)
    assert len(told) == 1
    assert told[0][1].startswith("y" * 1000)
    assert told[0][1].endswith(f"(40000 bytes, SHA-256 {hashlib.sha256(data).hexdigest()})")
    assert len(told[0][1]) < 17_000


@pytest.mark.parametrize(
    "raw",
    [
        frame(b"x", masked=False),
        frame(b"x", frames.CONTINUATION),
        frame(b"x", final=False) + frame(b"y"),
        b"\xc1" + frame(b"x")[1:],
        frame(b"x", 3),
        frame(b"x" * 126, frames.PING),
    ],
)
def test_frames_that_mean_nothing_are_blocked(raw: bytes) -> None:
    with pytest.raises(Blocked):
        heard(raw)
