"""Row budgets, row limits and time-outs: what goes beyond is undone, and the client is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.wire_client import RawClient, connect_asyncpg
from workflows.model import Action, Guardrail, ReviewState, StatementClass

if TYPE_CHECKING:
    from tests.proxy.conftest import House

READS = frozenset({StatementClass.READ})
WRITES = frozenset({StatementClass.WRITE, StatementClass.DESTRUCTIVE})
ALL_AGES = "update users set age = age + 100"


@pytest.fixture(autouse=True)
def clean(server: Any) -> Iterator[None]:
    server.ask("truncate notes")
    yield
    server.ask("update users set age = 20 + id % 50")


@pytest.fixture
async def limited(open_house: Any, server: Any) -> House:
    """Reads return 10 rows and take a second at most, writes touch 5 rows at most."""
    it = await open_house()
    rails = (
        Guardrail("small-reads", Action.ALLOW, READS, row_limit=10, timeout=timedelta(seconds=1)),
        Guardrail("small-writes", Action.ALLOW, WRITES, row_limit=5),
    )
    it.authority.grant(server.upstream(), guardrails=rails)
    house: House = it
    return house


def changed(house: House) -> int:
    ((count,),) = house.server.ask("select count(*) from users where age >= 100")
    assert isinstance(count, int)
    return count


async def test_a_run_beyond_its_row_budget_is_rolled_back(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute(ALL_AGES))
        review = await reviews.asked()
        reviews.approve(review.id, row_budget=49)
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            await task
        assert "affected 50 rows; what was approved is 49, so it was rolled back" in str(caught.value)
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert await (await db.execute("select 1")).fetchone() == (1,)
    assert changed(holding) == 0
    outcome = (await reviews.state(review.id, ReviewState.FINISHED)).outcome
    assert "affected 50 rows" in outcome
    recorded = [s for s in (await holding.recording()).statements if s.text == ALL_AGES]
    assert [(s.outcome, s.decision) for s in recorded] == [("refused", "approved")]


async def test_a_run_within_its_row_budget_is_committed_and_looks_like_any_other(holding: House) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    wire.send(codec.query(f"{ALL_AGES} returning id".encode()) + codec.query(b"select 1"))
    reviews.approve((await reviews.asked()).id, row_budget=50)
    kinds = [kind for kind in await wire.until_ready() if kind not in (b"N", b"D")]
    assert kinds == [b"T", b"C", b"Z"]
    assert await wire.until_ready() == [b"T", b"D", b"C", b"Z"]
    wire.close()
    assert changed(holding) == 50
    assert [s.text for s in (await holding.recording()).statements] == [
        f"{ALL_AGES} returning id",
        "select 1",
    ]


@pytest.mark.parametrize(("budget", "left"), [(49, 0), (50, 50)])
async def test_a_bound_run_keeps_to_its_budget(holding: House, budget: int, left: int) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        task = asyncio.create_task(db.execute("update users set age = age + %s", (100,)))
        reviews.approve((await reviews.asked()).id, row_budget=budget)
        if left:
            assert (await task).rowcount == 50
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="affected 50 rows"):
                await task
        assert await (await db.execute("select %s::int", (1,))).fetchone() == (1,)
    assert changed(holding) == left


async def test_fetching_in_pieces_is_no_way_past_a_budget(holding: House) -> None:
    reviews = holding.authority.reviews
    wire = await RawClient.enter(holding)
    wire.send(
        codec.parse(b"", f"{ALL_AGES} returning id".encode())
        + codec.bind(codec.Bind(b"", b"", (), (), ()))
        + codec.message(b"E", b"\0\0\0\0\1")
        + codec.message(b"S")
    )
    reviews.approve((await reviews.asked()).id, row_budget=10)
    assert [kind for kind in await wire.until_ready() if kind not in (b"N", b"D")] == [b"1", b"2", b"E", b"Z"]
    wire.close()
    assert changed(holding) == 0


async def test_beyond_the_budget_inside_a_transaction_aborts_it(holding: House) -> None:
    reviews = holding.authority.reviews
    async with await holding.connect() as db:
        await db.execute("begin")
        for number, text in enumerate((ALL_AGES, ALL_AGES.replace("100", "%s")), 1):
            task = asyncio.create_task(db.execute(text, (100,) if "%s" in text else None))  # type: ignore[arg-type]
            reviews.approve((await reviews.asked(number)).id, row_budget=3)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="affected 50 rows"):
                await task
            assert db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            await db.execute("rollback")
            await db.execute("begin")
    assert changed(holding) == 0


async def test_a_text_cannot_commit_its_way_past_a_budget(holding: House) -> None:
    reviews = holding.authority.reviews
    psql = asyncio.create_task(holding.psql(f"begin; {ALL_AGES}; commit", check=False))
    reviews.approve((await reviews.asked()).id, row_budget=3)
    _, said = await psql
    assert "begins or ends a transaction cannot be limited" in said
    assert changed(holding) == 0


async def test_a_constraint_that_fails_at_the_end_is_the_clients_error(limited: House) -> None:
    limited.server.ask(
        "create table if not exists pairs (a int unique deferrable initially deferred);"
        "grant all on pairs to app_read"
    )
    async with await limited.connect() as db:
        with pytest.raises(psycopg.errors.UniqueViolation):
            await db.execute("insert into pairs values (1), (1)")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        await db.execute("insert into pairs values (1), (2)")
    assert limited.server.ask("select count(*) from pairs") == [(2,)]
    limited.server.ask("drop table pairs")


async def test_writes_beyond_a_row_limit_are_rolled_back_without_asking_anybody(limited: House) -> None:
    _, said = await limited.psql(ALL_AGES, check=False)
    assert "affected 50 rows; the most its guardrail allows is 5" in said
    assert changed(limited) == 0
    out, _ = await limited.psql(f"{ALL_AGES} where id <= 5")
    assert out == "UPDATE 5\n"
    assert changed(limited) == 5


async def test_execute_is_limited_like_what_it_runs(limited: House) -> None:
    async with await limited.connect() as db:
        await db.execute(f"prepare p as {ALL_AGES}")
        await db.execute("prepare r as select id from users")
        for text in ("execute p", "execute r"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"50 rows|more than 10 rows"):
                await db.execute(text)
    wire = await RawClient.enter(limited)
    wire.send(codec.query(f"prepare p as {ALL_AGES}".encode()))
    await wire.until_ready()
    wire.send(
        codec.bind(codec.Bind(b"", b"p", (), (), ()))
        + codec.message(b"E", b"\0\0\0\0\0")
        + codec.message(b"S")
    )
    assert b"E" in await wire.until_ready()
    wire.close()
    assert changed(limited) == 0


async def test_rows_that_are_locked_or_given_back_are_limited_too(limited: House) -> None:
    async with await limited.connect() as db:
        for text in ("select id from users for update", f"{ALL_AGES} returning id"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="allows is 5"):
                await db.execute(text)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="allows is 5"):
                await db.execute(text, ())
    assert changed(limited) == 0


async def test_several_statements_in_one_text_are_limited_each_and_undone_together(limited: House) -> None:
    _, said = await limited.psql(f"{ALL_AGES} where id = 1; {ALL_AGES}; select 1", check=False)
    assert "affected 50 rows" in said
    assert changed(limited) == 0
    out, _ = await limited.psql(f"{ALL_AGES} where id = 1; select 7; {ALL_AGES} where id = 2")
    assert out == "UPDATE 1\n7\nUPDATE 1\n"


async def test_a_portals_name_is_read_as_far_as_the_server_reads_it(limited: House) -> None:
    wire = await RawClient.enter(limited)
    name = b"n" * 63
    wire.send(
        codec.parse(name + b"1", b"select id from users")
        + codec.bind(codec.Bind(name + b"2", name + b"3", (), (), ()))
        + codec.message(b"E", name + b"4\0\0\0\0\0")
        + codec.message(b"S")
    )
    kinds = await wire.until_ready()
    assert kinds.count(b"D") <= 11
    assert [kind for kind in kinds if kind != b"D"] == [b"1", b"2", b"E", b"Z"]
    wire.close()


async def test_copy_in_is_limited_and_undone(limited: House) -> None:
    rows = "".join(f"{n}\tcopied\n" for n in range(1000, 1006))
    _, said = await limited.psql("copy notes from stdin", stdin=rows, check=False)
    assert "affected 6 rows" in said
    out, _ = await limited.psql("copy notes from stdin", stdin=rows[: rows.index("1005")])
    assert out == "COPY 5\n"


async def test_a_read_stops_at_its_row_limit(limited: House) -> None:
    out, said = await limited.psql("select id from users order by id", "select 1", check=False)
    assert "returns more than 10 rows; the most its guardrail allows is 10" in said
    assert out.splitlines()[-1] == "1"
    async with await limited.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="more than 10 rows"):
            await db.execute("select id from users where id > %s", (0,))
        rows = await (await db.execute("select id from users where id > %s", (40,))).fetchall()
        assert len(rows) == 10
        await db.execute("begin")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.execute("select id from users")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        await db.execute("rollback")


async def test_an_endless_read_is_stopped_at_the_target_too(limited: House) -> None:
    async with await limited.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="more than 10 rows"):
            await db.execute("select generate_series(1, 1000000000)")
        assert await (await db.execute("select 1")).fetchone() == (1,)


async def test_a_cursor_is_limited_over_all_its_pieces(limited: House) -> None:
    db = await connect_asyncpg(limited)
    async with db.transaction():
        cursor = await db.cursor("select id from users order by id")
        assert len(await cursor.fetch(4)) == 4
        assert len(await cursor.fetch(4)) == 4
        with pytest.raises(Exception, match="more than 10 rows"):
            await cursor.fetch(4)
        with pytest.raises(Exception, match="aborted"):
            await db.fetchval("select 1")
        await db.execute("rollback")
    await db.close()


@pytest.mark.parametrize(
    "options",
    ["", " (format csv)", " (format csv, header)", " csv header", " (format binary)", " (delimiter '|')"],
)
async def test_copy_out_is_limited_as_a_select_is(limited: House, options: str) -> None:
    async with await limited.connect() as db:
        cursor = db.cursor()
        parts: list[bytes] = []

        async def copied(cursor: psycopg.AsyncCursor[Any], most: int) -> None:
            text = f"copy (select id from users where id <= {most}) to stdout{options}"
            async with cursor.copy(text) as copy:  # type: ignore[arg-type]
                async for part in copy:
                    parts.append(bytes(part))

        await copied(cursor, 10)
        assert cursor.rowcount == 10
        assert "binary" in options or b"10\n" in parts
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="returns more than 10 rows"):
            await copied(cursor, 11)
        assert len(parts) <= 22
        for _ in range(20):  # the order to stop has come and gone
            assert await (await db.execute("select 1")).fetchone() == (1,)


async def test_an_endless_copy_is_stopped_at_the_target_too(limited: House) -> None:
    out, said = await limited.psql(
        "copy (select generate_series(1, 1000000000)) to stdout", "select 'next'", check=False
    )
    assert "returns more than 10 rows; the most its guardrail allows is 10" in said
    assert out.splitlines()[-1] == "next"
    assert len(out.splitlines()) <= 11


async def test_copies_among_other_statements_keep_their_order_and_their_limit(limited: House) -> None:
    first = "copy (select id from users where id <= 2) to stdout"
    wire = await RawClient.enter(limited)
    wire.send(codec.query(f"select 1; {first}; select 2; {first}".encode()))
    assert await wire.until_ready() == [bytes([kind]) for kind in b"TDCHddcCTDCHddcCZ"]
    wire.send(codec.query(f"copy users to stdout; {first}; select 2".encode()))
    kinds = await wire.until_ready()
    assert [kind for kind in kinds if kind != b"d"] == [b"H", b"E", b"Z"]
    wire.send(codec.query(b"select generate_series(1, 20); copy notes from stdin"))
    assert [kind for kind in await wire.until_ready() if kind not in (b"T", b"D")] == [b"E", b"Z"]
    wire.send(codec.query(b"select 1"))
    assert await wire.until_ready() == [b"T", b"D", b"C", b"Z"]
    wire.close()


@pytest.mark.parametrize(("most", "kinds"), [(10, b"12Hdddddddddd" + b"cCZ"), (50, None)])
async def test_copy_out_in_the_extended_protocol_is_limited(
    limited: House, most: int, kinds: bytes | None
) -> None:
    wire = await RawClient.enter(limited)
    wire.send(
        codec.parse(b"", f"copy (select id from users where id <= {most}) to stdout".encode())
        + codec.bind(codec.Bind(b"", b"", (), (), ()))
        + codec.message(b"E", b"\0\0\0\0\0")
        + codec.message(b"S")
    )
    found = b"".join(await wire.until_ready())
    assert found == kinds if kinds else found.replace(b"d", b"") == b"12HEZ"
    for _ in range(20):
        wire.send(codec.query(b"select 1"))
        assert await wire.until_ready() == [b"T", b"D", b"C", b"Z"]
    wire.close()


@pytest.mark.parametrize("parameters", [None, (5,)])
async def test_a_statement_that_takes_too_long_is_cancelled_in_the_gates_words(
    limited: House, parameters: tuple[int] | None
) -> None:
    async with await limited.connect() as db:
        text = "select pg_sleep(5)" if parameters is None else "select pg_sleep(%s)"
        with pytest.raises(psycopg.errors.QueryCanceled, match="longer than the 1 s"):
            await db.execute(text, parameters)  # type: ignore[arg-type]
        assert await (await db.execute("select 1")).fetchone() == (1,)
