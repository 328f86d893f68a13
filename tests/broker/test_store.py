"""The store: migrations build exactly the tables, starts at once do no harm, instants are instants."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import StatementError

from broker.store import facts, stories
from broker.store.engine import Store
from broker.store.tables import Instant, deliveries, metadata, settings
from workflows.access import Wish
from workflows.model import Story


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    url: str = request.getfixturevalue("empty_database").url("postgresql")
    return url


async def test_the_migrations_build_exactly_the_tables(new_url: str) -> None:
    store = Store(new_url)
    try:
        await store.migrate()
        async with store.read() as tx:
            differences = await tx.run_sync(
                lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
            )
    finally:
        await store.close()
    assert differences == []


async def test_many_brokers_that_start_at_once_migrate_once(new_url: str) -> None:
    started = [Store(new_url) for _ in range(4)]
    try:
        await asyncio.gather(*(store.migrate() for store in started))
        await started[0].migrate()
        async with started[0].read() as tx:
            rows = (await tx.exec_driver_sql("SELECT count(*) FROM alembic_version")).scalar()
            heads = (await tx.exec_driver_sql("SELECT count(*) FROM audit_head")).scalar()
        assert (rows, heads) == (1, 1)
    finally:
        for store in started:
            await store.close()


async def test_an_instant_keeps_its_microseconds_and_its_order_in_any_time_zone(store: Store) -> None:
    base = datetime(2026, 11, 24, 9, 0, 0, 1, tzinfo=UTC)
    elsewhere = base.astimezone(timezone(timedelta(hours=-7))) + timedelta(microseconds=1)
    async with store.write() as tx:
        for name, at in (("later", elsewhere), ("first", base)):
            await tx.execute(insert(deliveries).values(key=name, at=at, actor="", request_id="", refusal=""))
    async with store.read() as tx:
        query = select(deliveries.c.key, deliveries.c.at).order_by(deliveries.c.at)
        rows = (await tx.execute(query)).all()
        before = await tx.execute(select(deliveries.c.key).where(deliveries.c.at < elsewhere))
        assert before.scalars().all() == ["first"]
    assert [(row.key, row.at) for row in rows] == [("first", base), ("later", elsewhere)]
    assert all(row.at.tzinfo is UTC for row in rows)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001
def test_instants_sort_as_text_as_they_do_in_time(at: datetime) -> None:
    dialect, kind = sqlite.dialect(), Instant()
    here = at.replace(tzinfo=UTC)
    text = kind.process_bind_param(here, dialect)
    next_text = kind.process_bind_param(here + timedelta(microseconds=1), dialect)
    assert text < next_text
    assert kind.process_result_value(text, dialect) == here


async def test_an_instant_without_a_zone_is_refused(store: Store) -> None:
    bare = datetime(2026, 11, 24)  # noqa: DTZ001
    async with store.write() as tx:
        with pytest.raises((StatementError, ValueError), match="without a time zone"):
            await tx.execute(insert(deliveries).values(key="k", at=bare, actor="", request_id="", refusal=""))


async def test_sqlite_is_kept_so_that_a_commit_survives_a_power_cut(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'p.db'}")
    await store.migrate()
    async with store.read() as tx:
        assert (await tx.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await tx.exec_driver_sql("PRAGMA synchronous")).scalar() == 2
        assert (await tx.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
    await store.close()


async def test_a_reader_never_waits_for_a_writer(store: Store) -> None:
    async with store.write() as tx:
        await tx.execute(
            insert(deliveries).values(
                key="k", at=datetime(2026, 1, 1, tzinfo=UTC), actor="", request_id="", refusal=""
            )
        )
        async with asyncio.timeout(2), store.read() as reader:
            assert (await reader.execute(select(deliveries))).all() == []


async def test_a_story_that_moved_on_is_not_overwritten(service: Any) -> None:
    story = await service.submit("ada", Wish("prod-db", reason="x"), via="api")
    assert isinstance(story, Story)
    await service.cancel(story.request.id, "ada", via="api")
    async with service.store.write() as tx:
        with pytest.raises(stories.Overtaken):
            await stories.save(tx, story, story.version)


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="must be sqlite or postgresql, not mysql"):
        Store("mysql://localhost/x")


async def test_an_id_that_is_taken_is_not_given_twice(service: Any) -> None:
    class Stuck:
        def __init__(self) -> None:
            self.drawn = iter(["R-AAAAAA", "R-AAAAAA", "R-BBBBBB"])

        def id(self, prefix: str, length: int = 6) -> str:
            return next(self.drawn) if prefix == "R" else f"{prefix}-CCCCCC"

        def token(self, nbytes: int) -> str:
            return "t" * nbytes

    service.chance = Stuck()
    first = await service.submit("ada", Wish("prod-db", reason="x"), via="api")
    second = await service.submit("ada", Wish("prod-db", reason="x"), via="api")
    assert (first.request.id, second.request.id) == ("R-AAAAAA", "R-BBBBBB")


async def test_the_file_of_a_new_database_is_ours_alone(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'p.db'}")
    await store.migrate()
    await store.close()
    assert (tmp_path / "p.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_postgresql_is_reached_with_the_tls_that_the_url_asks_for(postgres: Any, mode: str) -> None:
    server = postgres.server
    place = f"{server.user}:{server.password}@{server.host}:{server.port}/postgres"
    store = Store(f"postgresql://{place}?sslmode={mode}&sslrootcert={server.ca}")
    async with store.read() as tx:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert (await tx.exec_driver_sql(query)).scalar() is True
    await store.close()


async def test_a_postgresql_that_cannot_prove_its_name_is_refused(postgres: Any) -> None:
    server = postgres.server
    place = f"{server.user}:{server.password}@{server.host}:{server.port}/postgres"
    store = Store(f"postgresql://{place}?sslmode=verify-full")
    with pytest.raises(ssl.SSLError):
        async with store.read():
            pass
    await store.close()
    with pytest.raises(ValueError, match="sslmode must be"):
        Store(f"postgresql://{place}?sslmode=prefer")


async def test_a_write_that_is_cancelled_keeps_nobody_else_from_writing(store: Store) -> None:
    """Wherever the cancellation strikes, and however long its traceback is kept."""
    kept: list[asyncio.Task[None]] = []

    async def write_on() -> None:
        while True:
            async with store.write() as tx:
                await tx.execute(insert(settings).values(name=secrets.token_hex(8), value="x"))
                (await tx.execute(select(func.count()).select_from(settings))).all()

    for _ in range(60):
        tasks = [asyncio.create_task(write_on()) for _ in range(4)]
        await asyncio.sleep(secrets.randbelow(20) / 1000)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        kept += tasks
        async with asyncio.timeout(5), store.write() as tx:
            await facts.change(tx, "n", "last")


@pytest.mark.parametrize("turns", range(1, 4))
async def test_a_loop_that_ends_amid_a_query_is_not_kept_waiting_for_ever(tmp_path: Path, turns: int) -> None:
    """A query is cancelled, and while its connection is being closed everything is: asyncio.run ends so."""
    store = Store(f"sqlite:///{tmp_path / 'one.db'}")
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500000) SELECT max(i) FROM n"
    started = asyncio.Event()

    async def ask() -> None:
        async with store.read() as tx:
            started.set()
            await tx.exec_driver_sql(slow)

    before = asyncio.all_tasks()
    asking = asyncio.create_task(ask())
    await started.wait()
    await asyncio.sleep(0)
    asking.cancel()
    while asyncio.all_tasks() - before == {asking}:  # noqa: ASYNC110 - nobody tells when the closing begins
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before
    for task in (asking, *(left - {asking})):
        task.cancel()
    _, left = await asyncio.wait({asking, *left}, timeout=20)
    assert not left
    await store.close()
