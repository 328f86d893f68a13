"""Client certificates for the gate: for one principal under one grant, good to log in with for ten minutes.

The CA's key follows from the seal key, so that every broker of an installation signs and checks alike and no
further secret is kept. Sources: RFC 5280; the SAN holds a URI (section 4.2.1.6) that names whom and what for.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.credentials.seal import Seal
from broker.identity.tokens import LIFETIMES, TokenKind

LIFETIME = LIFETIMES[TokenKind.ENTRY]
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portcullis client CA")])
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256: SEC 2, section 2.4.2
_EVER = (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2126, 1, 1, tzinfo=dt.UTC))
_BEHIND = dt.timedelta(minutes=1)
"""How far the clock of a gate may be behind the broker's."""
_URI = "portcullis://{}/{}"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a certificate is of, and under which grant it opens."""

    principal: str
    grant: str


class ClientCertificates:
    """Signs and reads them, by a key that follows from the seal."""

    def __init__(self, seal: Seal) -> None:
        number = int.from_bytes(seal.derive("client certificates") + seal.derive("client certificates, more"))
        self._key = ec.derive_private_key(number % (_ORDER - 1) + 1, ec.SECP256R1())
        self._ca = self._sign_ca()

    @property
    def ca(self) -> str:
        """The CA's certificate, PEM."""
        return self._ca.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, bearer: Bearer, public_key: str, now: dt.datetime, until: dt.datetime) -> str:
        """A certificate, PEM, for a public key in PEM. Raises ValueError for a key that is none of ours."""
        key = serialization.load_pem_public_key(public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("the public key is not one on the curve P-256")
        name = x509.UniformResourceIdentifier(_URI.format(quote(bearer.principal, safe=""), bearer.grant))
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        made = (
            builder(x509.Name([]), _NAME, key, now - _BEHIND, until)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def read(self, certificate: bytes, now: dt.datetime) -> Bearer | None:
        """Whose a DER certificate is; None for one that is not ours, not good now, or not for this."""
        try:
            it = x509.load_der_x509_certificate(certificate)
            it.verify_directly_issued_by(self._ca)
            usage = it.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            names = it.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (name,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return None
        good = it.not_valid_before_utc <= now < it.not_valid_after_utc
        principal, _, grant = name.removeprefix("portcullis://").partition("/")
        if not good or ExtendedKeyUsageOID.CLIENT_AUTH not in usage or not (principal and grant):
            return None
        return Bearer(unquote(principal), grant)

    def _sign_ca(self) -> x509.Certificate:
        usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        return (
            builder(_NAME, _NAME, self._key.public_key(), *_EVER)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    since: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    """What every certificate of the broker's authorities begins with (RFC 5280, section 4.1)."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
