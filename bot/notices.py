"""What people are told beyond the cards, from the rows that broker/wakes.py leaves: what is said, and where.

Pure. A notice that is no longer so (the request was decided meanwhile) says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bot.markup import date, plain
from bot.shown import Faces, because
from workflows.glass_review import owes_review
from workflows.model import ExtensionState, GrantState, Principal, RequestState, Story
from workflows.policy import StepKind, spell
from workflows.quorum import eligible


class Where(StrEnum):
    """Whose threads a notice goes to."""

    APPROVERS = "approvers"
    """The thread of every card in a channel of those who decide."""
    REVIEWERS = "reviewers"
    """The threads of the cards in the channels of those who review an emergency."""


@dataclass(frozen=True, slots=True)
class Saying:
    """One reply. `calls` mentions those who are to act; `loud` shows it in the channel as well."""

    where: Where
    text: str
    calls: bool = False
    loud: bool = False


def saying(
    story: Story, faces: Faces, what: str, *, target: str = "", overdue: bool = False, problem: str = ""
) -> Saying | None:
    """What a notice says to the channels now; None where it says nothing (any more) there."""
    request = story.request
    if what in _STEPS or what == "nudge":
        if request.state is not RequestState.PENDING:
            return None
        return _waiting(story, faces, what, target)
    if what == "extension-asked":
        return _more_time(story, faces)
    if what in PAGING:
        return Saying(Where.APPROVERS, PAGING[what].format(plain(target, 80), plain(problem, 200)))
    if what == "review-owed" and owes_review(story):
        return _review_owed(story, overdue)
    return None


PAGING = {
    "paged": "📟 Pager {0} was called.",
    "page-failed": "⚠️ Pager {0} could not be called ({1}); it is tried again.",
    "page-given-up": "⚠️ Pager {0} was not called ({1}), and it is tried no more. Call them by telephone.",
}
"""What is said about a pager: its name, and what was wrong."""
_STEPS = frozenset({StepKind.GROUP, StepKind.MENTION, StepKind.PAGE, StepKind.WIDEN})


def _waiting(story: Story, faces: Faces, what: str, target: str) -> Saying:
    request = story.request
    who, lapse = faces.person(request.requester), date(request.lapses_at)
    if what == "nudge":
        text = f"👋 {who} asks once more; it lapses {lapse}."
        return Saying(Where.APPROVERS, text, calls=True, loud=True)
    if what == StepKind.MENTION:
        return Saying(
            Where.APPROVERS, f"⏰ Nobody has decided yet; it lapses {lapse}.", calls=True, loud=True
        )
    if what == StepKind.PAGE:
        text = f"📟 Nobody has decided yet, so whoever is on call for {plain(target, 80)} is told."
        return Saying(Where.APPROVERS, text)
    if what == StepKind.WIDEN:
        text = f"↗️ Nobody has decided yet; {faces.group(target)} may decide as well from now on."
        return Saying(Where.APPROVERS, text)
    return Saying(Where.APPROVERS, f"⏰ Still waiting; it lapses {lapse}.", loud=True)


def _more_time(story: Story, faces: Faces) -> Saying | None:
    last = story.request.extensions[-1] if story.request.extensions else None
    live = story.grant is not None and story.grant.state is not GrantState.ENDED
    if last is None or not live or last.state is not ExtensionState.PENDING or story.grant is None:
        return None
    who = faces.person(story.request.holder)
    text = f"⏱️ {who} asks for {spell(last.span)} more; it ends {date(story.grant.expiry)}."
    return Saying(Where.APPROVERS, f"{text}{because(last.reason)}", calls=True, loud=True)


def _review_owed(story: Story, overdue: bool) -> Saying:
    emergency = story.request.emergency
    assert emergency is not None
    late = "is overdue since" if overdue else "is owed by"
    text = f"📋 The review of emergency {plain(emergency.incident, 60)} {late} {date(emergency.review_due)}."
    return Saying(Where.REVIEWERS, f"{text} Press *Review…* on the card.", calls=True, loud=True)


def paged(story: Story, faces: Faces) -> str:
    """What whoever is on call reads in their direct messages, above the card."""
    request = story.request
    return (
        f"📟 {faces.name(request.requester)} waits for {plain(request.resource, 100)} since "
        f"{date(request.created_at)} and nobody has decided. You are on call."
    )


def called(story: Story, faces: Faces, people: Mapping[str, Principal], group: str) -> str:
    """The mention of those who are to act: their Slack group, else up to five of them by name."""
    if group in faces.groups and faces.groups[group].mention:
        return faces.group(group, ping=True)
    able = [
        person
        for person in people.values()
        if group in person.groups and person.id in faces.slack and eligible(story.request, person, people)
    ]
    return " ".join(faces.person(person.id) for person in able[:5])
