"""Asking the schedules: anew for decisions, from a short memory for pages, and never anybody else's word."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from broker.config import Config, ScheduleSource
from broker.identity.directory import Person, StaticDirectory
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.roster import Roster
from workflows.break_glass import Duty, OnDuty
from workflows.model import Principal

CONFIG = Config(
    directory=StaticDirectory(
        {
            "olive": Person(Principal("olive", "Olive", "olive@example.com"), "U0OLIVE"),
            "grace": Person(Principal("grace", "Grace", "grace@example.com"), "U0GRACE"),
        }
    ),
    schedules={"primary": ScheduleSource("fake", "P1"), "backup": ScheduleSource("fake", "P2")},
)


class Fake:
    def __init__(self) -> None:
        self.says: dict[str, list[OnCall] | float | None] = {}
        self.asked: list[str] = []

    async def on_call(self, schedule: ScheduleSource, at: Any, http: Any) -> list[OnCall]:
        self.asked.append(schedule.id)
        answer = self.says.get(schedule.id)
        if answer is None:
            raise OnCallUnavailable("status 500")
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return []
        return answer


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
async def roster(fake: Fake, clock: Any) -> Any:
    one = Roster(clock, httpx2.AsyncClient(), sources={"fake": fake}, timeout=0.2)
    yield one
    await one.close()


async def test_people_are_known_by_their_address_and_by_nothing_looser(
    roster: Roster, fake: Fake, clock: Any
) -> None:
    fake.says["P1"] = [
        OnCall(email="OLIVE@EXAMPLE.COM"),
        OnCall(email="stranger@example.com", slack="U0GRACE"),
        OnCall(slack="U0GRACE", level=2),
        OnCall(slack="UNOBODY"),
        OnCall(),
        OnCall(email="olive"),
    ]
    assert await roster.on_duty(CONFIG, ["primary"]) == OnDuty(
        (Duty("primary", "olive", clock.now()), Duty("primary", "grace", clock.now(), level=2))
    )


async def test_one_source_that_is_away_takes_nothing_from_the_others(
    roster: Roster, fake: Fake, clock: Any
) -> None:
    fake.says["P2"] = [OnCall(email="grace@example.com")]
    found = await roster.on_duty(CONFIG, ["primary", "backup", "primary", "unknown"])
    assert found == OnDuty((Duty("backup", "grace", clock.now()),), away=("primary", "unknown"))
    assert sorted(fake.asked) == ["P1", "P2"]


async def test_decisions_ask_anew_and_pages_do_not(roster: Roster, fake: Fake, clock: Any) -> None:
    fake.says["P1"] = [OnCall(email="olive@example.com")]
    await roster.on_duty(CONFIG, ["primary"])
    clock.advance(seconds=59)
    fake.says["P1"] = []
    assert len((await roster.shown(CONFIG, "primary")).people) == 1
    assert await roster.on_duty(CONFIG, ["primary"]) == OnDuty()
    assert (await roster.shown(CONFIG, "primary")).people == ()


async def test_an_answer_stands_in_for_a_source_that_is_away_with_its_own_time_and_only_for_a_minute(
    roster: Roster, fake: Fake, clock: Any
) -> None:
    fake.says["P1"] = [OnCall(email="olive@example.com")]
    asked_at = clock.now()
    await roster.on_duty(CONFIG, ["primary"])
    fake.says.clear()
    clock.advance(seconds=60)
    assert await roster.on_duty(CONFIG, ["primary"]) == OnDuty((Duty("primary", "olive", asked_at),))
    clock.advance(seconds=1)
    assert await roster.on_duty(CONFIG, ["primary"]) == OnDuty(away=("primary",))
    with pytest.raises(OnCallUnavailable):
        await roster.shown(CONFIG, "primary")


async def test_a_clock_that_went_back_makes_no_answer_young_again(
    roster: Roster, fake: Fake, clock: Any
) -> None:
    fake.says["P1"] = [OnCall(email="olive@example.com")]
    await roster.on_duty(CONFIG, ["primary"])
    fake.says.clear()
    clock.at -= timedelta(hours=1)
    assert await roster.on_duty(CONFIG, ["primary"]) == OnDuty(away=("primary",))


async def test_a_source_that_is_slow_is_away(roster: Roster, fake: Fake) -> None:
    fake.says["P1"] = 5.0
    assert await roster.on_duty(CONFIG, ["primary"]) == OnDuty(away=("primary",))


async def test_another_schedule_of_the_same_name_starts_with_an_empty_memory(
    roster: Roster, fake: Fake, clock: Any
) -> None:
    fake.says["P1"] = [OnCall(email="olive@example.com")]
    await roster.on_duty(CONFIG, ["primary"])
    moved = Config(directory=CONFIG.directory, schedules={"primary": ScheduleSource("fake", "P9")})
    assert await roster.on_duty(moved, ["primary"]) == OnDuty(away=("primary",))


async def test_there_is_an_adapter_for_every_source_that_the_policy_file_knows() -> None:
    from typing import get_args

    from broker.oncall.sources import SOURCES
    from broker.policy_file.urgency_schema import ScheduleShape

    assert set(get_args(ScheduleShape.model_fields["source"].annotation)) == SOURCES.keys()
