"""Who may not act is told so, and who can; and it stands in the trail."""

from __future__ import annotations

import asyncio

import pytest

from bot.sandbox import text_of
from workflows.model import RequestState


async def test_the_requesters_own_press_is_refused_with_who_can(world) -> None:
    card = await world.ask()
    await world.ada.clicks(card, "approve")
    told = await world.ada.sees("cannot decide your own request", ephemeral=True)
    assert "anyone of dba, except ada" in text_of(told)
    await world.ada.clicks(card, "deny")
    await world.until(lambda: _refusals(world, 2))
    assert world.ada.modal is None
    assert (await world.story()).request.approvals == ()
    assert await world.refused() == ["own-request", "own-request"]


async def test_somebody_outside_the_group_is_refused(world) -> None:
    card = await world.ask()
    await world.mallory.clicks(card, "approve")
    await world.mallory.sees("not an approver", ephemeral=True)
    assert (await world.story()).request.approvals == ()


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("guest", "slack-guest"),
        ("stranger", "wrong-workspace"),
        ("robot", "slack-bot"),
        ("unlinked", "slack-unlinked"),
    ],
)
async def test_guests_strangers_bots_and_unlinked_accounts_are_refused(http_world, who, code) -> None:
    world = http_world
    card = await world.ask()
    user = world.sandbox.as_user(who)
    await user.clicks(card, "approve", force=True)
    await user.sees("🔗" if who == "unlinked" else "⛔", ephemeral=True)
    assert await world.refused() == [code]
    await user.commands("/access request prod-db 1h because x")
    await world.until(lambda: _refusals(world, 2))
    assert (await world.story()).request.approvals == ()
    assert await world.stories(who) == []


async def test_a_deactivated_account_is_refused_even_when_its_press_arrives(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.gone.clicks(card, "approve", force=True)
    await world.until(lambda: _refusals(world, 1))
    assert await world.refused() == ["slack-deactivated"]


async def test_an_account_that_is_deactivated_loses_its_say_at_once(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.grace.commands("/access status")
    await world.grace.sees("Waiting for you", ephemeral=True)
    world.sandbox.admin.changes_user("grace", deleted=True)
    await world.sandbox.settled()
    await world.grace.clicks(card, "approve", force=True)
    await world.until(lambda: _refusals(world, 1))
    assert await world.refused() == ["slack-deactivated"]


async def test_when_slack_does_not_say_who_it_is_nothing_is_done(http_world) -> None:
    world = http_world
    card = await world.ask()
    world.sandbox.faults.fail("users.info", times=5)
    await world.grace.clicks(card, "approve")
    await world.grace.sees("Slack did not say who you are", ephemeral=True)
    assert (await world.story()).request.state is RequestState.PENDING


async def test_two_approvers_at_once_make_one_transition_and_one_grant(world) -> None:
    card = await world.ask()
    await asyncio.gather(world.grace.clicks(card, "approve"), world.linus.clicks(card, "approve"))
    await world.grace.sees_change(card, "opening the gate")
    await world.until(lambda: _refusals(world, 1))
    story = await world.story()
    assert story.version == 3  # submitted, one yes, approved
    assert story.grant is not None
    kinds = [entry.kind for entry in await world.trail()]
    assert len([kind for kind in kinds if "approved" in kind]) == 1
    assert await world.refused() == ["already-decided"]


async def test_a_quorum_of_two_needs_two_people_and_the_card_counts_them(worlds, configured) -> None:
    async with worlds(config=configured(needed=2)) as world:
        card = await world.ask()
        await world.grace.clicks(card, "approve")
        card = await world.grace.sees_change(card, "1 of 2")
        await world.grace.clicks(card, "approve")
        assert (await world.story()).grant is None
        await world.linus.clicks(card, "approve")
        await world.grace.sees_change(card, "opening the gate")


async def _refusals(world, number: int) -> bool:
    return len(await world.refused()) == number
