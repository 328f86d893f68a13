"""The weekly digest: posted once, to those who keep the policy, and silent about an empty week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bot import digest
from bot.digest import digest_card, last_week
from bot.sandbox import text_of
from bot.sandbox.block_kit_rules import check_message
from broker.statistics import Week

LONDON = ZoneInfo("Europe/London")
MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def test_a_week_goes_from_monday_to_monday_and_is_told_from_monday_morning_on() -> None:
    assert last_week(MONDAY - timedelta(minutes=1), LONDON) is None
    for later in (timedelta(), timedelta(days=6)):
        due = last_week(MONDAY + later, LONDON)
        assert due is not None
        since, until, name = due
        assert (since.date().isoformat(), until.date().isoformat()) == ("2026-11-16", "2026-11-23")
        assert name == "W-2026-47"


def test_the_card_asks_the_questions_that_the_figures_raise() -> None:
    week = Week(
        MONDAY - timedelta(days=7), MONDAY, 12, 9, 1, 1, 1, timedelta(minutes=7), timedelta(hours=2),
        3, 8, 5, 1, ("R-7K3F9Q",),
    )  # fmt: skip
    card = digest_card(week, "W-2026-47", "digest:0")
    assert check_message(card.blocks) == []
    said = str(card.blocks)
    for part in (
        "12 requests, 1 emergency",
        "7m at the median, 2h",
        "3 of 9 within 5s",
        "5 of 8",
        "R-7K3F9Q",
    ):
        assert part in said


async def test_it_is_posted_once_to_the_administrators(worlds) -> None:
    async with worlds() as world:
        await world.ask()
        weekday = world.clock.now().astimezone(LONDON).weekday()
        world.clock.advance(days=8 - weekday)  # Tuesday of the week after
        places = world.bot.courier._places
        for _ in range(3):
            await digest.post(world.service, places)
        found = [m for m in world.olive.messages("#security") if "The week in access" in text_of(m)]
        assert len(found) == 1
        assert all("The week in access" not in text_of(m) for m in world.grace.messages("#dba"))


async def test_an_empty_week_is_not_told(worlds) -> None:
    async with worlds() as world:
        await digest.post(world.service, world.bot.courier._places)
        assert world.olive.messages("#security") == []
