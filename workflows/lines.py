"""What a line can mean, and what it can be read against.

`line()` of a command is the line that reads as that command again: what a button for a mended line holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from workflows.access import Wish
from workflows.model import Principal, Resource
from workflows.policy import Policy, for_others, requestable, route, spell
from workflows.spans import read_span
from workflows.words import TICKET, quote

MAX_LINE = 1500
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class RoleOffer:
    """A role somebody may ask for, and the bounds of the rule that lets them."""

    name: str
    longest: timedelta
    usual: timedelta
    reason_required: bool = True


@dataclass(frozen=True, slots=True)
class Offer:
    """A resource somebody may ask for. The first role is the one meant when none is named."""

    name: str
    roles: tuple[RoleOffer, ...]
    aliases: tuple[str, ...] = ()

    def role(self, name: str) -> RoleOffer | None:
        return next((role for role in self.roles if role.name == name), None)


@dataclass(frozen=True, slots=True)
class Context:
    """What a line is read against: what its writer may ask for, the time, and the writer's time zone.

    `known` are further resource names that the writer may be told about (an administrator: all). No other
    name appears in any answer.
    """

    offers: tuple[Offer, ...]
    now: datetime
    zone: tzinfo
    known: tuple[str, ...] = ()


def context_for(policy: Policy, principal: Principal, now: datetime, zone: tzinfo) -> Context:
    """The context of a line that `principal` types at `now`."""
    offers = []
    own = requestable(policy, principal)
    others = tuple(resource for resource in for_others(policy, principal) if resource not in own)
    for resource in own:
        names = dict.fromkeys(
            name for rule in policy.rules if rule.fits(principal, resource.name) for name in rule.roles
        )
        found = {name: route(policy, principal, resource.name, name) for name in names}
        roles = tuple(
            RoleOffer(name, way.rule.longest, way.rule.usual, way.rule.reason_required)
            for name, way in found.items()
            if not hasattr(way, "code")
        )
        offers.append(Offer(resource.name, roles, resource.aliases))
    offers += (_offer_for_others(policy, principal, resource) for resource in others)
    reads_all = principal.active and not policy.readers.isdisjoint(principal.groups)
    return Context(tuple(offers), now, zone, tuple(policy.resources) if reads_all else ())


def _offer_for_others(policy: Policy, principal: Principal, resource: Resource) -> Offer:
    """What somebody may ask for only for others: the widest of the rules that let them."""
    found: dict[str, RoleOffer] = {}
    for rule in policy.rules:
        if resource.name not in rule.resources or rule.for_others.isdisjoint(principal.groups):
            continue
        for name in rule.roles:
            before = found.get(name)
            if before is None or before.longest < rule.longest:
                found[name] = RoleOffer(name, rule.longest, rule.usual, rule.reason_required)
    return Offer(resource.name, tuple(found.values()), resource.aliases)


class TargetKind(StrEnum):
    ID = "id"
    RESOURCE = "resource"
    PERSON = "person"
    """A principal's id or handle, as after `@` on the command line."""
    SLACK_USER = "slack_user"


@dataclass(frozen=True, slots=True)
class Target:
    """What `release` or `revoke` points at."""

    kind: TargetKind
    value: str

    def __str__(self) -> str:
        signs = {TargetKind.PERSON: f"@{self.value}", TargetKind.SLACK_USER: f"<@{self.value}>"}
        return signs.get(self.kind, self.value)


@dataclass(frozen=True, slots=True)
class Request:
    resource: str
    role: str = ""
    duration: timedelta | None = None
    reason: str = ""
    starts_at: datetime | None = None
    beneficiary: Target | None = None

    def wish(self, beneficiary: str = "") -> Wish:
        """`beneficiary` is the principal that the request's own is found to be."""
        return Wish(self.resource, self.role, self.duration, self.reason, self.starts_at, beneficiary)

    def line(self) -> str:
        parts = ["request", self.resource]
        if self.role:
            parts.append(f"as {self.role}")
        if self.duration is not None:
            parts.append(spell(self.duration))
        if self.starts_at is not None:
            parts.append(f"from {self.starts_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
        if self.beneficiary is not None:
            parts.append(f"for {self.beneficiary}")
        if self.reason:
            parts.append(because(self.reason))
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Approve:
    id: str
    reason: str = ""

    def line(self) -> str:
        return f"approve {self.id} {because(self.reason)}".strip()


@dataclass(frozen=True, slots=True)
class Deny:
    id: str
    reason: str = ""

    def line(self) -> str:
        return f"deny {self.id} {because(self.reason)}".strip()


@dataclass(frozen=True, slots=True)
class Cancel:
    """No `id` means the writer's only waiting request."""

    id: str = ""

    def line(self) -> str:
        return f"cancel {self.id}".strip()


@dataclass(frozen=True, slots=True)
class Release:
    """No `target` means the writer's only grant."""

    target: Target | None = None

    def line(self) -> str:
        return f"release {self.target or ''}".strip()


@dataclass(frozen=True, slots=True)
class Revoke:
    target: Target
    reason: str = ""

    def line(self) -> str:
        return f"revoke {self.target} {because(self.reason)}".strip()


@dataclass(frozen=True, slots=True)
class Status:
    def line(self) -> str:
        return "status"


@dataclass(frozen=True, slots=True)
class Who:
    resource: str

    def line(self) -> str:
        return f"who {self.resource}"


@dataclass(frozen=True, slots=True)
class Why:
    id: str

    def line(self) -> str:
        return f"why {self.id}"


@dataclass(frozen=True, slots=True)
class Help:
    """`topic` is a verb, or empty for all of them."""

    topic: str = ""

    def line(self) -> str:
        return f"help {self.topic}".strip()


Command = Request | Approve | Deny | Cancel | Release | Revoke | Status | Who | Why | Help


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why a line was not understood. `mended` is a whole line that can be, where there is a likely one;
    `draft` is what was understood of a request, to fill a form with.
    """

    why: str
    mended: str | None = None
    draft: Request | None = None


def because(reason: str) -> str:
    """The reason as the last part of a line, quoted where it would read as something else."""
    if not reason:
        return ""
    head, _, tail = reason.partition(" ")
    ends_in_span = TICKET.fullmatch(head) and read_span(tail.casefold()) is not None
    return f"because {quote(reason) if reason[0] in _OPENING or ends_in_span else reason}"


_OPENING = "\"'"
