"""Two brokers and two gates, each a process of its own, on one PostgreSQL and one Redis.

Asked at one broker, approved at the other, entered at both gates, revoked at the first: all see it at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.clock import SystemChance, SystemClock
from broker.identity.tokens import TokenKind, Tokens
from broker.store.engine import Store
from cli.embedded_postgres import free_port

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


@dataclass
class Part:
    """One `access serve` process."""

    name: str
    env: dict[str, str]
    only: str
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PORTCULLIS_", "SLACK_"))}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "serve", "--only", self.only],
                cwd=ROOT,
                env={**clean, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ready(self) -> None:
        deadline = time.monotonic() + 90
        while "Serving:" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass
class Many:
    brokers: list[Part]
    gates: list[Part]
    folder: Path
    tokens: dict[str, str]
    run_psql: Callable[..., subprocess.CompletedProcess[str]]
    shop: Any

    def logs(self) -> str:
        """What the brokers said last."""
        return "\n".join(part.log.read_text()[-4000:] for part in self.brokers)

    def call(self, broker: int, person: str, method: str, path: str, body: Any = None) -> Any:
        """One call of the API of one of the brokers."""
        base = self.brokers[broker].env["PORTCULLIS_PUBLIC_URL"]
        done = httpx2.request(
            method,
            f"{base}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.tokens[person]}"},
            timeout=20,
        )
        assert done.status_code < 300, f"{method} {path}: {done.status_code} {done.text}"
        return done.json() if done.content else None

    def env(self, gate: int) -> dict[str, str]:
        """How Ada enters at one of the gates."""
        return {
            "PGHOST": "localhost",
            "PGPORT": self.gates[gate].env["PORTCULLIS_GATE_PORT"],
            "PGUSER": "ada",
            "PGDATABASE": "prod-db",
            "PGPASSWORD": self.call(gate, "ada", "POST", "/api/v1/tokens", {})["token"],
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.folder / f"gate-{gate}" / "gate" / "ca.pem"),
        }


@pytest.fixture(scope="module")
def street(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Any,
    new_redis: Callable[[], str],
    run_psql: Callable[..., subprocess.CompletedProcess[str]],
    write_sample_policy: Callable[[Path, Any], None],
) -> Iterator[Many]:
    """All four, for the tests of this module: they take long to start."""
    folder, shop, store = (
        tmp_path_factory.mktemp("many"),
        postgres.new_database(template="shop"),
        postgres.new_database(),
    )
    policy = folder / "access.yaml"
    write_sample_policy(policy, shop)
    shared = {
        "PORTCULLIS_POLICY": str(policy),
        "PORTCULLIS_DATABASE_URL": store.url(),
        "PORTCULLIS_REDIS_URL": new_redis(),
        "PORTCULLIS_SEAL_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    }
    brokers, gates = [], []
    for number in range(2):
        port = str(free_port())
        url = f"http://127.0.0.1:{port}"
        mine = {
            "PORTCULLIS_DATA_DIR": str(folder / f"broker-{number}"),
            "PORTCULLIS_HTTP_PORT": port,
            "PORTCULLIS_GATES_PORT": str(free_port()),
        }
        log = folder / f"broker-{number}.log"
        brokers.append(
            Part(f"broker-{number}", {**shared, **mine, "PORTCULLIS_PUBLIC_URL": url}, "broker", log)
        )
        gate = {
            "PORTCULLIS_DATA_DIR": str(folder / f"gate-{number}"),
            "PORTCULLIS_GATE_PORT": str(free_port()),
            "PORTCULLIS_BROKER_URL": url,
        }
        gates.append(Part(f"gate-{number}", gate, "proxy", folder / f"gate-{number}.log"))
    with ExitStack() as stack:

        def start(parts: list[Part]) -> None:
            for part in parts:
                part.start()
                stack.callback(part.stop)
            for part in parts:
                part.ready()

        start(brokers[:1])  # it makes the tables
        start(brokers[1:])
        tokens = asyncio.run(_logins(store.url(), "ada", "grace", "linus", "sam"))
        made = Many(brokers, gates, folder, tokens, run_psql, shop)
        for number, gate_part in enumerate(gates):  # invited at one broker, joining at the other
            added = made.call(1 - number, "sam", "POST", "/api/v1/gates/add", {"name": f"gate-{number}"})
            gate_part.env["PORTCULLIS_GATE_JOIN"] = added["token"]
        start(gates)
        yield made
    for database in (shop, store):
        postgres.drop(database)


@pytest.fixture
def many(street: Many) -> Iterator[Many]:
    """The four, all up; afterwards Ada holds nothing and runs nothing."""
    dead = [part for part in (*street.brokers, *street.gates) if part.process.poll() is not None]
    for part in dead:
        part.start()
    for part in dead:
        part.ready()
    yield street
    for story in street.call(0, "ada", "GET", "/api/v1/me")["requests"]:
        if story["grant"] and story["grant"]["state"] != "ended":
            street.call(0, "ada", "POST", f"/api/v1/requests/{story['id']}/release", {})
    _until("nothing to run", lambda: _running(street) == 0)


async def _logins(url: str, *people: str) -> dict[str, str]:
    """Login tokens, issued in the brokers' own database: the identity provider has its own tests."""
    store = Store(url)
    try:
        tokens = Tokens(store, SystemClock(), SystemChance())
        return {who: (await tokens.issue(TokenKind.LOGIN, who, via="cli")).token for who in people}
    finally:
        await store.close()


def test_approved_at_one_entered_at_the_other_revoked_at_the_first(many: Many) -> None:
    before = _logins_at(many)  # the server is shared: another test may have left one behind
    asked = many.call(
        0, "ada", "POST", "/api/v1/requests", {"resource": "prod-db", "seconds": 3600, "reason": "INC-142"}
    )
    many.call(1, "grace", "POST", f"/api/v1/requests/{asked['id']}/approve", {})
    _until("both gates to let Ada in", lambda: all(_enters(many, gate) for gate in (0, 1)))

    # Both at once: each gate has a query of hers running.
    sleeping = [_psql_in_background(many, gate, "select pg_sleep(120)") for gate in (0, 1)]
    _until("both queries to run", lambda: _running(many) == 2)
    began = time.monotonic()
    many.call(0, "linus", "POST", f"/api/v1/requests/{asked['id']}/revoke", {"reason": "wrong database"})
    for process in sleeping:
        said, _ = process.communicate(timeout=20)
        assert process.returncode != 0
        assert "revoked" in said.lower(), said
    assert time.monotonic() - began < 2.0  # one second, and psql's own end
    _until("the login to be gone", lambda: _logins_at(many) <= before, logs=many.logs)


def test_one_session_killed_at_the_broker_that_is_not_its_gates(many: Many) -> None:
    asked = many.call(
        0, "ada", "POST", "/api/v1/requests", {"resource": "prod-db", "seconds": 3600, "reason": "INC-142"}
    )
    many.call(1, "grace", "POST", f"/api/v1/requests/{asked['id']}/approve", {})
    _until("both gates to let Ada in", lambda: all(_enters(many, gate) for gate in (0, 1)))
    sleeping = [_psql_in_background(many, gate, "select pg_sleep(120)") for gate in (0, 1)]
    _until("both queries to run", lambda: _running(many) == 2)
    found = many.call(0, "linus", "GET", f"/api/v1/sessions?key={asked['id']}")
    doomed = next(it for it in found if it["gate"] == "gate-1" and not it["closed_at"])
    began = time.monotonic()
    many.call(0, "linus", "POST", f"/api/v1/sessions/{doomed['id']}/kill", {"reason": "wrong table"})
    said, _ = sleeping[1].communicate(timeout=20)
    assert time.monotonic() - began < 2.0  # one second, and psql's own end
    assert "killed by linus: wrong table" in said, said
    assert sleeping[0].poll() is None, "the other session of the same grant goes on"
    _until("only the other query to run", lambda: _running(many) == 1)
    assert _enters(many, 1), "and the grant stays"
    # The recording is on its gate's disk, and by now on its broker's.
    _until("the end to be told", lambda: bool(_session(many, doomed["id"])["closed_at"]))
    replay = many.call(1, "linus", "GET", f"/api/v1/sessions/{doomed['id']}/recording")
    assert replay["whole"]
    assert "select pg_sleep(120)" in [it["text"] for it in replay["statements"]]
    found = many.call(1, "linus", "GET", "/api/v1/statements/search?by=ada&like=pg_sleep")
    assert doomed["id"] in [it["session_id"] for it in found["statements"]]
    sleeping[0].kill()
    # A gate that is removed, at the broker that it does not ask, lets nobody in any more until it joins anew.
    many.call(0, "sam", "POST", "/api/v1/gates/gate-1/remove", {})
    assert not _enters(many, 1)
    assert _enters(many, 0)
    added = many.call(0, "sam", "POST", "/api/v1/gates/add", {"name": "gate-1"})
    gate = many.gates[1]
    gate.stop()
    gate.env["PORTCULLIS_GATE_JOIN"] = added["token"]
    gate.log.write_text("")
    gate.start()
    gate.ready()
    assert _enters(many, 1)


def test_a_gate_whose_broker_is_killed_cuts_within_its_lease(many: Many) -> None:
    asked = many.call(
        1, "ada", "POST", "/api/v1/requests", {"resource": "prod-db", "seconds": 3600, "reason": "INC-142"}
    )
    many.call(0, "grace", "POST", f"/api/v1/requests/{asked['id']}/approve", {})
    _until("the gate to let Ada in", lambda: _enters(many, 1))
    process = _psql_in_background(many, 1, "select pg_sleep(120)")
    _until("the query to run", lambda: _running(many) == 1)
    many.brokers[1].process.kill()
    said, _ = process.communicate(timeout=30)  # the lease is ten seconds
    assert process.returncode != 0
    assert "cannot be reached" in said or "broker" in said or "lease" in said, said
    # And the other gate, whose broker is alive, does not mind.
    assert _enters(many, 0)


def _logins_at(many: Many) -> set[str]:
    return {name for (name,) in many.shop.query(_LOGINS)}


_LOGINS = "select rolname from pg_roles where rolname like 'pc\\_%' and rolcanlogin"


def _session(many: Many, key: str) -> Any:
    return many.call(0, "linus", "GET", f"/api/v1/sessions/{key}")


def _running(many: Many) -> int:
    sql = "select count(*) from pg_stat_activity where usename like 'pc\\_%' and state = 'active'"
    return int(many.shop.query(sql)[0][0])


def _enters(many: Many, gate: int) -> bool:
    done = many.run_psql(many.env(gate), "select 1", "-At")
    return bool(done.stdout.strip() == "1")


def _psql_in_background(many: Many, gate: int, sql: str) -> subprocess.Popen[str]:
    env = {**os.environ, **many.env(gate)}
    return subprocess.Popen(
        ["psql", "-XAtc", sql], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _until(
    what: str, seen: Callable[[], bool], timeout: float = 20, logs: Callable[[], str] = lambda: ""
) -> None:
    deadline = time.monotonic() + timeout
    while not seen():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}\n{logs()}"
        time.sleep(0.1)
