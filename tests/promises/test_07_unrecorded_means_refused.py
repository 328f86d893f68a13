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
