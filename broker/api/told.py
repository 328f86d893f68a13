"""Stories as plain sentences, for a terminal or an agent."""

from __future__ import annotations

from datetime import datetime

from broker.locks import Locked
from workflows import extension
from workflows.allowance import Allowance
from workflows.glass_review import owes_review
from workflows.lock import Lock
from workflows.model import GrantState, RequestState, Story
from workflows.policy import spell


def headline(story: Story, now: datetime) -> str:
    """One line: what, who, and how it stands."""
    it = story.request
    who = f"{it.requester} for {it.beneficiary}" if it.beneficiary else it.requester
    what = f"{it.id}  {who} → {it.resource} as {it.role} for {spell(it.duration)}"
    return f"{what}: {standing(story, now)}{_urgency(story, now)}"


def _urgency(story: Story, now: datetime) -> str:
    """What an emergency or a wish for more time adds."""
    emergency = story.request.emergency
    if emergency is None:
        waits = extension.waiting(story, now)
        return f"; {spell(waits.span)} more is asked for" if waits else ""
    if emergency.drill:
        return "; DRILL, nobody is let in"
    if emergency.verdict is not None:
        return f"; EMERGENCY {emergency.incident}, {emergency.verdict} (said {emergency.reviewed_by})"
    if not owes_review(story):
        return f"; EMERGENCY {emergency.incident}"
    return f"; EMERGENCY {emergency.incident}, review owed by {clock(emergency.review_due)}"


def allowance(one: Allowance) -> str:
    """A yes in advance, as one line."""
    often = "as often as asked" if one.repeated else "once"
    what = f"{one.resource} as {one.role}, at most {spell(one.longest)} at a time, {often}"
    how = f"until {clock(one.until)}" if one.ended_at is None else f"over since {clock(one.ended_at)}"
    return f"{one.id}  {one.approver} allows {one.principal} {what}, {how}: {one.reason}"


def lock(one: Lock) -> str:
    """A lock, as one line."""
    return f"{one.id}  {one} is locked by {one.made_by} since {clock(one.made_at)}: {one.reason}"


def locked(made: Locked) -> str:
    """What locking came to."""
    ended = f"{made.sessions} sessions are cut, {made.logins} logins and passwords ended."
    return f"{lock(made.lock)}\n{ended} Take it away: unlock {made.lock.id}"


def standing(story: Story, now: datetime) -> str:
    """How a story stands, as a phrase."""
    it, grant = story.request, story.grant
    if grant is not None:
        return _grant_standing(story, now)
    if it.state is RequestState.PENDING:
        who = " and ".join(f"{q.needed} of {q.group}" for q in it.quorum)
        yes = " and ".join(approval.approver for approval in it.approvals if approval.yes)
        return f"waits for {who}{f' ({yes} said yes)' if yes else ''}, lapses at {clock(it.lapses_at)}"
    by = f" by {it.closed_by}" if it.closed_by else ""
    why = f" ({it.close_reason})" if it.close_reason else ""
    return f"{it.state.value}{by}{why}"


def _grant_standing(story: Story, now: datetime) -> str:
    grant = story.grant
    assert grant is not None
    if grant.state is GrantState.ENDED and grant.end_reason:
        by = f" by {grant.ended_by}" if grant.ended_by else ""
        note = f" ({grant.end_note})" if grant.end_note else ""
        return f"{grant.end_reason.value}{by}{note}"
    left = spell(max(grant.expiry - now, grant.expiry - grant.expiry)) if grant.live(now) else "0s"
    if now < grant.not_before:
        return f"approved, {grant.id} opens at {clock(grant.not_before)} and ends at {clock(grant.expiry)}"
    if grant.state is GrantState.MINTING:
        return f"approved, {grant.id} is being made ready, ends at {clock(grant.expiry)}"
    return f"open until {clock(grant.expiry)} ({left} left), {grant.id}"


def clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
