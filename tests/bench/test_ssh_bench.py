"""The bench for SSH: it runs, by every path, and its ratios are of what was measured together."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import ssh_report
from bench.ssh_tasks import LATENCIES, STREAMS, Taken

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]


def test_it_measures_every_path_and_prints_the_tables() -> None:
    options = ["--rounds", "1", "--size", "2", "--commands", "1", "--sessions", "6", "--idle", "0.2"]
    done = subprocess.run([ROOT / "bench" / "ssh", *options], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for path in ("direct", "ProxyJump", "gate, 1 worker"):
        for task in (*STREAMS, *LATENCIES):
            assert f"| {task} | {path} |" in done.stdout
        assert f"| {path} | 6 |" in done.stdout


def taken(path: str, seconds: float, number: int, speed: float = 10.0) -> Taken:
    return Taken(path, "sftp get", number, seconds, 10**9, 1.0, (speed, speed))


def test_ratios_are_of_one_round_and_faster_is_more() -> None:
    several = [taken("direct", 1, 0), taken("ProxyJump", 2, 0), taken("gate", 4, 0)]
    several += [taken("direct", 10, 1), taken("ProxyJump", 20, 1), taken("gate", 40, 1)]
    mine = [it for it in several if it.path == "gate"]
    assert ssh_report._ratio(several, mine, "ProxyJump", inverse=True) == "0.50 [0.50..0.50]"
    assert ssh_report._ratio(several, mine, "ProxyJump") == "2.00 [2.00..2.00]"


def test_a_pair_across_a_change_of_pace_is_left_out_and_counted() -> None:
    several = [taken(path, seconds, n) for n in range(3) for path, seconds in (("ProxyJump", 2), ("gate", 4))]
    several += [taken("ProxyJump", 2, 3), taken("gate", 40, 3, speed=20.0)]
    mine = [it for it in several if it.path == "gate"]
    assert ssh_report._ratio(several, mine, "ProxyJump") == "2.00 [2.00..2.00] −1"
