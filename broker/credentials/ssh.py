"""SSH certificates: by which a person enters at the gate, and by which the gate enters a host.

Two authorities, so that neither's certificates are good at the other's place: what a person holds opens
nothing at a host, also where the host can be reached without the gate. Both keys derive from the seal key:
every broker of an installation has the same ones, and there is no further file to keep. The form of the
certificates is OpenSSH's (PROTOCOL.certkeys); both are Ed25519 (RFC 8032).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from broker.credentials.postgres import NewLogin
from broker.credentials.seal import Seal
from workflows.model import HostTerms

ENTRY_LONGEST = timedelta(hours=12)
"""What no certificate at the gate outlives, also where the grant does."""
LOGIN_GOOD_FOR = timedelta(minutes=2)
"""How long a session's certificate for its host can be logged in with; the session itself may go on."""
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far a host's clock may be behind."""


class CertificateError(ValueError):
    """This is no certificate that may be used here and now. The text is for the log."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a good entry certificate says: whose it is, and under which grant it was made."""

    principal: str
    grant: str


class SshAuthorities:
    """The installation's two certificate authorities for SSH."""

    def __init__(self, seal: Seal) -> None:
        self._entry = Ed25519PrivateKey.from_private_bytes(seal.derive("ssh entry authority"))
        self._hosts = Ed25519PrivateKey.from_private_bytes(seal.derive("ssh host login authority"))

    def __repr__(self) -> str:
        return "SshAuthorities()"

    @property
    def for_hosts(self) -> str:
        """What hosts trust, as a line for a file that sshd's TrustedUserCAKeys names."""
        return f"{_line(self._hosts.public_key())} portcullis"

    # ------------------------------------------------------------ at the gate

    def entry(
        self, public_key: str, claim: Claim, names: Iterable[str], now: datetime, until: datetime, source: str
    ) -> str:
        """A certificate for a person's key, good at the gate until `until` as any of these login `names`,
        from the network `source` only, if there is one. Raises CertificateError for a key of no use.
        """
        builder = (
            SSHCertificateBuilder()
            .public_key(_person_key(public_key))
            .serial(0)
            .type(SSHCertificateType.USER)
            .key_id(f"{claim.principal}/{claim.grant}".encode())
            .valid_principals([name.encode() for name in names])
            .valid_after(int((now - CLOCKS_DIFFER).timestamp()))
            .valid_before(int(min(until, now + ENTRY_LONGEST).timestamp()))
            .add_extension(b"permit-pty", b"")
            .add_extension(b"permit-port-forwarding", b"")
        )
        if source:
            builder = builder.add_critical_option(b"source-address", _network(source).encode())
        return builder.sign(self._entry).public_bytes().decode()

    def read_entry(self, certificate: str, name: str, client: str, now: datetime) -> Claim:
        """What an entry certificate claims for the login `name` of a `client` (host:port). That the client
        holds its key the gate has seen. Raises CertificateError where it is not good here and now.
        """
        found = _certificate(certificate)
        if _line(found.signature_key()) != _line(self._entry.public_key()):
            raise CertificateError("it is of another authority")
        if found.type is not SSHCertificateType.USER:
            raise CertificateError("it is no user's")
        if not found.valid_after <= now.timestamp() < found.valid_before:
            raise CertificateError("it is not valid now")
        if name.encode() not in found.valid_principals:
            raise CertificateError("it is for other names")
        _from_there(found, client)
        principal, _, grant = found.key_id.decode().partition("/")
        return Claim(principal, grant)

    # ------------------------------------------------------------ at the host

    def login(
        self, host: HostTerms, claim: Claim, session: str, now: datetime, until: datetime
    ) -> tuple[str, str]:
        """A new key (OpenSSH PEM) and its certificate for one session's login at a host."""
        key = Ed25519PrivateKey.generate()
        builder = (
            SSHCertificateBuilder()
            .public_key(key.public_key())
            .serial(0)
            .type(SSHCertificateType.USER)
            .key_id(f"{claim.principal}/{claim.grant}/{session}".encode())
            .valid_principals([host.user.encode()])
            .valid_after(int((now - CLOCKS_DIFFER).timestamp()))
            .valid_before(int(min(until, now + LOGIN_GOOD_FOR).timestamp()) + 1)
            .add_extension(b"permit-pty", b"")
        )
        if host.forward or host.listen:
            builder = builder.add_extension(b"permit-port-forwarding", b"")
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return pem, builder.sign(self._hosts).public_bytes().decode()


class SshLogins:
    """Nothing is made at a host for a grant, and nothing has to be dropped: each session's certificate is
    made as it begins (SshAuthorities.login) and runs out by itself. So it is with HTTP services and the
    tokens that tell them who somebody is.
    """

    async def make(self, login: NewLogin) -> None:
        """Nothing to do."""

    async def drop(self, name: str) -> str:
        """Nothing to do."""
        return ""

    async def ours(self) -> dict[str, str]:
        """There are none."""
        return {}


def public_line(text: str) -> str:
    """An OpenSSH public key without its comment. Raises CertificateError."""
    return _line(_person_key(text))


def _person_key(text: str) -> Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey:
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("this is no OpenSSH public key") from error
    if isinstance(key, RSAPublicKey) and key.key_size < 3072:
        raise CertificateError("an RSA key needs 3072 bits")
    if isinstance(key, (Ed25519PublicKey, RSAPublicKey, EllipticCurvePublicKey)):
        return key
    raise CertificateError("only Ed25519, ECDSA and RSA keys are taken")


def _certificate(text: str) -> SSHCertificate:
    try:
        found = load_ssh_public_identity(text.encode())
        if not isinstance(found, SSHCertificate):
            raise CertificateError("it is a key without a certificate")
        found.verify_cert_signature()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CertificateError(str(error) or "its signature is wrong") from error
    return found


def _from_there(certificate: SSHCertificate, client: str) -> None:
    for name, value in certificate.critical_options.items():
        if name != b"source-address":
            raise CertificateError("it asks for what is not known here")
        network = ipaddress.ip_network(value.decode())
        if ipaddress.ip_address(client.rpartition(":")[0].strip("[]")) not in network:
            raise CertificateError("it is for another address")


def _network(source: str) -> str:
    try:
        return str(ipaddress.ip_network(source, strict=False))
    except ValueError as error:
        raise CertificateError("the source is an address or a network, like 192.0.2.0/24") from error


def _line(key: object) -> str:
    assert isinstance(key, (Ed25519PublicKey, RSAPublicKey, EllipticCurvePublicKey)), (
        "no other keys come here"
    )
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
