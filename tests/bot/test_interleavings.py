"""Everybody presses everything, on two replicas, doubled and stale: at rest every card is as the database."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import pytest

from bot.sandbox import NotPossible
from tests.bot.world import sample_config, serving, urgent_config
from workflows.model import GrantState, RequestState
from workflows.quorum import eligible

ACTIONS = {
    "approve": 6, "less": 3, "claim": 3, "nudge": 2, "extend_short": 4, "extend_long": 2,
    "extension_approve": 6, "extension_deny": 1, "release": 0.3, "kill": 0.3, "revoke": 0.3, "deny": 0.3,
    "cancel": 0.3, "review": 1, "ask": 2,
}  # fmt: skip
"""How often each is pressed; what ends a story is rare, so that there is something to end."""
PEOPLE = ("ada", "grace", "linus", "mallory", "olive")


async def _presses(world, chance: random.Random, urls: list[str]) -> None:
    """One random person presses one random button, as good or as stale as it is, at one of the replicas."""
    world.sandbox.request_url = chance.choice(urls)
    who = getattr(world, chance.choice(PEOPLE))
    cards = [m for m in who.everything() if m.blocks and not m.ephemeral_for]
    if not cards:
        return
    card = chance.choice(cards)
    stories = await world.stories()
    story = stories[0]
    value = f"{story.request.id}:{chance.randint(1, story.version)}"
    (action,) = chance.choices(list(ACTIONS), list(ACTIONS.values()))
    value += ":900" if action.startswith("extend_") else ""
    if chance.random() < 0.2:
        world.sandbox.faults.duplicate("block_actions", copies=2)
    try:
        await who.clicks(card, action, force=True, value=value)
        if who.modal is not None and "submit" in who.modal.payload:
            await who.submits({"reason": "because of a dice"}, force=True)
    except (NotPossible, KeyError):
        pass
    while who.modal is not None:
        await who.closes(everything=True)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_pressed_in_whatever_order_the_cards_are_true_at_rest(worlds, seed) -> None:
    chance = random.Random(seed)
    config = urgent_config(needed=2) if seed % 2 else sample_config(needed=2)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(worlds(config=config, rate_limits=False))
        other = await stack.enter_async_context(world.another_bot())
        second = await stack.enter_async_context(serving(other))
        urls = [world.sandbox.request_url, second]
        await world.ask()
        for step in range(40):
            await _presses(world, chance, urls)
            if step % 8 == 7:
                await world.passes(minutes=chance.choice((1, 6, 20)))
            story = (await world.stories())[0]
            if story.grant is not None and story.grant.state is GrantState.MINTING:
                await world.login_ready(story)
                await world.service.confirm_hold(story.grant.id, "gate-1")
        await world.sandbox.settled()
        await world.at_rest()
        await _is_true(world)


async def _is_true(world) -> None:
    assert await world.bot.desk.ledger.behind() == []
    everyone = world.config.directory.everyone()
    for story in await world.stories():
        request = story.request
        yes = {a.approver for a in request.approvals if a.yes}
        assert len(yes) == sum(a.yes for a in request.approvals), "one person, one yes"
        if request.state is RequestState.APPROVED and request.emergency is None:
            assert len([name for name in yes if eligible(request, everyone[name], everyone)]) >= 2
        places = await world.bot.desk.ledger.of(request.id)
        cards = [place for kind, place in places.items() if kind.startswith("card:") or kind == "own"]
        assert cards
        for place in cards:
            message = world.sandbox.state.message(place.channel, place.ts)
            assert message is not None
            assert message.metadata["event_payload"]["version"] == story.version
    kinds = [entry.kind for entry in await world.trail() if entry.subject == request.id]
    assert kinds.count("request.approved") <= 1
    assert kinds.count("request.submitted") == 1
