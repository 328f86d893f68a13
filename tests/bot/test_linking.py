"""Linking in Slack: whoever is nobody yet gets the way to become somebody, and goes on where they were."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from bot.sandbox import Message, text_of
from broker.config import Config, SlackSettings
from broker.identity.directory import Person as Known
from broker.identity.kept import Keep
from broker.identity.links import Links
from broker.identity.web import WebSessions
from broker.store.links import SlackLink
from broker.store.tables import tokens
from tests.bot.world import TEAM, World, sample_config
from workflows.model import Principal, Refusal

UNA = Principal("una", "Una Linked", "unlinked@example.com", frozenset({"engineers"}))
LINE = "/access request prod-db 1h because INC-142"


def unlinked_config(**slack: bool) -> Config:
    """Una and Grace are people of the policy without a Slack account by the file."""
    config = sample_config()
    people = dict(config.directory.people) | {"una": Known(UNA, timezone="Europe/London")}
    people["grace"] = replace(people["grace"], slack="")
    directory = replace(config.directory, people=people)
    return replace(config, directory=directory, slack=SlackSettings(TEAM, **slack))


def url_of(message: Message) -> str:
    found = re.search(r"https://portcullis\.example\.com/link/([\w-]+)", str(message.blocks))
    assert found is not None, text_of(message)
    return found[1]


async def confirms(world: World, secret: str, person: str) -> SlackLink | Refusal:
    """What the page does after a login."""
    web = WebSessions(Keep(world.store, world.clock, world.service.chance))
    principal = world.service.principal(person)
    assert principal is not None
    return await Links(world.service).confirm(secret, await web.open(person), principal)


async def test_an_unlinked_person_is_shown_a_link_alone_and_goes_on_with_what_they_typed(worlds: Any) -> None:
    async with worlds(config=unlinked_config()) as world:
        await world.unlinked.commands(LINE)
        offer = await world.unlinked.sees("not linked to you yet", ephemeral=True)
        assert "request prod-db 1h because INC-142" in text_of(offer)
        others = [m for who in ("ada", "olive") for m in world.sandbox.as_user(who).everything()]
        assert not any("/link/" in str(message.blocks) for message in others)
        assert await world.stories("una") == []
        assert isinstance(await confirms(world, url_of(offer), "una"), SlackLink)
        told = await world.unlinked.sees("is now linked to una")
        await world.unlinked.clicks(told, "Go on with it")
        await world.until(lambda: _has_asked(world, "una"))
        assert (await world.stories("una"))[0].request.reason == "INC-142"


async def _has_asked(world: World, who: str) -> bool:
    return len(await world.stories(who)) == 1


async def test_a_press_of_somebody_unlinked_does_nothing_but_offer_the_link(worlds: Any) -> None:
    async with worlds(config=unlinked_config()) as world:
        card = await _card(world)
        await world.grace.clicks(card, "approve")
        offer = await world.grace.sees("not linked to you yet", ephemeral=True)
        assert (await world.stories("ada"))[0].request.approvals == ()
        assert "slack-unlinked" in await world.refused()
        assert isinstance(await confirms(world, url_of(offer), "grace"), SlackLink)
        await world.grace.clicks(card, "approve")
        await world.linus.sees_change(card, "opening the gate")
        assert (await world.stories("ada"))[0].request.approvals[0].approver == "grace"


@pytest.mark.parametrize("who", ["guest", "stranger", "robot", "gone"])
async def test_guests_strangers_bots_and_the_deactivated_are_offered_no_link(worlds: Any, who: str) -> None:
    async with worlds(config=unlinked_config()) as world:
        people = dict(world.config.directory.people)
        people[who] = replace(people[who], slack="")
        directory = replace(world.config.directory, people=people)
        world.current[0] = replace(world.config, directory=directory)
        card = await _card(world)
        await world.sandbox.as_user(who).clicks(card, "approve", force=True)
        await world.until(lambda: _refused(world))
        async with world.store.read() as tx:
            offers = select(func.count()).select_from(tokens).where(tokens.c.kind == "link")
            assert (await tx.execute(offers)).scalar() == 0


async def _refused(world: World) -> bool:
    return bool(await world.refused())


async def _card(world: World) -> Message:
    await world.ada.commands(LINE)
    return await world.linus.sees("INC-142", channel="#dba", ephemeral=False)


async def link(world: World) -> None:
    await world.unlinked.commands("/access link")
    offer = await world.unlinked.sees("not linked to you yet", ephemeral=True)
    assert "You typed" not in text_of(offer)
    assert isinstance(await confirms(world, url_of(offer), "una"), SlackLink)
    await world.unlinked.sees("is now linked to una")


async def test_the_link_is_shown_by_the_command_and_taken_away_by_another(worlds: Any) -> None:
    async with worlds(config=unlinked_config()) as world:
        await link(world)
        await world.unlinked.commands("/access link")
        await world.unlinked.sees("is linked to *Una Linked* (unlinked@example.com): you confirmed it")
        await world.unlinked.commands("/access unlink")
        await world.unlinked.sees("una is no longer linked", ephemeral=True)
        await world.unlinked.sees("no longer linked to una, because una took it away")
        await world.unlinked.commands("/access status")
        await world.until(lambda: _offers(world, 2))


async def _offers(world: World, number: int) -> bool:
    return sum("/link/" in str(m.blocks) for m in world.unlinked.ephemerals()) == number


async def test_an_administrator_takes_the_link_of_anybody_away_and_nobody_else_does(worlds: Any) -> None:
    async with worlds(config=unlinked_config()) as world:
        await link(world)
        await world.ada.commands("/access unlink @unlinked")
        await world.ada.sees("Only an administrator", ephemeral=True)
        assert await world.service.slack_user("una") == "U0UNLINKED"
        await world.olive.commands("/access unlink @unlinked")
        await world.olive.sees("una is no longer linked", ephemeral=True)
        assert await world.service.slack_user("una") is None


@pytest.mark.parametrize("change", [{"deleted": True}, {"email": "other@example.com"}])
async def test_an_account_that_is_deactivated_or_gets_another_address_is_unlinked(
    worlds: Any, change: dict[str, Any]
) -> None:
    async with worlds(config=unlinked_config()) as world:
        await link(world)
        world.sandbox.admin.changes_user("unlinked", **change)
        await world.sandbox.settled()
        await world.until(lambda: _unlinked(world))
        assert [e.subject for e in await world.trail() if e.kind == "slack.unlinked"] == ["una"]


async def _unlinked(world: World) -> bool:
    return await world.service.slack_user("una") is None


async def test_a_change_that_slack_never_told_of_is_seen_at_the_next_press(worlds: Any) -> None:
    async with worlds(config=unlinked_config()) as world:
        await link(world)
        world.sandbox.core.state.user_named("unlinked").email = "mallory@example.com"
        world.clock.advance(seconds=61)
        await world.unlinked.commands(LINE)
        await world.until(lambda: _offers(world, 2))
        assert await world.stories("una") == []


async def test_an_address_is_enough_where_the_policy_says_so_if_slack_confirmed_it(worlds: Any) -> None:
    async with worlds(config=unlinked_config(match_email=True)) as world:
        world.sandbox.core.state.user_named("unlinked").is_email_confirmed = False
        await world.unlinked.commands(LINE)
        await world.unlinked.sees("not linked to you yet", ephemeral=True)
        world.sandbox.core.state.user_named("unlinked").is_email_confirmed = True
        world.clock.advance(seconds=61)
        await world.unlinked.commands(LINE)
        await world.until(lambda: _has_asked(world, "una"))


async def test_the_home_tab_shows_how_one_is_linked_or_the_way_to_it(worlds: Any) -> None:
    async with worlds(config=unlinked_config()) as world:
        home = await world.unlinked.opens_home()
        assert "not linked to you yet" in text_of(home)
        await world.unlinked.clicks(home, "Link my account")
        offer = await world.unlinked.sees("not linked to you yet. Log in once")
        assert isinstance(await confirms(world, url_of(offer), "una"), SlackLink)
        home = await world.unlinked.opens_home()
        assert "linked to *Una Linked*" in text_of(home)
        home = await world.ada.opens_home()
        assert "by the policy file" in text_of(home)
