"""Locks: see them, set them, take them away."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field, StringConstraints

from broker.api.auth import P, Person, Way
from broker.api.models import EmptyIn, In
from broker.api.problems import documented, refused
from broker.locks import Locked, Locks
from workflows.lock import Lock, LockKind
from workflows.model import Refusal

router = APIRouter(prefix="/api/v1/locks", tags=["locks"], responses=documented(400, 401, 403, 404, 409, 422))

Key = Annotated[str, Path(pattern=r"^L-[0-9A-Z]{4,26}$", description="The id of a lock (L-…).")]


class LockIn(In):
    kind: Literal["person", "device", "resource", "everything"]
    target: str = Field(
        "",
        max_length=200,
        description="A principal's, a device's or a resource's name; empty for everything.",
    )
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class LockOut(BaseModel):
    """`sessions` and `logins` are how many ended by it."""

    id: str
    kind: Literal["person", "device", "resource", "everything"]
    target: str
    reason: str
    made_by: str
    made_at: datetime
    sessions: int = 0
    logins: int = 0

    @staticmethod
    def of(it: Lock, made: Locked | None = None) -> LockOut:
        cut, ended = (made.sessions, made.logins) if made else (0, 0)
        return LockOut(
            id=it.id,
            kind=it.kind.value,
            target=it.target,
            reason=it.reason,
            made_by=it.made_by,
            made_at=it.made_at,
            sessions=cut,
            logins=ended,
        )


@router.get("")
async def locks(person: Person, parts: P) -> list[LockOut]:
    """What is locked, for those who keep the locks and administrators."""
    found = await Locks(parts.service).listed(person.id)
    if isinstance(found, Refusal):
        raise refused(found)
    return [LockOut.of(lock) for lock in found]


@router.post("/set", status_code=201)
async def lock(said: LockIn, person: Person, parts: P, via: Way) -> LockOut:
    """Lock a person, a device, a resource or everything. In force when this answers: what is open under it is
    cut within a second. Repeated, it is the lock that is there.
    """
    made = await Locks(parts.service).make(
        LockKind(said.kind), said.target, person.id, via=via, reason=said.reason
    )
    if isinstance(made, Refusal):
        raise refused(made)
    return LockOut.of(made.lock, made)


@router.post("/{key}/end")
async def unlock(key: Key, _said: EmptyIn, person: Person, parts: P, via: Way) -> LockOut:
    """Take a lock away."""
    ended = await Locks(parts.service).end(key, person.id, via=via)
    if isinstance(ended, Refusal):
        raise refused(ended)
    return LockOut.of(ended[0])
