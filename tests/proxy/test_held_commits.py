"""A role whose writes are held at the COMMIT: people see what a transaction did before it is kept."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.conftest import HOLD_WRITES
from tests.proxy.wire_client import RawClient, connect_asyncpg
from workflows.model import ReviewState

if TYPE_CHECKING:
    from tests.proxy.conftest import House

INSERT = "insert into notes (body) values ('kept')"
SYNC = codec.message(b"S")


@pytest.fixture
async def committing(open_house: Any, server: Any) -> House:
    """A gate that holds commits for the group dba."""
    server.ask("truncate notes")
    it = await open_house()
    it.authority.grant(server.upstream(), hold_commit=HOLD_WRITES)
    house: House = it
    return house


def kept(house: House) -> int:
    ((count,),) = house.server.ask("select count(*) from notes")
    assert isinstance(count, int)
    return count


def ask(text: str) -> bytes:
    bind = codec.bind(codec.Bind(b"", b"", (), (), ()))
    return codec.parse(b"", text.encode()) + bind + codec.message(b"E", b"\0" + struct.pack("!I", 0))


@pytest.mark.parametrize(("yes", "rows"), [(True, 3), (False, 0)])
async def test_a_writing_transaction_waits_at_its_commit(committing: House, yes: bool, rows: int) -> None:
    reviews = committing.authority.reviews
    async with await committing.connect() as db:
        await db.execute("begin")
        await db.execute(INSERT)
        await db.execute("insert into notes (body) values (%s), ('b')", ("a",))
        await db.execute("select count(*) from notes")
        task = asyncio.create_task(db.execute("commit"))
        review = await reviews.asked()
        assert kept(committing) == 0
        assert review.statement.tables == ("public.notes",)
        assert (review.statement.estimate, review.statement.counted) == (3, True)
        assert INSERT in review.statement.text
        assert review.statement.text.endswith("commit")
        assert "select" not in review.statement.text
        if yes:
            reviews.approve(review.id)
            assert (await task).statusmessage == "COMMIT"
        else:
            reviews.deny(review.id)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied by grace"):
                await task
            await db.execute("rollback")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert kept(committing) == rows


async def test_reading_transactions_and_rollbacks_ask_nobody(committing: House) -> None:
    async with await committing.connect() as db:
        for text in ("begin", "select 1", "commit", "begin", INSERT, "rollback", "select 2"):
            await db.execute(text)
        await db.execute("select %s::int", (1,))
    assert not committing.authority.reviews.all
    assert kept(committing) == 0


@pytest.mark.parametrize(("yes", "rows"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("values", [None, ("kept",)])
async def test_a_write_of_its_own_is_held_before_it_is_kept(
    committing: House, yes: bool, rows: int, values: tuple[str] | None
) -> None:
    reviews = committing.authority.reviews
    async with await committing.connect() as db:
        text = INSERT if values is None else INSERT.replace("'kept'", "%s")
        task = asyncio.create_task(db.execute(text, values))  # type: ignore[arg-type]
        review = await reviews.asked()
        assert kept(committing) == 0
        if yes:
            reviews.approve(review.id)
            assert (await task).statusmessage == "INSERT 0 1"
        else:
            reviews.deny(review.id)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied by grace"):
                await task
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert await (await db.execute("select %s::int", (1,))).fetchone() == (1,)
    assert kept(committing) == rows
    if yes:
        await reviews.state(review.id, ReviewState.FINISHED)


async def test_a_pipeline_is_held_at_its_sync(committing: House) -> None:
    reviews = committing.authority.reviews
    wire = await RawClient.enter(committing)
    wire.send(ask(INSERT) + ask(INSERT) + SYNC + ask("select 1") + SYNC)
    review = await reviews.asked()
    assert review.statement.estimate == 2
    reviews.deny(review.id)
    kinds = [kind for kind in await wire.until_ready() if kind != b"N"]
    assert kinds == [b"1", b"2", b"C", b"1", b"2", b"C", b"E", b"Z"]
    assert await wire.until_ready() == [b"1", b"2", b"D", b"C", b"Z"]
    wire.close()
    assert kept(committing) == 0


async def test_begin_inside_a_pipeline_is_seen(committing: House) -> None:
    reviews = committing.authority.reviews
    wire = await RawClient.enter(committing)
    wire.send(ask("begin") + ask(INSERT) + SYNC)
    await wire.until_ready()
    wire.send(ask("commit") + SYNC)
    reviews.deny((await reviews.asked()).id)
    assert b"E" in await wire.until_ready()
    wire.close()
    assert len(reviews.all) == 1
    assert kept(committing) == 0


async def test_asyncpg_transactions_are_held(committing: House) -> None:
    reviews = committing.authority.reviews
    db = await connect_asyncpg(committing)

    async def work() -> None:
        async with db.transaction():
            await db.execute("insert into notes (body) values ($1)", "kept")

    task = asyncio.create_task(work())
    reviews.approve((await reviews.asked()).id)
    await task
    await db.close()
    assert kept(committing) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"begin; {INSERT}; commit",
        f"{INSERT}; commit; select 1",
        f"do $$ begin {INSERT}; commit; end $$",
        "call nothing()",
    ],
)
async def test_a_text_that_could_commit_unseen_is_refused(committing: House, text: str) -> None:
    _, said = await committing.psql(text, check=False)
    assert "this role's commits are held" in said
    assert kept(committing) == 0
    async with await committing.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.execute("do $$ begin commit; end $$", prepare=True)


async def test_execute_is_held_like_what_it_runs(committing: House) -> None:
    reviews = committing.authority.reviews
    async with await committing.connect() as db:
        await db.execute(f"prepare p as {INSERT}")
        task = asyncio.create_task(db.execute("execute p"))
        reviews.deny((await reviews.asked()).id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await task
    wire = await RawClient.enter(committing)
    wire.send(codec.query(f"prepare p as {INSERT}".encode()))
    await wire.until_ready()
    execute = codec.message(b"E", b"\0" + struct.pack("!I", 0))
    wire.send(codec.bind(codec.Bind(b"", b"p", (), (), ())) + execute + SYNC)
    reviews.deny((await reviews.asked(2)).id)
    assert b"E" in await wire.until_ready()
    wire.close()
    assert kept(committing) == 0


async def test_a_query_ahead_of_the_sync_does_not_commit_the_pipeline(committing: House) -> None:
    wire = await RawClient.enter(committing)
    wire.send(ask(INSERT) + codec.query(b"select 1") + SYNC)
    assert b"E" in await wire.until_ready()
    wire.close()
    assert kept(committing) == 0
    assert not committing.authority.reviews.all


@pytest.mark.parametrize("text", ["commit", "end", "/* x */ commit", "commit and chain", "commit work"])
async def test_every_word_for_commit_is_held(committing: House, text: str) -> None:
    reviews = committing.authority.reviews
    async with await committing.connect() as db:
        await db.execute("begin")
        await db.execute(INSERT)
        task = asyncio.create_task(db.execute(text))
        reviews.deny((await reviews.asked()).id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await task
    assert kept(committing) == 0


async def test_more_rows_than_approved_are_not_committed(committing: House) -> None:
    reviews = committing.authority.reviews
    async with await committing.connect() as db:
        await db.execute("begin")
        await db.execute("insert into notes (body) select 'x' from generate_series(1, 9)")
        task = asyncio.create_task(db.execute("commit"))
        reviews.approve((await reviews.asked()).id, row_budget=8)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="touched 9 rows; 8 are approved"):
            await task
    assert kept(committing) == 0


async def test_cancel_and_a_vanished_client_take_a_held_commit_back(committing: House) -> None:
    reviews = committing.authority.reviews
    async with await committing.connect() as db:
        task = asyncio.create_task(db.execute(INSERT))
        review = await reviews.asked()
        await db.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        await reviews.state(review.id, ReviewState.WITHDRAWN)
    wire = await RawClient.enter(committing)
    wire.send(codec.query(INSERT.encode()))
    review = await reviews.asked(2)
    wire.close()
    await reviews.state(review.id, ReviewState.WITHDRAWN)
    recorded = [s.outcome for s in (await committing.recording(1)).statements]
    assert recorded == ["unfinished"]
    assert kept(committing) == 0
