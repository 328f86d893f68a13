"""Recordings of a gate elsewhere are brought to the broker: all, once, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy import shipping
from proxy.recording import GENESIS
from proxy.shipping import SHIPPED, NotOurs, Shipment, Shipping
from tests.recordings_kit import Written, recorded

STARTED = datetime(2026, 11, 24, 10, tzinfo=UTC)


class Broker:
    """What a broker holds of recordings; it puts a piece only behind what it has."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.lose_answers = 0
        self.away = False
        self.others: set[str] = set()

    async def __call__(self, session: str, offset: int, piece: bytes) -> int:
        if self.away:
            raise ConnectionError("away")
        if session in self.others:
            raise NotOurs(session)
        have = self.held.get(session, b"")
        if offset == len(have):
            self.held[session] = have = have + piece
        if self.lose_answers:
            self.lose_answers -= 1
            raise ConnectionError("the answer was lost")
        return len(have)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def make(tmp_path: Path, broker: Broker) -> Callable[[], Shipping]:
    return lambda: Shipping(tmp_path, broker, lambda *_, **__: pytest.fail("it was logged"))


def open_(spool: Path, session: str = "S-1", *statements: str, closed: bool = False) -> Written:
    return recorded(spool, session, statements, started=STARTED, closed=closed)


async def test_the_broker_gets_what_is_written_in_pieces_and_as_it_comes(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "PIECE", 100)
    written = open_(tmp_path, "S-1", "select 1")
    it = Shipment("S-1", written.path)
    assert (it.entries, it.seal) == (0, GENESIS)
    for n in range(20):
        written.add(f"select {n} {'x' * n * 20}")
        await it.send_on(broker)
        assert broker.held["S-1"] == written.path.read_bytes()
        assert (it.entries, it.seal, it.whole) == (n + 3, written.head, False)
    written.close()
    await it.send_on(broker)
    assert (it.seal, it.whole) == (written.head, True)


async def test_what_was_lost_on_the_way_comes_once(tmp_path: Path, broker: Broker) -> None:
    written = open_(tmp_path, "S-1", "select 1")
    it = Shipment("S-1", written.path)
    broker.lose_answers = 1
    with pytest.raises(ConnectionError):
        await it.send_on(broker)
    assert it.entries == 0, "nobody said that it is held"
    written.add("select 2")
    await it.send_on(broker)
    assert broker.held["S-1"] == written.path.read_bytes()
    assert (it.entries, it.seal) == (3, written.head)


async def test_a_broker_that_lost_its_disk_gets_it_again(tmp_path: Path, broker: Broker) -> None:
    written = open_(tmp_path, "S-1", "select 1")
    it = Shipment("S-1", written.path)
    await it.send_on(broker)
    broker.held.clear()
    written.add("select 2")
    await it.send_on(broker)
    assert broker.held["S-1"] == written.path.read_bytes()
    assert it.seal == written.head


async def test_a_broker_on_the_same_disk_is_sent_nothing_new(tmp_path: Path) -> None:
    written = open_(tmp_path, "S-1", *(f"select {n}" for n in range(50)))

    async def same(_session: str, _offset: int, _piece: bytes) -> int:
        return written.path.stat().st_size

    it = Shipment("S-1", written.path)
    await it.send_on(same)
    assert it.seal == written.head


async def test_a_recording_that_is_held_whole_is_set_aside(
    tmp_path: Path, broker: Broker, make: Callable[[], Shipping]
) -> None:
    ships = make()
    written = open_(tmp_path, "S-1", "select 1")
    ships.begin("S-1")
    await ships.finish("S-1")
    assert ships.progress("S-1") == (2, written.head)
    assert written.path.exists(), "its session goes on"
    written.close()
    await asyncio.gather(ships.finish("S-1"), ships.finish("S-1"))
    assert not written.path.exists()
    assert (tmp_path / SHIPPED / "S-1.jsonl").read_bytes() == broker.held["S-1"]


async def test_what_an_earlier_run_left_behind_is_brought_at_the_next_start(
    tmp_path: Path, broker: Broker, make: Callable[[], Shipping]
) -> None:
    crashed = open_(tmp_path, "S-CRASHED", "select 1")
    closed = open_(tmp_path, "S-CLOSED", "select 1", closed=True)
    others = open_(tmp_path, "S-OTHER", "select 1")
    broker.others = {"S-OTHER"}
    before = {it.path.stem: it.path.read_bytes() for it in (crashed, closed)}
    broker.away = True
    running = asyncio.create_task(make().run())
    await asyncio.sleep(0.05)
    assert crashed.path.exists()
    broker.away = False
    async with asyncio.timeout(5):
        while crashed.path.exists() or closed.path.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert broker.held == before
    assert others.path.exists(), "another worker's, which shares the spool"


async def test_a_file_that_is_not_what_was_written_is_not_counted_as_held(
    tmp_path: Path, broker: Broker
) -> None:
    told: list[str] = []
    ships = Shipping(tmp_path, broker, lambda event, **_: told.append(event))
    written = open_(tmp_path, "S-1", "select 1", "select 2", closed=True)
    written.path.write_bytes(written.path.read_bytes().replace(b"select 2", b"select 3"))
    ships.begin("S-1")
    await ships.finish("S-1")
    assert told == ["a recording cannot be brought to the broker"]
    assert written.path.exists()
