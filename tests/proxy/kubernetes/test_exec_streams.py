"""What an exec says is heard whole and kept, wherever its bytes are cut; what has no meaning ends it."""

from __future__ import annotations

import itertools
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import frames
from proxy.http.frames import Broken, Frames
from proxy.http.kinds import Blocked
from proxy.kubernetes import streams
from proxy.kubernetes.streams import Ear


def client_frame(
    data: bytes, opcode: int = frames.BINARY, final: bool = True, mask: bytes = b"mask"
) -> bytes:
    size, first = len(data), (0x80 if final else 0) | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(a ^ b for a, b in zip(data, itertools.cycle(mask), strict=False))


def server_frame(data: bytes, opcode: int = frames.BINARY, final: bool = True) -> bytes:
    whole = frames.message(data)
    return bytes([(0x80 if final else 0) | opcode]) + whole[1:]


def messages(raw: bytes, cuts: list[int], *, masked: bool) -> list[bytes]:
    reader, found, now = Frames(masked=masked), [], b""
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        for piece in reader.feed(raw[start:end]):
            now += piece.data
            if piece.last:
                found.append(now)
                now = b""
    return found


payloads = st.lists(st.binary(max_size=300), max_size=5)


@given(payloads, st.lists(st.integers(0, 2000), max_size=8), st.binary(min_size=4, max_size=4))
def test_messages_are_read_wherever_they_are_cut(said: list[bytes], cuts: list[int], mask: bytes) -> None:
    ping = client_frame(b"now", frames.PING, mask=mask)
    from_client = b"".join(client_frame(it, mask=mask) + ping for it in said)
    from_server = b"".join(server_frame(it) + server_frame(b"", frames.PONG) for it in said)
    assert messages(from_client, cuts, masked=True) == said
    assert messages(from_server, cuts, masked=False) == said


def test_a_message_may_come_in_several_frames_with_a_ping_between() -> None:
    raw = (
        server_frame(b"ab", final=False)
        + server_frame(b"", frames.PING)
        + server_frame(b"c" * 70_000, frames.CONTINUATION)
    )
    assert messages(raw, [], masked=False) == [b"ab" + b"c" * 70_000]


@pytest.mark.parametrize(
    "raw",
    [
        server_frame(b"x"),
        client_frame(b"x", frames.TEXT),
        client_frame(b"x", 3),
        client_frame(b"x", 0x40 | frames.BINARY),
        client_frame(b"x", frames.CONTINUATION),
        client_frame(b"x", final=False) + client_frame(b"y"),
        client_frame(b"x" * 126, frames.PING),
        client_frame(b"x", frames.CLOSE, final=False),
    ],
)
def test_what_is_no_frame_of_a_clients_is_found(raw: bytes) -> None:
    with pytest.raises(Broken):
        messages(raw, [], masked=True)


def test_a_server_does_not_mask() -> None:
    with pytest.raises(Broken):
        messages(client_frame(b"x"), [], masked=False)


# -------------------------------------------------------------------- an exec


class Kept:
    def __init__(self, *, terminal: bool, hidden: tuple[str, ...] = ()) -> None:
        self.told: list[tuple[str, str]] = []
        self.ear = Ear(lambda event, text: self.told.append((event, text)), terminal=terminal, hidden=hidden)

    def of(self, event: str) -> str:
        return "".join(text for it, text in self.told if it == event)


EXITS = {
    b'{"metadata":{},"status":"Success"}': "exit 0",
    json.dumps(
        {"status": "Failure", "reason": "NonZeroExitCode",
         "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}
    ).encode(): "exit 7",
    b'{"status":"Failure","message":"container not found"}': "failed",
    b"nonsense": "ended",
}  # fmt: skip


def test_a_terminal_is_kept_as_it_was_shown_and_typing_is_not() -> None:
    kept = Kept(terminal=True)
    assert kept.ear.from_client(client_frame(b'\x04{"Width":120,"Height":40}'))
    kept.ear.from_client(client_frame(b"\x00hunter2\n"))
    kept.ear.from_target(server_frame(b"\x01$ "))
    kept.ear.from_target(server_frame(b"\x03" + next(iter(EXITS))))
    kept.ear.over()
    kept.ear.over()
    assert kept.told == [("r", "120x40"), ("o", "$ "), ("x", "exit 0")]


def test_without_a_terminal_each_stream_is_kept_with_its_hash() -> None:
    kept = Kept(terminal=False)
    kept.ear.from_client(client_frame(b"\x00select 1"))
    kept.ear.from_target(server_frame(b"\x01one\n") + server_frame(b"\x02warning\n"))
    kept.ear.over()
    assert (kept.of("i"), kept.of("o"), kept.of("e")) == ("select 1", "one\n", "warning\n")
    assert kept.of("x").startswith("unfinished; in 8 bytes ")


@pytest.mark.parametrize("raw", EXITS)
def test_how_the_command_ended_is_kept(raw: bytes) -> None:
    kept = Kept(terminal=False)
    kept.ear.from_target(server_frame(b"\x03" + raw))
    kept.ear.over()
    assert kept.of("x") == EXITS[raw]


@pytest.mark.parametrize(
    "raw",
    [
        client_frame(b""),
        client_frame(b"\x01out"),
        client_frame(b"\x03{}"),
        client_frame(b"\x09x"),
        client_frame(b"\x04{}"),
        client_frame(b"\x04" + b"[" * 5000),
        client_frame(b"\x04" + b"{" * 3000),
    ],
)
def test_what_a_client_may_not_say_does_not_pass(raw: bytes) -> None:
    with pytest.raises(Blocked):
        Kept(terminal=True).ear.from_client(raw)


def test_nor_what_a_server_may_not_say() -> None:
    for raw in (server_frame(b"\x00x"), server_frame(b"\x04{}"), client_frame(b"\x01x")):
        with pytest.raises(Blocked):
            Kept(terminal=True).ear.from_target(raw)


def test_the_last_words_come_on_standard_error_and_as_the_outcome() -> None:
    words = Kept(terminal=True).ear.farewell("access ended: the grant expired")
    found = messages(words, [], masked=False)
    assert found[0] == b"\x02\r\naccess ended: the grant expired\r\n"
    assert json.loads(found[1][1:])["message"] == "access ended: the grant expired"
    assert b"\x88" in words


def test_only_protocols_that_are_read_are_offered() -> None:
    assert streams.offered(
        "v4.channel.k8s.io, v5.channel.k8s.io, base64.channel.k8s.io", streams.PROTOCOLS
    ) == (
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
    )
    assert streams.offered("channel.k8s.io", streams.PROTOCOLS) == ()
