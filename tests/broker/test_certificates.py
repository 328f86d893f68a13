"""Client certificates: signed by a key that follows from the seal, for one principal and one grant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.credentials.seal import Seal
from broker.identity.certificates import Bearer, ClientCertificates

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
OURS = ClientCertificates(Seal([b"k" * 32]))
KEY = ec.generate_private_key(ec.SECP256R1())
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


@settings(max_examples=30)
@given(names)
def test_whoever_is_named_comes_back(name: str) -> None:
    made = der(OURS.sign(Bearer(name, "G-1"), public(), NOW, SOON))
    assert OURS.read(made, NOW) == Bearer(name, "G-1")


def test_every_broker_with_the_same_seal_reads_it_and_no_other() -> None:
    made = der(OURS.sign(Bearer("ada", "G-1"), public(), NOW, SOON))
    assert ClientCertificates(Seal([b"n" * 32, b"k" * 32])).read(made, NOW) == Bearer("ada", "G-1")
    assert ClientCertificates(Seal([b"x" * 32])).read(made, NOW) is None


def test_it_is_good_for_its_time_only() -> None:
    made = der(OURS.sign(Bearer("ada", "G-1"), public(), NOW, SOON))
    ends = {when: OURS.read(made, when) is not None for when in (NOW - timedelta(hours=1), NOW, SOON)}
    assert list(ends.values()) == [False, True, False]


def test_what_others_signed_or_bent_is_not_read() -> None:
    made = der(OURS.sign(Bearer("ada", "G-1"), public(), NOW, SOON))
    like = x509.load_der_x509_certificate(made)
    forged = x509.CertificateBuilder(
        like.issuer, like.subject, KEY.public_key(), 7, NOW, SOON, list(like.extensions)
    ).sign(KEY, hashes.SHA256())
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    assert server not in [it.value for it in like.extensions]
    wrong = [
        b"",
        b"no certificate",
        made[:-1],
        made.replace(b"portcullis://ada/", b"portcullis://eve/"),
        forged.public_bytes(Encoding.DER),
        der(OURS.ca),
    ]
    assert [OURS.read(it, NOW) for it in wrong] == [None] * len(wrong)


def test_only_keys_on_p256_are_signed() -> None:
    with pytest.raises(ValueError, match="P-256"):
        OURS.sign(Bearer("ada", "G-1"), public(rsa.generate_private_key(65537, 2048)), NOW, SOON)
    with pytest.raises(ValueError):  # noqa: PT011
        OURS.sign(Bearer("ada", "G-1"), "no key", NOW, SOON)
