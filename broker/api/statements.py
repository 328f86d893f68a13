"""Held statements: what waits for me, and my yes or no to it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, BeforeValidator, Field

from broker.api.auth import P, Person
from broker.api.models import ApprovalOut, DecisionIn, EmptyIn, QuorumOut, whole
from broker.api.problems import documented, refused
from broker.reviews import Reviews
from workflows.model import Refusal, StatementReview

router = APIRouter(
    prefix="/api/v1/statements", tags=["statements"], responses=documented(400, 401, 403, 404, 409, 422)
)

Key = Annotated[str, Path(pattern=r"^V-[0-9A-Z]{4,26}$", description="The id of a held statement (V-…).")]


class YesIn(DecisionIn):
    row_budget: Annotated[int | None, Field(ge=0, le=10**12), BeforeValidator(whole)] = Field(
        None, description="More affected rows than this are rolled back."
    )


class HeldOut(BaseModel):
    """A statement that was held, and what became of it. `outcome` is the database's word, without values."""

    id: str
    requester: str
    resource: str
    role: str
    grant_id: str
    session_id: str
    text: str
    sha256: str
    statement_class: str
    tables: list[str]
    bounded: bool | None
    estimate: int | None
    counted: bool
    rule: str
    reason: str
    transaction: str
    quorum: list[QuorumOut]
    approvals: list[ApprovalOut]
    state: str
    row_budget: int | None
    created_at: datetime
    lapses_at: datetime
    closed_by: str
    close_reason: str
    outcome: str
    submitted: bool
    step_up: bool = Field(False, description="Whether each yes needs a passkey.")

    @classmethod
    def of(cls, it: StatementReview) -> HeldOut:
        said = it.statement
        return cls(
            id=it.id,
            requester=it.requester,
            resource=it.resource,
            role=it.role,
            grant_id=it.grant_id,
            session_id=it.session_id,
            text=said.text,
            sha256=said.digest,
            statement_class=said.statement_class.value,
            tables=list(said.tables),
            bounded=said.bounded,
            estimate=said.estimate,
            counted=said.counted,
            rule=it.rule,
            reason=it.reason,
            transaction=it.transaction,
            quorum=[QuorumOut(group=q.group, needed=q.needed, also=[]) for q in it.quorum],
            approvals=[ApprovalOut.of(approval) for approval in it.approvals],
            state=it.state.value,
            row_budget=it.row_budget,
            created_at=it.created_at,
            lapses_at=it.lapses_at,
            closed_by=it.closed_by,
            close_reason=it.close_reason,
            outcome=it.outcome,
            submitted=it.submitted,
            step_up=it.step_up,
        )


def told(outcome: StatementReview | Refusal) -> HeldOut:
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return HeldOut.of(outcome)


@router.get("")
async def waiting(person: Person, parts: P) -> list[HeldOut]:
    """Held statements that I may decide now, oldest first."""
    return [HeldOut.of(it) for it in await Reviews(parts.service).waiting_for(person.id)]


@router.get("/{key}")
async def read_statement(key: Key, person: Person, parts: P) -> HeldOut:
    """One held statement, for whoever sent it, whoever may decide it, and administrators."""
    return told(await Reviews(parts.service).find_for(key, person.id))


@router.post("/{key}/approve")
async def approve_statement(key: Key, said: YesIn, person: Person, parts: P) -> HeldOut:
    """Say yes to these very bytes, once."""
    return told(
        await Reviews(parts.service).approve(
            key, person.id, via="api", row_budget=said.row_budget, reason=said.reason
        )
    )


@router.post("/{key}/deny")
async def deny_statement(key: Key, said: DecisionIn, person: Person, parts: P) -> HeldOut:
    """Say no."""
    return told(await Reviews(parts.service).deny(key, person.id, via="api", reason=said.reason))


@router.post("/{key}/withdraw")
async def withdraw_statement(key: Key, _said: EmptyIn, person: Person, parts: P) -> HeldOut:
    """Take back what one submitted oneself; what is held in a session is cancelled there."""
    return told(await Reviews(parts.service).take_back(key, person.id, via="api"))
