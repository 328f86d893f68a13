"""What the workspace holds: users, channels, messages, views, triggers, response URLs, files.

No I/O. Time comes from the clock passed in (seconds since the epoch). Every change bumps `version` and tells
the listeners, which is how pages refresh, drivers wait, and the state file is written.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import SlackError

Json = dict[str, Any]
Clock = Callable[[], float]

RESPONSE_URL_USES = 5
RESPONSE_URL_SECONDS = 30 * 60
TRIGGER_SECONDS = 3.0


@dataclass
class User:
    id: str
    name: str
    real_name: str
    email: str = ""
    tz: str = "UTC"
    tz_offset: int = 0
    title: str = ""
    team_id: str = ""
    is_admin: bool = False
    is_bot: bool = False
    deleted: bool = False
    is_restricted: bool = False
    is_ultra_restricted: bool = False
    is_stranger: bool = False
    is_email_confirmed: bool = True


@dataclass
class UserGroup:
    id: str
    handle: str
    name: str
    users: list[str] = field(default_factory=list)


@dataclass
class Channel:
    id: str
    name: str
    members: list[str] = field(default_factory=list)
    is_private: bool = False
    is_im: bool = False
    is_archived: bool = False
    is_ext_shared: bool = False
    topic: str = ""
    created: int = 0


@dataclass
class Message:
    """A message as stored. `ephemeral_for` names the only viewer of an ephemeral one."""

    ts: str
    channel: str
    user: str
    text: str = ""
    blocks: list[Json] = field(default_factory=list)
    thread_ts: str | None = None
    bot_id: str | None = None
    metadata: Json | None = None
    edited_ts: str | None = None
    ephemeral_for: str | None = None
    reactions: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)


@dataclass
class View:
    """A modal or a home tab. `payload` holds what the app sent (type, title, blocks, private_metadata, …)."""

    id: str
    user: str
    payload: Json
    hash: str
    root_view_id: str = ""
    previous_view_id: str | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class Trigger:
    user: str
    expires: float
    view_id: str | None = None
    used: bool = False


@dataclass
class ResponseUrl:
    user: str
    channel: str
    expires: float
    message_ts: str | None = None
    thread_ts: str | None = None
    uses: int = 0


@dataclass
class File:
    id: str
    name: str
    length: int
    title: str = ""
    content: str | None = None  # base64
    completed: bool = False
    user: str = ""


class State:
    """The workspace at this moment."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.version = 0
        self.counter = 0
        self.last_us = 0
        self.users: dict[str, User] = {}
        self.groups: dict[str, UserGroup] = {}
        self.channels: dict[str, Channel] = {}
        self.messages: dict[str, dict[str, Message]] = {}
        self.modals: dict[str, list[View]] = {}
        self.homes: dict[str, View] = {}
        self.inputs: dict[str, Json] = {}
        self.triggers: dict[str, Trigger] = {}
        self.response_urls: dict[str, ResponseUrl] = {}
        self.files: dict[str, File] = {}
        self.read: dict[str, dict[str, str]] = {}
        self.listeners: list[Callable[[], None]] = []

    # -- change ------------------------------------------------------------------------------------------

    def changed(self) -> None:
        self.version += 1
        for listener in list(self.listeners):
            listener()

    def new_id(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}0{self.counter:09d}"

    def new_ts(self) -> str:
        """A message time stamp: unique in the workspace and growing, even when the clock stands still."""
        self.last_us = max(int(self.clock() * 1_000_000), self.last_us + 100)
        return f"{self.last_us // 1_000_000}.{self.last_us % 1_000_000:06d}"

    def new_hash(self) -> str:
        return f"{int(self.clock())}.{secrets.token_hex(4)}"

    # -- people and places -------------------------------------------------------------------------------

    def user_named(self, name: str) -> User:
        """By id, handle or @handle; LookupError if there is none."""
        wanted = name.removeprefix("@")
        for user in self.users.values():
            if wanted in (user.id, user.name):
                return user
        raise LookupError(
            f"no user {name!r} in the sandbox; there are {sorted(u.name for u in self.users.values())}"
        )

    def channel_named(self, name: str) -> Channel:
        """By id, name or #name; LookupError if there is none."""
        wanted = name.removeprefix("#")
        for channel in self.channels.values():
            if wanted == channel.id or (wanted == channel.name and not channel.is_im):
                return channel
        raise LookupError(f"no channel {name!r} in the sandbox")

    def im_between(self, one: str, other: str) -> Channel:
        """The direct-message channel of two users, opened if it was not."""
        for channel in self.channels.values():
            if channel.is_im and set(channel.members) == {one, other}:
                return channel
        channel = Channel(
            self.new_id("D"), "", [one, other], is_private=True, is_im=True, created=int(self.clock())
        )
        self.channels[channel.id] = channel
        self.changed()
        return channel

    # -- messages ----------------------------------------------------------------------------------------

    def add_message(self, message: Message) -> Message:
        self.messages.setdefault(message.channel, {})[message.ts] = message
        self.changed()
        return message

    def message(self, channel: str, ts: str) -> Message | None:
        return self.messages.get(channel, {}).get(ts)

    def remove_message(self, channel: str, ts: str) -> Message | None:
        found = self.messages.get(channel, {}).pop(ts, None)
        if found is not None:
            self.changed()
        return found

    def in_channel(self, channel: str, viewer: str | None = None) -> Iterator[Message]:
        """Oldest first (they are stored in that order). Ephemerals only for their viewer."""
        for message in list(self.messages.get(channel, {}).values()):
            if message.ephemeral_for is None or message.ephemeral_for == viewer:
                yield message

    def replies(self, channel: str, thread_ts: str, viewer: str | None = None) -> list[Message]:
        return [m for m in self.in_channel(channel, viewer) if m.thread_ts == thread_ts and m.ts != thread_ts]

    # -- views -------------------------------------------------------------------------------------------

    def view(self, view_id: str = "", external_id: str = "") -> View | None:
        """An open modal or a published home tab, by its id or its external id."""
        stacked = [view for stack in self.modals.values() for view in stack]
        for view in [*stacked, *self.homes.values()]:
            if (view_id and view.id == view_id) or (
                external_id and view.payload.get("external_id") == external_id
            ):
                return view
        return None

    # -- tickets -----------------------------------------------------------------------------------------

    def new_trigger(self, user: str, view_id: str | None = None) -> str:
        self.counter += 1
        trigger = f"{self.counter}.{int(self.clock() * 1000)}.{secrets.token_hex(16)}"
        self.triggers[trigger] = Trigger(user, self.clock() + TRIGGER_SECONDS, view_id)
        while len(self.triggers) > 500:
            self.triggers.pop(next(iter(self.triggers)))
        return trigger

    def exchange_trigger(self, trigger_id: str) -> Trigger:
        """Spend a trigger id: once, within three seconds. Raises the SlackError of what is wrong."""
        trigger = self.triggers.get(trigger_id)
        if trigger is None:
            raise SlackError("invalid_trigger_id")
        if self.clock() > trigger.expires:
            raise SlackError("expired_trigger_id")
        if trigger.used:
            raise SlackError("exchanged_trigger_id")
        trigger.used = True
        return trigger

    def expire_triggers(self) -> None:
        """Make every trigger id given out so far an expired one."""
        for trigger in self.triggers.values():
            trigger.expires = self.clock() - 1

    def new_response_url(
        self, user: str, channel: str, message_ts: str | None = None, thread_ts: str | None = None
    ) -> str:
        key = secrets.token_hex(12)
        self.response_urls[key] = ResponseUrl(
            user, channel, self.clock() + RESPONSE_URL_SECONDS, message_ts, thread_ts
        )
        while len(self.response_urls) > 2000:
            self.response_urls.pop(next(iter(self.response_urls)))
        return key

    def spend_response_url(self, key: str) -> ResponseUrl:
        """Use a response URL: at most five times within thirty minutes."""
        found = self.response_urls.get(key)
        if found is None:
            raise SlackError("invalid_url", status=404)
        if self.clock() > found.expires:
            raise SlackError("expired_url", status=404)
        if found.uses >= RESPONSE_URL_USES:
            raise SlackError("used_url", status=404)
        found.uses += 1
        return found
