"""Yeses in advance, in structured form."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field, StringConstraints

from broker.api.auth import Once, P, Person
from broker.api.models import EmptyIn, In, Name, Seconds, Text
from broker.api.problems import documented, refused
from workflows.allowance import Allowance
from workflows.model import Refusal

router = APIRouter(prefix="/api/v1", tags=["allowances"], responses=documented(400, 401, 403, 404, 409, 422))

Key = Annotated[str, Path(pattern=r"^A-[0-9A-Z]{4,26}$", description="The id of a yes in advance.")]


class AllowIn(In):
    principal: Name = Field(description="Whose request it is a yes to.")
    resource: Name
    role: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", description="Nothing: the rule's first."
    )
    seconds: Seconds | None = Field(None, description="The longest grant; nothing: the rule's usual span.")
    within_seconds: Seconds | None = Field(None, description="How long it is good for; nothing: a day.")
    repeated: bool = Field(False, description="For every request; else for the first alone.")
    reason: Text


class AllowanceOut(BaseModel):
    """One approver's yes to what somebody will ask for. It counts if they may decide it then."""

    id: str
    approver: str
    principal: str
    resource: str
    role: str
    seconds: int
    until: datetime
    repeated: bool
    reason: str
    given_at: datetime
    used: list[str] = Field(description="The requests that it was given to.")
    ended_at: datetime | None
    ended_by: str

    @staticmethod
    def of(it: Allowance) -> AllowanceOut:
        return AllowanceOut(
            id=it.id,
            approver=it.approver,
            principal=it.principal,
            resource=it.resource,
            role=it.role,
            seconds=int(it.longest.total_seconds()),
            until=it.until,
            repeated=it.repeated,
            reason=it.reason,
            given_at=it.given_at,
            used=list(it.used),
            ended_at=it.ended_at,
            ended_by=it.ended_by,
        )


def _told(outcome: Allowance | Refusal) -> AllowanceOut:
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return AllowanceOut.of(outcome)


@router.post("/allowances", status_code=201)
async def allow(said: AllowIn, person: Person, parts: P, once: Once = None) -> AllowanceOut:
    """Say yes in advance to what somebody will ask for, as one of those who could approve it."""
    longest = timedelta(seconds=said.seconds) if said.seconds is not None else None
    within = timedelta(seconds=said.within_seconds) if said.within_seconds is not None else None
    return _told(
        await parts.service.allow(
            person.id,
            said.principal,
            said.resource,
            via="api",
            role=said.role,
            longest=longest,
            within=within,
            reason=said.reason,
            repeated=said.repeated,
            dedupe=once,
        )
    )


@router.get("/me/allowances")
async def allowances(person: Person, parts: P) -> list[AllowanceOut]:
    """What is allowed to me or by me, and what else I may take back."""
    return [AllowanceOut.of(one) for one in await parts.service.allowances_for(person.id)]


@router.post("/allowances/{key}/end")
async def end(key: Key, _said: EmptyIn, person: Person, parts: P) -> AllowanceOut:
    """Take a yes in advance back. What was granted by it stays."""
    return _told(await parts.service.end_allowance(key, person.id, via="api"))
