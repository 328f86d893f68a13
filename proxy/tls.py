"""TLS on both of the gate's sides.

The embedded default makes its own certificate authority once, under the data directory; clients verify the
gate by its `ca.pem`. Private keys are readable by the gate's user only.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.files import write_whole

_CA_DAYS = 3650
_LEAF_DAYS = 397
_RENEW_DAYS = _LEAF_DAYS // 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Files by which the gate proves itself: its certificate chain, its key, and the CA for clients."""

    certificate: Path
    key: Path
    ca: Path


def self_made(directory: Path, names: Sequence[str], now: dt.datetime) -> Identity:
    """The gate's own CA and a certificate for `names` (host names or IP addresses), made where missing.

    The certificate is made anew when a name is missing from it or when less than 30 days are left; the CA
    stays, so that clients need to fetch it once. Raises OSError when the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = Identity(directory / "gate.pem", directory / "gate.key", directory / "ca.pem")
    ca_key_file = directory / "ca.key"
    if identity.ca.exists() and ca_key_file.exists():
        ca = x509.load_pem_x509_certificate(identity.ca.read_bytes())
        loaded = serialization.load_pem_private_key(ca_key_file.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{ca_key_file} is not an elliptic curve key; remove it to have it made anew")
        ca_key = loaded
    else:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _sign_ca(ca_key, now)
        write_whole(ca_key_file, _key_pem(ca_key))
        write_whole(identity.ca, ca.public_bytes(serialization.Encoding.PEM), mode=0o644)
    if not _still_good(identity, names, now):
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _sign_leaf(key, names, ca, ca_key, now)
        write_whole(identity.key, _key_pem(key))
        write_whole(identity.certificate, leaf.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return identity


def end_point(certificate: Path) -> bytes:
    """What a login can be bound to: the hash of a server's certificate, the first of a PEM chain (RFC 5929,
    section 4.1). Empty for a certificate whose signature has no one hash. Raises OSError, ValueError.
    """
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    used = leaf.signature_hash_algorithm
    if used is None:
        return b""
    weak = isinstance(used, (hashes.MD5, hashes.SHA1))
    return leaf.fingerprint(hashes.SHA256() if weak else used)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later for the gate's listeners. Raises ssl.SSLError when key and certificate do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["postgresql"])
    return context


def ask_for_certificates(context: ssl.SSLContext, ca: str) -> None:
    """Have clients asked for a certificate of this CA (PEM). Who has none goes on without; another's is
    refused, as at a server with a CA. Raises ssl.SSLError.
    """
    context.load_verify_locations(cadata=ca)
    context.verify_mode = ssl.CERT_OPTIONAL


@lru_cache(maxsize=64)  # every entry needs one, and reading certificates takes its time
def target_context(mode: str, ca: str) -> ssl.SSLContext | None:
    """TLS towards a target: None for disable, unverified for require, verified by name for verify-full."""
    if mode == "disable":
        return None
    if mode not in ("require", "verify-full"):
        raise ValueError(f"tls is {mode!r}; it must be disable, require or verify-full")
    context = ssl.create_default_context(cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _still_good(identity: Identity, names: Sequence[str], now: dt.datetime) -> bool:
    if not (identity.certificate.exists() and identity.key.exists()):
        return False
    leaf = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fresh = leaf.not_valid_after_utc - now > dt.timedelta(days=_RENEW_DAYS)
    return fresh and all(_name(name) in held for name in names)


def _sign_ca(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portcullis gate CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        _builder(subject, subject, key.public_key(), now, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign_leaf(
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "gate")])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(subject, ca.subject, key.public_key(), now, _LEAF_DAYS)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))  # clocks of clients may be a little behind
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
