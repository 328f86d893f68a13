"""Emergencies, extensions and the waiting over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from broker.api.parts import Parts
from broker.config import Config
from broker.identity.tokens import TokenKind
from workflows.policy import Emergency

WHY = {"incident": "INC-142", "reason": "checkout is down since 02:40"}
BREAK = {"resource": "prod-db", **WHY}


@pytest.fixture
def service(make_service: Any, config: Config) -> Any:
    """With an emergency rule for engineers, and one free half hour."""
    rule = Emergency(
        "night",
        frozenset({"prod-db"}),
        "readwrite",
        timedelta(minutes=30),
        ("security",),
        who=frozenset({"engineers"}),
        codes=True,
    )
    read = replace(
        config.policy.rules[0], extend_freely=timedelta(minutes=30), longest_total=timedelta(hours=6)
    )
    rules = (read, *config.policy.rules[1:])
    return make_service(replace(config, policy=replace(config.policy, rules=rules, emergencies=(rule,))))


async def test_an_emergency_from_its_beginning_to_its_review(call: Any, clock: Any) -> None:
    ada, sam, linus = await call("ada"), await call("sam"), await call("linus")
    taken = await ada.post("/api/v1/break-glass", json=BREAK)
    assert taken.status_code == 201
    story = taken.json()
    assert story["grant"]["state"] == "minting"
    assert story["emergency"]["skipped"] == ["grace", "linus", "sam"]
    key = story["id"]
    assert (await ada.post("/api/v1/break-glass", json=BREAK)).json()["code"] == "one-at-a-time"
    again = await ada.post(f"/api/v1/requests/{key}/extend", json={"seconds": 600})
    assert again.json()["code"] == "not-extendable"
    assert (await linus.post(f"/api/v1/requests/{key}/revoke", json={})).json()["grant"]["state"] == "ended"
    assert [s["id"] for s in (await sam.get("/api/v1/reviews")).json()] == [key]
    assert (await linus.get("/api/v1/reviews")).json() == []
    own = await ada.post(f"/api/v1/requests/{key}/review", json={"verdict": "justified"})
    assert (own.status_code, own.json()["code"]) == (403, "own-request")
    done = await sam.post(f"/api/v1/requests/{key}/review", json={"verdict": "justified", "note": "real"})
    assert done.json()["emergency"]["verdict"] == "justified"


async def test_who_may_not_break_the_glass_is_told_as_if_it_were_not_there(call: Any) -> None:
    zoe = await call("zoe")
    hidden = await zoe.post("/api/v1/break-glass", json=BREAK)
    absent = await zoe.post("/api/v1/break-glass", json={**BREAK, "resource": "no-db"})
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json()["code"] == absent.json()["code"] == "no-such-resource"


async def test_a_waiting_request_becomes_an_emergency(call: Any) -> None:
    ada = await call("ada")
    asked = await ada.post("/api/v1/requests", json={"resource": "prod-db", "reason": "INC-1 having a look"})
    key = asked.json()["id"]
    taken = await ada.post(f"/api/v1/requests/{key}/break-glass", json={"incident": "INC-1"})
    assert taken.status_code == 200
    assert taken.json()["id"] == key
    assert taken.json()["grant"]


async def test_a_sealed_code_works_without_a_login_and_gives_the_password_for_the_gate(
    call: Any, anyone: httpx2.AsyncClient, parts: Parts
) -> None:
    assert (
        await (await call("ada")).post("/api/v1/offline-codes", json={"principal": "ada"})
    ).status_code == 403
    made = await (await call("sam")).post("/api/v1/offline-codes", json={"principal": "ada", "count": 2})
    first, second = made.json()["codes"]
    bad = await anyone.post("/api/v1/break-glass/offline", json={**BREAK, "code": first[:-1] + "!"})
    assert (bad.status_code, bad.json()["code"]) == (403, "bad-code")
    taken = await anyone.post("/api/v1/break-glass/offline", json={**BREAK, "code": first})
    assert taken.status_code == 201
    held = await parts.tokens.check(TokenKind.ENTRY, taken.json()["entry"]["token"])
    assert held is not None
    assert held.principal == "ada"
    again = await anyone.post("/api/v1/break-glass/offline", json={**BREAK, "code": first})
    assert again.json()["code"] == "bad-code"
    gone = await (await call("ada")).post("/api/v1/offline-codes/withdraw", json={"principal": "ada"})
    assert gone.json() == {"count": 1}
    assert (
        await anyone.post("/api/v1/break-glass/offline", json={**BREAK, "code": second})
    ).status_code == 403


async def test_more_time_less_time_and_the_waiting(call: Any, clock: Any) -> None:
    ada, grace = await call("ada"), await call("grace")
    wish = {"resource": "prod-db", "role": "readonly", "seconds": 7200, "reason": "INC-142"}
    key = (await ada.post("/api/v1/requests", json=wish)).json()["id"]
    clock.advance(minutes=15)
    assert (await ada.post(f"/api/v1/requests/{key}/nudge", json={})).status_code == 200
    claimed = await grace.post(f"/api/v1/requests/{key}/claim", json={})
    assert claimed.json()["claimed_by"] == "grace"
    said = await grace.post(f"/api/v1/requests/{key}/comments", json={"text": "which table?"})
    assert said.json()["comments"][0]["text"] == "which table?"
    less = await grace.post(f"/api/v1/requests/{key}/approve-less", json={"seconds": 3600})
    assert less.json()["seconds"] == 3600
    expiry = less.json()["grant"]["expiry"]
    free = await ada.post(f"/api/v1/requests/{key}/extend", json={"seconds": 1800})
    assert free.json()["grant"]["expiry"] > expiry
    asked = await ada.post(f"/api/v1/requests/{key}/extend", json={"seconds": 3600, "reason": "not done"})
    assert asked.json()["extensions"][-1]["state"] == "pending"
    assert (await ada.post(f"/api/v1/requests/{key}/extension/approve", json={})).status_code == 403
    given = await grace.post(f"/api/v1/requests/{key}/extension/approve", json={})
    assert given.json()["extensions"][-1]["state"] == "granted"


async def test_the_urgent_verbs_work_as_lines(call: Any, clock: Any) -> None:
    ada, grace, sam = await call("ada"), await call("grace"), await call("sam")

    async def line(who: httpx2.AsyncClient, text: str) -> Any:
        return (await who.post("/api/v1/lines", json={"line": text})).json()

    key = (await line(ada, "request prod-db 1h because INC-1"))["stories"][0]["id"]
    assert (await line(ada, "nudge"))["code"] == "too-soon"
    assert (await line(grace, f"claim {key}"))["understood"]
    await line(grace, f"approve {key}")
    assert "ends at 2026-11-24 10:20" in (await line(ada, "extend 20m"))["text"]
    asked = await line(ada, "extend prod-db 1h because not done")
    assert "The approvers decide" in asked["text"]
    assert "1h more is asked for" in asked["text"]
    longer = await line(grace, f"approve {key}")
    assert longer["stories"][0]["grant"]["expiry"] == "2026-11-24T11:20:00Z"
    await line(ada, "release")
    taken = await line(ada, "break-glass prod-db because INC-142 checkout is down")
    assert "EMERGENCY INC-142, review owed by 2026-11-25 09:00" in taken["text"]
    emergency = taken["stories"][0]["id"]
    said = await line(sam, f"review {emergency} not justified because there was no incident")
    assert "not justified (said sam)" in said["text"]
    assert said["stories"][0]["grant"]["end_reason"] == "revoked"


async def test_whoever_lost_the_answer_on_the_way_gets_it_again_with_the_same_key(
    call: Any, anyone: httpx2.AsyncClient
) -> None:
    made = await (await call("sam")).post("/api/v1/offline-codes", json={"principal": "ada"})
    said = {**BREAK, "code": made.json()["codes"][0]}
    key = {"Idempotency-Key": "the-same"}
    first = await anyone.post("/api/v1/break-glass/offline", json=said, headers=key)
    again = await anyone.post("/api/v1/break-glass/offline", json=said, headers=key)
    assert again.json()["story"] == first.json()["story"]
    assert again.json()["entry"]["token"] != first.json()["entry"]["token"]
    other = await anyone.post(
        "/api/v1/break-glass/offline", json=said, headers={"Idempotency-Key": "another"}
    )
    assert other.json()["code"] == "bad-code"
    guess = {**said, "code": said["code"][:-5] + "00000"}
    assert (await anyone.post("/api/v1/break-glass/offline", json=guess, headers=key)).json()[
        "code"
    ] == "bad-code"
