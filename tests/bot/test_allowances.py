"""Yeses in advance in Slack."""

from __future__ import annotations

from bot.sandbox import text_of
from tests.bot.world import sample_config

LINE = "/access allow <@U0ADA|ada> prod-db 2h within 5d because she is on release duty"


async def test_it_is_shown_to_who_decides_and_whom_it_is_for_and_used_when_they_ask(worlds) -> None:
    async with worlds() as world:
        await world.grace.commands(LINE)
        await world.grace.sees("your yes counts when they ask", ephemeral=True)
        told = await world.ada.sees("says yes in advance to `prod-db` for you", channel="@portcullis")
        assert "at most 2h at a time, once" in text_of(told)
        shown = await world.linus.sees("says yes in advance to `prod-db` for <@U0ADA>", channel="#dba")
        await world.ada.commands("/access request prod-db 1h because INC-142")
        card = await world.grace.sees("opening the gate", channel="#dba")
        await world.linus.sees_change(shown, "A yes in advance is used")
        story = await world.story()
        assert story.grant is not None
        assert story.request.approvals[0].approver == "grace"
        noted = await world.grace.sees("in advance (A-", thread=card)
        assert "release duty" in text_of(noted)


async def test_it_fills_one_seat_of_two(worlds) -> None:
    async with worlds(config=sample_config(needed=2)) as world:
        await world.grace.commands(LINE)
        await world.ada.sees("says yes in advance", channel="@portcullis")
        card = await world.ask()
        card = await world.linus.sees("1 of 2", channel="#dba")
        assert (await world.story()).grant is None
        await world.grace.clicks(card, "approve", force=True)
        await world.linus.clicks(card, "approve")
        await world.linus.sees_change(card, "opening the gate")


async def test_another_approver_takes_it_back(worlds) -> None:
    async with worlds() as world:
        await world.grace.commands(LINE)
        shown = await world.linus.sees("says yes in advance", channel="#dba")
        await world.mallory.clicks(shown, "Take it back")
        await world.mallory.sees("no such yes in advance", ephemeral=True)
        await world.linus.clicks(shown, "Take it back")
        await world.linus.sees_change(shown, "Taken back by <@U0LINUS>")
        card = await world.ask()
        assert "Approve" in world.grace.buttons(card)


async def test_it_is_listed_and_ended_by_a_line(worlds) -> None:
    async with worlds() as world:
        await world.grace.commands(LINE)
        await world.grace.sees("your yes counts", ephemeral=True)
        (one,) = await world.service.allowances_for("grace")
        for line in ("allow", "status"):
            await world.grace.commands(f"/access {line}")
            await world.grace.sees(one.id, ephemeral=True)
        await world.grace.commands(f"/access revoke {one.id}")
        await world.grace.sees(f"{one.id} is taken back", ephemeral=True)
        assert await world.service.allowances_for("grace") == []


async def test_who_decides_nothing_allows_nothing(worlds) -> None:
    async with worlds() as world:
        await world.mallory.commands(LINE)
        await world.mallory.sees("no approver of prod-db", ephemeral=True)
        assert await world.service.allowances_for("ada") == []
