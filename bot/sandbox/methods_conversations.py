"""conversations.*"""

from __future__ import annotations

from .core import Core
from .errors import SlackError
from .method import Call, method, need_scope, page
from .state import Channel, Json, Message


def channel_json(core: Core, channel: Channel) -> Json:
    body: Json = {
        "id": channel.id,
        "created": channel.created,
        "is_archived": channel.is_archived,
        "is_im": channel.is_im,
        "is_private": channel.is_private,
        "is_ext_shared": channel.is_ext_shared,
        "is_shared": channel.is_ext_shared,
        "is_org_shared": False,
        "context_team_id": core.workspace.team_id,
    }
    if channel.is_im:
        return body | {"user": next((m for m in channel.members if m != core.bot_user), core.bot_user)}
    return body | {
        "name": channel.name,
        "name_normalized": channel.name,
        "is_channel": not channel.is_private,
        "is_group": channel.is_private,
        "is_mpim": False,
        "is_general": channel.name == "general",
        "is_member": core.bot_user in channel.members,
        "num_members": len(channel.members),
        "topic": {"value": channel.topic, "creator": "", "last_set": 0},
    }


@method("conversations.open", "im:write", tier=3)
def conversations_open(call: Call) -> Json:
    users = [user for user in call.text("users").split(",") if user]
    if len(users) != 1:
        raise SlackError("users_list_not_supplied" if not users else "not_supported")
    user = call.core.state.users.get(users[0])
    if user is None:
        raise SlackError("user_not_found")
    if user.deleted:
        raise SlackError("user_disabled")
    if user.is_bot:
        raise SlackError("cannot_dm_bot")
    channel = call.core.state.im_between(user.id, call.core.bot_user)
    body = channel_json(call.core, channel) if call.flag("return_im") else {"id": channel.id}
    return {"channel": body}


@method("conversations.info", "channels:read", "groups:read", "im:read", tier=3)
def conversations_info(call: Call) -> Json:
    channel = call.channel()
    call.need_scope_for(channel, "read")
    return {"channel": channel_json(call.core, channel)}


@method("conversations.list", "channels:read", "groups:read", "im:read", tier=2)
def conversations_list(call: Call) -> Json:
    kinds = {"public_channel": "channels:read", "private_channel": "groups:read", "im": "im:read"}
    wanted = [kind.strip() for kind in call.text("types", "public_channel").split(",")]
    for kind in wanted:
        if kind not in kinds:
            raise SlackError("invalid_types")
        need_scope(call.scopes, (kinds[kind],))
    found = [
        channel
        for channel in call.core.state.channels.values()
        if _kind(channel) in wanted
        and not (channel.is_archived and call.flag("exclude_archived"))
        and (not channel.is_private or call.core.bot_user in channel.members)
    ]
    part, metadata = page(call, found)
    return {"channels": [channel_json(call.core, c) for c in part], "response_metadata": metadata}


def _kind(channel: Channel) -> str:
    if channel.is_im:
        return "im"
    return "private_channel" if channel.is_private else "public_channel"


@method("conversations.members", "channels:read", "groups:read", "im:read", tier=4)
def conversations_members(call: Call) -> Json:
    channel = call.channel()
    call.need_scope_for(channel, "read")
    part, metadata = page(call, channel.members)
    return {"members": list(part), "response_metadata": metadata}


def _within(call: Call, message: Message) -> bool:
    oldest, latest = call.text("oldest"), call.text("latest")
    if call.flag("inclusive") and message.ts in (oldest, latest):
        return True
    return (not oldest or message.ts > oldest) and (not latest or message.ts < latest)


def _history_of(call: Call) -> Channel:
    channel = call.channel()
    call.need_scope_for(channel, "history")
    if call.core.bot_user not in channel.members:
        raise SlackError("not_in_channel")
    return channel


@method("conversations.history", "channels:history", "groups:history", "im:history", tier=3)
def conversations_history(call: Call) -> Json:
    channel = _history_of(call)
    top = [
        m for m in call.core.state.in_channel(channel.id) if m.thread_ts in (None, m.ts) and _within(call, m)
    ]
    part, metadata = page(call, top[::-1])
    with_metadata = call.flag("include_all_metadata")
    return {
        "messages": [call.core.message_json(m, metadata=with_metadata) for m in part],
        "has_more": bool(metadata["next_cursor"]),
        "response_metadata": metadata,
    }


@method("conversations.replies", "channels:history", "groups:history", "im:history", tier=3)
def conversations_replies(call: Call) -> Json:
    channel = _history_of(call)
    parent = call.core.state.message(channel.id, call.required("ts"))
    if parent is None or parent.ephemeral_for is not None:
        raise SlackError("thread_not_found")
    replies = [m for m in call.core.state.replies(channel.id, parent.ts) if _within(call, m)]
    part, metadata = page(call, [parent, *replies], default=1000)
    with_metadata = call.flag("include_all_metadata")
    return {
        "messages": [call.core.message_json(m, metadata=with_metadata) for m in part],
        "has_more": bool(metadata["next_cursor"]),
        "response_metadata": metadata,
    }
