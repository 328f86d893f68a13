"""The clock: wakes at the next deadline, and by the sweep where a wake-up was lost. In real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from broker.clock import SystemClock
from broker.scheduler import Scheduler
from broker.service import Service
from workflows.access import Wish
from workflows.model import RequestState, Story

Make = Callable[..., Awaitable[Scheduler]]


class Hurried(SystemClock):
    """The real clock, put forward: so that a deadline of minutes is near."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def hurried(service: Service) -> Hurried:
    clock = Hurried()
    service.clock = clock
    return clock


@pytest.fixture
async def start(service: Service, hurried: Hurried) -> AsyncIterator[Make]:
    made: list[Scheduler] = []

    async def nothing() -> None:
        return None

    async def run(sweep_seconds: float = 60, sweep: Any = nothing, chores: Any = None) -> Scheduler:
        one = Scheduler(service, sweep_seconds=sweep_seconds, sweep=sweep, chores=chores or {})
        made.append(one)
        await one.start()
        return one

    yield run
    for one in made:
        await one.stop()


async def ask(service: Service) -> Story:
    story = await service.submit("ada", Wish("prod-db", reason="x"), via="api")
    assert isinstance(story, Story)
    return story


async def lapsed(service: Service, story: Story, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while (await service.story(story.request.id)) == story:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    after = await service.story(story.request.id)
    assert after is not None
    assert after.request.state is RequestState.LAPSED


async def test_it_wakes_at_the_deadline_without_waiting_for_the_sweep(
    service: Service, start: Make, hurried: Hurried
) -> None:
    hurried.ahead = -timedelta(hours=8) + timedelta(seconds=0.5)
    story = await ask(service)  # lapses in 8 hours, by a clock that is 8 hours behind but half a second
    hurried.ahead = timedelta()
    await start()
    await lapsed(service, story, 3)


async def test_a_deadline_set_while_it_runs_is_met_too(
    service: Service, start: Make, hurried: Hurried
) -> None:
    await start()
    hurried.ahead = -timedelta(hours=8) + timedelta(seconds=0.5)
    story = await ask(service)
    hurried.ahead = timedelta()
    await service.bus.publish("deadlines", story.request.id)
    await lapsed(service, story, 3)


async def test_what_fell_due_while_nobody_ran_is_ended_at_the_start(
    service: Service, start: Make, hurried: Hurried
) -> None:
    story = await ask(service)
    hurried.ahead = timedelta(days=3)
    await start()
    after = await service.story(story.request.id)
    assert after is not None
    assert after.request.state is RequestState.LAPSED


async def test_a_lost_wake_up_costs_no_more_than_a_sweep(
    service: Service, start: Make, hurried: Hurried
) -> None:
    await start(0.2)
    await service.bus.close()
    story = await ask(service)
    hurried.ahead = timedelta(hours=9)
    await lapsed(service, story, 3)


async def test_a_database_that_is_away_does_not_end_the_clock(
    service: Service, start: Make, hurried: Hurried, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = service.next_deadline

    async def away() -> None:
        raise SQLAlchemyError("away")

    monkeypatch.setattr(service, "next_deadline", away)
    await start(0.2)
    story = await ask(service)
    hurried.ahead = timedelta(hours=9)
    await asyncio.sleep(0.5)
    monkeypatch.setattr(service, "next_deadline", whole)
    await lapsed(service, story, 3)


async def test_chores_run_again_and_again_and_one_that_fails_harms_no_other(start: Make) -> None:
    done: list[str] = []

    async def fail() -> None:
        done.append("fail")
        raise RuntimeError("no")

    async def work() -> None:
        done.append("work")

    await start(0.1, chores={"fail": (0.1, fail), "work": (0.1, work)})
    async with asyncio.timeout(5):
        while done.count("fail") < 2 or done.count("work") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_stop_lets_what_runs_come_to_its_end(start: Make) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        began.set()
        await asyncio.sleep(0.3)
        ended.set()

    clock = await start(chores={"slow": (0.05, slow)})
    await asyncio.wait_for(began.wait(), 5)
    await clock.stop()
    assert ended.is_set()
