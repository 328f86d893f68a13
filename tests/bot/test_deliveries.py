"""Deliveries as the network and attackers make them: doubled, replayed, forged, old, tampered with, late."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import parse_qs, urlencode

import pytest

from bot.sandbox import text_of
from bot.sandbox.delivery import sign
from bot.slack import make_client
from bot.sockets import Sockets


async def test_a_doubled_press_counts_once(world) -> None:
    world.sandbox.faults.duplicate("block_actions", copies=2)
    card = await world.ask()
    await world.grace.clicks(card, "approve")
    await world.grace.sees_change(card, "opening the gate")
    assert (await world.story()).version == 3


async def test_a_doubled_command_asks_once_and_answers_once(world) -> None:
    world.sandbox.faults.duplicate("command", copies=2)
    await world.ask()
    await world.at_rest()
    assert len(await world.stories()) == 1
    answers = [m for m in world.ada.ephemerals() if "asked Database" in text_of(m)]
    assert len(answers) == 1


async def test_a_replayed_press_has_no_effect_even_on_a_later_request(http_world) -> None:
    world = http_world
    card = await world.ask()
    pressed = await world.grace.clicks(card, "deny")
    await world.grace.sees_modal("Deny the request")
    await world.grace.closes()
    again = await world.sandbox.replay(pressed)
    assert again.acked
    assert world.grace.modal is None
    assert (await world.story()).version == 1


async def test_a_replica_knows_what_another_has_seen(http_world) -> None:
    """The table of seen deliveries is in the database, not in the process."""
    from bot.ledger import Ledger

    other = Ledger(http_world.store, http_world.clock)
    assert await http_world.bot.desk.ledger.first("some-trigger")
    assert not await other.first("some-trigger")


async def test_a_forged_signature_is_refused(http_world) -> None:
    world = http_world
    card = await world.ask()
    world.sandbox.faults.bad_signature("block_actions")
    delivery = await world.grace.clicks(card, "approve")
    assert delivery.status == 401
    assert (await world.story()).request.approvals == ()


async def test_a_changed_body_is_refused(http_world) -> None:
    world = http_world
    card = await world.ask()
    pressed = await world.mallory.clicks(card, "approve")
    as_grace = pressed.body.replace(b"U0MALLORY", b"U0GRACE")
    assert as_grace != pressed.body
    again = await world.sandbox.replay(pressed, body=as_grace)
    assert again.status == 401
    assert (await world.story()).request.approvals == ()


async def test_a_request_older_than_five_minutes_is_refused(http_world) -> None:
    world = http_world
    card = await world.ask()
    world.sandbox.faults.old_timestamp("block_actions", seconds=301)
    delivery = await world.grace.clicks(card, "approve")
    assert delivery.status == 401
    assert (await world.story()).request.approvals == ()


async def test_another_workspace_is_refused_even_well_signed(http_world) -> None:
    world = http_world
    card = await world.ask()
    pressed = await world.mallory.clicks(card, "approve")
    payload = json.loads(parse_qs(pressed.body.decode())["payload"][0])
    payload["team"]["id"] = payload["user"]["team_id"] = "T0EVIL"
    payload["user"]["id"] = "U0GRACE"
    payload["trigger_id"] = "another.trigger"
    body = urlencode({"payload": json.dumps(payload)}).encode()
    now = int(time.time())
    headers = {
        "X-Slack-Request-Timestamp": str(now),
        "X-Slack-Signature": sign(world.sandbox.workspace.app.signing_secret, now, body),
    }
    delivery = await world.sandbox.replay(pressed, body=body, headers=headers)
    assert delivery.status == 403
    assert (await world.story()).request.approvals == ()
    assert "wrong-workspace" in await world.refused()


@pytest.mark.parametrize(
    "value", ["", "R-000000:1", "R-000000", "; drop table", "R-7K3F9Q:99999999999999999999", "{}", "х" * 500]
)
async def test_a_button_value_that_was_tampered_with_does_nothing_and_is_written_down(
    http_world, value
) -> None:
    world = http_world
    card = await world.ask()
    await world.grace.clicks(card, "approve", force=True, value=value)
    await world.grace.sees("does not belong to this card", ephemeral=True)
    assert (await world.story()).request.approvals == ()
    assert await world.refused() == ["tampered-button"]


async def test_another_requests_id_in_a_button_is_refused(http_world) -> None:
    world = http_world
    card = await world.ask()
    await world.ask("request prod-db 2h because INC-2", who="mallory")
    other = (await world.stories("mallory"))[0]
    await world.at_rest()
    await world.grace.clicks(card, "approve", force=True, value=f"{other.request.id}:1")
    await world.grace.sees("does not belong to this card", ephemeral=True)
    assert (await world.stories("mallory"))[0].request.approvals == ()


async def test_a_version_that_never_was_is_refused(http_world) -> None:
    world = http_world
    card = await world.ask()
    story = await world.story()
    await world.grace.clicks(card, "approve", force=True, value=f"{story.request.id}:{story.version + 1}")
    await world.grace.sees("does not belong to this card", ephemeral=True)


async def test_a_stale_card_is_answered_with_what_is_so_now(world) -> None:
    card = await world.ask()
    await world.linus.clicks(card, "approve")
    await world.grace.sees_change(card, "opening the gate")
    await world.grace.clicks(card, "approve", force=True)
    await world.grace.sees("already approved", ephemeral=True)


async def test_every_delivery_is_acknowledged_within_a_second(world) -> None:
    started = time.monotonic()
    world.sandbox.faults.slow("users.info", seconds=1.5)
    delivery = await world.ada.commands("/access request prod-db 1h because x")
    assert delivery.acked
    assert time.monotonic() - started < 1.0


async def test_a_failure_after_the_acknowledgement_is_told_with_a_number(world, monkeypatch) -> None:
    card = await world.ask()

    async def broken(*args: object, **options: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(world.service, "approve", broken)
    await world.grace.clicks(card, "approve")
    told = await world.grace.sees("That failed, ref #E-", ephemeral=True)
    assert "disk" not in text_of(told)


async def test_a_delivery_nobody_handles_is_an_error(http_world) -> None:
    delivery = await http_world.ada.shortcut("no_such_shortcut")
    assert delivery.status == 404


async def test_while_slack_recycles_one_socket_the_other_carries_on(worlds) -> None:
    async with worlds(mode="socket") as world:
        sockets = world.sandbox.sockets
        await sockets._close(sockets.open[0])
        card = await world.ask()
        await world.grace.clicks(card, "approve")
        await world.grace.sees_change(card, "opening the gate")


async def test_both_sockets_come_back_after_slack_recycled_them(worlds) -> None:
    async with worlds(mode="socket") as world:
        await world.sandbox.sockets.disconnect("refresh_requested")

        async def both() -> bool:
            return len(world.sandbox.sockets.open) == 2

        await world.until(both, 30)
        await world.ask()


async def test_the_watchdog_builds_a_dead_connection_anew(worlds) -> None:
    async with worlds() as world:
        client = make_client(world.sandbox.workspace.app.bot_token, world.sandbox.api_url)
        token = world.sandbox.workspace.app.app_token
        sockets = Sockets(world.bot.app, token, client, check_seconds=0.05, silent_seconds=0.2)
        watching = asyncio.create_task(sockets.run())

        async def both() -> bool:
            return sockets.connected == 2 and len(world.sandbox.sockets.open) == 2

        await world.until(both)
        dead = sockets._handlers[0]
        await dead.client.close()  # closed for good: the SDK itself never comes back from this
        await asyncio.sleep(0.1)
        await world.until(both)
        assert sockets._handlers[0] is not dead
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert sockets.connected == 0
