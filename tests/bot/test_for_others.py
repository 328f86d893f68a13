"""Asking for somebody else in Slack: both are told, the one gets the way in, and either may end it."""

from __future__ import annotations

from bot.sandbox import text_of
from tests.bot.world import sample_config
from workflows.model import RequestState

LINE = "/access request prod-db 1h for <@U0ADA|ada> because INC-142 pairing"


def lead_config(**more):
    return sample_config(rule={"for_others": frozenset({"dba"})}, **more)


async def _asked(world):
    await world.grace.commands(LINE)
    told = await world.ada.sees("asks for `prod-db` for you", channel="@portcullis")
    return told, await world.grace.sees("for <@U0ADA>", channel="@portcullis")


async def test_whom_it_is_for_gets_the_way_in_and_who_asked_follows(worlds) -> None:
    async with worlds(config=lead_config()) as world:
        told, mine = await _asked(world)
        assert world.ada.buttons(told) == ["Add a comment…", "I do not want it"]
        card = await world.linus.sees("asks for `prod-db` for <@U0ADA>", channel="#dba")
        for who in (world.grace, world.ada):
            await who.clicks(card, "approve", force=True)
        await world.grace.sees("cannot decide your own request", ephemeral=True)
        await world.ada.sees("cannot decide a request for yourself", ephemeral=True)
        await world.linus.clicks(card, "approve")
        await world.gate_holds()
        told = await world.ada.sees_change(told, "access psql prod-db")
        assert "Release" in world.ada.buttons(told)
        mine = await world.grace.sees_change(mine, "<@U0ADA> has `prod-db`")
        assert "psql" not in text_of(mine), "the way in is not for who asked"
        assert world.grace.buttons(mine) == []
        story = (await world.stories())[0]
        assert (story.request.requester, story.grant.principal) == ("grace", "ada")
        await world.passes(minutes=51)
        warning = await world.ada.sees("open sessions are cut", channel="@portcullis")
        await world.ada.clicks(warning, "Release")
        await world.grace.sees_change(mine, "Given back")


async def test_whom_it_is_for_may_refuse_it(worlds) -> None:
    async with worlds(config=lead_config()) as world:
        told, mine = await _asked(world)
        card = await world.linus.sees("for <@U0ADA>", channel="#dba")
        await world.ada.clicks(told, "I do not want it")
        await world.linus.sees_change(card, "Refused by <@U0ADA>")
        mine = await world.grace.sees_change(mine, "Refused by <@U0ADA>")
        assert world.grace.buttons(mine) == ["Ask again"]
        assert (await world.stories())[0].request.state is RequestState.CANCELLED


async def test_who_may_not_is_told_and_nobody_is_disturbed(worlds) -> None:
    async with worlds() as world:
        await world.mallory.commands(LINE)
        await world.mallory.sees("only for yourself", ephemeral=True)
        assert await world.stories() == []
        assert await world.refused() == ["only-for-yourself"]


async def test_the_form_asks_for_whom_where_that_may_be_asked(worlds) -> None:
    async with worlds(config=lead_config()) as world:
        await world.grace.commands("/access")
        modal = await world.grace.sees_modal("For somebody else")
        modal = await world.grace.sees_modal("must say yes")
        await world.grace.selects(modal, "whom", "U0UNLINKED")
        modal = await world.grace.sees_modal("not linked to anybody")
        await world.grace.selects(modal, "whom", "U0ADA")
        modal = await world.grace.sees_modal("must say yes")
        await world.grace.submits({"reason": "INC-142", "typed": "2h from tomorrow 9:00"}, view=modal)
        told = await world.ada.sees("asks for `prod-db` for you", channel="@portcullis")
        assert "from <!date^" in text_of(told)
        await world.ada.commands("/access")
        await world.ada.sees_modal("must say yes")
        assert "For somebody else" not in text_of(world.ada.modal)
