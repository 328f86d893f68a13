"""More time on a live grant: at once within what the rule gives freely, else by a new decision.

No chain of extensions makes a grant last longer in all than its rule says. An emergency is not extended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from workflows.access import Decision
from workflows.events import ExtensionApproved, ExtensionAsked, ExtensionDenied, GrantExtended
from workflows.model import (
    AccessRequest,
    Approval,
    Extension,
    ExtensionState,
    Grant,
    GrantState,
    Principal,
    Quorum,
    Refusal,
    Story,
)
from workflows.policy import Rule, spell
from workflows.quorum import may_not_decide, missing
from workflows.step_up import lacking

_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Extend:
    """The holder asks for `span` more, under the rule as it is today."""

    by: str
    span: timedelta
    rule: Rule
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApproveExtension:
    """An approver says yes to more time. `rule` is the rule of today: its cap holds at the click as well."""

    approver: str
    directory: Mapping[str, Principal]
    rule: Rule
    reason: str = ""
    proof: str = ""


@dataclass(frozen=True, slots=True)
class DenyExtension:
    approver: str
    directory: Mapping[str, Principal]
    reason: str = ""


Command = Extend | ApproveExtension | DenyExtension


@dataclass(frozen=True, slots=True)
class Wanted:
    """An extension as a matter that a quorum decides (workflows/quorum.py)."""

    id: str
    requester: str
    parties: frozenset[str]
    quorum: tuple[Quorum, ...]
    approvals: tuple[Approval, ...]


def waiting(story: Story, now: datetime) -> Extension | None:
    """The extension that waits for a decision; None where there is none, or the grant is over."""
    last = story.request.extensions[-1] if story.request.extensions else None
    if last is None or last.state is not ExtensionState.PENDING or not _live(story.grant, now):
        return None
    return last


def room(story: Story, rule: Rule) -> timedelta:
    """How much longer the grant may yet become; never negative."""
    grant = story.grant
    if grant is None or story.request.emergency is not None:
        return timedelta()
    return max(rule.total - (grant.expiry - grant.not_before), timedelta())


def decide(story: Story, command: Command, now: datetime) -> Decision:
    match command:
        case Extend():
            return _extend(story, command, now)
        case ApproveExtension():
            return _approve(story, command, now)
        case DenyExtension():
            return _deny(story, command, now)


def _extend(story: Story, command: Extend, now: datetime) -> Decision:
    request, grant = story.request, story.grant
    if grant is None:
        return Refusal("no-grant", "There is no grant to extend.", "Ask for one: request RESOURCE 1h.")
    if command.by != grant.principal:
        return Refusal("not-yours", f"Only {grant.principal}, who holds {grant.id}, can extend it.")
    if not _live(grant, now):
        return Refusal("grant-over", f"{grant.id} is over.", f"Ask anew: request {grant.resource}.")
    if request.emergency is not None:
        return Refusal("not-extendable", "An emergency is not extended.", "Ask for access the usual way.")
    if open_one := waiting(story, now):
        if open_one.span == command.span:
            return ()
        return Refusal("already-asked", f"You asked for {spell(open_one.span)} more; it waits.")
    if command.span < _SHORTEST:
        return Refusal("too-short", "The shortest extension is 1 minute.")
    if refusal := _too_long(story, command.rule, command.span):
        return refusal
    asked = ExtensionAsked(Extension(now, command.span, command.reason.strip()))
    if not command.rule.quorum or freely_used(request) + command.span <= command.rule.extend_freely:
        return (asked, _granted(grant, command.span, now))
    return (asked,)


def freely_used(request: AccessRequest) -> timedelta:
    """How much was extended without a decision."""
    spans = (e.span for e in request.extensions if e.state is ExtensionState.GRANTED and not e.approvals)
    return sum(spans, timedelta())


def _approve(story: Story, command: ApproveExtension, now: datetime) -> Decision:
    request, grant = story.request, story.grant
    last = request.extensions[-1] if request.extensions else None
    said_yes = last is not None and any(a.approver == command.approver and a.yes for a in last.approvals)
    if last is not None and said_yes and last.state is not ExtensionState.PENDING:
        return ()
    matter = _matter(request)
    if refusal := may_not_decide(matter, command.approver, command.directory):
        return refusal
    extension = waiting(story, now)
    if extension is None or grant is None:
        return _none_waits(request)
    holder = command.directory.get(grant.principal)
    if holder is None or not holder.active:
        return Refusal("requester-inactive", f"{grant.principal}, who asked, is no longer active.")
    if refusal := _too_long(story, command.rule, extension.span):
        return refusal
    if refusal := lacking(request.step_up or command.rule.step_up, command.proof):
        return refusal
    approval = Approval(command.approver, True, now, command.reason, command.proof)
    given = () if said_yes else (ExtensionApproved(approval),)
    if missing(matter, command.directory, (approval,)):
        return given
    return (*given, _granted(grant, extension.span, now))


def _deny(story: Story, command: DenyExtension, now: datetime) -> Decision:
    request = story.request
    last = request.extensions[-1] if request.extensions else None
    if last and last.state is ExtensionState.DENIED and last.approvals[-1].approver == command.approver:
        return ()
    if refusal := may_not_decide(_matter(request), command.approver, command.directory):
        return refusal
    if waiting(story, now) is None:
        return _none_waits(request)
    return (ExtensionDenied(Approval(command.approver, False, now, command.reason)),)


def _granted(grant: Grant, span: timedelta, now: datetime) -> GrantExtended:
    return GrantExtended(grant.expiry + span, span, now)


def _too_long(story: Story, rule: Rule, span: timedelta) -> Refusal | None:
    left = room(story, rule)
    if span <= left:
        return None
    way_out = f"{spell(left)} is left: extend {spell(left)}." if left >= _SHORTEST else "Ask anew after."
    return Refusal(
        "too-long", f"A grant of rule {rule.name} lasts at most {spell(rule.total)} in all.", way_out
    )


def _none_waits(request: AccessRequest) -> Refusal:
    return Refusal("nothing-waits", f"No extension of {request.id} waits for a decision.")


def _matter(request: AccessRequest) -> Wanted:
    """The quorum is the request's own; the yeses are those to the newest extension alone."""
    last = request.extensions[-1] if request.extensions else None
    approvals = last.approvals if last else ()
    return Wanted(request.id, request.requester, request.parties, request.quorum, approvals)


def _live(grant: Grant | None, now: datetime) -> bool:
    return grant is not None and grant.state is not GrantState.ENDED and now < grant.expiry
