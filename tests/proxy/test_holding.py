"""A statement that a guardrail holds waits on the wire, and runs once when people have said so."""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from proxy.postgres import codec
from proxy.postgres.session import Session
from tests.proxy.conftest import HOLD_WRITES
from tests.proxy.wire_client import RawClient, connect_asyncpg
from workflows.model import EndReason, Quorum, Refusal, ReviewState, StatementClass

if TYPE_CHECKING:
    from tests.proxy.conftest import House

DELETE = "delete from notes where body = 'never there'"
INSERT = "insert into notes (body) values ('held')"


async def written(house: House, body: str = "held") -> int:
    count = (await asyncio.to_thread(house.server.ask, f"select count(*) from notes where body = '{body}'"))[
        0
    ][0]
    assert isinstance(count, int)
    return count


@pytest.fixture(autouse=True)
def clean(server: Any) -> None:
    server.ask("truncate notes")
    server.ask("analyze users")


# --- approved


async def test_an_approved_statement_runs_in_place_and_psql_shows_its_story(holding: House) -> None:
    reviews = holding.authority.reviews
    psql = asyncio.create_task(holding.psql(INSERT, "select 42"))
    review = await reviews.asked()
    assert await written(holding) == 0
    reviews.approve(review.id, reason="looks fine")
    out, said = await psql
    assert out == "INSERT 0 1\n42\n"
    assert "NOTICE:  held by the rule ask-first; asked dba" in said
    assert f"DETAIL:  See https://access.example/statements/{review.id}" in said
    assert "NOTICE:  approved by grace: looks fine" in said
    assert "ERROR" not in said
    assert await written(holding) == 1
    assert (await reviews.state(review.id, ReviewState.FINISHED)).outcome == "INSERT 0 1"


async def test_psql_shows_the_notice_while_it_waits(holding: House) -> None:
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", holding.dsn(), "-c", INSERT, stderr=asyncio.subprocess.PIPE
    )
    review = await holding.authority.reviews.asked()
    assert process.stderr is not None
    async with asyncio.timeout(5):
        assert b"held by the rule" in await process.stderr.readline()
    holding.authority.reviews.approve(review.id)
    await process.communicate()
    assert process.returncode == 0


async def test_those_who_decide_see_the_statement_its_class_tables_and_bytes(holding: House) -> None:
    psql = asyncio.create_task(holding.psql("delete from users where age > 40", check=False))
    review = await holding.authority.reviews.asked()
    statement = review.statement
    assert statement.text == "delete from users where age > 40"
    assert statement.digest == hashlib.sha256(statement.text.encode()).hexdigest()
    assert statement.tables == ("public.users",)
    assert statement.statement_class is StatementClass.WRITE
    assert statement.bounded is True
    assert statement.estimate is not None
    assert 1 <= statement.estimate <= 50
    assert not statement.counted
    assert review.transaction == "on its own"
    assert review.rule == "ask-first"
    holding.authority.reviews.deny(review.id)
    await psql


async def test_the_recording_tells_who_approved_and_how_long_it_waited(holding: House) -> None:
    reviews = holding.authority.reviews
    psql = asyncio.create_task(holding.psql(INSERT, DELETE, check=False))
    first = await reviews.asked()
    reviews.approve(first.id)
    second = await reviews.asked(2)
    reviews.deny(second.id)
    await psql
    inserted, deleted = (await holding.recording()).statements
    assert (inserted.review, inserted.decision, inserted.decided_by) == (first.id, "approved", "grace")
    assert inserted.waited > 0
    assert (deleted.review, deleted.decision, deleted.outcome) == (second.id, "denied", "refused")


@pytest.mark.parametrize("parameter", ["held", "it''s\nheld"])
async def test_a_bound_statement_is_held_with_its_values_shown(holding: House, parameter: str) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute("insert into notes (body) values (%s)", (parameter,)))
        review = await reviews.asked()
        assert review.statement.text.startswith("insert into notes (body) values ($1)")
        assert "-- $1 = 'held'" in review.statement.text or "\\x0a" in review.statement.text
        reviews.approve(review.id)
        cursor = await task
        assert cursor.statusmessage == "INSERT 0 1"
    await reviews.state(review.id, ReviewState.FINISHED)


async def test_asyncpg_waits_with_binary_values(holding: House) -> None:
    reviews = holding.authority.reviews
    db = await connect_asyncpg(holding)
    task = asyncio.create_task(db.execute("update users set age = age where id = $1 and name = $2", 7, "x"))
    review = await reviews.asked()
    assert "-- $1 = 7" in review.statement.text
    assert "-- $2 = 'x'" in review.statement.text
    assert review.statement.estimate is not None
    reviews.approve(review.id)
    assert await task == "UPDATE 0"
    await db.close()


async def test_returned_rows_reach_the_client_as_ever(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute("insert into notes (body) values ('held') returning body", ()))
        reviews.approve((await reviews.asked()).id)
        assert await (await task).fetchall() == [("held",)]


async def test_two_groups_must_both_say_yes(open_house: Any, server: Any) -> None:
    house = await open_house()
    rail = replace(HOLD_WRITES, quorum=(Quorum("dba", 2),))
    house.authority.grant(server.upstream(), guardrails=(rail,))
    psql = asyncio.create_task(house.psql(INSERT))
    review = await house.authority.reviews.asked()
    house.authority.reviews.approve(review.id, "grace")
    await asyncio.sleep(0.2)
    assert not psql.done()
    house.authority.reviews.approve(review.id, "edsger")
    assert (await psql)[0] == "INSERT 0 1\n"


# --- not approved


async def test_a_denied_statement_is_an_error_that_says_who_why_and_what_next(holding: House) -> None:
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute(INSERT))
        review = await holding.authority.reviews.asked()
        holding.authority.reviews.deny(review.id, reason="use a smaller batch")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            await task
        said = caught.value.diag
        assert said.message_primary is not None
        assert "denied by grace: use a smaller batch (guardrail ask-first)" in said.message_primary
        assert "Talk to grace" in (said.message_hint or "")
        assert await (await db.execute("select 1")).fetchone() == (1,)
    assert await written(holding) == 0


async def test_a_statement_that_nobody_decides_on_lapses(open_house: Any, server: Any) -> None:
    house = await open_house(hold_notice_every=0.5)
    rail = replace(HOLD_WRITES, hold_for=timedelta(seconds=2), message="writes need a second pair of eyes")
    house.authority.grant(server.upstream(), guardrails=(rail,))
    _, said = await house.psql(INSERT, check=False)
    assert "held by the rule ask-first: writes need a second pair of eyes; asked dba" in said
    assert re.search(r"still waiting for dba, [12] s left", said)
    assert "nobody approved the statement within 2 s (guardrail ask-first)" in said
    assert "Send it again to ask again" in said
    await house.authority.reviews.state("V-1", ReviewState.WITHDRAWN, ReviewState.LAPSED)
    assert await written(house) == 0


async def test_a_broker_that_refuses_to_ask_is_quoted(holding: House) -> None:
    holding.authority.reviews.refusal = Refusal("nobody", "Nobody of dba is here.", "Ask at nine.")
    _, said = await holding.psql(INSERT, check=False)
    assert "Nobody of dba is here." in said
    assert "HINT:  Ask at nine." in said


async def test_a_broker_lost_while_held_refuses(open_house: Any, server: Any) -> None:
    house = await open_house()
    house.authority.lease = 1.5
    house.authority.grant(server.upstream(), guardrails=(HOLD_WRITES,))
    psql = asyncio.create_task(house.psql(INSERT, check=False))
    await house.authority.reviews.asked()
    house.authority.lose()
    _, said = await psql
    assert "lost the broker" in said
    assert await written(house) == 0


async def test_a_broker_lost_before_the_question_refuses_and_the_session_goes_on(holding: House) -> None:
    async with await holding.connect() as db:
        holding.authority.away = True
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="broker cannot be reached"):
            await db.execute(INSERT)
        holding.authority.away = False
        assert await (await db.execute("select 1")).fetchone() == (1,)


async def test_a_run_whose_answer_is_lost_does_not_run(holding: House) -> None:
    reviews = holding.authority.reviews

    def lost() -> None:
        raise ConnectionError("the answer is lost")

    reviews.before_run = lost
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute(INSERT))
        reviews.approve((await reviews.asked()).id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await task
    assert await written(holding) == 0


# --- taken back


async def test_cancel_withdraws_the_question_and_answers_as_postgresql_does(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute(INSERT))
        review = await reviews.asked()
        await db.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to user request"):
            await task
        assert (
            await reviews.state(review.id, ReviewState.WITHDRAWN)
        ).close_reason == "the client cancelled it"
        assert await (await db.execute("select 1")).fetchone() == (1,)
    assert await written(holding) == 0


async def test_asyncpg_cancels_a_held_statement_by_its_time_out(holding: House) -> None:
    """Whether it was asked about by then or not: on a busy machine a second may be short."""
    reviews = holding.authority.reviews
    db = await connect_asyncpg(holding)
    with pytest.raises(TimeoutError):
        await db.execute(INSERT, timeout=1)
    assert await db.fetchval("select 1") == 1
    for review in tuple(reviews.all):
        await reviews.state(review, ReviewState.WITHDRAWN)
    task = asyncio.create_task(db.execute("delete from notes where id = $1", 1))
    reviews.deny((await reviews.asked(len(reviews.all) + 1)).id)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await task
    await db.close()
    await holding.closed()
    assert await written(holding) == 0
    assert not reviews.outcomes


async def test_a_cancel_while_the_gate_asks_the_target_hits_what_waits(holding: House) -> None:
    """The gate's own questions about the catalog are no client's to cancel, and the session goes on."""
    wire = await RawClient.enter(holding)
    (session,) = holding.gate.registry.all()
    assert isinstance(session, Session)
    locker = psycopg.connect(holding.server.admin)
    locker.execute("begin; lock table pg_catalog.pg_extension in access exclusive mode")
    assert session.reading is not None
    for late in (False, True):
        session.reading.checked -= 60
        wire.send(codec.query(INSERT.encode()))
        async with asyncio.timeout(10):
            while not session.asking:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if late:
            await session.cancel_what_runs()
        else:
            session.cancel()
            locker.rollback()
        kind, body = await wire.receive()
        assert (kind, codec.read_report(body)[b"C"]) == (b"E", b"57014")
        assert await wire.receive() == (b"Z", b"I")
        locker.execute("lock table pg_catalog.pg_extension in access exclusive mode")
    locker.close()
    wire.send(codec.query(b"select 1"))
    assert await wire.until_ready() == [b"T", b"D", b"C", b"Z"]
    wire.close()
    assert not holding.authority.reviews.all


async def test_the_target_has_a_cancel_before_its_connection_closes(house: House) -> None:
    """As at the server itself: whoever waits for the close sends nothing that the cancel could still hit."""
    async with await house.connect() as db:
        for number in range(20):
            task = asyncio.create_task(db.execute("select pg_sleep(30)"))
            async with asyncio.timeout(10):
                while not house.gate.registry.all()[0].pipeline.steps:  # type: ignore[attr-defined]  # noqa: ASYNC110
                    await asyncio.sleep(0)
            await db.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await task
            assert await (await db.execute("select %s::int", (number,))).fetchone() == (number,)


@pytest.mark.parametrize("more", [0, 50_000, 2_000_000])
async def test_a_client_that_vanishes_withdraws_the_question(holding: House, more: int) -> None:
    wire = await RawClient.enter(holding)
    wire.send(codec.query(INSERT.encode()) + codec.query(b"select " + b"1" * more))
    review = await holding.authority.reviews.asked()
    if more:
        wire.vanish()
    else:
        wire.close()
    await holding.authority.reviews.state(review.id, ReviewState.WITHDRAWN)
    (closing,) = await holding.closed()
    assert closing.reason == "client"
    assert await written(holding) == 0


async def test_a_revoked_grant_refuses_what_was_held(holding: House) -> None:
    psql = asyncio.create_task(holding.psql(INSERT, check=False))
    review = await holding.authority.reviews.asked()
    holding.authority.end("G-1", EndReason.REVOKED)
    _, said = await psql
    assert "access ended: the grant was revoked" in said
    await holding.authority.reviews.state(review.id, ReviewState.WITHDRAWN)
    assert await written(holding) == 0


async def test_a_gate_that_stops_withdraws_what_it_held(holding: House) -> None:
    psql = asyncio.create_task(holding.psql(INSERT, check=False))
    review = await holding.authority.reviews.asked()
    await holding.gate.stop()
    await psql
    assert holding.authority.reviews.all[review.id].state is ReviewState.WITHDRAWN
    assert await written(holding) == 0


async def test_a_target_that_ends_the_session_ends_the_wait(holding: House) -> None:
    async with await holding.connect() as db:
        await db.execute("set idle_in_transaction_session_timeout = '300ms'")
        await db.execute("begin")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await db.execute(INSERT)
    await holding.authority.reviews.state("V-1", ReviewState.WITHDRAWN)


# --- transactions and pipelines


async def test_a_refusal_in_a_transaction_aborts_it_as_postgresql_does(holding: House) -> None:
    async with await holding.connect() as db:
        await db.execute("begin")
        await db.execute("select 1")
        task = asyncio.create_task(db.execute(INSERT))
        review = await holding.authority.reviews.asked()
        assert re.fullmatch(r"in a transaction opened \d+ s ago, after 1 statement in it", review.transaction)
        holding.authority.reviews.deny(review.id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await task
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await db.execute(INSERT)
        await db.execute("rollback")
    assert len(holding.authority.reviews.all) == 1  # in the failed transaction nobody was asked


async def test_the_question_leaves_the_transaction_as_it_was(holding: House) -> None:
    async with await holding.connect() as db:
        await db.execute("begin")
        task = asyncio.create_task(db.execute("delete from no_such_table where id = 1"))
        review = await holding.authority.reviews.asked()
        assert review.statement.estimate is None
        holding.authority.reviews.approve(review.id)
        with pytest.raises(psycopg.errors.UndefinedTable):
            await task
        await db.execute("rollback")
    assert "error 42P01" in holding.authority.reviews.outcomes[review.id]


async def test_nothing_behind_a_held_statement_goes_on_before_it(holding: House) -> None:
    wire = await RawClient.enter(holding)
    wire.send(codec.query(INSERT.encode()) + codec.query(b"select count(*) from notes"))
    review = await holding.authority.reviews.asked()
    assert (await wire.receive())[0] == b"N"
    holding.authority.reviews.approve(review.id)
    kinds = await wire.until_ready() + await wire.until_ready()
    assert kinds == [b"N", b"C", b"Z", b"T", b"D", b"C", b"Z"]
    wire.close()


async def test_a_held_statement_in_a_pipeline_keeps_its_place(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:

        async def work() -> list[Any]:
            async with db.pipeline():
                first = await db.execute("select 1, %s::text", ("a",))
                second = await db.execute("insert into notes (body) values (%s) returning body", ("held",))
                third = await db.execute("select count(*) from notes where body = %s", ("held",))
                return [await cursor.fetchone() for cursor in (first, second, third)]

        task = asyncio.create_task(work())
        reviews.approve((await reviews.asked()).id)
        assert await task == [(1, "a"), ("held",), (1,)]
    texts = await holding.texts()
    assert [text.split()[0] for text in texts] == ["select", "insert", "select"]


async def test_a_denied_statement_in_a_pipeline_rolls_its_pipeline_back(holding: House) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)

    def ask(text: str) -> bytes:
        bind = codec.bind(codec.Bind(b"", b"", (), (), ()))
        return codec.parse(b"", text.encode()) + bind + codec.message(b"E", b"\0" + struct.pack("!I", 0))

    wire.send(ask(INSERT) + ask(DELETE) + ask("select 1") + codec.message(b"S"))
    reviews.approve((await reviews.asked(1)).id)
    reviews.deny((await reviews.asked(2)).id)
    kinds = [kind for kind in await wire.until_ready() if kind != b"N"]
    assert kinds == [b"1", b"2", b"C", b"1", b"E", b"Z"]
    assert await written(holding) == 0
    wire.send(ask("select 1") + codec.message(b"S"))
    assert await wire.until_ready() == [b"1", b"2", b"D", b"C", b"Z"]
    wire.close()


async def test_a_statement_the_target_cannot_plan_fails_without_asking_anybody(holding: House) -> None:
    async with await holding.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            await db.execute("delete from pg_catalog.pg_authid where oid = %s", (1,))
        assert await (await db.execute("select %s::int", (1,))).fetchone() == (1,)
    assert not holding.authority.reviews.all


async def test_those_who_decide_see_what_a_prepared_name_stands_for(holding: House) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    wire.send(codec.query(f"prepare p as {INSERT}".encode()))
    reviews.approve((await reviews.asked(1)).id)
    await wire.until_ready()
    bind = codec.bind(codec.Bind(b"", b"p", (), (), ()))
    execute = codec.message(b"E", b"\0" + struct.pack("!I", 0)) + codec.message(b"S")
    for number, message in enumerate((codec.query(b"execute p"), bind + execute), 2):
        wire.send(message)
        review = await reviews.asked(number)
        shown = f"execute p\n-- which was prepared as:\nprepare p as {INSERT}"
        assert review.statement.text.startswith(shown)
        reviews.approve(review.id)
        await wire.until_ready()
    wire.close()
    assert await written(holding) == 2
    assert (await holding.texts())[1:] == ["execute p", f"prepare p as {INSERT}"]


async def test_a_multi_statement_text_is_held_whole(holding: House) -> None:
    psql = asyncio.create_task(holding.psql(f"select 1; {INSERT}; select 2", check=False))
    review = await holding.authority.reviews.asked()
    assert review.statement.text == f"select 1; {INSERT}; select 2"
    holding.authority.reviews.deny(review.id)
    out, _ = await psql
    assert out == ""
    assert await written(holding) == 0


async def test_where_the_rule_allows_a_dry_run_the_rows_are_counted(open_house: Any, server: Any) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(replace(HOLD_WRITES, dry_run=True),))
    reviews = house.authority.reviews
    async with await house.connect() as db:
        for number, before in enumerate(("select 1", "begin"), 1):
            await db.execute(before)
            task = asyncio.create_task(
                db.execute("update users set age = age + 1 where id <= 7 -- all of them")
            )
            review = await reviews.asked(number)
            assert (review.statement.estimate, review.statement.counted) == (7, True)
            assert server.ask("select count(*) from users where age <> 20 + id % 50") == [(0,)]
            reviews.deny(review.id)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await task
        await db.execute("rollback")
    assert server.ask("select count(*) from users where age <> 20 + id % 50") == [(0,)]


@pytest.mark.parametrize("before", ["select 1", "begin"])
@pytest.mark.parametrize("by", ["psycopg", "asyncpg"])
async def test_the_rows_of_a_bound_statement_are_counted_too(
    open_house: Any, server: Any, by: str, before: str
) -> None:
    server.ask("drop table if exists counted; create table counted as select id, name, 0 as age from users")
    server.ask("grant select, update on counted to app_read")
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(replace(HOLD_WRITES, dry_run=True),))
    reviews = house.authority.reviews
    text = "update counted set age = age + 1 where id <= {} returning name"
    if by == "psycopg":
        db: Any = await house.connect()
        asked: Any = db.execute(text.format("%s"), (7,))
    else:
        db = await connect_asyncpg(house)
        asked = db.fetch(text.format("$1"), 7)
    await db.execute(before)
    task = asyncio.create_task(asked)
    review = await reviews.asked()
    assert (review.statement.estimate, review.statement.counted) == (7, True)
    assert server.ask("select sum(age) from counted") == [(0,)]
    reviews.approve(review.id)
    answer = await task
    rows = await answer.fetchall() if by == "psycopg" else answer
    assert sorted(row[0] for row in rows) == sorted(f"name{n}" for n in range(1, 8))
    if before == "begin":
        await db.execute("rollback")
        assert server.ask("select sum(age) from counted") == [(0,)]
    await db.close()


async def test_a_bound_statement_behind_others_of_its_pipeline_is_not_run_to_be_counted(
    open_house: Any, server: Any
) -> None:
    """Rolling back would take along what ran since the last Sync."""
    house = await open_house()
    rails = (replace(HOLD_WRITES, dry_run=True, tables=("public.users",)),)
    house.authority.grant(server.upstream(), guardrails=rails)
    reviews = house.authority.reviews
    server.ask("truncate notes")
    wire = await RawClient.enter(house)

    def ask(text: str) -> bytes:
        bind = codec.bind(codec.Bind(b"", b"", (), (), ()))
        return codec.parse(b"", text.encode()) + bind + codec.message(b"E", b"\0" + struct.pack("!I", 0))

    wire.send(ask(INSERT) + ask("update users set age = age where id = -7") + codec.message(b"S"))
    review = await reviews.asked()
    assert not review.statement.counted
    reviews.approve(review.id)
    assert b"E" not in await wire.until_ready()
    wire.close()
    assert await written(house) == 1


async def test_a_dry_run_that_fails_falls_back_to_the_plan(open_house: Any, server: Any) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(replace(HOLD_WRITES, dry_run=True),))
    reviews = house.authority.reviews
    async with await house.connect() as db:
        task = asyncio.create_task(db.execute("update users set age = age / (id - id) where id = %s", (7,)))
        review = await reviews.asked()
        assert (review.statement.estimate, review.statement.counted) == (1, False)
        reviews.approve(review.id)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await task
        assert await (await db.execute("select 1")).fetchone() == (1,)


async def test_a_dry_run_tells_the_client_nothing(open_house: Any, server: Any) -> None:
    """A trigger may put values into a notice; the client sees those of the statement it was allowed only."""
    server.ask("""
        create or replace function tell() returns trigger language plpgsql as
            $$ begin raise notice 'it was %', old.body; return new; end $$;
        create table told (id int, body text); insert into told values (1, 'a secret');
        create trigger tell before update on told for each row execute function tell();
        grant select, update on told to app_read""")
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(replace(HOLD_WRITES, dry_run=True),))
    psql = asyncio.create_task(house.psql("update told set id = 2 where id = 1", check=False))
    review = await house.authority.reviews.asked()
    assert (review.statement.estimate, review.statement.counted) == (1, True)
    house.authority.reviews.deny(review.id)
    _, said = await psql
    assert "denied" in said
    assert "it was" not in said
    server.ask("drop table told; drop function tell()")


async def test_what_is_too_long_to_be_read_is_not_asked(holding: House) -> None:
    async with await holding.connect() as db:
        for text, value in (
            (INSERT + " -- " + "x" * 70_000, None),
            (INSERT + " returning %s", ("x" * 70_000,)),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="too long for people to read"):
                await db.execute(text, value)
    assert not holding.authority.reviews.all


async def test_a_held_pipeline_stays_one_transaction_when_the_catalog_is_due(holding: House) -> None:
    """The gate's own look at the catalog would commit what stands before the Sync."""
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)

    def ask(text: str) -> bytes:
        bind = codec.bind(codec.Bind(b"", b"", (), (), ()))
        return codec.parse(b"", text.encode()) + bind + codec.message(b"E", b"\0" + struct.pack("!I", 0))

    wire.send(ask(INSERT))
    reviews.approve((await reviews.asked()).id)
    wire.send(codec.message(b"H"))
    while (await wire.receive())[0] != b"C":
        pass
    (session,) = holding.gate.registry.all()
    session.reading.checked -= 60  # type: ignore[attr-defined]
    wire.send(ask("select 1/0") + codec.message(b"S"))
    assert b"E" in await wire.until_ready()
    wire.close()
    assert await written(holding) == 0


async def test_twenty_held_sessions_leave_the_others_free(holding: House) -> None:
    reviews = holding.authority.reviews
    holding.authority.grants["G-1"].terms = replace(holding.authority.grants["G-1"].terms, max_sessions=50)
    held = [asyncio.create_task(holding.psql(INSERT)) for _ in range(20)]
    await reviews.asked(20)
    script = holding.directory / "beside.sql"
    script.write_text("select count(*) from users where id = 7;\n")
    said, _ = await holding.run("pgbench", "-n", "-c", "4", "-t", "200", "-f", str(script), holding.dsn())
    assert "number of transactions actually processed: 800/800" in said
    assert len(reviews.all) == 20
    for review in tuple(reviews.all):
        reviews.approve(review)
    assert {out for out, _ in await asyncio.gather(*held)} == {"INSERT 0 1\n"}
    assert await written(holding) == 20
