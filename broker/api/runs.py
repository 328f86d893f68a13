"""Have one statement run, and read what came of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from broker.api.auth import Once, P, Person
from broker.api.models import In
from broker.api.problems import documented, refused
from broker.api.statements import HeldOut, Key, told
from broker.runs import NO_READER, RunOutput
from workflows.model import Refusal

router = APIRouter(
    prefix="/api/v1/runs", tags=["statements"], responses=documented(400, 401, 403, 404, 409, 413, 422)
)


class RunIn(In):
    """A statement to be run once, exactly as it stands. No `role` means one that the caller holds, or the
    first that the rule names.
    """

    resource: Annotated[str, Field(min_length=1, max_length=200)]
    text: Annotated[str, Field(min_length=1, max_length=65536)]
    role: Annotated[str, Field(max_length=200)] = ""
    reason: Annotated[str, Field(max_length=500)] = ""


class ResultOut(BaseModel):
    """What came of it: the beginning of the masked rows as text (`total` came), or the error."""

    review: HeldOut
    columns: list[str]
    rows: list[list[str | None]]
    total: int
    tag: str
    seconds: float
    sqlstate: str
    error: str
    hint: str

    @classmethod
    def of(cls, review: HeldOut, it: RunOutput) -> ResultOut:
        return cls(
            review=review,
            columns=list(it.columns),
            rows=[list(row) for row in it.rows],
            total=it.total,
            tag=it.tag,
            seconds=it.seconds,
            sqlstate=it.sqlstate,
            error=it.error,
            hint=it.hint,
        )


@router.post("", status_code=201)
async def submit_statement(said: RunIn, person: Person, parts: P, once: Once = None) -> HeldOut:
    """Put a statement before those who must agree; it runs by itself once they have."""
    if parts.runs is None:
        raise refused(NO_READER)
    return told(
        await parts.runs.submit(
            person.id, said.resource, said.text, via="api", role=said.role, reason=said.reason, dedupe=once
        )
    )


@router.get("/{key}")
async def read_result(key: Key, person: Person, parts: P) -> ResultOut:
    """What came of a submitted statement, for 24 hours. That it was read is noted."""
    if parts.runs is None:
        raise refused(NO_READER)
    found = await parts.runs.result(key, person.id)
    if isinstance(found, Refusal):
        raise refused(found)
    return ResultOut.of(HeldOut.of(found[0]), found[1])
