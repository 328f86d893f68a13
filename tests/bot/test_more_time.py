"""Living with access: the warning before its end, more time, and what is said at the end."""

from __future__ import annotations

from datetime import timedelta

from bot.sandbox import text_of
from tests.bot.world import sample_config
from workflows.model import ExtensionState

HOURS = timedelta(hours=1)


async def _open(world, line: str = "request prod-db 1h because INC-142"):
    card = await world.ask(line)
    await world.grace.clicks(card, "approve")
    await world.gate_holds()
    return await world.grace.sees_change(card, "🟢")


async def test_the_holder_is_warned_once_and_extends_with_an_approvers_yes(worlds) -> None:
    async with worlds() as world:
        card = await _open(world)
        await world.passes(minutes=51)
        warning = await world.ada.sees("ends", channel="@portcullis")
        warning = await world.ada.sees("open sessions are cut, in the middle", channel="@portcullis")
        assert world.ada.buttons(warning) == ["+15m", "+1h", "Release"]
        await world.passes(minutes=1)
        await world.at_rest()
        warnings = [m for m in world.ada.dms() if "in the middle of what they do" in text_of(m)]
        assert len(warnings) == 1

        before = (await world.story()).grant.expiry
        await world.ada.clicks(warning, "+1h")
        await world.ada.sees("approvers decide on more time", ephemeral=True)
        card = await world.grace.sees_change(card, "asks for 1h more")
        assert world.grace.buttons(card) == ["Allow 1h more", "No more time…", "Revoke…"]
        called = await world.grace.sees("asks for 1h more; it ends", thread=card)
        assert "<!subteam^S0DBA>" in text_of(called)
        await world.ada.clicks(card, "extension_approve", force=True)
        await world.ada.sees("cannot decide your own request", ephemeral=True)
        await world.grace.clicks(card, "extension_approve")
        card = await world.grace.sees_change(card, "🟢")
        story = await world.story()
        assert story.grant.expiry == before + HOURS
        await world.grace.sees("said yes to more time", thread=card)
        await world.ada.sees_change(warning, "now ends")
        assert world.ada.buttons(world.ada.now(warning)) == []


async def test_more_time_is_given_at_once_where_the_rule_gives_it_freely(worlds) -> None:
    config = sample_config(rule={"extend_freely": timedelta(minutes=15)})
    async with worlds(config=config) as world:
        card = await _open(world)
        mine = await world.ada.sees("access psql", channel="@portcullis")
        await world.ada.clicks(mine, "+15m")
        await world.ada.sees("is open until", ephemeral=True)
        await world.grace.sees("15m more, as the rule gives without asking", thread=card)
        assert (await world.story()).request.extensions[0].state is ExtensionState.GRANTED


async def test_a_no_to_more_time_leaves_the_access_as_it_was(worlds) -> None:
    async with worlds() as world:
        card = await _open(world)
        mine = await world.ada.sees("access psql", channel="@portcullis")
        await world.ada.clicks(mine, "+15m")
        card = await world.grace.sees_change(card, "asks for 15m more")
        await world.grace.clicks(card, "extension_deny")
        await world.grace.sees_modal("No more time")
        await world.grace.submits({"reason": "use the replica"})
        await world.ada.sees("said no to more time", channel="@portcullis")
        card = await world.grace.sees_change(card, "🟢")
        assert world.grace.buttons(card) == ["Revoke…"]


async def test_no_more_time_is_offered_than_the_rule_leaves_room_for(worlds) -> None:
    async with worlds() as world:
        await _open(world, "request prod-db 3h30 because INC-142")
        mine = await world.ada.sees("access psql", channel="@portcullis")
        assert world.ada.buttons(mine) == ["Show a one-time login", "+15m", "Release"]


async def test_a_tampered_span_is_held_against_the_rule(worlds) -> None:
    async with worlds() as world:
        await _open(world)
        mine = await world.ada.sees("access psql", channel="@portcullis")
        story = await world.story()
        value = f"{story.request.id}:{story.version}:9999999"
        await world.ada.clicks(mine, "extend_short", force=True, value=value)
        await world.ada.sees("lasts at most 4h in all", ephemeral=True)
        assert (await world.story()).request.extensions == ()


async def test_the_warning_says_so_once_the_access_has_ended(worlds) -> None:
    async with worlds() as world:
        await _open(world)
        await world.passes(minutes=51)
        warning = await world.ada.sees("in the middle of what they do", channel="@portcullis")
        await world.ada.clicks(warning, "Release")
        warning = await world.ada.sees_change(warning, "has ended")
        assert world.ada.buttons(warning) == ["Ask again"]


async def test_the_card_says_at_the_end_what_was_done_and_how_to_see_it(worlds) -> None:
    async with worlds() as world:
        card = await _open(world)
        await world.session("S-BBBBBBBB", statements=2, refused=0, rows=1)
        await world.passes(hours=1)
        card = await world.grace.sees_change(card, "1 session, 2 statements, 1 row")
        assert "/sessions/S-BBBBBBBB|Replay S-BBBBBBBB>" in text_of(card)
        mine = await world.ada.sees("2 statements", channel="@portcullis")
        assert world.ada.buttons(mine) == ["Ask again"]
