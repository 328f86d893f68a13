"""While nobody decides: the ladder, the nudge, the page, the second group, and nobody being there at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.sandbox import text_of
from broker.config import ScheduleSource
from tests.bot.world import sample_config
from workflows.access import Wish
from workflows.policy import Ladder, Step, StepKind

MINUTE = timedelta(minutes=1)
LADDER = Ladder(
    (
        Step(5 * MINUTE, StepKind.GROUP),
        Step(15 * MINUTE, StepKind.MENTION),
        Step(30 * MINUTE, StepKind.PAGE, "primary", wakes=True),
        Step(60 * MINUTE, StepKind.WIDEN, "security"),
    )
)


def laddered(on_call: tuple[str, ...] = ("linus",)):
    schedules = {"primary": ScheduleSource("static", people=on_call)} if on_call else {}
    return sample_config(rule={"ladder": LADDER}, schedules=schedules)


async def test_every_step_of_the_ladder_is_told_once_and_in_order(worlds) -> None:
    async with worlds(config=laddered()) as world:
        card = await world.ask()
        await world.passes(minutes=5)
        await world.grace.sees("Still waiting", thread=card)
        await world.passes(minutes=10)
        called = await world.grace.sees("Nobody has decided yet; it lapses", thread=card)
        assert "<!subteam^S0DBA>" in text_of(called)
        await world.passes(minutes=15)
        paged = await world.linus.sees("asks for", channel="@portcullis")
        assert "You are on call" in paged.text
        await world.grace.sees("whoever is on call for primary is told", thread=card)
        await world.passes(minutes=30)
        other = await world.olive.sees("asks for", channel="#security")
        await world.grace.sees("Security may decide as well", thread=card)
        await world.olive.clicks(other, "approve")
        await world.grace.sees_change(card, "opening the gate")
        paged = await world.linus.sees_change(paged, "opening the gate")
        await world.at_rest()
        steps = [m for m in world.grace.messages("#dba", thread=card) if text_of(m)[0] in "⏰📟↗<"]
        assert len(steps) == 4


async def test_whoever_is_paged_decides_from_the_page(worlds) -> None:
    async with worlds(config=laddered()) as world:
        card = await world.ask()
        await world.passes(minutes=30)
        paged = await world.linus.sees("asks for", channel="@portcullis")
        await world.linus.clicks(paged, "approve")
        await world.grace.sees_change(card, "opening the gate")


@pytest.mark.parametrize("on_call", [(), ("mallory",), ("ada",)])
async def test_where_nobody_on_call_could_decide_the_channel_is_called(worlds, on_call) -> None:
    async with worlds(config=laddered(on_call)) as world:
        card = await world.ask()
        await world.passes(minutes=30)
        await world.grace.sees("Nobody who could decide is on call", thread=card)
        assert [m for m in world.mallory.dms() if "asks for" in text_of(m)] == []


async def test_a_step_says_nothing_once_it_was_decided_while_slack_was_away(worlds) -> None:
    async with worlds(config=laddered()) as world:
        card = await world.ask()
        await world.at_rest()
        world.sandbox.faults.go_away()
        await world.passes(minutes=16)
        await world.service.approve((await world.story()).request.id, "grace", via="cli")
        world.sandbox.faults.come_back()
        await world.at_rest()
        said = " ".join(text_of(m) for m in world.grace.messages("#dba", thread=card)[1:])
        assert "waiting" not in said
        assert "Nobody has decided" not in said


async def test_a_claim_holds_the_ladder(worlds) -> None:
    async with worlds(config=laddered()) as world:
        card = await world.ask()
        await world.grace.clicks(card, "claim")
        card = await world.grace.sees_change(card, "is looking")
        await world.passes(minutes=6)
        await world.at_rest()
        assert all("Still waiting" not in text_of(m) for m in world.grace.messages("#dba", thread=card))


async def test_the_requester_nudges_and_waits_before_the_next(world) -> None:
    card = await world.ask()
    mine = await world.ada.sees("You ask for", channel="@portcullis")
    await world.ada.clicks(mine, "Nudge")
    await world.ada.sees("Nudge again in", ephemeral=True)
    world.clock.advance(minutes=16)
    await world.ada.clicks(mine, "nudge", force=True)
    await world.ada.sees("told once more", ephemeral=True)
    nudge = await world.grace.sees("asks once more", thread=card)
    assert "<!subteam^S0DBA>" in text_of(nudge)
    story = await world.story()
    value = f"{story.request.id}:{story.version}"
    await world.grace.clicks(card, "nudge", force=True, value=value)
    await world.grace.sees("Only ada, who asked", ephemeral=True)


async def test_where_nobody_can_decide_nothing_is_granted_and_the_administrators_are_told(worlds) -> None:
    async with worlds() as world:
        world.regroup("grace")
        world.regroup("linus")
        for name in ("guest", "robot", "stranger", "gone"):
            world.regroup(name)
        await world.ada.commands("/access request prod-db 1h because INC-142")
        told = await world.olive.sees("cannot be decided", channel="#security")
        assert "Database approvers" in text_of(told)
        mine = await world.ada.sees("Too few people of Database approvers", channel="@portcullis")
        assert "administrators are told" in text_of(mine)
        await world.at_rest()
        assert "approvers_missing" in [entry.kind for entry in await world.trail()]
        assert len([m for m in world.olive.messages("#security") if "cannot be decided" in text_of(m)]) == 1


async def test_the_administrators_hear_of_a_channel_that_cannot_be_used(worlds) -> None:
    config = sample_config()
    groups = {**config.policy.groups, "dba": replace(config.policy.groups["dba"], channel="C0NOWHERE")}
    config = replace(config, policy=replace(config.policy, groups=groups))
    async with worlds(config=config) as world:
        await world.ada.commands("/access request prod-db 1h because INC-142")
        await world.olive.sees("cannot be used (channel_not_found)", channel="#security")
        told = await world.grace.sees("asks for", channel="@portcullis")
        assert "Approve" in world.grace.buttons(told)


async def test_a_reminder_is_not_lost_where_slack_was_away_since_the_asking(worlds) -> None:
    async with worlds(config=laddered()) as world:
        world.sandbox.faults.go_away()
        asked = await world.service.submit("ada", Wish("prod-db", reason="INC-142"), via="cli")
        await world.passes(minutes=6)
        world.sandbox.faults.come_back()
        await world.at_rest()
        card = await world.grace.sees(asked.request.id, channel="#dba")
        await world.grace.sees("Still waiting", thread=card)


async def test_a_group_without_a_channel_is_reminded_in_its_members_direct_messages(worlds) -> None:
    config = laddered()
    groups = {**config.policy.groups, "dba": replace(config.policy.groups["dba"], channel="")}
    config = replace(config, policy=replace(config.policy, groups=groups))
    async with worlds(config=config) as world:
        await world.ada.commands("/access request prod-db 1h because INC-142")
        mine = await world.grace.sees("asks for", channel="@portcullis")
        await world.at_rest()
        await world.passes(minutes=5)
        await world.grace.sees("Still waiting", thread=mine)
