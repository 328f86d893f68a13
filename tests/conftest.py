"""Real servers for every test. A missing one fails the test that needs it; nothing is skipped.

Fixtures
--------
`postgres` (session)   a real PostgreSQL with TLS and SCRAM on 127.0.0.1. `postgres.server` says how to reach
                       it (port, password, ca), `postgres.admin_password` is that of `portcullis_admin`, a
                       CREATEROLE login without superuser. `postgres.log()` is the server's log.
`shop`                 a fresh database in it with the sample shop (users, products, orders, views, the roles
                       app_readonly and app_readwrite): `shop.name`, `shop.psql(...)`, `shop.query(...)`,
                       `shop.url(...)`, and `shop.server`.
`empty_database`       the same with nothing in it, for a store that makes its own tables.
`our_database`         the same with our own tables, empty. `.url("postgresql")` is for a Store.
`redis_url`            a real Redis of this worker, emptied before the test; `new_redis()` empties it.
`chromium`             the path of a Chromium.
`demo` (module)        a whole `./run` in a folder of its own: `demo.types(...)`, `demo.presses(...)`,
                       `demo.sees(...)` on its Slack page, `demo.shell("./access whoami")`.
`run_psql`             `run_psql({"PGHOST": …}, "select 1", "-At")` → CompletedProcess, for any server.

Every server is one per xdist worker, on a free port, in its own folder, and dies with the worker.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine

from cli.embedded_postgres import EmbeddedPostgres, Server, find_client, free_port
from cli.sample.shop import ADMIN, create_shop
from cli.unprivileged import die_with_parent
from tests import tables

_ROOT = Path(__file__).parents[1]
_numbers = itertools.count(1)
# A machine that is busy is not a fault; what must be fast is measured in bench/.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
os.environ["PORTCULLIS_KEYRING"] = "off"  # nothing of a test in the keyring of whoever runs it


def _need(name: str, package: str) -> str:
    if found := shutil.which(name):
        return found
    pytest.fail(f"{name} is missing: install it (Debian: apt install {package}). ./test does this as root.")


@pytest.fixture(scope="session")
def run_psql() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real psql: `run_psql(env, sql, *options, timeout=30)`; `sql` goes in by -c."""
    psql = find_client("psql")
    if psql is None:
        pytest.fail("psql is missing: install it (Debian: apt install postgresql-client).")

    def run(
        env: Mapping[str, str], sql: str | None = None, *options: str, timeout: float = 30, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = [str(psql), "-X", "-v", "ON_ERROR_STOP=1", *options]
        if sql is not None:
            command += ["-c", sql]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return subprocess.run(
            command, env={**clean, **env}, input=stdin, capture_output=True, text=True, timeout=timeout
        )

    return run


@dataclass
class Database:
    """One database of the worker's PostgreSQL; by default everything is done as superuser."""

    server: Server
    name: str
    admin_password: str
    run_psql: Callable[..., subprocess.CompletedProcess[str]]
    admin: str = ADMIN

    def env(self, user: str = "", password: str = "") -> dict[str, str]:
        return self.server.libpq(self.name, user, password)

    def psql(self, sql: str, *options: str, user: str = "", password: str = "") -> str:
        """What psql prints for `sql`, unaligned and without headers. Raises where psql fails."""
        done = self.run_psql(self.env(user, password), sql, "-At", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Rows by psycopg, each time on a new connection that commits."""
        with self.connect() as connection:
            cursor = connection.execute(sql, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def connect(self, user: str = "", password: str = "", **options: object) -> psycopg.Connection:
        return psycopg.connect(
            host=self.server.host,
            port=self.server.port,
            dbname=self.name,
            user=user or self.server.user,
            password=password or self.server.password,
            sslmode="verify-full" if self.server.ca else "disable",
            sslrootcert=str(self.server.ca or ""),
            **options,  # type: ignore[arg-type]
        )

    def url(self, scheme: str = "postgresql", user: str = "", password: str = "") -> str:
        """Its URL, without TLS options: the server demands TLS, which asyncpg then uses by itself."""
        who = quote(user or self.server.user, safe="")
        secret = quote(password or self.server.password, safe="")
        return f"{scheme}://{who}:{secret}@{self.server.host}:{self.server.port}/{self.name}"


@dataclass
class Postgres:
    """The worker's server, and new databases in it."""

    server: Server
    admin_password: str
    run_psql: Callable[..., subprocess.CompletedProcess[str]]
    emptied: tables.Emptied | None = None

    def log(self) -> str:
        return self.server.log.read_text(errors="replace")

    def new_database(self, template: str = "template1") -> Database:
        name = f"test_{next(_numbers)}"
        made = [f'CREATE DATABASE "{name}" TEMPLATE "{template}"']
        if template == "shop":
            # Privileges on a database do not come with its template.
            made.append(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
            made.append(f'GRANT CONNECT ON DATABASE "{name}" TO app_readonly, app_readwrite, {ADMIN}')
        self._execute(*made)
        return Database(self.server, name, self.admin_password, self.run_psql)

    def with_our_tables(self) -> Database:
        """The one database with our own tables, emptied: to make one anew takes a hundred times as long."""
        ours = Database(self.server, "ours", self.admin_password, self.run_psql)
        if self.emptied is None:
            self._execute("CREATE DATABASE ours")
            tables.make(create_engine(ours.url("postgresql+psycopg")))
            with ours.connect() as connection:
                self.emptied = tables.Emptied.as_is(connection)
        else:
            with ours.connect() as connection:
                self.emptied.restore(connection)
        return ours

    def drop(self, database: Database) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)')

    def _execute(self, *commands: str) -> None:
        master = Database(self.server, "postgres", self.admin_password, self.run_psql)
        with master.connect(autocommit=True) as connection:
            for command in commands:
                connection.execute(command)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def postgres(run_psql: Callable[..., subprocess.CompletedProcess[str]]) -> Iterator[Postgres]:
    # Below /tmp itself: pytest's own folders are closed to the user that PostgreSQL may have to run as.
    home = Path(tempfile.mkdtemp(prefix="portcullis-pg-"))
    cluster = EmbeddedPostgres(
        home, durable=False, settings={"max_connections": "200", "shared_buffers": "32MB"}
    )
    if cluster.binaries.bundled:
        pytest.fail(
            "PostgreSQL is missing (the wheel speaks no TLS): install it (Debian: apt install postgresql)."
        )
    try:
        server = cluster.start()
        password = secrets.token_urlsafe(16)
        asyncio.run(create_shop(server, password))
        yield Postgres(server, password, run_psql)
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def shop(postgres: Postgres) -> Iterator[Database]:
    database = postgres.new_database(template="shop")
    yield database
    postgres.drop(database)


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.new_database()
    yield database
    postgres.drop(database)


@pytest.fixture
def our_database(postgres: Postgres) -> Database:
    return postgres.with_our_tables()


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[str]:
    binary = _need("redis-server", "redis-server")
    folder = Path(tempfile.mkdtemp(prefix="portcullis-redis-"))
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    try:
        _wait_for_redis(port, process, folder / "log")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_redis(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    import redis

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            redis.Redis(port=port).ping()
            return
        except redis.ConnectionError:
            time.sleep(0.02)
    pytest.fail(f"redis-server did not come up:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="session")
def new_redis(_redis_server: str) -> Callable[[], str]:
    def emptied() -> str:
        import redis

        redis.Redis.from_url(_redis_server).flushall()
        return _redis_server

    return emptied


@pytest.fixture
def redis_url(new_redis: Callable[[], str]) -> str:
    return new_redis()


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    pytest.fail("Chromium is missing: install it (Debian: apt install chromium).")


# ------------------------------------------------------------------ a whole demo, as ./run starts it


@dataclass
class Demo:
    """A running `./run`. `printed` is what it said; `env` is what ./access needs to find it."""

    process: subprocess.Popen[bytes]
    folder: Path
    slack: str
    printed: str
    env: dict[str, str]

    def shell(
        self, command: str, *, person: str = "ada", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a line in the checkout, as `person` where a browser is opened to log in."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=_ROOT,
            env=self._environment(person),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def spawn(self, command: str, stdin: str) -> subprocess.Popen[str]:
        """The same in the background, with this typed into it."""
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=_ROOT,
            env=self._environment("ada"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        return process

    def _environment(self, person: str) -> dict[str, str]:
        browser = f"{sys.executable} {_ROOT / 'tests' / 'log_in_by_browser.py'} {person} %s"
        return {
            **os.environ,
            **self.env,
            "PORTCULLIS_HOME": str(self.folder / f"login-{person}"),
            "BROWSER": browser,
        }

    def view(self, person: str, channel: str = "", thread: str = "") -> dict[str, Any]:
        """What the page shows this person."""
        found = httpx2.get(
            f"{self.slack}/sandbox/view", params={"user": person, "channel": channel, "thread": thread}
        )
        return dict(found.json())

    def channel(self, person: str, name: str) -> str:
        """The id of #name, or of the direct messages with the bot for "@portcullis"."""
        seen = self.view(person)
        for channel in seen["channels"]:
            if channel["name"] == name.lstrip("#") or (
                name == "@portcullis" and channel["peer"] == seen["app"]["user"]
            ):
                return str(channel["id"])
        raise LookupError(f"{person} sees no {name}")

    def act(self, person: str, do: str, **asked: object) -> dict[str, Any]:
        """Do something on the page as this person."""
        done = httpx2.post(f"{self.slack}/sandbox/act", json={"user": person, "do": do, **asked}, timeout=20)
        return dict(done.json())

    def types(self, person: str, channel: str, text: str) -> None:
        done = self.act(person, "type", channel=self.channel(person, channel), text=text)
        assert done["ok"], done

    def presses(self, person: str, channel: str, label: str, timeout: float = 15) -> None:
        """Press the newest button of this label in a channel; waits for it to be there."""
        place, deadline = self.channel(person, channel), time.monotonic() + timeout
        while time.monotonic() < deadline:
            for message in reversed(self.view(person, place)["messages"]):
                for block in message["blocks"]:
                    for element in block.get("elements", []) if block["type"] == "actions" else []:
                        if element.get("text", {}).get("text", "").rstrip("…") == label:
                            done = self.act(
                                person,
                                "press",
                                channel=place,
                                ts=message["ts"],
                                action_id=element["action_id"],
                                block_id=block["block_id"],
                            )
                            assert done["ok"], done
                            return
            time.sleep(0.1)
        raise AssertionError(f"{person} saw no button {label} in {channel} within {timeout} s")

    def sees(self, person: str, channel: str, text: str, timeout: float = 15) -> dict[str, Any]:
        """Wait for a message that holds `text`; the newest such one."""
        place, deadline = self.channel(person, channel), time.monotonic() + timeout
        while time.monotonic() < deadline:
            messages = self.view(person, place)["messages"]
            for message in reversed(messages):
                if text in f"{message['text']} {message['blocks']}":
                    return dict(message)
            time.sleep(0.1)
        raise AssertionError(f"{person} saw no {text!r} in {channel}:\n{messages}")


def start_demo(folder: Path, *options: str) -> Demo:
    """Start `./run` in `folder`, on free ports; returns once it has printed its page."""
    ports = [f"--{name}-port={free_port()}" for name in ("slack", "http", "gate", "idp", "ssh")]
    said = folder.with_suffix(".out")
    with said.open("wb") as output:
        process = subprocess.Popen(
            ["./run", f"--data={folder}", *ports, *options],
            cwd=_ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith(("PORTCULLIS_", "SLACK_"))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    deadline = time.monotonic() + 120
    while 'psql "host=' not in (printed := said.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            stop_demo(process)
            pytest.fail(f"./run did not come up:\n{printed}")
        time.sleep(0.1)
    env = {"PORTCULLIS_POLICY": f"{folder}/access.yaml", "PORTCULLIS_DATA_DIR": f"{folder}/broker"}
    slack, broker = (re.findall(rf"^{name} +(http\S+)", printed, re.M)[0] for name in ("Slack", "Broker"))
    return Demo(process, folder, slack, printed, {**env, "PORTCULLIS_BROKER": broker})


def stop_demo(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C, and wait; its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    return process.returncode


@pytest.fixture(scope="module")
def demo_folder() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="portcullis-demo-"))
    home.chmod(0o711)
    yield home / "var"
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> Iterator[Demo]:
    """One `./run` for the tests of a module."""
    running = start_demo(demo_folder)
    yield running
    stop_demo(running.process)


@pytest.fixture(scope="module")
def run_demo() -> tuple[Callable[..., Demo], Callable[..., int]]:
    """For tests that start and stop it themselves: the two functions."""
    return start_demo, stop_demo


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: three workers for two cores, since tests wait for a good part of their time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The scores of the corpora of attacks and of honest statements."""
    found = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == "score"
    ]
    if found:
        terminalreporter.section("scores")
        for line in sorted(found):
            terminalreporter.write_line(line)
