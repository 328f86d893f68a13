"""The recorder: everything appended is on disk in order, or the session does not go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import recorder as module
from proxy.postgres.pipeline import QueryStep
from proxy.postgres.reading import PASS
from proxy.recorder import Recorder, RecordingError, Track
from proxy.recording import Footer, Header, Tampered, read, render

HEADER = Header(
    "S-1", "ada", "G-1", "prod-db", "readonly", "192.0.2.7:5", "postgresql", "2026-11-24T10:00:00+00:00"
)


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    it = Recorder(tmp_path / "recordings", interval=0.005, filing=0.01, patience=0.3)
    it.start()
    yield it
    it.stop()


def step(text: bytes, tag: bytes = b"SELECT 1") -> QueryStep:
    it = QueryStep(text, PASS, 12.5, 10.0)
    it.tag, it.rows, it.took = tag, 1, 0.25
    return it


async def on_disk(track: Track, entries: int) -> None:
    for _ in range(5000):
        if track.progress[0] >= entries:
            return
        await asyncio.sleep(0.001)


async def record(recorder: Recorder, *texts: bytes) -> Path:
    track = await recorder.open(HEADER, print)
    for text in texts:
        track.append(step(text))
    await track.close(Footer(3.0, "client", "", len(texts), 0, len(texts)))
    assert track.progress == (len(texts) + 2, read(recorder.path("S-1")).head)
    return recorder.path("S-1")


async def test_what_was_appended_is_read_back_in_order(recorder: Recorder) -> None:
    texts = [f"select {n}".encode() for n in range(5000)]
    recording = read(await record(recorder, *texts))
    assert [s.text.encode() for s in recording.statements] == texts
    assert recording.header == HEADER
    assert recording.footer is not None
    assert recording.statements[0].at == 2.5


async def test_the_file_is_for_the_gates_user_only(recorder: Recorder) -> None:
    path = await record(recorder, b"select 1")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "attack",
    [
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [line.replace(b"select 0", b"select 9") for line in lines],
        lambda lines: [line for line in lines if b"seal" not in line or line is lines[-1]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines, lines[1]],
        lambda lines: lines[1:],
        lambda lines: [b"{}\n", *lines],
        lambda lines: [],
    ],
)
async def test_a_changed_recording_is_found(recorder: Recorder, attack: object) -> None:
    path = await record(recorder, *(f"select {n}".encode() for n in range(5)))
    path.write_bytes(b"".join(attack(path.read_bytes().splitlines(keepends=True))))  # type: ignore[operator]
    with pytest.raises(Tampered):
        read(path)


async def test_a_recording_cut_at_its_end_is_found_by_the_trails_hash(recorder: Recorder) -> None:
    path = await record(recorder, b"select 1", b"select 2")
    head = read(path).head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert read(path).footer is None
    with pytest.raises(Tampered, match="its end is missing"):
        read(path, head)


@pytest.mark.parametrize("lost", [1, 10, 100, 200, 250])
async def test_what_a_crash_cut_short_is_left_out_up_to_the_last_seal(recorder: Recorder, lost: int) -> None:
    track = await recorder.open(HEADER, print)
    track.append(step(b"select 1"))
    await on_disk(track, 2)
    track.append(step(b"select 2"))
    await track.close(Footer(3.0, "client", "", 2, 0, 2))
    path = recorder.path("S-1")
    path.write_bytes(path.read_bytes()[:-lost])
    recording = read(path)
    assert recording.footer is None
    assert [it.text for it in recording.statements] == ["select 1"]


async def test_a_long_statement_is_kept_by_its_beginning_and_hash(recorder: Recorder) -> None:
    (statement,) = read(await record(recorder, b"x" * 100_000)).statements
    assert len(statement.text) == module.TEXT_LIMIT
    assert statement.length == 100_000
    assert len(statement.sha256) == 64


async def test_a_replay_shows_who_what_and_how_it_went_and_no_control_characters(recorder: Recorder) -> None:
    lines = list(render(read(await record(recorder, b"select '\x1b[2J'", b"select\n  2"))))
    assert lines[0] == "Session S-1: ada on prod-db as readonly, grant G-1"
    assert "00:00:02.500  select '\\x1b[2J'" in lines
    assert any("SELECT 1 · 1 row · 250.0 ms" in line for line in lines)
    assert lines[-1] == "2 statements, 0 refused, 2 rows; chain verified"


async def test_a_session_id_cannot_leave_the_directory(recorder: Recorder) -> None:
    with pytest.raises(RecordingError):
        await recorder.open(Header("../x", "a", "g", "r", "r", "c", "p", "t"), print)


async def test_a_recording_is_never_written_over(recorder: Recorder) -> None:
    await record(recorder, b"select 1")
    with pytest.raises(RecordingError):
        await recorder.open(HEADER, print)


async def test_a_removed_file_fails_the_track(recorder: Recorder) -> None:
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    track = await recorder.open(HEADER, failed.set_result)
    recorder.path("S-1").unlink()
    track.append(step(b"select 1"))
    assert "removed" in await asyncio.wait_for(failed, 2)
    await track.close(Footer(1, "error", "", 1, 0, 0))


async def test_a_backlog_beyond_its_bound_fails_the_track(tmp_path: Path) -> None:
    it = Recorder(tmp_path, interval=5, backlog=1000)
    it.start()
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    track = await it.open(HEADER, failed.set_result)
    for _ in range(20):
        track.append(step(b"x" * 100))
    assert "as fast as" in await failed
    it.stop()


async def test_a_disk_that_does_not_answer_is_noticed(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = await recorder.open(HEADER, print)
    monkeypatch.setattr(module.os, "fdatasync", lambda _: time.sleep(1))
    track.append(step(b"select 1"))
    assert not recorder.stalled()
    await asyncio.sleep(0.5)
    assert recorder.stalled()
    await asyncio.sleep(0.7)
