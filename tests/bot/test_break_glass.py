"""Breaking the glass in Slack: a form, access at once, everybody told, killed at one press, a review."""

from __future__ import annotations

import pytest

from bot.sandbox import text_of
from tests.bot.world import urgent_config
from workflows.model import EndReason, GrantState, Story, Verdict


@pytest.mark.parametrize("mode", ["http", "socket"])
async def test_the_whole_emergency(worlds, mode) -> None:
    async with worlds(config=urgent_config(), mode=mode) as world:
        card = await world.breaks()
        assert card.blocks[1]["type"] == "alert"
        assert card.blocks[1]["level"] == "error"
        assert "Nobody approved this" in text_of(card)
        assert "on call for primary" in text_of(card)
        passed_over = text_of(card).partition("Passed over: ")[2]
        assert "<@U0GRACE>" in passed_over.partition(".")[0]
        assert world.grace.buttons(card) == ["Kill it now"]

        await world.gate_holds()
        await world.grace.sees_change(card, "🟢")
        mine = await world.ada.sees("access psql prod-db", channel="@portcullis")
        assert world.ada.buttons(mine) == ["Show a one-time login", "Release"], "an emergency is not extended"

        await world.passes(minutes=30)
        card = await world.grace.sees_change(card, "time was up")
        assert card.blocks[1]["level"] == "warning"
        assert world.grace.buttons(card) == ["Review…"]
        await world.grace.clicks(card, "review")
        await world.grace.sees("not a reviewer", ephemeral=True)

        security = await world.olive.sees("time was up", channel="#security")
        await world.olive.clicks(security, "review")
        modal = await world.olive.sees_modal("Was it an emergency?")
        assert "checkout is down" in text_of(modal)
        await world.olive.submits({"verdict": "justified", "reason": "the replica was gone"})
        card = await world.grace.sees_change(card, "Found *justified*")
        assert card.blocks[1]["level"] == "default"
        assert world.grace.buttons(card) == []
        await world.ada.sees("found it justified", channel="@portcullis")
        emergency = (await world.story()).request.emergency
        assert (emergency.verdict, emergency.reviewed_by) == (Verdict.JUSTIFIED, "olive")


async def test_everybody_who_was_passed_over_is_told_by_direct_message_with_the_reason(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        await world.breaks()
        for person in (world.grace, world.linus, world.olive):
            told = await person.sees("Emergency INC-142", channel="@portcullis")
            assert "checkout is down" in text_of(told)
            assert person.buttons(told) == ["Kill it now"]
        await world.olive.sees("Emergency INC-142", channel="#security")
        await world.gate_holds()
        told = await world.linus.sees("🟢", channel="@portcullis")
        await world.linus.clicks(told, "kill")
        await world.linus.sees_change(told, "Revoked by")
        story = await world.story()
        assert story.grant.end_reason is EndReason.REVOKED
        assert story.grant.ended_by == "linus"


async def test_nobody_else_can_kill_it(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        card = await world.breaks()
        await world.mallory.clicks(card, "kill")
        await world.mallory.sees("not an approver", ephemeral=True)
        assert (await world.story()).grant.state is GrantState.MINTING


async def test_the_form_holds_what_was_typed_and_wants_a_reason_and_an_incident(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        await world.ada.commands("/access break-glass prod-db down")
        modal = await world.ada.sees_modal("What is broken")
        assert "An emergency has an incident" in text_of(modal)
        await world.ada.submits({"incident": "INC-7", "reason": "down"})
        assert "10 characters or more" in str(world.ada.modal.errors)
        await world.ada.submits({"incident": "INC-7", "reason": "checkout is down"})
        await world.grace.sees("Emergency INC-7", channel="#dba")


async def test_the_resources_name_is_typed_where_the_policy_says_so(worlds) -> None:
    async with worlds(config=urgent_config(emergency={"type_name": True})) as world:
        await world.ada.commands("/access break-glass prod-db because INC-142 checkout is down")
        await world.ada.sees_modal("Type prod-db to go on")
        await world.ada.submits({"name": "prod"})
        assert "to show that you mean it" in str(world.ada.modal.errors)
        assert await world.stories() == []
        await world.ada.submits({"name": "prod-db"})
        await world.grace.sees("Emergency INC-142", channel="#dba")


async def test_whoever_is_not_on_call_is_refused_and_told(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        await world.mallory.commands("/access break-glass prod-db because INC-142 checkout is down")
        await world.mallory.sees_modal("What is broken")
        await world.mallory.submits({})
        await world.mallory.sees("not on call for primary", ephemeral=True)
        assert await world.stories("mallory") == []


async def test_whoever_has_no_rule_for_it_gets_no_form_and_no_names(worlds) -> None:
    async with worlds() as world:
        await world.ada.commands("/access break-glass vault-db because INC-142 checkout is down")
        modal = await world.ada.sees_modal("No rule lets you break the glass of anything")
        assert "submit" not in modal.payload


async def test_a_slip_in_the_verb_leads_to_the_form_and_not_through_the_glass(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        await world.ada.commands("/access break-glas prod-db because INC-142 checkout is down")
        said = await world.ada.sees("did you mean break-glass", ephemeral=True)
        await world.ada.clicks(said, "Yes, do that")
        await world.ada.sees_modal("What is broken")
        assert await world.stories() == []


async def test_a_waiting_request_is_turned_into_an_emergency_by_whoever_asked(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        card = await world.ask("request prod-db 1h because INC-142 checkout is down")
        mine = await world.ada.sees("You ask for", channel="@portcullis")
        assert "Turn into an emergency…" in world.ada.buttons(mine)
        await world.ada.clicks(mine, "emergency")
        await world.ada.sees_modal("What is broken")
        await world.ada.submits({})
        card = await world.grace.sees_change(card, "Emergency INC-142")
        assert world.grace.buttons(card) == ["Kill it now"]
        story = await world.story()
        assert story.request.emergency is not None
        assert story.request.id in text_of(card)


async def test_only_whoever_has_a_rule_is_offered_the_emergency(worlds) -> None:
    async with worlds() as world:
        await world.ask()
        mine = await world.ada.sees("You ask for", channel="@portcullis")
        assert world.ada.buttons(mine) == ["Nudge", "Add a comment…", "Cancel request"]


async def test_sessions_are_told_in_the_thread_while_it_goes_on(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        card = await world.breaks()
        await world.gate_holds()
        await world.grace.sees_change(card, "🟢")
        await world.session("S-AAAAAAAA")
        await world.passes(seconds=6)
        await world.grace.sees("Session S-AAAAAAAA (postgres) opened", thread=card)
        await world.session("S-AAAAAAAA", statements=12, refused=1, rows=340)
        await world.passes(seconds=6)
        await world.grace.sees("closed (client): 12 statements, 340 rows, 1 refused", thread=card)
        opened = [m for m in world.grace.messages("#dba", thread=card) if "opened" in text_of(m)]
        assert len(opened) == 1


async def test_an_owed_review_is_asked_for_until_it_is_done(worlds) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await world.breaks()
        await world.gate_holds()
        await world.passes(minutes=31)
        await world.grace.sees_change(card, "A review by Security is owed")
        await world.passes(hours=12)
        security = await world.olive.sees("A review by Security is owed", channel="#security")
        await world.olive.sees("is owed by", thread=security)
        await world.passes(hours=24)
        await world.olive.sees("is overdue since", thread=security)
        assert all("overdue" not in text_of(m) for m in world.grace.messages("#dba", thread=card))
        result = await world.service.review_break_glass(
            (await world.story()).request.id, "olive", Verdict.NOT_JUSTIFIED, via="cli", note="a dry run"
        )
        assert isinstance(result, Story)
        await world.at_rest()
        before = len(world.olive.messages("#security", thread=security))
        await world.passes(hours=48)
        await world.at_rest()
        assert len(world.olive.messages("#security", thread=security)) == before


async def test_a_slack_that_knows_no_coloured_line_still_shows_the_emergency(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        world.sandbox.faults.error("chat.postMessage", "invalid_blocks", times=1)
        card = await world.breaks()
        assert {block["type"] for block in card.blocks} >= {"section"}
        assert world.grace.buttons(card) == ["Kill it now"]


async def test_the_home_tab_tells_of_what_one_may_break_the_glass(worlds) -> None:
    async with worlds(config=urgent_config()) as world:
        home = await world.ada.opens_home()
        assert "you may, being on call for" in text_of(home)
        assert "`prod-db`: never rehearsed" in text_of(home)
        other = await world.mallory.opens_home()
        assert "which is Ada Example now" in text_of(other)
        await world.ada.clicks(home, "glass")
        await world.ada.sees_modal("What is broken")
        await world.ada.submits({"incident": "INC-1", "reason": "the checkout is down"})
        await world.grace.sees("Emergency INC-1", channel="#dba")
        await world.gate_holds()
        await world.passes(minutes=31)
        home = await world.ada.opens_home()
        assert "your own; another reviews it" in text_of(home)
        reviewer = await world.olive.opens_home()
        assert "Review…" in world.olive.buttons(reviewer)


async def test_where_the_channel_is_gone_everybody_is_told_by_direct_message_once(worlds) -> None:
    async with worlds(config=urgent_config(channel="C0NOWHERE")) as world:
        await world.ada.commands("/access break-glass prod-db because INC-142 checkout is down")
        await world.ada.sees_modal("What is broken")
        await world.ada.submits({})
        await world.olive.sees("Emergency INC-142", channel="#security")
        await world.at_rest()
        told = [m for m in world.grace.dms() if "Emergency INC-142" in text_of(m) and not m.thread_ts]
        assert len(told) == 1
        assert world.grace.buttons(told[0]) == ["Kill it now"]


async def test_the_manager_is_named_on_the_card_and_told_by_direct_message_without_buttons(worlds) -> None:
    async with worlds(config=urgent_config(emergency={"tells": ("manager",)})) as world:
        world.relates("ada", manager="mallory")
        card = await world.breaks()
        assert "Told besides: <@U0MALLORY>." in text_of(card)
        told = await world.mallory.sees("Emergency INC-142", channel="@portcullis")
        assert "checkout is down" in text_of(told)
        assert world.mallory.buttons(told) == []
        await world.mallory.clicks(told, "kill", force=True, value="R-1:1")
        await world.mallory.sees("not", ephemeral=True)
        assert (await world.story()).grant.state is GrantState.MINTING
        await world.gate_holds()
        await world.passes(minutes=31)
        await world.mallory.sees_change(told, "time was up")


async def test_whom_a_request_is_for_turns_it_into_an_emergency_which_who_asked_cannot_review(worlds) -> None:
    """Olive, a reviewer, asks for Ada; Ada is on call and does not wait."""
    rule = {"for_others": frozenset({"security"})}
    async with worlds(config=urgent_config(rule=rule)) as world:
        world.regroup("grace", "dba", "security")
        await world.olive.commands("/access request prod-db 1h for <@U0ADA|ada> because INC-142 pairing")
        asked = await world.olive.sees("for <@U0ADA>", channel="@portcullis")
        assert "Turn into an emergency…" not in world.olive.buttons(asked), "it would not be hers"
        told = await world.ada.sees("for you", channel="@portcullis")
        await world.ada.clicks(told, "Turn into an emergency…")
        await world.ada.sees_modal("What is broken")
        await world.ada.submits({"reason": "the checkout is down"})
        card = await world.grace.sees("Emergency INC-142", channel="#dba")
        await world.grace.sees("<@U0ADA> took access in emergency", thread=card)
        await world.gate_holds()
        await world.passes(minutes=31)
        security = await world.olive.sees("time was up", channel="#security")
        await world.olive.clicks(security, "review")
        await world.olive.sees("cannot review your own emergency", ephemeral=True)
        await world.ada.clicks(card, "review", force=True)
        await world.ada.sees("cannot review your own emergency", ephemeral=True)
        await world.grace.clicks(await world.grace.sees_change(card, "time was up"), "review")
        await world.grace.sees_modal("Ada Example: `prod-db`")
        await world.grace.submits({"verdict": "justified", "reason": "the replica was gone"})
        await world.grace.sees_change(card, "Found *justified* by <@U0GRACE>")


async def test_who_cannot_be_written_to_is_not_tried_again_at_every_look(worlds) -> None:
    """An emergency is looked at every few seconds; Slack allows fifty openings a minute."""
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        await world.breaks()
        await world.gate_holds()
        for _ in range(6):
            await world.passes(seconds=6)
            await world.at_rest_but_for_watching()
        opened = [call["users"] for call in world.sandbox.calls("conversations.open")]
        assert opened.count("U0GONE") <= 2
        assert opened.count("U0GRACE") == 1
