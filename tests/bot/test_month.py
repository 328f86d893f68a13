"""The monthly report on emergencies: posted once, to those who keep the policy, with what to ask about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bot import digest
from bot.month import is_worth_telling, last_month, month_card
from bot.sandbox import text_of
from bot.sandbox.block_kit_rules import check_message
from broker.emergency_figures import Month, Often, month
from tests.bot.world import urgent_config
from workflows.model import Verdict

LONDON = ZoneInfo("Europe/London")
SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=LONDON), datetime(2026, 11, 1, tzinfo=LONDON)


def test_a_month_is_told_from_the_first_of_the_next_in_the_morning_on() -> None:
    first = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
    assert last_month(first - timedelta(minutes=1), LONDON) is None
    for later in (timedelta(), timedelta(days=30)):
        due = last_month(first + later, LONDON)
        assert due is not None
        *spans, name = due
        assert [at.isoformat()[:10] for at in spans] == ["2026-01-01", "2026-02-01", "2026-03-01"]
        assert name == "M-2026-02"
    due = last_month(datetime(2026, 1, 15, 12, tzinfo=UTC), LONDON)
    assert due is not None
    assert due[3] == "M-2025-12"
    assert due[0].isoformat()[:10] == "2025-11-01"


def test_the_report_asks_what_the_figures_raise() -> None:
    often = (Often("prod-db", 3, timedelta(minutes=80)), Often("vault-db", 1))
    told = Month(SINCE, UNTIL, 4, 2, 44, 3, 2, 2, 1, 1, 0, often)
    card = month_card(told, "M-2026-10", "month:0")
    assert check_message(card.blocks) == []
    said = str(card.blocks)
    for part in (
        "4, after 2 in the month before",
        "4 of 48 that wanted in took it first (8 %), 3 people",
        "2 had asked before, and nobody had decided",
        "`prod-db` 3 times; a yes took 1h20m at the median: is that too slow?",
        "`vault-db` 1 time; nobody went the usual way: is there one?",
        "2 justified, 1 not, 1 not reviewed yet",
        "no drill: would it work?",
        "October 2026",
    ):
        assert part in said, said


def test_a_month_without_any_is_told_after_one_with_some_and_else_not() -> None:
    none = Month(SINCE, UNTIL)
    assert not is_worth_telling(none)
    assert is_worth_telling(Month(SINCE, UNTIL, before=3))
    assert "wanted in" not in str(month_card(Month(SINCE, UNTIL, before=3), "M", "month:0").blocks)


async def test_it_counts_what_was_broken_and_is_posted_once_to_the_administrators(worlds) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        start = world.clock.now()
        await world.ada.commands("/access drill prod-db")
        await world.grace.sees("DRILL", channel="#dba")
        await world.passes(minutes=2)
        card = await world.ask("request prod-db 1h because INC-142 checkout is down")
        await world.passes(minutes=20)
        mine = await world.ada.sees("You ask for", channel="@portcullis")
        await world.ada.clicks(mine, "emergency")
        await world.ada.sees_modal("What is broken")
        await world.ada.submits({})
        await world.grace.sees_change(card, "Emergency INC-142")
        usual = await world.ask("request prod-db 1h because INC-7 looking", who="mallory")
        await world.passes(minutes=6)
        await world.grace.clicks(usual, "approve")
        await world.grace.sees_change(usual, "opening")
        await world.gate_holds()
        await world.passes(minutes=31)
        mine = next(s for s in await world.stories() if s.request.emergency and not s.request.emergency.drill)
        await world.service.review_break_glass(mine.request.id, "olive", Verdict.JUSTIFIED, via="cli")
        end = world.clock.now() + timedelta(minutes=1)
        found = await month(world.store, start - timedelta(days=30), start, end)
        assert (found.emergencies, found.before, found.asked, found.people) == (1, 0, 1, 1)
        assert (found.waited, found.justified, found.unreviewed, found.drills) == (1, 1, 0, 1)
        assert found.most == (Often("prod-db", 1, timedelta(minutes=6)),)
        world.clock.advance(days=40 - world.clock.now().day)
        for _ in range(3):
            await digest.post(world.service, world.bot.courier._places)
        told = [m for m in world.olive.messages("#security") if "The month in emergencies" in text_of(m)]
        assert len(told) == 1
        assert "1, after 0 in the month before" in text_of(told[0])
        assert all("The month in emergencies" not in text_of(m) for m in world.grace.messages("#dba"))
