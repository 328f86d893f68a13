"""Many sessions: what an idle one costs, how fast they come in, and how long it takes to cut them all."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from bench.measure import TPS, Way, cpu_seconds, found, resident

_BASE = 20
"""Sessions that are open before counting begins: the first ones also load code and fill pools."""


@dataclass(frozen=True)
class Crowd:
    """What one path does with `sessions` idle sessions. Bytes and seconds; `cut` only behind the gate."""

    path: str
    sessions: int
    bytes_each: float
    cpu_idle: float
    """CPU seconds a second while all are idle."""
    entry_rate: float
    """Connections a second: TLS, login, one SELECT, farewell; 8 at a time."""
    entry_cpu: float
    """CPU milliseconds of the path for each of them."""
    cut: float | None


async def measure(way: Way, sessions: int, pgbench: str, seconds: int) -> Crowd:
    rate, cost = await asyncio.to_thread(_entries, way, pgbench, seconds)
    held: list[asyncpg.Connection] = []
    try:
        await _fill(way, held, _BASE)
        before = sum(map(resident, way.pids()))
        await _fill(way, held, sessions)
        each = (sum(map(resident, way.pids())) - before) / (sessions - _BASE)
        cpu = cpu_seconds(way.pids())
        await asyncio.sleep(3)
        idle = (cpu_seconds(way.pids()) - cpu) / 3
        cut = await _cut(way, held) if way.release else None
    finally:
        for connection in held:
            connection.terminate()
    return Crowd(way.name, sessions, each, idle, rate, cost, cut)


def entries(ways: Sequence[Way], rounds: int, chance: random.Random, pgbench: str, seconds: int) -> str:
    """How fast sessions enter and leave by each way, as a table: medians of rounds."""
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    costs: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in chance.sample(ways, len(ways)):
            rate, cost = _entries(way, pgbench, seconds)
            rates[way.name].append(rate)
            costs[way.name].append(cost)
    lines = ["| path | entries a second | CPU ms an entry |", "|---|---:|---:|"]
    for name, its in rates.items():
        told = f"{statistics.median(its):.0f} [{min(its):.0f}..{max(its):.0f}]"
        lines.append(f"| {name} | {told} | {statistics.median(costs[name]):.1f} |")
    return "\n".join(lines)


def _entries(way: Way, pgbench: str, seconds: int) -> tuple[float, float]:
    before = cpu_seconds(way.pids())
    with TemporaryDirectory(prefix="portcullis-bench-") as folder:
        script = Path(folder) / "one.sql"
        script.write_text("SELECT 1;\n")
        done = subprocess.run(
            [pgbench, "-n", "-C", "-f", str(script), "-c", "8", "-j", "2", "-T", str(seconds)],
            env={**os.environ, **way.env},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, f"entering through {way.name} failed:\n{done.stderr}"
    rate = float(found(TPS, done.stdout))
    return rate, (cpu_seconds(way.pids()) - before) / (rate * seconds) * 1e3


async def _fill(way: Way, held: list[asyncpg.Connection], up_to: int) -> None:
    """Open sessions, 16 at a time, until there are `up_to`."""
    while len(held) < up_to:
        count = min(16, up_to - len(held))
        held += await asyncio.gather(*(_enter(way) for _ in range(count)))


async def _enter(way: Way) -> asyncpg.Connection:
    env = way.env
    dsn = f"postgresql://{env['PGHOST']}:{env['PGPORT']}/{env['PGDATABASE']}?sslmode={env['PGSSLMODE']}"
    if env["PGSSLROOTCERT"]:
        dsn += f"&sslrootcert={env['PGSSLROOTCERT']}"
    return await asyncpg.connect(dsn, user=env["PGUSER"], password=env["PGPASSWORD"], timeout=60)


async def _cut(way: Way, held: list[asyncpg.Connection]) -> float:
    """Seconds from the moment the grant is given back until the last client has seen its session end."""
    assert way.release is not None
    left = len(held)
    over = asyncio.Event()

    def gone(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    for connection in held:
        connection.add_termination_listener(gone)
    began = time.perf_counter()
    async with asyncio.timeout(60), asyncio.TaskGroup() as both:
        both.create_task(asyncio.to_thread(way.release))
        both.create_task(over.wait())
    return time.perf_counter() - began


def table(crowds: list[Crowd]) -> str:
    lines = [
        "| path | sessions | kB each | CPU while idle | entries a second | CPU ms an entry | all cut in s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for it in crowds:
        cut = "" if it.cut is None else f"{it.cut:.2f}"
        lines.append(
            f"| {it.path} | {it.sessions} | {it.bytes_each / 1e3:.0f} | {it.cpu_idle:.1%} "
            f"| {it.entry_rate:.0f} | {it.entry_cpu:.1f} | {cut} |"
        )
    return "\n".join(lines)
