"""What the gate is compared with: PgBouncer and HAProxy, each as a careful operator would set it up."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Way
from cli.embedded_postgres import LOOPBACK, Server, free_port
from cli.unprivileged import die_with_parent
from proxy.tls import self_made

USER, PASSWORD, DATABASE = "bench", "bench-password", "bench"


def client_env(port: int, ca: Path | None, user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    """A client's environment; `ca` None means without TLS."""
    return {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": user,
        "PGPASSWORD": password,
        "PGDATABASE": DATABASE,
        "PGSSLMODE": "verify-full" if ca else "disable",
        "PGSSLROOTCERT": str(ca or ""),
        "PGGSSENCMODE": "disable",
    }


def direct(server: Server, *, tls: bool) -> Way:
    return Way("direct", client_env(server.port, server.ca if tls else None))


@contextlib.contextmanager
def pgbouncer(server: Server, home: Path, *, tls: bool) -> Iterator[Way]:
    """Session pooling, SCRAM on both sides, TLS on both sides or on none."""
    home.mkdir(parents=True)
    port = free_port()
    files = self_made(home / "tls", LOOPBACK, datetime.now(UTC))
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": home / "users.txt",
        "pool_mode": "session",
        "max_client_conn": 10_000,
        "default_pool_size": 10_000,
        "logfile": home / "log",
        "log_connections": 0,
        "log_disconnections": 0,
        "ignore_startup_parameters": "extra_float_digits",
        "client_tls_sslmode": "require" if tls else "disable",
        "client_tls_cert_file": files.certificate,
        "client_tls_key_file": files.key,
        "server_tls_sslmode": "verify-full" if tls else "disable",
        "server_tls_ca_file": home / "target-ca.pem",
    }
    settings = "".join(f"{name} = {value}\n" for name, value in lines.items())
    if server.ca:
        shutil.copy(server.ca, home / "target-ca.pem")
    (home / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
    target = f"{DATABASE} = host=127.0.0.1 port={server.port} dbname={DATABASE}"
    (home / "ini").write_text(f"[databases]\n{target}\n[pgbouncer]\n{settings}")
    command = ["pgbouncer", *_not_root(home, "-u"), str(home / "ini")]
    with process(command, home / "out", port) as pid:
        yield Way("PgBouncer", client_env(port, files.ca if tls else None), pids=lambda: [pid])


@contextlib.contextmanager
def haproxy(server: Server, home: Path, *, tls: bool) -> Iterator[Way]:
    """TCP mode with two threads: bytes pass unread, so TLS is between the client and PostgreSQL."""
    home.mkdir(parents=True)
    port = free_port()
    (home / "cfg").write_text(
        "global\n  nbthread 2\n  maxconn 6000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen postgres\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{server.port}\n"
    )
    command = ["haproxy", "-db", "-f", str(home / "cfg")]
    with process(command, home / "out", port) as pid:
        yield Way("HAProxy TCP", client_env(port, server.ca if tls else None), pids=lambda: [pid])


def _not_root(home: Path, option: str) -> list[str]:
    """PgBouncer refuses to run as root: let it become nobody, who must then be able to read its files."""
    if os.geteuid() != 0:
        return []
    for path in (home, *home.rglob("*")):
        shutil.chown(path, "nobody")
    return [option, "nobody"]


@contextlib.contextmanager
def process(command: list[str], log: Path, port: int, env: dict[str, str] | None = None) -> Iterator[int]:
    """A server for the time of the block: its process id, once `port` answers."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield child.pid
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
