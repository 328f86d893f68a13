"""`bench/ssh`: streams, files, commands and many sessions: OpenSSH directly, by ProxyJump, and the gate.

Rounds, not runs: in each round every path does every task once, in a new random order, and only what was
measured in the same round is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import pstats
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import report, ssh_report
from bench.ssh_tasks import Many, Plan, Taken, many, rounds
from bench.ssh_ways import Hosts, SshWay, gate

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "ssh-performance.md"
_BASE = "ProxyJump"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="portcullis-bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        home = Path(folder)
        statistics_file = home / "profile" if options.profile else None
        ways = _ways(home, stack, options, statistics_file)
        plan = Plan(int(options.size * 1e6), options.commands, home)
        taken = []
        for it in rounds(ways, plan, options.rounds, random.Random(options.seed)):
            taken.append(it)
            print(f"round {it.round + 1} {it.task:20} {it.path:15} {_said(it)}", file=sys.stderr)
        stack.close()
        crowds = _crowds(home / "crowds", options) if options.sessions else []
        if statistics_file is not None:
            pstats.Stats(str(statistics_file)).sort_stats("tottime").print_stats(40)
    paths = [way.name for way in ways]
    parts = [_heading(taken, options), ssh_report.transfers(taken, paths, _BASE)]
    parts.append(ssh_report.latencies(taken, paths, _BASE))
    if crowds:
        parts.append(ssh_report.crowds(crowds))
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        report.write(PAGE, "ssh", text)
    return 0


def _crowds(home: Path, options: argparse.Namespace) -> list[Many]:
    """Many sessions at once, in processes that carried nothing before: they would keep the memory."""
    home.mkdir()
    with contextlib.ExitStack() as stack:
        return [many(way, options.sessions, options.idle) for way in _ways(home, stack, options, None)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/ssh", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--size", type=float, default=1000, help="megabytes of a transfer")
    parser.add_argument("--commands", type=int, default=15, help="of each way in a round, for one median")
    parser.add_argument("--sessions", type=int, default=200, help="at once; 0 leaves them out")
    parser.add_argument("--idle", type=float, default=3, help="seconds of watching the sessions be idle")
    parser.add_argument(
        "--paths", type=lambda text: text.split(","), default=["direct", "jump", "gate1"], help="or gate2"
    )
    parser.add_argument(
        "--ciphers",
        default="aes128-gcm@openssh.com",
        help="for all paths: the fastest one, so that none is measured by a slower cipher",
    )
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--profile", action="store_true", help="print where the gate's time goes")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def _ways(
    home: Path, stack: contextlib.ExitStack, options: argparse.Namespace, profile: Path | None
) -> list[SshWay]:
    hosts = stack.enter_context(Hosts(home, options.ciphers))
    ways = []
    for name in options.paths:
        if name == "direct":
            ways.append(hosts.direct())
        elif name == "jump":
            ways.append(hosts.by_jump())
        elif name in ("gate1", "gate2"):
            ways.append(stack.enter_context(gate(hosts, int(name[-1]), profile)))
        else:
            raise SystemExit(f"no such path: {name}")
    return ways


def _said(it: Taken) -> str:
    return f"{it.size / it.seconds / 1e6:7.0f} MB/s" if it.size else f"{it.seconds * 1e3:7.0f} ms"


def _heading(taken: Sequence[Taken], options: argparse.Namespace) -> str:
    paces = [pace for it in taken for pace in it.speed]
    version = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0].strip()
    return (
        f"Measured {report.moment()}: {version}, {options.ciphers}, {options.size:.0f} MB a transfer, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} "
        f"{platform.release().split('-')[0]}; {options.rounds} rounds, the paths in a new order each round. "
        f"The calibration loop took {min(paces):.0f} to {max(paces):.0f} ms (median "
        f"{statistics.median(paces):.0f}); load average at the end {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    sys.exit(main())
