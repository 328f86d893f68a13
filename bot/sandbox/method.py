"""How a Web API method is declared, and what it is called with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .core import Core
from .errors import SlackError
from .state import Channel, Json, Message, User


@dataclass(frozen=True)
class Call:
    """One call: its arguments (form values are strings; `json_value` decodes them) and the token's scopes."""

    core: Core
    method: str
    args: Json
    scopes: frozenset[str]

    def text(self, name: str, default: str = "") -> str:
        value = self.args.get(name)
        if value is None:
            return default
        return value if isinstance(value, str) else str(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise invalid_arguments(f"[ERROR] missing required field: {name}")
        return value

    def flag(self, name: str) -> bool:
        return self.text(name).lower() in ("1", "true")

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.text(name) or default)
        except ValueError:
            raise invalid_arguments(f"[ERROR] must be an integer: {name}") from None

    def json_value(self, name: str, refusal: str) -> Any:
        """An argument that is JSON, sent as JSON or as a string holding it. None where it is absent."""
        value = self.args.get(name)
        if isinstance(value, str):
            if not value:
                return None
            try:
                return json.loads(value)
            except ValueError:
                raise SlackError(refusal) from None
        return value

    # -- look-ups --------------------------------------------------------------------------------------------

    def user(self, name: str = "user") -> User:
        user = self.core.state.users.get(self.required(name))
        if user is None:
            raise SlackError("user_not_found")
        return user

    def channel(self, name: str = "channel") -> Channel:
        """A channel that the app's bot can see: any public one, else only where it is a member."""
        channel = self.core.state.channels.get(self.required(name))
        hidden = channel is not None and channel.is_private and self.core.bot_user not in channel.members
        if channel is None or hidden:
            raise SlackError("channel_not_found")
        return channel

    def message(self, channel: Channel, ts: str) -> Message:
        message = self.core.state.message(channel.id, ts)
        if message is None or message.ephemeral_for is not None:
            raise SlackError("message_not_found")
        return message

    def need_scope_for(self, channel: Channel, verb: str) -> None:
        """The scope depends on the kind of channel: channels:read, groups:read or im:read, say."""
        kind = "im" if channel.is_im else "groups" if channel.is_private else "channels"
        need_scope(self.scopes, (f"{kind}:{verb}",))


Handler = Callable[[Call], Json]


@dataclass(frozen=True)
class Method:
    handler: Handler
    scopes: tuple[str, ...]
    tier: int | None
    needs_token: bool


METHODS: dict[str, Method] = {}


def method(
    name: str, *scopes: str, tier: int | None = None, needs_token: bool = True
) -> Callable[[Handler], Handler]:
    """Register a handler. Any one of `scopes` is enough."""

    def register(handler: Handler) -> Handler:
        METHODS[name] = Method(handler, scopes, tier, needs_token)
        return handler

    return register


def need_scope(provided: frozenset[str], any_of: Sequence[str]) -> None:
    if any_of and not provided & set(any_of):
        raise SlackError("missing_scope", needed=",".join(any_of), provided=",".join(sorted(provided)))


def invalid_arguments(*messages: str) -> SlackError:
    return SlackError("invalid_arguments", response_metadata={"messages": list(messages)})


def page(call: Call, everything: Sequence[Any], default: int = 100) -> tuple[Sequence[Any], Json]:
    """One page of a list by `cursor` and `limit` (at most 1000), and its `response_metadata`."""
    limit = min(max(call.number("limit", default), 1), 1000)
    cursor = call.text("cursor")
    try:
        start = int(cursor.removeprefix("at")) if cursor else 0
    except ValueError:
        raise SlackError("invalid_cursor") from None
    following = f"at{start + limit}" if start + limit < len(everything) else ""
    return everything[start : start + limit], {"next_cursor": following}
