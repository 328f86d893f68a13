"""What the gate tells HTTP services: who it is that asks, signed, and the credential that is sealed here.

The key that signs follows from the seal key, so that every broker of an installation signs alike and no
further secret is kept; services read its public half at /.well-known/jwks.json. Sources: RFC 7519 (JWT), RFC
7517 (JWKS), RFC 8725 (best current practice).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from broker.config import HttpTarget
from broker.credentials.seal import Seal
from workflows.gate import Upstream
from workflows.model import Grant, Principal

ISSUER = "portcullis"
JWKS_PATH = "/.well-known/jwks.json"
_ALGORITHM = "ES256"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256: SEC 2, section 2.4.2


class IdentityTokens:
    """Signs who somebody is for one service, until the end of the grant. `issuer` is the broker's address."""

    def __init__(self, seal: Seal, issuer: str = "") -> None:
        number = int.from_bytes(seal.derive("identity tokens") + seal.derive("identity tokens, more"))
        private = ec.derive_private_key(number % (_ORDER - 1) + 1, ec.SECP256R1())
        self._key = ECKey.import_key(private)
        self._key.ensure_kid()
        self.issuer = issuer or ISSUER

    def __repr__(self) -> str:
        return "IdentityTokens()"

    @property
    def key_set(self) -> dict[str, Any]:
        """The public key, as a JWK set."""
        public = {**self._key.as_dict(private=False), "use": "sig", "alg": _ALGORITHM}
        return {"keys": [public]}

    def sign(self, person: Principal, grant: Grant, session: str, now: datetime) -> str:
        """A token whose audience is the resource: another service that gets it cannot show it there."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": grant.resource,
            "sub": person.id,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()) - 60,
            "exp": int(grant.expiry.timestamp()),
            "jti": session,
            "name": person.name,
            "email": person.email,
            "groups": sorted(person.groups),
            "role": grant.role,
            "grant": grant.id,
        }
        kept = {key: value for key, value in claims.items() if value not in ("", [])}
        return jwt.encode({"alg": _ALGORITHM, "typ": "JWT", "kid": self._key.kid}, kept, self._key)


def upstream(
    target: HttpTarget, tokens: IdentityTokens, person: Principal, grant: Grant, session: str, now: datetime
) -> Upstream:
    """Where the service is and what each request gets. Raises LookupError without its credential."""
    headers = {target.identity_header: tokens.sign(person, grant, session, now)}
    places = {
        "principal": person.id,
        "name": person.name,
        "email": person.email,
        "groups": ",".join(sorted(person.groups)),
        "role": grant.role,
        "resource": grant.resource,
    }
    for name, value in _over(target.headers, target.role_headers.get(grant.role, {})).items():
        headers[name] = _ascii(value.format(**places))
    if target.credential is not None:
        headers[target.credential_header] = target.credential_prefix + _ascii(target.credential.read())
    return Upstream(
        host=target.host,
        port=target.port,
        database="",
        user="",
        password="",
        tls=target.tls,
        ca=target.ca,
        authority=target.authority,
        headers=tuple(headers.items()),
        removed=target.removed,
    )


def _over(of_service: Mapping[str, str], of_role: Mapping[str, str]) -> dict[str, str]:
    named = {name.lower() for name in of_role}
    return {**{k: v for k, v in of_service.items() if k.lower() not in named}, **of_role}


def _ascii(value: str) -> str:
    """A value as it may stand in a header: names with other letters are percent-encoded."""
    return "".join(c if " " <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in value)
