"""What a sandbox workspace starts with: people, user groups, channels and the one installed app.

Names are Slack's. Ids may be given; otherwise they are derived from the handle or name, so that they stay
the same from one start to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALL_BOT_SCOPES = (
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:write",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "im:write",
    "reactions:write",
    "usergroups:read",
    "users:read",
    "users:read.email",
)


@dataclass(frozen=True)
class Person:
    """A member of the workspace. `handle` is the @name; the flags are those of `users.info`."""

    handle: str
    real_name: str
    email: str = ""
    tz: str = "Europe/Vienna"
    tz_offset: int = 3600
    title: str = ""
    id: str = ""
    team_id: str = ""
    is_admin: bool = False
    is_bot: bool = False
    deleted: bool = False
    is_restricted: bool = False
    is_ultra_restricted: bool = False
    is_stranger: bool = False
    is_email_confirmed: bool = True


@dataclass(frozen=True)
class Group:
    """A user group (`@handle`) and the handles of its members."""

    handle: str
    members: tuple[str, ...] = ()
    name: str = ""
    id: str = ""


@dataclass(frozen=True)
class Room:
    """A channel. `members` are handles; `with_app` says whether the app's bot is a member as well."""

    name: str
    members: tuple[str, ...] = ()
    topic: str = ""
    is_private: bool = False
    is_archived: bool = False
    is_ext_shared: bool = False
    with_app: bool = True
    id: str = ""


@dataclass(frozen=True)
class App:
    """The installed app: its tokens, where its HTTP endpoint is, and its manifest (a dict, as in the YAML).

    With `request_url` None everything goes over Socket Mode. Without a manifest all of `ALL_BOT_SCOPES` are
    granted, every event is subscribed to, every command exists, and commands are escaped.
    """

    bot_token: str = "xoxb-sandbox-bot"  # noqa: S105 - a token of this sandbox only
    app_token: str = "xapp-sandbox-app"  # noqa: S105
    signing_secret: str = "sandbox-signing-secret"  # noqa: S105
    request_url: str | None = None
    manifest: Mapping[str, Any] | None = None
    name: str = "Portcullis"
    handle: str = "portcullis"
    id: str = "A0SANDBOX1"

    def _manifest(self, *path: str) -> Any:
        node: Any = self.manifest or {}
        for step in path:
            node = node.get(step) or {} if isinstance(node, Mapping) else {}
        return node

    @property
    def bot_scopes(self) -> frozenset[str]:
        if self.manifest is None:
            return frozenset(ALL_BOT_SCOPES)
        return frozenset(self._manifest("oauth_config", "scopes", "bot") or ())

    def command(self, name: str) -> Mapping[str, Any] | None:
        """The manifest's entry of a slash command, or None where the app has no such command."""
        if self.manifest is None:
            return {"command": name, "should_escape": True}
        for entry in self._manifest("features", "slash_commands") or ():
            if entry.get("command") == name:
                return dict(entry)
        return None

    @property
    def commands(self) -> list[Mapping[str, Any]]:
        return [dict(entry) for entry in self._manifest("features", "slash_commands") or ()]

    @property
    def shortcuts(self) -> list[Mapping[str, Any]]:
        return [dict(entry) for entry in self._manifest("features", "shortcuts") or ()]

    def subscribes(self, event: str) -> bool:
        if self.manifest is None:
            return True
        return event in (self._manifest("settings", "event_subscriptions", "bot_events") or ())


@dataclass(frozen=True)
class Workspace:
    """Everything `create_sandbox` needs to know."""

    people: tuple[Person, ...]
    channels: tuple[Room, ...] = (Room("general"),)
    groups: tuple[Group, ...] = ()
    app: App = field(default_factory=App)
    name: str = "Portcullis Demo"
    domain: str = "portcullis-demo"
    team_id: str = "T0SANDBOX1"
