"""The verbs about one's Slack account: `link`, `unlink`, and for an administrator `unlink @ada`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.lines import Context, Mistake, Target, TargetKind
from workflows.words import MENTION, Word


@dataclass(frozen=True, slots=True)
class Link:
    def line(self) -> str:
        return "link"


@dataclass(frozen=True, slots=True)
class Unlink:
    """No `target` means the writer's own account."""

    target: Target | None = None

    def line(self) -> str:
        return f"unlink {self.target or ''}".strip()


def read_link(words: Sequence[Word], _: Context) -> Link | Mistake:
    return Mistake("link stands alone; it is for your own account.", Link().line()) if words else Link()


def read_unlink(words: Sequence[Word], _: Context) -> Unlink | Mistake:
    if not words:
        return Unlink()
    first = words[0].text
    command = Unlink()
    if mention := MENTION.fullmatch(first):
        command = Unlink(Target(TargetKind.SLACK_USER, mention[1]))
    elif first.startswith("@") and len(first) > 1:
        command = Unlink(Target(TargetKind.PERSON, first[1:]))
    else:
        return Mistake("unlink takes nothing, or @somebody where you are an administrator.", Unlink().line())
    return command if len(words) == 1 else Mistake("unlink takes one person.", command.line())
