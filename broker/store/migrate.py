"""Bring the tables up to date with Alembic, inside the caller's transaction.

Several brokers may start at once: on PostgreSQL an advisory lock, on SQLite the write lock lets one of them
do it while the others wait and then find nothing to do.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

ADVISORY_LOCK = 0x504F5254  # "PORT"


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing. The transaction is the caller's to commit."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
