"""The bench of HTTP: it runs, every request is recorded, and what it compares was measured together."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(200)
ROOT = Path(__file__).parents[2]


def test_it_measures_every_way_and_prints_its_tables() -> None:
    options = ["--rounds", "1", "--seconds", "1", "--connections", "2", "--hauls", "1", "--idle", "20"]
    options += ["--large", "4"]
    ways = ["--ways", "direct,nginx,gate1,aiohttp"]
    done = subprocess.run(
        [ROOT / "bench" / "http", *options, *ways], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    for way in ("direct, no TLS", "nginx", "gate, 1 worker", "aiohttp proxy"):
        assert f"| {way} | 2 |" in done.stdout
    assert "| gate, 1 worker | 20 |" in done.stdout
