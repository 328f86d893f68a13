"""What passes the gate: messages of every form that HTTP/1.1 has, as they are, and for whom."""

# ruff: noqa: E501, SIM117  (a line of a corpus stays one line; nothing sleeps but in a loop)

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import websockets

from proxy.recording import Exchange
from tests.proxy.http.conftest import DOMAIN, HOST, SECRET, SIGNED, TOKEN, HttpHouse, RawTarget, request

Behind = Callable[..., Awaitable[tuple[HttpHouse, RawTarget]]]


async def test_a_token_opens_the_service_and_does_not_reach_it(house: HttpHouse) -> None:
    async with house.client() as client, client.get(house.address("/d/1?x=a%20b")) as answer:
        said = await answer.json()
    assert answer.status == 200
    assert said["path"] == "/d/1?x=a%20b"
    got = dict(said["headers"])
    assert got["authorization"] == SECRET
    assert got["portcullis-identity"] == SIGNED
    assert got["x-forwarded-for"] == "127.0.0.1"
    assert got["x-forwarded-proto"] == "https"
    assert TOKEN not in json.dumps(said)


async def test_a_password_of_curls_is_the_same_token(house: HttpHouse) -> None:
    code, out, err = await house.curl("-u", f"ada/viewer:{TOKEN}", house.address("/d"), token="")
    assert code == 0, err
    assert json.loads(out)["path"] == "/d"
    assert house.authority.knocks[-1].principal == "ada"
    assert house.authority.knocks[-1].role == "viewer"


async def test_an_own_field_leaves_authorization_to_the_service(open_http, service) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(headers=()))
    headers = {"Portcullis-Authorization": f"Bearer {TOKEN}", "Authorization": "Bearer the-services-own"}
    async with house.client("", headers=headers) as client, client.get(house.address("/")) as answer:
        got = dict((await answer.json())["headers"])
    assert got["authorization"] == "Bearer the-services-own"
    assert "portcullis-authorization" not in got


async def test_requests_share_a_session_and_a_connection_to_the_service(house: HttpHouse) -> None:
    async with house.client() as client:
        for number in range(5):
            async with client.get(house.address(f"/{number}")) as answer:
                assert answer.status == 200
    assert len(house.authority.knocks) == 1
    assert len(house.gate.registry) == 1


async def test_requests_at_once_are_admitted_once(house: HttpHouse) -> None:
    async def one(client: aiohttp.ClientSession, number: int) -> int:
        async with client.get(house.address(f"/{number}")) as answer:
            return answer.status

    async with house.client() as client:
        assert await asyncio.gather(*(one(client, n) for n in range(20))) == [200] * 20
    assert len(house.authority.knocks) == 1


async def test_another_token_of_the_same_person_joins_the_session(house: HttpHouse) -> None:
    house.authority.tokens["pce_ada-token-2"] = "ada"
    for token in (TOKEN, "pce_ada-token-2"):
        async with house.client(token) as client, client.get(house.address("/")) as answer:
            assert answer.status == 200
    assert len(house.gate.registry) == 1
    joined = (await house.closed())[0]
    assert joined.reason == "client"
    assert joined.detail.startswith("joined S-")


async def test_bodies_pass_in_every_framing(house: HttpHouse) -> None:
    async def pieces():
        for _ in range(50):
            yield b"y" * 20_000

    async with house.client() as client:
        async with client.post(house.address("/count"), data=b"z" * 3_000_000) as answer:
            assert (await answer.json())["size"] == 3_000_000
        async with client.post(house.address("/count"), data=pieces()) as answer:
            assert (await answer.json())["size"] == 1_000_000
        async with client.put(house.address("/x"), data=b"") as answer:
            assert (await answer.json())["body"] == ""


async def test_curl_waits_for_100_continue_and_gets_it(house: HttpHouse) -> None:
    code, out, err = await house.curl(
        "-v", "-H", "Expect: 100-continue", "--data-binary", "b" * 2000, house.address("/count")
    )
    assert code == 0, err
    assert json.loads(out)["size"] == 2000
    assert "HTTP/1.1 100" in err


async def test_head_and_answers_without_a_body_keep_the_connection(house: HttpHouse) -> None:
    data = (
        request("HEAD /file HTTP/1.1") + request("GET /status/204 HTTP/1.1") + request("GET /last HTTP/1.1")
    )
    got = await house.raw(data)
    assert got.count(b"HTTP/1.1 ") == 3
    assert b"/last" in got
    head = got.split(b"\r\n\r\n")[0]
    assert b"content-length: " in head.lower()


async def test_a_range_is_passed_on(house: HttpHouse) -> None:
    async with house.client(headers={"Range": "bytes=3-9"}) as client:
        async with client.get(house.address("/file")) as answer:
            assert answer.status == 206
            assert len(await answer.read()) == 7


async def test_pipelined_requests_are_answered_in_their_order(house: HttpHouse) -> None:
    got = await house.raw(b"".join(request(f"GET /{n} HTTP/1.1") for n in range(6)))
    places = [got.index(b'"path": "/%d"' % n) for n in range(6)]
    assert places == sorted(places)


async def test_trailers_pass_both_ways(behind: Behind) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n"
    house, target = await behind(answer)
    body = b"3\r\nabc\r\n0\r\nX-End: yes\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    got = await house.raw(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=body))
    assert b"5\r\nhello\r\n" in got
    assert b"x-sum: 7\r\n" in got
    assert b"a=b" not in got
    assert b"transfer-encoding: chunked" in target.got[0]


async def test_an_http_1_0_client_is_answered_until_the_end_of_the_connection(behind: Behind) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    house, _ = await behind(answer)
    got = await house.raw(request("GET / HTTP/1.0"))
    assert got.endswith(b"\r\n\r\nhello")
    assert b"transfer-encoding" not in got


async def test_an_answer_up_to_the_end_of_the_connection_is_whole(behind: Behind) -> None:
    house, _ = await behind(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    got = await house.raw(request())
    assert got.endswith(b"9\r\nall of it\r\n0\r\n\r\n")


async def test_events_come_as_they_are_sent(house: HttpHouse) -> None:
    async with house.client() as client, client.get(house.address("/events")) as answer:
        first = await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 5)
        assert first == b"data: first\n\n"
        house.service.go.set()
        assert await asyncio.wait_for(answer.content.read(), 5) == b"data: second\n\n"


async def test_a_websocket_passes(house: HttpHouse) -> None:
    async with house.client() as client, client.ws_connect(house.address("/ws")) as ws:
        await ws.send_str("hello")
        assert (await ws.receive(5)).data == "you said hello"
        await ws.send_bytes(b"\x00" * 300_000)
        assert len((await ws.receive(5)).data) == 300_000
    await asyncio.wait_for(house.service.gone.wait(), 5)


async def test_an_upgrade_that_nobody_knows_is_left_out(house: HttpHouse) -> None:
    got = await house.raw(
        request(
            "GET /x HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        )
    )
    assert got.startswith(b"HTTP/1.1 200")
    assert b"h2c" not in got


async def test_a_client_that_does_not_read_holds_the_service_back(house: HttpHouse) -> None:
    reader, writer = await house.open()
    writer.transport.pause_reading()
    writer.write(request("GET /flood HTTP/1.1"))
    last = -1
    while house.service.written != last or last <= 0:
        last = house.service.written
        await asyncio.sleep(0.5)
    assert 0 < last < 40_000_000, "the gate took all of it"
    writer.transport.abort()
    del reader


async def test_an_address_of_the_service_itself_is_not_told(house: HttpHouse) -> None:
    async with house.client() as client:
        async with client.get(house.address("/moved"), allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/there?x=1"


async def test_a_name_in_tls_counts_where_the_gate_is_reached_by_its_own(house: HttpHouse) -> None:
    got = await house.raw(request(host=f"127.0.0.1:{house.port}"), name=HOST)
    assert got.startswith(b"HTTP/1.1 200")


async def test_a_connection_that_the_service_closed_meanwhile_costs_nobody_an_error(behind: Behind) -> None:
    once = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    house, target = await behind(once, once)
    got = await house.raw(request("GET /1 HTTP/1.1") + request("GET /2 HTTP/1.1"))
    assert got.count(b"HTTP/1.1 200") == 2
    assert len(target.got) == 2


async def test_what_passed_is_recorded_without_what_is_secret(open_http, service) -> None:
    house = await open_http(idle=0.2)
    house.authority.service_grant(service.upstream(), record="bodies", detect=("email",))
    body = {"name": "Eve", "mail": "eve@secret.example", "password": "hunter2"}
    async with house.client(headers={"Cookie": "sid=abc", "X-Api-Key": "k-1"}) as client:
        async with client.post(house.address("/count?token=t-1&q=2"), json=body) as answer:
            assert answer.status == 200
    recording = await house.recording()
    (statement,) = recording.statements
    assert statement.text == "POST /count?token=***&q=2"
    assert statement.tag == "200 OK"
    assert statement.verdict == "write"
    assert statement.what == "http"
    assert statement.sent > 0
    (exchange,) = [entry for entry in recording.happened if isinstance(entry, Exchange)]
    told = json.dumps([exchange.request, exchange.answer, exchange.sent, exchange.received])
    assert '"Eve' in exchange.sent
    for secret in ("eve@secret.example", "hunter2", TOKEN, "sid=abc", "k-1", SECRET, SIGNED):
        assert secret not in told


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [("", 401, "who"), ("pce_nobodys", 401, "login-failed"), ("pce_bob-token-1", 403, "no-grant")],
)
async def test_without_a_grant_nothing_passes(house: HttpHouse, token: str, status: int, code: str) -> None:
    async with house.client(token) as client, client.get(house.address("/")) as answer:
        assert answer.status == status
        assert (await answer.json(content_type=None))["code"] == code
    assert house.service.requests == []


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("prometheus.elsewhere", HOST),
        (f"prometheus.{DOMAIN}", HOST),
        (f"a.{HOST}", HOST),
        (DOMAIN, HOST),
        (f".{DOMAIN}", HOST),
        (f"{HOST}.", HOST),
        (f"{HOST}:x", HOST),
        (f"{HOST}@evil", HOST),
        ("127.0.0.1", "localhost"),
    ],
)
async def test_a_host_that_is_no_service_or_not_the_one_of_tls_is_misdirected(
    house: HttpHouse, host: str, name: str
) -> None:
    got = await house.raw(request(host=host), name=name)
    assert got.startswith(b"HTTP/1.1 421"), got
    assert house.service.requests == []


async def test_a_password_that_is_no_base64_is_nobodys(house: HttpHouse) -> None:
    for said in ("Basic !!!", "Basic " + base64.b64encode(b"\xff").decode(), "Digest x", "Bearer"):
        got = await house.raw(
            b"GET / HTTP/1.1\r\nHost: %b\r\nAuthorization: %b\r\n\r\n" % (HOST.encode(), said.encode())
        )
        assert got.startswith(b"HTTP/1.1 401"), said


async def test_the_websockets_library_passes_with_compression_and_pings(house: HttpHouse) -> None:
    socket_ = socket.create_connection(("127.0.0.1", house.port))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with websockets.connect(
        f"wss://{HOST}:{house.port}/ws", ssl=house.context(), additional_headers=headers, sock=socket_
    ) as ws:
        await ws.send("compressible " * 1000)
        assert (await asyncio.wait_for(ws.recv(), 5)).startswith("you said compressible")
        await asyncio.wait_for(await ws.ping(), 5)
    await asyncio.wait_for(house.service.gone.wait(), 5)
