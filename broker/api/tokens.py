"""Passwords for the gate, and the end of a login."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from broker.api.auth import P, Person
from broker.api.models import EmptyIn, EntryTokenOut
from broker.api.problems import documented
from broker.identity.tokens import TokenKind, device_of

router = APIRouter(prefix="/api/v1", tags=["tokens"], responses=documented(400, 401, 422))


@router.post("/tokens", status_code=201)
async def entry_token(_said: EmptyIn, request: Request, person: Person, parts: P) -> EntryTokenOut:
    """A password to log in at the gate with for the next minutes. It opens nothing without a live grant."""
    device = device_of(request.headers["authorization"].partition(" ")[2].strip())
    issued = await parts.tokens.issue(TokenKind.ENTRY, person.id, via="api", label="api", device=device)
    return EntryTokenOut(token=issued.token, user=person.id, expires_at=issued.expires_at)


@router.post("/logout", status_code=204)
async def logout(_said: EmptyIn, request: Request, _person: Person, parts: P) -> Response:
    """End the login token that this call came with."""
    await parts.tokens.end(request.headers["authorization"].partition(" ")[2].strip(), via="api")
    return Response(status_code=204)
