"""After the fact: who ran what, who allowed it, and proof that nobody changed the story."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

Demo = Any  # tests/conftest.py, which tests cannot import
pytestmark = pytest.mark.timeout(300)


def test_what_ada_did_is_told_proved_and_any_change_is_named(demo: Demo) -> None:
    demo.types("ada", "#general", "/access request prod-db 1h because INC-142")
    demo.presses("grace", "#dba-approvals", "Approve")
    demo.sees("ada", "@portcullis", "How to enter")
    assert demo.shell("./access login").returncode == 0
    assert demo.shell("./access login", person="sam").returncode == 0

    ran = demo.shell("./access psql prod-db -- -Atc 'select name from users where id = 2'")
    assert ran.stdout.strip() == "Björn Abe", ran.stderr

    # Security ends it: the running query is cut, the next try refused.
    running = demo.spawn("./access psql prod-db", "select pg_sleep(120);\n")
    _until_open(demo)
    request = re.findall(r"R-\w+", demo.shell("./access status").stdout)[0]
    ended = demo.shell(f"./access revoke {request} because the incident is over", person="sam")
    assert ended.returncode == 0, ended.stderr
    said, _ = running.communicate(timeout=20)
    assert "the incident is over" in said
    refused = demo.shell("./access psql prod-db -- -c 'select 1'")
    assert refused.returncode == 1
    assert "no live grant" in refused.stderr

    # The recording tells it all, in Ada's name.
    recordings = sorted((demo.folder / "broker" / "recordings").rglob("*.jsonl"))
    replays = [
        demo.shell(f"./access sessions replay {path.stem}", person="sam").stdout for path in recordings
    ]
    told = "\n".join(replays)
    assert "ada on prod-db as readonly" in told
    assert "select name from users where id = 2" in told
    assert "select pg_sleep(120);" in told
    assert "chain verified" in told

    # The trail holds; after any change it says where not.
    good = demo.shell("./access audit verify", person="sam")
    assert good.returncode == 0, good.stdout + good.stderr
    _one_byte_of_a_recording(demo, next(p for p in recordings if b"select name" in p.read_bytes()))
    _one_byte_of_the_trail(demo)


def _one_byte_of_a_recording(demo: Demo, recording: Path) -> None:
    whole = recording.read_bytes()
    recording.chmod(0o600)
    recording.write_bytes(whole.replace(b"select name", b"select nope"))
    found = demo.shell("./access audit verify", person="sam")
    assert found.returncode == 1
    assert recording.stem in found.stdout + found.stderr
    recording.write_bytes(whole)
    assert demo.shell("./access audit verify", person="sam").returncode == 0


def _one_byte_of_the_trail(demo: Demo) -> None:
    database = sqlite3.connect(demo.folder / "broker" / "portcullis.db", timeout=20)
    kind = "request.approved"
    rows = database.execute("select seq, body from audit where kind like '%pproved%' order by seq").fetchall()
    assert rows, f"no {kind} in the trail"
    number, body = rows[-1]
    changed = body.replace("ada", "eve") if isinstance(body, str) else body.replace(b"ada", b"eve")
    assert changed != body
    for trigger, sql in database.execute(
        "select name, sql from sqlite_master where type = 'trigger'"
    ).fetchall():
        assert sql
        database.execute(f'drop trigger "{trigger}"')  # whoever owns the file can do that too
    database.execute("update audit set body = ? where seq = ?", (changed, number))
    database.commit()
    database.close()
    found = demo.shell("./access audit verify", person="sam")
    assert found.returncode == 1
    assert re.search(rf"\b{number}\b", found.stdout + found.stderr), found.stdout + found.stderr


def _until_open(demo: Demo) -> None:
    deadline = time.monotonic() + 30
    while "open" not in (listed := demo.shell("./access sessions list")).stdout:
        assert time.monotonic() < deadline, listed
        time.sleep(0.2)
    time.sleep(0.5)
