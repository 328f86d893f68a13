"""HTTP services: where the gate has them, and the key by which they know who it is that asks."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from broker.api.auth import P, Person
from broker.api.problems import documented, refused
from workflows.model import Refusal

router = APIRouter(tags=["http"])

NO_HTTP = Refusal("no-http", "This gate does not listen for HTTP.", "Set PORTCULLIS_GATE_HTTP_PORT.")


class HttpGateOut(BaseModel):
    """`address` is that of the service, where it was asked for."""

    port: int
    domain: str = Field(description="What stands behind a service's name in its address.")
    ca: str = Field(description="The certificate authority of the gate, PEM.")
    address: str = ""


@router.get("/api/v1/http/gate", responses=documented(400, 401, 403, 404, 409, 422))
async def http_gate(person: Person, parts: P, resource: str = "") -> HttpGateOut:
    """Where the gate listens for HTTP, and the address of a service that the caller may ask for."""
    if not parts.gate.http_port:
        raise refused(NO_HTTP)
    address = ""
    found = parts.service.policy.find(resource) if resource else None
    if found is not None and found.name in {it.name for it in parts.service.requestable(person.id)}:
        address = parts.gate.address_of(found)
    return HttpGateOut(
        port=parts.gate.http_port, domain=parts.gate.http_domain, ca=parts.gate.ca, address=address
    )


@router.get("/.well-known/jwks.json", include_in_schema=False)
async def key_set(parts: P) -> JSONResponse:
    """The public key of identity tokens: services verify by it who it is that asks."""
    return JSONResponse(dict(parts.identity_keys), headers={"Cache-Control": "public, max-age=3600"})
