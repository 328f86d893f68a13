"""The gate as a path: `access serve` as it is, with policy, a mask elsewhere, recording and audit on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import httpx2

from bench.measure import Way
from bench.peers import DATABASE, client_env, process
from broker.clock import SystemChance, SystemClock
from broker.identity.tokens import TokenKind, Tokens
from broker.store.engine import Store
from cli.embedded_postgres import Server, find_client, free_port

_MARK = b"SELECT abalance FROM pgbench_accounts WHERE aid"
_ROLES = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_read') THEN
        CREATE ROLE bench_read;
        CREATE ROLE portcullis_admin LOGIN CREATEROLE PASSWORD 'admin-password';
        GRANT bench_read TO portcullis_admin WITH ADMIN OPTION;
        GRANT pg_signal_backend TO portcullis_admin;
    END IF;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO bench_read;
CREATE TABLE IF NOT EXISTS users (id integer, email text);
"""
_POLICY = """
people:
  ada: {name: Ada Lovelace, email: ada@example.com, groups: [engineers]}
groups:
  engineers: {title: Engineers}
resources:
  bench:
    kind: postgres
    address: 127.0.0.1:%(port)s
    database: %(database)s
    tls: verify-full
    ca: %(ca)s
    admin: {user: portcullis_admin, password: "file:admin.secret"}
    masks: [{column: public.users.email, method: email}%(masks)s]
    roles:
      readonly: {memberships: [bench_read], max_sessions: 10000}
rules:
  - {name: bench, who: [engineers], resources: [bench], roles: [readonly], longest: 12h, usual: 12h,
     approval: none, reason: optional}
"""


@contextlib.contextmanager
def gate(
    server: Server,
    home: Path,
    workers: int,
    statistics: Path | None = None,
    masks: Mapping[str, str] | None = None,
) -> Iterator[Way]:
    """Broker and gate; with more than one of `workers` the gate is that many processes on one port.

    With `statistics` the one process runs under cProfile and leaves its result there. `masks` are columns and
    their methods, besides the one that pgbench does not read.
    """
    home.mkdir(parents=True)
    psql = [str(find_client("psql")), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-c", _ROLES]
    subprocess.run(psql, env={**os.environ, **server.libpq()}, check=True)
    (home / "admin.secret").write_text("admin-password")
    more = "".join(f", {{column: {column}, method: {method}}}" for column, method in (masks or {}).items())
    policy = _POLICY % {"port": server.port, "database": DATABASE, "ca": server.ca, "masks": more}
    (home / "access.yaml").write_text(policy)
    http, port = free_port(), free_port()
    env = {
        "PORTCULLIS_POLICY": str(home / "access.yaml"),
        "PORTCULLIS_DATA_DIR": str(home / "data"),
        "PORTCULLIS_HTTP_PORT": str(http),
        "PORTCULLIS_GATE_PORT": str(port),
        "PORTCULLIS_GATE_NAME": "bench",
        "PORTCULLIS_LOG_LEVEL": "WARNING",
    }
    profiler = ["-m", "cProfile", "-o", str(statistics)] if statistics else []
    command = [sys.executable, *profiler, "-m", "cli.main", "serve", "--workers", str(workers)]
    with process(command, home / "log", port, env) as pid:
        api = httpx2.Client(base_url=f"http://127.0.0.1:{http}/api/v1", timeout=30)
        token, request = asyncio.run(_granted(home, api))
        way = client_env(port, home / "data" / "gate" / "ca.pem", "ada", token) | {"PGDATABASE": "bench"}
        _wait_for_entry(way)
        name = f"gate, {workers} worker{'s' if workers > 1 else ''}"
        yield Way(
            name,
            way,
            pids=lambda: family(pid),
            recorded=Counter(home, is_pgbenchs).count,
            release=lambda: api.post(f"/requests/{request}/release", json={}).raise_for_status(),
        )


async def _granted(home: Path, api: httpx2.Client) -> tuple[str, str]:
    """Ada's grant, asked for as everybody does: a password at the gate that outlasts the bench, and the
    request's key. `api` is logged in as Ada afterwards.
    """
    store = Store(f"sqlite:///{home / 'data' / 'portcullis.db'}")
    try:
        tokens = Tokens(store, SystemClock(), SystemChance())
        login = (await tokens.issue(TokenKind.LOGIN, "ada", via="cli")).token
        entry = await tokens.issue(TokenKind.ENTRY, "ada", via="cli", lifetime=timedelta(hours=12))
    finally:
        await store.close()
    api.headers["Authorization"] = f"Bearer {login}"
    asked = api.post("/requests", json={"resource": "bench"})
    asked.raise_for_status()
    return entry.token, asked.json()["id"]


def _wait_for_entry(way: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    command = [str(find_client("psql")), "-XAtqc", "select 1"]
    while True:
        tried = subprocess.run(command, env={**os.environ, **way}, capture_output=True, text=True)
        if tried.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"The gate lets nobody in: {tried.stderr}")
        time.sleep(0.2)


def family(pid: int) -> list[int]:
    """A process and everything below it, whichever of its threads began it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def is_pgbenchs(line: bytes) -> bool:
    """Whether a line of a recording is a statement of pgbench's that went well."""
    return _MARK in line and b'"outcome":"ok"' in line


class Counter:
    """Counts entries in recordings as they grow, reading each byte once; `counts` says which."""

    def __init__(self, home: Path, counts: Callable[[bytes], bool]) -> None:
        self._home = home
        self._counts = counts
        self._read: dict[Path, int] = {}
        self._count = 0

    def count(self) -> int:
        for path in self._home.rglob("S-*.jsonl"):
            done = self._read.get(path, 0)
            if path.stat().st_size == done:
                continue
            with path.open("rb") as file:
                file.seek(done)
                whole = file.read()
            whole = whole[: whole.rfind(b"\n") + 1]  # the last line may be half-written
            self._count += sum(map(self._counts, whole.splitlines()))
            self._read[path] = done + len(whole)
        return self._count
