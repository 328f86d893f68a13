"""A Bolt app cannot tell the sandbox from Slack, over HTTP or over Socket Mode."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bot.sandbox import NotPossible, text_of


def button(action_id: str, label: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "button",
        "action_id": action_id,
        "value": "42",
        "text": {"type": "plain_text", "text": label},
        **more,
    }


def card(*buttons: dict[str, Any], text: str = "Ada asks for prod-db") -> list[dict[str, Any]]:
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    return [section, {"type": "actions", "elements": list(buttons)}] if buttons else [section]


def modal(**more: Any) -> dict[str, Any]:
    def input_block(name: str, **element: Any) -> dict[str, Any]:
        return {
            "type": "input",
            "block_id": name,
            "label": {"type": "plain_text", "text": name.title()},
            "element": {"type": "plain_text_input", "action_id": f"{name}_input", **element},
        }

    return {
        "type": "modal",
        "callback_id": "request",
        "title": {"type": "plain_text", "text": "Request access"},
        "submit": {"type": "plain_text", "text": "Ask"},
        "private_metadata": "r1",
        "blocks": [input_block("resource", initial_value="prod-db"), input_block("reason")],
        **more,
    }


async def test_a_command_reaches_the_app_and_its_answer_is_seen_by_nobody_else(bolt):
    @bolt.app.command("/access")
    async def access(ack, command):
        await ack(f"you typed {command['text']} in {command['channel_name']} as {command['user_id']}")

    ada, grace = bolt.sandbox.as_user("ada"), bolt.sandbox.as_user("grace")
    delivery = await ada.commands("/access request prod-db 1h")
    assert delivery.acked
    seen = await ada.sees("you typed request prod-db 1h in general", ephemeral=True)
    assert ada.id in text_of(seen)
    assert grace.messages("#general") == []


async def test_mentions_in_a_command_arrive_as_ids(bolt):
    texts = []

    @bolt.app.command("/access")
    async def access(ack, command):
        texts.append(command["text"])
        await ack()

    await bolt.sandbox.as_user("ada").commands("/access who @grace #general @db-owners a<b & c")
    grace, general = bolt.sandbox.as_user("grace").id, bolt.sandbox.state.channel_named("general").id
    group = next(iter(bolt.sandbox.state.groups))
    expected = f"who <@{grace}|grace> <#{general}|general> <!subteam^{group}|@db-owners> a&lt;b &amp; c"
    assert texts == [expected]


async def test_a_button_press_carries_the_message_and_the_app_can_update_it(bolt):
    presses = []

    @bolt.app.action("approve")
    async def approve(ack, body, client, respond):
        await ack()
        presses.append(body)
        await client.chat_update(
            channel=body["channel"]["id"],
            ts=body["message"]["ts"],
            text="approved",
            blocks=card(text="Approved"),
        )
        await respond(text="thank you", response_type="ephemeral", replace_original=False)

    channel = bolt.sandbox.state.channel_named("approvers").id
    await bolt.client.chat_postMessage(
        channel=channel,
        text="request",
        blocks=card(button("approve", "Approve")),
        metadata={"event_type": "request", "event_payload": {"id": "r1"}},
    )
    grace = bolt.sandbox.as_user("grace")
    seen = await grace.sees("Ada asks")
    await grace.clicks(seen, "Approve")
    await grace.sees_change(seen, "Approved")
    await grace.sees("thank you", ephemeral=True)
    [body] = presses
    assert body["actions"][0]["value"] == "42"
    assert body["actions"][0]["block_id"] == seen.blocks[1]["block_id"]
    assert body["user"]["id"] == grace.id
    assert body["container"] == {
        "type": "message",
        "message_ts": seen.ts,
        "channel_id": channel,
        "is_ephemeral": False,
    }
    assert body["message"]["metadata"]["event_payload"] == {"id": "r1"}


async def test_a_press_on_a_button_that_is_gone_needs_force(bolt):
    values = []

    @bolt.app.action("approve")
    async def approve(ack, action):
        await ack()
        values.append(action["value"])

    channel = bolt.sandbox.state.channel_named("approvers").id
    posted = await bolt.client.chat_postMessage(
        channel=channel, text="request", blocks=card(button("approve", "Approve"))
    )
    grace = bolt.sandbox.as_user("grace")
    stale = await grace.sees("Ada asks")
    await bolt.client.chat_update(channel=channel, ts=posted["ts"], text="done", blocks=card(text="Done"))
    with pytest.raises(NotPossible, match="sees no 'approve'"):
        await grace.clicks(stale, "approve")
    assert (await grace.clicks(stale, "approve", force=True)).acked
    assert (await grace.clicks(stale, "approve", value="evil", force=True)).acked
    assert values == ["42", "evil"]


async def test_a_button_hidden_from_a_person_cannot_be_pressed_by_that_person(bolt):
    grace, linus = bolt.sandbox.as_user("grace"), bolt.sandbox.as_user("linus")
    channel = bolt.sandbox.state.channel_named("approvers").id
    blocks = card(button("approve", "Approve", visible_to_user_ids=[grace.id]))
    await bolt.client.chat_postMessage(channel=channel, text="request", blocks=blocks)
    seen = await linus.sees("Ada asks")
    assert linus.buttons(seen) == []
    assert grace.buttons(seen) == ["Approve"]
    with pytest.raises(NotPossible):
        await linus.clicks(seen, "approve")


async def test_a_modal_opens_updates_shows_errors_and_submits(bolt):
    submitted = []

    @bolt.app.command("/access")
    async def access(ack, command, client):
        await ack()
        opened = await client.views_open(
            trigger_id=command["trigger_id"], view=modal(blocks=card(text="Loading"))
        )
        view = opened["view"]
        await client.views_update(view_id=view["id"], hash=view["hash"], view=modal())

    @bolt.app.view("request")
    async def submit(ack, view):
        values = view["state"]["values"]
        if values["reason"]["reason_input"]["value"] == "because":
            await ack(response_action="errors", errors={"reason": "Say why."})
        else:
            submitted.append((values, view["private_metadata"]))
            await ack()

    ada = bolt.sandbox.as_user("ada")
    await ada.commands("/access")
    await ada.sees_modal("Reason")
    with pytest.raises(NotPossible, match="reason"):
        await ada.submits({})
    await ada.submits({"reason": "because"})
    assert ada.modal.errors == {"reason": "Say why."}
    await ada.submits({"Reason": "INC-142"})
    assert ada.modal is None
    [(values, metadata)] = submitted
    assert values["reason"]["reason_input"] == {"type": "plain_text_input", "value": "INC-142"}
    assert values["resource"]["resource_input"]["value"] == "prod-db"
    assert metadata == "r1"


async def test_a_submission_can_push_update_and_clear(bolt):
    answers = iter([("push", "Second"), ("update", "Second, again"), ("clear", None)])

    @bolt.app.shortcut("request_access")
    async def shortcut(ack, body, client):
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=modal())

    @bolt.app.view("request")
    async def submit(ack):
        action, title = next(answers)
        view = modal(title={"type": "plain_text", "text": title}, blocks=card(text=title)) if title else None
        await ack({"response_action": action, **({"view": view} if view else {})})

    ada = bolt.sandbox.as_user("ada")
    await ada.shortcut("request_access")
    await ada.sees_modal("Request access")
    await ada.submits({"reason": "x"})
    assert [view.payload["title"]["text"] for view in ada.modals] == ["Request access", "Second"]
    assert ada.modal.previous_view_id == ada.modals[0].id
    await ada.submits()
    assert ada.modal.payload["title"]["text"] == "Second, again"
    await ada.submits()
    assert ada.modals == []


async def test_closing_a_modal_is_told_only_where_the_view_asks_for_it(bolt):
    closed = []

    @bolt.app.shortcut("open")
    async def shortcut(ack, body, client):
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=modal(notify_on_close=True))

    @bolt.app.view_closed("request")
    async def on_close(ack, body):
        await ack()
        closed.append(body["is_cleared"])

    ada = bolt.sandbox.as_user("ada")
    await ada.shortcut("open")
    await ada.sees_modal()
    await ada.closes()
    assert closed == [False]
    assert ada.modal is None


async def test_an_external_select_offers_what_the_app_finds(bolt):
    @bolt.app.options("resource")
    async def options(ack, payload):
        found = [name for name in ("prod-db", "prod-ssh", "dev-db") if payload["value"] in name]
        await ack(options=[{"text": {"type": "plain_text", "text": n}, "value": n} for n in found])

    chosen = []

    @bolt.app.action("resource")
    async def choose(ack, action):
        await ack()
        chosen.append(action["selected_option"]["value"])

    select = {"type": "external_select", "action_id": "resource", "min_query_length": 0}
    channel = bolt.sandbox.state.channel_named("general").id
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "pick"}, "accessory": select}]
    await bolt.client.chat_postMessage(channel=channel, text="pick", blocks=blocks)
    ada = bolt.sandbox.as_user("ada")
    seen = await ada.sees("pick")
    assert [o["value"] for o in await ada.searches(seen, "resource", "prod")] == ["prod-db", "prod-ssh"]
    await ada.selects(seen, "resource", "prod-ssh")
    assert chosen == ["prod-ssh"]
    with pytest.raises(NotPossible, match="not on offer"):
        await ada.selects(seen, "resource", "dev-db")


async def test_opening_the_home_tab_makes_the_app_publish_it(bolt):
    @bolt.app.event("app_home_opened")
    async def opened(event, client):
        await client.views_publish(
            user_id=event["user"], view={"type": "home", "blocks": card(text="My access")}
        )

    home = await bolt.sandbox.as_user("ada").opens_home()
    assert "My access" in text_of(home)
    assert bolt.sandbox.as_user("grace").home is None


async def test_a_reply_stays_in_its_thread(bolt):
    channel = bolt.sandbox.state.channel_named("general").id
    parent = await bolt.client.chat_postMessage(channel=channel, text="card", blocks=card())
    await bolt.client.chat_postMessage(channel=channel, text="granted", thread_ts=parent["ts"])
    ada = bolt.sandbox.as_user("ada")
    seen = await ada.sees("Ada asks")
    assert [m.text for m in ada.messages("#general")] == ["card"]
    assert [m.text for m in ada.messages("#general", thread=seen)] == ["granted"]
    replies = await bolt.client.conversations_replies(channel=channel, ts=parent["ts"])
    assert [m["text"] for m in replies["messages"]] == ["card", "granted"]


async def test_a_message_event_reaches_the_app_with_mentions_resolved(bolt):
    heard = asyncio.Queue()

    @bolt.app.event("message")
    async def message(event):
        await heard.put(event)

    ada, grace = bolt.sandbox.as_user("ada"), bolt.sandbox.as_user("grace")
    await ada.types("#general", "hello @grace, 1 < 2, see https://example.com/x")
    event = await asyncio.wait_for(heard.get(), 5)
    assert event["text"] == f"hello <@{grace.id}>, 1 &lt; 2, see <https://example.com/x>"
    assert event["user"] == ada.id


async def test_a_command_without_an_ack_times_out_visibly_and_is_not_retried(bolt):
    runs = []

    @bolt.app.command("/access")
    async def access(ack):
        runs.append(1)
        await asyncio.sleep(1.5)
        await ack("too late")

    ada = bolt.sandbox.as_user("ada")
    delivery = await ada.commands("/access status")
    assert delivery.error == "operation_timeout"
    await ada.sees('/access failed with the error "operation_timeout"', ephemeral=True)
    assert runs == [1]


async def test_a_command_in_a_thread_is_refused_by_slack_itself(bolt):
    ada = bolt.sandbox.as_user("ada")
    parent = await ada.types("#general", "a thread")
    assert await ada.types("#general", "/access status", thread=parent) is None
    await ada.sees("/access is not supported in threads", ephemeral=True)
    assert [d.kind for d in bolt.sandbox.deliveries if d.kind == "command"] == []


async def test_an_ephemeral_is_replaced_and_deleted_through_its_response_url(bolt):
    @bolt.app.command("/access")
    async def access(ack):
        await ack(text="Sure?", blocks=card(button("yes", "Yes"), button("no", "No"), text="Sure?"))

    @bolt.app.action("yes")
    async def yes(ack, respond, body):
        await ack()
        assert body["container"]["is_ephemeral"]
        await respond(replace_original=True, text="Done", blocks=card(button("no", "Close"), text="Done"))

    @bolt.app.action("no")
    async def no(ack, respond):
        await ack()
        await respond(delete_original=True)

    ada = bolt.sandbox.as_user("ada")
    await ada.commands("/access")
    asked = await ada.sees("Sure?", ephemeral=True)
    with pytest.raises(NotPossible):
        await bolt.sandbox.as_user("grace").clicks(asked, "yes")
    await ada.clicks(asked, "yes")
    done = await ada.sees_change(asked, "Done")
    await ada.clicks(done, "Close")
    assert ada.ephemerals() == []


async def test_a_person_outside_the_channel_can_press_nothing_there(bolt):
    channel = bolt.sandbox.state.channel_named("approvers").id
    await bolt.client.chat_postMessage(channel=channel, text="x", blocks=card(button("approve", "Approve")))
    seen = bolt.sandbox.as_user("grace").messages("#approvers")[-1]
    for outsider in ("ada", "gus"):
        with pytest.raises(NotPossible):
            await bolt.sandbox.as_user(outsider).clicks(seen, "approve")


async def test_a_resent_delivery_is_altered_yet_genuinely_signed(bolt):
    teams = []

    @bolt.app.command("/access")
    async def access(ack, command):
        teams.append(command["team_id"])
        await ack()

    delivery = await bolt.sandbox.as_user("ada").commands("/access status")
    again = await bolt.sandbox.resend(delivery, lambda payload: payload.update(team_id="T0OTHER"))
    assert again.acked
    assert teams == [bolt.sandbox.workspace.team_id, "T0OTHER"]
