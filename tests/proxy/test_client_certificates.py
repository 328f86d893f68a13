"""Logging in by a client certificate: the broker's own, for its principal, and nobody else's."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.credentials.seal import Seal
from broker.identity.certificates import Bearer, ClientCertificates

if TYPE_CHECKING:
    from tests.proxy.conftest import House, OpenHouse, Server


@pytest.fixture
async def asking(open_house: OpenHouse, server: Server) -> House:
    """A gate that asks for certificates, and knows the broker's CA by now."""
    house = await open_house(certificates=True)
    house.authority.grant(server.upstream())
    async with asyncio.timeout(5):
        while house.gate.settings.tls.verify_mode is not ssl.CERT_OPTIONAL:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return house


def files(
    house: House, by: ClientCertificates | None = None, minutes: int = 10, principal: str = "ada"
) -> dict[str, str]:
    """A new key and a certificate for it, as libpq takes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    now = datetime.now(UTC)
    since = min(now, now + timedelta(minutes=minutes - 10))
    by = by or house.authority.certificates
    made = by.sign(Bearer(principal, "G-1"), public, since, now + timedelta(minutes=minutes))
    certificate, private = house.directory / "client.pem", house.directory / "client.key"
    certificate.write_text(made)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    return {"sslcert": str(certificate), "sslkey": str(private)}


async def test_libpq_enters_by_its_certificate_alone(asking: House) -> None:
    out, _ = await asking.psql("select 42", dsn=asking.dsn(token="", **files(asking)))
    assert out == "42\n"
    async with await asking.connect(password="", **files(asking)) as db:
        assert await (await db.execute("select 42")).fetchone() == (42,)
    for knock in asking.authority.knocks:
        assert (knock.token, knock.proof) == ("", None)
        assert asking.authority.certificates.read(knock.certificate, datetime.now(UTC)) == Bearer(
            "ada", "G-1"
        )


async def test_who_has_none_proves_the_token_as_ever(asking: House) -> None:
    assert (await asking.psql("select 42"))[0] == "42\n"
    assert asking.authority.knocks[0].proof is not None


async def test_a_certificate_opens_nothing_for_another_name(asking: House) -> None:
    with pytest.raises(psycopg.OperationalError, match="not valid"):
        await asking.connect(user="grace", **files(asking))


async def test_a_certificate_of_another_ca_or_of_yesterday_does_not_get_through_tls(asking: House) -> None:
    stranger = ClientCertificates(Seal([b"x" * 32]))
    for wrong in (files(asking, by=stranger), files(asking, minutes=-5)):
        with pytest.raises(psycopg.OperationalError, match=r"SSL|certificate"):
            await asking.connect(**wrong)
    assert asking.authority.knocks == []


async def test_a_gate_that_does_not_ask_gets_none(house: House, tmp_path: Path) -> None:
    assert (await house.psql("select 42", dsn=house.dsn(**files(house))))[0] == "42\n"
    assert house.authority.knocks[0].certificate == b""
