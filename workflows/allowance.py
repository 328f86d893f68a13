"""A yes in advance: an approver allows somebody to have a role on a resource when they ask for it.

An allowance is one approver's yes and no more. When whom it is for asks, every allowance that fits is counted
as the yes of whoever gave it, if they may decide the request then; what is still missing of the quorum is
asked for as ever. Everything here is total: it raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from workflows import access
from workflows.access import Event
from workflows.model import AccessRequest, Principal, PrincipalKind, Refusal, RequestState, Story
from workflows.policy import Policy, Route, route, spell
from workflows.quorum import eligible, missing, near_to, nearness

LONGEST = timedelta(days=30)
"""How far ahead somebody can say yes."""
USUAL = timedelta(days=1)
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Allowance:
    """`approver` says yes to whatever `principal` asks for within it: at most `longest` at a time, begun
    before `until`; once, or as often as they like where `repeated`. `used` are the requests that it was
    given to.
    """

    id: str
    approver: str
    principal: str
    resource: str
    role: str
    longest: timedelta
    until: datetime
    reason: str
    given_at: datetime
    repeated: bool = False
    used: tuple[str, ...] = ()
    ended_at: datetime | None = None
    ended_by: str = ""
    version: int = 1

    def live(self, now: datetime) -> bool:
        return self.ended_at is None and now < self.until


@dataclass(frozen=True, slots=True)
class Allow:
    """What an approver wants to allow. No `role` means the first of the rule, no span the usual one."""

    approver: Principal
    holder: Principal
    resource: str
    role: str = ""
    longest: timedelta | None = None
    within: timedelta | None = None
    reason: str = ""
    repeated: bool = False


def allow(policy: Policy, wanted: Allow, allowance_id: str, now: datetime) -> Allowance | Refusal:
    """The allowance, if this approver could approve what it covers today."""
    way = _way(policy, wanted)
    if isinstance(way, Refusal):
        return way
    rule, longest, within = way.rule, wanted.longest or way.rule.usual, wanted.within or USUAL
    if not _SHORTEST <= longest <= rule.longest:
        limit = spell(rule.longest)
        return Refusal("too-long", f"{way.resource.name} can be had for 1m to {limit} (rule {rule.name}).")
    if not _SHORTEST <= within <= LONGEST:
        return Refusal(
            "too-far", f"A yes in advance is good for at most {spell(LONGEST)}.", "Say: within 5d."
        )
    if not wanted.reason.strip():
        return Refusal(
            "no-reason", "A yes in advance wants a reason.", "Add one: because she is on release duty."
        )
    return Allowance(
        allowance_id, wanted.approver.id, wanted.holder.id, way.resource.name, way.role.name, longest,
        now + within, wanted.reason.strip(), now, wanted.repeated,
    )  # fmt: skip


def _way(policy: Policy, wanted: Allow) -> Route | Refusal:
    """The rule that whom it is for would ask under, where this approver has a say in it."""
    approver, resource = wanted.approver, policy.find(wanted.resource)
    sees = resource is not None and any(
        quorum.open_to(approver)
        for rule in policy.rules
        if resource.name in rule.resources
        for quorum in rule.quorum
    )
    if not sees or not approver.active:
        # Whoever decides nothing there learns no more than by asking for it.
        hidden = route(policy, approver, wanted.resource, wanted.role)
        return hidden if isinstance(hidden, Refusal) else _no_say(hidden)
    if wanted.holder.id == approver.id:
        return Refusal("own-request", "You cannot allow yourself anything.", "Ask for it: request …")
    way = route(policy, wanted.holder, wanted.resource, wanted.role)
    if isinstance(way, Refusal):
        what = f"{wanted.role} on {wanted.resource}" if wanted.role else wanted.resource
        return Refusal(
            "not-for-them", f"No rule opens {what} to {wanted.holder.name}.", "A yes adds no rule."
        )
    if not way.rule.quorum:
        return Refusal(
            "no-approval-needed", f"{wanted.holder.name} has {way.resource.name} without approval."
        )
    if way.rule.step_up:
        return Refusal(
            "step-up-each-time",
            f"Rule {way.rule.name} wants a passkey for each yes, so none can be given in advance.",
            "Approve it when it is asked.",
        )
    open_seats = [quorum for quorum in way.rule.quorum if quorum.open_to(approver)]
    if approver.kind is not PrincipalKind.PERSON or not open_seats:
        return _no_say(way)
    holder = {wanted.holder.id: wanted.holder}
    near = [nearness(quorum.apart, approver, holder, holder) for quorum in open_seats]
    if all(near) and near[0]:
        shared = near_to(approver, *near[0], holder)
        return Refusal("too-near", f"{shared}, so your yes would not count.", "Somebody else can say so.")
    return way


def _no_say(way: Route) -> Refusal:
    groups = " and ".join(quorum.group for quorum in way.rule.quorum)
    who = f"Who can: anyone of {groups}." if groups else ""
    return Refusal(
        "not-an-approver", f"You are no approver of {way.resource.name} (rule {way.rule.name}).", who
    )


def may_end(allowance: Allowance, by: Principal | None, policy: Policy, holder: Principal | None) -> bool:
    """Whoever gave it, whom it is for, and everybody who could have given it may take it back."""
    if by is None or not by.active:
        return False
    if by.id in (allowance.approver, allowance.principal) or not policy.admins.isdisjoint(by.groups):
        return True
    way = route(policy, holder, allowance.resource, allowance.role) if holder else None
    return isinstance(way, Route) and any(quorum.open_to(by) for quorum in way.rule.quorum)


def end(allowance: Allowance, by: str, now: datetime) -> Allowance:
    """The allowance taken back; itself where it is over already."""
    if not allowance.live(now):
        return allowance
    return replace(allowance, ended_at=now, ended_by=by, version=allowance.version + 1)


def use(allowance: Allowance, request_id: str, now: datetime) -> Allowance:
    """The allowance once it was given to this request; then it is over, unless it is repeated."""
    spent = replace(allowance, used=(*allowance.used, request_id), version=allowance.version + 1)
    return spent if allowance.repeated else replace(spent, ended_at=now)


def fits(allowance: Allowance, request: AccessRequest, now: datetime) -> bool:
    """Whether this allowance is about what is asked. Only its own person's asking counts."""
    return (
        allowance.live(now)
        and request.requester == allowance.principal == request.holder
        and (request.resource, request.role) == (allowance.resource, allowance.role)
        and request.duration <= allowance.longest
        and (request.starts_at or now) < allowance.until
    )


def given(
    story: Story,
    allowances: Iterable[Allowance],
    directory: Mapping[str, Principal],
    grant_id: str,
    now: datetime,
) -> tuple[tuple[Event, ...], tuple[Allowance, ...]]:
    """What the yeses in advance do to a request that was just made: the events, and those that were used. One
    that fills no seat any more is kept for another time.
    """
    events: list[Event] = []
    used: list[Allowance] = []
    for one in allowances:
        may = fits(one, story.request, now) and eligible(
            story.request, directory.get(one.approver), directory
        )
        if story.request.state is not RequestState.PENDING or not may:
            continue
        reason = f"in advance ({one.id}): {one.reason}"
        decision = access.decide(story, access.Approve(one.approver, directory, grant_id, reason), now)
        if isinstance(decision, Refusal) or not decision:
            continue
        after = story
        for event in decision:
            after = access.evolve(after, event)
        if _seats(after, directory) < _seats(story, directory):
            story = after
            events += decision
            used.append(one)
    return tuple(events), tuple(used)


def _seats(story: Story, directory: Mapping[str, Principal]) -> int:
    return sum(quorum.needed for quorum in missing(story.request, directory))
