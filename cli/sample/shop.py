"""Put the sample shop into a PostgreSQL server."""

from __future__ import annotations

import ssl
from importlib.resources import files

import asyncpg

from cli.embedded_postgres import Server

ADMIN = "portcullis_admin"
DATABASE = "shop"


async def create_shop(server: Server, admin_password: str, database: str = DATABASE) -> None:
    """Make `database` with its tables, rows and roles, and give `portcullis_admin` this password.

    A database that exists keeps its rows; only the password is set. Names and passwords are quoted here, so
    they may hold any character. Raises asyncpg.PostgresError.
    """
    master = await connect(server)
    try:
        known = await master.fetchval("SELECT true FROM pg_database WHERE datname = $1", database)
        if not known:
            await _make(server, master, database)
        literal = await master.fetchval("SELECT quote_literal($1::text)", admin_password)
        await master.execute(f"ALTER ROLE {ADMIN} PASSWORD {literal}")
    finally:
        await master.close()


async def open_to_shop_roles(master: asyncpg.Connection, database: str) -> None:
    """Nobody may connect but the shop's own roles: a new database lets everybody in."""
    name = await master.fetchval("SELECT quote_ident($1)", database)
    await master.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    await master.execute(f"GRANT CONNECT ON DATABASE {name} TO app_readonly, app_readwrite, {ADMIN}")


async def connect(server: Server, database: str = "postgres") -> asyncpg.Connection:
    """A superuser's connection to the server."""
    context: ssl.SSLContext | bool = False
    if server.ca:
        context = ssl.create_default_context(cafile=str(server.ca))
    return await asyncpg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        database=database,
        ssl=context,
    )


async def _make(server: Server, master: asyncpg.Connection, database: str) -> None:
    """Build under another name first, so that a kill in the middle never leaves half a shop."""
    name, part = await master.fetchrow(
        "SELECT quote_ident($1), quote_ident($2)", database, f"{database}_unfinished"
    )
    await master.execute(f"DROP DATABASE IF EXISTS {part}")
    await master.execute(f"CREATE DATABASE {part}")
    inside = await connect(server, f"{database}_unfinished")
    try:
        async with inside.transaction():
            await inside.execute((files("cli.sample") / "shop.sql").read_text(encoding="utf-8"))
    finally:
        await inside.close()
    await open_to_shop_roles(master, f"{database}_unfinished")
    await master.execute(f"ALTER DATABASE {part} RENAME TO {name}")
