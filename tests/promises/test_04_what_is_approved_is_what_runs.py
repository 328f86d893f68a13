"""Promise 4. What is approved is what runs: these bytes, for this person, here, once. Any change voids it."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import asyncio
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.postgres import codec
from tests.proxy.conftest import House, OpenHouse, Server, gate_identity, holding, open_house, server
from tests.proxy.memory_reviews import PEOPLE
from tests.proxy.wire_client import RawClient
from workflows import review as rules
from workflows.model import Refusal, ReviewState, StatementReview

INSERT = "insert into notes (body) values ('approved')"
SYNC = codec.message(b"S")


@pytest.fixture(autouse=True)
def clean(server: Server) -> None:
    server.ask("truncate notes")


def bodies(server: Server) -> list[str]:
    return [str(body) for (body,) in server.ask("select body from notes order by id")]


def parse(name: bytes, text: str) -> bytes:
    return codec.parse(name, text.encode())


def run(name: bytes, *values: bytes) -> bytes:
    bind = codec.bind(codec.Bind(b"", name, (), values, ()))
    return bind + codec.message(b"E", b"\0" + struct.pack("!I", 0))


async def test_the_same_bytes_twice_need_two_approvals(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        for number in (1, 2):
            task = asyncio.create_task(db.execute(INSERT))
            reviews.approve((await reviews.asked(number)).id)
            await task
        denied = asyncio.create_task(db.execute(INSERT))
        reviews.deny((await reviews.asked(3)).id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await denied
    assert bodies(holding.server) == ["approved", "approved"]


@pytest.mark.parametrize(
    "again", ["the client's own prepared statement", "SQL's EXECUTE", "a portal bound anew"]
)
async def test_what_was_prepared_once_needs_an_approval_each_time_it_runs(holding: House, again: str) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    asked = 0

    async def decide(message: bytes, yes: bool) -> list[bytes]:
        nonlocal asked
        asked += 1
        wire.send(message)
        review = await reviews.asked(asked)
        reviews.approve(review.id) if yes else reviews.deny(review.id)
        return [kind for kind in await wire.until_ready() if kind != b"N"]

    if again == "SQL's EXECUTE":
        await decide(codec.query(f"prepare p as {INSERT}".encode()), yes=True)
        messages = [codec.query(b"execute p"), codec.query(b"execute p"), run(b"p") + SYNC]
    else:
        wire.send(parse(b"p", INSERT) + SYNC)
        await wire.until_ready()
        bind = run(b"p") + SYNC
        messages = [bind, bind] if again.startswith("the") else [bind, codec.query(b"execute p")]
    first, *others = messages
    assert b"C" in await decide(first, yes=True)
    for message in others:
        assert b"E" in await decide(message, yes=False)
    wire.close()
    assert bodies(holding.server) == ["approved"]


async def test_other_values_are_another_statement(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        text = "insert into notes (body) values (%s)"
        task = asyncio.create_task(db.execute(text, ("approved",)))
        first = await reviews.asked()
        reviews.approve(first.id)
        await task
        task = asyncio.create_task(db.execute(text, ("altered",)))
        second = await reviews.asked(2)
        assert second.statement.digest != first.statement.digest
        reviews.deny(second.id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await task
    assert bodies(holding.server) == ["approved"]


async def test_an_approval_does_not_outlive_the_connection_it_was_asked_on(holding: House) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    wire.send(codec.query(INSERT.encode()))
    review = await reviews.asked()
    wire.vanish()
    await reviews.state(review.id, ReviewState.WITHDRAWN)
    refusal = reviews.command(review.id, rules.Approve("grace", PEOPLE))
    assert isinstance(refusal, Refusal)
    psql = asyncio.create_task(holding.psql(INSERT.replace("approved", "altered"), check=False))
    reviews.deny((await reviews.asked(2)).id)
    await psql
    assert bodies(holding.server) == []


async def test_an_approval_is_for_one_session_even_with_the_same_bytes(holding: House) -> None:
    reviews = holding.authority.reviews
    first = asyncio.create_task(holding.psql(INSERT, check=False))
    one = await reviews.asked(1)
    second = asyncio.create_task(holding.psql(INSERT, check=False))
    two = await reviews.asked(2)
    reviews.approve(one.id)
    assert (await first)[0] == "INSERT 0 1\n"
    assert bodies(holding.server) == ["approved"]
    assert isinstance(reviews.take_run(two.id, one.session_id, two.statement.digest), Refusal)
    reviews.deny(two.id)
    assert "denied by grace" in (await second)[1]


async def test_what_is_pipelined_behind_a_held_statement_needs_its_own_approval(
    holding: House,
) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    wire.send(codec.query(INSERT.encode()) + codec.query(INSERT.replace("approved", "altered").encode()))
    reviews.approve((await reviews.asked(1)).id)
    reviews.deny((await reviews.asked(2)).id)
    assert b"C" in await wire.until_ready()
    assert b"E" in await wire.until_ready()
    wire.close()
    assert bodies(holding.server) == ["approved"]


async def test_a_parse_that_fails_does_not_hide_what_its_name_stands_for(holding: House) -> None:
    wire = await RawClient.enter(holding)
    wire.send(parse(b"p", INSERT) + SYNC)
    await wire.until_ready()
    # The name is taken, so this Parse fails at the target, and p still is the INSERT.
    wire.send(parse(b"p", "select 1") + SYNC + run(b"p") + SYNC)
    review = await holding.authority.reviews.asked()
    assert review.statement.text.startswith(INSERT)
    holding.authority.reviews.deny(review.id)
    await wire.until_ready()
    await wire.until_ready()
    wire.close()
    assert bodies(holding.server) == []


async def test_a_name_that_changes_its_meaning_is_asked_about_anew(holding: House) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    wire.send(codec.query(b"prepare p as select 1") + parse(b"e", "execute p") + SYNC)
    await wire.until_ready()
    await wire.until_ready()
    wire.send(
        codec.query(b"deallocate p") + codec.query(f"prepare p as {INSERT}".encode()) + run(b"e") + SYNC
    )
    reviews.approve((await reviews.asked(1)).id)
    reviews.deny((await reviews.asked(2)).id)
    for _ in range(3):
        await wire.until_ready()
    wire.close()
    assert bodies(holding.server) == []


async def test_nothing_runs_when_the_broker_gives_the_run_for_other_bytes(holding: House) -> None:
    """The broker's own rule: the digest that the gate computes from what it is about to send must fit."""
    reviews = holding.authority.reviews
    psql = asyncio.create_task(holding.psql(INSERT, check=False))
    review = await reviews.asked()
    reviews.all[review.id] = _other_bytes(review)
    reviews.approve(review.id)
    _, said = await psql
    assert "not the statement" in said
    assert bodies(holding.server) == []


def _other_bytes(review: StatementReview) -> StatementReview:
    return replace(review, statement=replace(review.statement, digest="0" * 64))


@pytest.mark.parametrize(("where", "left"), [("taken", []), ("finished", ["approved"])])
async def test_a_gate_killed_around_the_run_never_runs_it_twice(
    server: Server, tmp_path: Path, where: str, left: list[str]
) -> None:
    ca = tmp_path / "server-ca.pem"
    ca.write_text(server.ca)
    gate = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.promises.killable_gate", where, str(server.port), str(ca), str(tmp_path),
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert gate.stdout is not None
    async with asyncio.timeout(60):
        while True:
            line = (await gate.stdout.readline()).decode().split()
            if len(line) == 2 and line[0].isdigit():
                break
    dsn = (
        f"host=127.0.0.1 port={line[0]} user=ada password=ada-token-1 dbname=prod-db sslmode=verify-full "
        f"sslrootcert={line[1]}"
    )
    psql = await asyncio.create_subprocess_exec(
        "psql", "-X", dsn, "-c", INSERT, "-c", INSERT,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await psql.wait()
    await gate.wait()
    assert gate.returncode == -9
    assert await asyncio.to_thread(bodies, server) == left


# --- whatever a client sends, in whatever order

NAMES = st.sampled_from([b"", b"p", b"q"])
TEXTS = st.sampled_from(
    ["insert into notes (body) values ('x')", "insert into notes (body) values ('y')", "select 1"]
)


def _sql(template: str) -> Callable[[bytes, str], bytes]:
    def make(name: bytes, text: str) -> bytes:
        return codec.query(template.format(name=(name or b"p").decode(), text=text).encode())

    return make


MESSAGES = st.one_of(
    st.builds(parse, NAMES, TEXTS),
    st.builds(lambda name, execute: parse(name, f"execute {execute}"), NAMES, st.sampled_from(["p", "q"])),
    st.builds(run, NAMES),
    st.builds(lambda name: codec.message(b"C", b"S" + name + b"\0"), NAMES),
    st.just(SYNC),
    st.builds(_sql("{text}"), NAMES, TEXTS),
    st.builds(_sql("select 1; {text}"), NAMES, TEXTS),
    st.builds(_sql("prepare {name} as {text}"), NAMES, TEXTS),
    st.builds(_sql("execute {name}"), NAMES, TEXTS),
    st.builds(_sql("deallocate {name}"), NAMES, TEXTS),
    st.builds(_sql("begin"), NAMES, TEXTS),
    st.builds(_sql("commit"), NAMES, TEXTS),
)


@given(messages=st.lists(MESSAGES, min_size=3, max_size=25), seed=st.integers(0, 10**6))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_row_is_written_that_no_approval_stands_for(
    holding: House, messages: list[bytes], seed: int
) -> None:
    await asyncio.to_thread(holding.server.ask, "truncate notes")
    chance = random.Random(seed)
    reviews = holding.authority.reviews
    reviews.all.clear()
    reviews.decide = lambda review: chance.random() < 0.6
    wire = await RawClient.enter(holding)
    for message in messages:
        wire.send(message)
        if chance.random() < 0.2:
            await asyncio.sleep(0.002)
    wire.send(SYNC + codec.query(b"rollback") + codec.query(b"select 'the end'"))
    async with asyncio.timeout(30):
        while b"the end" not in (await wire.receive())[1]:
            pass
        await wire.until_ready()
    wire.close()
    approved = [it for it in reviews.all.values() if any(a.yes for a in it.approvals)]
    for body in await asyncio.to_thread(bodies, holding.server):
        stands = next((it for it in approved if _stands_for(it, body)), None)
        assert stands is not None, f"{body} was written, and nobody approved that"
        approved.remove(stands)


def _stands_for(review: StatementReview, body: str) -> bool:
    text = review.statement.text
    return f"('{body}')" in text and not text.startswith("prepare")
