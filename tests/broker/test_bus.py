"""Both buses: every subscriber hears every key from when it subscribed on; publishing never waits."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis

from broker.bus import GRANTS, OUTBOX, Bus
from broker.bus.in_process import MOST_WAITING, InProcessBus
from broker.bus.redis import RedisBus
from cli.embedded_postgres import free_port
from cli.unprivileged import die_with_parent


@pytest.fixture(params=["in process", "redis"])
def kind(request: pytest.FixtureRequest) -> Any:
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return None


@pytest.fixture
async def bus(kind: str | None) -> AsyncIterator[Bus]:
    made: Any = InProcessBus() if kind is None else RedisBus(kind)
    if kind is not None:
        await made.start()
    yield made
    await made.close()


async def heard(subscription: AsyncIterator[str], count: int, seconds: float = 5) -> list[str]:
    async with asyncio.timeout(seconds):
        return [await anext(subscription) for _ in range(count)]


async def test_every_subscriber_hears_every_key_in_its_order(bus: Bus) -> None:
    one, two = bus.subscribe(GRANTS), bus.subscribe(GRANTS)
    for n in range(50):
        await bus.publish(GRANTS, f"G-{n}")
    wanted = [f"G-{n}" for n in range(50)]
    assert await heard(one, 50) == wanted
    assert await heard(two, 50) == wanted


async def test_a_topic_hears_nothing_of_another(bus: Bus) -> None:
    grants, work = bus.subscribe(GRANTS), bus.subscribe(OUTBOX)
    await bus.publish(OUTBOX, "mint")
    await bus.publish(GRANTS, "G-1")
    assert await heard(grants, 1) == ["G-1"]
    assert await heard(work, 1) == ["mint"]


async def test_a_closed_bus_ends_its_subscriptions(bus: Bus) -> None:
    subscription = bus.subscribe(GRANTS)
    await bus.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(subscription), 5)


async def test_a_subscriber_that_does_not_listen_slows_nobody_and_loses_the_oldest() -> None:
    bus = InProcessBus()
    deaf = bus.subscribe(GRANTS)
    for n in range(MOST_WAITING + 5):
        await bus.publish(GRANTS, str(n))
    assert await anext(deaf) == "5"


async def test_two_processes_hear_each_other(redis_url: str) -> None:
    here, there = RedisBus(redis_url), RedisBus(redis_url)
    await here.start()
    await there.start()
    try:
        far, near = there.subscribe(GRANTS), here.subscribe(GRANTS)
        await here.publish(GRANTS, "G-1")
        assert await heard(far, 1, 1) == ["G-1"]
        assert await heard(near, 1, 1) == ["G-1"]
    finally:
        await here.close()
        await there.close()


async def test_what_was_said_before_one_joined_is_not_heard(redis_url: str) -> None:
    early = RedisBus(redis_url)
    await early.start()
    mine = early.subscribe(GRANTS)
    await early.publish(GRANTS, "G-old")
    await heard(mine, 1)
    late = RedisBus(redis_url)
    await late.start()
    subscription = late.subscribe(GRANTS)
    await early.publish(GRANTS, "G-new")
    assert await heard(subscription, 1) == ["G-new"]
    await early.close()
    await late.close()


async def test_a_quiet_bus_is_still_awake_after_the_time_out_of_the_client(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.bus.redis.BLOCK_SECONDS", 0.2)
    bus = RedisBus(redis_url)
    await bus.start()
    subscription = bus.subscribe(GRANTS)
    await asyncio.sleep(0.7)
    await bus.publish(GRANTS, "G-1")
    assert await heard(subscription, 1) == ["G-1"]
    await bus.close()


class OwnRedis:
    """A Redis that a test may kill and bring back at the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: install it (Debian: apt install redis-server)."
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [binary, *options],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        client = sync_redis.Redis(port=self.port)
        for _ in range(500):
            try:
                client.ping()
                return
            except sync_redis.ConnectionError:
                time.sleep(0.01)
        raise AssertionError("redis-server did not come up")

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def own_redis(tmp_path: Path) -> Any:
    server = OwnRedis(tmp_path)
    yield server
    server.kill()


async def test_the_bus_comes_back_after_redis_was_away_and_nothing_waited_for_it(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.bus.redis.AGAIN_SECONDS", 0.02)
    await asyncio.to_thread(own_redis.start)
    bus = RedisBus(f"redis://127.0.0.1:{own_redis.port}/0")
    await bus.start()
    subscription = bus.subscribe(GRANTS)
    await bus.publish(GRANTS, "G-1")
    assert await heard(subscription, 1) == ["G-1"]
    own_redis.kill()
    async with asyncio.timeout(0.5):
        await bus.publish(GRANTS, "G-2")
    await asyncio.to_thread(own_redis.start)
    assert await heard(subscription, 1, 10) == ["G-2"]
    await bus.publish(GRANTS, "G-3")
    assert await heard(subscription, 1, 10) == ["G-3"]
    await bus.close()


async def test_a_redis_that_is_not_there_at_the_start_is_said(tmp_path: Path) -> None:
    bus = RedisBus(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(ConnectionError, match="Redis cannot be reached"):
        await bus.start()
    await bus.close()
