"""The Web API refuses what Slack refuses, with Slack's error codes."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox import create_sandbox


def blocks(text: str = "hello") -> list[dict[str, Any]]:
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]


def a_modal(**more: Any) -> dict[str, Any]:
    return {"type": "modal", "title": {"type": "plain_text", "text": "M"}, "blocks": blocks(), **more}


async def error_of(call: Any) -> Any:
    with pytest.raises(SlackApiError) as refused:
        await call
    return refused.value.response


def channel(bolt: Any, name: str) -> str:
    return str(bolt.sandbox.state.channel_named(name).id)


async def test_a_wrong_token_is_refused_and_no_token_at_all_is_told_apart(api):
    assert (await error_of(AsyncWebClient("xoxb-wrong", base_url=api.sandbox.api_url).auth_test()))[
        "error"
    ] == "invalid_auth"
    assert (await error_of(AsyncWebClient(base_url=api.sandbox.api_url).auth_test()))["error"] == "not_authed"


async def test_a_missing_scope_is_named(clock, workspace_with):
    manifest = {"oauth_config": {"scopes": {"bot": ["chat:write"]}}}
    async with create_sandbox(workspace_with(manifest=manifest), clock) as sandbox:
        client = AsyncWebClient(sandbox.workspace.app.bot_token, base_url=sandbox.api_url)
        refusal = await error_of(client.users_info(user=sandbox.as_user("ada").id))
        assert (refusal["error"], refusal["needed"]) == ("missing_scope", "users:read")
        assert refusal["provided"] == "chat:write"
        await client.chat_postMessage(channel=sandbox.state.channel_named("general").id, text="fine")


async def test_an_email_is_shown_only_with_its_scope(clock, workspace_with):
    manifest = {"oauth_config": {"scopes": {"bot": ["users:read"]}}}
    async with create_sandbox(workspace_with(manifest=manifest), clock) as sandbox:
        client = AsyncWebClient(sandbox.workspace.app.bot_token, base_url=sandbox.api_url)
        found = await client.users_info(user=sandbox.as_user("ada").id)
        assert "email" not in found["user"]["profile"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("elsewhere", "not_in_channel"), ("old", "is_archived")],
)
async def test_posting_where_the_app_may_not_is_refused(api, name, error):
    refusal = await error_of(api.client.chat_postMessage(channel=channel(api, name), text="hi"))
    assert refusal["error"] == error


async def test_a_private_channel_without_the_app_does_not_exist_for_it(api):
    where = channel(api, "approvers")
    api.sandbox.admin.removes_app("approvers")
    assert (await error_of(api.client.chat_postMessage(channel=where, text="hi")))[
        "error"
    ] == "channel_not_found"


async def test_only_own_messages_are_updated_and_deleted_ones_are_not_found(api):
    where = channel(api, "general")
    theirs = await api.sandbox.as_user("ada").types("#general", "mine")
    refusal = await error_of(api.client.chat_update(channel=where, ts=theirs.ts, text="ours now"))
    assert refusal["error"] == "cant_update_message"
    posted = await api.client.chat_postMessage(channel=where, text="card", blocks=blocks())
    api.sandbox.admin.deletes(api.sandbox.state.message(where, posted["ts"]))
    refusal = await error_of(api.client.chat_update(channel=where, ts=posted["ts"], text="late"))
    assert refusal["error"] == "message_not_found"


async def test_an_ephemeral_is_seen_by_one_person_and_cannot_be_updated(api):
    where, ada = channel(api, "general"), api.sandbox.as_user("ada")
    posted = await api.client.chat_postEphemeral(channel=where, user=ada.id, text="psst")
    assert [m.text for m in ada.ephemerals()] == ["psst"]
    assert api.sandbox.as_user("grace").ephemerals() == []
    refusal = await error_of(api.client.chat_update(channel=where, ts=posted["message_ts"], text="x"))
    assert refusal["error"] == "message_not_found"
    outsider = api.client.chat_postEphemeral(channel=channel(api, "approvers"), user=ada.id, text="x")
    assert (await error_of(outsider))["error"] == "user_not_in_channel"


async def test_blocks_without_a_fallback_text_and_too_long_a_text_are_refused(api):
    where = channel(api, "general")
    refusal = await error_of(
        api.client.api_call("chat.postMessage", json={"channel": where, "blocks": blocks()})
    )
    assert refusal["error"] == "no_text"
    refusal = await error_of(api.client.chat_postMessage(channel=where, text="x" * 40_001))
    assert refusal["error"] == "msg_too_long"
    many = [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3000}}] * 5
    refusal = await error_of(api.client.chat_postMessage(channel=where, text="x", blocks=many))
    assert refusal["error"] == "msg_blocks_too_long"


async def test_invalid_blocks_come_with_a_json_pointer(api):
    bad = blocks("x" * 3001)
    refusal = await error_of(
        api.client.chat_postMessage(channel=channel(api, "general"), text="x", blocks=bad)
    )
    assert refusal["error"] == "invalid_blocks"
    assert refusal["response_metadata"]["messages"] == [
        "[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]"
    ]


async def test_form_and_json_bodies_mean_the_same(api):
    where = channel(api, "general")
    await api.client.api_call("chat.postMessage", params={"channel": where, "text": "as a form"})
    await api.client.api_call("chat.postMessage", json={"channel": where, "text": "as JSON"})
    found = await api.client.conversations_history(channel=where)
    assert [m["text"] for m in found["messages"]] == ["as JSON", "as a form"]


async def test_metadata_is_returned_only_when_asked_for(api):
    where = channel(api, "general")
    metadata = {"event_type": "request", "event_payload": {"id": "r1"}}
    posted = await api.client.chat_postMessage(channel=where, text="card", metadata=metadata)
    plain = await api.client.conversations_history(channel=where)
    assert "metadata" not in plain["messages"][0]
    full = await api.client.conversations_replies(channel=where, ts=posted["ts"], include_all_metadata=True)
    assert full["messages"][0]["metadata"] == metadata


async def test_long_lists_come_in_pages(api):
    where = channel(api, "general")
    for number in range(5):
        await api.client.chat_postMessage(channel=where, text=str(number))
    seen, cursor = [], None
    while cursor != "":
        page = await api.client.conversations_history(channel=where, limit=2, cursor=cursor)
        seen += [m["text"] for m in page["messages"]]
        cursor = page["response_metadata"]["next_cursor"]
    assert seen == ["4", "3", "2", "1", "0"]


async def test_message_time_stamps_are_unique_while_the_clock_stands_still(api):
    where = channel(api, "general")
    stamps = [(await api.client.chat_postMessage(channel=where, text="x"))["ts"] for _ in range(5)]
    assert stamps == sorted(set(stamps))


async def test_people_and_groups_are_looked_up(api):
    ada = api.sandbox.as_user("ada")
    assert (await api.client.users_lookupByEmail(email="ADA@example.com"))["user"]["id"] == ada.id
    group = (await api.client.usergroups_list(include_users=True))["usergroups"][0]
    assert group["handle"] == "db-owners"
    api.sandbox.admin.changes_user("linus", deleted=True)
    members = await api.client.usergroups_users_list(usergroup=group["id"])
    assert members["users"] == [api.sandbox.as_user("grace").id]
    api.sandbox.admin.changes_user("ada", deleted=True)
    refusal = await error_of(api.client.users_lookupByEmail(email="ada@example.com"))
    assert refusal["error"] == "users_not_found"
    assert (await error_of(api.client.users_info(user="U0NOBODY")))["error"] == "user_not_found"


async def test_a_direct_message_is_opened_by_the_person_s_id(api):
    ada = api.sandbox.as_user("ada")
    opened = await api.client.conversations_open(users=ada.id)
    await api.client.chat_postMessage(channel=opened["channel"]["id"], text="by channel")
    await api.client.chat_postMessage(channel=ada.id, text="by user")
    assert [m.text for m in ada.dms()] == ["by channel", "by user"]
    assert (await error_of(api.client.conversations_open(users=api.sandbox.core.bot_user)))[
        "error"
    ] == "cannot_dm_bot"


async def test_a_trigger_opens_one_modal_within_three_seconds(api, clock):
    state, ada = api.sandbox.state, api.sandbox.as_user("ada")
    trigger = state.new_trigger(ada.id)
    await api.client.views_open(trigger_id=trigger, view=a_modal())
    refusal = await error_of(api.client.views_open(trigger_id=trigger, view=a_modal()))
    assert refusal["error"] == "exchanged_trigger_id"
    late = state.new_trigger(ada.id)
    clock.advance(3.1)
    assert (await error_of(api.client.views_open(trigger_id=late, view=a_modal())))[
        "error"
    ] == "expired_trigger_id"
    refusal = await error_of(api.client.views_open(trigger_id="1.2.3", view=a_modal()))
    assert refusal["error"] == "invalid_trigger_id"


async def test_a_view_is_updated_only_with_the_hash_it_has_now(api):
    opened = await api.client.views_open(
        trigger_id=api.sandbox.state.new_trigger(api.sandbox.as_user("ada").id), view=a_modal()
    )
    view = opened["view"]
    await api.client.views_update(view_id=view["id"], hash=view["hash"], view=a_modal())
    refusal = await error_of(api.client.views_update(view_id=view["id"], hash=view["hash"], view=a_modal()))
    assert refusal["error"] == "hash_conflict"
    assert (await error_of(api.client.views_update(view_id="V404", view=a_modal())))["error"] == "not_found"


async def test_three_modals_stack_and_a_fourth_is_refused(api):
    state, ada = api.sandbox.state, api.sandbox.as_user("ada")
    await api.client.views_open(trigger_id=state.new_trigger(ada.id), view=a_modal())
    for _ in range(2):
        await api.client.views_push(trigger_id=state.new_trigger(ada.id), view=a_modal())
    refusal = await error_of(api.client.views_push(trigger_id=state.new_trigger(ada.id), view=a_modal()))
    assert refusal["error"] == "push_limit_reached"
    assert len(ada.modals) == 3


async def test_a_response_url_works_five_times_within_thirty_minutes(api, clock):
    sandbox, ada = api.sandbox, api.sandbox.as_user("ada")
    where = channel(api, "general")

    async def respond(key: str) -> int:
        url = f"{sandbox.base_url}/commands/T0/{key}"
        async with aiohttp.ClientSession() as http, http.post(url, json={"text": "hi"}) as reply:
            return reply.status

    key = sandbox.state.new_response_url(ada.id, where)
    assert [await respond(key) for _ in range(6)] == [200] * 5 + [404]
    late = sandbox.state.new_response_url(ada.id, where)
    clock.advance(30 * 60 + 1)
    assert await respond(late) == 404
    assert len(ada.ephemerals()) == 5


async def test_a_file_is_uploaded_into_a_thread(api):
    where = channel(api, "general")
    parent = await api.client.chat_postMessage(channel=where, text="card")
    done = await api.client.files_upload_v2(
        channel=where, thread_ts=parent["ts"], filename="rows.csv", content="a,b\n1,2\n", title="Rows"
    )
    assert done["file"]["title"] == "Rows"
    ada = api.sandbox.as_user("ada")
    [reply] = ada.messages("#general", thread=parent["ts"])
    assert reply.files == [done["file"]["id"]]


async def test_a_busy_channel_and_a_busy_method_are_rate_limited_until_time_passes(clock, workspace_with):
    async with create_sandbox(workspace_with(), clock, rate_clock=clock) as sandbox:
        client = AsyncWebClient(sandbox.workspace.app.bot_token, base_url=sandbox.api_url)
        where = sandbox.state.channel_named("general").id
        for _ in range(10):
            await client.chat_postMessage(channel=where, text="x")
        refusal = await error_of(client.chat_postMessage(channel=where, text="x"))
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (429, "1")
        clock.advance(1)
        await client.chat_postMessage(channel=where, text="x")
        for _ in range(20):
            await client.usergroups_list()
        refusal = await error_of(client.usergroups_list())
        assert (refusal["error"], refusal.headers["Retry-After"]) == ("ratelimited", "3")


async def test_blocks_are_validated_without_a_token(api):
    nobody = AsyncWebClient(base_url=api.sandbox.api_url)
    assert (await nobody.api_call("blocks.validate", json={"blocks": blocks()}))["ok"]
    refusal = await error_of(nobody.api_call("blocks.validate", json={"blocks": [{"type": "nonsense"}]}))
    assert refusal["error"] == "invalid_blocks"


async def test_an_unknown_method_is_said_to_be_unknown(api):
    assert (await error_of(api.client.api_call("chat.shout")))["error"] == "unknown_method"
