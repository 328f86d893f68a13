"""Fills a fresh workspace from its `Workspace` configuration, and adds to an older state what is new."""

from __future__ import annotations

import re
from dataclasses import asdict

from .config import App, Workspace
from .state import Channel, State, User, UserGroup

SLACKBOT = "USLACKBOT"


def derived_id(prefix: str, name: str) -> str:
    """A Slack-looking id that depends on the name alone: `derived_id("U", "ada") == "U0ADA00000"`."""
    return f"{prefix}0{re.sub('[^A-Z0-9]', '', name.upper())[:24]:0<8}"


def bot_user_id(app: App) -> str:
    return derived_id("U", app.handle)


def bot_id(app: App) -> str:
    return derived_id("B", app.handle)


def seed(state: State, workspace: Workspace) -> None:
    """Idempotent: what exists already (by id) is kept with its messages; people and channels that are
    new are added."""
    known = set(state.users)
    ids = _seed_users(state, workspace)
    for group in workspace.groups:
        gid = group.id or derived_id("S", group.handle)
        members = [ids[handle] for handle in group.members]
        state.groups[gid] = UserGroup(gid, group.handle, group.name or group.handle, members)
    for room in workspace.channels:
        cid = room.id or derived_id("C", room.name)
        members = [ids[handle] for handle in room.members] or [
            user.id for user in state.users.values() if _is_full_member(user)
        ]
        if cid in state.channels:
            state.channels[cid].members += [member for member in members if member not in known]
            continue
        if room.with_app:
            members.append(bot_user_id(workspace.app))
        state.channels[cid] = Channel(
            cid,
            room.name,
            members,
            is_private=room.is_private,
            is_archived=room.is_archived,
            is_ext_shared=room.is_ext_shared,
            topic=room.topic,
            created=int(state.clock()),
        )
    for user in state.users.values():
        if not user.is_bot and not user.deleted:
            state.im_between(user.id, bot_user_id(workspace.app))
    state.changed()


def _seed_users(state: State, workspace: Workspace) -> dict[str, str]:
    ids: dict[str, str] = {}
    for person in workspace.people:
        uid = person.id or derived_id("U", person.handle)
        if uid in ids.values() or person.handle in ids:
            raise ValueError(f"two people of the workspace would have the id {uid}: give one of them an `id`")
        ids[person.handle] = uid
        if uid not in state.users:
            fields = {k: v for k, v in asdict(person).items() if k not in ("handle", "id", "team_id")}
            team = person.team_id or workspace.team_id
            state.users[uid] = User(id=uid, name=person.handle, team_id=team, **fields)
    bot = bot_user_id(workspace.app)
    state.users.setdefault(
        bot, User(bot, workspace.app.handle, workspace.app.name, is_bot=True, team_id=workspace.team_id)
    )
    state.users.setdefault(SLACKBOT, User(SLACKBOT, "slackbot", "Slackbot", team_id=workspace.team_id))
    state.users[SLACKBOT].is_bot = True
    return ids


def _is_full_member(user: User) -> bool:
    return not (
        user.is_bot or user.deleted or user.is_restricted or user.is_ultra_restricted or user.is_stranger
    )
