"""Promise 7. Unrecorded means refused: what cannot be recorded stops, it does not go on so."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from proxy import recorder as recorder_module
from proxy.postgres import codec
from tests.proxy.conftest import House, gate_identity, house, open_house, server
from tests.proxy.wire_client import RawClient


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond `limit` bytes: write says EFBIG as a full disk says ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_when_the_disk_is_full_open_sessions_end_and_new_ones_are_refused(house: House) -> None:
    wire = await RawClient.enter(house)
    with full_disk(100):
        wire.send(codec.query(b"select 1"))
        said = await wire.until_cut()
        assert said[b"C"] == b"58030"
        assert b"nothing goes on unrecorded" in said[b"M"]
        with pytest.raises(psycopg.OperationalError, match="cannot be recorded"):
            await house.connect()
    await house.psql("select 1")


def _run(text: bytes) -> bytes:
    bound = codec.bind(codec.Bind(b"", b"", (), (), ()))
    return codec.parse(b"", text) + bound + codec.message(b"E", b"\0\0\0\0\0")


async def test_a_full_disk_ends_a_pipeline_in_the_middle_of_a_copy_and_nothing_of_it_stays(
    house: House,
) -> None:
    writer, reader = await RawClient.enter(house), await RawClient.enter(house)
    endless = b"copy (select repeat('x', 1000) from generate_series(1, 10000000)) to stdout"
    with full_disk(100):
        for wire, copy in ((writer, b"copy notes (body) from stdin"), (reader, endless)):
            wire.send(_run(b"insert into notes (body) values ('half')") + _run(copy) + codec.message(b"H"))
        writer.send(codec.message(b"d", b"half\n"))
        assert (await writer.until_cut())[b"C"] == b"58030"
        # What is on its way to a client that reads late may stand before the last word, which then is lost.
        assert (await reader.until_cut()).get(b"C", b"58030") == b"58030"
    assert house.server.ask("select count(*) from notes where body = 'half'") == [(0,)]


async def test_when_the_directory_is_removed_sessions_end(house: House) -> None:
    wire = await RawClient.enter(house)
    shutil.rmtree(house.gate.recorder.path("x").parent)
    wire.send(codec.query(b"select 1"))
    assert (await wire.until_cut())[b"C"] == b"58030"
    with pytest.raises(psycopg.OperationalError, match="cannot be recorded"):
        await house.connect()


async def test_when_the_disk_does_not_answer_sessions_end(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = await RawClient.enter(house)
    monkeypatch.setattr(recorder_module.os, "fdatasync", lambda _: time.sleep(4))
    wire.send(codec.query(b"select 1"))
    said = await wire.until_cut()
    assert said[b"C"] == b"58030"
    assert b"does not answer" in said[b"M"]
