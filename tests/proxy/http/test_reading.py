"""The reader of HTTP beside another one: whatever ours takes, h11 takes too, and reads alike."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.http import codec
from proxy.http.body import Chunked, Sized, chunk, last_chunk
from proxy.http.codec import Malformed
from tests.proxy.http.test_attacks import CHUNKS, SMUGGLING

_name = st.sampled_from(
    ["Host", "X", "Content-Length", "Transfer-Encoding", "Connection", "x-y", "Cookie", "A b", ""]
)
_value = st.sampled_from(
    ["", "a", "3", "0", "chunked", "close", "x, y", "é", " padded ", "a:b", "\ta", "\x7f", "identity"]
)
_field = st.tuples(_name, _value).map(lambda it: f"{it[0]}:{it[1]}")
_method = st.sampled_from(["GET", "POST", "get", "G T", "M-SEARCH", "", "OPTIONS"])
_target = st.sampled_from(["/", "/a?b=c", "*", "/a b", "http://x/", "/%zz", "/é"])
_version = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", ""])
_end = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n "])


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    fields = draw(st.lists(_field, max_size=5)) + draw(st.sampled_from([["Host: x"], []]))
    lines = [f"{draw(_method)} {draw(_target)} {draw(_version)}", *fields]
    text = "".join(line + draw(_end) for line in lines)
    return (text + "\r\n").encode("latin-1")


def _by_h11(data: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    return event if isinstance(event, h11.Request) else None


@given(_requests())
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
def test_whatever_is_read_another_reads_alike(data: bytes) -> None:
    try:
        end = codec.head_end(data)
        if end != len(data):
            return
        ours = codec.read_request(data)
    except Malformed:
        return
    theirs = _by_h11(data)
    assert theirs is not None
    assert theirs.method.decode() == ours.method
    assert theirs.target == ours.target
    assert [(bytes(name), bytes(value)) for name, value in theirs.headers] == ours.headers


@pytest.mark.parametrize("attack", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_the_corpus_has_is_not_read_or_not_passed_on(attack: bytes) -> None:
    """The corpus is of what our own reader refuses, but for what is refused for its place or its fields."""
    later = (
        b"Connection: ",
        b"https://",
        b"http://",
        b"OPTIONS *",
        b"127.0.0.1:80",
        b"Authorization: Bearer other",
    )
    if any(mark in attack for mark in later):
        return
    with pytest.raises(Malformed):
        codec.read_request(attack[: codec.head_end(attack)])


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
)
def test_chunks_in_any_pieces_are_the_body(parts: list[bytes], sizes: list[int]) -> None:
    text = b"".join(map(chunk, parts)) + last_chunk([(b"x-end", b"yes")]) + b"next"
    reader, out, at, turn = Chunked(), b"", 0, 0
    rest: bytes | None = None
    while rest is None:
        size = sizes[turn % len(sizes)]
        piece, rest = reader.feed(text[at : at + size])
        out, at, turn = out + piece, at + size, turn + 1
    assert out == b"".join(parts)
    assert reader.trailers == [(b"x-end", b"yes")]
    assert rest + text[at:] == b"next"


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS.keys())
def test_wrong_chunks_are_refused_in_any_pieces(body: bytes) -> None:
    for size in (1, 3, len(body)):
        reader = Chunked()
        with pytest.raises(Malformed):  # noqa: PT012
            for at in range(0, len(body), size):
                reader.feed(body[at : at + size])
            pytest.fail("it was read")


@given(st.binary(max_size=60), st.integers(0, 60), st.integers(1, 9))
def test_a_sized_body_takes_its_bytes_and_no_more(data: bytes, length: int, size: int) -> None:
    reader, out, at = Sized(length), b"", 0
    rest: bytes | None = None
    while at < len(data) and rest is None:
        piece, rest = reader.feed(data[at : at + size])
        out, at = out + piece, at + size
    assert out == data[: len(out)]
    assert len(out) <= length
    assert rest is None or len(out) == length
