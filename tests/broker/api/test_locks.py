"""Locks over HTTP and as typed lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from broker.api.parts import Parts
from workflows import grammar
from workflows.lock import LockKind
from workflows.lock_lines import LockLine, UnlockLine

Caller = Callable[[str], Awaitable[httpx2.AsyncClient]]


async def line(client: httpx2.AsyncClient, text: str) -> Any:
    return (await client.post("/api/v1/lines", json={"line": text})).json()


async def test_a_lock_is_set_seen_and_taken_away_by_lines_and_by_calls(call: Caller) -> None:
    sam, ada = await call("sam"), await call("ada")
    made = await line(sam, "lock person @ada because her laptop is stolen")
    assert "person ada is locked by sam" in made["text"]
    assert (await ada.get("/api/v1/me")).status_code in (401, 403)
    listed = (await sam.get("/api/v1/locks")).json()
    assert [(it["kind"], it["target"], it["reason"]) for it in listed] == [
        ("person", "ada", "her laptop is stolen")
    ]
    assert "her laptop is stolen" in (await line(sam, "lock"))["text"]
    assert "person ada is unlocked" in (await line(sam, "unlock @ada"))["text"]
    body = {"kind": "resource", "target": "shop", "reason": "odd queries"}
    made = (await sam.post("/api/v1/locks/set", json=body)).json()
    assert made["target"] == "prod-db"
    refused = await (await call("bob")).post("/api/v1/requests", json={"resource": "prod-db", "reason": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "locked")
    assert (await sam.post(f"/api/v1/locks/{made['id']}/end", json={})).status_code == 200
    assert (await line(sam, "lock"))["text"] == "Nothing is locked."


async def test_whoever_keeps_no_locks_sets_and_sees_none(call: Caller) -> None:
    bob = await call("bob")
    assert (await bob.get("/api/v1/locks")).status_code == 403
    assert (await line(bob, "lock everything because I can"))["code"] == "not-a-keeper"
    assert (await line(bob, "unlock everything"))["code"] == "not-a-keeper"


@pytest.fixture
def context(parts: Parts) -> grammar.Context:
    sam = parts.service.principal("sam")
    assert sam is not None
    from zoneinfo import ZoneInfo

    return grammar.context_for(parts.service.policy, sam, parts.clock.now(), ZoneInfo("UTC"))


@pytest.mark.parametrize(
    "text",
    [
        "lock",
        "lock person @ada because of the phone",
        "lock resource prod-db because INC-1",
        "lock everything because we do not know yet",
        "lock device 0123456789abcdef because it is lost",
        "unlock L-7K3F9Q",
        "unlock @ada",
        "unlock prod-db",
        "unlock everything",
    ],
)
async def test_a_line_about_a_lock_reads_as_it_spells(text: str, context: grammar.Context) -> None:
    command = grammar.parse(text, context)
    assert isinstance(command, LockLine | UnlockLine), command
    assert grammar.parse(grammar.spell(command), context) == command


async def test_a_slip_is_mended_and_a_lock_without_a_reason_is_none(context: grammar.Context) -> None:
    mended = grammar.parse("lock persn @ada because x", context)
    assert isinstance(mended, grammar.Mistake)
    assert mended.mended == "lock person @ada because x"
    for text in ("lock person @ada", "lock shelf x because y", "lock device ada because y", "unlock"):
        assert isinstance(grammar.parse(text, context), grammar.Mistake)
    alias = grammar.parse("lock resource SHOP because x", context)
    assert isinstance(alias, LockLine)
    assert alias.kind is LockKind.RESOURCE
