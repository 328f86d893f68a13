"""From runs to a Markdown table. Ratios are paired per round: the machine's own pace is not steady."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Run

_STEADY = 1.3
_ENOUGH = 3


def table(runs: Sequence[Run], paths: Sequence[str], base: str) -> str:
    """A line for each mode, number of clients and path, with its ratio to `base` in the same round."""
    lines = [
        f"| path | mode | clients | to direct | to {base} | p50 ms | p99 ms | CPU µs/txn | memory MB |",
        "|---|---|---:|---|---|---:|---:|---:|---:|",
    ]
    for mode, clients in dict.fromkeys((run.mode, run.clients) for run in runs):
        for path in paths:
            mine = [r for r in runs if (r.path, r.mode, r.clients) == (path, mode, clients)]
            if not mine:
                continue
            cells = [
                path,
                mode,
                str(clients),
                _ratio(runs, mine, "direct"),
                _ratio(runs, mine, base),
                f"{_median(mine, lambda r: r.p50) / 1000:.2f}",
                f"{_median(mine, lambda r: r.p99) / 1000:.2f}",
                f"{_median(mine, lambda r: r.cpu):.0f}" if path != "direct" else "",
                f"{max(r.memory for r in mine) / 1e6:.0f}" if path != "direct" else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(runs: Iterable[Run], mine: Sequence[Run], other: str) -> str:
    """Median and range of tps over the other path's tps of the same round: `spread`."""
    if mine[0].path in (other, "direct"):
        return ""
    pairs = [
        (run, peer)
        for run in mine
        for peer in runs
        if (peer.path, peer.mode, peer.clients, peer.round) == (other, run.mode, run.clients, run.round)
    ]
    if not pairs:
        return ""
    return spread([(run.tps / peer.tps, (*run.speed, *peer.speed)) for run, peer in pairs])


def spread(pairs: Sequence[tuple[float, Sequence[float]]]) -> str:
    """Median and range of ratios, each with the calibrations around its two runs.

    A pair between which the machine changed its pace (calibrations apart by more than 1.3) is left out; their
    number is shown as −n. Where fewer than three pairs were steady, all are used and the cell says so.
    """
    steady = [ratio for ratio, paces in pairs if max(paces) <= min(paces) * _STEADY]
    enough = len(steady) >= min(_ENOUGH, len(pairs))
    ratios = sorted(steady if enough else (ratio for ratio, _ in pairs))
    note = (f" −{len(pairs) - len(steady)}" if len(steady) < len(pairs) else "") if enough else " unsteady"
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}]{note}"


def _median(runs: Iterable[Run], value: Callable[[Run], float]) -> float:
    return statistics.median(value(run) for run in runs)


def moment() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def heading(runs: Sequence[Run], what: str) -> str:
    """When, where and on how steady a machine this was measured."""
    paces = [pace for run in runs for pace in run.speed]
    rounds = len({run.round for run in runs})
    return (
        f"Measured {moment()}: {what} {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {platform.system()} {platform.release().split('-')[0]}; "
        f"{rounds} rounds, the paths in a new order each round. The calibration loop took "
        f"{min(paces):.0f} to {max(paces):.0f} ms (median {statistics.median(paces):.0f}); "
        f"load average at the end {os.getloadavg()[0]:.1f}."
    )


def write(path: Path, section: str, text: str) -> None:
    """Replace the section between its two markers in `path`."""
    begin, end = f"<!-- bench:{section} -->", f"<!-- /bench:{section} -->"
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.S)
    if not pattern.search(page):
        raise ValueError(f"{path} has no section {begin} … {end}")
    path.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page), encoding="utf-8")
