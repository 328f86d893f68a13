"""`bench/slack`: a rush of requests and approvals in the sandbox, as a table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import report
from bench.rush import Rush, Shape, measure

MOST_OVER = 1.2
"""So many times the limits' floor it may take until every card is true."""
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"


def table(rushes: Sequence[Rush]) -> str:
    """A line for each run."""
    head = (
        "| requests | in | approvers | presses | acknowledged p50 / p99 / worst | granted | lost | doubled "
        "| untrue | posts | updates / needed | all true after | the limits' floor | times the floor |\n"
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---|---:|---:|---:|"
    )
    return "\n".join([head, *map(_row, rushes)])


def _row(rush: Rush) -> str:
    shape = rush.shape
    acks = " / ".join(f"{rush.percentile(p) * 1000:.0f} ms" for p in (0.5, 0.99, 1.0))
    cells = [
        str(shape.requests),
        f"{shape.seconds:.0f} s",
        str(shape.approvers),
        str(rush.presses),
        acks,
        str(rush.granted),
        str(rush.lost),
        str(rush.doubled),
        str(rush.untrue + rush.untold),
        str(rush.posts),
        f"{rush.updates} / {rush.needed}",
        f"{rush.took:.0f} s",
        f"{rush.floor:.0f} s",
        f"{rush.over:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def wrong(rush: Rush) -> list[str]:
    """What a run must not show."""
    found = {
        "messages lost": rush.lost,
        "messages doubled": rush.doubled,
        "cards untrue": rush.untrue,
        "stories that the trail tells otherwise": rush.untold,
        "deliveries not acknowledged": rush.unacknowledged,
        "requests not granted": rush.shape.requests - rush.granted,
        "acknowledgements over 1 s at the 99th percentile": int(rush.percentile(0.99) >= 1.0),
    }
    slow = [f"all true only after {rush.over:.2f} times the floor"] if rush.over > MOST_OVER else []
    return [f"{count} {what}" for what, count in found.items() if count] + slow


def main() -> int:
    usual = Shape()
    options = argparse.ArgumentParser(prog="bench/slack", description=__doc__)
    options.add_argument("--requests", type=int, default=usual.requests)
    options.add_argument("--seconds", type=float, default=usual.seconds, help="real seconds for all of them")
    options.add_argument("--approvers", type=int, default=usual.approvers)
    options.add_argument("--channels", type=int, default=usual.channels)
    options.add_argument("--speed", type=float, default=usual.speed, help="of the rate limits' clock")
    options.add_argument("--database", default="", help="a URL; nothing: a new SQLite file")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--write", action="store_true", help="write the table into the page on performance")
    said = options.parse_args()
    rushes = []
    for number in range(said.rounds):
        shape = Shape(
            said.requests,
            said.seconds,
            usual.requesters,
            said.approvers,
            said.channels,
            said.speed,
            number + 1,
        )
        with TemporaryDirectory(prefix="portcullis-bench-") as folder:
            rushes.append(asyncio.run(measure(shape, Path(folder), said.database)))
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    text = (
        f"Measured {report.moment()}: {where}; the limits' clock ran {said.speed:g} times as fast, "
        f"{said.channels} channels, {'PostgreSQL' if said.database else 'SQLite'}.\n\n{table(rushes)}"
    )
    print(text)
    troubles = [trouble for rush in rushes for trouble in wrong(rush)]
    for trouble in troubles:
        print(f"WRONG: {trouble}", file=sys.stderr)
    if said.write and not troubles:
        report.write(PAGE, "slack", text)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
