"""Guardrails on requests: the first that fits applies; in doubt the strict ones fit and the others do not."""

# ruff: noqa: ASYNC110  (a line of a corpus stays one line; nothing sleeps but in a loop)

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.authority import ReviewDecided
from tests.proxy.http.conftest import HttpHouse, request
from workflows.http import FieldMatch, RequestMatch
from workflows.model import Action, Guardrail, Quorum, ReviewState, StatementClass


def rail(action: Action = Action.REFUSE, **match: Any) -> Guardrail:
    more = {name: match.pop(name) for name in ("classes", "when", "quorum") if name in match}
    match = {k: frozenset(v) if k == "methods" else tuple(v) for k, v in match.items()}
    return Guardrail("rule", action, request=RequestMatch(**match), **more)


def body(value: object) -> tuple[str, ...]:
    text = json.dumps(value)
    return ("Content-Type: application/json", f"Content-Length: {len(text)}", text)


def sent(line: str, *headers: str, body: bytes = b"") -> bytes:
    more = ("Connection: close", *headers, *((f"Content-Length: {len(body)}",) if body else ()))
    return request(f"{line} HTTP/1.1", *more, body=body)


ADMIN = rail(paths=["/api/admin/**"])
REFUSED = [
    (ADMIN, sent("GET /api/admin")),
    (ADMIN, sent("GET /api/admin/users/1")),
    (ADMIN, sent("GET /api/ADMIN/users")),
    (ADMIN, sent("GET /api/%61dmin/users")),
    (ADMIN, sent("GET /api/admin/")),
    (ADMIN, sent("GET /api/%EF%BD%81dmin")),
    (rail(paths=["/users/{id}"]), sent("GET /users/7")),
    (rail(paths=["/users/{id}/keys"]), sent("POST /users/7/keys")),
    (rail(paths=["/export-*"]), sent("GET /export-all")),
    (rail(methods=["DELETE"]), sent("DELETE /x")),
    (rail(classes=frozenset({StatementClass.WRITE})), sent("PATCH /x")),
    (rail(query=[FieldMatch("force", ("true",))]), sent("GET /x?a=b&force=true")),
    (rail(query=[FieldMatch("force", ("true",))]), sent("GET /x?force=false&force=true")),
    (rail(query=[FieldMatch("force", ("true",))]), sent("GET /x?FORCE=TRUE")),
    (rail(query=[FieldMatch("force", ("true",))]), sent("GET /x?%66orce=tru%65")),
    (rail(query=[FieldMatch("ids")]), sent("GET /x?ids[]=1")),
    (rail(headers=[FieldMatch("X-Mode", ("danger*",))]), sent("GET /x", "x-mode: dangerous")),
    (rail(body=[FieldMatch("$.role", ("admin",))]), sent("POST /x", body=b'{"role":"admin"}')),
    (rail(body=[FieldMatch("$.role", ("admin",))]), sent("POST /x", body=b'{"r\\u006fle":"\\u0061dmin"}')),
    (rail(body=[FieldMatch("$.role", ("admin",))]), sent("POST /x", body=b'{"Role":"Admin"}')),
    (rail(body=[FieldMatch("$..role", ("admin",))]), sent("POST /x", body=b'[{"user":{"role":"admin"}}]')),
    (
        rail(body=[FieldMatch("$.users[*].role", ("admin",))]),
        sent("POST /x", body=b'{"users":[{},{"role":"admin"}]}'),
    ),
    (rail(body=[FieldMatch("$.n", ("7",))]), sent("POST /x", body=b'{"n":7}')),
    (rail(body=[FieldMatch("$.role", ("admin",))]), sent("POST /x", body=b'{"role":"user","role":"admin"}')),
    (rail(body=[FieldMatch("$.role", ("admin",))]), sent("POST /x", body=b"not json at all")),
    (
        rail(body=[FieldMatch("$.role", ("admin",))]),
        sent("POST /x", "Content-Encoding: gzip", body=b"\x1f\x8b"),
    ),
    (
        rail(body=[FieldMatch("$.role", ("admin",))]),
        sent("POST /x", "Content-Type: application/x-www-form-urlencoded", body=b"a=b&role=admin"),
    ),
    (
        rail(body=[FieldMatch("$.role", ("admin",))]),
        sent("POST /x", "Content-Type: application/json", "Content-Type: text/plain", body=b'{"role":"x"}'),
    ),
    (rail(when="statement.tables.exists(t, t.startsWith('/secret'))"), sent("GET /secret/1")),
    (rail(Action.ALLOW, paths=["/open/**"]), sent("GET /a/%2e%2e%2fopen")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("GET /files/%252e%252e/etc")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("GET /files/a%2fb")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("GET /files/a;x=1")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("GET /files//etc")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("GET /files/%ff")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("GET /files?a=1;b=2")),
    (rail(Action.ALLOW, paths=["/files/**"]), sent("PROPFIND /coffee")),
]


@pytest.mark.parametrize(("rule", "data"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
async def test_what_a_strict_guardrail_may_mean_does_not_pass(
    open_http, service, rule: Guardrail, data: bytes
) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(rule,))
    got = await house.raw(data)
    assert got.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400")), got
    assert service.requests == []


LAST = rail(classes=frozenset())
PASSING = [
    ((ADMIN,), sent("GET /api/administrators")),
    ((rail(paths=["/users/{id}"]),), sent("GET /users/7/keys")),
    ((rail(query=[FieldMatch("force", ("true",))]),), sent("GET /x?force=false")),
    ((rail(body=[FieldMatch("$.role", ("admin",))]),), sent("POST /x", body=b'{"role":"user"}')),
    ((rail(body=[FieldMatch("$.role", ("admin",))]),), sent("POST /x", "Content-Length: 0")),
    ((rail(Action.ALLOW, paths=["/open/{x}"]), LAST), sent("GET /open/1")),
    ((rail(Action.ALLOW, methods=["GET"], query=[FieldMatch("q", ("a*",))]), LAST), sent("GET /x?q=ab&q=ac")),
    (
        (rail(Action.ALLOW, body=[FieldMatch("$.kind", ("safe",))]), LAST),
        sent("POST /x", body=b'{"kind":"safe"}'),
    ),
    ((rail(Action.ALLOW, methods=["PROPFIND"]), LAST), sent("PROPFIND /coffee")),
]
NOT_ALLOWED = [
    sent("GET /OPEN/1"),
    sent("GET /open/1/2"),
    sent("GET /open"),
]


@pytest.mark.parametrize(("rules", "data"), PASSING, ids=[str(n) for n in range(len(PASSING))])
async def test_what_no_guardrail_means_or_one_allows_passes(
    open_http, service, rules: tuple[Guardrail, ...], data: bytes
) -> None:
    house = await open_http()
    rules = tuple(replace(one, name=f"rule-{n}") for n, one in enumerate(rules))
    house.authority.service_grant(service.upstream(), guardrails=rules)
    got = await house.raw(data)
    assert got.startswith(b"HTTP/1.1 200"), got
    assert len(service.requests) == 1


@pytest.mark.parametrize("data", NOT_ALLOWED)
async def test_an_allowing_guardrail_means_what_it_says_and_nothing_like_it(
    open_http, service, data: bytes
) -> None:
    house = await open_http()
    rules = (rail(Action.ALLOW, paths=["/open/{x}"]), replace(LAST, name="last"))
    house.authority.service_grant(service.upstream(), guardrails=rules)
    assert (await house.raw(data)).startswith(b"HTTP/1.1 403")


async def test_a_body_that_was_read_goes_on_as_it_came(open_http, service) -> None:
    house = await open_http()
    rule = rail(body=[FieldMatch("$.role", ("admin",))])
    house.authority.service_grant(service.upstream(), guardrails=(rule,))
    text = b'{"role": "user",  "x": 1.0}'
    chunked = b"5\r\n" + text[:5] + b"\r\n%x\r\n" % (len(text) - 5) + text[5:] + b"\r\n0\r\n\r\n"
    for data in (
        sent("POST /x", body=text),
        request("POST /x HTTP/1.1", "Transfer-Encoding: chunked", body=chunked),
    ):
        got = await house.raw(data)
        assert json.loads(got.partition(b"\r\n\r\n")[2])["body"] == text.decode()


async def test_a_body_too_long_to_be_read_does_not_pass(open_http, service) -> None:
    house = await open_http()
    rule = rail(body=[FieldMatch("$.role", ("admin",))])
    house.authority.service_grant(service.upstream(), guardrails=(rule,))
    got = await house.raw(request("POST /x HTTP/1.1", "Content-Length: 9000000", body=b"x" * 1000))
    assert got.startswith(b"HTTP/1.1 413")
    assert service.requests == []


async def test_an_encoded_slash_is_judged_where_the_policy_says_how_it_reads(open_http, service) -> None:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(ADMIN,), encoded_slash=True)
    assert (await house.raw(sent("GET /projects/group%2Fname"))).startswith(b"HTTP/1.1 200")


# ------------------------------------------------------------------ holding

ASK = Guardrail(
    "ask-first",
    Action.HOLD,
    quorum=(Quorum("dba"),),
    request=RequestMatch(methods=frozenset({"DELETE", "POST"})),
)


@pytest.fixture
async def holding(open_http, service) -> HttpHouse:
    house = await open_http()
    house.authority.service_grant(service.upstream(), guardrails=(ASK,))
    return house


async def _asked(house: HttpHouse) -> str:
    return (await house.authority.reviews.asked()).id


async def test_a_held_request_waits_and_goes_on_once_approved(holding: HttpHouse) -> None:
    task = asyncio.create_task(holding.raw(sent("POST /pay?x=1", "X-Idem: 7", body=b'{"sum": 5}')))
    review = await _asked(holding)
    text = holding.authority.reviews.held[review].statement.text
    assert text == 'POST /pay?x=1\nx-idem: 7\n\n{"sum": 5}'.replace(
        "\nx-idem", f"\nauthorization: {_digest()}\nx-idem"
    )
    assert holding.service.requests == []
    holding.authority.reviews.approve(review)
    got = await task
    assert got.startswith(b"HTTP/1.1 200"), got
    assert json.loads(got.partition(b"\r\n\r\n")[2])["body"] == '{"sum": 5}'
    assert holding.authority.reviews.runs == [review]


def _digest() -> str:
    import hashlib

    from tests.proxy.http.conftest import TOKEN

    return f"(SHA-256 {hashlib.sha256(f'Bearer {TOKEN}'.encode()).hexdigest()})"


@pytest.mark.parametrize("state", [ReviewState.DENIED, ReviewState.LAPSED])
async def test_a_held_request_that_is_not_approved_reaches_nobody(
    holding: HttpHouse, state: ReviewState
) -> None:
    task = asyncio.create_task(holding.raw(sent("DELETE /all")))
    review = await _asked(holding)
    if state is ReviewState.DENIED:
        holding.authority.reviews.deny(review)
    else:
        (session,) = holding.gate.registry.all()
        session.decided(ReviewDecided(review, "", ReviewState.LAPSED))
    got = await task
    assert got.startswith(b"HTTP/1.1 403"), got
    assert holding.service.requests == []


async def test_a_client_that_leaves_takes_its_question_back(holding: HttpHouse) -> None:
    _, writer = await holding.open()
    writer.write(sent("DELETE /all"))
    review = await _asked(holding)
    writer.transport.abort()
    async with asyncio.timeout(5):
        while holding.authority.reviews.all[review].state is not ReviewState.WITHDRAWN:
            await asyncio.sleep(0.01)
    assert holding.service.requests == []


async def test_a_program_that_does_not_wait_sends_the_same_again(holding: HttpHouse) -> None:
    data = sent("POST /pay", "Prefer: respond-async", body=b"{}")
    got = await holding.raw(data)
    assert got.startswith(b"HTTP/1.1 202"), got
    assert b"retry-after: 2" in got
    review = await _asked(holding)
    assert (await holding.raw(data)).startswith(b"HTTP/1.1 202")
    assert len(holding.authority.reviews.all) == 1, "the same request was asked about twice"
    holding.authority.reviews.approve(review)
    async with asyncio.timeout(5):
        while not (got := await holding.raw(data)).startswith(b"HTTP/1.1 200"):
            assert got.startswith(b"HTTP/1.1 202"), got
    assert holding.service.requests == [("POST", "/pay")]
    assert (await holding.raw(data)).startswith(b"HTTP/1.1 202"), "an approval was used twice"


async def test_another_request_does_not_go_by_the_approval(holding: HttpHouse) -> None:
    asked = sent("POST /pay", "Prefer: respond-async", body=b'{"sum": 5}')
    await holding.raw(asked)
    review = await _asked(holding)
    holding.authority.reviews.approve(review)
    for other in (
        sent("POST /pay", "Prefer: respond-async", body=b'{"sum": 6}'),
        sent("POST /pay?all=1", "Prefer: respond-async", body=b'{"sum": 5}'),
        sent("DELETE /pay", "Prefer: respond-async", body=b'{"sum": 5}'),
        sent("POST /pay", "Prefer: respond-async", "X-Account: 2", body=b'{"sum": 5}'),
    ):
        assert (await holding.raw(other)).startswith(b"HTTP/1.1 202")
    assert holding.service.requests == []


async def test_a_browsers_form_waits_on_a_page_that_goes_on_by_itself(holding: HttpHouse) -> None:
    navigate = ("Sec-Fetch-Mode: navigate", "Accept: text/html")
    got = await holding.raw(sent("POST /pay", *navigate, body=b"{}"))
    assert got.startswith(b"HTTP/1.1 202"), got
    page = got.decode().partition(";url=")[2].partition('"')[0]
    assert page.startswith("/.portcullis/held/")
    assert (await holding.raw(sent(f"GET {page}", *navigate))).startswith(b"HTTP/1.1 202")
    other = await holding.raw(request(f"GET {page} HTTP/1.1").replace(b"pce_ada-token-1", b"pce_bob-token-1"))
    assert other.startswith((b"HTTP/1.1 403", b"HTTP/1.1 404"))
    holding.authority.reviews.approve(await _asked(holding))
    async with asyncio.timeout(5):
        while not (got := await holding.raw(sent(f"GET {page}", *navigate))).startswith(b"HTTP/1.1 200"):
            assert got.startswith(b"HTTP/1.1 202"), got
    assert json.loads(got.partition(b"\r\n\r\n")[2])["method"] == "POST"
    assert (await holding.raw(sent(f"GET {page}", *navigate))).startswith(b"HTTP/1.1 404")
    assert holding.service.requests == [("POST", "/pay")]


async def test_a_held_request_is_refused_when_the_grant_ends(holding: HttpHouse) -> None:
    task = asyncio.create_task(holding.raw(sent("DELETE /all")))
    await _asked(holding)
    holding.authority.end(next(iter(holding.authority.grants)))
    assert (await task).startswith(b"HTTP/1.1 403")
    assert holding.service.requests == []
