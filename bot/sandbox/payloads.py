"""The payloads of commands and interactions, in Slack's shapes.

Sources: docs.slack.dev/interactivity/implementing-slash-commands and
docs.slack.dev/reference/interaction-payloads.
"""

from __future__ import annotations

import html
import re
from typing import Any

from .core import Core
from .methods_views import view_json
from .state import Channel, Json, Message, State, User, View
from .values import values_of

TOKEN = "sandbox-verification-token"  # noqa: S105 - the deprecated verification token


def escaped(state: State, text: str) -> str:
    """What a person typed, as Slack stores it: entities escaped, @names, #channels and links resolved."""
    return _resolved(state, html.escape(text, quote=False), labels=False)


def escaped_command(state: State, text: str) -> str:
    """The text of a command with `should_escape`: `<@U123|ada>`, `<#C123|general>`, `<!subteam^S1|@sre>`."""
    return _resolved(state, html.escape(text, quote=False), labels=True)


def _resolved(state: State, text: str, *, labels: bool) -> str:
    users = {user.name: user for user in state.users.values()}
    groups = {group.handle: group for group in state.groups.values()}
    channels = {channel.name: channel for channel in state.channels.values() if channel.name}

    def at(match: re.Match[str]) -> str:
        name, dots = match[1].rstrip("."), match[1][len(match[1].rstrip(".")) :]
        if name in users:
            label = f"|{name}" if labels else ""
            return f"<@{users[name].id}{label}>{dots}"
        if name in groups:
            label = f"|@{name}" if labels else ""
            return f"<!subteam^{groups[name].id}{label}>{dots}"
        return f"<!{name}>{dots}" if name in ("here", "channel", "everyone") else match[0]

    def hashed(match: re.Match[str]) -> str:
        found = channels.get(match[1])
        if found is None:
            return match[0]
        return f"<#{found.id}|{found.name if labels else ''}>" if labels else f"<#{found.id}>"

    text = re.sub(r"(?<![\w@<])@([a-z0-9][a-z0-9._-]*)", at, text)
    text = re.sub(r"(?<![\w#<&])#([a-z0-9][a-z0-9_-]*)", hashed, text)
    return text if labels else re.sub(r"(?<![<|\w])(https?://[^\s<>]+)", r"<\1>", text)


def channel_name(channel: Channel) -> str:
    if channel.is_im:
        return "directmessage"
    return "privategroup" if channel.is_private else channel.name


def _who(core: Core, user: User) -> Json:
    ours = user.team_id == core.workspace.team_id
    domain = core.workspace.domain if ours else f"team-{user.team_id.lower()}"
    return {
        "team": {"id": user.team_id, "domain": domain},
        "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": user.team_id},
        "api_app_id": core.app.id,
        "token": TOKEN,
        "enterprise": None,
        "is_enterprise_install": False,
    }


def response_url(core: Core, kind: str, key: str) -> str:
    return f"{core.base_url}/{kind}/{core.workspace.team_id}/{key}"


def command(core: Core, user: User, channel: Channel, name: str, text: str) -> Json:
    state = core.state
    entry = core.app.command(name) or {}
    sent = escaped_command(state, text) if entry.get("should_escape") else text
    return {
        "token": TOKEN,
        "team_id": user.team_id,
        "team_domain": core.workspace.domain,
        "channel_id": channel.id,
        "channel_name": channel_name(channel),
        "user_id": user.id,
        "user_name": user.name,
        "command": name,
        "text": sent,
        "api_app_id": core.app.id,
        "is_enterprise_install": "false",
        "response_url": response_url(core, "commands", state.new_response_url(user.id, channel.id)),
        "trigger_id": state.new_trigger(user.id),
    }


def message_container(core: Core, user: User, message: Message) -> Json:
    channel = core.state.channels[message.channel]
    container: Json = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": channel.id,
        "is_ephemeral": message.ephemeral_for is not None,
    }
    if message.thread_ts:
        container["thread_ts"] = message.thread_ts
    inputs = core.state.inputs.get(message_input_key(user.id, message), {})
    body: Json = {
        "container": container,
        "channel": {"id": channel.id, "name": channel_name(channel)},
        "state": {"values": values_of(message.blocks, inputs)},
    }
    if message.ephemeral_for is None:
        body["message"] = core.message_json(message, metadata=True)
    return body


def message_input_key(user_id: str, message: Message) -> str:
    return f"message:{user_id}:{message.channel}:{message.ts}"


def view_container(core: Core, view: View) -> Json:
    return {"container": {"type": "view", "view_id": view.id}, "view": view_json(core, view)}


def _container(core: Core, user: User, surface: Message | View) -> Json:
    return (
        message_container(core, user, surface)
        if isinstance(surface, Message)
        else view_container(core, surface)
    )


def block_actions(core: Core, user: User, surface: Message | View, action: Json) -> Json:
    state = core.state
    body = {"type": "block_actions", **_who(core, user), **_container(core, user, surface)}
    body["actions"] = [action | {"action_ts": state.new_ts()}]
    if isinstance(surface, Message):
        body["trigger_id"] = state.new_trigger(user.id)
        key = state.new_response_url(user.id, surface.channel, surface.ts, surface.thread_ts)
        body["response_url"] = response_url(core, "actions", key)
    else:
        body["trigger_id"] = state.new_trigger(user.id, surface.id)
    return body


def block_suggestion(
    core: Core, user: User, surface: Message | View, block: Json, element: Json, text: str
) -> Json:
    return {
        "type": "block_suggestion",
        **_who(core, user),
        **_container(core, user, surface),
        "action_id": element["action_id"],
        "block_id": block["block_id"],
        "value": text,
    }


def view_submission(core: Core, user: User, view: View) -> Json:
    return {
        "type": "view_submission",
        **_who(core, user),
        "view": view_json(core, view),
        "trigger_id": core.state.new_trigger(user.id, view.id),
        "response_urls": [],
    }


def view_closed(core: Core, user: User, view: View, is_cleared: bool) -> Json:
    body = {"type": "view_closed", **_who(core, user), "view": view_json(core, view)}
    return body | {"is_cleared": is_cleared}


def shortcut(core: Core, user: User, callback_id: str) -> Json:
    return {
        "type": "shortcut",
        **_who(core, user),
        "callback_id": callback_id,
        "action_ts": core.state.new_ts(),
        "trigger_id": core.state.new_trigger(user.id),
    }


def message_shortcut(core: Core, user: User, callback_id: str, message: Message) -> Json:
    state = core.state
    channel = state.channels[message.channel]
    key = state.new_response_url(user.id, channel.id, message.ts, message.thread_ts)
    return {
        "type": "message_action",
        **_who(core, user),
        "callback_id": callback_id,
        "channel": {"id": channel.id, "name": channel_name(channel)},
        "message": core.message_json(message),
        "message_ts": message.ts,
        "action_ts": state.new_ts(),
        "trigger_id": state.new_trigger(user.id),
        "response_url": response_url(core, "actions", key),
    }


def action(block: Json, element: Json, value: Any = None) -> Json:
    """The entry of `actions` for a press of a button (`value` tampers) or for a chosen value (a dict)."""
    body: Json = {"type": element["type"], "action_id": element["action_id"], "block_id": block["block_id"]}
    if element["type"] == "button":
        body["text"] = element["text"]
        for key in ("value", "style", "url"):
            if key in element:
                body[key] = element[key]
        return body | ({"value": value} if value is not None else {})
    return body | (value or {})
