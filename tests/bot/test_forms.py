"""The modal: opened at once, filled when it is known who asks, kept when something is wrong."""

from __future__ import annotations

import html
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.sandbox import text_of
from workflows.model import Resource


async def test_access_alone_opens_the_form_and_asking_through_it_makes_the_same_request(world) -> None:
    delivery = await world.ada.commands("/access")
    assert delivery.acked
    modal = await world.ada.sees_modal("1 of Database approvers must say yes")
    await world.ada.submits({"role": "readwrite", "typed": "90m", "reason": "INC-7 slow"}, view=modal)
    card = await world.grace.sees("INC-7 slow", channel="#dba")
    assert "readwrite" in text_of(card)
    request = (await world.story()).request
    assert (request.role, request.duration) == ("readwrite", timedelta(minutes=90))


async def test_an_error_stands_at_its_field_and_the_draft_is_kept(world) -> None:
    await world.ada.commands("/access")
    modal = await world.ada.sees_modal("must say yes")
    await world.ada.submits({"typed": "9h", "reason": "INC-7"}, view=modal)
    assert "at most 4h" in world.ada.modal.errors["typed"]
    await world.ada.submits({"typed": "soonish"})
    assert "no duration" in world.ada.modal.errors["typed"] or world.ada.modal.errors["typed"]
    await world.ada.submits({"typed": "2h"})
    assert world.ada.modal is None
    await world.grace.sees("INC-7", channel="#dba")


async def test_a_missing_reason_opens_the_form_with_what_was_said(world) -> None:
    await world.ada.commands("/access request prod-db 2h as readwrite")
    told = await world.ada.sees("A reason is wanted", ephemeral=True)
    await world.ada.clicks(told, "Open the form")
    modal = await world.ada.sees_modal("readwrite")
    await world.ada.submits({"reason": "INC-9"}, view=modal)
    await world.grace.sees("INC-9", channel="#dba")
    assert (await world.story()).request.duration == timedelta(hours=2)


async def test_a_mistake_is_answered_with_the_mended_line_ready_to_press(world) -> None:
    await world.ada.commands("/access request prdo-db 1h because INC-142")
    told = await world.ada.sees("Did you mean", ephemeral=True)
    await world.ada.clicks(told, "mended")
    await world.grace.sees("INC-142", channel="#dba")
    assert "asked" in text_of(await world.ada.sees("asked Database", ephemeral=True))


async def test_the_shortcut_opens_the_form(world) -> None:
    await world.ada.shortcut("request_access")
    await world.ada.sees_modal("prod-db")


async def test_the_form_offers_only_what_this_person_may_ask_for(http_world) -> None:
    await http_world.ada.commands("/access")
    modal = await http_world.ada.sees_modal("prod-db")
    assert "vault" not in text_of(modal).casefold()
    await http_world.guest.commands("/access")
    await http_world.guest.sees_modal("not for your account")


async def test_choosing_a_resource_shows_its_roles_and_who_decides(worlds, configured) -> None:
    config = configured()
    extra = replace(config.policy.resources["prod-db"], name="stage-db", title="Shop, staging", aliases=())
    rule = replace(config.policy.rules[0], resources=frozenset({"prod-db", "stage-db"}))
    policy = replace(config.policy, resources={**config.policy.resources, "stage-db": extra}, rules=(rule,))
    async with worlds(config=replace(config, policy=policy)) as world:
        await world.ada.commands("/access")
        modal = await world.ada.sees_modal("Request access")
        modal = await world.ada.sees_modal("What")
        await world.ada.searches(modal, "resource", "stag")
        await world.ada.selects(modal, "resource", "stage-db")
        modal = await world.ada.sees_modal("must say yes")
        await world.ada.submits({"reason": "INC-3"}, view=modal)
        await world.grace.sees("stage-db", channel="#dba")


async def test_more_resources_than_a_select_holds_are_searched(worlds, configured) -> None:
    config = configured()
    prod = config.policy.resources["prod-db"]
    many = {f"db-{n:03d}": Resource(f"db-{n:03d}", "postgres", "", (), prod.roles) for n in range(150)}
    rule = replace(config.policy.rules[0], resources=frozenset(many))
    policy = replace(config.policy, resources=many, rules=(rule,))
    async with worlds(config=replace(config, policy=policy)) as world:
        await world.ada.commands("/access")
        modal = await world.ada.sees_modal("What")
        found = await world.ada.searches(modal, "resource", "db-14")
        assert len(found) == 10
        await world.ada.selects(modal, "resource", "db-149")
        await world.ada.sees_modal("must say yes")


async def test_the_home_tab_shows_what_one_has_and_what_waits(world) -> None:
    await world.ask()
    home = await world.ada.opens_home()
    assert "waits, lapses" in text_of(home)
    home = await world.grace.opens_home()
    assert "Waiting for you" in text_of(home)
    await world.grace.clicks(home, "approve")

    async def decided() -> bool:
        return "Waiting for you" not in text_of(world.grace.home)

    await world.until(decided)
    assert (await world.story()).grant is not None


async def test_the_smaller_commands_answer_their_writer_alone(world) -> None:
    card = await world.ask()
    await world.grace.clicks(card, "approve")
    await world.gate_holds()
    await world.ada.commands("/access status")
    await world.ada.sees("until", ephemeral=True)
    await world.grace.commands("/access who prod-db")
    await world.grace.sees("Ada Example", ephemeral=True)
    await world.mallory.commands("/access who vault-db")
    await world.mallory.sees("no resource “vault-db” that you may ask for", ephemeral=True)
    story = await world.story()
    await world.ada.commands(f"/access why {story.request.id}")
    await world.ada.sees("Rule engineers-read-prod", ephemeral=True)
    await world.mallory.commands(f"/access why {story.request.id}")
    await world.mallory.sees("no such request", ephemeral=True)
    await world.ada.commands("/access help")
    await world.ada.sees("How to use", ephemeral=True)
    await world.grace.commands("/access revoke @ada because left")
    await world.grace.sees("no longer has", ephemeral=True)
    assert (await world.story()).grant.end_note == "left"


async def test_release_and_cancel_alone_mean_the_only_one(world) -> None:
    await world.ask()
    await world.ada.commands("/access cancel")
    await world.ada.sees("is taken back", ephemeral=True)
    await world.ada.commands("/access release")
    await world.ada.sees("nothing to release", ephemeral=True)


# -------------------------------------------------------------- searching, and what it is likely to take


def two_resources(configured):
    config = configured()
    extra = replace(
        config.policy.resources["prod-db"], name="stage-db", title="Shop, staging", aliases=("st",)
    )
    rule = replace(config.policy.rules[0], resources=frozenset({"prod-db", "stage-db"}))
    resources = {**config.policy.resources, "stage-db": extra}
    policy = replace(config.policy, resources=resources, rules=(rule, *config.policy.rules[1:]))
    return replace(config, policy=policy)


async def test_the_search_finds_by_name_title_and_alias_and_never_what_is_hidden(worlds, configured) -> None:
    async with worlds(config=two_resources(configured)) as world:
        await world.ada.commands("/access")
        modal = await world.ada.sees_modal("What")
        for typed, names in (
            ("", ["prod-db", "stage-db"]),
            ("staging", ["stage-db"]),
            ("ST", ["stage-db"]),
            ("vault", []),
        ):
            found = await world.ada.searches(modal, "resource", typed)
            assert [option["value"] for option in found] == names, typed


async def test_what_was_asked_for_last_is_offered_first(worlds, configured) -> None:
    async with worlds(config=two_resources(configured)) as world:
        await world.ask("request stage-db 1h because INC-1")
        await world.ada.commands("/access")
        modal = await world.ada.sees_modal("What")
        found = await world.ada.searches(modal, "resource", "")
        assert [option["value"] for option in found] == ["stage-db", "prod-db"]


async def test_the_form_says_how_long_a_decision_usually_takes(worlds) -> None:
    async with worlds() as world:
        for minutes in (2, 8, 30):
            await world.ask(f"request prod-db 1h because INC-{minutes}")
            story = (await world.stories())[0]
            world.clock.advance(minutes=minutes)
            await world.service.approve(story.request.id, "grace", via="cli")
        await world.ada.commands("/access")
        await world.ada.sees_modal("usually within 8m (median of 3 in 30 days)")
        await world.ada.closes()
        world.clock.advance(days=31)
        await world.ada.commands("/access")
        modal = await world.ada.sees_modal("must say yes")
        assert "usually" not in text_of(modal)


@pytest.mark.parametrize(
    ("message", "statement"),
    [
        ("please run ```delete from carts\nwhere id &lt; 7``` on prod", "delete from carts\nwhere id < 7"),
        ("update users set x = 'a &amp; b'", "update users set x = 'a & b'"),
        ('run prod-db "select 1" because INC-9', "select 1"),
    ],
)
async def test_a_message_becomes_a_statement_to_run(http_world, message, statement) -> None:
    world = http_world
    posted = await world.grace.types("#general", html.unescape(message))
    await world.ada.shortcut("run_as_request", message=posted)
    modal = await world.ada.sees_modal("Exactly this runs, once")
    fields = {
        block["element"]["action_id"]: block["element"]
        for block in modal.payload["blocks"]
        if "element" in block
    }
    assert fields["run_text"]["initial_value"] == statement
    assert await world.stories() == [], "nothing was asked yet"


async def test_a_message_too_long_for_a_form_is_not_cut(http_world) -> None:
    posted = await http_world.grace.types("#general", "select 1" + " -- x" * 700)
    await http_world.ada.shortcut("run_as_request", message=posted)
    await http_world.ada.sees_modal("longer than the 3000 characters")


async def test_the_ticket_has_a_field_of_its_own_and_stands_before_the_reason(world) -> None:
    await world.ada.commands("/access request prod-db because INC-142 checkout is slow")
    await world.ada.sees("asked Database", ephemeral=True)
    world.clock.advance(minutes=1)
    await world.ada.commands("/access")
    modal = await world.ada.sees_modal("must say yes")
    await world.ada.submits({"ticket": "it is urgent", "reason": "checkout is slow"}, view=modal)
    assert "A ticket is written INC-142" in str(world.ada.modal.errors)
    await world.ada.submits({"ticket": "INC-7", "reason": "x" * 499})
    assert "over 500 characters" in str(world.ada.modal.errors)
    await world.ada.submits({"ticket": "INC-7", "reason": "checkout is slow"})
    await world.grace.sees("INC-7 checkout is slow", channel="#dba")
    assert (await world.stories())[0].request.reason == "INC-7 checkout is slow"


async def test_how_long_is_one_press_among_five_at_most(world) -> None:
    await world.ada.commands("/access")
    modal = await world.ada.sees_modal("must say yes")
    (field,) = [
        b["element"] for b in modal.payload["blocks"] if b.get("element", {}).get("action_id") == "span"
    ]
    assert field["type"] == "radio_buttons"
    assert [one["text"]["text"] for one in field["options"]] == ["15m", "30m", "1h", "2h", "4h"]
    assert field["initial_option"]["text"]["text"] == "1h"
    await world.ada.selects(modal, "span", "900")
    await world.ada.submits({"reason": "INC-142 looking"})
    await world.grace.sees("15m, from the approval on", channel="#dba")
