"""What an exec says over SPDY is heard wherever its bytes are cut; what is not known ends it."""

from __future__ import annotations

import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.kinds import Blocked
from proxy.kubernetes import spdy
from proxy.kubernetes.streams import SpdyEar

STREAMS = {"error": 1, "stdin": 3, "stdout": 5, "stderr": 7, "resize": 9}
EXIT_3 = json.dumps({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}})


class Client:
    """Writes frames as a client does; headers are compressed in one stream."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(9, zdict=spdy.DICTIONARY)

    def block(self, *pairs: tuple[str, str]) -> bytes:
        plain = struct.pack("!I", len(pairs))
        for name, value in pairs:
            for text in (name, value):
                plain += struct.pack("!I", len(text)) + text.encode()
        return self._zlib.compress(plain) + self._zlib.flush(zlib.Z_SYNC_FLUSH)

    def open(self, stream: int, *pairs: tuple[str, str]) -> bytes:
        return control(1, struct.pack("!IIH", stream, 0, 0) + self.block(*pairs))

    def all(self) -> bytes:
        return b"".join(self.open(it, ("streamtype", name)) for name, it in STREAMS.items())


def control(kind: int, body: bytes, *, flags: int = 0, version: int = 3) -> bytes:
    return struct.pack("!HHI", 0x8000 | version, kind, (flags << 24) | len(body)) + body


def listening(*, terminal: bool = False) -> tuple[SpdyEar, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    return SpdyEar(lambda event, text: told.append((event, text)), terminal=terminal), told


def said(name: str, text: str, *, last: bool = False) -> bytes:
    return spdy.data(STREAMS[name], text.encode(), last=last)


PING = control(6, b"\0\0\0\1")
REPLY = control(2, struct.pack("!I", 5) + b"whatever it is compressed with")


@given(st.integers(1, 40))
def test_streams_are_heard_wherever_their_bytes_are_cut(size: int) -> None:
    ear, told = listening()
    typed = Client().all() + PING + said("stdin", "in\n") + said("stdin", "", last=True)
    shown = REPLY + said("stdout", "out\n") + said("stderr", "oops\n") + said("error", EXIT_3[:9])
    shown += said("error", EXIT_3[9:]) + said("error", "", last=True)
    for at in range(0, len(typed), size):
        assert ear.from_client(typed[at : at + size]) == typed[at : at + size]
    for at in range(0, len(shown), size):
        assert ear.from_target(shown[at : at + size]) == shown[at : at + size]
    ear.over()
    ear.over()
    for event, text in (("i", "in\n"), ("o", "out\n"), ("e", "oops\n")):
        assert "".join(one for it, one in told if it == event) == text
    assert told[-1][0] == "x"
    assert told[-1][1].startswith("exit 3; in 3 bytes ")


def test_a_terminal_has_sizes_and_no_typing() -> None:
    ear, told = listening(terminal=True)
    sizes = (
        said("resize", '{"Width":80,"Height":24}\n')
        + said("resize", '{"Width":100,')
        + said("resize", '"Height":30}\n')
    )
    ear.from_client(Client().all() + sizes + said("stdin", "a-password\n"))
    ear.from_target(said("stdout", "$ "))
    ear.over()
    assert [text for event, text in told if event == "r"] == ["80x24", "100x30"]
    assert "a-password" not in str(told)


def test_an_outcome_whose_stream_was_not_closed_counts() -> None:
    ear, told = listening()
    ear.from_client(Client().all())
    ear.from_target(said("error", '{"status":"Success"}'))
    ear.over()
    assert told[-1] == ("x", "exit 0")


def test_the_last_words_come_as_the_outcome_and_never_into_another_frame() -> None:
    ear, told = listening()
    ear.from_client(Client().all())
    words = ear.farewell("the grant expired")
    assert b"the grant expired" in words
    assert words.startswith(struct.pack("!I", STREAMS["stderr"]))
    ear.from_target(said("stdout", "a long text")[:-3])
    assert ear.farewell("the grant expired") == b""
    assert told[0] == ("n", "the grant expired")


ONE = ("streamtype", "stdin")
BROKEN = {
    "data of no stream": lambda client: said("stdin", "x"),
    "data towards the client": lambda client: client.all() + said("stdout", "x"),
    "an unknown stream": lambda client: client.open(1, ("streamtype", "data")),
    "a stream without a type": lambda client: client.open(1, ("port", "80")),
    "a type twice": lambda client: client.open(1, ONE) + client.open(3, ONE),
    "a number twice": lambda client: client.open(1, ONE) + client.open(1, ("streamtype", "error")),
    "a field twice": lambda client: client.open(1, ONE, ("streamtype", "error")),
    "two values": lambda client: client.open(1, ("streamtype", "stdin\0error")),
    "a field in capitals": lambda client: client.open(1, ("Streamtype", "stdin")),
    "a field that breaks off": lambda client: control(1, bytes(10) + client.block(ONE)[:-12]),
    "no compression": lambda client: control(1, bytes(10) + b"\0\0\0\0"),
    "a bomb": lambda client: client.open(1, ("streamtype", "x" * 100_000)),
    "a frame that is too long": lambda client: control(6, bytes(70_000)),
    "another version": lambda client: control(6, bytes(4), version=2),
    "another kind": lambda client: control(5, bytes(4)),
    "a stream of one way": lambda client: control(1, bytes(10) + client.block(ONE), flags=2),
    "more fields": lambda client: control(8, struct.pack("!I", 1) + client.block(ONE)),
    "a reply": lambda client: control(2, struct.pack("!I", 1)),
    "a size that is none": lambda client: client.all() + said("resize", "{}\n"),
    "a size without an end": lambda client: client.all() + said("resize", "1" * 5000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_has_no_meaning_does_not_pass(name: str) -> None:
    ear, _ = listening()
    with pytest.raises(Blocked):
        ear.from_client(BROKEN[name](Client()))


def test_a_server_opens_no_stream_and_types_nothing() -> None:
    ear, _ = listening()
    with pytest.raises(Blocked):
        ear.from_target(Client().open(2, ONE))
    ear, _ = listening()
    ear.from_client(Client().all())
    with pytest.raises(Blocked):
        ear.from_target(said("stdin", "x"))


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans(), st.booleans())
def test_whatever_bytes_come_they_pass_as_they_are_or_end_it(
    pieces: list[bytes], opened: bool, from_client: bool
) -> None:
    ear, _ = listening()
    if opened:
        ear.from_client(Client().all())
    try:
        for piece in pieces:
            assert (ear.from_client(piece) if from_client else ear.from_target(piece)) == piece
    except Blocked:
        pass
    ear.farewell("over")
    ear.over()
