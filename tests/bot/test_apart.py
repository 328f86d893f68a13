"""Separation in Slack: the card says it, and a press of somebody too near is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bot.sandbox import text_of
from broker.config import Config
from tests.bot.world import sample_config
from workflows.model import Quorum, Relation, RequestState

TEAM = Relation("team", ("engineers", "ops"))


def apart() -> Config:
    """grace is of ada's team."""
    config = sample_config(rule={"quorum": (Quorum("dba", apart=(TEAM,)),)})
    people = dict(config.directory.people)
    grace = people["grace"]
    groups = frozenset({"dba", "engineers"})
    people["grace"] = replace(grace, principal=replace(grace.principal, groups=groups))
    return replace(config, directory=replace(config.directory, people=people))


async def test_a_press_of_the_same_team_does_not_count_and_another_one_does(worlds: Any) -> None:
    async with worlds(config=apart()) as world:
        card = await world.ask()
        assert "0 of 1 Database approvers said yes, nobody of the same team" in text_of(card)
        await world.grace.clicks(card, "approve")
        told = await world.grace.sees("You share the team of ada", ephemeral=True)
        assert "except ada and whoever shares their team" in text_of(told)
        await world.grace.clicks(card, "deny")
        await world.until(lambda: _codes(world, ["too-near", "too-near"]))
        assert world.grace.modal is None
        story = await world.story()
        assert story.request.state is RequestState.PENDING
        assert story.request.approvals == ()
        assert await world.service.waiting_for("grace") == []
        await world.linus.clicks(card, "approve")
        card = await world.grace.sees_change(card, "opening the gate")
        await world.grace.clicks(card, "revoke")
        await world.grace.sees_modal("Revoke")
        await world.grace.submits({"reason": "ends it all the same"})
        await world.grace.sees_change(card, "Revoked by")


async def test_who_comes_into_the_team_while_it_waits_counts_no_more(worlds: Any) -> None:
    async with worlds(config=apart()) as world:
        card = await world.ask()
        world.regroup("linus", "dba", "engineers")
        await world.linus.clicks(card, "approve")
        await world.linus.sees("You share the team of ada", ephemeral=True)
        assert (await world.story()).request.approvals == ()


async def _codes(world: Any, codes: list[str]) -> bool:
    return bool(await world.refused() == codes)
