"""Who calls the API: a bearer login token, checked anew with the directory at every request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from broker.api.parts import Parts
from broker.api.problems import Problem
from broker.door import Via
from broker.identity.tokens import login_kind
from workflows.lock import LOCKED
from workflows.model import Principal, Refusal

_bearer = HTTPBearer(auto_error=False, scheme_name="login", description="A login token: `access login`.")

NOT_LOGGED_IN = Refusal("not-logged-in", "You are not logged in, or no longer.", "Log in: access login.")


def parts_of(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


def only_known_query(request: Request) -> None:
    """Refuse a query parameter that the route does not know: a slip in its name must not widen an answer."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if unknown := sorted(set(request.query_params) - known):
        names = ", ".join(name[:40] for name in unknown[:5])
        raise Problem(422, Refusal("invalid", f"There is no parameter {names} here."))


P = Annotated[Parts, Depends(parts_of)]


async def _person(
    parts: P, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if credentials is None or not credentials.credentials.isascii():
        raise Problem(401, NOT_LOGGED_IN)
    held = await parts.tokens.check(login_kind(credentials.credentials), credentials.credentials)
    if held:
        await parts.service.fresh()
    person = parts.service.principal(held.principal) if held else None
    if person is not None and person.locked:
        raise Problem(403, LOCKED)
    if person is None or not person.active or not await parts.service.stands(person.id):
        raise Problem(401, NOT_LOGGED_IN)
    return person


Person = Annotated[Principal, Depends(_person)]
"""The caller; 401 without a good token of an active principal."""


def _way(
    client: Annotated[
        str, Header(alias="Portcullis-Client", max_length=20, description="`cli` for our own command line.")
    ] = "",
) -> Via:
    return "cli" if client == "cli" else "api"


Way = Annotated[Via, Depends(_way)]
"""By which way the caller came, for the trail."""

Once = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key again gives what came of it first, without a second effect.",
    ),
]
"""Whatever repeats a call sends its key again."""
