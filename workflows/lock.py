"""Locks: what nobody gets at, or who gets at nothing, until somebody who may takes the lock away. Pure.

A lock is no end: grants and requests stay as they are, and go on where they still can when it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from workflows.model import Principal, PrincipalKind, Refusal
from workflows.policy import Policy


class LockKind(StrEnum):
    PERSON = "person"
    """A principal, agents too: no login, no request, no decision, no entry."""
    DEVICE = "device"
    """One login: it ends, with the passwords and the sessions that came of it."""
    RESOURCE = "resource"
    """A resource: nobody asks for it, approves it, enters it or breaks its glass."""
    EVERYTHING = "everything"
    """Every resource, and new logins of all who may not lock."""


@dataclass(frozen=True, slots=True)
class Lock:
    """`target` is a principal's id, a device's id or a resource's name; `principal` is a device's owner."""

    id: str
    kind: LockKind
    target: str
    reason: str
    made_by: str
    made_at: datetime
    principal: str = ""

    def __str__(self) -> str:
        return self.kind.value if self.kind is LockKind.EVERYTHING else f"{self.kind.value} {self.target}"


LOCKED = Refusal(
    "locked",
    "Your account is locked: nothing is done in your name until that is over.",
    "Ask whoever keeps the locks here, in person or by telephone.",
)
NO_LOCK = Refusal("no-such-lock", "There is no such lock.", "See them with: lock.")
_NOT_YOURS = Refusal(
    "not-a-keeper",
    "You may not set or take away locks here.",
    "The policy names who may: locks: [security]. Your own devices and yourself you may always lock.",
)


def may_lock(policy: Policy, person: Principal | None) -> bool:
    """Whether this person keeps the locks, as known now. An agent never does."""
    return (
        person is not None
        and person.active
        and person.kind is PrincipalKind.PERSON
        and not policy.lockers.isdisjoint(person.groups)
    )


def against_making(
    policy: Policy, person: Principal, everyone: Mapping[str, Principal], lock: Lock
) -> Refusal | None:
    """Why `person` may not make this lock; None where they may."""
    own = (lock.kind is LockKind.DEVICE and lock.principal == person.id) or (
        lock.kind is LockKind.PERSON and lock.target == person.id
    )
    if not person.active or not (own or may_lock(policy, person)):
        return _NOT_YOURS
    if not lock.reason:
        return Refusal("no-reason", "A lock wants a reason.", "Add one: because her laptop is stolen.")
    if lock.kind is not LockKind.PERSON:
        return None
    if lock.target not in everyone:
        return Refusal("no-such-person", "There is nobody of that name here.", "Say it as @name.")
    left = [one for one in everyone.values() if one.id != lock.target and may_lock(policy, one)]
    if not left:
        return Refusal(
            "last-keeper",
            f"{lock.target} is the last who could take a lock away, so that lock could never end.",
            "Have the policy name somebody else first.",
        )
    return None


def against_ending(policy: Policy, person: Principal | None) -> Refusal | None:
    """Why this person may not take a lock away; None where they may."""
    return None if may_lock(policy, person) else _NOT_YOURS


def stops(locks: Iterable[Lock], resource: str) -> Refusal | None:
    """Why nothing is opened on this resource now; None where no lock is on it."""
    for lock in locks:
        if lock.kind is LockKind.EVERYTHING or (lock.kind is LockKind.RESOURCE and lock.target == resource):
            what = "Everything here" if lock.kind is LockKind.EVERYTHING else resource
            return Refusal(
                "locked",
                f"{what} is locked by {lock.made_by}: {lock.reason}.",
                f"Nothing is asked for, approved or entered until {lock.id} is taken away.",
            )
    return None
