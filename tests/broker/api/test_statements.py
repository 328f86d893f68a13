"""Held statements over HTTP: what waits for me, and who may say yes."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from broker.reviews import Reviews
from broker.service import Service
from broker.store import sessions
from broker.store.sessions import SessionRecord
from workflows.access import Wish
from workflows.gate import HeldStatement, ReviewTicket
from workflows.model import Quorum, Statement, StatementClass, Story

TEXT = "DELETE FROM orders"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture
async def held(service: Service, clock: Any) -> str:
    story = await service.submit("ada", Wish("prod-db", "readwrite", timedelta(hours=1), "INC-1"), via="api")
    assert isinstance(story, Story)
    story = await service.approve(story.request.id, "linus", via="api")
    assert isinstance(story, Story)
    assert story.grant is not None
    now = clock.now()
    record = SessionRecord(
        "S-1", story.request.id, story.grant.id, "ada", "prod-db", "readwrite", "g1", "postgres", "c", now,
        now + timedelta(hours=1),
    )  # fmt: skip
    async with service.store.write() as tx:
        await sessions.add(tx, record)
    statement = Statement(TEXT, DIGEST, StatementClass.DESTRUCTIVE, ("public.orders",), False, 9)
    ticket = await Reviews(service).ask(
        "g1", HeldStatement("S-1", statement, "ask-first", (Quorum("dba"),), 900.0)
    )
    assert isinstance(ticket, ReviewTicket)
    return ticket.review


async def test_an_approver_sees_what_waits_and_says_yes_with_a_budget(call: Any, held: str) -> None:
    grace = await call("grace")
    (waiting,) = (await grace.get("/api/v1/statements")).json()
    assert (waiting["id"], waiting["text"], waiting["bounded"]) == (held, TEXT, False)
    yes = await grace.post(f"/api/v1/statements/{held}/approve", json={"row_budget": 10})
    assert (yes.status_code, yes.json()["state"], yes.json()["row_budget"]) == (200, "approved", 10)
    assert (await grace.get("/api/v1/statements")).json() == []
    assert (await (await call("ada")).get(f"/api/v1/statements/{held}")).json()["state"] == "approved"


@pytest.mark.parametrize(
    ("person", "verb", "status", "code"),
    [
        ("ada", "approve", 403, "own-request"),
        ("bob", "approve", 403, "not-an-approver"),
        ("zoe", "deny", 403, "not-an-approver"),
    ],
)
async def test_who_may_not_is_told_why(
    call: Any, held: str, person: str, verb: str, status: int, code: str
) -> None:
    answer = await (await call(person)).post(f"/api/v1/statements/{held}/{verb}", json={})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_statement_is_not_shown_to_those_it_does_not_concern(call: Any, held: str) -> None:
    for person, key in (("bob", held), ("grace", "V-0000")):
        answer = await (await call(person)).get(f"/api/v1/statements/{key}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no-such-review")
