"""When a story next has something to do that is no end, and who is told of what happens in it."""

from __future__ import annotations

from datetime import datetime, timedelta

from workflows import escalation, glass_review
from workflows.access import Event
from workflows.events import (
    ApproversNudged,
    EndWarned,
    ExtensionAsked,
    GlassBroken,
    GlassReviewed,
    ReviewReminded,
    StepTaken,
)
from workflows.model import Story
from workflows.policy import Ladder, Policy, StepKind

SOON = timedelta(minutes=1)
"""How long a story sleeps that was woken for nothing, because the policy changed meanwhile."""


def ladder_of(policy: Policy, story: Story) -> Ladder:
    """The ladder of the story's rule as the policy is today; an empty one where the rule is gone."""
    rule = policy.rule(story.request.rule)
    return rule.ladder if rule else Ladder()


def next_wake(policy: Policy, story: Story, now: datetime) -> datetime | None:
    """The earliest of: a step of the ladder, the warning before the end, a reminder of a review."""
    step = escalation.next_step(story, ladder_of(policy, story), now)
    climbs = step[0] if step and step[1].kind is not StepKind.LAPSE else None
    times = (climbs, escalation.warn_at(story), glass_review.next_reminder(story))
    return min((at for at in times if at), default=None)


def notices(story: Story, event: Event) -> list[dict[str, object]]:
    """What the courier is to tell, beyond the cards, once `event` has happened. `what` is one of

    - `group`, `mention`, `page`, `widen`: a step of the ladder; `target` is its schedule or group
    - `nudge`: the requester asks the approvers once more
    - `glass-broken`: everybody who was skipped, at once, and the channels of those who may end it
    - `review-owed`: the reviewers, the `nth` time; `overdue` where it is late
    - `reviewed`: whoever did it, what was found
    - `extension-asked`: the approvers
    - `ending`: the holder
    """
    match event:
        case StepTaken(nth, what, target, _):
            return [{"what": what, "target": target, "nth": nth}]
        case ApproversNudged():
            return [{"what": "nudge"}]
        case GlassBroken():
            return [{"what": "glass-broken"}]
        case ReviewReminded(nth, at):
            due = story.request.emergency.review_due if story.request.emergency else at
            return [{"what": "review-owed", "nth": nth, "overdue": at >= due}]
        case GlassReviewed():
            return [{"what": "reviewed"}]
        case ExtensionAsked() if not story.request.extensions[-1].decided_at:
            return [{"what": "extension-asked"}]
        case EndWarned():
            return [{"what": "ending"}]
        case _:
            return []
