"""A press that wants a passkey: it decides nothing, and leads whoever pressed, and only them, to a page."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from bot.sandbox import Message, text_of
from broker.identity.kept import Keep
from broker.identity.passkeys import Ceremony
from broker.identity.step_up import StepUps
from broker.identity.web import WebSessions
from broker.store.passkeys import Passkey
from tests.bot.world import World, sample_config, urgent_config
from tests.soft_authenticator import SoftAuthenticator

URL = "https://portcullis.example.com"


def page_of(message: Message) -> str:
    found = re.search(rf"{URL}/decide/([\w-]+)", str(message.blocks))
    assert found is not None, text_of(message)
    return found[1]


async def decides(world: World, page: str, name: str) -> Any:
    """What the page does with a passkey that was just registered."""
    person, steps, device = world.service.principal(name), StepUps(world.service), SoftAuthenticator(URL)
    assert person is not None
    session = await WebSessions(Keep(world.store, world.clock, world.service.chance)).open(name)
    asked = await steps.passkeys.begin_registration(person, session)
    assert isinstance(asked, Ceremony)
    made = await steps.passkeys.register(person, session, asked.secret, device.create(asked.options), "Phone")
    assert isinstance(made, Passkey)
    asked = await steps.begin(page, session, person)
    assert isinstance(asked, Ceremony)
    return await steps.decide(page, asked.secret, device.get(asked.options), session, person)


async def test_approve_leads_to_a_page_and_the_card_follows_what_is_decided_there(worlds: Any) -> None:
    async with worlds(config=sample_config(rule={"step_up": True})) as world:
        world.service.public_url = URL
        card = await world.ask()
        assert "each with a passkey" in text_of(card)
        await world.grace.clicks(card, "approve")
        told = await world.grace.sees("needs your passkey", ephemeral=True)
        assert world.grace.buttons(told) == ["Decide with my passkey"]
        seen = [m for who in ("ada", "linus") for m in world.sandbox.as_user(who).everything()]
        assert not any("/decide/" in f"{m.text} {m.blocks}" for m in seen)
        assert (await world.story()).request.approvals == ()
        assert not isinstance(await decides(world, page_of(told), "grace"), tuple)
        await world.grace.sees_change(card, "opening the gate")
        await world.grace.sees("A passkey was added to your account")
        assert (await world.story()).request.approvals[0].proof.startswith("passkey K-")


async def test_a_typed_yes_is_led_there_too(worlds: Any) -> None:
    async with worlds(config=sample_config(rule={"step_up": True})) as world:
        world.service.public_url = URL
        await world.ask()
        story = await world.story()
        await world.grace.commands(f"/access approve {story.request.id}")
        told = await world.grace.sees("needs your passkey", ephemeral=True)
        assert f"{URL}/decide/" in text_of(told)
        assert (await world.story()).request.approvals == ()


async def test_breaking_the_glass_is_led_there_where_the_policy_says_so(worlds: Any) -> None:
    config = urgent_config()
    night = replace(config.policy.emergencies[0], step_up=True)
    strict = replace(config, policy=replace(config.policy, emergencies=(night,)))
    async with worlds(config=strict) as world:
        world.service.public_url = URL
        await world.ada.commands("/access break-glass prod-db because INC-142 checkout is down")
        await world.ada.sees_modal("What is broken")
        await world.ada.submits({})
        told = await world.ada.sees("needs your passkey")
        assert await world.stories("ada") == []
        await decides(world, page_of(told), "ada")
        await world.grace.sees("Emergency INC-142", channel="#dba")
