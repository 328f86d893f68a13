"""In which channels a story has a card: one a seat of its quorum, and in an emergency further ones. Pure."""

from __future__ import annotations

from workflows.model import Story
from workflows.policy import Policy


def seats(story: Story) -> list[tuple[str, str]]:
    """The end of each card's kind (`card:0`) and its group: the groups of the quorum, and `0.0` and so on for
    those that may fill a seat since nobody answered in time.
    """
    found = []
    for index, quorum in enumerate(story.request.quorum):
        found.append((str(index), quorum.group))
        found += [(f"{index}.{nth}", group) for nth, group in enumerate(quorum.also)]
    return found


def watchers(policy: Policy, story: Story) -> list[tuple[str, str]]:
    """The groups that keep the policy see every emergency, in their own channel."""
    if story.request.emergency is None:
        return []
    have = {group for _, group in seats(story)}
    admins = [name for name in sorted(policy.admins - have) if name in policy.groups]
    return [(f"w{nth}", name) for nth, name in enumerate(admins) if policy.groups[name].channel]
