"""How the gate proves itself to SSH clients: a host key, with a certificate of an authority of its own.

Clients that know the authority need no trust on first use. Made once under the data directory, as in
proxy/tls.py for TLS; private keys are readable by the gate's user only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_private_key,
    load_ssh_public_identity,
)

from proxy.files import write_whole

_DAYS = 397
_RENEW_DAYS = _DAYS // 2


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """The gate's host key (OpenSSH PEM), its certificate, and the authority's public line."""

    key: Path
    certificate: Path
    authority: str


def self_made(directory: Path, names: Sequence[str], now: dt.datetime) -> HostIdentity:
    """The gate's host key with a certificate for `names`, made where missing.

    The certificate is made anew when a name is missing or less than half of its time is left; keys stay.
    Raises OSError when the directory cannot be written, ValueError for a file that is no Ed25519 key.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _key(directory / "ssh_ca")
    key = _key(directory / "ssh_host_key")
    certificate = directory / "ssh_host_key-cert.pub"
    if not _still_good(certificate, key, authority, names, now):
        made = (
            SSHCertificateBuilder()
            .public_key(key.public_key())
            .serial(0)
            .type(SSHCertificateType.HOST)
            .key_id(names[0].encode() if names else b"gate")
            .valid_principals([name.encode() for name in names])
            .valid_after(int((now - dt.timedelta(minutes=5)).timestamp()))
            .valid_before(int((now + dt.timedelta(days=_DAYS)).timestamp()))
            .sign(authority)
        )
        write_whole(certificate, made.public_bytes() + b"\n", 0o644)
    return HostIdentity(directory / "ssh_host_key", certificate, _line(authority))


def known_hosts(authority: str, names: Sequence[str], port: int) -> str:
    """The line of a known_hosts file by which clients know the gate (sshd(8), SSH_KNOWN_HOSTS)."""
    patterns = ",".join(name if port == 22 else f"[{name}]:{port}" for name in names)
    return f"@cert-authority {patterns} {authority}"


def _key(place: Path) -> Ed25519PrivateKey:
    if not place.exists():
        made = Ed25519PrivateKey.generate()
        write_whole(place, made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600)
    key = load_ssh_private_key(place.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{place} is no Ed25519 key; remove it to have it made anew")
    return key


def _still_good(
    place: Path, key: Ed25519PrivateKey, authority: Ed25519PrivateKey, names: Sequence[str], now: dt.datetime
) -> bool:
    if not place.exists():
        return False
    found = load_ssh_public_identity(place.read_bytes())
    if not isinstance(found, SSHCertificate):
        return False
    ours = found.public_key() == key.public_key() and found.signature_key() == authority.public_key()
    fresh = found.valid_before > (now + dt.timedelta(days=_RENEW_DAYS)).timestamp()
    return ours and fresh and {name.encode() for name in names} <= set(found.valid_principals)


def _line(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
