"""Emergencies and extensions at the terminal, with a real gate in front of a real PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.dev_idp import start_dev_idp

sys.path.insert(0, str(Path(__file__).parent))
from house_kit import write_policy
from test_access import PEOPLE, Served, end, run, serve

pytestmark = pytest.mark.timeout(300)

MORE = """
schedules:
  gone: {source: pagerduty, id: P1, key: env:NO_KEY, url: "http://127.0.0.1:1"}
break_glass:
  - name: night
    resources: [prod-db]
    role: readonly
    on_call: [gone]
    codes: true
    reviewers: [security, dba]
"""


@pytest.fixture(scope="module")
def house(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Any, Any]]:
    """A house whose on-call schedule is never there, with the identity provider to switch off."""
    directory, database = tmp_path_factory.mktemp("night"), postgres.new_database(template="shop")
    path = write_policy(directory, database)
    path.write_text(path.read_text().replace("    reason: required\n", "    extend_freely: 30m\n") + MORE)
    idp = start_dev_idp(PEOPLE)
    served = serve(directory, idp)
    for person in ("ada", "grace", "sam"):
        served.access(person, "login")
    yield served, idp, database
    end(served)
    idp.stop()
    postgres.drop(database)


def psql(line: str, password: str, statement: str) -> subprocess.CompletedProcess[str]:
    connection = re.search(r"'(.*)'", line)
    assert connection
    env = {**{n: v for n, v in os.environ.items() if not n.startswith("PG")}, "PGPASSWORD": password}
    return subprocess.run(
        ["psql", connection[1], "-At", "-c", statement], env=env, capture_output=True, text=True, timeout=60
    )


def test_more_time_gives_the_login_at_the_target_its_new_end(house: tuple[Served, Any, Any]) -> None:
    served, _, database = house
    served.open()
    before = valid_until(database)
    out = served.access("ada", "extend", "20m")
    assert "open until" in out
    for _ in range(100):
        if (after := valid_until(database)) != before:
            break
        time.sleep(0.1)
    assert (after - before).total_seconds() == 1200
    served.access("ada", "release")


def valid_until(database: Any) -> Any:
    import psycopg

    with psycopg.connect(database.url()) as server:
        row = server.execute(
            "SELECT max(rolvaliduntil) FROM pg_roles WHERE rolname LIKE 'pc_ada%'"
        ).fetchone()
    assert row
    return row[0]


def test_a_sealed_code_opens_the_gate_with_identity_provider_and_schedule_away(
    house: tuple[Served, Any, Any],
) -> None:
    served, idp, _ = house
    made = served.access("sam", "codes", "make", "ada", "--count", "2").split()
    assert (
        "nobody can tell who is on call"
        in served.access(
            "ada", "break-glass", "prod-db", "because", "INC-142", "checkout", "is", "down", code=1
        ).lower()
    )
    idp.stop()
    stranger = {**served.env("nobody-logged-in")}
    words = ("break-glass", "--code", "prod-db", "because", "INC-142 checkout is down")
    refused = run(*words, env=stranger, stdin="pcb-00000000-00000-00000-00000-00000-00000\n")
    assert refused.returncode == 1
    assert "not good" in refused.stderr
    taken = run(*words, env=stranger, stdin=made[0].upper() + "\n")
    assert taken.returncode == 0, taken.stderr
    assert made[0] not in taken.stdout + taken.stderr
    line, password = taken.stdout.strip().splitlines()
    for _ in range(100):
        done = psql(line, password, "select count(*) > 0 from users")
        if done.returncode == 0:
            break
        time.sleep(0.2)
    assert done.stdout.strip() == "t", done.stderr
    clear = psql(line, password, "select email from users limit 1")
    assert "@" not in clear.stdout or "*" in clear.stdout, "masks hold in an emergency"
    again = run(*words, env=stranger, stdin=made[0] + "\n")
    assert again.returncode == 1
    owed = served.access("sam", "reviews")
    key = re.search(r"R-\w+", owed)
    assert key
    assert "still open" in served.access("sam", "review", key[0], "justified", code=1)
    assert "revoked" in served.access("sam", "review", key[0], "not", "justified", "because", "a", "drill")
    assert psql(line, password, "select 1").returncode != 0
    assert "nothing" in served.access("sam", "reviews")
