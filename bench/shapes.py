"""Many statements that differ in more than constants: each is to be read once by whoever reads them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Way, cpu_seconds

_SHAPE = "SELECT abalance AS a%d FROM pgbench_accounts WHERE aid = %d;\n"
"""Another name of the column makes it another statement for whoever keeps what it read by its words."""


@dataclass(frozen=True)
class Passes:
    """The same `shapes` statements by one path, twice: statements a second and CPU µs a statement of each."""

    path: str
    shapes: int
    rates: tuple[float, float]
    costs: tuple[float, float]


def rounds(ways: Sequence[Way], shapes: int, pgbench: str) -> list[Passes]:
    """One client sends all of them as simple queries, in two sessions one after the other."""
    with TemporaryDirectory(prefix="portcullis-bench-") as folder:
        script = Path(folder) / "shapes.sql"
        script.write_text("".join(_SHAPE % (number, number + 1) for number in range(shapes)))
        found = []
        for way in ways:
            first, second = (_pass(way, script, shapes, pgbench) for _ in range(2))
            rates, costs = zip(first, second, strict=True)
            found.append(Passes(way.name, shapes, rates, costs))
        return found


def _pass(way: Way, script: Path, shapes: int, pgbench: str) -> tuple[float, float]:
    before, began = cpu_seconds(way.pids()), time.perf_counter()
    done = subprocess.run(
        [pgbench, "-n", "-f", str(script), "-c", "1", "-t", "1"],
        env={**os.environ, **way.env},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{way.name} did not take the statements:\n{done.stderr}"
    took = time.perf_counter() - began
    return shapes / took, (cpu_seconds(way.pids()) - before) / shapes * 1e6


def table(passes: Sequence[Passes]) -> str:
    lines = [
        "| path | shapes | statements/s at first | and again | CPU µs each at first | and again |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for it in passes:
        rates, costs = (f"{it.rates[i]:,.0f}" for i in (0, 1)), (f"{it.costs[i]:.0f}" for i in (0, 1))
        lines.append(f"| {it.path} | {it.shapes:,} | {' | '.join(rates)} | {' | '.join(costs)} |")
    return "\n".join(lines)
