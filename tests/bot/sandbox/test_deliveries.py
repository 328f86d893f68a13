"""Deliveries and their faults: signatures, replays, duplicates, retries, lost answers, broken sockets."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.signature import SignatureVerifier

from bot.sandbox import Delivery, create_sandbox


def counting(app, command="/access"):
    """Count how often the app runs the command."""
    runs: list[str] = []

    @app.command(command)
    async def access(ack, body):
        runs.append(body["trigger_id"])
        await ack()

    return runs


async def test_bolt_s_own_verifier_accepts_the_signature(http_bolt):
    counting(http_bolt.app)
    delivery = await http_bolt.sandbox.as_user("ada").commands("/access status")
    verifier = SignatureVerifier(http_bolt.sandbox.workspace.app.signing_secret)
    assert verifier.is_valid_request(delivery.body, delivery.headers)
    assert delivery.acked


@pytest.mark.parametrize("fault", ["bad_signature", "old_timestamp"])
async def test_a_forged_or_old_request_is_refused_by_bolt(http_bolt, fault):
    runs = counting(http_bolt.app)
    getattr(http_bolt.sandbox.faults, fault)("command")
    delivery = await http_bolt.sandbox.as_user("ada").commands("/access status")
    assert (delivery.status, delivery.error, runs) == (401, "http_service_error", [])


async def test_an_altered_body_under_the_old_signature_is_refused(http_bolt):
    runs = counting(http_bolt.app)
    delivery = await http_bolt.sandbox.as_user("ada").commands("/access status")
    altered = await http_bolt.sandbox.replay(delivery, body=delivery.body.replace(b"status", b"revoke"))
    assert altered.status == 401
    assert len(runs) == 1


async def test_a_replay_sends_the_very_same_request_again(bolt):
    runs = counting(bolt.app)
    delivery = await bolt.sandbox.as_user("ada").commands("/access status")
    again = await bolt.sandbox.replay(delivery)
    assert again.acked
    assert (again.body, again.headers, again.envelope) == (delivery.body, delivery.headers, delivery.envelope)
    assert len(runs) == 2
    assert len(set(runs)) == 1


async def test_a_duplicate_is_delivered_twice(bolt):
    runs = counting(bolt.app)
    bolt.sandbox.faults.duplicate("command")
    await bolt.sandbox.as_user("ada").commands("/access status")
    await bolt.sandbox.as_user("ada").commands("/access status")
    assert [runs.count(trigger) for trigger in dict.fromkeys(runs)] == [2, 1]


async def test_held_deliveries_arrive_last_first(bolt, until):
    texts = []

    @bolt.app.command("/access")
    async def access(ack, command):
        texts.append(command["text"])
        await ack()

    ada = bolt.sandbox.as_user("ada")
    bolt.sandbox.faults.hold("command", times=2)
    both = [asyncio.create_task(ada.commands("/access first"))]
    await until(lambda: len(bolt.sandbox.faults.held) == 1)
    both.append(asyncio.create_task(ada.commands("/access second")))
    await until(lambda: len(bolt.sandbox.faults.held) == 2)
    assert bolt.sandbox.faults.release(reverse=True) == 2
    await asyncio.gather(*both)
    assert texts == ["second", "first"]


async def test_a_late_delivery_waits(bolt):
    counting(bolt.app)
    bolt.sandbox.faults.late("command", seconds=0.2)
    before = time.monotonic()
    assert (await bolt.sandbox.as_user("ada").commands("/access status")).acked
    assert time.monotonic() - before >= 0.2


async def test_a_lost_acknowledgement_looks_like_a_timeout_though_the_app_ran(bolt):
    runs = counting(bolt.app)
    bolt.sandbox.faults.lose_ack("command")
    ada = bolt.sandbox.as_user("ada")
    assert (await ada.commands("/access status")).error == "operation_timeout"
    await ada.sees("operation_timeout", ephemeral=True)
    assert len(runs) == 1


async def test_an_event_that_fails_is_retried_three_times_with_its_number(http_bolt):
    numbers = []

    @http_bolt.app.event("app_home_opened")
    async def opened(request):
        numbers.append(request.headers.get("x-slack-retry-num", ["0"])[0])
        raise RuntimeError("not now")

    @http_bolt.app.error
    async def failed(error):
        pass

    http_bolt.sandbox.faults.lose_ack("event", times=1)
    http_bolt.sandbox.client.opens_home(http_bolt.sandbox.as_user("ada").user)
    await http_bolt.sandbox.settled()
    assert numbers == ["0", "1"]
    [delivery] = [d for d in http_bolt.sandbox.deliveries if d.kind == "event"]
    assert delivery.retries == 1


async def test_an_event_nobody_takes_is_given_up_after_three_retries(clock, workspace_with):
    sandbox = create_sandbox(workspace_with(), clock, retry_delays=(0.0, 0.0, 0.0))
    async with sandbox:
        sandbox.client.opens_home(sandbox.as_user("ada").user)
        await sandbox.settled()
        [delivery] = sandbox.deliveries
        assert (delivery.retries, delivery.error) == (3, "dispatch_failed")


async def test_an_event_that_the_manifest_does_not_subscribe_to_is_not_sent(clock, workspace_with):
    manifest = {"settings": {"event_subscriptions": {"bot_events": ["user_change"]}}}
    async with create_sandbox(workspace_with(manifest=manifest), clock, retry_delays=()) as sandbox:
        sandbox.client.opens_home(sandbox.as_user("ada").user)
        sandbox.admin.changes_user("ada", title="Countess")
        await sandbox.settled()
        assert [d.payload["event"]["type"] for d in sandbox.deliveries] == ["user_change"]


async def test_a_command_that_the_manifest_does_not_have_is_refused_by_slack(clock, workspace_with):
    manifest = {"features": {"slash_commands": [{"command": "/access"}]}}
    async with create_sandbox(workspace_with(manifest=manifest), clock) as sandbox:
        ada = sandbox.as_user("ada")
        assert await ada.types("#general", "/excess status") is None
        await ada.sees("is not a valid command", ephemeral=True)
        delivery = await ada.types("#general", "/access who @grace & co")
        assert isinstance(delivery, Delivery)
        assert delivery.payload["text"] == "who @grace & co"


async def test_a_rate_limited_call_is_retried_by_the_client_s_handler(api):
    api.client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=2))
    api.sandbox.faults.rate_limit("chat.postMessage", times=1, retry_after=1)
    where = api.sandbox.state.channel_named("general").id
    await api.client.chat_postMessage(channel=where, text="at last")
    assert [m.text for m in api.sandbox.as_user("ada").messages("#general")] == ["at last"]


async def test_a_lost_reply_leaves_the_message_and_an_unknowing_caller(api):
    where = api.sandbox.state.channel_named("general").id
    api.client.retry_handlers.clear()
    api.sandbox.faults.lose_reply("chat.postMessage")
    with pytest.raises(Exception) as lost:  # noqa: PT011 - whatever the HTTP client makes of a broken answer
        await api.client.chat_postMessage(channel=where, text="once")
    assert not isinstance(lost.value, SlackApiError)
    assert [m.text for m in api.sandbox.as_user("ada").messages("#general")] == ["once"]


@pytest.mark.parametrize(("fault", "status"), [({"status": 500}, 500), ({"status": 503}, 503)])
async def test_a_failing_method_answers_with_the_status(api, fault, status):
    api.sandbox.faults.fail("auth.test", **fault)
    with pytest.raises(SlackApiError) as failed:
        await api.client.auth_test()
    assert failed.value.response.status_code == status
    await api.client.auth_test()


async def test_any_slack_error_can_be_had_once(api):
    api.sandbox.faults.error("auth.test", "account_inactive")
    with pytest.raises(SlackApiError, match="account_inactive"):
        await api.client.auth_test()
    await api.client.auth_test()


async def test_while_the_workspace_is_away_nothing_goes_either_way(bolt):
    runs = counting(bolt.app)
    bolt.sandbox.faults.go_away()
    with pytest.raises(SlackApiError):
        await bolt.client.auth_test()
    delivery = await bolt.sandbox.as_user("ada").commands("/access status")
    assert (delivery.error, runs) == ("dispatch_failed", [])
    bolt.sandbox.faults.come_back()
    await bolt.client.auth_test()


async def test_the_app_reconnects_after_a_disconnect_frame(socket_bolt, until):
    runs = counting(socket_bolt.app)
    [before] = socket_bolt.sandbox.sockets.open
    await socket_bolt.sandbox.sockets.disconnect("refresh_requested")
    await until(lambda: socket_bolt.sandbox.sockets.open and before not in socket_bolt.sandbox.sockets.open)
    assert (await socket_bolt.sandbox.as_user("ada").commands("/access status")).acked
    assert len(runs) == 1


async def test_a_half_open_socket_carries_nothing(socket_bolt):
    runs = counting(socket_bolt.app)
    socket_bolt.sandbox.sockets.half_open()
    delivery = await socket_bolt.sandbox.as_user("ada").commands("/access status")
    assert (delivery.error, runs) == ("operation_timeout", [])


async def test_each_envelope_goes_to_one_of_several_sockets(clock, workspace_with, over_socket, until):
    sandbox = create_sandbox(workspace_with(), clock)
    async with over_socket(sandbox) as bolt:
        runs = counting(bolt.app)
        second = AsyncSocketModeHandler(bolt.app, sandbox.workspace.app.app_token, web_client=bolt.client)
        await second.connect_async()
        await until(lambda: len(sandbox.sockets.open) == 2)
        for _ in range(4):
            await sandbox.as_user("ada").commands("/access status")
        assert len(runs) == 4
        await second.close_async()


async def test_a_socket_needs_a_fresh_ticket_and_an_app_token(api):
    with pytest.raises(SlackApiError, match="not_allowed_token_type"):
        await api.client.apps_connections_open(app_token=api.sandbox.workspace.app.bot_token)
    opened = await api.client.apps_connections_open(app_token=api.sandbox.workspace.app.app_token)
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(opened["url"]) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(opened["url"])


async def test_a_changed_group_is_told_to_the_app(bolt):
    changes = asyncio.Queue()

    @bolt.app.event("subteam_members_changed")
    async def changed(event):
        await changes.put((event["added_users"], event["removed_users"]))

    bolt.sandbox.admin.changes_group("db-owners", ["grace", "ada"])
    ada, linus = bolt.sandbox.as_user("ada").id, bolt.sandbox.as_user("linus").id
    assert await asyncio.wait_for(changes.get(), 5) == ([ada], [linus])


async def test_a_deactivated_person_cannot_press_but_a_forced_press_still_arrives(bolt):
    seen = []

    @bolt.app.action("approve")
    async def approve(ack, body):
        await ack()
        seen.append(body["user"]["id"])

    where = bolt.sandbox.state.channel_named("approvers").id
    press = {"type": "button", "action_id": "approve", "text": {"type": "plain_text", "text": "Approve"}}
    await bolt.client.chat_postMessage(
        channel=where, text="x", blocks=[{"type": "actions", "elements": [press]}]
    )
    linus = bolt.sandbox.as_user("linus")
    card = linus.messages("#approvers")[-1]
    bolt.sandbox.admin.changes_user("linus", deleted=True)
    with pytest.raises(Exception, match="deactivated"):
        await linus.clicks(card, "approve")
    await linus.clicks(card, "approve", force=True)
    assert seen == [linus.id]
