"""Gates on other machines: see them, invite and remove them, replace the authority that signs for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field, StringConstraints

from broker.api.auth import P, Person, Way
from broker.api.models import EmptyIn, In
from broker.api.problems import documented, refused
from broker.gates.gates import NOT_ADMIN
from broker.store.gates import GateRow
from workflows.model import Refusal

router = APIRouter(prefix="/api/v1/gates", tags=["gates"], responses=documented(400, 401, 403, 404, 409, 422))

GATE_NAME = r"^[a-z0-9][a-z0-9.-]{0,62}$"


class GateIn(In):
    name: Annotated[str, StringConstraints(pattern=GATE_NAME)] = Field(
        description="How the trail names this gate."
    )


class GateOut(BaseModel):
    """`joined_at` and `until`, the end of its certificate, are empty for one that was invited only."""

    name: str
    added_by: str
    added_at: datetime
    joined_at: datetime | None
    until: datetime | None

    @staticmethod
    def of(it: GateRow) -> GateOut:
        return GateOut(
            name=it.name, added_by=it.made_by, added_at=it.made_at, joined_at=it.joined_at, until=it.until
        )


class InvitationOut(BaseModel):
    """The join token, shown this once, and the address that the gate is given with it."""

    token: str
    address: str
    expires_at: datetime


@router.get("")
async def gates(person: Person, parts: P) -> list[GateOut]:
    """The gates on other machines, for administrators."""
    if not parts.service.is_admin(person.id):
        raise refused(NOT_ADMIN)
    return [GateOut.of(row) for row in await parts.gates.listed()]


@router.post("/add", status_code=201)
async def add_gate(said: GateIn, person: Person, parts: P, via: Way) -> InvitationOut:
    """Invite a gate: the token lets one machine join as it, once, within an hour. A gate of this name that is
    there goes on until the invited one joins.
    """
    made = await parts.gates.add(said.name, person.id, via=via)
    if isinstance(made, Refusal):
        raise refused(made)
    return InvitationOut(token=made.token, address=parts.public_url, expires_at=made.until)


@router.post("/{name}/remove", status_code=204)
async def remove_gate(
    name: Annotated[str, Path(pattern=GATE_NAME)], _said: EmptyIn, person: Person, parts: P, via: Way
) -> None:
    """Know a gate no longer. It is turned away at once, and its sessions end with their leases."""
    refusal = await parts.gates.remove(name, person.id, via=via)
    if refusal is not None:
        raise refused(refusal)


@router.post("/rotate", status_code=204)
async def rotate_authority(_said: EmptyIn, person: Person, parts: P, via: Way) -> None:
    """Replace the authority that signs for gates. Both are trusted for a day, in which every gate renews its
    certificate.
    """
    refusal = await parts.gates.rotate(person.id, via=via)
    if refusal is not None:
        raise refused(refusal)
