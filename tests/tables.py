"""Databases that hold our tables already, as most tests want them: the migrations have tests of their own."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from pathlib import Path

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
