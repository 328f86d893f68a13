"""Cancel requests between the workers of one gate."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from cli.gate_worker import Hub


class Worker:
    """What a hub needs of a gate: one key, whose cancel takes as long as it is told."""

    def __init__(self, key: tuple[int, bytes] | None) -> None:
        self.key = key
        self.passed = asyncio.Event()
        self.asked: list[tuple[int, bytes]] = []

    def cancel(self, pid: int, secret: bytes) -> asyncio.Task[Any] | None:
        self.asked.append((pid, secret))
        return asyncio.create_task(self.passed.wait()) if (pid, secret) == self.key else None


async def test_a_cancel_is_over_when_the_worker_with_the_key_has_passed_it_on(tmp_path: Path) -> None:
    hubs = [Hub(tmp_path, number) for number in range(3)]
    workers = [Worker(None), Worker((7, b"key")), Worker(None)]
    for hub, worker in zip(hubs, workers, strict=True):
        hub.listen(cast(Any, worker))
    try:
        sending = asyncio.create_task(hubs[0].send(7, b"key"))
        other = asyncio.create_task(hubs[0].send(7, b"no"))
        await asyncio.wait_for(other, 10)
        assert not sending.done()
        workers[1].passed.set()
        await asyncio.wait_for(sending, 10)
        assert [worker.asked for worker in workers] == [
            [],
            [(7, b"key"), (7, b"no")],
            [(7, b"key"), (7, b"no")],
        ]
    finally:
        for hub in hubs:
            hub.close()


async def test_a_worker_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    first, gone = Hub(tmp_path, 0), Hub(tmp_path, 1)
    first.listen(cast(Any, Worker(None)))
    gone._socket.close()
    try:
        await asyncio.wait_for(first.send(7, b"key"), 10)
    finally:
        first.close()


async def test_a_worker_that_says_nothing_holds_a_cancel_no_longer_than_its_caller(tmp_path: Path) -> None:
    first, silent = Hub(tmp_path, 0), Hub(tmp_path, 1)
    first.listen(cast(Any, Worker(None)))
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first.send(7, b"key"), 0.2)
        assert not first._asked
    finally:
        first.close()
        silent.close()
