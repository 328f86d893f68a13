"""What cards are made of: how people and things are shown, what was done, and what a message is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.markup import Blocks, code, plain
from workflows.model import Group, Quorum, Story

EVENT_TYPE = "portcullis_card"


@dataclass(frozen=True, slots=True)
class Done:
    """What was done under a grant. `open` sessions are still being counted."""

    sessions: int = 0
    open: int = 0
    statements: int = 0
    rows: int = 0
    refused: int = 0
    ids: tuple[str, ...] = ()
    """The sessions themselves, newest first."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """One session as the thread of an emergency tells it; `closed_at` is None while it is open."""

    id: str
    protocol: str
    opened_at: datetime
    closed_at: datetime | None = None
    how: str = ""
    statements: int = 0
    rows: int = 0
    refused: int = 0
    killed_by: str = ""


@dataclass(frozen=True, slots=True)
class Faces:
    """How the people, groups and resources of one story are shown; everything by its id in the story.

    `missing` is what the quorum lacks at this moment, `short` the seats that nobody is there to fill.
    `public_url` is the broker's address for people. `may_break` tells that the holder has a rule for
    emergencies on the resource; `room` is how much longer the grant may yet become.
    """

    slack: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    resource: str = ""
    missing: tuple[Quorum, ...] = ()
    done: Done | None = None
    public_url: str = ""
    short: tuple[Quorum, ...] = ()
    may_break: bool = False
    room: timedelta = timedelta()
    sittings: tuple[Sitting, ...] = ()

    def person(self, principal: str) -> str:
        """A mention where the person is known in Slack, else the name."""
        user = self.slack.get(principal)
        return f"<@{user}>" if user else plain(self.names.get(principal, principal), 80)

    def name(self, principal: str) -> str:
        return plain(self.names.get(principal, principal), 80)

    def group(self, name: str, *, ping: bool = False) -> str:
        group = self.groups.get(name, Group(name))
        if ping and group.mention:
            return f"<!subteam^{group.mention}>"
        return plain(group.title or name, 80)

    def groups_of(self, names: tuple[str, ...]) -> str:
        return " or ".join(self.group(name) for name in names)


@dataclass(frozen=True, slots=True)
class Card:
    """A message: `text` is for notifications and screen readers, `metadata` for finding it again."""

    text: str
    blocks: Blocks
    metadata: dict[str, object]


def pointer(story: Story) -> str:
    """What a button carries: which request, and which version of it the presser saw. Nothing else."""
    return f"{story.request.id}:{story.version}"


def metadata(story: Story, place: str) -> dict[str, object]:
    payload = {"request": story.request.id, "place": place, "version": story.version}
    return {"event_type": EVENT_TYPE, "event_payload": payload}


def begins_later(story: Story) -> bool:
    """Whether the grant was made for a later beginning; its login is made only then."""
    grant, approved_at = story.grant, story.request.closed_at
    return grant is not None and approved_at is not None and grant.not_before > approved_at


def because(reason: str) -> str:
    """A reason as a quoted line under another; nothing where there is none."""
    return f"\n>{plain(reason)}" if reason.strip() else ""


def replay(session: str, public_url: str) -> str:
    """Where a session can be seen again: the page, or the command where there is no address for people."""
    if public_url:
        return f"<{public_url.rstrip('/')}/sessions/{plain(session, 40)}|Replay {plain(session, 40)}>"
    return code(f"access sessions replay {session}")


def count(number: int, noun: str, many: str = "") -> str:
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
