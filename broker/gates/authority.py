"""A certificate authority for gates and the door they come to: certificates for a day, and nothing else.

Gates' certificates are for clients alone and name their gate in a URI; the door's are for servers alone and
bear one fixed name. So no gate can pass for the broker. Sources: RFC 5280, RFC 2986 (certification requests).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.identity.certificates import builder
from workflows.gate_wire import DOOR_NAME

LIFETIME = dt.timedelta(hours=24)
"""How long a certificate of a gate or of the door is good; each is renewed at half of it."""
SETTLING = dt.timedelta(minutes=5)
"""How long a new authority is only trusted, so that every broker knows it before it signs."""
CA_LIFETIME = dt.timedelta(days=730)
_BEHIND = dt.timedelta(minutes=5)
"""How far the clock of a gate may be behind the broker's."""
_URI = "portcullis-gate:"


@dataclass(frozen=True, slots=True)
class GateBearer:
    """Which gate a certificate is of, and which of its certificates it is."""

    gate: str
    serial: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A new certificate (PEM) of a gate's, and when it ends."""

    certificate: str
    serial: str
    until: dt.datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def read_request(text: str) -> x509.CertificateSigningRequest:
    """A certification request (PEM). Raises ValueError for what is none, is not signed with its own key, or
    has another key than one on P-256.
    """
    asked = x509.load_pem_x509_csr(text.encode())
    key = asked.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the key is not one on the curve P-256")
    if not asked.is_signature_valid:
        raise ValueError("the request is not signed with its own key")
    return asked


def key_print(asked: x509.CertificateSigningRequest) -> str:
    """SHA-256 of the key that a request is for, hexadecimal."""
    info = asked.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).hexdigest()


class GateCa:
    """One authority. `certificate` and `key` are PEM; make one with `new`."""

    def __init__(self, ca_id: str, certificate: str, key: str, made_at: dt.datetime) -> None:
        loaded = serialization.load_pem_private_key(key.encode(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("the key of a gates' authority is not one on a curve")
        self.id = ca_id
        self.made_at = made_at
        self.certificate = certificate
        self._ca = x509.load_pem_x509_certificate(certificate.encode())
        self._key = loaded

    @staticmethod
    def new(ca_id: str, now: dt.datetime) -> GateCa:
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Portcullis gates {ca_id}")])
        usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        made = (
            builder(name, name, key.public_key(), now - _BEHIND, now + CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return GateCa(ca_id, _pem(made), key_pem(key), now)

    @property
    def key(self) -> str:
        """The private key, PEM: to be sealed."""
        return key_pem(self._key)

    def sign(
        self,
        gate: str,
        asked: x509.CertificateSigningRequest,
        now: dt.datetime,
        lifetime: dt.timedelta = LIFETIME,
    ) -> Signed:
        """A certificate for the key of a request. What else the request says is ignored."""
        key = asked.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        name = x509.UniformResourceIdentifier(_URI + quote(gate, safe=""))
        made = self._leaf(key, [name], ExtendedKeyUsageOID.CLIENT_AUTH, now, now + lifetime)
        return Signed(_pem(made), f"{made.serial_number:x}", now + lifetime)

    def sign_door(
        self, key: ec.EllipticCurvePrivateKey, now: dt.datetime, lifetime: dt.timedelta = LIFETIME
    ) -> str:
        """The certificate (PEM) that the broker shows at its door for gates."""
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return _pem(self._leaf(key.public_key(), [x509.DNSName(DOOR_NAME)], usage, now, now + lifetime))

    def read(self, certificate: x509.Certificate, now: dt.datetime) -> GateBearer | None:
        """Whose a certificate is; None for one that is not ours, not good now, or not a gate's."""
        try:
            certificate.verify_directly_issued_by(self._ca)
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (name,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return None
        good = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
        if not good or ExtendedKeyUsageOID.CLIENT_AUTH not in usage or not name.startswith(_URI):
            return None
        return GateBearer(unquote(name.removeprefix(_URI)), f"{certificate.serial_number:x}")

    def _leaf(
        self,
        key: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: dt.datetime,
        until: dt.datetime,
    ) -> x509.Certificate:
        issuer = self._ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        from_issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
        signs = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        return (
            builder(x509.Name([]), self._ca.subject, key, now - _BEHIND, until)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(signs, critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(from_issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@dataclass(frozen=True, slots=True)
class Trust:
    """Every authority that there is, oldest first: who signs and who is trusted follows from their ages.

    A new one is trusted at once, signs gates once every broker knows it, and the door once every gate does:
    a lifetime later no gate has a certificate that is older. Then the one before it is trusted no longer.
    """

    authorities: tuple[GateCa, ...]

    def signing(self, now: dt.datetime) -> GateCa:
        """Who signs gates' certificates."""
        return self._newest(now - SETTLING)

    def serving(self, now: dt.datetime) -> GateCa:
        """Who signs the door's."""
        return self._newest(now - SETTLING - LIFETIME)

    def trusted(self, now: dt.datetime) -> tuple[GateCa, ...]:
        """Whose certificates are good at the door and, of the door, for gates."""
        since = self.serving(now)
        return self.authorities[self.authorities.index(since) :]

    def settled(self, now: dt.datetime) -> bool:
        """Whether no change is under way."""
        return len(self.trusted(now)) == 1

    def read(self, certificate: str, now: dt.datetime) -> GateBearer | None:
        """Whose a certificate (PEM) is, by any authority that is trusted."""
        try:
            loaded = x509.load_pem_x509_certificate(certificate.encode())
        except ValueError:
            return None
        return next(filter(None, (ca.read(loaded, now) for ca in self.trusted(now))), None)

    def bundle(self, now: dt.datetime) -> str:
        return "".join(ca.certificate for ca in self.trusted(now))

    def _newest(self, made_by: dt.datetime) -> GateCa:
        return max(
            (ca for ca in self.authorities if ca.made_at <= made_by), default=self.authorities[0], key=_age
        )


def _age(ca: GateCa) -> tuple[dt.datetime, str]:
    return ca.made_at, ca.id


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
