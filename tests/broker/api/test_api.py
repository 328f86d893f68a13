"""The API: the chat's verbs over HTTP, and who may use them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from broker.api.app import openapi
from broker.api.parts import Parts
from broker.identity.tokens import TokenKind
from broker.service import Service
from broker.store import sessions
from broker.store.engine import Store
from broker.store.sessions import SessionRecord
from proxy.recording import Statement
from tests.recordings_kit import recorded

WISH = {"resource": "prod-db", "seconds": 3600, "reason": "INC-142"}


async def asked(ada: httpx2.AsyncClient) -> Any:
    answer = await ada.post("/api/v1/requests", json=WISH)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_request_is_asked_approved_and_released(call: Any) -> None:
    ada, grace = await call("ada"), await call("grace")
    story = await asked(ada)
    assert (story["state"], story["grant"]) == ("pending", None)
    waiting = (await grace.get("/api/v1/me")).json()["waiting_for_me"]
    assert [it["id"] for it in waiting] == [story["id"]]
    approved = (await grace.post(f"/api/v1/requests/{story['id']}/approve", json={})).json()
    assert approved["state"] == "approved"
    assert [it["id"] for it in (await ada.get("/api/v1/me")).json()["grants"]] == [story["id"]]
    who = (await ada.get("/api/v1/resources/shop/who")).json()
    assert [it["requester"] for it in who] == ["ada"]
    released = (await ada.post(f"/api/v1/requests/{approved['grant']['id']}/release", json={})).json()
    assert released["grant"]["end_reason"] == "released"
    assert (await ada.get("/api/v1/me")).json()["grants"] == []


@pytest.mark.parametrize(
    ("person", "verb", "status", "code"),
    [
        ("ada", "approve", 403, "own-request"),
        ("bob", "approve", 403, "not-an-approver"),
        ("bob", "deny", 403, "not-an-approver"),
        ("grace", "cancel", 403, "not-yours"),
        ("grace", "release", 404, "no-grant"),
        ("zoe", "approve", 403, "not-an-approver"),
    ],
)
async def test_who_may_not_is_told_why(call: Any, person: str, verb: str, status: int, code: str) -> None:
    story = await asked(await call("ada"))
    answer = await (await call(person)).post(f"/api/v1/requests/{story['id']}/{verb}", json={})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["why"]


async def test_anothers_request_is_as_one_that_is_not(call: Any) -> None:
    story = await asked(await call("ada"))
    bob = await call("bob")
    hidden = await bob.get(f"/api/v1/requests/{story['id']}")
    missing = await bob.get("/api/v1/requests/R-999999")
    assert (hidden.status_code, hidden.json()) == (missing.status_code, missing.json())
    assert hidden.status_code == 404


async def test_the_same_idempotency_key_asks_once(call: Any) -> None:
    ada = await call("ada")
    sent = [ada.post("/api/v1/requests", json=WISH, headers={"Idempotency-Key": "k1"}) for _ in range(4)]
    ids = {answer.json()["id"] for answer in await asyncio.gather(*sent)}
    assert len(ids) == 1
    other = await ada.post("/api/v1/requests", json=WISH, headers={"Idempotency-Key": "k2"})
    assert other.json()["id"] not in ids


async def test_an_idempotency_key_of_one_person_is_nothing_to_another(call: Any) -> None:
    ada, bob = await call("ada"), await call("bob")
    headers = {"Idempotency-Key": "shared"}
    mine = (await ada.post("/api/v1/requests", json=WISH, headers=headers)).json()
    theirs = (await bob.post("/api/v1/requests", json=WISH, headers=headers)).json()
    assert mine["id"] != theirs["id"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic YWRhOmFkYQ=="},
    ],
    ids=str,
)
async def test_nothing_is_told_without_a_login(anyone: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    paths = [
        (path, method)
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    ]
    assert len(paths) >= 18
    for path, method in paths:
        address = path.format(
            key="R-000001", name="prod-db", session_id="S-1", device="0" * 16, principal="ada"
        )
        answer = await anyone.request(method, address, headers=headers)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_of_another_kind_is_no_login(anyone: httpx2.AsyncClient, parts: Parts) -> None:
    entry = await parts.tokens.issue(TokenKind.ENTRY, "ada", via="api")
    answer = await anyone.get("/api/v1/me", headers={"Authorization": f"Bearer {entry.token}"})
    assert answer.status_code == 401


async def test_a_login_of_somebody_who_is_not_known_any_more_is_over(
    anyone: httpx2.AsyncClient, parts: Parts
) -> None:
    gone = await parts.tokens.issue(TokenKind.LOGIN, "nobody", via="cli")
    answer = await anyone.get("/api/v1/me", headers={"Authorization": f"Bearer {gone.token}"})
    assert answer.status_code == 401


async def test_logging_out_ends_the_login(call: Any) -> None:
    ada = await call("ada")
    assert (await ada.post("/api/v1/logout", json={})).status_code == 204
    assert (await ada.get("/api/v1/me")).status_code == 401


async def test_an_entry_token_is_the_callers_own(call: Any, parts: Parts) -> None:
    answer = await (await call("ada")).post("/api/v1/tokens", json={})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert await parts.tokens.gate_principal(answer.json()["token"]) == "ada"


async def test_unknown_fields_and_wrong_types_are_refused(call: Any) -> None:
    ada = await call("ada")
    for wrong in (
        {**WISH, "approved": True},
        {**WISH, "seconds": "3600"},
        {**WISH, "seconds": 1},
        {"reason": "x"},
        [],
        {**WISH, "resource": ""},
    ):
        answer = await ada.post("/api/v1/requests", json=wrong)
        assert answer.status_code == 422, wrong
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_refused_value_is_not_repeated_in_the_answer(call: Any) -> None:
    answer = await (await call("ada")).post("/api/v1/requests", json={**WISH, "password": "hunter2"})
    assert "hunter2" not in answer.text


async def test_a_body_without_end_is_cut_off(call: Any) -> None:
    ada = await call("ada")

    async def endless() -> Any:
        for _ in range(1000):
            yield b" " * 1024

    answer = await ada.post(
        "/api/v1/requests", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


async def test_every_answer_carries_the_security_headers(anyone: httpx2.AsyncClient) -> None:
    for path in ("/", "/healthz", "/api/v1/me", "/nowhere", "/enter/G-1", "/static/console.css"):
        headers = (await anyone.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "cache-control" in headers


# ------------------------------------------------------------- lines


async def say(client: httpx2.AsyncClient, line: str) -> Any:
    answer = await client.post("/api/v1/lines", json={"line": line})
    return answer.json()


async def test_a_line_does_what_it_does_in_chat(call: Any) -> None:
    ada, linus = await call("ada"), await call("linus")
    done = await say(ada, "request prod-db 1h because INC-142")
    assert done["understood"]
    key = done["stories"][0]["id"]
    assert key in (await say(linus, "status"))["text"]
    assert (await say(linus, f"approve {key}"))["stories"][0]["state"] == "approved"
    assert "ada" in (await say(linus, "who prod-db"))["text"]
    assert "engineers-read-prod" in (await say(ada, f"why {key}"))["text"]
    ended = await say(ada, "release prod-db")
    assert ended["stories"][0]["grant"]["end_reason"] == "released"


async def test_a_slip_changes_nothing_and_is_mended(call: Any, service: Service) -> None:
    done = await say(await call("ada"), "requst prod-db 1h because INC-142")
    assert not done["understood"]
    assert done["mended"] == "request prod-db 1h because INC-142"
    assert await service.stories_of("ada") == []


async def test_revoking_a_person_ends_all_that_the_caller_may_end(call: Any) -> None:
    ada, sam = await call("ada"), await call("sam")
    for _ in range(2):
        key = (await say(ada, "request prod-db 1h because INC-142"))["stories"][0]["id"]
        await say(await call("linus"), f"approve {key}")
    bob = await call("bob")
    refused = await bob.post("/api/v1/lines", json={"line": "revoke @ada"})
    assert refused.status_code == 403
    done = await say(sam, "revoke @ada because they left")
    assert {s["grant"]["end_reason"] for s in done["stories"]} == {"revoked"}
    assert len(done["stories"]) == 2


async def test_release_without_a_name_asks_which_one(call: Any) -> None:
    ada = await call("ada")
    for _ in range(2):
        key = (await say(ada, "request prod-db 1h because INC-142"))["stories"][0]["id"]
        await say(await call("linus"), f"approve {key}")
    answer = await ada.post("/api/v1/lines", json={"line": "release"})
    assert (answer.status_code, answer.json()["code"]) == (409, "which-one")


async def test_cancel_alone_takes_the_only_waiting_request(call: Any) -> None:
    ada = await call("ada")
    assert (await ada.post("/api/v1/lines", json={"line": "cancel"})).status_code == 404
    await say(ada, "request prod-db 1h because INC-142")
    assert (await say(ada, "cancel"))["stories"][0]["state"] == "cancelled"


async def test_a_line_of_the_command_line_is_written_down_as_such(call: Any, service: Service) -> None:
    ada = await call("ada")
    line = {"line": "request prod-db 1h because INC-142"}
    done = (await ada.post("/api/v1/lines", json=line, headers={"Portcullis-Client": "cli"})).json()
    trail = await service.trail_of(done["stories"][0]["id"], "ada")
    assert isinstance(trail, list)
    assert {entry.via for entry in trail} == {"cli"}


# -------------------------------------------------------- explain, audit


async def test_one_sees_how_the_rules_treat_oneself_and_no_more(call: Any) -> None:
    ada, sam = await call("ada"), await call("sam")
    mine = await ada.get("/api/v1/explain", params={"resource": "prod-db"})
    assert any("yes, through engineers" in line for line in mine.json()["lines"])
    theirs = await ada.get("/api/v1/explain", params={"resource": "prod-db", "principal": "bob"})
    assert theirs.status_code == 403
    admin = await sam.get("/api/v1/explain", params={"resource": "prod-db", "principal": "bob"})
    assert admin.status_code == 200


async def test_explaining_tells_no_stranger_what_there_is(call: Any) -> None:
    zoe = await call("zoe")
    real = await zoe.get("/api/v1/explain", params={"resource": "prod-db"})
    made_up = await zoe.get("/api/v1/explain", params={"resource": "xxxx-xx"})
    assert real.status_code == made_up.status_code == 404
    assert real.text.replace("prod-db", "xxxx-xx") == made_up.text


async def test_the_trail_is_exported_to_administrators_alone(call: Any) -> None:
    await asked(await call("ada"))
    assert (await (await call("grace")).get("/api/v1/audit/export")).status_code == 403
    answer = await (await call("sam")).get("/api/v1/audit/export")
    entries = [json.loads(line)["entry"] for line in answer.text.splitlines()]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert "request.submitted" in {entry["kind"] for entry in entries}


# ------------------------------------------------------------- sessions


@pytest.fixture
async def a_session(call: Any, store: Store, clock: Any) -> SessionRecord:
    key = (await asked(await call("ada")))["id"]
    approved = (await (await call("linus")).post(f"/api/v1/requests/{key}/approve", json={})).json()
    now = clock.now()
    record = SessionRecord(
        "S-1",
        key,
        approved["grant"]["id"],
        "ada",
        "prod-db",
        "readonly",
        "g1",
        "postgres",
        "1.2.3.4",
        now,
        now,
    )
    async with store.write() as tx:
        await sessions.add(tx, record)
    return record


@pytest.mark.parametrize(
    ("person", "status"), [("ada", 200), ("grace", 200), ("sam", 200), ("bob", 404), ("zoe", 404)]
)
async def test_a_recording_is_for_its_person_their_approvers_and_administrators(
    call: Any, a_session: SessionRecord, shelf: Any, person: str, status: int
) -> None:
    from broker.recordings import RecordedStatement, RecordingView

    statement = RecordedStatement(1, 0.5, "select 1", "ok", 0.001, "SELECT 1", 1)
    shelf.held["S-1"] = RecordingView((statement,), ("select 1",), True)
    client = await call(person)
    assert (await client.get("/api/v1/sessions/S-1/recording")).status_code == status
    assert (await client.get("/api/v1/sessions/S-1")).status_code == status
    listed = (await client.get("/api/v1/sessions")).json()
    assert [it["id"] for it in listed] == (["S-1"] if status == 200 else [])


@pytest.mark.parametrize(
    ("person", "status"), [("ada", 200), ("grace", 200), ("sam", 200), ("bob", 404), ("zoe", 404)]
)
async def test_one_session_is_killed_by_its_person_their_approvers_and_administrators(
    call: Any, a_session: SessionRecord, person: str, status: int
) -> None:
    client = await call(person)
    answer = await client.post("/api/v1/sessions/S-1/kill", json={"reason": "enough"})
    assert answer.status_code == status
    guessed = await client.post("/api/v1/sessions/S-2/kill", json={"reason": "enough"})
    assert (guessed.status_code, guessed.json()["code"]) == (404, "no-such-session")
    if status == 200:
        assert (answer.json()["killed_by"], answer.json()["closed_at"]) == (person, None)
    else:
        assert answer.json() == guessed.json()


@pytest.mark.parametrize("path", ["S-1'%20or%20'1'='1", "..%2Fsessions", "S-" + "9" * 200, "s-1"])
async def test_what_is_no_id_of_a_session_kills_nothing(
    call: Any, a_session: SessionRecord, path: str
) -> None:
    answer = await (await call("sam")).post(f"/api/v1/sessions/{path}/kill", json={})
    assert answer.status_code in {404, 422}
    assert (await (await call("sam")).get("/api/v1/sessions/S-1")).json()["killed_by"] == ""


async def test_statements_are_found_with_what_their_recording_tells(
    call: Any, a_session: SessionRecord, shelf: Any
) -> None:
    masked = Statement(0, 1.5, "DELETE FROM users WHERE id = $1", "ok", 0.001, "DELETE 3", 3, ["•••"])
    recorded(shelf.directory, "S-1", ["select 1", masked], started=a_session.opened_at)
    answer = await (await call("grace")).get("/api/v1/statements/search?by=ada&on=shop&like=delete")
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert (page["place"], page["searched"], page["missing"], page["broken"]) == ("", 1, [], [])
    (hit,) = page["statements"]
    assert (hit["session_id"], hit["principal"], hit["resource"]) == ("S-1", "ada", "prod-db")
    assert hit["statement"]["parameters"] == ["•••"]
    assert (await (await call("bob")).get("/api/v1/statements/search")).json()["statements"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "since=2026-11-24T09:00:00",
        "class=harmless",
        "bye=ada",
        "like=" + "x" * 501,
    ],
)
async def test_a_search_that_is_not_understood_is_not_done(call: Any, query: str) -> None:
    answer = await (await call("sam")).get(f"/api/v1/statements/search?{query}")
    assert answer.status_code == 422


async def test_that_a_recording_was_read_is_in_the_trail(
    call: Any, a_session: SessionRecord, shelf: Any, service: Service
) -> None:
    from broker.recordings import RecordingView

    shelf.held["S-1"] = RecordingView((), (), False)
    await (await call("grace")).get("/api/v1/sessions/S-1/recording")
    trail = await service.trail("sam")
    assert isinstance(trail, list)
    assert ("recording.read", "grace", "S-1") in {(e.kind, e.actor, e.subject) for e in trail}


async def test_an_archive_of_http_requests_is_for_whom_the_recording_is_for_and_noted(
    call: Any, a_session: SessionRecord, shelf: Any, service: Service
) -> None:
    asked = Statement(0, 0.5, "GET /d/1?x=2", "ok", 0.001, "200 OK", what="http", channel=1)
    written = recorded(shelf.directory, "S-1", ["select 1", asked], started=a_session.opened_at)
    answer = await (await call("grace")).get("/api/v1/sessions/S-1/har")
    assert answer.status_code == 200, answer.text
    (entry,) = answer.json()["log"]["entries"]
    assert entry["request"]["url"].endswith("/d/1?x=2")
    assert (await (await call("bob")).get("/api/v1/sessions/S-1/har")).status_code == 404
    trail = await service.trail("sam")
    assert isinstance(trail, list)
    assert ("recording.read", "grace", "S-1") in {(e.kind, e.actor, e.subject) for e in trail}
    written.path.write_bytes(written.path.read_bytes().replace(b"/d/1", b"/d/2"))
    assert (await (await call("ada")).get("/api/v1/sessions/S-1/har")).status_code == 409


async def test_a_recording_that_was_changed_is_not_shown(
    call: Any, a_session: SessionRecord, shelf: Any
) -> None:
    shelf.held["S-1"] = ValueError("line 3: its hash does not follow")
    answer = await (await call("ada")).get("/api/v1/sessions/S-1/recording")
    assert (answer.status_code, answer.json()["code"]) == (409, "recording-changed")
    assert "line 3" in answer.json()["why"]


# --------------------------------------------------------------- health


async def test_health_readiness_and_metrics_answer(anyone: httpx2.AsyncClient, app: FastAPI) -> None:
    assert (await anyone.get("/healthz")).json() == {"status": "ok"}
    assert (await anyone.get("/readyz")).json() == {"status": "ok", "checks": {"store": "ok"}}
    assert "portcullis_transitions" in (await anyone.get("/metrics")).text


async def test_a_broker_without_its_database_is_not_ready(
    parts: Parts, store: Store, anyone: httpx2.AsyncClient
) -> None:
    async def away() -> None:
        raise OSError("password=hunter2 refused")

    parts.ready["store"] = away  # type: ignore[index]
    answer = await anyone.get("/readyz")
    assert answer.status_code == 503
    assert "hunter2" not in answer.text
