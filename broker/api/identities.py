"""Accounts at identity providers, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from broker.api.auth import P, Person, Way
from broker.api.login import logins_of
from broker.api.models import EmptyIn
from broker.api.problems import documented, refused
from workflows.model import Refusal

router = APIRouter(
    prefix="/api/v1/identities", tags=["login"], responses=documented(400, 401, 403, 404, 422, 503)
)

Whose = Annotated[str, Path(max_length=200)]
NOT_BOUND = Refusal("not-bound", "No account at an identity provider is bound to them.")


@router.post("/{principal}/unbind", status_code=204)
async def unbind(principal: Whose, _said: EmptyIn, person: Person, way: Way, parts: P) -> Response:
    """Release the account that somebody logs in with, so that their next login binds another. Their logins
    end.
    """
    if not parts.service.is_admin(person.id):
        raise refused(Refusal("not-an-admin", "Only administrators release accounts."))
    if not await logins_of(parts).unbind(principal, actor=person.id, via=way):
        raise refused(NOT_BOUND)
    return Response(status_code=204)
