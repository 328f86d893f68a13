"""The demo's Slack workspace: the people and channels of access.yaml, and a guest who is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from bot.sandbox import App, Group, Person, Room, Workspace
from broker.config import Config

TEAM = "T0SHOP"


def workspace_of(config: Config, app: App, now: datetime) -> Workspace:
    """A workspace in which everybody of the policy has an account, and every approver group its channel.

    Everybody is in every channel: an approver group's channel is no secret, and a press by somebody who may
    not decide is refused, which is worth seeing. Mallory is a guest whom the policy does not know.
    """
    directory = config.directory
    people = [_person(config, key, now) for key in directory.everyone() if directory.slack_user(key)]
    handles = tuple(person.handle for person in people)
    guest = Person(
        "mallory", "Mallory Guest", "mallory@elsewhere.example", id="U0MALLORY", is_restricted=True
    )
    everyone = (*handles, guest.handle)
    rooms = [
        Room("general", everyone, topic="Try: /access request prod-db 1h because INC-142", id="C0GENERAL")
    ]
    groups = []
    for group in config.policy.groups.values():
        members = tuple(k for k, p in directory.everyone().items() if group.name in p.groups and k in handles)
        if group.channel:
            topic = f"{group.title or group.name} decide here"
            rooms.append(Room(f"{group.name}-approvals", everyone, topic=topic, id=group.channel))
        if group.mention:
            groups.append(Group(group.name, members, group.title, id=group.mention))
    return Workspace(
        people=(*people, guest),
        channels=tuple(rooms),
        groups=tuple(groups),
        app=app,
        name="Shop",
        domain="shop",
        team_id=config.slack.team or TEAM,
    )


def _person(config: Config, key: str, now: datetime) -> Person:
    directory = config.directory
    principal = directory.everyone()[key]
    zone = directory.timezone(key)
    offset = now.astimezone(ZoneInfo(zone)).utcoffset()
    groups: Mapping[str, Any] = config.policy.groups
    titles = [groups[name].title or name for name in sorted(principal.groups) if name in groups]
    return Person(
        key,
        principal.name,
        principal.email,
        tz=zone,
        tz_offset=int(offset.total_seconds()) if offset else 0,
        title=", ".join(titles),
        id=directory.slack_user(key) or "",
    )
