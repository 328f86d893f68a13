"""Who may ask for what, who decides, for how long and on what terms.

A `Policy` is the meaning of access.yaml, whole and consistent; broker/policy_file reads and checks the file.
The first rule, in the order of the file, that fits the person, the resource and the role is the one that
applies. Where none fits, the answer is no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta, tzinfo
from enum import StrEnum

from workflows.model import Group, Principal, PrincipalKind, Quorum, Refusal, Relation, Resource, Role
from workflows.quorum import apart_of


class StepKind(StrEnum):
    """What a step of a ladder does while a request waits."""

    GROUP = "group"
    """Tell the approvers' channel again, without waking anybody."""
    MENTION = "mention"
    """Call the approvers by name."""
    PAGE = "page"
    """Page whoever is on call for the schedule `target`."""
    WIDEN = "widen"
    """Let the group `target` decide too, and tell it."""
    LAPSE = "lapse"
    """The end of every ladder: the request lapses."""


@dataclass(frozen=True, slots=True)
class Step:
    """`after` counts from when the request was made. One that `wakes` goes out in quiet hours too."""

    after: timedelta
    kind: StepKind
    target: str = ""
    wakes: bool = False


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` until `end` by the clock of `zone`, over midnight where the end comes first."""

    start: time
    end: time
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Ladder:
    """What happens while nobody decides. A claim stops it for `claim_holds`; the requester may nudge once in
    `nudge_every`.
    """

    steps: tuple[Step, ...] = ()
    quiet: QuietHours | None = None
    nudge_every: timedelta = timedelta(minutes=15)
    claim_holds: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Emergency:
    """Who may break the glass, for what, and who looks at it after.

    A person qualifies as a member of a group in `who`, by being on call for one of `schedules` (at an
    escalation level of at most `level`), or with an offline code where `codes`. While no schedule can be
    asked, members of `when_away` qualify; nobody where it is empty. `most_unreviewed` is how many reviews a
    person may owe and still do it; one that is overdue always stands in the way. `type_name` has a form ask
    for the resource's name, typed. `pagers` (names) are called at once. `step_up` has it need a passkey,
    unless an offline code is shown. Who shares one of `apart` with whoever did it does not review it.
    `tells` are relations that name a person, like a manager, who hears of it beside those who decide. With
    `open_incident` an incident that is known not to be open opens nothing.
    """

    name: str
    resources: frozenset[str]
    role: str
    longest: timedelta
    reviewers: tuple[str, ...]
    who: frozenset[str] = frozenset()
    schedules: tuple[str, ...] = ()
    level: int = 1
    when_away: frozenset[str] = frozenset()
    codes: bool = False
    review_within: timedelta = timedelta(hours=24)
    cool_down: timedelta = timedelta(minutes=15)
    most_unreviewed: int = 0
    shortest_reason: int = 10
    type_name: bool = False
    pagers: tuple[str, ...] = ()
    step_up: bool = False
    apart: tuple[Relation, ...] = ()
    tells: tuple[str, ...] = ()
    open_incident: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy: `who` (group names) may have `roles` on `resources` for at most `longest`.

    An empty `quorum` grants at once. `lapse_after` is how long a request waits for a decision. Extensions of
    up to `extend_freely` in all need no new decision; none goes beyond `longest_total` (nothing: `longest`).
    Members of `for_others` (group names) may ask for somebody else to whom the rule opens it.
    `step_up` has every yes need a passkey. Only an `unattended` rule gives an agent anything that no person
    has approved.
    """

    name: str
    who: frozenset[str]
    resources: frozenset[str]
    roles: tuple[str, ...]
    longest: timedelta
    usual: timedelta
    quorum: tuple[Quorum, ...]
    lapse_after: timedelta
    reason_required: bool = True
    longest_total: timedelta | None = None
    extend_freely: timedelta = timedelta()
    ladder: Ladder = Ladder()
    for_others: frozenset[str] = frozenset()
    step_up: bool = False
    unattended: bool = False

    @property
    def total(self) -> timedelta:
        """How long a grant may last with all its extensions."""
        return self.longest_total or self.longest

    def fits(self, principal: Principal, resource: str) -> bool:
        approved = bool(self.quorum) or self.unattended or principal.kind is not PrincipalKind.AGENT
        return approved and resource in self.resources and not self.who.isdisjoint(principal.groups)


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy. `admins` are the groups that may revoke anything and read every session and the
    audit trail; `auditors` those that may read as much and change nothing; `locks` those that lock, where
    these are not the same. `digest` is the SHA-256 of the file it was read from, hexadecimal.
    """

    groups: Mapping[str, Group] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    admins: frozenset[str] = frozenset()
    digest: str = ""
    emergencies: tuple[Emergency, ...] = ()
    locks: frozenset[str] = frozenset()
    auditors: frozenset[str] = frozenset()

    @property
    def lockers(self) -> frozenset[str]:
        """The groups that set and take away locks."""
        return self.locks or self.admins

    @property
    def readers(self) -> frozenset[str]:
        """The groups that may read everything."""
        return self.admins | self.auditors

    def rule(self, name: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.name == name), None)

    def find(self, name: str) -> Resource | None:
        """The resource of this name or alias."""
        if found := self.resources.get(name):
            return found
        return next((r for r in self.resources.values() if name in r.aliases), None)


@dataclass(frozen=True, slots=True)
class Route:
    """What a request for `role` on `resource` would go through."""

    resource: Resource
    role: Role
    rule: Rule


def route(policy: Policy, principal: Principal, resource_name: str, role_name: str = "") -> Route | Refusal:
    """Find the rule for this person, resource and role (empty: the first role the rule names).

    A resource that no rule opens to this person is refused in the same words as one that does not exist, so
    that a guess tells nothing.
    """
    if not principal.active:
        return _not_active(principal)
    resource = policy.find(resource_name)
    fitting = [r for r in policy.rules if resource and r.fits(principal, resource.name)]
    if resource is None or not fitting:
        return Refusal(
            "no-such-resource",
            f"There is no resource “{resource_name}” that you may ask for.",
            _offer(requestable(policy, principal)),
        )
    for rule in fitting:
        name = role_name or rule.roles[0]
        role = resource.role(name)
        if role is not None and name in rule.roles:
            return Route(resource, role, rule)
    roles = sorted({name for rule in fitting for name in rule.roles})
    return Refusal(
        "no-such-role",
        f"There is no role “{role_name}” on {resource.name} that you may ask for.",
        f"You may ask for: {', '.join(roles)}.",
    )


def _not_active(principal: Principal) -> Refusal:
    if principal.locked:
        return Refusal("locked", "Your account is locked.", "Ask whoever keeps the locks here.")
    return Refusal("inactive", "Your account is not active.", "Ask your identity team.")


def route_for(
    policy: Policy, asker: Principal, holder: Principal, resource_name: str, role_name: str = ""
) -> Route | Refusal:
    """The same where `asker` asks for `holder`: the rule is the holder's, and has to let the asker ask.

    Somebody who may not ask for others learns nothing here of what others may have.
    """
    if asker.id == holder.id:
        own = route(policy, asker, resource_name, role_name)
        return _only_for_others(policy, asker, resource_name, own) if isinstance(own, Refusal) else own
    if not asker.active:
        return _not_active(asker)
    resource = policy.find(resource_name)
    if resource is None or resource not in for_others(policy, asker):
        own = route(policy, asker, resource_name, role_name)
        if isinstance(own, Refusal):
            return own
        way_out = f"{holder.name} can ask: request {own.resource.name}."
        return Refusal(
            "only-for-yourself", f"You may ask for {own.resource.name} only for yourself.", way_out
        )
    theirs = route(policy, holder, resource.name, role_name)
    if isinstance(theirs, Refusal) or theirs.rule.for_others.isdisjoint(asker.groups):
        what = f"{role_name} on {resource.name}" if role_name else resource.name
        return Refusal(
            "not-for-them",
            f"No rule lets you ask for {what} for {holder.name}.",
            "A rule has to open it to them, and to name your group in for_others.",
        )
    return theirs


def _only_for_others(policy: Policy, asker: Principal, resource_name: str, own: Refusal) -> Refusal:
    """A better word for somebody who may ask for this, but not for themselves."""
    resource = policy.find(resource_name)
    if not asker.active or resource is None or resource not in for_others(policy, asker):
        return own
    return Refusal(
        "only-for-others",
        f"You may ask for {resource.name} only for somebody else.",
        f"Say for whom: request {resource.name} for @name.",
    )


def for_others(policy: Policy, asker: Principal) -> tuple[Resource, ...]:
    """The resources this person may ask for for somebody else, in the order of the file."""
    if not asker.active:
        return ()
    return tuple(
        resource
        for resource in policy.resources.values()
        if any(
            resource.name in rule.resources and not rule.for_others.isdisjoint(asker.groups)
            for rule in policy.rules
        )
    )


def requestable(policy: Policy, principal: Principal) -> tuple[Resource, ...]:
    """The resources this person may ask for, in the order of the file."""
    if not principal.active:
        return ()
    return tuple(
        resource
        for resource in policy.resources.values()
        if any(rule.fits(principal, resource.name) for rule in policy.rules)
    )


def explain(policy: Policy, principal: Principal, resource_name: str) -> tuple[str, ...]:
    """Tell, rule by rule, why this person may or may not have this resource: lines for an administrator."""
    resource = policy.find(resource_name)
    if resource is None:
        known = ", ".join(policy.resources) or "none"
        return (f"{resource_name}: no such resource in the policy (known: {known}).",)
    head = f"{principal.id} is in: {', '.join(sorted(principal.groups)) or 'no group'}."
    lines = [head if principal.active else f"{head} The account is not active, so nothing is allowed."]
    for rule in policy.rules:
        if resource.name not in rule.resources:
            continue
        shared = sorted(rule.who & principal.groups)
        if not shared:
            lines.append(
                f"rule {rule.name}: no ({principal.id} is in none of {', '.join(sorted(rule.who))})."
            )
            continue
        if not rule.fits(principal, resource.name):
            lines.append(
                f"rule {rule.name}: no (it grants at once, and is not for agents that nobody watches)."
            )
            continue
        lines.append(
            f"rule {rule.name}: yes, through {', '.join(shared)}: {', '.join(rule.roles)} for at most "
            f"{spell(rule.longest)}; {decided_by(rule)}."
        )
    lines += (
        _explain_emergency(rule, principal) for rule in policy.emergencies if resource.name in rule.resources
    )
    if len(lines) == 1:
        lines.append(f"no rule names {resource.name}, so nobody may ask for it.")
    return tuple(lines)


def _explain_emergency(rule: Emergency, principal: Principal) -> str:
    ways = [f"as a member of {group}" for group in sorted(rule.who & principal.groups)]
    ways += [f"while on call for {schedule}" for schedule in rule.schedules]
    ways += ["with a sealed code"] if rule.codes else []
    ways += [
        f"as a member of {g} while no schedule answers" for g in sorted(rule.when_away & principal.groups)
    ]
    how = ", or ".join(ways) or f"no ({principal.id} is in none of its groups)"
    return (
        f"emergency {rule.name}: {how}: {rule.role} for at most {spell(rule.longest)}; "
        f"reviewed by {' or '.join(rule.reviewers)}."
    )


def decided_by(rule: Rule) -> str:
    """How a rule's requests are decided, as a phrase."""
    if not rule.quorum:
        return "granted at once"
    how = ", each with a passkey" if rule.step_up else ""
    how += f", nobody of the same {shared}" if (shared := apart_of(rule.quorum)) else ""
    return "decided by " + " and ".join(f"{q.needed} of {q.group}" for q in rule.quorum) + how


def spell(span: timedelta) -> str:
    """A span in the shortest exact words: 90 minutes is "1h30m"."""
    seconds = int(span.total_seconds())
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _offer(resources: tuple[Resource, ...]) -> str:
    if not resources:
        return "No rule opens anything to you; ask whoever keeps the policy."
    return f"You may ask for: {', '.join(resource.name for resource in resources)}."
