"""The journal: what a crash kept from the recordings is brought back, byte for byte, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import recorder as recorder_module
from proxy.journal import SUFFIX, Journal, Piece, recover
from proxy.recorder import Recorder
from proxy.recording import Header, read
from tests.proxy.test_recorder import on_disk, step

HEADER = Header(
    "S-1", "ada", "G-1", "prod-db", "readonly", "192.0.2.7:5", "postgresql", "2026-11-24T10:00:00+00:00"
)
KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from proxy.postgres.pipeline import QueryStep
from proxy.postgres.reading import PASS
from proxy.recorder import Recorder
from proxy.recording import Header

async def main():
    recorder = Recorder(Path(sys.argv[1]), interval=0.001, filing=3600)
    recorder.start()
    taken, append = [], recorder._journal.append
    def told(pieces):
        append(pieces)
        taken.append(len(pieces))
        print(len(taken), flush=True)
    recorder._journal.append = told
    for name in ("S-1", "S-2"):
        header = Header(name, "ada", "G-1", "prod-db", "readonly", "192.0.2.7:5", "postgresql", "2026-11-24")
        track = await recorder.open(header, print)
        for n in range(100):
            track.append(QueryStep(b"select %d" % n, PASS, 0.0, 0.0))
            if n == 50:
                await asyncio.sleep(0.05)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The recordings of a process that was killed when both of its sessions were on disk, in the journal."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline().strip() != "3":
                assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
    return tmp_path


def test_what_a_killed_gate_had_in_its_journal_only_is_in_the_recordings_after_the_next_start(
    killed: Path,
) -> None:
    assert read(killed / "S-1.jsonl").statements == ()
    recover(killed)
    texts = [f"select {n}" for n in range(100)]
    assert [it.text for it in read(killed / "S-1.jsonl").statements] == texts
    assert [it.text for it in read(killed / "S-2.jsonl").statements] == texts[
        : len(read(killed / "S-2.jsonl").statements)
    ]
    assert len(read(killed / "S-2.jsonl").statements) >= 51
    assert list(killed.glob(f"*{SUFFIX}")) == []


def test_recovering_twice_changes_nothing(killed: Path) -> None:
    (journal,) = killed.glob(f"*{SUFFIX}")
    kept = journal.read_bytes()
    recover(killed)
    before = (killed / "S-1.jsonl").read_bytes()
    journal.write_bytes(kept)
    recover(killed)
    assert (killed / "S-1.jsonl").read_bytes() == before


def test_a_recording_that_was_cut_before_its_journal_begins_stays_cut(killed: Path) -> None:
    """Else the hole would be filled with zeros; the trail tells of the cut."""
    path = killed / "S-1.jsonl"
    path.write_bytes(path.read_bytes()[:10])
    recover(killed)
    assert len(path.read_bytes()) == 10


def test_a_recording_that_was_removed_does_not_come_back_in_part(killed: Path) -> None:
    (killed / "S-1.jsonl").unlink()
    recover(killed)
    assert not (killed / "S-1.jsonl").exists()


def test_a_journal_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    below = tmp_path / "recordings"
    below.mkdir()
    (tmp_path / "other.jsonl").write_bytes(b"")
    journal = Journal(below)
    journal.append([Piece("../other", 0, b"x")])
    os.close(journal._descriptor)
    recover(below)
    assert (tmp_path / "other.jsonl").read_bytes() == b""


def test_the_journal_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "S-1.jsonl").write_bytes(b"")
    journal.append([Piece("S-1", 0, b"x")])
    recover(tmp_path)
    assert (tmp_path / "S-1.jsonl").read_bytes() == b""
    journal.close()
    assert list(tmp_path.glob(f"*{SUFFIX}")) == []


@given(data=st.lists(st.binary(max_size=40), min_size=1, max_size=6), torn=st.integers(0, 200))
def test_a_journal_torn_anywhere_gives_back_its_whole_blocks_and_no_more(
    data: list[bytes], torn: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    journal = Journal(directory)
    (directory / "S-1.jsonl").write_bytes(b"")
    ends, offset = [0], 0
    for piece in data:
        journal.append([Piece("S-1", offset, piece)])
        offset += len(piece)
        ends.append(journal.size)
    os.close(journal._descriptor)
    (path,) = directory.glob(f"*{SUFFIX}")
    path.write_bytes(path.read_bytes()[: max(0, ends[-1] - torn)])
    whole = sum(end <= max(0, ends[-1] - torn) for end in ends) - 1
    recover(directory)
    assert (directory / "S-1.jsonl").read_bytes() == b"".join(data[:whole])


async def test_a_long_journal_begins_anew_and_its_recordings_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "JOURNAL_LIMIT", 2000)
    recorder = Recorder(tmp_path, interval=0.001, filing=0.005)
    recorder.start()
    track = await recorder.open(HEADER, print)
    for n in range(200):
        track.append(step(f"select {n}".encode()))
        if n % 20 == 0:
            await on_disk(track, n)
    await on_disk(track, 201)
    assert sum(path.stat().st_size for path in tmp_path.glob(f"*{SUFFIX}")) < 4000
    assert len(read(tmp_path / "S-1.jsonl").statements) == 200
    recorder.stop()
