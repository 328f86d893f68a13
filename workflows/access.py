"""From a wish to the dropped gate: access request → approvals → grant → end, as pure functions.

`decide` looks at a story, a command and the time and answers with the events that follow, or with a refusal.
`evolve` applies one event. A command that has already had its effect answers with no events, so repeating
any command at any time does no harm. Both are total: they raise nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from workflows.events import Later, RequestNarrowed, after
from workflows.model import (
    AccessRequest,
    Action,
    Approval,
    EndReason,
    Grant,
    GrantState,
    Principal,
    Refusal,
    RequestState,
    Role,
    Story,
    Terms,
)
from workflows.policy import Route, spell
from workflows.quorum import has_a_say, may_not_decide, missing, who_can
from workflows.step_up import lacking

FARTHEST_START = timedelta(days=30)
"""How far ahead access can be asked for."""
_LATE = timedelta(minutes=1)
"""A beginning this little ago is now: the wish was on its way."""

# ---------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Approve:
    """`approver` says yes. `directory` holds everybody who has a say, as they are at this moment.

    `grant_id` is the id that the grant gets if this is the yes that completes the quorum. `proof` is what
    proved the approver beyond the login; `step_up` that the rule of today wants it, if that of then did not.
    """

    approver: str
    directory: Mapping[str, Principal]
    grant_id: str
    reason: str = ""
    proof: str = ""
    step_up: bool = False


@dataclass(frozen=True, slots=True)
class ApproveForLess:
    """The same for a shorter `duration` or a narrower `role` than was asked; None leaves that as it is."""

    approver: str
    directory: Mapping[str, Principal]
    grant_id: str
    duration: timedelta | None = None
    role: Role | None = None
    reason: str = ""
    proof: str = ""
    step_up: bool = False


@dataclass(frozen=True, slots=True)
class Deny:
    approver: str
    directory: Mapping[str, Principal]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The requester takes the request back, or whom it is for refuses it."""

    by: str


@dataclass(frozen=True, slots=True)
class Lapse:
    """Time passed: a request nobody decided ends."""


@dataclass(frozen=True, slots=True)
class ConfirmHold:
    """A gate says that it holds the grant."""

    gate: str


@dataclass(frozen=True, slots=True)
class FailGrant:
    """The login for the grant could not be made."""

    why: str


@dataclass(frozen=True, slots=True)
class Release:
    """The holder gives the grant back early."""

    by: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """An approver ends the grant now, or an administrator of the policy (`as_admin`)."""

    by: str
    directory: Mapping[str, Principal]
    reason: str = ""
    as_admin: bool = False


@dataclass(frozen=True, slots=True)
class Expire:
    """Time passed: the grant ends."""


Command = (
    Approve | ApproveForLess | Deny | Cancel | Lapse | ConfirmHold | FailGrant | Release | Revoke | Expire
)

# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class RequestSubmitted:
    request: AccessRequest


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    approval: Approval


@dataclass(frozen=True, slots=True)
class RequestApproved:
    """`at` is when; nothing (in older entries) means when the grant begins."""

    grant: Grant
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RequestDenied:
    approval: Approval


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RequestLapsed:
    at: datetime


@dataclass(frozen=True, slots=True)
class GrantHeld:
    gate: str
    at: datetime


@dataclass(frozen=True, slots=True)
class GrantEnded:
    reason: EndReason
    by: str
    at: datetime
    note: str = ""


Event = (
    RequestSubmitted
    | ApprovalGiven
    | RequestApproved
    | RequestDenied
    | RequestCancelled
    | RequestLapsed
    | GrantHeld
    | GrantEnded
    | Later
)
Decision = tuple[Event, ...] | Refusal

# -------------------------------------------------------------- submitting


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for, after the grammar and before the policy. No `duration` means the usual one, no
    `starts_at` at once. `beneficiary` is the principal whom it is for, where that is not whoever asks.
    """

    resource: str
    role: str = ""
    duration: timedelta | None = None
    reason: str = ""
    starts_at: datetime | None = None
    beneficiary: str = ""


def submit(
    route: Route, principal: Principal, wish: Wish, request_id: str, grant_id: str, now: datetime
) -> Decision:
    """Turn a wish into a request under the rule that fits, and into a grant where no approval is needed."""
    rule = route.rule
    duration = wish.duration or rule.usual
    if duration < timedelta(minutes=1):
        return Refusal("too-short", "The shortest grant is 1 minute.", f"Ask for {spell(rule.usual)}.")
    if duration > rule.longest:
        return Refusal(
            "too-long",
            f"{route.resource.name} can be had for at most {spell(rule.longest)} (rule {rule.name}).",
            f"Ask for {spell(rule.longest)} or less.",
        )
    if rule.reason_required and not wish.reason.strip():
        return Refusal(
            "no-reason", f"Rule {rule.name} wants a reason.", "Add one: because INC-142 checkout is slow."
        )
    if wish.starts_at is not None and not now - _LATE <= wish.starts_at <= now + FARTHEST_START:
        return Refusal(
            "bad-start",
            f"Access begins within {spell(FARTHEST_START)} from now, not in the past.",
            "Leave the beginning out to have it at once.",
        )
    request = AccessRequest(
        id=request_id,
        requester=principal.id,
        resource=route.resource.name,
        role=route.role.name,
        duration=duration,
        reason=wish.reason.strip(),
        rule=rule.name,
        quorum=rule.quorum,
        terms=route.role.terms,
        created_at=now,
        lapses_at=now + rule.lapse_after,
        starts_at=wish.starts_at,
        beneficiary="" if wish.beneficiary == principal.id else wish.beneficiary,
        step_up=rule.step_up,
        owner=principal.owner,
    )
    submitted = RequestSubmitted(request)
    if rule.quorum:
        return (submitted,)
    return (submitted, RequestApproved(_mint(request, grant_id, now), now))


# ---------------------------------------------------------------- deciding


def decide(story: Story, command: Command, now: datetime) -> Decision:
    """What follows from `command` at `now`: events, none where it changes nothing, or a refusal."""
    match command:
        case Approve():
            return _approve(story.request, command, now)
        case ApproveForLess():
            return _approve_for_less(story.request, command, now)
        case Deny():
            return _deny(story.request, command, now)
        case Cancel():
            return _cancel(story.request, command, now)
        case Lapse():
            due = story.request.state is RequestState.PENDING and now >= story.request.lapses_at
            return (RequestLapsed(now),) if due else ()
        case ConfirmHold():
            return _confirm_hold(story.grant, command, now)
        case FailGrant():
            return _fail(story.grant, command, now)
        case Release():
            return _release(story, command, now)
        case Revoke():
            return _revoke(story, command, now)
        case Expire():
            return _expire(story.grant, now)


def _approve(request: AccessRequest, command: Approve, now: datetime) -> Decision:
    said_yes = any(a.approver == command.approver and a.yes for a in request.approvals)
    if said_yes and request.state is not RequestState.PENDING:
        return ()
    if refusal := _may_decide(request, command.approver, command.directory, now):
        return refusal
    if refusal := lacking(request.step_up or command.step_up, command.proof):
        return refusal
    approval = Approval(command.approver, True, now, command.reason, command.proof)
    # A repeated yes adds nothing, but it may complete a quorum that a colleague's return has filled.
    given = () if said_yes else (ApprovalGiven(approval),)
    if missing(request, command.directory, (approval,)):
        return given
    return (*given, RequestApproved(_mint(request, command.grant_id, now), now))


def _approve_for_less(request: AccessRequest, command: ApproveForLess, now: datetime) -> Decision:
    duration = request.duration if command.duration is None else command.duration
    role = command.role
    if refusal := may_not_decide(request, command.approver, command.directory):
        return refusal
    if duration > request.duration or duration < timedelta(minutes=1):
        asked = spell(request.duration)
        return Refusal("not-less", f"{spell(duration)} is not less than the {asked} asked.", "Give less.")
    if role and role.name != request.role and request.role not in role.within:
        return Refusal(
            "not-less",
            f"{role.name} is not a part of {request.role}, which was asked.",
            "Narrower roles say in the policy what they are within.",
        )
    plain = Approve(
        command.approver,
        command.directory,
        command.grant_id,
        command.reason,
        command.proof,
        command.step_up,
    )
    name, terms = request.role, request.terms
    if role and role.name != request.role:
        name, terms = role.name, _both(role.terms, request.terms)
    if (name, duration) == (request.role, request.duration):
        return _approve(request, plain, now)
    narrowed = replace(request, role=name, terms=terms, duration=duration)
    decision = _approve(narrowed, plain, now)
    if isinstance(decision, Refusal) or request.state is not RequestState.PENDING:
        return decision
    return (RequestNarrowed(command.approver, name, terms, duration, now), *decision)


def _both(narrower: Terms, asked: Terms) -> Terms:
    """The terms of a narrower role, with nothing in clear or allowed that the asked one would not show."""
    masked = {(mask.table, mask.column) for mask in narrower.masks}
    more = tuple(mask for mask in asked.masks if (mask.table, mask.column) not in masked)
    strict = tuple(rail for rail in narrower.guardrails if rail.action is not Action.ALLOW)
    return Terms(
        masks=(*narrower.masks, *more),
        max_sessions=min(narrower.max_sessions, asked.max_sessions),
        guardrails=(*strict, *(rail for rail in asked.guardrails if rail not in strict)),
        detect=tuple(dict.fromkeys((*narrower.detect, *asked.detect))),
        trusted_functions=narrower.trusted_functions & asked.trusted_functions,
        hold_commit=narrower.hold_commit or asked.hold_commit,
    )


def _deny(request: AccessRequest, command: Deny, now: datetime) -> Decision:
    if request.state is RequestState.DENIED and request.closed_by == command.approver:
        return ()
    if refusal := _may_decide(request, command.approver, command.directory, now):
        return refusal
    return (RequestDenied(Approval(command.approver, False, now, command.reason)),)


def _cancel(request: AccessRequest, command: Cancel, now: datetime) -> Decision:
    if command.by not in request.parties:
        return Refusal(
            "not-yours",
            f"Only {request.requester}, who asked, can cancel {request.id}.",
            "An approver can deny it instead.",
        )
    if request.state is RequestState.CANCELLED:
        return ()
    if refusal := _closed(request, now):
        return refusal
    return (RequestCancelled(command.by, now),)


def _may_decide(
    request: AccessRequest, approver: str, directory: Mapping[str, Principal], now: datetime
) -> Refusal | None:
    if refusal := may_not_decide(request, approver, directory):
        return refusal
    if refusal := _closed(request, now):
        return refusal
    for name, what in ((request.requester, "who asked"), (request.holder, "whom it is for")):
        person = directory.get(name)
        if person is None or not person.active:
            return Refusal(
                "requester-inactive",
                f"{name}, {what}, is no longer active.",
                "Nothing is granted; the request lapses by itself.",
            )
    return None


def _closed(request: AccessRequest, now: datetime) -> Refusal | None:
    if request.state is not RequestState.PENDING:
        by = f" by {request.closed_by}" if request.closed_by else ""
        return Refusal("already-decided", f"{request.id} is already {request.state}{by}.")
    if now >= request.lapses_at:
        return Refusal("lapsed", f"{request.id} has lapsed.", "It can be asked again.")
    return None


def _mint(request: AccessRequest, grant_id: str, now: datetime) -> Grant:
    """The grant, which begins now or when it was asked to, whichever is later, and lasts its whole time."""
    begins = max(now, request.starts_at or now)
    return Grant(
        id=grant_id,
        request_id=request.id,
        principal=request.holder,
        resource=request.resource,
        role=request.role,
        terms=request.terms,
        not_before=begins,
        expiry=begins + request.duration,
    )


# --------------------------------------------------------------- the grant


def _confirm_hold(grant: Grant | None, command: ConfirmHold, now: datetime) -> Decision:
    if grant is None or grant.state is not GrantState.MINTING or now >= grant.expiry:
        return ()
    return (GrantHeld(command.gate, now),)


def _fail(grant: Grant | None, command: FailGrant, now: datetime) -> Decision:
    if grant is None or grant.state is not GrantState.MINTING:
        return ()
    return (GrantEnded(EndReason.FAILED, "", now, command.why),)


def _release(story: Story, command: Release, now: datetime) -> Decision:
    grant = story.grant
    if grant is None:
        return Refusal("no-grant", "There is no grant to release.")
    if command.by not in (grant.principal, story.request.owner or grant.principal):
        return Refusal(
            "not-yours",
            f"Only {grant.principal}, who holds {grant.id}, can release it.",
            "An approver can revoke it instead.",
        )
    if grant.state is GrantState.ENDED:
        return ()
    return (GrantEnded(EndReason.RELEASED, command.by, now),)


def _revoke(story: Story, command: Revoke, now: datetime) -> Decision:
    grant = story.grant
    if grant is None:
        return Refusal("no-grant", "There is no grant to revoke.", "A waiting request can be denied.")
    if not command.as_admin and not has_a_say(story.request, command.directory.get(command.by)):
        return Refusal(
            "not-an-approver", f"You are not an approver of {story.request.id}.", who_can(story.request)
        )
    if grant.state is GrantState.ENDED:
        return ()
    return (GrantEnded(EndReason.REVOKED, command.by, now, command.reason),)


def _expire(grant: Grant | None, now: datetime) -> Decision:
    if grant is None or grant.state is GrantState.ENDED or now < grant.expiry:
        return ()
    return (GrantEnded(EndReason.EXPIRED, "", now),)


# ---------------------------------------------------------------- evolving


def begin(submitted: RequestSubmitted) -> Story:
    """The story right after its first event."""
    return Story(submitted.request, None, 1)


def evolve(story: Story, event: Event) -> Story:
    """The story after `event`; every event is one version."""
    request, grant = story.request, story.grant
    match event:
        case RequestSubmitted():
            return begin(event)
        case ApprovalGiven(approval):
            request = replace(request, approvals=(*request.approvals, approval))
        case RequestApproved(minted, at):
            closed_at = at or minted.not_before
            request = replace(request, state=RequestState.APPROVED, closed_at=closed_at)
            grant = minted
        case RequestDenied(approval):
            request = replace(
                request,
                state=RequestState.DENIED,
                approvals=(*request.approvals, approval),
                closed_by=approval.approver,
                closed_at=approval.at,
                close_reason=approval.reason,
            )
        case RequestCancelled(by, at):
            request = replace(request, state=RequestState.CANCELLED, closed_by=by, closed_at=at)
        case RequestLapsed(at):
            request = replace(request, state=RequestState.LAPSED, closed_at=at)
        case GrantHeld(gate, _) if grant:
            grant = replace(grant, state=GrantState.ACTIVE, held_by=gate)
        case GrantEnded(reason, by, at, note) if grant:
            grant = replace(
                grant, state=GrantState.ENDED, end_reason=reason, ended_by=by, ended_at=at, end_note=note
            )
        case RequestApproved() | GrantHeld() | GrantEnded():
            return story
        case _:
            further = after(story, event)
            if further is story:
                return story
            request, grant = further.request, further.grant
    return Story(request, grant, story.version + 1)
