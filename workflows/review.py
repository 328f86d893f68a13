"""From a risky statement to its one run: review → approvals → run → outcome, as pure functions.

An approval binds to the digest of the exact bytes, the grant and the session that sent them; `Run` spends it,
once. Like workflows/access, `decide` answers with events, none where the command changes nothing, or with a
refusal, and `evolve` applies one event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from workflows.model import Approval, Principal, Refusal, ReviewState, StatementReview
from workflows.quorum import may_not_decide, missing
from workflows.step_up import lacking

# ---------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Approve:
    """`approver` says yes; `row_budget` may only narrow what the review has. `proof` is what proved them
    beyond the login.
    """

    approver: str
    directory: Mapping[str, Principal]
    row_budget: int | None = None
    reason: str = ""
    proof: str = ""


@dataclass(frozen=True, slots=True)
class Deny:
    approver: str
    directory: Mapping[str, Principal]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The statement is no longer wanted: cancelled, its client gone, its session or grant over."""

    why: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Lapse:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Run:
    """The gate takes the approved run, for these bytes under this grant and in this session."""

    digest: str
    grant_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over; `outcome` is the target's word: a command tag, or an error without its values."""

    outcome: str


Command = Approve | Deny | Withdraw | Lapse | Run | Finish

# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class ReviewOpened:
    review: StatementReview


@dataclass(frozen=True, slots=True)
class ReviewVoted:
    approval: Approval
    row_budget: int | None = None


@dataclass(frozen=True, slots=True)
class ReviewApproved:
    at: datetime


@dataclass(frozen=True, slots=True)
class ReviewClosed:
    """Ended without a run: denied, withdrawn or lapsed."""

    state: ReviewState
    by: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunTaken:
    at: datetime


@dataclass(frozen=True, slots=True)
class RunFinished:
    outcome: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RunBound:
    """A statement submitted in chat got its grant, and later the session that sends it."""

    grant_id: str
    session_id: str = ""


Event = ReviewOpened | ReviewVoted | ReviewApproved | ReviewClosed | RunBound | RunTaken | RunFinished
Decision = tuple[Event, ...] | Refusal

_OPEN = (ReviewState.PENDING, ReviewState.APPROVED)


def decide(review: StatementReview, command: Command, now: datetime) -> Decision:
    """What follows from `command` at `now`."""
    match command:
        case Approve():
            return _approve(review, command, now)
        case Deny():
            return _deny(review, command, now)
        case Withdraw():
            if review.state not in _OPEN:
                return ()
            return (ReviewClosed(ReviewState.WITHDRAWN, command.by, now, command.why),)
        case Lapse():
            due = review.state in _OPEN and now >= review.lapses_at
            return (ReviewClosed(ReviewState.LAPSED, "", now),) if due else ()
        case Run():
            return _run(review, command, now)
        case Finish():
            return (RunFinished(command.outcome, now),) if review.state is ReviewState.RUNNING else ()


def _approve(review: StatementReview, command: Approve, now: datetime) -> Decision:
    said_yes = any(a.approver == command.approver and a.yes for a in review.approvals)
    if said_yes and review.state is not ReviewState.PENDING:
        return ()
    if refusal := _may_decide(review, command.approver, command.directory, now):
        return refusal
    if command.row_budget is not None and command.row_budget < 0:
        return Refusal("bad-budget", "A row budget is zero or more.", "Give a whole number of rows.")
    if refusal := lacking(review.step_up, command.proof):
        return refusal
    approval = Approval(command.approver, True, now, command.reason, command.proof)
    given = () if said_yes else (ReviewVoted(approval, command.row_budget),)
    if missing(review, command.directory, (approval,)):
        return given
    return (*given, ReviewApproved(now))


def _deny(review: StatementReview, command: Deny, now: datetime) -> Decision:
    if review.state is ReviewState.DENIED and review.closed_by == command.approver:
        return ()
    if refusal := _may_decide(review, command.approver, command.directory, now):
        return refusal
    no = Approval(command.approver, False, now, command.reason)
    return (ReviewVoted(no), ReviewClosed(ReviewState.DENIED, command.approver, now, command.reason))


def _run(review: StatementReview, command: Run, now: datetime) -> Decision:
    bound = (review.statement.digest, review.grant_id, review.session_id)
    if (command.digest, command.grant_id, command.session_id) != bound:
        return Refusal(
            "not-what-was-approved",
            f"This is not the statement that {review.id} is about.",
            "What is approved is what runs: send the same bytes in the same session, or ask anew.",
        )
    if review.state is not ReviewState.APPROVED:
        return Refusal("not-approved", f"{review.id} is {review.state}.", "An approval is good for one run.")
    if now >= review.lapses_at:
        return Refusal("lapsed", f"{review.id} has lapsed.", "It can be asked again.")
    return (RunTaken(now),)


def _may_decide(
    review: StatementReview, approver: str, directory: Mapping[str, Principal], now: datetime
) -> Refusal | None:
    if refusal := may_not_decide(review, approver, directory):
        return refusal
    if review.state is not ReviewState.PENDING:
        by = f" by {review.closed_by}" if review.closed_by else ""
        return Refusal("already-decided", f"{review.id} is already {review.state}{by}.")
    if now >= review.lapses_at:
        return Refusal("lapsed", f"{review.id} has lapsed.", "It can be asked again.")
    return None


def evolve(review: StatementReview, event: Event) -> StatementReview:
    """The review after `event`; every event is one version."""
    version = review.version + 1
    match event:
        case ReviewOpened():
            return event.review
        case ReviewVoted(approval, budget):
            budgets = [b for b in (review.row_budget, budget) if b is not None]
            approvals = (*review.approvals, approval)
            return replace(
                review, approvals=approvals, row_budget=min(budgets, default=None), version=version
            )
        case ReviewApproved():
            return replace(review, state=ReviewState.APPROVED, version=version)
        case ReviewClosed(state, by, at, reason):
            return replace(
                review, state=state, closed_by=by, closed_at=at, close_reason=reason, version=version
            )
        case RunBound(grant_id, session_id):
            return replace(review, grant_id=grant_id, session_id=session_id, version=version)
        case RunTaken():
            return replace(review, state=ReviewState.RUNNING, version=version)
        case RunFinished(outcome, at):
            return replace(review, state=ReviewState.FINISHED, outcome=outcome, closed_at=at, version=version)
