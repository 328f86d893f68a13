"""A drill: everything of an emergency but the access, and nobody can take it for one."""

from __future__ import annotations

from bot.sandbox import text_of
from tests.bot.world import sample_config, urgent_config


def _says_open(world) -> bool:
    everything = [text_of(m) for who in (world.ada, world.grace, world.olive) for m in who.everything()]
    return any("🟢" in text or "psql" in text or "🚨" in text for text in everything)


async def test_a_drill_tells_everybody_opens_nothing_and_is_on_the_home_tab(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        home = await world.ada.opens_home()
        await world.ada.clicks(home, "Rehearse it")
        await world.ada.sees("Everybody is told; nothing is open", ephemeral=None)
        card = await world.grace.sees("DRILL – nothing is open, nobody has to act", channel="#dba")
        assert "In earnest it would be taken as on call for primary" in text_of(card)
        assert "The schedule primary answered." in text_of(card)
        assert world.grace.buttons(card) == ["Kill it (drill)"]
        await world.olive.sees("DRILL", channel="#security")
        await world.grace.sees("DRILL", channel="@portcullis")  # passed over, and told
        await world.gate_holds()
        await world.grace.sees("lets nobody in", thread=card)
        await world.at_rest_but_for_watching()
        assert not _says_open(world)
        await world.passes(minutes=2)
        card = await world.grace.sees_change(card, "the gate held it and let it fall")
        assert world.grace.buttons(card) == []
        assert not _says_open(world)
        home = await world.ada.opens_home()
        assert "the gate held it" in text_of(home)
        assert "to be reviewed" not in text_of(home)
        (over,) = [entry for entry in await world.trail() if entry.kind == "drill.finished"]
        assert '"gate_held":true' in over.body


async def test_an_approver_rehearses_the_kill(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        await world.ada.commands("/access drill")
        card = await world.grace.sees("DRILL", channel="#dba")
        await world.grace.clicks(card, "Kill it (drill)")
        await world.grace.sees_change(card, "ended by <@U0GRACE>")


async def test_who_could_not_in_earnest_cannot_rehearse(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        await world.mallory.commands("/access drill prod-db")
        await world.mallory.sees("not on call", ephemeral=True)
        assert await world.stories("mallory") == []
        assert await world.refused() == ["not-on-call"]


async def test_where_there_is_nothing_to_rehearse_nothing_hidden_is_named(worlds) -> None:
    async with worlds(config=sample_config()) as world:
        await world.ada.commands("/access drill vault-db")
        told = await world.ada.sees("There is no resource “vault-db”", ephemeral=True)
        await world.ada.commands("/access drill vxxxt-db")
        other = await world.ada.sees("There is no resource “vxxxt-db”", ephemeral=True)
        assert text_of(told).replace("vault-db", "…") == text_of(other).replace("vxxxt-db", "…")


async def test_the_home_tab_says_when_it_is_time_for_another(worlds) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        await world.ada.commands("/access drill prod-db")
        await world.grace.sees("DRILL", channel="#dba")
        await world.gate_holds()
        await world.passes(minutes=2)
        await world.passes(days=89)
        assert "long ago" not in text_of(await world.ada.opens_home())
        await world.passes(days=2)
        assert "long ago" in text_of(await world.ada.opens_home())
