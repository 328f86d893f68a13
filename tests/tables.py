"""Databases that hold our tables already, as most tests want them: the migrations have tests of their own."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, create_engine

from broker.store.migrate import upgrade


def make(engine: Engine) -> None:
    """Run all migrations."""
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


@functools.cache
def _file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tables.db"
        make(create_engine(f"sqlite:///{place}"))
        with sqlite3.connect(place) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        return place.read_bytes()


def sqlite(place: Path) -> str:
    """A new file with empty tables; its URL."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.touch(mode=0o600)
    place.write_bytes(_file())
    return f"sqlite:///{place}"


@dataclass(frozen=True)
class Emptied:
    """What a PostgreSQL database holds right after the migrations, to put it back into that state."""

    rows: dict[str, list[tuple[Any, ...]]]
    sequences: list[str]

    @classmethod
    def as_is(cls, connection: psycopg.Connection) -> Emptied:
        named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        names = [name for (name,) in connection.execute(named)]
        every = sql.SQL("SELECT * FROM {}")
        rows = {name: connection.execute(every.format(sql.Identifier(name))).fetchall() for name in names}
        numbered = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
        return cls(rows, [name for (name,) in connection.execute(numbered)])

    def restore(self, connection: psycopg.Connection) -> None:
        """As a superuser: whoever is still connected is cut off, triggers and references do not fire."""
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("SET session_replication_role = replica")
        for name, rows in self.rows.items():
            table = sql.Identifier(name)
            connection.execute(sql.SQL("DELETE FROM {}").format(table))
            for row in rows:
                values = sql.SQL(", ").join([sql.Placeholder()] * len(row))
                connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(table, values), row)
        for name in self.sequences:
            connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(name)))
