"""Client certificates for the gate, instead of a password."""

from __future__ import annotations

from fastapi import APIRouter

from broker.api.auth import P, Person
from broker.api.models import CertificateIn, CertificateOut
from broker.api.problems import Problem, documented
from broker.identity.certificates import LIFETIME, Bearer
from workflows.model import Refusal

router = APIRouter(prefix="/api/v1", tags=["tokens"], responses=documented(400, 401, 404, 422))

_NOT_MINE = Refusal("no-grant", "You hold no live grant of that name.", "See yours with: status.")


@router.post("/certificates", status_code=201)
async def certificate(said: CertificateIn, person: Person, parts: P) -> CertificateOut:
    """A certificate to log in at the gate with for the next minutes, under one grant of mine. The private key
    stays with the caller.
    """
    now = parts.clock.now()
    story = await parts.service.story(said.grant)
    grant = story.grant if story else None
    if story is None or grant is None or grant.principal != person.id or not grant.live(now):
        raise Problem(404, _NOT_MINE)
    if story.request.statement:  # it serves that one statement, by a password of its own
        raise Problem(404, _NOT_MINE)
    until = min(now + LIFETIME, grant.expiry)
    try:
        made = parts.certificates.sign(Bearer(person.id, grant.id), said.public_key, now, until)
    except ValueError as error:
        why = Refusal(
            "invalid", "That is no public key on the curve P-256 in PEM.", "openssl ecparam -genkey …"
        )
        raise Problem(422, why) from error
    await parts.service.note(
        "certificate.issued",
        story.request.id,
        {"grant": grant.id, "until": until},
        actor=person.id,
        via="api",
    )
    return CertificateOut(certificate=made, user=person.id, expires_at=until)
