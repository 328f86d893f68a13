"""Looking for statements in one recording: what fits, and nothing of one that was changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.recording import GENESIS, Chain, Group, Statement, Tampered, entries, seal
from proxy.recording_search import Sought, search
from tests.recordings_kit import recorded

STARTED = datetime(2026, 11, 24, 10, tzinfo=UTC)


def texts(directory: Path, statements: list[Statement | str], most: int = 100, **sought: object) -> list[str]:
    written = recorded(directory, "S-1", statements, started=STARTED)
    try:
        found = search(written.path, Sought(**sought), most, written.head)  # type: ignore[arg-type]
        return [it.text for it in found.statements]
    finally:
        written.path.unlink()


def test_the_newest_that_fit_come_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    statements: list[Statement | str] = [f"delete {n}" if n % 2 else f"select {n}" for n in range(10)]
    assert texts(tmp_path, statements, like="DELETE", most=3) == ["delete 9", "delete 7", "delete 5"]
    assert texts(tmp_path, statements, like="DELETE", most=3, below=6) == ["delete 3", "delete 1"]


def test_what_was_refused_of_which_class_and_when(tmp_path: Path) -> None:
    def one(n: int, **more: object) -> Statement:
        return Statement(n, n * 60.0, f"s{n}", **{"outcome": "ok", **more})  # type: ignore[arg-type]

    statements: list[Statement | str] = [
        one(1),
        one(2, outcome="refused", verdict="destructive"),
        one(3, verdict="destructive"),
        one(4, outcome="error"),
    ]
    assert texts(tmp_path, statements, refused=True) == ["s2"]
    assert texts(tmp_path, statements, kind="destructive") == ["s3", "s2"]
    later = STARTED + timedelta(seconds=120)
    assert texts(tmp_path, statements, since=later) == ["s4", "s3", "s2"]
    assert texts(tmp_path, statements, until=later) == ["s1"]


@given(
    st.lists(st.text(max_size=12), max_size=6),
    st.text(max_size=3),
)
def test_a_part_of_the_text_is_found_whatever_characters_it_has(
    tmp_path_factory: pytest.TempPathFactory, found_in: list[str], like: str
) -> None:
    directory = tmp_path_factory.mktemp("found")
    lowered = like.encode().lower()
    right = [text for text in reversed(found_in) if lowered in text.encode().lower()]
    assert texts(directory, list(found_in), like=like) == right


def test_nothing_else_of_an_entry_counts_as_its_text(tmp_path: Path) -> None:
    plain = Statement(1, 1.0, "select 1", "ok", tag="DELETE 1", parameters=["delete"], message="delete")
    assert texts(tmp_path, [plain], like="delete") == []
    assert texts(tmp_path, [plain], like="kind") == []


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_recording_that_was_changed_is_found_and_not_shown(tmp_path: Path, line: int) -> None:
    written = recorded(tmp_path, "S-1", ["delete 1", "delete 2"], started=STARTED)
    lines = written.path.read_bytes().splitlines(keepends=True)
    lines[line * 2 - 2] = lines[line * 2 - 2].replace(b"1", b"2", 1)
    written.path.write_bytes(b"".join(lines))
    with pytest.raises(Tampered):
        search(written.path, Sought(like="delete"), 10)


def test_a_recording_whose_end_is_gone_is_found_by_the_brokers_hash(tmp_path: Path) -> None:
    written = recorded(tmp_path, "S-1", ["delete 1", "delete 2"], started=STARTED)
    lines = written.path.read_bytes().splitlines(keepends=True)
    written.path.write_bytes(b"".join(lines[:-4]))
    assert [it.text for it in search(written.path, Sought(), 10).statements] == ["delete 1"]
    with pytest.raises(Tampered, match="its end is missing"):
        search(written.path, Sought(), 10, written.head)


def _blocks(data: bytes, sizes: list[int]) -> list[bytes]:
    blocks, at = [], 0
    for size in sizes:
        blocks.append(data[at : at + size])
        at += size
    return [*blocks, data[at:]]


@given(
    st.lists(st.lists(st.text(max_size=20), min_size=1, max_size=4), max_size=5),
    st.lists(st.integers(1, 90), max_size=40),
)
def test_however_the_bytes_come_the_groups_are_the_same(groups: list[list[str]], sizes: list[int]) -> None:
    data, previous, right, line = b"", GENESIS, [], 1
    for texts_ in groups:
        lines = b"".join(msgspec.json.encode(Statement(1, 0.0, t, "ok")) + b"\n" for t in texts_)
        previous, sealed = seal(previous, lines)
        right.append(Group(line, lines, previous))
        data += lines + sealed
        line += len(texts_) + 1
    chain = Chain()
    found = [group for block in _blocks(data, sizes) for group in chain.feed(block)]
    assert found == right
    assert chain.rest == b""


@pytest.mark.parametrize("forged", [b'{"seal":"' + b"0" * 64 + b'"}\n', b'\n{"seal":""}\n'])
def test_a_seal_without_its_lines_is_found(tmp_path: Path, forged: bytes) -> None:
    written = recorded(tmp_path, "S-1", ["select 1"], started=STARTED)
    whole = written.path.read_bytes()
    for place in (forged + whole, whole + forged):
        written.path.write_bytes(place)
        with pytest.raises(Tampered):
            list(entries(written.path))


def test_the_header_of_another_place_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "S-1.jsonl"
    lines = msgspec.json.encode(Statement(1, 0.0, "select 1", "ok")) + b"\n"
    path.write_bytes(lines + seal(GENESIS, lines)[1])
    with pytest.raises(Tampered, match="header"):
        search(path, Sought(), 10)
