"""Large results: a million rows by SELECT and by COPY, through each path in turn, in clear and masked."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.measure import Way, calibrate, cpu_seconds, resident
from cli.embedded_postgres import find_client

STATEMENTS = {
    "SELECT, narrow rows": "SELECT aid, bid, abalance FROM pgbench_accounts",
    "SELECT, wide rows": "SELECT * FROM pgbench_accounts",
    "COPY OUT": "COPY pgbench_accounts TO STDOUT",
}
COUNTS = (0, 1, 3)
"""Masked columns of the tables `people0`, `people1` and `people3`, which hold the same million rows."""
MASKS = {
    f"public.people{count}.{column}": method
    for count in COUNTS
    for column, method in (("email", "full"), ("phone", "last4"), ("name", "full"))[:count]
}
PEOPLE = """
CREATE TABLE public.people%d (id int, name text, email text, phone text, country text);
INSERT INTO public.people%d
    SELECT n, 'name ' || n, 'user' || n || '@mail.example', '+4930' || 1000000 + n, 'DE'
    FROM generate_series(1, 1000000) n
"""
MASKED = {
    **{f"SELECT, {count} masked": f"SELECT * FROM people{count}" for count in COUNTS},
    **{f"COPY, {count} masked": f"COPY people{count} TO STDOUT" for count in COUNTS},
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


def rounds(
    ways: Sequence[Way], count: int, chance: random.Random, statements: Mapping[str, str] = STATEMENTS
) -> list[Haul]:
    """Every statement through every way in each round, the ways in a new order each time."""
    sizes = {name: _size(ways[0], sql) for name, sql in statements.items()}
    return [
        _haul(way, name, sql, number, sizes[name])
        for number in range(count)
        for name, sql in chance.sample(sorted(statements.items()), len(statements))
        for way in chance.sample(ways, len(ways))
    ]


def _command(sql: str) -> list[str]:
    return [str(find_client("psql")), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]


def _size(way: Way, sql: str) -> int:
    return len(subprocess.run(_command(sql), env={**os.environ, **way.env}, stdout=-1, check=True).stdout)


def _haul(way: Way, name: str, sql: str, number: int, size: int) -> Haul:
    speed, before, began, peak = calibrate(), cpu_seconds(way.pids()), time.perf_counter(), 0
    with subprocess.Popen(_command(sql), env={**os.environ, **way.env}, stdout=subprocess.DEVNULL) as psql:
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


def masked_table(hauls: Sequence[Haul], paths: Sequence[str], base: str) -> str:
    """Rows a second; the ratios are to the same result unmasked on the same path, and to that of `base`,
    paired within a round.
    """
    lines = [
        f"| statement | path | rows/s | to unmasked | to {base} |",
        "|---|---|---:|---|---|",
    ]
    for name in MASKED:
        for path in paths:
            mine = [haul for haul in hauls if (haul.path, haul.statement) == (path, name)]
            rate = statistics.median(1e6 / haul.seconds for haul in mine)
            clear = name.replace(name.split()[1], "0")
            cells = [name, path, f"{rate:,.0f}"]
            cells.append("" if clear == name else _paired(mine, hauls, path, clear))
            cells.append("" if path == base else _paired(mine, hauls, base, name))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _paired(mine: Sequence[Haul], hauls: Sequence[Haul], path: str, statement: str) -> str:
    """How fast `mine` are, compared with those of a path and a statement in the same rounds."""
    peers = {haul.round: haul for haul in hauls if (haul.path, haul.statement) == (path, statement)}
    ratios = sorted(peers[haul.round].seconds / haul.seconds for haul in mine if haul.round in peers)
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}]" if ratios else ""


def _ratio(hauls: Sequence[Haul], mine: Sequence[Haul], other: str) -> str:
    if mine[0].path in (other, "direct"):
        return ""
    return _paired(mine, hauls, other, mine[0].statement)
