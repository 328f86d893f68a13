"""Who may decide, and what is still missing: the same for access requests and for statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from workflows.model import Approval, Principal, PrincipalKind, Quorum, Refusal, Relation


class Decidable(Protocol):
    """Anything that waits for the yes of a quorum."""

    @property
    def id(self) -> str: ...
    @property
    def requester(self) -> str: ...
    @property
    def parties(self) -> frozenset[str]: ...
    @property
    def quorum(self) -> tuple[Quorum, ...]: ...
    @property
    def approvals(self) -> tuple[Approval, ...]: ...


def has_a_say(matter: Decidable, principal: Principal | None) -> bool:
    """Whether this person, as known now, is one of those who decide such things: they may see it, and end
    what came of it. Never who asked or whom it is for, never an agent.
    """
    return (
        principal is not None
        and principal.active
        and principal.kind is PrincipalKind.PERSON
        and principal.id not in matter.parties
        and any(quorum.open_to(principal) for quorum in matter.quorum)
    )


def eligible(matter: Decidable, principal: Principal | None, directory: Mapping[str, Principal]) -> bool:
    """Whether this person, as known now, may decide: of those who have a say, the ones that are not too near
    to whose matter it is.
    """
    return (
        principal is not None
        and has_a_say(matter, principal)
        and any(fills(quorum, principal, matter, directory) for quorum in matter.quorum)
    )


def fills(
    quorum: Quorum, principal: Principal, matter: Decidable, directory: Mapping[str, Principal]
) -> bool:
    """Whether a yes of this person counts for a seat of this quorum."""
    return quorum.open_to(principal) and not nearness(quorum.apart, principal, matter.parties, directory)


def nearness(
    apart: Iterable[Relation], person: Principal, parties: Iterable[str], directory: Mapping[str, Principal]
) -> tuple[Relation, str] | None:
    """What this person shares with one of `parties`, and with whom: None where they are apart. With somebody
    who is not in the directory everything may be shared.
    """
    for relation in apart:
        for name in sorted(parties):
            party = directory.get(name)
            if party is None or relation.shared(person, party):
                return relation, name
    return None


def missing(
    matter: Decidable, directory: Mapping[str, Principal], more: Iterable[Approval] = ()
) -> tuple[Quorum, ...]:
    """What the quorum still lacks, counting only yeses of people who are eligible now (and `more` yeses).

    One person fills one seat, even when in several of the groups; the seats are given out so that as many
    as possible are filled (augmenting paths, the textbook bipartite matching).
    """
    said_yes = dict.fromkeys(a.approver for a in (*matter.approvals, *more) if a.yes)
    voters = [name for name in said_yes if eligible(matter, directory.get(name), directory)]
    seats = [quorum for quorum in matter.quorum for _ in range(quorum.needed)]
    taken: dict[int, str] = {}

    def seat(voter: str, tried: set[int]) -> bool:
        for index, quorum in enumerate(seats):
            if index in tried or not fills(quorum, directory[voter], matter, directory):
                continue
            tried.add(index)
            if index not in taken or seat(taken[index], tried):
                taken[index] = voter
                return True
        return False

    for voter in voters:
        seat(voter, set())
    open_seats = [quorum for index, quorum in enumerate(seats) if index not in taken]
    return tuple(replace(q, needed=open_seats.count(q)) for q in dict.fromkeys(open_seats))


def may_not_decide(matter: Decidable, approver: str, directory: Mapping[str, Principal]) -> Refusal | None:
    """Why this person has no say in this matter; None where they have one."""
    if approver == matter.requester:
        return Refusal("own-request", "You cannot decide your own request.", who_can(matter))
    if approver in matter.parties:
        return Refusal("own-request", "You cannot decide a request for yourself.", who_can(matter))
    person = directory.get(approver)
    if not has_a_say(matter, person) or person is None:
        return Refusal("not-an-approver", f"You are not an approver of {matter.id}.", who_can(matter))
    if not eligible(matter, person, directory):
        return _too_near(matter, person, directory)
    return None


def _too_near(matter: Decidable, person: Principal, directory: Mapping[str, Principal]) -> Refusal:
    apart = next(quorum.apart for quorum in matter.quorum if quorum.open_to(person))
    found = nearness(apart, person, matter.parties, directory)
    shared = near_to(person, *found, directory) if found else "You are too near to whose matter it is"
    return Refusal("too-near", f"{shared}, so your decision on {matter.id} does not count.", who_can(matter))


def near_to(person: Principal, relation: Relation, name: str, directory: Mapping[str, Principal]) -> str:
    """What this person shares with whoever has this name, told to them."""
    party = directory.get(name)
    known = party is not None and relation.known_of(person) and relation.known_of(party)
    return f"You {'' if known else 'may '}share the {relation.name} of {name}"


def apart_of(quorum: Iterable[Quorum]) -> str:
    """What those who decide may not share with whose matter it is, in words: "team or manager"."""
    return " or ".join(dict.fromkeys(relation.name for seat in quorum for relation in seat.apart))


def who_can(matter: Decidable) -> str:
    """Tell a person who may not decide who may."""
    groups = " and ".join(" or ".join((quorum.group, *quorum.also)) for quorum in matter.quorum)
    except_ = " and ".join(sorted(matter.parties))
    shared = apart_of(matter.quorum)
    near = f" and whoever shares their {shared}" if shared else ""
    return f"Who can: anyone of {groups}, except {except_}{near}." if groups else ""
