"""The bench itself: it runs, counts what it says it counts, and compares only what was measured together."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import report
from bench.measure import Run

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]


def run_of(path: str, tps: float, number: int, speed: float = 10.0) -> Run:
    return Run(path, "simple", 8, number, tps, 100, 200.0, 400.0, 20.0, 10_000_000, (speed, speed))


def test_it_measures_every_path_and_prints_a_table() -> None:
    options = ["--rounds", "1", "--transactions", "20", "--clients", "2", "--scale", "1"]
    done = subprocess.run(
        [ROOT / "bench" / "postgres", *options], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    for path in ("direct", "PgBouncer", "HAProxy TCP", "gate, 1 worker", "gate, 2 workers"):
        for mode in ("simple", "extended", "prepared"):
            assert f"| {path} | {mode} | 2 |" in done.stdout


def test_it_measures_entering_and_statements_that_are_all_different() -> None:
    entering = ["--connections", "--rounds", "1", "--seconds", "1", "--paths", "direct"]
    shapes = ["--shapes", "50", "--paths", "direct,gate1"]
    for options, row in ((entering, "| direct |"), (shapes, "| gate, 1 worker | 50 |")):
        command = [ROOT / "bench" / "postgres", *options, "--scale", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        assert row in done.stdout


def test_a_ratio_is_taken_within_a_round_so_that_a_machine_that_slows_down_changes_nothing() -> None:
    runs = [
        run_of("direct", 1000, 0),
        run_of("gate", 500, 0),
        run_of("direct", 100, 1),
        run_of("gate", 50, 1),
    ]
    assert "| gate | simple | 8 | 0.50 [0.50..0.50] |" in report.table(runs, ["direct", "gate"], "PgBouncer")


def test_a_pair_across_a_change_of_pace_is_left_out_and_counted() -> None:
    runs = [run_of(path, tps, n) for n in range(3) for path, tps in (("direct", 1000), ("gate", 500))]
    runs += [run_of("direct", 1000, 3), run_of("gate", 100, 3, speed=20.0)]
    assert "0.50 [0.50..0.50] −1" in report.table(runs, ["direct", "gate"], "PgBouncer")


def test_too_few_steady_pairs_are_no_median_so_all_are_shown_and_said_to_be_unsteady() -> None:
    runs = [run_of("direct", 1000, 0), run_of("gate", 500, 0)]
    runs += [run_of("direct", 1000, 1), run_of("gate", 100, 1, speed=20.0)]
    assert "0.30 [0.10..0.50] unsteady" in report.table(runs, ["direct", "gate"], "PgBouncer")


def test_the_page_keeps_everything_outside_the_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nafter\n")
    report.write(page, "x", "new")
    assert page.read_text() == "before\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nafter\n"
    with pytest.raises(ValueError, match="no section"):
        report.write(page, "y", "new")
