"""Large results: a million rows by SELECT and by COPY, through each path in turn."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure import Way, calibrate, cpu_seconds, resident
from cli.embedded_postgres import find_client

STATEMENTS = {
    "SELECT, narrow rows": "SELECT aid, bid, abalance FROM pgbench_accounts",
    "SELECT, wide rows": "SELECT * FROM pgbench_accounts",
    "COPY OUT": "COPY pgbench_accounts TO STDOUT",
}


@dataclass(frozen=True)
class Haul:
    """One large result. `size` is what psql prints, `cpu` seconds and `peak` bytes of what is in between."""

    path: str
    statement: str
    round: int
    seconds: float
    size: int
    cpu: float
    peak: int
    speed: float


def rounds(ways: Sequence[Way], count: int, chance: random.Random) -> list[Haul]:
    """Every statement through every way in each round, the ways in a new order each time."""
    sizes = {name: _size(ways[0], sql) for name, sql in STATEMENTS.items()}
    return [
        _haul(way, name, number, sizes[name])
        for number in range(count)
        for name in STATEMENTS
        for way in chance.sample(ways, len(ways))
    ]


def _command(sql: str) -> list[str]:
    return [str(find_client("psql")), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]


def _size(way: Way, sql: str) -> int:
    return len(subprocess.run(_command(sql), env={**os.environ, **way.env}, stdout=-1, check=True).stdout)


def _haul(way: Way, name: str, number: int, size: int) -> Haul:
    speed, before, began, peak = calibrate(), cpu_seconds(way.pids()), time.perf_counter(), 0
    with subprocess.Popen(
        _command(STATEMENTS[name]), env={**os.environ, **way.env}, stdout=subprocess.DEVNULL
    ) as psql:
        while psql.poll() is None:
            peak = max(peak, sum(resident(pid) for pid in way.pids()))
            time.sleep(0.02)
    seconds = time.perf_counter() - began
    assert psql.returncode == 0, f"{name} through {way.name} failed"
    return Haul(way.name, name, number, seconds, size, cpu_seconds(way.pids()) - before, peak, speed)


def table(hauls: Sequence[Haul], paths: Sequence[str], base: str) -> str:
    """Ratios are of MB/s, paired within a round: a median and the range."""
    lines = [
        f"| statement | path | MB/s | to direct | to {base} | CPU s | peak memory MB |",
        "|---|---|---:|---|---|---:|---:|",
    ]
    for name in STATEMENTS:
        for path in paths:
            mine = [haul for haul in hauls if (haul.path, haul.statement) == (path, name)]
            rate = statistics.median(haul.size / haul.seconds / 1e6 for haul in mine)
            cells = [name, path, f"{rate:.0f}", _ratio(hauls, mine, "direct"), _ratio(hauls, mine, base)]
            if path != "direct":
                cells.append(f"{statistics.median(haul.cpu for haul in mine):.2f}")
                cells.append(f"{max(haul.peak for haul in mine) / 1e6:.0f}")
            else:
                cells += ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(hauls: Sequence[Haul], mine: Sequence[Haul], other: str) -> str:
    if mine[0].path in (other, "direct"):
        return ""
    peers = {haul.round: haul for haul in hauls if (haul.path, haul.statement) == (other, mine[0].statement)}
    ratios = sorted(peers[haul.round].seconds / haul.seconds for haul in mine if haul.round in peers)
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}]" if ratios else ""
