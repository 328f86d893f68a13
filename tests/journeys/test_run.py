"""`./run`: what it prints works as it stands, it stops without a trace, and goes on where it was."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)  # a whole ./run, several times
Demo = Any  # tests/conftest.py, which tests cannot import


def children(pid: int) -> set[int]:
    """The processes below this one."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(path.parent.name)
            found |= {child} | children(child)
    return found


def test_what_it_prints_works_and_it_stops_and_goes_on(demo_folder: Path, run_demo: Any) -> None:
    start, stop = run_demo
    demo = start(demo_folder)
    assert max(map(len, demo.printed.split("With plain psql")[0].splitlines())) <= 80

    # The line to paste, as it was printed: refused before the grant, good after it.
    line = demo.printed[demo.printed.index("PGPASSWORD=") :].strip().replace(str(ROOT) + "/", "")
    query = f"{line} -Atc 'select name, email from users where id = 2'"
    refused = subprocess.run(["bash", "-c", query], cwd=ROOT, capture_output=True, text=True)
    assert "You hold no live grant" in refused.stderr
    demo.types("ada", "#general", "/access request prod-db 1h because INC-142")
    demo.presses("grace", "#dba-approvals", "Approve")
    demo.sees("ada", "@portcullis", "How to enter")
    answer = subprocess.run(["bash", "-c", query], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "Björn Abe|b***@***", answer.stderr

    # A second one in the same folder says that the first is there.
    second = subprocess.run(["./run", f"--data={demo_folder}"], cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 1
    assert f"running already (process {demo.process.pid}" in second.stderr

    # Ctrl-C: all of it goes.
    below = children(demo.process.pid)
    assert below, "PostgreSQL at least is below it"
    assert stop(demo.process) == 0
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]

    # And on again: the same grant, the same messages, the same rows.
    again = start(demo_folder)
    try:
        assert "INC-142" in str(again.sees("grace", "#dba-approvals", "INC-142"))
        line = again.printed[again.printed.index("PGPASSWORD=") :].strip()
        query = f"{line} -Atc 'select count(*) from orders'"
        answer = subprocess.run(["bash", "-c", query], cwd=ROOT, capture_output=True, text=True)
        assert answer.stdout.strip() == "5000", answer.stderr
    finally:
        # Killed without a chance to clean up, it leaves no PostgreSQL behind either.
        below = children(again.process.pid)
        again.process.send_signal(signal.SIGKILL)
        again.process.wait()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in below) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in below if _alive(pid)]


def test_a_port_that_is_taken_is_passed_over(tmp_path: Path, demo_folder: Path, run_demo: Any) -> None:
    start, stop = run_demo
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start(demo_folder.with_name("other"), f"--gate-port={port}", f"--slack-port={port}")
        try:
            gate = int(re.findall(r"host=localhost port=(\d+)", demo.printed)[0])
            assert gate != port
            assert demo.view("ada")["team"] == "Shop"
        finally:
            assert stop(demo.process) == 0


def test_a_policy_that_cannot_be_used_is_named_with_its_line(demo_folder: Path, run_demo: Any) -> None:
    start, _ = run_demo
    folder = demo_folder.with_name("broken")
    folder.mkdir()
    good = (ROOT / "cli" / "sample" / "access.yaml").read_text()
    (folder / "access.yaml").write_text(good.replace("who: [engineers]", "who: [enginers]", 1))
    with pytest.raises(pytest.fail.Exception, match=r"access\.yaml:\d+:\d+: .*enginers"):
        start(folder)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
