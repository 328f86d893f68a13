"""While nobody decides: the ladder, the nudge, “looking”, comments; and the warning before the end.

A step that falls into quiet hours waits until they are over, unless it wakes. A claim stops the ladder for a
while, so that one who said “looking” and forgot does not stop it for good. The last step of every ladder is
the lapse of the request, which nothing puts off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from workflows.access import Decision, Event
from workflows.events import (
    ApproversNudged,
    Commented,
    EndWarned,
    QuorumWidened,
    RequestClaimed,
    StepTaken,
)
from workflows.model import (
    AccessRequest,
    Comment,
    ExtensionState,
    Grant,
    GrantState,
    Principal,
    Refusal,
    RequestState,
    Story,
)
from workflows.policy import Ladder, QuietHours, Step, StepKind, spell
from workflows.quorum import eligible, may_not_decide

WARN_BEFORE = timedelta(minutes=10)
"""The holder hears of the end so long before it, or at half of a shorter grant."""
MOST_COMMENTS = 200
LONGEST_COMMENT = 2000


@dataclass(frozen=True, slots=True)
class Climb:
    """Time passed: take the steps that are due."""

    ladder: Ladder


@dataclass(frozen=True, slots=True)
class Nudge:
    """The requester asks the approvers once more."""

    by: str
    ladder: Ladder


@dataclass(frozen=True, slots=True)
class Claim:
    """An approver says “looking”."""

    by: str
    directory: Mapping[str, Principal]
    ladder: Ladder


@dataclass(frozen=True, slots=True)
class Say:
    """Somebody who may see the request writes about it; `may_see` is the broker's answer to that."""

    by: str
    text: str
    may_see: bool


@dataclass(frozen=True, slots=True)
class Warn:
    """Time passed: tell the holder that the end is near."""


Command = Climb | Nudge | Claim | Say | Warn


def decide(story: Story, command: Command, now: datetime) -> Decision:
    """What follows from `command` at `now`: events, none where it changes nothing, or a refusal."""
    match command:
        case Climb(ladder):
            return _climb(story, ladder, now)
        case Nudge():
            return _nudge(story.request, command, now)
        case Claim():
            return _claim(story.request, command, now)
        case Say():
            return _say(story.request, command, now)
        case Warn():
            at = warn_at(story)
            return (EndWarned(now),) if at and now >= at and not _over(story.grant, now) else ()


# ------------------------------------------------------------------ the ladder


def next_step(story: Story, ladder: Ladder, now: datetime) -> tuple[datetime, Step] | None:
    """The step that comes next and when; a time that has passed means now. None once the waiting is over."""
    request = story.request
    if request.state is not RequestState.PENDING:
        return None
    lapse = Step(request.lapses_at - request.created_at, StepKind.LAPSE, wakes=True)
    if request.steps >= len(ladder.steps):
        return request.lapses_at, lapse
    step = ladder.steps[request.steps]
    at = request.created_at + step.after
    if request.claimed_at and (held := request.claimed_at + ladder.claim_holds) > now:
        at = max(at, held)
    if ladder.quiet and not step.wakes:
        # What is overdue goes out now, or after the quiet hours of now: never at a quiet moment that is past.
        at = loud_after(ladder.quiet, max(at, now))
    return (at, step) if max(at, now) < request.lapses_at else (request.lapses_at, lapse)


def loud_after(quiet: QuietHours, at: datetime) -> datetime:
    """`at`, or the end of the quiet hours that it falls into."""
    local = at.astimezone(quiet.zone)
    clock = local.timetz().replace(tzinfo=None)
    over_midnight = quiet.end <= quiet.start
    inside = (
        (clock >= quiet.start or clock < quiet.end) if over_midnight else quiet.start <= clock < quiet.end
    )
    if not inside or quiet.start == quiet.end:
        return at
    day = local.date() + timedelta(days=1 if over_midnight and clock >= quiet.start else 0)
    # A time that a change of the clock leaves out or repeats is its first one; never before `at` itself.
    ends = datetime.combine(day, quiet.end, tzinfo=quiet.zone).astimezone(UTC)
    return max(ends, at.astimezone(UTC))


def _climb(story: Story, ladder: Ladder, now: datetime) -> Decision:
    """Every step that is due. The lapse itself is access.Lapse."""
    events: list[Event] = []
    taken = story
    while (
        (found := next_step(taken, ladder, now)) and found[0] <= now and found[1].kind is not StepKind.LAPSE
    ):
        step, nth = found[1], taken.request.steps + 1
        events.append(StepTaken(nth, step.kind, step.target, now))
        taken = _at_step(taken, nth)
        known = {group for quorum in story.request.quorum for group in (quorum.group, *quorum.also)}
        if step.kind is StepKind.WIDEN and step.target not in known:
            events.append(QuorumWidened(step.target, now))
    return tuple(events)


def _at_step(story: Story, nth: int) -> Story:
    return replace(story, request=replace(story.request, steps=nth))


# ------------------------------------------------------------------ people


def _waiting(request: AccessRequest, now: datetime) -> Refusal | None:
    if request.state is not RequestState.PENDING or now >= request.lapses_at:
        state = "lapsed" if request.state is RequestState.PENDING else request.state
        return Refusal("already-decided", f"{request.id} waits no more: it is {state}.")
    return None


def _nudge(request: AccessRequest, command: Nudge, now: datetime) -> Decision:
    if command.by not in request.parties:
        return Refusal("not-yours", f"Only {request.requester}, who asked, can nudge for {request.id}.")
    if refusal := _waiting(request, now):
        return refusal
    again = (request.nudged_at or request.created_at) + command.ladder.nudge_every
    if now < again:
        wait = spell(timedelta(seconds=int((again - now).total_seconds()) + 1))
        return Refusal("too-soon", "The approvers were told a moment ago.", f"Nudge again in {wait}.")
    return (ApproversNudged(command.by, now),)


def _claim(request: AccessRequest, command: Claim, now: datetime) -> Decision:
    if refusal := may_not_decide(request, command.by, command.directory) or _waiting(request, now):
        return refusal
    holds = request.claimed_at is not None and now < request.claimed_at + command.ladder.claim_holds
    if holds and request.claimed_by == command.by:
        return ()
    if holds and eligible(request, command.directory.get(request.claimed_by), command.directory):
        return Refusal(
            "claimed", f"{request.claimed_by} is looking at {request.id}.", "You can decide it all the same."
        )
    return (RequestClaimed(command.by, now),)


def _say(request: AccessRequest, command: Say, now: datetime) -> Decision:
    text = command.text.strip()
    if not command.may_see:
        return Refusal("no-such-request", "There is no such request or grant.", "See yours with: status.")
    if not text:
        return ()
    if len(text) > LONGEST_COMMENT:
        return Refusal("too-long", f"A comment has at most {LONGEST_COMMENT} characters.", "Shorten it.")
    if len(request.comments) >= MOST_COMMENTS:
        return Refusal("too-many", f"{request.id} has {MOST_COMMENTS} comments, as many as are kept.")
    return (Commented(Comment(command.by, now, text)),)


# ------------------------------------------------------------- before the end


def warn_at(story: Story) -> datetime | None:
    """When the holder is to be told of the end; None where there is nothing to tell (any more)."""
    grant = story.grant
    if grant is None or grant.state is GrantState.ENDED or story.request.warned:
        return None
    granted = [e.span for e in story.request.extensions if e.state is ExtensionState.GRANTED]
    span = granted[-1] if granted else grant.expiry - grant.not_before
    return grant.expiry - min(WARN_BEFORE, span / 2)


def _over(grant: Grant | None, now: datetime) -> bool:
    return grant is None or grant.state is GrantState.ENDED or now >= grant.expiry
