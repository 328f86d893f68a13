"""Tokens with which an identity provider brings people and groups (SCIM)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from broker.api.auth import P, Person, Way
from broker.api.models import EmptyIn, In, whole
from broker.api.problems import documented, refused
from broker.identity.provider_tokens import ProviderToken, ProviderTokens
from broker.identity.tokens import TokenKind
from workflows.model import Principal, Refusal

router = APIRouter(
    prefix="/api/v1/provisioning/tokens",
    tags=["provisioning"],
    responses=documented(400, 401, 403, 404, 422),
)

TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
NOT_ADMIN = Refusal("not-an-admin", "Only administrators let an identity provider bring people.")
NO_TOKEN = Refusal("no-such-device", "There is no such token.", "See them: access provisioning list.")


class ProviderTokenIn(In):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")] = Field(
        description="The provider's name in the trail, like okta."
    )
    days: Annotated[int, Field(ge=1, le=730), BeforeValidator(whole)] = 365


class ProviderTokenOut(BaseModel):
    id: str
    name: str
    since: datetime
    until: datetime

    @staticmethod
    def of(it: ProviderToken) -> ProviderTokenOut:
        return ProviderTokenOut(id=it.id, name=it.name, since=it.since, until=it.until)


class NewProviderTokenOut(BaseModel):
    """The token, shown this once, and the address that the provider is given with it."""

    token: str
    address: str
    expires_at: datetime


def _admin(parts: P, person: Principal) -> None:
    if not parts.service.is_admin(person.id):
        raise refused(NOT_ADMIN)


@router.post("/make", status_code=201)
async def make_token(said: ProviderTokenIn, person: Person, parts: P, via: Way) -> NewProviderTokenOut:
    """Make a token for an identity provider. Those that it has stay good, so that one follows another without
    a gap.
    """
    _admin(parts, person)
    issued = await parts.tokens.issue(
        TokenKind.SCIM,
        f"scim:{said.name}",
        via=via,
        label=said.name,
        lifetime=timedelta(days=said.days),
    )
    await parts.service.note(
        "scim.token_made", said.name, {"until": issued.expires_at}, actor=person.id, via=via
    )
    address = f"{parts.public_url}/scim/v2"
    return NewProviderTokenOut(token=issued.token, address=address, expires_at=issued.expires_at)


@router.get("")
async def tokens(person: Person, parts: P) -> list[ProviderTokenOut]:
    """The tokens that are good now."""
    _admin(parts, person)
    found = await ProviderTokens(parts.service.store, parts.clock).listed()
    return [ProviderTokenOut.of(it) for it in found]


@router.post("/{key}/end", status_code=204)
async def end_token(key: TokenId, _said: EmptyIn, person: Person, parts: P, via: Way) -> None:
    """End a token at once."""
    _admin(parts, person)
    ended = await ProviderTokens(parts.service.store, parts.clock).end(key, actor=person.id, via=via)
    if not ended:
        raise refused(NO_TOKEN)
