"""What the parts of the sandbox share: the state, the configuration, and a way to tell the app something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .config import App, Workspace
from .faults import Faults
from .limits import Limits
from .seed import SLACKBOT, bot_id, bot_user_id
from .state import Channel, Clock, Json, Message, State


class Core:
    """`emit` is set by the delivery, so that state changes can raise events without importing it."""

    def __init__(
        self, workspace: Workspace, state: State, clock: Clock, limits: Limits, faults: Faults
    ) -> None:
        self.workspace = workspace
        self.state = state
        self.clock = clock
        self.limits = limits
        self.faults = faults
        self.base_url = "http://127.0.0.1"
        self.emit: Callable[[str, Json], None] = lambda _subscription, _event: None

    @property
    def app(self) -> App:
        return self.workspace.app

    @property
    def bot_user(self) -> str:
        return bot_user_id(self.app)

    @property
    def bot_id(self) -> str:
        return bot_id(self.app)

    def post(self, message: Message) -> Message:
        """Store a message and, where it is not ephemeral, tell the app's subscriptions about it."""
        self.state.add_message(message)
        if message.ephemeral_for is None:
            self._message_event(message, {})
        return message

    def slackbot_says(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Message:
        """What Slack itself tells one person, visible to nobody else."""
        return self.post(
            Message(self.state.new_ts(), channel, SLACKBOT, text, thread_ts=thread_ts, ephemeral_for=user)
        )

    def message_changed(self, message: Message) -> None:
        self.state.changed()
        self._message_event(message, {"subtype": "message_changed"})

    def message_deleted(self, message: Message) -> None:
        self._message_event(message, {"subtype": "message_deleted"})

    def _message_event(self, message: Message, extra: Json) -> None:
        channel = self.state.channels[message.channel]
        if self.bot_user not in channel.members:
            return
        event: dict[str, Any] = {"type": "message", "channel": channel.id, "event_ts": message.ts, **extra}
        if extra.get("subtype") == "message_changed":
            event |= {"message": self.message_json(message), "ts": message.ts}
        elif extra.get("subtype") == "message_deleted":
            event |= {"deleted_ts": message.ts, "previous_message": self.message_json(message)}
        else:
            event |= self.message_json(message)
        kind = channel_type(channel)
        event["channel_type"] = kind
        self.emit(f"message.{ {'channel': 'channels', 'group': 'groups', 'im': 'im'}[kind] }", event)

    def message_json(self, message: Message, *, metadata: bool = False) -> Json:
        """A message as the Web API and interaction payloads show it."""
        body: Json = {"type": "message", "user": message.user, "ts": message.ts, "text": message.text}
        body["team"] = self.workspace.team_id
        if message.bot_id:
            body |= {"bot_id": message.bot_id, "app_id": self.app.id}
            body["bot_profile"] = {"id": message.bot_id, "app_id": self.app.id, "name": self.app.name}
        if message.blocks:
            body["blocks"] = message.blocks
        if message.attachments:
            body["attachments"] = message.attachments
        if message.edited_ts:
            body["edited"] = {"user": message.user, "ts": message.edited_ts}
        if metadata and message.metadata:
            body["metadata"] = message.metadata
        if message.files:
            body["files"] = [self.file_json(item) for item in message.files]
        if message.reactions:
            body["reactions"] = [
                {"name": name, "users": users, "count": len(users)}
                for name, users in message.reactions.items()
            ]
        return body | self._thread_json(message)

    def _thread_json(self, message: Message) -> Json:
        replies = self.state.replies(message.channel, message.ts)
        if replies:
            return {
                "thread_ts": message.ts,
                "reply_count": len(replies),
                "latest_reply": replies[-1].ts,
                "reply_users": sorted({reply.user for reply in replies}),
            }
        return {"thread_ts": message.thread_ts} if message.thread_ts else {}

    def file_json(self, file_id: str) -> Json:
        file = self.state.files[file_id]
        return {
            "id": file.id,
            "name": file.name,
            "title": file.title or file.name,
            "size": file.length,
            "user": file.user,
            "url_private": f"{self.base_url}/files/{file.id}/{file.name}",
            "permalink": f"{self.base_url}/files/{file.id}/{file.name}",
        }

    def permalink(self, channel: str, ts: str) -> str:
        return f"{self.base_url}/archives/{channel}/p{ts.replace('.', '')}"


def channel_type(channel: Channel) -> str:
    if channel.is_im:
        return "im"
    return "group" if channel.is_private else "channel"
