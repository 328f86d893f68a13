"""One PostgreSQL, and the two ways to it: directly, and through a gate that allows everything."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from cli.embedded_postgres import Binaries, EmbeddedPostgres, Server, find_binaries, free_port

TOP = Path(__file__).resolve().parents[1]
_SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "64MB",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
    # What pg_regress has its own servers say.
    "timezone": "PST8PDT",
    "max_parallel_workers_per_gather": "2",
}
# The superuser proves himself, as people do; roles that a suite makes for itself need no password.
_ACCESS = "{kind} all postgres 127.0.0.1/32 scram-sha-256\n{kind} all all 127.0.0.1/32 trust\n"


@dataclass(frozen=True)
class Way:
    """A way to the server. `env` is the PG* environment of a client."""

    name: str
    env: Mapping[str, str]

    def environment(self, **more: str) -> dict[str, str]:
        """The process's environment with this way's in place of any PG* that was there."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return {**clean, **self.env, **more}

    @property
    def port(self) -> int:
        return int(self.env["PGPORT"])

    def url(self, scheme: str = "postgresql", database: str = "", **more: str) -> str:
        """A connection URL; `more` are further parameters."""
        it = self.env
        pairs = {"sslmode": it["PGSSLMODE"], "sslrootcert": it["PGSSLROOTCERT"], **more}
        query = "&".join(f"{key}={value}" for key, value in pairs.items() if value)
        where = f"{it['PGHOST']}:{it['PGPORT']}/{database or it['PGDATABASE']}"
        return f"{scheme}://{it['PGUSER']}:{it['PGPASSWORD']}@{where}?{query}"

    def connect(self, database: str = "") -> psycopg.Connection:
        it = self.env
        return psycopg.connect(
            host=it["PGHOST"],
            port=it["PGPORT"],
            user=it["PGUSER"],
            password=it["PGPASSWORD"],
            dbname=database or it["PGDATABASE"],
            sslmode=it["PGSSLMODE"],
            sslrootcert=it["PGSSLROOTCERT"] or None,
            autocommit=True,
        )

    def fresh(self, *databases: str) -> None:
        """Have these databases anew."""
        with self.connect() as connection:
            for name in databases:
                connection.execute(f'drop database if exists "{name}" with (force)')
                connection.execute(f'create database "{name}" template template0')


@dataclass(frozen=True)
class House:
    """The server with both ways to it. The direct way also prepares what a suite needs."""

    server: Server
    binaries: Binaries
    direct: Way
    gate: Way


@contextlib.contextmanager
def open_house(home: Path, binaries: Binaries | None = None, policy: str = "open") -> Iterator[House]:
    """Start the server and the gate in `home`. Raises PostgresError, or RuntimeError with the gate's log."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    binaries = binaries or find_binaries()
    postgres = EmbeddedPostgres(home / "postgres", durable=False, settings=_SETTINGS, binaries=binaries)
    with postgres as server:
        direct = Way("direct", server.libpq())
        kind = "hostssl" if server.tls else "host"
        (home / "postgres" / "data" / "pg_hba.conf").write_text(_ACCESS.format(kind=kind))
        with direct.connect() as connection:
            connection.execute("select pg_reload_conf()")
        with _gate(home / "gate", server, home / "postgres" / "password", policy) as gate:
            yield House(server, binaries, direct, gate)


@contextlib.contextmanager
def _gate(home: Path, server: Server, password: Path, policy: str) -> Iterator[Way]:
    home.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "proof.open_gate", "--home", home, "--port", str(port)]
    command += ["--target", str(server.port), "--password-file", password, "--policy", policy]
    command += ["--ca", server.ca] if server.ca else []
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), cwd=TOP, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not (home / "ready").exists() or not (home / "ready").read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gate did not open:\n{(home / 'log').read_text()}")
            time.sleep(0.05)
        through = {
            "PGPORT": str(port),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": (home / "ready").read_text(),
        }
        yield Way("gate", server.libpq() | through)
    finally:
        process.terminate()
        process.wait(20)
