"""What one person sees, as JSON for the page: only that person's ephemerals, buttons, modals and home tab."""

from __future__ import annotations

import copy
from typing import Any

from .client import blocks_of, surface_key, visible_to
from .core import Core
from .state import Channel, Json, Message, User, View
from .values import values_of

LATEST = 200


def snapshot(core: Core, viewer: User | None, channel_id: str | None, thread_ts: str | None) -> Json:
    """Without a viewer only who there is, and what the workspace is called."""
    state = core.state
    body: Json = {
        "version": state.version,
        "now": state.clock(),
        "team": core.workspace.name,
        "app": {"name": core.app.name, "user": core.bot_user, "id": core.app.id},
        "users": [_user(user) for user in state.users.values()],
        "groups": [{"id": g.id, "handle": g.handle, "users": g.users} for g in state.groups.values()],
        "commands": [
            {key: entry.get(key, "") for key in ("command", "description", "usage_hint")}
            for entry in core.app.commands
        ],
        "shortcuts": [s for s in core.app.shortcuts if s.get("type") == "global"],
        "channels": [],
    }
    if viewer is None:
        return body
    body["channels"] = [_channel(core, viewer, c) for c in state.channels.values() if viewer.id in c.members]
    body["home"] = _view(core, viewer, state.homes.get(viewer.id))
    body["modals"] = [_view(core, viewer, view) for view in state.modals.get(viewer.id, [])]
    channel = state.channels.get(channel_id or "")
    if channel is not None and viewer.id in channel.members:
        top = [m for m in state.in_channel(channel.id, viewer.id) if m.thread_ts in (None, m.ts)]
        body["messages"] = [_message(core, viewer, message) for message in top[-LATEST:]]
        parent = state.message(channel.id, thread_ts) if thread_ts else None
        if parent is not None:
            replies = state.replies(channel.id, parent.ts, viewer.id)
            body["thread"] = [_message(core, viewer, message) for message in [parent, *replies]]
    return body


def _user(user: User) -> Json:
    names = ("id", "name", "real_name", "title", "tz", "is_bot", "deleted", "is_stranger", "is_restricted")
    return {name: getattr(user, name) for name in names} | {"is_guest": user.is_ultra_restricted}


def _channel(core: Core, viewer: User, channel: Channel) -> Json:
    seen = core.state.read.get(viewer.id, {}).get(channel.id, "")
    unread = [m for m in core.state.in_channel(channel.id, viewer.id) if m.ts > seen and m.user != viewer.id]
    return {
        "id": channel.id,
        "name": channel.name,
        "topic": channel.topic,
        "is_im": channel.is_im,
        "is_private": channel.is_private,
        "is_archived": channel.is_archived,
        "is_ext_shared": channel.is_ext_shared,
        "members": channel.members,
        "peer": next((m for m in channel.members if m != viewer.id), viewer.id) if channel.is_im else None,
        "unread": len(unread),
        "mentions": sum(channel.is_im or _mentions(core, viewer, message) for message in unread),
        "latest": max((m.ts for m in core.state.in_channel(channel.id, viewer.id)), default=""),
    }


def _mentions(core: Core, viewer: User, message: Message) -> bool:
    words = str(message.text) + str(message.blocks)
    mine = [f"<@{viewer.id}", "<!here", "<!channel"]
    mine += [f"<!subteam^{group.id}" for group in core.state.groups.values() if viewer.id in group.users]
    mine += [
        f"'usergroup_id': '{group.id}'" for group in core.state.groups.values() if viewer.id in group.users
    ]
    return any(mark in words for mark in mine)


def _message(core: Core, viewer: User, message: Message) -> Json:
    body = core.message_json(message)
    body["blocks"] = _visible(viewer, message.blocks)
    body["channel"] = message.channel
    body["values"] = _values(core, viewer, message)
    body["ephemeral"] = message.ephemeral_for is not None
    return body


def _view(core: Core, viewer: User, view: View | None) -> Json | None:
    if view is None:
        return None
    payload: Json = {key: view.payload.get(key) for key in ("type", "title", "submit", "close")}
    return payload | {
        "id": view.id,
        "hash": view.hash,
        "errors": view.errors,
        "blocks": _visible(viewer, view.payload["blocks"]),
        "values": _values(core, viewer, view),
    }


def _values(core: Core, viewer: User, surface: Message | View) -> Json:
    inputs = core.state.inputs.get(surface_key(viewer, surface), {})
    return values_of(blocks_of(surface), inputs)


def _visible(viewer: User, blocks: list[Json]) -> list[Any]:
    """The blocks without the buttons that this person does not see, and without rows left empty by that."""
    kept = []
    for block in copy.deepcopy(blocks):
        if block["type"] == "actions":
            block["elements"] = [e for e in block["elements"] if visible_to(e, viewer.id)]
            if not block["elements"]:
                continue
        if not visible_to(block.get("accessory") or {}, viewer.id):
            del block["accessory"]
        kept.append(block)
    return kept
