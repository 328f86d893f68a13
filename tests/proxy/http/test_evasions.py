"""Ways round a rule: what servers read differently is judged as the most generous of them reads it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.http.codec import RequestHead
from proxy.http.readable import Unread, document
from tests.proxy.http.conftest import HOST, TOKEN, HttpHouse, RawTarget, request
from workflows.http import FieldMatch, RequestMatch
from workflows.model import Action, Guardrail

Behind = Callable[..., Awaitable[tuple[HttpHouse, RawTarget]]]
Open = Callable[..., Awaitable[HttpHouse]]

FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"


def rail(action: Action = Action.REFUSE, name: str = "rule", **match: Any) -> Guardrail:
    match = {key: frozenset(value) if key == "methods" else tuple(value) for key, value in match.items()}
    return Guardrail(name, action, request=RequestMatch(**match))


def sent(line: str, *headers: str, body: bytes = b"") -> bytes:
    size = (f"Content-Length: {len(body)}",) if body else ()
    return request(f"{line} HTTP/1.1", "Connection: close", *headers, *size, body=body)


ROLE = rail(body=[FieldMatch("$.user.role", ("admin",))])
TOP = rail(body=[FieldMatch("$.role", ("admin",))])
ONE = rail(body=[FieldMatch("$.n", ("1",))])
MODE = rail(headers=[FieldMatch("X-Mode", ("danger*",))])
FORCE = rail(query=[FieldMatch("force", ("true",))])

REFUSED = {
    "a field with a low line": (MODE, sent("GET /x", "X_Mode: dangerous")),
    "a field with a dot": (MODE, sent("GET /x", "X.Mode: dangerous")),
    "a harmless field beside it": (MODE, sent("GET /x", "X-Mode: safe", "X_Mode: dangerous")),
    "a parameter with an index": (FORCE, sent("GET /x?force[0]=true")),
    "a parameter of a map": (FORCE, sent("GET /x?force[a]=true")),
    "a parameter behind a space": (FORCE, sent("GET /x?%20force=true")),
    "a parameter behind a plus": (FORCE, sent("GET /x?+force=true")),
    "a value with blanks": (FORCE, sent("GET /x?force=%20true%0a")),
    "a value in wide letters": (FORCE, sent("GET /x?force=%EF%BD%94rue")),
    "a form with brackets": (ROLE, sent("POST /x", FORM, body=b"user[role]=admin")),
    "a form with encoded brackets": (ROLE, sent("POST /x", FORM, body=b"user%5Brole%5D=admin")),
    "a form with dots": (ROLE, sent("POST /x", FORM, body=b"user.role=admin")),
    "a form in other letters": (ROLE, sent("POST /x", FORM, body=b"User[Role]=Admin")),
    "a list in a form": (TOP, sent("POST /x", FORM, body=b"role[]=admin")),
    "a numbered list in a form": (TOP, sent("POST /x", FORM, body=b"role[0]=admin")),
    "JSON that calls itself a form": (TOP, sent("POST /x", FORM, body=b'{"a=b&role":1,"role":"admin"}')),
    "JSON behind blanks, as a form": (TOP, sent("POST /x", FORM, body=b'\n {"role":"admin","x":"=1"}')),
    "JSON of no type": (TOP, sent("POST /x", body=b'{"role":"admin"}')),
    "JSON as plain text": (TOP, sent("POST /x", "Content-Type: text/plain", body=b'{"role":"admin"}')),
    "a form as JSON": (TOP, sent("POST /x", JSON, body=b"role=admin")),
    "parts": (
        TOP,
        sent("POST /x", "Content-Type: multipart/form-data; boundary=b", body=b"--b\r\n\r\nadmin\r\n--b--"),
    ),
    "a byte order mark": (TOP, sent("POST /x", JSON, body=b'\xef\xbb\xbf{"role":"admin"}')),
    "UTF-16": (TOP, sent("POST /x", JSON, body='{"role":"admin"}'.encode("utf-16"))),
    "UTF-32": (TOP, sent("POST /x", JSON, body='{"role":"admin"}'.encode("utf-32-be"))),
    "UTF-7": (TOP, sent("POST /x", f"{JSON}; charset=utf-7", body=b'{"role":"+AGEAZABtAGkAbg-"}')),
    "UTF-7 beside UTF-8": (
        TOP,
        sent("POST /x", f"{JSON}; charset=utf-7; x=utf-8", body=b'{"role":"+AGEAZABtAGkAbg-"}'),
    ),
    "a comment": (TOP, sent("POST /x", JSON, body=b'{/* */"role":"admin"}')),
    "a comma at the end": (TOP, sent("POST /x", JSON, body=b'{"role":"admin",}')),
    "NaN": (TOP, sent("POST /x", JSON, body=b'{"x":NaN,"role":"admin"}')),
    "a number too long to be one": (TOP, sent("POST /x", JSON, body=b'{"x":' + b"9" * 5000 + b"}")),
    "a document too deep": (TOP, sent("POST /x", JSON, body=b"[" * 100_000)),
    "two documents": (TOP, sent("POST /x", JSON, body=b'{"role":"user"}{"role":"admin"}')),
    "a number as a fraction": (ONE, sent("POST /x", JSON, body=b'{"n":1.0}')),
    "a number with a power": (ONE, sent("POST /x", JSON, body=b'{"n":10e-1}')),
    "a number as a text": (ONE, sent("POST /x", JSON, body=b'{"n":"1"}')),
    "a value with blanks inside JSON": (TOP, sent("POST /x", JSON, body=b'{"role":" admin\\t"}')),
    "an encoding said twice": (
        TOP,
        sent(
            "POST /x", JSON, "Content-Encoding: identity", "Content-Encoding: deflate", body=b'{"role":"x"}'
        ),
    ),
    "another type said first": (
        TOP,
        sent("POST /x", "Content-Type: text/x", JSON, body=b'{"role":"x"}'),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_some_server_takes_for_the_forbidden_does_not_pass(
    open_http: Open, service: Any, name: str
) -> None:
    rule, data = REFUSED[name]
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(rule,))
    got = await house.raw(data)
    assert got.startswith(b"HTTP/1.1 403"), got
    assert service.requests == []


DRY = rail(Action.ALLOW, "dry", headers=[FieldMatch("X-Dry-Run", ("true",))])
NOT_ALLOWED = {
    "a field that does not go on": sent("POST /x", "X-Dry-Run: true").replace(b"close", b"close, x-dry-run"),
    "another spelling beside it": sent("POST /x", "X-Dry-Run: true", "X_Dry_Run: false"),
    "another spelling alone": sent("POST /x", "X_Dry_Run: true"),
    "another value beside it": sent("POST /x", "X-Dry-Run: true", "X-Dry-Run: false"),
    "only in a trailer": request(
        "POST /x HTTP/1.1", "Transfer-Encoding: chunked", "Trailer: X-Dry-Run",
        body=b"1\r\nx\r\n0\r\nX-Dry-Run: true\r\n\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_ALLOWED)
async def test_nothing_is_allowed_by_a_field_that_the_service_may_not_see(
    open_http: Open, service: Any, name: str
) -> None:
    house = await open_http()
    rules = (DRY, rail(name="rest"))
    house.authority.service_grant(service.upstream(), guardrails=rules)
    got = await house.raw(NOT_ALLOWED[name])
    assert got.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400")), got
    assert service.requests == []


async def test_a_field_that_goes_on_allows(open_http: Open, service: Any) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(DRY, rail(name="rest")))
    got = await house.raw(sent("POST /x", "X-Dry-Run: true"))
    assert got.startswith(b"HTTP/1.1 200"), got


def test_a_form_is_a_form_and_nothing_else() -> None:
    head = RequestHead(1, [(b"content-type", b"application/x-www-form-urlencoded; charset=UTF-8")])
    assert document(head, b"a=%7B&b=2").value == {"a": ["{"], "b": ["2"]}
    with pytest.raises(Unread):
        document(head, b'["a=1"]')


# ------------------------------------------------------------ on the connection


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_change_of_protocol_has_no_body_that_nobody_would_hear(
    house: HttpHouse, framing: str
) -> None:
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    body = b"hello" if "Length" in framing else b"5\r\nhello\r\n0\r\n\r\n"
    got = await house.raw(request("GET /ws HTTP/1.1", *upgrade, framing, body=body))
    assert got.startswith(b"HTTP/1.1 400"), got
    assert house.service.requests == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PROPFIND"])
async def test_no_request_hides_in_a_body_that_a_service_does_not_expect(behind: Behind, method: str) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    house, target = await behind(said, close=False)
    inside = b"DELETE /all HTTP/1.1\r\nHost: x\r\n\r\n"
    got = await house.raw(
        request(f"{method} /x HTTP/1.1", f"Content-Length: {len(inside)}", body=inside)
        + request("GET /after HTTP/1.1")
    )
    assert got.startswith(b"HTTP/1.1 200"), got
    assert b"connection: close\r\n" in target.got[0], "the service would read on"
    assert not any(b"/after" in one for one in target.got), "the connection was used again"


async def test_what_is_sent_behind_a_held_request_waits_for_it(open_http: Open, service: Any) -> None:
    from workflows.model import Quorum

    house = await open_http()
    match = RequestMatch(methods=frozenset({"DELETE"}))
    ask = Guardrail("ask", Action.HOLD, quorum=(Quorum("dba"),), request=match)
    house.authority.service_grant(service.upstream(), guardrails=(ask,))
    reader, writer = await house.open()
    writer.write(request("DELETE /first HTTP/1.1") + request("GET /second HTTP/1.1"))
    asked = await house.authority.reviews.asked()
    assert service.requests == []
    house.authority.reviews.approve(asked.id)
    first = await reader.readuntil(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    got = b""
    while b"/second" not in got:
        got += await reader.read(65536)
    assert service.requests == [("DELETE", "/first"), ("GET", "/second")]
    writer.close()


async def test_a_client_of_http_1_0_is_not_told_to_continue(open_http: Open, service: Any) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(TOP,))
    body = b'{"role":"user"}'
    size = f"Content-Length: {len(body)}"
    got = await house.raw(request("POST /x HTTP/1.0", "Expect: 100-continue", size, body=body))
    assert got.startswith(b"HTTP/1.1 200"), got


async def test_a_body_that_a_rule_reads_is_asked_for_where_the_client_waits(
    open_http: Open, service: Any
) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(TOP,))
    reader, writer = await house.open()
    writer.write(request("POST /x HTTP/1.1", "Expect: 100-continue", "Content-Length: 15"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(b'{"role":"user"}')
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


# -------------------------------------------------------- the gate's own pages


async def test_another_sites_page_cannot_log_somebody_out(house: HttpHouse) -> None:
    line = f"GET /.portcullis/leave HTTP/1.1\r\nHost: {HOST}\r\nCookie: __Host-portcullis-gate={TOKEN}\r\n"
    for site in ("cross-site", "same-site"):
        got = await house.raw(f"{line}Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: no-cors\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 403"), got
        assert b"set-cookie" not in got.lower()
    got = await house.raw(f"{line}Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 200")
    assert b"__Host-portcullis-gate=; " in got


@pytest.mark.parametrize("target", ["/", "//evil.example/", "/\\evil.example", "/.portcullis/enter?code=x"])
async def test_no_address_says_where_a_login_leads_to(open_http: Open, service: Any, target: str) -> None:
    house = await open_http(login="https://broker.test")
    house.authority.service_grant(service.upstream())
    way = b"a" * 43 + b".Ly9ldmlsLmV4YW1wbGUv"  # //evil.example/
    cookie = f"Cookie: __Host-portcullis-way={way.decode()}"
    head = f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nSec-Fetch-Mode: navigate\r\n{cookie}\r\n\r\n"
    got = await house.raw(head.encode())
    place = next((it for it in got.split(b"\r\n") if it.lower().startswith(b"location:")), b"")
    assert place in (b"",) or place.startswith(b"location: https://broker.test/http/enter?"), got
    assert b"evil" not in place


async def test_what_the_gate_answers_is_kept_by_no_cache_and_framed_by_no_page(
    open_http: Open, service: Any
) -> None:
    house = await open_http(login="https://broker.test")
    house.authority.service_grant(service.upstream())
    asked = (
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nSec-Fetch-Mode: navigate\r\n"
        "X-Forwarded-Host: evil.example\r\n\r\n",
        f"GET /.portcullis/leave HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        f"GET /.portcullis/none HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Host: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example\r\nSec-Fetch-Mode: navigate\r\n\r\n",
    )
    for one in asked:
        got = (await house.raw(one.encode())).lower()
        assert b"cache-control: no-store" in got, got
        assert b"frame-ancestors 'none'" in got
        assert b"evil.example" not in got


async def test_a_refusal_shows_what_it_was_sent_as_text_alone(open_http: Open, service: Any) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(rail(methods=["GET"]),))
    line = "GET /<script>alert(1)</script> HTTP/1.1"
    got = await house.raw(request("GET /'%3Cscript%3E HTTP/1.1", "Sec-Fetch-Mode: navigate"))
    assert got.startswith(b"HTTP/1.1 403")
    assert b"<script>" not in got
    assert (await house.raw(request(line))).startswith(b"HTTP/1.1 400")
    told = await house.raw(request("GET /%22%0b HTTP/1.1"))
    assert json.loads(told.partition(b"\r\n\r\n")[2])


# ------------------------------------------------------------------- cookies


@pytest.mark.parametrize(
    ("cookie", "passed"),
    [
        ("sid=1; Domain=gate.test; Path=/; Secure", b"sid=1; Path=/; Secure"),
        ("sid=1; path=/;DOMAIN = .gate.test", b"sid=1; path=/"),
        ("sid=1; domain=gate.test; domain=x", b"sid=1"),
        ("sid=domain=x; HttpOnly", b"sid=domain=x; HttpOnly"),
        ("sid=1; Domain", b"sid=1"),
        ("__Host-portcullis-gate=evil; Path=/; Secure", b""),
        ("=__Host-portcullis-gate=evil; Path=/; Secure", b""),
        ("  __host-Portcullis-way=evil", b""),
        ("__Host-portcullis-gate", b""),
    ],
)
async def test_a_service_sets_cookies_for_its_own_host_and_none_of_the_gates(
    behind: Behind, cookie: str, passed: bytes
) -> None:
    """Else one service could toss its cookies to another behind the same gate, or a login to a browser."""
    house, _ = await behind(f"HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nContent-Length: 0\r\n\r\n".encode())
    got = await house.raw(request())
    set_ = [it.partition(b": ")[2] for it in got.split(b"\r\n") if it.startswith(b"set-cookie")]
    assert set_ == ([passed] if passed else [])


async def test_a_service_cannot_pass_its_answer_for_the_gates(behind: Behind) -> None:
    house, _ = await behind(
        b"HTTP/1.1 403 Forbidden\r\nPortcullis: answered-by-gate\r\nContent-Length: 0\r\n\r\n"
    )
    assert b"answered-by-gate" not in await house.raw(request())
