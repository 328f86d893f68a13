"""SSH: where the gate is, certificates to enter with, and what hosts have to trust."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from broker.api.auth import P, Person
from broker.api.models import In
from broker.api.parts import Parts
from broker.api.problems import documented, refused
from broker.ssh_entries import SshEntries
from workflows.model import Refusal

router = APIRouter(prefix="/api/v1/ssh", tags=["ssh"], responses=documented(400, 401, 403, 404, 409, 422))

NO_SSH = Refusal("no-ssh", "This gate does not listen for SSH.", "Set PORTCULLIS_GATE_SSH_PORT.")


class SshGateOut(BaseModel):
    host: str
    port: int
    known_hosts: str = Field(description="The line of a known_hosts file that proves the gate.")


class AuthorityOut(BaseModel):
    line: str = Field(description="What hosts trust: for a file that sshd's TrustedUserCAKeys names.")


class CertificateIn(In):
    """`public_key` is an OpenSSH line; `source` an address or network that it is to be bound to, if any."""

    resource: Annotated[str, Field(min_length=1, max_length=200)]
    public_key: Annotated[str, Field(min_length=1, max_length=8000)]
    role: Annotated[str, Field(max_length=200)] = ""
    source: Annotated[str, Field(max_length=64)] = ""


class CertificateOut(BaseModel):
    """Good to enter with as `user` until `expires_at`. It opens nothing without its live grant."""

    certificate: str
    user: str
    resource: str
    role: str
    expires_at: datetime
    gate: SshGateOut


def _entries(parts: P) -> SshEntries:
    if parts.ssh is None or not parts.gate.ssh_port:
        raise refused(NO_SSH)
    return parts.ssh


def ssh_address(parts: Parts) -> SshGateOut:
    return SshGateOut(host=parts.gate.host, port=parts.gate.ssh_port, known_hosts=parts.gate.known_hosts)


@router.get("/gate")
async def ssh_gate(_person: Person, parts: P) -> SshGateOut:
    """Where the gate listens for SSH, and how it proves itself."""
    _entries(parts)
    return ssh_address(parts)


@router.get("/authority")
async def ssh_authority(_person: Person, parts: P) -> AuthorityOut:
    """The authority whose certificates the gate enters hosts with."""
    return AuthorityOut(line=_entries(parts).authorities.for_hosts)


@router.post("/certificates", status_code=201)
async def ssh_certificate(said: CertificateIn, person: Person, parts: P) -> CertificateOut:
    """A certificate for a key of one's own, under the grant that one holds on a host."""
    made = await _entries(parts).certify(
        person, said.resource, said.role, said.public_key, said.source, via="api"
    )
    if isinstance(made, Refusal):
        raise refused(made)
    return CertificateOut(
        certificate=made.certificate,
        user=made.user,
        resource=made.resource,
        role=made.role,
        expires_at=made.expires_at,
        gate=ssh_address(parts),
    )
