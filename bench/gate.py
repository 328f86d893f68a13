"""The gate as a path: worker processes on one port, with policy, a mask elsewhere, recording and audit on."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Way
from bench.peers import DATABASE, PASSWORD, USER, client_env, process
from cli.embedded_postgres import LOOPBACK, Server, free_port
from proxy.tls import self_made

TOKEN = "bench-token"
_MARK = b"SELECT abalance FROM pgbench_accounts WHERE aid"


@contextlib.contextmanager
def gate(server: Server, home: Path, workers: int, profile: Path | None = None) -> Iterator[Way]:
    """`workers` gate processes that share a port (SO_REUSEPORT), each with recordings of its own."""
    home.mkdir(parents=True)
    identity = self_made(home / "tls", LOOPBACK, datetime.now(UTC))
    port = free_port()
    setup = {
        "port": port,
        "certificate": str(identity.certificate),
        "key": str(identity.key),
        "target": {
            "host": server.host,
            "port": server.port,
            "database": DATABASE,
            "user": USER,
            "password": PASSWORD,
            "tls": "verify-full",
            "ca": server.ca.read_text() if server.ca else "",
        },
    }
    (home / "setup.json").write_text(json.dumps(setup))
    counter = Counter(home)
    with contextlib.ExitStack() as stack:
        pids = []
        for worker in range(workers):
            folder = home / f"recordings-{worker}"
            arguments = [
                str(home / "setup.json"),
                str(folder),
                str(worker),
                *([str(profile)] if profile else []),
            ]
            command = [sys.executable, "-m", "bench.gate_worker", *arguments]
            pids.append(stack.enter_context(process(command, home / f"log-{worker}", port)))
        name = f"gate, {workers} worker{'s' if workers > 1 else ''}"
        yield Way(
            name, client_env(port, identity.ca, "ada", TOKEN), pids=lambda: pids, recorded=counter.count
        )


class Counter:
    """Counts pgbench's statement in recordings as they grow, reading each byte once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._read: dict[Path, int] = {}
        self._count = 0

    def count(self) -> int:
        for path in self._home.glob("recordings-*/**/*"):
            if not path.is_file():
                continue
            done = self._read.get(path, 0)
            if path.stat().st_size == done:
                continue
            with path.open("rb") as file:
                file.seek(done)
                whole = file.read()
            whole = whole[: whole.rfind(b"\n") + 1]  # the last line may be half-written
            self._count += sum(_MARK in line and b'"outcome":"ok"' in line for line in whole.splitlines())
            self._read[path] = done + len(whole)
        return self._count
