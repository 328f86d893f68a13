"""The weekly digest: posted once, to those who keep the policy, and silent about an empty week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bot import digest
from bot.digest import digest_card, last_week, named_in
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
    quick, unused = ("R-1", "R-2", "R-3"), ("R-4", "R-5", "R-6", "R-7", "R-8")
    week = Week(
        MONDAY - timedelta(days=7), MONDAY, 12, 9, 1, 1, ("R-9",), timedelta(minutes=7), timedelta(hours=2),
        quick, 8, unused, 1, ("R-7K3F9Q",),
    )  # fmt: skip
    assert named_in(week) == ("R-1", "R-2", "R-3", "R-9", "R-4", "R-5", "R-6", "R-7K3F9Q")
    links = {"R-7K3F9Q": "https://x.slack.com/archives/C1/p1"}
    card = digest_card(week, "W-2026-47", "digest:0", links)
    assert check_message(card.blocks) == []
    said = str(card.blocks)
    for part in (
        "12 requests, 1 emergency",
        "7m at the median, 2h",
        "3 of 9 within 5s",
        "5 of 8 that ended were never used: could they be shorter? `R-4`, `R-5`, `R-6` and 2 more",
        "1 request lapsed unanswered: is somebody there? `R-9`",
        "<https://x.slack.com/archives/C1/p1|R-7K3F9Q>",
    ):
        assert part in said


async def test_it_is_posted_once_to_the_administrators(worlds) -> None:
    async with worlds() as world:
        weekday = world.clock.now().astimezone(LONDON).weekday()
        card = await world.ask()
        await world.passes(hours=9)
        await world.grace.sees_change(card, "Lapsed")
        world.clock.advance(days=8 - weekday)  # Tuesday of the week after
        places = world.bot.courier._places
        for _ in range(3):
            await digest.post(world.service, places)
        found = [m for m in world.olive.messages("#security") if "The week in access" in text_of(m)]
        assert len(found) == 1
        assert f"/archives/{card.channel}/p" in str(found[0].blocks), "what lapsed is linked to its card"
        assert all("The week in access" not in text_of(m) for m in world.grace.messages("#dba"))


async def test_an_empty_week_is_not_told(worlds) -> None:
    async with worlds() as world:
        await digest.post(world.service, world.bot.courier._places)
        assert world.olive.messages("#security") == []
