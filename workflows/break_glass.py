"""The emergency: access first, everybody told, a review owed.

`break_glass` decides from what is known at that moment: the policy, the person, who is on call, and what the
person did before. Where something cannot be known the answer is no, unless the policy says otherwise. The
grant keeps the role's own masks and guardrails, is short, and cannot be extended. Anybody who could have
decided may end it (access.Revoke). Everything here is total: it raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from workflows.access import Decision, RequestSubmitted, Wish
from workflows.events import GlassBroken
from workflows.glass_review import owes_review
from workflows.model import (
    AccessRequest,
    BreakGlass,
    EndReason,
    Grant,
    GrantState,
    Principal,
    PrincipalKind,
    Quorum,
    Refusal,
    RequestState,
    Role,
    Story,
)
from workflows.policy import Emergency, Policy, Route, route, spell
from workflows.quorum import eligible
from workflows.step_up import lacking

FRESH = timedelta(seconds=60)
"""An answer about who is on call that is older than this is no answer."""
AHEAD = timedelta(seconds=5)
"""How far an answer's time may be ahead of ours, for clocks that differ a little."""
SUSPECT_OVERRIDE = timedelta(minutes=30)
"""A place on call that was taken over by hand so shortly before is shown to the reviewer."""
DRILL, DRILL_SPAN = "DRILL", timedelta(minutes=1)
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Duty:
    """`principal` is on call for `schedule`, as its source said at `as_of`. `since_override` is how long ago
    somebody put them there by hand; None where nobody did, or the source does not tell.
    """

    schedule: str
    principal: str
    as_of: datetime
    until: datetime | None = None
    level: int = 1
    since_override: timedelta | None = None


@dataclass(frozen=True, slots=True)
class OnDuty:
    """What the schedules that were asked said. `away` are those that gave no usable answer."""

    duties: tuple[Duty, ...] = ()
    away: tuple[str, ...] = ()


class IncidentState(StrEnum):
    """What the keeper of incidents says of the one that was named."""

    UNASKED = ""
    OPEN = "open"
    OVER = "over"
    MISSING = "missing"
    UNTOLD = "untold"
    """There was no usable answer."""


@dataclass(frozen=True, slots=True)
class Break:
    """Somebody breaks the glass. `history` holds every emergency of theirs, `directory` everybody.

    `code` tells that they showed a good offline code instead of a login, `proof` what proved them beyond the
    login. With `findings` it is a drill, and these are what was found on the way to it.
    """

    principal: Principal
    wish: Wish
    incident: str
    on_duty: OnDuty
    history: Sequence[Story]
    directory: Mapping[str, Principal]
    grant_id: str
    code: bool = False
    findings: tuple[str, ...] | None = None
    proof: str = ""
    incident_state: IncidentState = IncidentState.UNASKED


# ------------------------------------------------------------- what there is


def emergencies(policy: Policy, principal: Principal, resource: str) -> tuple[Emergency, ...]:
    """The emergency rules by which this person might break the glass of a resource, as far as can be told
    without asking who is on call.
    """
    found = policy.find(resource)
    if found is None or not principal.active or principal.kind is not PrincipalKind.PERSON:
        return ()
    return tuple(
        rule
        for rule in policy.emergencies
        if found.name in rule.resources
        and (rule.schedules or rule.codes or not rule.who.isdisjoint(principal.groups))
    )


# ------------------------------------------------------------- breaking it


def break_glass(policy: Policy, command: Break, request_id: str, now: datetime) -> Decision:
    """A new emergency: request and grant at once."""
    way = _way(policy, command, now)
    if isinstance(way, Refusal):
        return way
    asked = AccessRequest(
        id=request_id,
        requester=command.principal.id,
        resource=way.resource,
        role=way.role.name,
        duration=way.duration,
        reason=command.wish.reason.strip(),
        rule=way.rule.name,
        quorum=way.quorum,
        terms=way.role.terms,
        created_at=now,
        lapses_at=now + way.duration,
    )
    return (RequestSubmitted(asked), _broken(asked, way, command, now))


def drill(policy: Policy, command: Break, request_id: str, now: datetime) -> Decision:
    """The same without access: who may is decided as in earnest, everybody is told, and the gate holds a
    grant that lets nobody in and is over in a minute. What would stand in the way in earnest is a finding.
    """
    grants = [s.grant for s in command.history if s.request.emergency and s.request.emergency.drill]
    if any(g is not None and g.state is not GrantState.ENDED and now < g.expiry for g in grants):
        return Refusal("one-at-a-time", "Your drill is still going on.", "Wait for its end: a minute.")
    way = _way(policy, command, now)
    if isinstance(way, Refusal):
        return way
    terms = replace(way.role.terms, max_sessions=0)
    asked = AccessRequest(
        id=request_id,
        requester=command.principal.id,
        resource=way.resource,
        role=way.role.name,
        duration=DRILL_SPAN,
        reason="A rehearsal: nothing is open.",
        rule=way.rule.name,
        quorum=way.quorum,
        terms=terms,
        created_at=now,
        lapses_at=now + DRILL_SPAN,
    )
    return (RequestSubmitted(asked), _broken(asked, way, command, now))


def escalate(policy: Policy, story: Story, command: Break, now: datetime) -> Decision:
    """Whoever a request is for turns it into an emergency while it waits."""
    request = story.request
    if command.principal.id != request.holder:
        return Refusal("not-yours", f"Only {request.holder}, whom it is for, can make this an emergency.")
    if request.emergency is not None:
        return ()
    if request.state is not RequestState.PENDING:
        return Refusal("already-decided", f"{request.id} is already {request.state}.")
    if now >= request.lapses_at:
        return Refusal("lapsed", f"{request.id} has lapsed.", "Break the glass anew.")
    wish = replace(command.wish, resource=request.resource)
    command = replace(command, wish=replace(wish, reason=wish.reason.strip() or request.reason))
    way = _way(policy, command, now)
    if isinstance(way, Refusal):
        return way
    more = tuple(q for q in way.quorum if q.group not in {asked.group for asked in request.quorum})
    changed = replace(
        request,
        role=way.role.name,
        duration=way.duration,
        rule=way.rule.name,
        terms=way.role.terms,
        reason=command.wish.reason,
        quorum=(*request.quorum, *more),
    )
    return (_broken(changed, way, command, now),)


@dataclass(frozen=True, slots=True)
class _Way:
    rule: Emergency
    resource: str
    role: Role
    duration: timedelta
    quorum: tuple[Quorum, ...]
    eligible_by: str
    concerns: tuple[str, ...]


def _way(policy: Policy, command: Break, now: datetime) -> _Way | Refusal:
    """How this person may do it now, or why not."""
    person, wish = command.principal, command.wish
    rules = emergencies(policy, person, wish.resource)
    resource = policy.find(wish.resource)
    if not rules or resource is None:
        # In the words for a resource that is not there, so that a guess tells nothing.
        hidden = route(policy, person, wish.resource)
        return hidden if isinstance(hidden, Refusal) else _no_rule(hidden)
    refusals: list[Refusal] = []
    for rule in rules:
        proof = _proof(rule, command, now)
        role = resource.role(rule.role)
        if isinstance(proof, Refusal):
            refusals.append(proof)
        elif role is None or (wish.role and wish.role != role.name):
            refusals.append(
                Refusal("no-such-role", f"In an emergency {resource.name} is open as {rule.role} only.")
            )
        else:
            refusal = None if command.findings is not None else _form(rule, command)
            refusal = refusal or _incident(rule, command) or _record(rule, command, now)
            # A sealed code is something one has, and works when no page of ours can be reached.
            free = command.code or command.findings is not None
            refusal = refusal or lacking(rule.step_up and not free, command.proof)
            way = _Way(
                rule, resource.name, role, wish.duration or rule.longest,
                _who_could(policy, person, resource.name, role.name, rule), *proof,
            )  # fmt: skip
            if refusal is not None and command.findings is not None:
                return replace(way, concerns=(*way.concerns, f"In earnest: {refusal}"))
            return refusal or way
    return _told(policy, person, wish.resource, refusals)


def _no_rule(way: Route) -> Refusal:
    return Refusal(
        "no-emergency-rule",
        f"No rule lets you break the glass of {way.resource.name}.",
        f"Ask for it: request {way.resource.name} because …",
    )


def _told(policy: Policy, person: Principal, resource: str, refusals: list[Refusal]) -> Refusal:
    """The first refusal, but for somebody who may not know of the resource the one for what is not there."""
    hidden = route(policy, person, resource)
    return hidden if isinstance(hidden, Refusal) else refusals[0]


def _proof(rule: Emergency, command: Break, now: datetime) -> tuple[str, tuple[str, ...]] | Refusal:
    """What makes this person eligible, and what a reviewer should know about it."""
    person = command.principal
    if command.code:
        if rule.codes:
            return "an offline code", ("An offline code was used.",)
        return Refusal("no-codes", f"Rule {rule.name} takes no offline codes.", "Log in and try again.")
    if shared := sorted(rule.who & person.groups):
        return f"member of {shared[0]}", ()
    for duty in command.on_duty.duties:
        if duty.principal == person.id and _on_call(rule, duty, now):
            until = f" until {duty.until:%Y-%m-%d %H:%M} UTC" if duty.until else ""
            said = f"on call for {duty.schedule}{until}, as of {duty.as_of:%H:%M:%S} UTC"
            return said, _about_override(duty)
    unanswered = _unanswered(rule, command.on_duty, now)
    if not unanswered:
        return Refusal(
            "not-on-call",
            f"You are not on call for {' or '.join(rule.schedules)} now (rule {rule.name}).",
            "Ask whoever is, or ask for access the usual way.",
        )
    if shared := sorted(rule.when_away & person.groups):
        return f"member of {shared[0]}, while no schedule answered", (
            f"Nobody could tell who was on call for {' and '.join(unanswered)}.",
        )
    return Refusal(
        "on-call-unknown",
        f"Nobody can tell who is on call for {' and '.join(unanswered)} now, so nothing is opened.",
        "Use an offline code, or ask for access the usual way." if rule.codes else "Ask the usual way.",
    )


def _on_call(rule: Emergency, duty: Duty, now: datetime) -> bool:
    fresh = -AHEAD <= now - duty.as_of <= FRESH
    still = duty.until is None or now < duty.until
    return duty.schedule in rule.schedules and 1 <= duty.level <= rule.level and fresh and still


def _unanswered(rule: Emergency, on_duty: OnDuty, now: datetime) -> list[str]:
    """The rule's schedules of which nothing is known: their source was away, or its answer is too old."""
    old = {duty.schedule for duty in on_duty.duties if not -AHEAD <= now - duty.as_of <= FRESH}
    return [name for name in rule.schedules if name in on_duty.away or name in old]


def _about_override(duty: Duty) -> tuple[str, ...]:
    if duty.since_override is None or duty.since_override > SUSPECT_OVERRIDE:
        return ()
    ago = spell(max(duty.since_override, timedelta()))
    return (f"{duty.principal} was put on call for {duty.schedule} by hand {ago} before.",)


def _form(rule: Emergency, command: Break) -> Refusal | None:
    """Whether what was said is enough."""
    duration, reason = command.wish.duration, command.wish.reason.strip()
    if not command.incident.strip():
        return Refusal("no-incident", "An emergency has an incident.", "Name it: because INC-142 …")
    if len(reason) < rule.shortest_reason:
        return Refusal(
            "reason-too-short",
            f"Say in {rule.shortest_reason} characters or more what is broken; it is read in the review.",
        )
    if duration is not None and not _SHORTEST <= duration <= rule.longest:
        limit = spell(rule.longest)
        return Refusal("too-long", f"In an emergency it is 1m to {limit} (rule {rule.name}).")
    return None


def _incident(rule: Emergency, command: Break) -> Refusal | None:
    """Whether the incident stands in the way. One of which nothing can be told does not: the keeper of
    incidents may burn as well.
    """
    said = _about_incident(command)
    if not rule.open_incident or command.incident_state is IncidentState.UNTOLD or not said:
        return None
    return Refusal("no-open-incident", said[0], "Open the incident, or name the one that is open.")


def _about_incident(command: Break) -> tuple[str, ...]:
    """What a reviewer should know about the incident."""
    name = command.incident.strip()
    match command.incident_state:
        case IncidentState.OVER:
            return (f"{name} is over.",)
        case IncidentState.MISSING:
            return (f"There is no incident {name}.",)
        case IncidentState.UNTOLD:
            return (f"Nobody could tell whether {name} is open.",)
        case _:
            return ()


def _record(rule: Emergency, command: Break, now: datetime) -> Refusal | None:
    """Whether what the person did before stands in the way."""
    mine = [
        s
        for s in command.history
        if s.request.holder == command.principal.id and s.request.emergency and not s.request.emergency.drill
    ]
    grants = [(s, s.grant) for s in mine if s.grant]
    for story, grant in grants:
        if grant.state is not GrantState.ENDED and now < grant.expiry:
            return Refusal(
                "one-at-a-time",
                f"Your emergency {story.request.id} on {grant.resource} is open until "
                f"{grant.expiry:%H:%M} UTC.",
                f"Release it first: release {grant.id}.",
            )
    owed = [s for s in mine if owes_review(s)]
    overdue = [s for s in owed if s.request.emergency and now >= s.request.emergency.review_due]
    if overdue or len(owed) > rule.most_unreviewed:
        first, late = (overdue or owed)[0], ", and is overdue" if overdue else ""
        who = " or ".join(first.request.emergency.reviewers) if first.request.emergency else ""
        return Refusal(
            "review-owed",
            f"Your emergency {first.request.id} has not been reviewed{late}.",
            f"Have somebody of {who} review it first.",
        )
    for _, grant in grants:
        ended = min(grant.ended_at or grant.expiry, grant.expiry)
        if grant.end_reason is not EndReason.FAILED and now < ended + rule.cool_down:
            wait = spell(timedelta(seconds=int((ended + rule.cool_down - now).total_seconds()) + 1))
            return Refusal("cool-down", f"Your last emergency has just ended; wait {wait}.")
    return None


def _who_could(
    policy: Policy, person: Principal, resource: str, role: str, rule: Emergency
) -> tuple[Quorum, ...]:
    """Whoever would have decided the usual way, and the reviewers: these see it and may end it."""
    usual = route(policy, person, resource, role)
    named = () if isinstance(usual, Refusal) else usual.rule.quorum
    if not named:
        rules = (r for r in policy.rules if resource in r.resources and role in r.roles)
        named = next((r.quorum for r in rules if r.quorum), ())
    have = {quorum.group for quorum in named}
    return (*named, *(Quorum(group) for group in rule.reviewers if group not in have))


def _broken(request: AccessRequest, way: _Way, command: Break, now: datetime) -> GlassBroken:
    everyone = command.directory
    skipped = tuple(sorted(p.id for p in everyone.values() if eligible(request, p, everyone)))
    told, unknown = _to_be_told(way.rule, command.principal, everyone)
    emergency = BreakGlass(
        incident=DRILL if command.findings is not None else command.incident.strip(),
        rule=way.rule.name,
        eligible_by=f"{way.eligible_by}, with {command.proof}" if command.proof else way.eligible_by,
        at=now,
        review_due=now + way.rule.review_within,
        reviewers=way.rule.reviewers,
        skipped=skipped,
        concerns=(*way.concerns, *_about_incident(command), *unknown),
        drill=command.findings is not None,
        findings=command.findings or (),
        apart=way.rule.apart,
        told=told,
    )
    grant = Grant(
        id=command.grant_id,
        request_id=request.id,
        principal=request.holder,
        resource=request.resource,
        role=request.role,
        terms=request.terms,
        not_before=now,
        expiry=now + request.duration,
    )
    return GlassBroken(replace(request, emergency=emergency), grant)


def _to_be_told(
    rule: Emergency, person: Principal, everyone: Mapping[str, Principal]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whom else the rule has hear of it, as ids, and what a reviewer should know where nobody could be found.
    Whoever has no manager, say, is known to have none.
    """
    told, unknown = dict[str, None](), []
    for name in rule.tells:
        values = {value for relation, value in person.relations if relation == name}
        found = [p.id for p in everyone.values() if p.active and p.id != person.id and _is_named(p, values)]
        told |= dict.fromkeys(sorted(found))
        if not found and values != {""}:
            unknown.append(f"Nobody is known as the {name} of {person.id}, so nobody was told as such.")
    return tuple(told), tuple(unknown)


def _is_named(person: Principal, values: set[str]) -> bool:
    """By the key in the policy or by the address, as directories name a manager."""
    address = person.email.casefold()
    return person.id in values or (address != "" and address in {value.casefold() for value in values})
