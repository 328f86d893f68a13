"""A real PostgreSQL of its own for the SQL reading tests, with a table whose masked values are easy to
spot."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.sql.catalog import Catalog
from proxy.sql.masked import MaskSet, resolve
from tests.proxy.sql.live import MASKS, binaries, load_catalog, reset


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
    subprocess.run(
        [where / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"], **run
    )
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
