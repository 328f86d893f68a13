"""What happens around the app: admins and other people change the workspace, and the app hears of it."""

from __future__ import annotations

from typing import Any

from .core import Core
from .method import Call
from .methods_conversations import channel_json
from .methods_people import user_json
from .state import Channel, Json, Message, User, UserGroup


class Admin:
    def __init__(self, core: Core) -> None:
        self.core = core

    def deletes(self, message: Message) -> None:
        """An admin deletes anybody's message: the app's next update of it gets `message_not_found`."""
        if self.core.state.remove_message(message.channel, message.ts) is not None:
            self.core.message_deleted(message)

    def archives(self, channel: str, archived: bool = True) -> Channel:
        found = self.core.state.channel_named(channel)
        found.is_archived = archived
        self.core.state.changed()
        kind = "channel_archive" if archived else "channel_unarchive"
        self.core.emit(kind, {"type": kind, "channel": found.id, "user": "", "event_ts": self._ts()})
        return found

    def removes_app(self, channel: str) -> Channel:
        """Take the app's bot out of a channel: `not_in_channel`, or `channel_not_found` in a private one."""
        found = self.core.state.channel_named(channel)
        found.members = [member for member in found.members if member != self.core.bot_user]
        self.core.state.changed()
        return found

    def joins(self, channel: str, user: str) -> None:
        found, who = self.core.state.channel_named(channel), self.core.state.user_named(user)
        if who.id in found.members:
            return
        found.members.append(who.id)
        self.core.state.changed()
        event = {"type": "member_joined_channel", "user": who.id, "channel": found.id, "event_ts": self._ts()}
        event |= {"channel_type": "G" if found.is_private else "C", "team": self.core.workspace.team_id}
        self.core.emit("member_joined_channel", event)

    def leaves(self, channel: str, user: str) -> None:
        found, who = self.core.state.channel_named(channel), self.core.state.user_named(user)
        found.members = [member for member in found.members if member != who.id]
        self.core.state.changed()

    def changes_user(self, user: str, **fields: Any) -> User:
        """Change fields of a user (`deleted=True`, `email=…`, `is_restricted=True`): raises user_change."""
        who = self.core.state.user_named(user)
        for name, value in fields.items():
            if not hasattr(who, name):
                raise AttributeError(f"a user has no {name}")
            setattr(who, name, value)
        self.core.state.changed()
        call = Call(self.core, "users.info", {}, self.core.app.bot_scopes)
        event = {"type": "user_change", "user": user_json(call, who), "event_ts": self._ts()}
        self.core.emit("user_change", event)
        return who

    def changes_group(self, handle: str, members: list[str]) -> UserGroup:
        """Set a user group's members (by handle): raises subteam_members_changed and subteam_updated."""
        state = self.core.state
        group = next((g for g in state.groups.values() if g.handle == handle.removeprefix("@")), None)
        if group is None:
            raise LookupError(f"no user group {handle!r} in the sandbox")
        before, group.users = group.users, [state.user_named(member).id for member in members]
        added = [user for user in group.users if user not in before]
        removed = [user for user in before if user not in group.users]
        state.changed()
        common = {"team_id": self.core.workspace.team_id, "event_ts": self._ts()}
        event: Json = {"type": "subteam_members_changed", "subteam_id": group.id, **common}
        event |= {"added_users": added, "removed_users": removed}
        event |= {"added_users_count": len(added), "removed_users_count": len(removed)}
        self.core.emit("subteam_members_changed", event)
        subteam = {"id": group.id, "handle": group.handle, "name": group.name, "users": group.users[:500]}
        self.core.emit("subteam_updated", {"type": "subteam_updated", "subteam": subteam, **common})
        return group

    def shares_outside(self, channel: str) -> Channel:
        """Make a channel a Slack Connect one."""
        found = self.core.state.channel_named(channel)
        found.is_ext_shared = True
        self.core.state.changed()
        event = {"type": "channel_shared", "channel": found.id, "event_ts": self._ts()}
        self.core.emit("channel_shared", event | {"info": channel_json(self.core, found)})
        return found

    def _ts(self) -> str:
        return self.core.state.new_ts()
