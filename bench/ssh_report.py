"""From measurements to Markdown tables. Ratios are paired within a round, as in report.py."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.report import spread
from bench.ssh_tasks import LATENCIES, STREAMS, Many, Taken


def transfers(taken: Sequence[Taken], paths: Sequence[str], base: str) -> str:
    """How fast bytes pass: ratios are of MB/s."""
    lines = [
        f"| what | path | MB/s | to direct | to {base} | CPU s a GB |",
        "|---|---|---:|---|---|---:|",
    ]
    for task in STREAMS:
        for path in paths:
            mine = [it for it in taken if (it.path, it.task) == (path, task)]
            rate = statistics.median(it.size / it.seconds / 1e6 for it in mine)
            cost = statistics.median(it.cpu / it.size * 1e9 for it in mine)
            cells = [task, path, f"{rate:.0f}", _ratio(taken, mine, "direct", inverse=True)]
            cells += [_ratio(taken, mine, base, inverse=True), f"{cost:.1f}" if "gate" in path else ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def latencies(taken: Sequence[Taken], paths: Sequence[str], base: str) -> str:
    """How soon `ssh target true` ends: ratios are of its time."""
    lines = [f"| `ssh host true` | path | ms | to direct | to {base} |", "|---|---|---:|---|---|"]
    for task in LATENCIES:
        for path in paths:
            mine = [it for it in taken if (it.path, it.task) == (path, task)]
            cells = [task, path, f"{statistics.median(it.seconds for it in mine) * 1e3:.0f}"]
            cells += [_ratio(taken, mine, "direct"), _ratio(taken, mine, base)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(taken: Sequence[Taken], mine: Sequence[Taken], other: str, *, inverse: bool = False) -> str:
    """Median and range of the seconds to the other path's in the same round, or the other way round."""
    if mine[0].path in (other, "direct"):
        return ""
    peers = {it.round: it for it in taken if (it.path, it.task) == (other, mine[0].task)}
    pairs = [(it, peers[it.round]) for it in mine if it.round in peers]
    if not pairs:
        return ""
    return spread(
        [
            (b.seconds / a.seconds if inverse else a.seconds / b.seconds, (*a.speed, *b.speed))
            for a, b in pairs
        ]
    )


def crowds(several: Sequence[Many]) -> str:
    lines = [
        "| path | sessions | kB each | all in, s | CPU while idle | all cut in s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for it in several:
        cut = "" if it.cut is None else f"{it.cut:.2f}"
        each = f"{it.bytes_each / 1e3:.0f}" if it.path != "direct" else ""
        idle = f"{it.cpu_idle:.1%}" if it.path != "direct" else ""
        lines.append(f"| {it.path} | {it.sessions} | {each} | {it.entry_seconds:.1f} | {idle} | {cut} |")
    return "\n".join(lines)
