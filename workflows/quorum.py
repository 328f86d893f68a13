"""Who may decide, and what is still missing: the same for access requests and for statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from workflows.model import Approval, Principal, PrincipalKind, Quorum, Refusal


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


def eligible(matter: Decidable, principal: Principal | None) -> bool:
    """Whether this person, as known now, may decide: never who asked or whom it is for, never an agent."""
    return (
        principal is not None
        and principal.active
        and principal.kind is PrincipalKind.PERSON
        and principal.id not in matter.parties
        and any(quorum.open_to(principal) for quorum in matter.quorum)
    )


def missing(
    matter: Decidable, directory: Mapping[str, Principal], more: Iterable[Approval] = ()
) -> tuple[Quorum, ...]:
    """What the quorum still lacks, counting only yeses of people who are eligible now (and `more` yeses).

    One person fills one seat, even when in several of the groups; the seats are given out so that as many
    as possible are filled (augmenting paths, the textbook bipartite matching).
    """
    said_yes = dict.fromkeys(a.approver for a in (*matter.approvals, *more) if a.yes)
    voters = [name for name in said_yes if eligible(matter, directory.get(name))]
    seats = [quorum for quorum in matter.quorum for _ in range(quorum.needed)]
    taken: dict[int, str] = {}

    def seat(voter: str, tried: set[int]) -> bool:
        for index, quorum in enumerate(seats):
            if index in tried or not quorum.open_to(directory[voter]):
                continue
            tried.add(index)
            if index not in taken or seat(taken[index], tried):
                taken[index] = voter
                return True
        return False

    for voter in voters:
        seat(voter, set())
    open_seats = [quorum for index, quorum in enumerate(seats) if index not in taken]
    return tuple(Quorum(q.group, open_seats.count(q), q.also) for q in dict.fromkeys(open_seats))


def may_not_decide(matter: Decidable, approver: str, directory: Mapping[str, Principal]) -> Refusal | None:
    """Why this person has no say in this matter; None where they have one."""
    if approver == matter.requester:
        return Refusal("own-request", "You cannot decide your own request.", who_can(matter))
    if approver in matter.parties:
        return Refusal("own-request", "You cannot decide a request for yourself.", who_can(matter))
    if not eligible(matter, directory.get(approver)):
        return Refusal("not-an-approver", f"You are not an approver of {matter.id}.", who_can(matter))
    return None


def who_can(matter: Decidable) -> str:
    """Tell a person who may not decide who may."""
    groups = " and ".join(" or ".join((quorum.group, *quorum.also)) for quorum in matter.quorum)
    except_ = " and ".join(sorted(matter.parties))
    return f"Who can: anyone of {groups}, except {except_}." if groups else ""
