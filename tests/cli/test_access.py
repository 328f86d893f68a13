"""The `access` command against a served house: each person with a home of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509

from cli.dev_idp import start_dev_idp
from cli.verbs import line_of
from workflows.model import Principal

sys.path.insert(0, str(Path(__file__).parent))
from house_kit import Browser, csrf_of, write_policy

pytestmark = pytest.mark.timeout(300)  # many processes, on machines that may be busy
ROOT = Path(__file__).parents[2]
ACCESS = [sys.executable, "-m", "cli.main"]
PEOPLE = [Principal(name, name.title(), f"{name}@example.com") for name in ("ada", "bob", "grace", "sam")]


def _start(env: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*ACCESS, *words], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run(*words: str, env: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PORTCULLIS"))}
    return subprocess.run(
        [*ACCESS, *words],
        env={**clean, **env},
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


@dataclass
class Served:
    """`access serve` in a process of its own, and people at their terminals."""

    process: subprocess.Popen[str]
    url: str
    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def env(self, person: str) -> dict[str, str]:
        return {
            "PORTCULLIS_HOME": str(self.directory / "home" / person),
            "PORTCULLIS_BROKER": self.url,
            "BROWSER": f"{sys.executable} {Path(__file__).with_name('browser.py')} %s",
            "TEST_PERSON": person,
            "COLUMNS": "200",
        }

    def access(self, person: str, *words: str, code: int = 0) -> str:
        """What the command printed; it must end with this exit code."""
        done = run(*words, env=self.env(person))
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def ask(self) -> str:
        """A request of Ada's; its id."""
        found = re.search(r"R-\w+", self.access("ada", "request", "prod-db", "1h", "because", "INC-142"))
        assert found
        return found[0]

    def open(self) -> str:
        """A request of Ada's that Grace approved and whose gate is open; its id."""
        key = self.ask()
        self.access("grace", "approve", key)
        for _ in range(100):
            if "open until" in self.access("ada", "status"):
                return key
            time.sleep(0.1)
        pytest.fail("the gate did not open")


@pytest.fixture(scope="module")
def idp() -> Iterator[Any]:
    running = start_dev_idp(PEOPLE)
    yield running
    running.stop()


def serve(directory: Path, idp: Any, *words: str, **other: str) -> Served:
    port = _free_port()
    env = {
        **{n: v for n, v in os.environ.items() if not n.startswith(("PG", "PORTCULLIS", "SLACK"))},
        "PORTCULLIS_POLICY": str(directory / "access.yaml"),
        "PORTCULLIS_DATA_DIR": str(directory / "data"),
        "PORTCULLIS_HTTP_PORT": str(port),
        "PORTCULLIS_GATE_PORT": "0",
        "PORTCULLIS_OIDC_ISSUER": idp.issuer,
        "PORTCULLIS_OIDC_CLIENT_ID": idp.client_id,
        "PORTCULLIS_OIDC_CLIENT_SECRET": idp.client_secret,
        **other,
    }
    process = subprocess.Popen(
        [*ACCESS, "serve", *words], env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("Serving:"):
            return Served(process, f"http://127.0.0.1:{port}", directory)
    pytest.fail(f"it did not serve: {''.join(said)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    try:
        served.process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        served.process.kill()
        served.process.communicate()
        raise


@pytest.fixture(scope="module")
def running(postgres: Any, tmp_path_factory: pytest.TempPathFactory, idp: Any) -> Iterator[Served]:
    """One house for the tests that only use it, with Ada, Grace and Sam logged in."""
    directory, database = tmp_path_factory.mktemp("house"), postgres.new_database(template="shop")
    write_policy(directory, database)
    house = serve(directory, idp, PORTCULLIS_GATE_CERTIFICATES="true")
    for person in ("ada", "grace", "sam"):
        house.access(person, "login")
    yield house
    end(house)
    postgres.drop(database)


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    """The house, and afterwards Ada holds nothing and waits for nothing."""
    yield running
    token = json.loads((running.directory / "home" / "ada" / "login.json").read_text())["token"]
    with httpx2.Client(
        base_url=running.url, headers={"Authorization": f"Bearer {token}"}, timeout=20
    ) as http:
        for story in http.get("/api/v1/me").json()["requests"]:
            verb = "cancel" if story["state"] == "pending" else "release" if story["grant"] else ""
            if verb:
                http.post(f"/api/v1/requests/{story['id']}/{verb}", json={})


def _names(certificate: bytes) -> str:
    it = x509.load_pem_x509_certificate(certificate)
    return str(it.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_the_story_at_the_terminal(served: Served) -> None:
    assert "You hold no grant" in served.access("ada", "whoami")
    key = served.open()
    home = served.directory / "home" / "ada"
    out = served.access("ada", "psql", "shop", "--", "-At", "-c", "select count(*) > 0 from users")
    assert (home / "gate-client.key").stat().st_mode & 0o777 == 0o600
    assert "portcullis://ada/" in _names((home / "gate-client.pem").read_bytes())
    assert out.strip() == "t"
    assert "ada" in served.access("grace", "who", "prod-db")
    listed = served.access("ada", "sessions", "list")
    session = re.search(r"S-\w+", listed)
    assert session
    replay = served.access("grace", "sessions", "replay", session[0])
    assert "select count(*) > 0 from users" in replay
    assert "chain verified" in replay
    assert "released" in served.access("ada", "release", "prod-db")
    assert "no live grant" in served.access("ada", "psql", "prod-db", code=1)
    assert key in served.access("ada", "why", key)


def test_a_session_is_watched_killed_and_found_at_the_terminal(served: Served) -> None:
    served.open()
    env = {**os.environ, **served.env("ada")}
    entered = subprocess.Popen(
        [*ACCESS, "psql", "prod-db", "--", "-At"], env=env, cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert entered.stdin
    entered.stdin.write("select 'first marker';\n")
    entered.stdin.flush()
    session = _open_session(served)
    watching = _start({**os.environ, **served.env("grace")}, "sessions", "watch", session, "--from-start")
    assert watching.stdout
    assert "select 'first marker'" in watching.stdout.readline() + watching.stdout.readline()
    entered.stdin.write("select 'second marker'; select pg_sleep(60);\n")
    entered.stdin.flush()
    seen = ""
    while "second marker" not in seen:
        line = watching.stdout.readline()
        assert line, "the watch ended before it told"
        seen += line
    served.access("bob", "login")
    assert "no such session" in served.access("bob", "sessions", "kill", session, code=1)
    assert "no such session" in served.access("bob", "sessions", "watch", session, code=1)
    began = time.monotonic()
    said = served.access("grace", "sessions", "kill", session, "--because", "wrong table")
    assert f"{session} of ada on prod-db is cut" in said
    _, err = entered.communicate(timeout=30)
    assert "this session was killed by grace: wrong table" in err
    assert time.monotonic() - began < 20, "not at the end of its sleep"
    watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert served.access("ada", "psql", "prod-db", "--", "-Atc", "select 'back in'").strip() == "back in"
    assert "over already" in served.access("grace", "sessions", "kill", session, code=1)

    found = served.access("grace", "statements", "--by", "ada", "--like", "SECOND marker", "--since", "1h")
    assert f"ada on prod-db as readonly  {session} #2" in found
    lines = served.access("sam", "statements", "--on", "shop", "--like", "marker", "--json").splitlines()
    assert {json.loads(line)["session_id"] for line in lines} == {session}
    assert "Nothing found" in _stderr(served, "bob", "statements", "--by", "ada")
    assert "do not go with list" in served.access("ada", "statements", "--by", "ada", "list", code=2)
    assert "neither a span nor an instant" in served.access("ada", "statements", "--since", "soon", code=2)


def _open_session(served: Served) -> str:
    for _ in range(200):
        listed = served.access("ada", "sessions", "list")
        if found := re.search(r"(S-\w+).* open ", listed):
            return found[1]
        time.sleep(0.1)
    pytest.fail("no session opened")


def _stderr(served: Served, person: str, *words: str) -> str:
    return run(*words, env=served.env(person)).stderr


def test_a_password_for_any_client_is_alone_on_standard_output(
    served: Served, run_psql: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    served.open()
    done = run("token", "prod-db", env=served.env("ada"))
    assert done.returncode == 0
    where = dict(pair.split("=", 1) for pair in done.stderr.splitlines()[0].split())
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    env = {names[name]: value for name, value in where.items() if name in names}
    env |= {
        "PGPASSWORD": done.stdout.strip(),
        "PGSSLMODE": where["sslmode"],
        "PGSSLROOTCERT": where["sslrootcert"],
    }
    assert run_psql(env, "select 1", "-At").stdout.strip() == "1"


def test_the_login_is_kept_where_only_its_owner_reads_it(served: Served) -> None:
    place = served.directory / "home" / "ada" / "login.json"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    place.chmod(0o644)
    assert "chmod 600" in served.access("ada", "whoami", code=3)
    place.chmod(0o600)


def test_logging_out_ends_the_login_at_the_broker_too(served: Served) -> None:
    served.access("bob", "login")
    place = served.directory / "home" / "bob" / "login.json"
    kept = place.read_text()
    served.access("bob", "logout")
    assert not place.exists()
    served.access("bob", "whoami", code=3)
    place.write_text(kept)
    place.chmod(0o600)
    assert "not logged in" in served.access("bob", "whoami", code=3)


async def test_a_login_without_a_browser_waits_for_its_code_to_be_confirmed(served: Served) -> None:
    env = {**os.environ, **served.env("bob")}
    process = _start(env, "login", "--no-browser")
    assert process.stdout
    said = process.stdout.readline() + process.stdout.readline()
    code = re.search(r"[0-9A-Z]{4}-[0-9A-Z]{4}", said)
    assert code, said
    browser = Browser()
    shown = await browser.log_in(served.url, "bob", f"/device?code={code[0]}")
    assert code[0] in shown.text
    done = await browser.press(csrf=csrf_of(shown.text), code=code[0], say="yes")
    assert "logged in as bob" in done.text
    out, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
    assert "Logged in as bob" in out
    assert "bob" in served.access("bob", "whoami")


def test_a_slip_is_answered_with_the_mended_line(served: Served) -> None:
    said = served.access("ada", "request", "prod-bd", "1h", "because", "INC-142", code=2)
    assert "Did you mean: access request prod-db 1h because INC-142" in said
    assert "hold no grant and wait for none" in served.access("ada", "status")


def test_refusals_say_why_and_what_to_do(served: Served) -> None:
    key = served.ask()
    said = served.access("ada", "approve", key, code=1)
    assert "cannot decide your own request" in said
    assert "anyone of dba" in said
    assert "no live grant" in served.access("grace", "psql", "prod-db", code=1)


def test_waiting_for_a_request_ends_when_the_gate_is_open(served: Served) -> None:
    env = {**os.environ, **served.env("ada")}
    words = ["request", "--wait", "prod-db", "1h", "because", "INC-142"]
    process = subprocess.Popen([*ACCESS, *words], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    key = re.search(r"R-\w+", process.stdout.readline())
    assert key
    served.access("grace", "approve", key[0])
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "access psql prod-db" in out


def test_waiting_for_a_request_that_is_denied_fails(served: Served) -> None:
    env = {**os.environ, **served.env("ada")}
    words = ["request", "--wait", "prod-db", "1h", "because", "INC-142"]
    process = subprocess.Popen(
        [*ACCESS, *words], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    key = re.search(r"R-\w+", process.stdout.readline())
    assert key
    served.access("grace", "deny", key[0], "because", "not now")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "denied: not now" in said


def test_the_password_is_in_no_argument_list(served: Served) -> None:
    served.open()
    process = subprocess.Popen(
        [*ACCESS, "psql", "prod-db", "--", "-At"],
        env={**os.environ, **served.env("ada")},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while b"psql" not in (argv := Path(f"/proc/{process.pid}/cmdline").read_bytes()).split(b"\0")[0]:
        assert process.poll() is None, "it ended before it was psql"
        assert time.monotonic() < until
        time.sleep(0.02)
    out, _ = process.communicate("select 'in'", timeout=60)  # psql waits for its input, so that it was there
    assert b"pce_" not in argv
    assert (process.returncode, out) == (0, "in\n")


def test_a_database_of_a_newer_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text("people: {}\ngroups: {}\nresources: {}\nrules: []\n")
    (tmp_path / "data").mkdir(mode=0o700)
    with sqlite3.connect(tmp_path / "data" / "portcullis.db") as database:
        database.execute("create table alembic_version (version_num varchar(32) primary key)")
        database.execute("insert into alembic_version values ('9999')")
    done = run(
        "serve", "--only", "broker",
        env={
            "PORTCULLIS_POLICY": str(tmp_path / "access.yaml"),
            "PORTCULLIS_DATA_DIR": str(tmp_path / "data"),
            "PORTCULLIS_HTTP_PORT": "0",
        },
    )  # fmt: skip
    assert done.returncode == 1
    assert "newer version" in done.stderr
    assert "backup" in done.stderr


# ------------------------------------------------------------- the trail


def verify(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    return run("audit", "verify", "--data-dir", str(served.data), *words, env={})


def test_the_trail_is_verified_without_a_broker_and_names_what_was_changed(
    shop: Any, tmp_path: Path, idp: Any
) -> None:
    write_policy(tmp_path, shop)
    served = serve(tmp_path, idp)
    for person in ("ada", "grace", "sam"):
        served.access(person, "login")
    served.open()
    served.access("ada", "psql", "prod-db", "--", "-c", "select 1")
    exported = served.access("sam", "audit", "export")
    assert "administrators" in served.access("ada", "audit", "export", code=1)
    served.access("ada", "release", "prod-db")
    end(served)
    good = verify(served)
    assert good.returncode == 0, good.stderr
    assert "holds" in good.stdout
    assert "0 anchors" not in good.stdout

    file = tmp_path / "trail.jsonl"
    file.write_text(exported)
    assert verify(served, "--export", str(file)).returncode == 1, "the witness knows of later entries"
    alone = run(
        "audit", "verify", "--data-dir", str(tmp_path), "--export", str(file),
        "--key", str(served.data / "audit.pub"), env={},
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr

    recording = next((served.data / "recordings").glob("*.jsonl"))
    kept = recording.read_text()
    recording.write_text(kept.replace("select 1", "select 2"))
    bad = verify(served)
    assert bad.returncode == 1
    assert re.search(r"at entry \d+: the recording of S-\w+", bad.stderr)
    recording.write_text(kept)
    what_is_gone_is_told(served, recording)
    assert verify(served).returncode == 0

    with sqlite3.connect(served.data / "portcullis.db") as database:
        seq = database.execute("select seq from audit where kind = 'approval.given'").fetchone()[0]
        database.execute("update audit set body = replace(body, 'grace', 'sam') where seq = ?", (seq,))
    bad = verify(served)
    assert bad.returncode == 1
    assert f"at entry {seq}: changed" in bad.stderr


def what_is_gone_is_told(served: Served, recording: Path) -> None:
    """A recording, all recordings with their directory, the witness: each is moved away and brought back."""
    aside = served.directory / "aside"
    for gone, words in (
        (recording, f"the recording of {recording.stem}"),
        (recording.parent, f"the recording of {recording.stem}"),
        (served.data / "audit-checkpoints.jsonl", "audit-checkpoints.jsonl"),
    ):
        gone.rename(aside)
        bad = verify(served)
        assert bad.returncode == 1, gone.name
        assert words in " ".join(bad.stderr.split()), gone.name
        if gone == recording.parent:
            assert verify(served, "--without-recordings").returncode == 0
        aside.rename(gone)


def test_a_trail_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run("audit", "verify", "--data-dir", str(tmp_path), env={})
    assert done.returncode == 1
    assert "cannot be checked" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------- check, explain


def test_a_bad_policy_is_told_with_line_and_column(shop: Any, tmp_path: Path) -> None:
    path = write_policy(tmp_path, shop)
    good = run("check", str(path), env={})
    assert "good (4 people, 1 resource, 1 rule)" in good.stdout
    assert not good.stderr
    (tmp_path / "admin.secret").rename(tmp_path / "elsewhere")
    away = run("check", str(path), env={})
    assert away.returncode == 0, "the secret need not be where the policy is checked"
    assert "prod-db: the file admin.secret cannot be read" in away.stderr
    path.write_text(path.read_text().replace("who: [engineers]", "who: [enginers]"))
    done = run("check", str(path), env={})
    assert done.returncode == 1
    assert re.search(r"access\.yaml:\d+:\d+: .*enginers.*engineers", done.stderr.replace("\n", " "))


def test_the_policy_is_explained_without_a_broker(shop: Any, tmp_path: Path) -> None:
    path = write_policy(tmp_path, shop)
    done = run("explain", "ada", "prod-db", "--policy", str(path), env={})
    assert "rule engineers-read-prod: yes, through engineers" in done.stdout
    assert run("explain", "nobody", "prod-db", "--policy", str(path), env={}).returncode == 1


# ----------------------------------------------------------------- serving


def test_serving_ends_cleanly_and_goes_on_where_it_was(shop: Any, tmp_path: Path, idp: Any) -> None:
    write_policy(tmp_path, shop)
    served = serve(tmp_path, idp, "--workers", "2")
    for person in ("ada", "grace"):
        served.access(person, "login")
    key = served.ask()
    served.process.send_signal(signal.SIGINT)
    served.process.communicate(timeout=60)
    assert served.process.returncode == 0
    again = serve(tmp_path, idp)
    again.access("ada", "login")
    assert key in again.access("ada", "status")
    end(again)
    assert again.process.returncode == 0


def test_killing_the_broker_takes_its_gate_workers_with_it(shop: Any, tmp_path: Path, idp: Any) -> None:
    write_policy(tmp_path, shop)
    served = serve(tmp_path, idp, "--workers", "2")
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(served.process.pid)], capture_output=True, text=True
    )
    children = [int(pid) for pid in listing.stdout.split()]
    assert len(children) == 2
    served.process.kill()
    served.process.communicate()
    until = time.monotonic() + 15
    while time.monotonic() < until and any(_alive(pid) for pid in children):
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in children)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PORTCULLIS_POLICY": "/nowhere/access.yaml"}, "/nowhere/access.yaml"),
        ({"PORTCULLIS_GATE_PORT": "many"}, "PORTCULLIS_GATE_PORT"),
        ({"PORTCULLIS_SEAL_KEY": "short"}, "seal key"),
        ({"PORTCULLIS_DATABASE_URL": "mysql://x"}, "sqlite or postgresql"),
    ],
    ids=str,
)
def test_what_keeps_it_from_serving_is_told_in_a_sentence(
    shop: Any, tmp_path: Path, env: dict[str, str], said: str
) -> None:
    write_policy(tmp_path, shop)
    base = {"PORTCULLIS_POLICY": str(tmp_path / "access.yaml"), "PORTCULLIS_DATA_DIR": str(tmp_path / "data")}
    done = run("serve", env={**base, "PORTCULLIS_HTTP_PORT": "0", "PORTCULLIS_GATE_PORT": "0", **env})
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    env = {"PORTCULLIS_HOME": str(tmp_path), "PORTCULLIS_BROKER": f"http://127.0.0.1:{_free_port()}"}
    done = run("login", "--no-browser", env=env)
    assert done.returncode == 4
    assert "does not answer" in done.stderr


def test_a_login_is_not_sent_over_a_network_in_the_clear(tmp_path: Path) -> None:
    login = {"broker": "http://broker.example.com", "principal": "ada", "token": "pcl_secret"}
    (tmp_path / "login.json").write_text(json.dumps(login))
    (tmp_path / "login.json").chmod(0o600)
    done = run("whoami", env={"PORTCULLIS_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "https" in done.stderr
    assert "pcl_secret" not in done.stderr + done.stdout


def test_words_that_the_shell_kept_together_stay_together() -> None:
    assert line_of("request", ["prod-db", "1h", "because", "INC-142"]) == "request prod-db 1h because INC-142"
    assert line_of("request", ["prod-db", "it is slow"]) == 'request prod-db "it is slow"'
    assert line_of("request", ["prod-db 1h because INC-142"]) == "request prod-db 1h because INC-142"
