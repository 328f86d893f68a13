"""Masked means masked: a field's clear value is in no byte of an answer, however the answer comes."""

# ruff: noqa: E501  (a line of a corpus stays one line; nothing sleeps but in a loop)

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.json_mask import JsonMask, Machine, once
from proxy.http.kinds import Blocked
from proxy.http.masking import EventMask, TextMask
from tests.proxy.http.conftest import HttpHouse, RawTarget, request
from workflows.http import FieldMask

Behind = Callable[..., Awaitable[tuple[HttpHouse, RawTarget]]]
KEY = b"k" * 32


def machine(*masks: FieldMask | str) -> Machine:
    return Machine([FieldMask(mask) if isinstance(mask, str) else mask for mask in masks], KEY)


def masked(document: object, *masks: FieldMask | str) -> object:
    return json.loads(once(json.dumps(document).encode(), machine(*masks), ()))


def test_fields_are_masked_by_their_paths_and_the_rest_stays() -> None:
    people = {"users": [{"email": "a@b", "n": 1, "in": {"email": "c@d"}}, {"email": None}], "email": "top"}
    assert masked(people, "$.users[*].email") == {
        "users": [{"email": "***", "n": 1, "in": {"email": "c@d"}}, {"email": None}],
        "email": "top",
    }
    assert masked(people, "$..email") == {
        "users": [{"email": "***", "n": 1, "in": {"email": "***"}}, {"email": None}],
        "email": "***",
    }
    assert masked(people, "$.users[0]") == {"users": ["***", {"email": None}], "email": "top"}
    assert masked([{"a": [1, {"b": 2}]}], "$[*].a") == [{"a": "***"}]


@pytest.mark.parametrize(
    ("method", "value", "shown"),
    [
        ("full", "secret", "***"),
        ("full", 12, None),
        ("full", True, None),
        ("null", "secret", None),
        ("last4", "4111111111111111", "***1111"),
        ("email", "ada@example.com", "a***@***"),
        ("full", {"a": "secret"}, "***"),
        ("full", ["secret"], "***"),
    ],
)
def test_each_method_hides_in_its_way(method: str, value: object, shown: object) -> None:
    assert masked({"x": value}, FieldMask("$.x", method)) == {"x": shown}


def test_equal_values_get_equal_pseudonyms() -> None:
    one, two, other = masked(["ada", "ada", "bob"], FieldMask("$[*]", "pseudonym"))  # type: ignore[misc]
    assert one == two != "ada"
    assert other != "bob"


@pytest.mark.parametrize(
    "name", ['"email"', '"\\u0065mail"', '"em\\u0061il"', '"\\u0065\\u006d\\u0061\\u0069\\u006c"']
)
def test_a_name_is_what_it_reads_as_not_how_it_is_written(name: str) -> None:
    out = once(f'{{{name}: "secret"}}'.encode(), machine("$.email"), ())
    assert b"secret" not in out


@pytest.mark.parametrize(
    "text",
    [
        b"{'email': 'x'}", b'{"email": "x"', b'{"email" "x"}', b'{"a":1,}', b"[1,]", b"[1 2]", b'{"a":NaN}', b"{a:1}",
        b'{"a":01}', b'"\xff\x00"', b'{"a":"\n"}', b"[1]]", b"{}{}", b'{"a":1}x', b"/*x*/{}", b"\xef\xbb\xbf{}", b"tru", b"",
        b'{"\xff":"secret"}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_not_passed_on(text: bytes) -> None:
    if not text:
        assert once(text, machine("$.email"), ()) == b""
        return
    with pytest.raises(Blocked):
        once(text, machine("$.email"), ())


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "email", "é"]), inner, max_size=4)
    ),
    max_leaves=25,
)


def _expected(value: object) -> object:
    if isinstance(value, dict):
        return {k: _hidden(v) if k == "email" else _expected(v) for k, v in value.items()}
    return [_expected(one) for one in value] if isinstance(value, list) else value


def _hidden(value: object) -> object:
    return "***" if isinstance(value, (str, dict, list)) else None


@given(_json, st.booleans(), st.integers(0, 2), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_any_document_in_any_pieces_is_masked_as_a_whole_one(
    document: object, plain: bool, indent: int, sizes: list[int]
) -> None:
    text = json.dumps(document, ensure_ascii=not plain, indent=indent or None).encode(
        "utf-8", "surrogatepass"
    )
    mask = JsonMask(machine("$..email"), ())
    out, at, turn = b"", 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        out += mask.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    out += mask.end()
    assert json.loads(out) == _expected(document)


def test_long_texts_pass_or_are_masked_in_constant_memory() -> None:
    for masks, detect, shown in ((["$.x"], (), False), ([], (), True), ([], ("email",), False)):
        mask = JsonMask(machine(*masks), detect)
        out = mask.feed(b'{"x": "')
        most = 0
        for _ in range(200):
            out += mask.feed(b"y" * 9_999 + b"\\")
            out += mask.feed(b'"')
            most = max(most, len(mask._buffer))
        out += mask.feed(b'", "z": 1}') + mask.end()
        value = json.loads(out)
        assert value["z"] == 1
        assert (value["x"] == ("y" * 9_999 + '"') * 200) if shown else value["x"] == "***"
        assert most < 600_000


def test_findings_are_hidden_in_texts_across_pieces() -> None:
    text = ("write to eve@secret.example today\n" * 3 + "and " * 20_000 + "mallory@secret.example").encode()
    for size in (7, 1000, 40_000):
        mask = TextMask(("email",), "utf-8")
        out = b"".join(mask.feed(text[at : at + size]) for at in range(0, len(text), size)) + mask.end()
        assert b"secret.example" not in out
        assert out.count(b"***") >= 4


def test_events_are_masked_each_by_itself() -> None:
    mask = EventMask(machine("$.email"), ("email",), masks=True)
    out = mask.feed(b'event: x\r\ndata: {"email":\r\ndata: "a@b"}\r\n\r\ndata: pl') + mask.feed(
        b"ain\n\n: c@secret.example\n\n"
    )
    assert out == b'event: x\ndata: {"email":\ndata: "***"}\n\ndata: ***\n\n:\n\n'


@pytest.mark.parametrize(
    "said",
    [
        b'\xef\xbb\xbfdata: {"email": "a@secret"}\n\n',
        b': {"email": "a@secret"}\n\n',
        b'other: {"email": "a@secret"}\n\n',
        b'DATA: {"email": "a@secret"}\n\n',
        b'data:{"email":\rdata:"a@secret"}\r\r',
        b'data: {"email": "a@secret"}',
        b'data: {"x": 1, "\\u0065mail": "a@secret"}\n\n',
    ],
)
def test_an_event_shows_no_field_wherever_it_stands(said: bytes) -> None:
    for size in (1, 2, 5, len(said)):
        mask = EventMask(machine("$.email"), (), masks=True)
        out = b"".join(mask.feed(said[at : at + size]) for at in range(0, len(said), size)) + mask.end()
        assert b"secret" not in out, out


# ------------------------------------------------------------ on the wire


def answer(body: bytes, *headers: bytes, kind: bytes = b"application/json") -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


USERS = b'{"users": [{"email": "eve@secret.example"}]}'
MASKS = (FieldMask("$.users[*].email"),)


async def test_an_answer_is_masked_and_what_tells_of_the_clear_one_is_left_out(behind: Behind) -> None:
    house, target = await behind(answer(USERS, b"Digest: sha-256=x", b"Accept-Ranges: bytes"), masks=MASKS)
    got = await house.raw(request("GET / HTTP/1.1", "Range: bytes=5-", "Accept-Encoding: gzip"))
    assert b"secret" not in got
    assert b'{"users": [{"email": "***"}]}' in got
    assert b"digest" not in got.lower()
    asked = target.got[0].lower()
    assert b"range:" not in asked
    assert b"accept-encoding: identity" in asked


UNREADABLE = {
    "in an encoding": answer(gzip.compress(USERS), b"Content-Encoding: gzip"),
    "in an unknown encoding": answer(USERS, b"Content-Encoding: x"),
    "a part of it": answer(USERS).replace(b"200 OK", b"206 Partial Content"),
    "as a page": answer(b"<p>eve@secret.example</p>", kind=b"text/html"),
    "as a table": answer(b"eve@secret.example", kind=b"text/csv"),
    "as a script": answer(b"cb(" + USERS + b")", kind=b"text/javascript"),
    "as bytes": answer(USERS, kind=b"application/octet-stream"),
    "without a type": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(USERS) + USERS,
    "in two encodings": answer(
        gzip.compress(USERS), b"Content-Encoding: identity", b"Content-Encoding: gzip"
    ),
    "in two alphabets": answer(USERS, kind=b"application/json; charset=utf-8; charset=utf-16"),
    "in UTF-32": answer(USERS.decode().encode("utf-32"), kind=b"application/json; charset=utf-32"),
    "in UTF-7": answer(USERS, kind=b"application/json; charset=utf-7"),
    "in UTF-16 unsaid": answer(USERS.decode().encode("utf-16-le")),
    "behind a byte order mark": answer(b"\xef\xbb\xbf" + USERS),
    "as JSON that is none": answer(USERS, kind=b"json"),
    "in parts": answer(USERS, kind=b"multipart/mixed; boundary=x"),
    "as JSON5": answer(USERS, kind=b"application/json5"),
    "as two documents": answer(b"{}" + USERS),
    "with two types": answer(USERS, b"Content-Type: image/png"),
    "in UTF-16": answer(USERS.decode().encode("utf-16"), kind=b"application/json; charset=utf-16"),
    "cut short": answer(USERS[:-2]),
    "with something before it": answer(b")]}'," + USERS),
}


@pytest.mark.parametrize("said", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_cannot_be_read_shows_nothing(behind: Behind, said: bytes) -> None:
    house, _ = await behind(said, masks=MASKS)
    got = await house.raw(request())
    assert b"secret" not in got
    assert gzip.compress(USERS)[10:20] not in got


async def test_a_masked_stream_of_events_comes_event_by_event(open_http, service) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), masks=(FieldMask("$.email"),), detect=("email",))
    async with house.client() as client, client.get(house.address("/events")) as got:
        assert await asyncio.wait_for(got.content.readuntil(b"\n\n"), 5) == b"data: ***\n\n"
        service.go.set()
        assert await asyncio.wait_for(got.content.read(), 5) == b"data: ***\n\n"


async def test_types_that_the_policy_names_pass(behind: Behind) -> None:
    house, _ = await behind(answer(b"body {}", kind=b"text/css"), masks=MASKS, pass_types=("text/css",))
    assert (await house.raw(request())).endswith(b"body {}")


async def test_no_trailer_tells_of_the_clear_answer(behind: Behind) -> None:
    said = answer(b"").replace(
        b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\nTrailer: Digest, ETag\r\n"
    )
    said += (
        b"%x\r\n" % len(USERS) + USERS + b'\r\n0\r\nDigest: sha-256=abc\r\nETag: "abc"\r\nX-Sum: abc\r\n\r\n'
    )
    house, _ = await behind(said, masks=MASKS)
    got = await house.raw(request())
    assert b"***" in got
    assert b"abc" not in got


async def test_a_tag_of_the_clear_answer_is_sealed_and_opened_again(behind: Behind) -> None:
    tag = b'W/"2c-the-hash-of-the-clear-body"'
    house, target = await behind(answer(USERS, b"ETag: " + tag), close=False, masks=MASKS)
    not_changed = b"HTTP/1.1 304 Not Modified\r\nETag: " + tag + b"\r\n\r\n"
    target.answers += [not_changed, not_changed]
    got = await house.raw(request("GET / HTTP/1.1"))
    assert b"hash-of" not in got
    sealed = next(it for it in got.split(b"\r\n") if it.startswith(b"etag: ")).removeprefix(b"etag: ")
    assert sealed.startswith(b'W/"pc.')
    again = await house.raw(request("GET / HTTP/1.1", f"If-None-Match: {sealed.decode()}"))
    assert again.startswith(b"HTTP/1.1 304")
    assert sealed in again
    assert b"if-none-match: " + tag in target.got[1]
    await house.raw(request("GET / HTTP/1.1", f"If-None-Match: {tag.decode()}"))
    assert b"hash-of" not in target.got[2], "a guess was tried"


async def test_head_tells_no_length_and_the_status_no_words_of_the_services(behind: Behind) -> None:
    said = b"HTTP/1.1 200 eve@secret.example\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\r\n"
    house, _ = await behind(said, masks=MASKS)
    got = await house.raw(request("HEAD / HTTP/1.1"))
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length" not in got.lower()


TEXT = "write to eve@secret.example\n"
HIDING = {
    "in UTF-16 with its mark": answer(TEXT.encode("utf-16"), kind=b"text/csv"),
    "in UTF-16 without": answer(TEXT.encode("utf-16-le"), kind=b"text/plain"),
    "in UTF-32": answer(TEXT.encode("utf-32-be"), kind=b"text/plain"),
    "in two encodings": answer(gzip.compress(TEXT.encode()), b"Content-Encoding: identity", b"Content-Encoding: gzip", kind=b"text/plain"),
    "of a type that is none": answer(TEXT.encode(), kind=b"text"),
    "of an unknown type": answer(TEXT.encode(), kind=b"application/unknown"),
    "of any type": answer(TEXT.encode(), kind=b"*/*"),
    "of no type": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT.encode(),
    "in parts": answer(b"--x\r\n\r\n" + TEXT.encode() + b"\r\n--x--", kind=b"multipart/mixed; boundary=x"),
    "as JSON5": answer(b'{"a":"eve@secret.example"}', kind=b"application/json5"),
    "in Latin 1": answer(TEXT.encode(), kind=b"text/plain; charset=ISO-8859-1"),
}  # fmt: skip


@pytest.mark.parametrize("said", HIDING.values(), ids=HIDING.keys())
async def test_a_finding_is_hidden_however_its_text_comes(behind: Behind, said: bytes) -> None:
    house, _ = await behind(said, detect=("email",))
    got = await house.raw(request())
    assert b"secret.example" not in got.replace(b"\0", b"")
    assert gzip.compress(TEXT.encode())[10:20] not in got


async def test_a_websocket_is_not_opened_where_something_is_masked(open_http, service) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), masks=MASKS)
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    got = await house.raw(request("GET /ws HTTP/1.1", *upgrade))
    assert got.startswith(b"HTTP/1.1 403"), got
    assert b"what a WebSocket carries cannot be masked" in got
    assert service.requests == []
