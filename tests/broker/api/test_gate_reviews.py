"""Held statements on their way from a gate to the broker and back: what is asked is what is heard."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from proxy.remote import RemoteAuthority
from workflows import gate_wire as wire
from workflows.gate import HeldStatement, ReviewDecided, ReviewTicket, RunPass
from workflows.model import Quorum, Refusal, ReviewState, Statement, StatementClass

HELD = HeldStatement(
    session="S-1",
    statement=Statement(
        "delete from t", "ab" * 32, StatementClass.DESTRUCTIVE, ("public.t",), False, 7, True
    ),
    rule="ask-first",
    quorum=(Quorum("dba", 2, ("leads",)),),
    hold_for=900.0,
    transaction="on its own",
)


@pytest.fixture
async def authority(app: FastAPI) -> Any:
    it = RemoteAuthority("http://localhost", "the gate's token")
    it._line.http._transport = httpx2.ASGITransport(app=app)
    async with it:
        yield it


async def test_a_held_statement_is_heard_as_it_was_asked(authority: RemoteAuthority, door: Any) -> None:
    answer = await authority.ask_review("g1", HELD)
    assert answer == ReviewTicket("V-1", "dba", "https://access.example/V-1", 900.0)
    assert door.heard == [("g1", HELD)]


async def test_the_run_is_given_or_refused_as_the_broker_says(authority: RemoteAuthority, door: Any) -> None:
    assert await authority.take_run("g1", "V-1", "S-1", "the digest") == RunPass("V-1", 7)
    refused = await authority.take_run("g1", "V-1", "S-1", "another")
    assert isinstance(refused, Refusal)
    assert refused.code == "not-what-was-approved"
    assert door.heard == [("g1", "V-1", "S-1", "the digest"), ("g1", "V-1", "S-1", "another")]


async def test_outcomes_and_withdrawals_are_heard(authority: RemoteAuthority, door: Any) -> None:
    await authority.finish_run("g1", "V-1", "DELETE 7")
    await authority.withdraw_review("g1", "V-2", "its client is gone")
    assert door.heard == [("g1", "V-1", "DELETE 7"), ("g1", "V-2", "its client is gone")]


async def test_without_the_gates_token_nothing_about_statements_is_answered(app: FastAPI, door: Any) -> None:
    it = RemoteAuthority("http://localhost", "a guess")
    it._line.http._transport = httpx2.ASGITransport(app=app)
    async with it:
        for call in (
            it.ask_review("g1", HELD),
            it.take_run("g1", "V-1", "S-1", "the digest"),
            it.finish_run("g1", "V-1", ""),
            it.withdraw_review("g1", "V-1", ""),
        ):
            with pytest.raises(ConnectionError, match="does not know"):
                await call
    assert door.heard == []


@given(
    st.builds(
        ReviewDecided, st.text(), st.text(), st.sampled_from(ReviewState), by=st.text(), reason=st.text()
    )
)
def test_a_decision_comes_out_of_its_line_as_it_went_in(decided: ReviewDecided) -> None:
    line = wire.notice_line(decided)
    assert line.count(b"\n") == 1
    assert wire.decode_notice_line(line).notice == decided
