"""SSH certificates of the broker's own: bound to person, grant, names, time and address; two authorities."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.seal import Seal
from broker.credentials.ssh import ENTRY_LONGEST, CertificateError, Claim, SshAuthorities
from workflows.model import HostTerms

SEAL = Seal([b"s" * 32])
OURS = SshAuthorities(SEAL)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
CLAIM = Claim("ada", "G-1")


def made(source: str = "", until: datetime = NOW + HOUR, names: tuple[str, ...] = ("ada+web-1",)) -> str:
    return OURS.entry(KEY, CLAIM, names, NOW, until, source)


def read(
    certificate: str, name: str = "ada+web-1", client: str = "192.0.2.7:5", now: datetime = NOW
) -> Claim:
    return OURS.read_entry(certificate, name, client, now)


def test_a_certificate_says_whose_it_is_and_under_which_grant() -> None:
    assert read(made()) == CLAIM


@pytest.mark.parametrize(
    ("certificate", "how"),
    [
        (made(), {"now": NOW + HOUR}),
        (made(), {"now": NOW - HOUR}),
        (made(), {"name": "ada+web-2"}),
        (made(), {"name": "grace+web-1"}),
        (made("198.51.100.0/24"), {}),
        (made("2001:db8::/32"), {}),
        (SshAuthorities(Seal([os.urandom(32)])).entry(KEY, CLAIM, ["ada+web-1"], NOW, NOW + HOUR, ""), {}),
        (OURS.login(HostTerms("ada+web-1"), CLAIM, "S-1", NOW, NOW + HOUR)[1], {}),
        pytest.param(KEY, {}, id="a bare key"),  # a key of its own each time: a name of its own would differ
        ("nonsense", {}),
    ],
)
def test_what_is_over_elsewhere_or_another_authoritys_is_not_taken(
    certificate: str, how: dict[str, object]
) -> None:
    with pytest.raises(CertificateError):
        read(certificate, **how)  # type: ignore[arg-type]


@given(st.data())
def test_a_changed_certificate_is_not_taken(data: st.DataObject) -> None:
    import base64

    kind, text = made().split()[:2]
    blob = bytearray(base64.b64decode(text))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CertificateError):
        read(f"{kind} {base64.b64encode(blob).decode()}")


def test_no_certificate_outlives_its_grant_or_half_a_day() -> None:
    assert read(made(until=NOW + timedelta(days=9)), now=NOW + ENTRY_LONGEST - HOUR) == CLAIM
    with pytest.raises(CertificateError):
        read(made(until=NOW + timedelta(days=9)), now=NOW + ENTRY_LONGEST)


def test_a_source_is_an_address_or_a_network() -> None:
    assert read(made("192.0.2.0/24")) == CLAIM
    assert read(made("2001:db8::1"), client="[2001:db8::1]:5") == CLAIM
    with pytest.raises(CertificateError):
        made("everywhere")


def test_weak_keys_are_not_certified() -> None:
    weak = generate_private_key(65537, 2048).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for key in (weak.decode(), "ssh-dss AAAA", ""):
        with pytest.raises(CertificateError):
            OURS.entry(key, CLAIM, ["ada+web-1"], NOW, NOW + HOUR, "")


def test_every_broker_of_an_installation_has_the_same_authorities_and_they_are_two() -> None:
    again = SshAuthorities(Seal([b"s" * 32]))
    assert again.for_hosts == OURS.for_hosts
    assert again.read_entry(made(), "ada+web-1", "192.0.2.7:5", NOW) == CLAIM
    assert OURS.for_hosts.split()[1] not in made()


def test_openssh_reads_a_hosts_certificate_as_meant(tmp_path: Path) -> None:
    key, certificate = OURS.login(HostTerms("deploy"), CLAIM, "S-1", NOW, NOW + HOUR)
    assert "BEGIN OPENSSH PRIVATE KEY" in key
    place = tmp_path / "cert.pub"
    place.write_text(certificate)
    told = subprocess.run(
        ["ssh-keygen", "-L", "-f", place], capture_output=True, text=True, check=True
    ).stdout
    assert "user certificate" in told
    assert '"ada/G-1/S-1"' in told
    principals, options = told.split("Principals:")[1].split("Critical Options:")
    assert principals.split() == ["deploy"]
    assert "permit-port-forwarding" not in options
    assert "permit-agent-forwarding" not in options
    forwarding = OURS.login(HostTerms("deploy", forward=("db:5432",)), CLAIM, "S-1", NOW, NOW + HOUR)[1]
    place.write_text(forwarding)
    told = subprocess.run(
        ["ssh-keygen", "-L", "-f", place], capture_output=True, text=True, check=True
    ).stdout
    assert "permit-port-forwarding" in told
