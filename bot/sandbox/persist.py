"""The state file: one JSON document, written to a temporary file beside it and moved into place."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .state import Channel, File, Message, State, User, UserGroup, View

FORMAT = 1


def dump(state: State) -> dict[str, Any]:
    """Everything that outlives a restart. Triggers, response URLs and open modals do not, as in a client."""
    return {
        "format": FORMAT,
        "counter": state.counter,
        "last_us": state.last_us,
        "users": [asdict(item) for item in state.users.values()],
        "groups": [asdict(item) for item in state.groups.values()],
        "channels": [asdict(item) for item in state.channels.values()],
        "messages": [
            asdict(message)
            for stored in state.messages.values()
            for message in stored.values()
            if message.ephemeral_for is None
        ],
        "homes": [asdict(item) for item in state.homes.values()],
        "files": [asdict(item) for item in state.files.values()],
        "read": state.read,
    }


def restore(state: State, document: dict[str, Any]) -> None:
    """Raises ValueError where the document is not one of ours."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"it is not a state file of format {FORMAT}")
    state.counter = document["counter"]
    state.last_us = document["last_us"]
    state.users = {item["id"]: User(**item) for item in document["users"]}
    state.groups = {item["id"]: UserGroup(**item) for item in document["groups"]}
    state.channels = {item["id"]: Channel(**item) for item in document["channels"]}
    for item in document["messages"]:
        message = Message(**item)
        state.messages.setdefault(message.channel, {})[message.ts] = message
    state.homes = {item["user"]: View(**item) for item in document["homes"]}
    state.files = {item["id"]: File(**item) for item in document["files"]}
    state.read = document["read"]


def load_file(state: State, path: Path) -> bool:
    """False where there is no file yet; ValueError, saying which file and what to do, where it is damaged."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return False
    try:
        restore(state, json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the sandbox's state file {path} cannot be read ({error}); delete it to start an empty workspace"
        ) from error
    return True


def save_file(state: State, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w") as out:
        json.dump(dump(state), out)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)
