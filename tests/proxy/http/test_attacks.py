"""Attacks: requests that two servers read differently, spoofed fields, paths that lead elsewhere, cross-site."""

# ruff: noqa: E501  (a line of a corpus stays one line; nothing sleeps but in a loop)

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from tests.proxy.http.conftest import DOMAIN, HOST, SECRET, TOKEN, HttpHouse, RawTarget, request

Behind = Callable[..., Awaitable[tuple[HttpHouse, RawTarget]]]

_TAIL = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
_CHUNKED = "Transfer-Encoding: chunked"

SMUGGLING = {
    "a length beside chunks": request("POST / HTTP/1.1", "Content-Length: 4", _CHUNKED, body=b"0\r\n\r\n" + _TAIL),
    "chunks beside a length": request("POST / HTTP/1.1", _CHUNKED, "Content-Length: 4", body=b"0\r\n\r\n" + _TAIL),
    "two lengths": request("POST / HTTP/1.1", "Content-Length: 0", "Content-Length: 30", body=_TAIL),
    "the same length twice": request("POST / HTTP/1.1", "Content-Length: 3", "Content-Length: 3", body=b"abc"),
    "a list of lengths": request("POST / HTTP/1.1", "Content-Length: 3, 3", body=b"abc"),
    "a signed length": request("POST / HTTP/1.1", "Content-Length: +3", body=b"abc"),
    "a negative length": request("POST / HTTP/1.1", "Content-Length: -1", body=b""),
    "a hexadecimal length": request("POST / HTTP/1.1", "Content-Length: 0x3", body=b"abc"),
    "a length with an underscore": request("POST / HTTP/1.1", "Content-Length: 1_0", body=b"abc"),
    "an empty length": request("POST / HTTP/1.1", "Content-Length:", body=b"abc"),
    "a length of digits elsewhere": request("POST / HTTP/1.1", "Content-Length: \xb3", body=b"abc"),
    "a huge length": request("POST / HTTP/1.1", "Content-Length: 99999999999999999999", body=b"abc"),
    "two codings": request("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked twice": request("POST / HTTP/1.1", _CHUNKED, _CHUNKED, body=b"0\r\n\r\n"),
    "an unknown coding": request("POST / HTTP/1.1", "Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + _TAIL),
    "identity": request("POST / HTTP/1.1", "Transfer-Encoding: identity", "Content-Length: 0"),
    "a quoted coding": request("POST / HTTP/1.1", 'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "a coding with a parameter": request("POST / HTTP/1.1", "Transfer-Encoding: chunked;x", body=b"0\r\n\r\n"),
    "a coding behind a vertical tab": request("POST / HTTP/1.1", "Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"),
    "a space before the colon": request("POST / HTTP/1.1", "Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a tab before the colon": request("POST / HTTP/1.1", "Content-Length\t: 3", body=b"abc"),
    "a folded field": request("POST / HTTP/1.1", "X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a folded coding": request("POST / HTTP/1.1", "Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "a field before the first": b"GET / HTTP/1.1\r\n X: y\r\nHost: " + HOST.encode() + b"\r\n\r\n",
    "a bare line feed": request("POST / HTTP/1.1", "X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a bare carriage return": request("POST / HTTP/1.1", "X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a null byte": request("GET / HTTP/1.1", "X: a\x00b"),
    "line feeds alone": b"GET / HTTP/1.1\nHost: " + HOST.encode() + b"\n\n",
    "chunks in HTTP/1.0": request("POST / HTTP/1.0", _CHUNKED, body=b"0\r\n\r\n"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 in words": request("GET / HTTP/2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": request("GET / HTTP/1.2"),
    "two spaces": request("GET  / HTTP/1.1"),
    "a tab in the first line": request("GET\t/ HTTP/1.1"),
    "a space in the place": request("GET /a b HTTP/1.1"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": request("GET / HTTP/1.1", f"Host: {HOST}"),
    "an empty line first": b"\r\n" + request(),
    "another place's form": request(f"GET https://{HOST}/x HTTP/1.1"),
    "a place elsewhere": request("GET http://127.0.0.1/admin HTTP/1.1"),
    "a place of an authority": request("GET 127.0.0.1:80 HTTP/1.1"),
    "an asterisk": request("OPTIONS * HTTP/1.1"),
    "a method with a colon": request("GET: / HTTP/1.1"),
    "a length hidden by Connection": request("POST / HTTP/1.1", "Connection: content-length", "Content-Length: 3", body=b"abc"),
    "a host hidden by Connection": request("GET / HTTP/1.1", "Connection: host"),
    "an authorization hidden by Connection": request("GET / HTTP/1.1", "Connection: authorization"),
    "two authorizations": request("GET / HTTP/1.1", "Authorization: Bearer other"),
    "too many fields": request("GET / HTTP/1.1", *(f"X-{n}: y" for n in range(300))),
    "a long field": request("GET / HTTP/1.1", "X: " + "y" * 70_000),
}  # fmt: skip

CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size behind a space": b" 3\r\nabc\r\n0\r\n\r\n",
    "a size with a line feed": b"3\nabc\r\n0\r\n\r\n",
    "a huge size": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "more than its size": b"3\r\nabcdef\r\n0\r\n\r\n",
    "no end of a chunk": b"3\r\nabc0\r\n\r\n",
    "an extension with a line feed": b"3;x\n\r\nabc\r\n0\r\n\r\n",
    "a long extension": b"3;" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "a trailer with a space": b"0\r\nX : y\r\n\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
}

PATHS = [
    "//evil.example/x", "/a/../admin", "/..", "/.", "/a/./b", "/%2e%2e/admin", "/a/%2E%2e/admin", "/a/.%2e/admin",
    "/a/..%2fadmin", "/a/..%5cadmin", "/a%2f..%2fadmin", "/a/..;/admin", "/a/..%3b/admin", "/a\\..\\admin", "/a%00b", "/a%0d%0aX:y",
    "/a%7f", "/a%", "/a%2", "/a%zz", "/a#b", "/a<b", "/a\"b", "/a`b", "/caf\xe9", "/a/..%00/b", "/%c0%ae%c0%ae%2f..%2f",
    "/x?a=b#c", "/x?%zz",
]  # fmt: skip

SPOOFED = [
    "X-Forwarded-For: 6.6.6.6", "X-Forwarded-User: root", "X_Forwarded_For: 6.6.6.6", "x-forwarded_user: root",
    "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6", "Portcullis-Identity: forged", "portcullis_identity: forged",
    "X-Portcullis-Anything: forged", "X-WEBAUTH-USER: admin", "X-Remote-User: admin", "Remote-User: admin",
    "X-Auth-Request-Email: a@b", "X-Goog-Authenticated-User-Email: a@b", "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE", "X-Method-Override: DELETE", "X-Team: admins",
    "x_team: admins", "Impersonate-User: admin", "Impersonate-Group: system:masters", "X-Remote-Extra-Scopes: all",
    "True-Client-IP: 6.6.6.6", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive", "Keep-Alive: 5",
    "TE: trailers", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "X-Forwarded-Port: 1", "Via: 1.1 x",
]  # fmt: skip


@pytest.mark.parametrize("attack", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_what_can_be_read_in_two_ways_reaches_nobody(house: HttpHouse, attack: bytes) -> None:
    got = await house.raw(attack)
    assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 501")), got
    assert got.count(b"HTTP/1.1 ") == 1, "something behind it was read"
    assert house.service.requests == []


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS.keys())
async def test_a_body_in_wrong_chunks_ends_the_connection(behind: Behind, body: bytes) -> None:
    house, target = await behind(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=False)
    data = request("POST / HTTP/1.1", _CHUNKED, body=body + _TAIL)
    got = await house.raw(data)
    assert got.count(b"HTTP/1.1 ") <= 1
    assert not any(b"/admin" in said for said in target.got)


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_leads_elsewhere_for_some_server_reaches_nobody(
    house: HttpHouse, path: str
) -> None:
    got = await house.raw(request(f"GET {path} HTTP/1.1"))
    assert got.startswith(b"HTTP/1.1 400"), got
    assert house.service.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/a%2fb",
        "/a;v=1/b",
        "/a/b%20c",
        "/a//b",
        "/:x/@y/~z",
        "/a?u=http://x/../y",
        "/%e2%82%ac",
        "/.well-known/x",
        "/..a/b..",
        "/a/...",
        "/[x]|{y}^z",
    ],
)
async def test_an_unusual_path_that_is_clear_passes_as_it_came(house: HttpHouse, path: str) -> None:
    got = await house.raw(request(f"GET {path} HTTP/1.1", "Connection: close"))
    assert got.startswith(b"HTTP/1.1 200"), got
    assert house.service.requests == [("GET", path)]


@pytest.mark.parametrize("spoofed", SPOOFED)
async def test_what_tells_identity_comes_from_the_gate_alone(open_http, service, spoofed: str) -> None:
    house = await open_http()
    headers = (("Portcullis-Identity", "signed"), ("X-WEBAUTH-USER", "ada"))
    house.authority.service_grant(service.upstream(headers=headers, removed=("X-Team",)))
    got = await house.raw(request("GET / HTTP/1.1", "Connection: close", spoofed))
    said = json.loads(got.partition(b"\r\n\r\n")[2])["headers"]
    name, _, value = spoofed.partition(": ")
    assert [name.lower(), value] not in said
    assert not [v for k, v in said if value == v and k.replace("_", "-") == name.lower().replace("_", "-")]
    values = dict(said)
    assert values["portcullis-identity"] == "signed"
    assert values["x-webauth-user"] == "ada"
    assert values["x-forwarded-for"] == "127.0.0.1"
    assert len([1 for k, _ in said if k == "x-forwarded-for"]) == 1


async def test_the_credential_cannot_be_dropped_or_doubled_by_a_client(house: HttpHouse) -> None:
    line = request("GET / HTTP/1.1", "Connection: portcullis-identity, x-forwarded-for")
    said = dict(json.loads((await house.raw(line)).partition(b"\r\n\r\n")[2])["headers"])
    assert said["authorization"] == SECRET
    assert said["portcullis-identity"]
    assert said["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_methods_that_show_or_lead_round_are_refused(house: HttpHouse, method: str) -> None:
    got = await house.raw(request(f"{method} /x HTTP/1.1"))
    assert got.startswith(b"HTTP/1.1 405")
    assert house.service.requests == []


BROKEN = {
    "no status": b"hello\r\n\r\n",
    "a length beside chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a bare line feed": b"HTTP/1.1 200 OK\r\nX: y\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    "an unasked change of protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "interim answers without an end": b"HTTP/1.1 103 Early\r\n\r\n" * 40,
    "nothing at all": b"",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_a_service_that_breaks_the_protocol_is_not_passed_on(behind: Behind, answer: bytes) -> None:
    house, _ = await behind(answer)
    got = await house.raw(request("POST / HTTP/1.1", "Content-Length: 0"))
    assert b"HTTP/1.1 502" in got, got
    assert b"a=b" not in got


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody(behind: Behind) -> None:
    two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    right = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright"
    house, target = await behind(two, close=False)
    target.answers.append(right)
    got = await house.raw(request("GET /1 HTTP/1.1") + request("GET /2 HTTP/1.1"))
    assert b"wrong" not in got
    assert b"right" in got


async def test_an_answer_that_breaks_off_does_not_look_whole(behind: Behind) -> None:
    house, _ = await behind(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    got = await house.raw(request())
    assert not got.endswith(b"0\r\n\r\n")


async def test_a_service_cannot_set_or_read_the_gates_cookies(behind: Behind) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: __Host-portcullis-gate=evil; Path=/\r\nSet-Cookie: app=1\r\n"
        b'Alt-Svc: h3=":443"\r\nContent-Length: 0\r\n\r\n'
    )
    house, target = await behind(answer)
    cookies = f"Cookie: app=1; __Host-portcullis-gate={TOKEN}; other=2"
    got = await house.raw(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{cookies}\r\n\r\n".encode())
    assert b"evil" not in got
    assert b"alt-svc" not in got.lower()
    assert b"set-cookie: app=1" in got
    assert TOKEN.encode() not in target.got[0]
    assert b"app=1; other=2" in target.got[0]


def _by_cookie(line: str, *headers: str) -> bytes:
    said = [line, f"Host: {HOST}", f"Cookie: __Host-portcullis-gate={TOKEN}", *headers]
    return "\r\n".join(said).encode() + b"\r\n\r\n"


async def test_a_cookie_that_came_twice_is_nobodys(house: HttpHouse) -> None:
    got = await house.raw(_by_cookie("GET / HTTP/1.1", "Cookie: __Host-portcullis-gate=tossed"))
    assert got.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: https://evil.example",),
        (f"Origin: https://wiki.{DOMAIN}",),
        ("Origin: null",),
        (f"Origin: http://{HOST}",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
    ],
)
async def test_a_page_of_another_site_cannot_act_with_the_cookie(
    house: HttpHouse, headers: tuple[str, ...]
) -> None:
    for line in ("POST /x HTTP/1.1", "DELETE /x HTTP/1.1", "PUT /x HTTP/1.1"):
        got = await house.raw(_by_cookie(line, *headers))
        assert got.startswith(b"HTTP/1.1 403"), got
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    got = await house.raw(_by_cookie("GET /ws HTTP/1.1", *upgrade, *headers))
    assert got.startswith(b"HTTP/1.1 403"), "a WebSocket was hijacked"
    assert house.service.requests == []


async def test_the_services_own_pages_act_with_the_cookie(house: HttpHouse) -> None:
    got = await house.raw(
        _by_cookie("POST /x HTTP/1.1", f"Origin: https://{HOST}", "Sec-Fetch-Site: same-origin")
    )
    assert got.startswith(b"HTTP/1.1 200")
