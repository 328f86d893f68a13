"""Connections and transactions.

A writing transaction is serial where it must be: on SQLite it takes the one write lock at its beginning
(BEGIN IMMEDIATE), on PostgreSQL the queries lock the rows that they decide on.
"""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT = 10.0
"""Seconds that SQLite waits for another process's write lock."""


class Store:
    """The database behind `url` (`sqlite:///path` or `postgresql://…`)."""

    def __init__(self, url: str) -> None:
        self.url, tls = _asynchronous(make_url(url))
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.sqlite else _postgres(self.url, tls)
        self._reading = self.engine.execution_options(reading=True)
        self._one_writer = asyncio.Lock()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back where it raises."""
        if not self.sqlite:
            async with self.engine.begin() as connection:
                yield connection
            return
        async with self._one_writer, self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads; on SQLite it never waits for a writer."""
        async with self._reading.connect() as connection:
            yield connection

    async def migrate(self) -> None:
        """Bring the tables up to date. Safe when several brokers start at once."""
        from broker.store.migrate import upgrade

        if self.sqlite and self.url.database:
            file = Path(self.url.database)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600)
        async with self.write() as connection:
            await connection.run_sync(upgrade)

    async def close(self) -> None:
        await self.engine.dispose()


def _asynchronous(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL for our drivers, and what asyncpg is to be told about TLS: libpq's words are understood.

    Raises ValueError for another kind of database or an unknown `sslmode`, OSError for a CA file that is not
    there.
    """
    drivers = {"sqlite": "sqlite+aiosqlite"} | dict.fromkeys(("postgresql", "postgres"), "postgresql+asyncpg")
    name = url.drivername.partition("+")[0]
    if name not in drivers:
        raise ValueError(f"the database must be sqlite or postgresql, not {url.drivername}")
    mode, ca = url.query.get("sslmode"), url.query.get("sslrootcert")
    bare = url.set(drivername=drivers[name]).difference_update_query(["sslmode", "sslrootcert"])
    if not mode:
        return bare, {}
    if mode == "disable":
        return bare, {"ssl": False}
    if mode not in ("require", "verify-ca", "verify-full"):
        raise ValueError(f"sslmode must be disable, require, verify-ca or verify-full, not {mode}")
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return bare, {"ssl": context}


def _postgres(url: URL, tls: dict[str, Any]) -> AsyncEngine:
    return create_async_engine(url, connect_args=tls, pool_size=10, max_overflow=10, pool_pre_ping=True)


class _Connection(aiosqlite.Connection):
    """A connection that can be stopped twice. SQLAlchemy does so where a task is cancelled again while its
    connection is being closed, and aiosqlite's second stop waits for a thread that has ended: a broker that
    stops at that moment would never end.
    """

    _stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()


def _connection(database: str, **options: Any) -> _Connection:
    connection = _Connection(partial(sqlite3.connect, database, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy has it, so that a process can end
    return connection


def _sqlite(url: URL) -> AsyncEngine:
    options = {"timeout": BUSY_TIMEOUT, "isolation_level": None, "async_creator_fn": _connection}
    engine = create_async_engine(url, connect_args=options)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        _to_wal(cursor)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def abandon(connection: Any, _record: object, _error: BaseException | None) -> None:
        """A task was cancelled in the middle of a statement, and its connection is thrown away. SQLite keeps
        the write lock of a connection that is closed for as long as a cursor of it is referenced, by a
        traceback say: without this everybody else might wait for it for ever.
        """
        with suppress(Exception):
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _to_wal(cursor: Any) -> None:
    """Switch a new file to WAL. SQLite does not wait for others here, whatever the busy timeout says, so
    that the brokers which start on a new file at the same moment take turns by asking again.
    """
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
