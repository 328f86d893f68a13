"""Following a recording while it is written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.recording import FileOperation, Statement, Tampered, file_line
from proxy.recording_tail import Tail
from tests.recordings_kit import Written, recorded

STARTED = datetime(2026, 11, 24, 10, tzinfo=UTC)


def open_(directory: Path, *statements: str) -> Written:
    return recorded(directory, "S-1", statements, started=STARTED, closed=False)


def all_of(tail: Tail) -> list[str]:
    """Everything that is there by now."""
    said = [it.text for it in tail.step() if isinstance(it, Statement)]
    while tail.behind:
        said += [it.text for it in tail.step() if isinstance(it, Statement)]
    return said


def test_from_now_on_nothing_is_told_of_what_was_before(tmp_path: Path) -> None:
    written = open_(tmp_path, *(f"select {n} {'x' * 5000}" for n in range(200)))  # some blocks
    tail = Tail(written.path, from_start=False)
    written.add("select new")
    assert all_of(tail) == ["select new"]
    assert all_of(tail) == []
    written.add("select newer")
    written.close("cut")
    assert all_of(tail) == ["select newer"]
    assert tail.ended
    assert tail.ended.reason == "cut"
    tail.close()


def test_what_is_done_with_files_is_told_as_it_is_done(tmp_path: Path) -> None:
    written = open_(tmp_path)
    tail = Tail(written.path, from_start=True)
    assert tail.step() == []
    put = FileOperation(1, 0.5, "write", "/srv/it.txt", "ok", size=12, sha256="ab")
    written.put(put)
    assert tail.step() == [put]
    assert file_line(put) == "write /srv/it.txt · 12 bytes · sha256 ab"
    tail.close()


def test_what_is_half_written_is_told_when_it_is_whole(tmp_path: Path) -> None:
    written = open_(tmp_path)
    before = written.path.read_bytes()
    written.add("select 1")
    after = written.path.read_bytes()
    for cut in range(len(before), len(after)):
        written.path.write_bytes(after[:cut])
        tail = Tail(written.path, from_start=False)
        with written.path.open("ab") as file:
            file.write(after[cut:])
        assert all_of(tail) == ["select 1"]
        tail.close()


def test_of_a_long_recording_a_step_holds_one_block(tmp_path: Path) -> None:
    written = open_(tmp_path, *(f"select {n} {'x' * 10_000}" for n in range(200)))
    tail = Tail(written.path, from_start=True)
    steps = []
    while tail.behind:
        steps.append(tail.step())
    assert [it.n for step in steps for it in step] == list(range(1, 201))
    assert max(sum(len(it.text) for it in step) for step in steps) < 300_000
    tail.close()


def test_one_that_ended_before_it_was_followed_has_ended(tmp_path: Path) -> None:
    written = recorded(tmp_path, "S-1", ["select 1"], started=STARTED)
    tail = Tail(written.path, from_start=False)
    assert all_of(tail) == []
    assert tail.ended
    tail.close()


@pytest.mark.parametrize("from_start", [True, False])
def test_what_does_not_fit_the_chain_is_not_told(tmp_path: Path, from_start: bool) -> None:
    written = open_(tmp_path, "select 1", "select 2")
    data = written.path.read_bytes()
    written.path.write_bytes(data.replace(b"select 1", b"select 9"))
    tail = Tail(written.path, from_start=from_start)
    with pytest.raises(Tampered):
        all_of(tail)
    tail.close()


def test_one_that_became_shorter_is_not_what_the_gate_wrote(tmp_path: Path) -> None:
    written = open_(tmp_path, "select 1")
    tail = Tail(written.path, from_start=True)
    all_of(tail)
    written.path.write_bytes(written.path.read_bytes()[:-10])
    with pytest.raises(Tampered, match="shorter"):
        tail.step()
    tail.close()
