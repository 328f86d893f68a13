"""chat.*, reactions.add and blocks.validate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .block_kit_rules import MESSAGE_TEXT, check_message, check_view, too_many_characters
from .errors import SlackError
from .method import Call, method
from .state import Channel, Json, Message, State


def name_parts(state: State, blocks: list[Json]) -> list[Json]:
    """Give blocks and interactive elements the ids that the app left out, as Slack does."""
    for block in blocks:
        block.setdefault("block_id", state.new_id("b"))
        elements = [*(block.get("elements") or []), block.get("accessory"), block.get("element")]
        if block["type"] in ("context", "rich_text"):
            continue
        for element in elements:
            if isinstance(element, dict) and element.get("type") != "image":
                element.setdefault("action_id", state.new_id("a"))
    return blocks


def checked_blocks(call: Call) -> list[Json] | None:
    """The blocks of a call, valid and named; None where it brings none."""
    blocks = call.json_value("blocks", "invalid_blocks_format")
    if blocks is None:
        return None
    if not isinstance(blocks, list):
        raise SlackError("invalid_blocks_format")
    return valid_blocks(call.core.state, blocks)


def valid_blocks(state: State, blocks: list[Json]) -> list[Json]:
    problems = check_message(blocks)
    if problems:
        raise SlackError("invalid_blocks", errors=problems, response_metadata={"messages": problems})
    if too_many_characters(blocks):
        raise SlackError("msg_blocks_too_long")
    return name_parts(state, blocks)


def checked_text(call: Call, blocks: list[Json] | None) -> str:
    """The text of a call. Blocks need one too: it is what notifications and screen readers get."""
    text = call.text("text")
    if len(text) > MESSAGE_TEXT:
        raise SlackError("msg_too_long")
    attachments = call.json_value("attachments", "invalid_attachments")
    if not text.strip() and not (attachments and not blocks):
        hint = "[ERROR] top-level `text` is required: it is the fallback of `blocks`"
        raise SlackError("no_text", response_metadata={"messages": [hint]})
    return text


def _metadata(call: Call) -> Json | None:
    value = call.json_value("metadata", "invalid_metadata_format")
    if value is None:
        return None
    good = isinstance(value, dict) and isinstance(value.get("event_type"), str)
    if not good or not isinstance(value.get("event_payload"), Mapping):
        raise SlackError("invalid_metadata_format")
    return {"event_type": value["event_type"], "event_payload": value["event_payload"]}


def _target(call: Call) -> Channel:
    """Where to post: a channel, or a person's direct messages by the person's id."""
    wanted = call.required("channel")
    state = call.core.state
    if wanted in state.users:
        if state.users[wanted].deleted:
            raise SlackError("user_disabled")
        channel = state.im_between(wanted, call.core.bot_user)
    else:
        channel = call.channel()
    if channel.is_archived:
        raise SlackError("is_archived")
    if call.core.bot_user not in channel.members and "chat:write.public" not in call.scopes:
        raise SlackError("not_in_channel")
    return channel


def _thread(call: Call, channel: Channel) -> str | None:
    thread_ts = call.text("thread_ts") or None
    if thread_ts is not None and call.core.state.message(channel.id, thread_ts) is None:
        raise SlackError("thread_not_found")
    return thread_ts


@method("chat.postMessage", "chat:write")
def post_message(call: Call) -> Json:
    channel = _target(call)
    blocks = checked_blocks(call)
    text = checked_text(call, blocks)
    metadata, thread_ts = _metadata(call), _thread(call, channel)
    call.core.limits.post(channel.id)
    message = Message(
        call.core.state.new_ts(),
        channel.id,
        call.core.bot_user,
        text,
        blocks or [],
        thread_ts,
        call.core.bot_id,
        metadata,
        attachments=call.json_value("attachments", "invalid_attachments") or [],
    )
    call.core.post(message)
    return {
        "channel": channel.id,
        "ts": message.ts,
        "message": call.core.message_json(message, metadata=True),
    }


@method("chat.update", "chat:write", tier=3)
def update(call: Call) -> Json:
    channel = call.channel()
    if channel.is_archived:
        raise SlackError("is_archived")
    message = call.message(channel, call.required("ts"))
    if message.bot_id != call.core.bot_id:
        raise SlackError("cant_update_message")
    blocks = checked_blocks(call)
    text = checked_text(call, blocks)
    metadata = _metadata(call)
    message.text = text
    message.blocks = message.blocks if blocks is None else blocks
    message.metadata = message.metadata if metadata is None else metadata
    message.edited_ts = call.core.state.new_ts()
    call.core.message_changed(message)
    return {
        "channel": channel.id,
        "ts": message.ts,
        "text": text,
        "message": call.core.message_json(message, metadata=True),
    }


@method("chat.delete", "chat:write", tier=3)
def delete(call: Call) -> Json:
    channel = call.channel()
    message = call.message(channel, call.required("ts"))
    if message.bot_id != call.core.bot_id:
        raise SlackError("cant_delete_message")
    call.core.state.remove_message(channel.id, message.ts)
    call.core.message_deleted(message)
    return {"channel": channel.id, "ts": message.ts}


@method("chat.postEphemeral", "chat:write", tier=4)
def post_ephemeral(call: Call) -> Json:
    channel = call.channel()
    if channel.is_archived:
        raise SlackError("is_archived")
    if call.core.bot_user not in channel.members:
        raise SlackError("not_in_channel")
    user = call.user()
    if user.id not in channel.members:
        raise SlackError("user_not_in_channel")
    blocks = checked_blocks(call)
    text = checked_text(call, blocks)
    thread_ts = _thread(call, channel)
    message = Message(
        call.core.state.new_ts(),
        channel.id,
        call.core.bot_user,
        text,
        blocks or [],
        thread_ts,
        call.core.bot_id,
        ephemeral_for=user.id,
    )
    call.core.post(message)
    return {"message_ts": message.ts}


@method("chat.getPermalink")
def get_permalink(call: Call) -> Json:
    channel = call.channel()
    message = call.message(channel, call.required("message_ts"))
    return {"channel": channel.id, "permalink": call.core.permalink(channel.id, message.ts)}


@method("reactions.add", "reactions:write", tier=3)
def add_reaction(call: Call) -> Json:
    channel = call.channel()
    message = call.message(channel, call.required("timestamp"))
    name = call.required("name").strip(":")
    users = message.reactions.setdefault(name, [])
    if call.core.bot_user in users:
        raise SlackError("already_reacted")
    users.append(call.core.bot_user)
    call.core.state.changed()
    return {}


@method("blocks.validate", tier=3, needs_token=False)
def validate(call: Call) -> Json:
    blocks: Any = call.json_value("blocks", "invalid_blocks_format")
    view: Any = call.json_value("view", "invalid_arguments")
    problems = check_view(view, str(view.get("type"))) if isinstance(view, dict) else check_message(blocks)
    if problems:
        raise SlackError("invalid_blocks", errors=problems, response_metadata={"messages": problems})
    return {}
