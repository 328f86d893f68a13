"""Tokens: bound to a person and a purpose, over in time, and in the database only as a hash."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from broker.clock import SystemChance
from broker.identity import tokens
from broker.identity.tokens import TokenKind, Tokens
from broker.store.engine import Store


@pytest.fixture
def made(store: Store, clock: Any) -> Tokens:
    return Tokens(store, clock, SystemChance())


async def test_a_token_says_whose_it_is_to_its_own_purpose_only(made: Tokens) -> None:
    issued = await made.issue(TokenKind.ENTRY, "ada", via="cli")
    assert await made.gate_principal(issued.token) == "ada"
    assert await made.check(TokenKind.LOGIN, issued.token) is None
    assert await made.gate_principal(issued.token + "x") is None
    assert await made.gate_principal("") is None


async def test_a_token_at_the_gate_is_good_for_ten_minutes_and_many_logins(made: Tokens, clock: Any) -> None:
    issued = await made.issue(TokenKind.ENTRY, "ada", via="cli")
    clock.advance(minutes=9, seconds=59)
    assert await made.gate_principal(issued.token) == "ada"
    clock.advance(seconds=1)
    assert await made.gate_principal(issued.token) is None


async def test_a_login_lasts_twelve_hours_from_its_last_use(made: Tokens, clock: Any) -> None:
    issued = await made.issue(TokenKind.LOGIN, "ada", via="cli")
    for _ in range(3):
        clock.advance(hours=11)
        assert await made.check(TokenKind.LOGIN, issued.token)
    clock.advance(hours=12, seconds=1)
    assert await made.check(TokenKind.LOGIN, issued.token) is None


async def test_a_login_that_is_used_all_the_time_is_over_after_thirty_days(made: Tokens, clock: Any) -> None:
    issued = await made.issue(TokenKind.LOGIN, "ada", via="cli")
    hours = 0
    while await made.check(TokenKind.LOGIN, issued.token):
        clock.advance(hours=6)
        hours += 6
        assert hours < 31 * 24
    assert 29 * 24 < hours <= 30 * 24


async def test_a_page_is_shown_once_however_many_ask_at_once(made: Tokens) -> None:
    issued = await made.issue(TokenKind.REVEAL, "ada", via="slack", payload="sealed text")
    answers = await asyncio.gather(*(made.spend(TokenKind.REVEAL, issued.token) for _ in range(6)))
    assert [held.payload for held in answers if held] == ["sealed text"]
    assert await made.spend(TokenKind.REVEAL, issued.token) is None


async def test_an_ended_token_opens_nothing(made: Tokens) -> None:
    issued = await made.issue(TokenKind.LOGIN, "ada", via="cli")
    await made.end(issued.token, via="cli")
    await made.end(issued.token, via="cli")
    assert await made.check(TokenKind.LOGIN, issued.token) is None


async def test_all_tokens_of_a_person_end_at_once_and_nobody_elses(made: Tokens) -> None:
    mine = [await made.issue(kind, "ada", via="cli") for kind in (TokenKind.LOGIN, TokenKind.ENTRY)]
    other = await made.issue(TokenKind.ENTRY, "bob", via="cli")
    assert await made.end_all("ada", actor="sam", via="api") == 2
    assert await made.check(TokenKind.LOGIN, mine[0].token) is None
    assert await made.gate_principal(mine[1].token) is None
    assert await made.gate_principal(other.token) == "bob"


async def test_the_database_and_the_trail_hold_no_token(made: Tokens, store: Store) -> None:
    issued = await made.issue(TokenKind.ENTRY, "ada", via="cli", label="psql")
    async with store.read() as tx:
        for table in ("tokens", "audit"):
            rows = await tx.execute(text(f"SELECT * FROM {table}"))
            assert all(issued.token not in str(value) for row in rows for value in row)
    assert issued.token not in repr(issued)


async def test_two_tokens_are_never_alike_and_have_256_bits(made: Tokens) -> None:
    issued = [await made.issue(TokenKind.ENTRY, "ada", via="cli") for _ in range(5)]
    assert len({one.token for one in issued}) == 5
    assert all(len(one.token) == len("pce_") + 43 for one in issued)


async def test_tokens_that_are_over_are_swept(made: Tokens, store: Store, clock: Any) -> None:
    await made.issue(TokenKind.ENTRY, "ada", via="cli")
    clock.advance(days=2)
    async with store.write() as tx:
        assert await tokens.sweep(tx, clock.now() - timedelta(days=1)) == 1
