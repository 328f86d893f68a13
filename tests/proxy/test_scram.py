"""Logging in by SCRAM-SHA-256(-PLUS): the token stays with its owner, and nobody in between gains by it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from proxy import tls
from proxy.postgres import codec, scram
from proxy.postgres.codec import WireError
from tests.proxy.wire_client import connect_asyncpg, message
from workflows.scram import ITERATIONS, Proof, Verifier, salt_of, signature

if TYPE_CHECKING:
    from tests.proxy.conftest import House, OpenHouse, Server

TOKEN = "ada-token-1"


def token_never_came(house: House) -> bool:
    return bool(house.authority.knocks) and all(k.token == "" and k.proof for k in house.authority.knocks)


# --- clients


@pytest.mark.parametrize("binding", ["require", "prefer", "disable"])
async def test_libpq_logs_in_with_and_without_channel_binding(house: House, binding: str) -> None:
    out, _ = await house.psql("select 42", dsn=house.dsn(channel_binding=binding))
    assert out == "42\n"
    async with await house.connect(channel_binding=binding) as db:
        assert await (await db.execute("select 42")).fetchone() == (42,)
    assert token_never_came(house)
    bound = [
        b"p=tls-server-end-point" in base64.b64decode(_said(k.proof, "c")) for k in house.authority.knocks
    ]
    assert bound == [binding != "disable"] * 2


def _said(proof: Proof | None, key: str) -> str:
    assert proof is not None
    found = re.findall(rf"(?:^|,){key}=([^,]*)", proof.messages)
    return str(found[-1])


async def test_asyncpg_logs_in(house: House) -> None:
    db = await connect_asyncpg(house)
    assert await db.fetchval("select 42") == 42
    await db.close()
    assert token_never_came(house)


async def test_a_gate_whose_settings_say_so_asks_for_the_password(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house(login="password")
    house.authority.grant(server.upstream())
    assert (await house.psql("select 42"))[0] == "42\n"
    assert [(k.token, k.proof) for k in house.authority.knocks] == [(TOKEN, None)]
    with pytest.raises(psycopg.OperationalError, match="not valid"):
        await house.connect(token="guess")


async def test_a_gate_without_a_certificate_to_bind_to_offers_no_binding(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house(end_point=b"")
    house.authority.grant(server.upstream())
    assert (await house.psql("select 42"))[0] == "42\n"
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        await house.connect(channel_binding="require")


async def test_a_client_leaves_a_gate_that_cannot_prove_that_it_knows_the_token(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.authority, "_proved", lambda knock: b"\0" * 32)
    with pytest.raises(psycopg.OperationalError, match=r"[Ss]erver signature|incorrect server"):
        await house.connect()


# --- attacks: a client that says what it likes


class Rogue:
    """A client in TLS whose SCRAM messages are the test's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answer = ""

    @classmethod
    async def knock(cls, house: House, user: str = "ada") -> Rogue:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
        writer.write(codec.untagged(codec.SSL_REQUEST))
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(ssl.create_default_context(cafile=str(house.ca)), server_hostname="127.0.0.1")
        writer.write(codec.startup({"user": user, "database": "prod-db"}))
        it = cls(reader, writer)
        offer = await message(reader)
        assert offer == (b"R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
        return it

    async def first(self, text: str, mechanism: str = "SCRAM-SHA-256") -> tuple[bytes, bytes]:
        said = text.encode()
        body = mechanism.encode() + b"\0" + struct.pack("!I", len(said)) + said
        self.writer.write(codec.message(b"p", body))
        kind, body = await message(self.reader)
        self.answer = body[4:].decode("utf-8", "replace")
        return kind, body

    async def final(self, text: str) -> tuple[bytes, bytes]:
        self.writer.write(codec.message(b"p", text.encode()))
        return await message(self.reader)

    def proved(self, bare: str, binding: str, token: str = TOKEN) -> str:
        """A right last message, by the token itself."""
        fields = dict(re.findall(r"([a-z])=([^,]*)", self.answer))
        salted = hashlib.pbkdf2_hmac(
            "sha256", token.encode(), base64.b64decode(fields["s"]), int(fields["i"])
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c={binding},r={fields['r']}"
        said = f"{bare},{self.answer},{without}".encode()
        mask = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        value = bytes(a ^ b for a, b in zip(key, mask, strict=True))
        return f"{without},p={base64.b64encode(value).decode()}"


def error_of(answer: tuple[bytes, bytes]) -> tuple[str, str]:
    kind, body = answer
    assert kind == b"E", answer
    fields = codec.read_report(body)
    return fields[b"C"].decode(), fields[b"M"].decode()


BARE = "n=,r=abcdef"


async def test_a_proof_of_ones_own_making_is_right(house: House) -> None:
    """So that the attacks below fail by what they change, and by nothing else."""
    rogue = await Rogue.knock(house)
    await rogue.first("n,," + BARE)
    kind, body = await rogue.final(rogue.proved(BARE, "biws"))
    assert (kind, body[:4]) == (b"R", b"\0\0\0\x0c")
    rogue.writer.close()


async def test_a_client_that_was_told_the_gate_cannot_bind_is_stopped(house: House) -> None:
    """Somebody in between took SCRAM-SHA-256-PLUS out of the offer."""
    rogue = await Rogue.knock(house)
    state, said = error_of(await rogue.first("y,," + BARE))
    assert state == "28000"
    assert "told that this gate cannot bind" in said
    assert house.authority.knocks == []


async def test_a_binding_changed_under_way_is_found(house: House) -> None:
    """The `y` that a client said, passed on as `n`: its proof is of what it said."""
    rogue = await Rogue.knock(house)
    await rogue.first("n,," + BARE)
    state, _ = error_of(await rogue.final(rogue.proved(BARE, base64.b64encode(b"y,,").decode())))
    assert state == "28000"
    assert house.authority.knocks == []


async def test_a_proof_bound_to_another_certificate_is_stopped(house: House) -> None:
    header = "p=tls-server-end-point,,"
    for other in (bytes(32), b"", hashlib.sha256(b"another certificate").digest()):
        rogue = await Rogue.knock(house)
        await rogue.first(header + BARE, "SCRAM-SHA-256-PLUS")
        bound = base64.b64encode(header.encode() + other).decode()
        state, said = error_of(await rogue.final(rogue.proved(BARE, bound)))
        assert state == "28000"
        assert "another certificate" in said
    assert house.authority.knocks == []


async def test_a_proof_that_was_overheard_is_good_for_nothing(house: House) -> None:
    first = await Rogue.knock(house)
    await first.first("n,," + BARE)
    overheard = first.proved(BARE, "biws")
    assert (await first.final(overheard))[0] == b"R"
    again = await Rogue.knock(house)
    await again.first("n,," + BARE)
    state, said = error_of(await again.final(overheard))
    assert (state, said) == ("08P01", "the client's last SCRAM message belongs to another login.")
    # The same with this login's nonce put in: the proof is not of it.
    fields = dict(re.findall(r"([a-z])=([^,]*)", again.answer))
    third = await Rogue.knock(house)
    await third.first("n,," + BARE)
    mine = dict(re.findall(r"([a-z])=([^,]*)", third.answer))["r"]
    assert mine != fields["r"]
    forged = re.sub(r"r=[^,]*", lambda _: f"r={mine}", overheard)
    assert error_of(await third.final(forged))[0] == "28P01"


async def test_whether_somebody_exists_shows_in_nothing_before_or_in_the_refusal(house: House) -> None:
    async def conversation(user: str, nonce: str) -> tuple[Any, ...]:
        rogue = await Rogue.knock(house, user)
        kind, body = await rogue.first(f"n,,n=,r={nonce}")
        fields = dict(re.findall(r"([a-z])=([^,]*)", rogue.answer))
        end = await rogue.final(rogue.proved(f"n=,r={nonce}", "biws", "guess"))
        assert await rogue.reader.read() == b""
        said = end[1].replace(user.encode(), b"<name>")
        return kind, len(body), len(fields["s"]), fields["i"], end[0], said

    known, unknown = await conversation("ada", "abc"), await conversation("eve", "abc")
    assert known == unknown
    assert salt_of("ada") != salt_of("eve")
    again = await Rogue.knock(house, "eve")
    await again.first("n,,n=,r=abc")
    assert base64.b64encode(salt_of("eve")).decode() in again.answer  # the same each time, as a real one's is
    again.writer.close()


@pytest.mark.parametrize(
    ("mechanism", "text"),
    [
        ("SCRAM-SHA-256-PLUS", "n,," + BARE),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,," + BARE),
        ("SCRAM-SHA-256", "p=tls-server-end-point,," + BARE),
        ("SCRAM-SHA-1", "n,," + BARE),
        ("SCRAM-SHA-256", "n,a=grace," + BARE),
        ("SCRAM-SHA-256", "n,,m=more," + BARE),
        ("SCRAM-SHA-256", "n,,n=,r="),
        ("SCRAM-SHA-256", ""),
    ],
)
async def test_what_scram_does_not_allow_is_refused(house: House, mechanism: str, text: str) -> None:
    rogue = await Rogue.knock(house)
    assert error_of(await rogue.first(text, mechanism))[0] == "08P01"
    assert house.authority.knocks == []


async def test_a_token_sent_in_clear_is_not_looked_at(house: House) -> None:
    rogue = await Rogue.knock(house)
    rogue.writer.write(codec.message(b"p", TOKEN.encode() + b"\0"))
    assert error_of(await message(rogue.reader))[0] == "08P01"
    assert house.authority.knocks == []


# --- attacks: somebody between, with a certificate that the client takes


Change = Callable[[bytes], bytes]


@asynccontextmanager
async def somebody_between(house: House, folder: Path, change: Change) -> AsyncIterator[tuple[int, Path]]:
    """Ends the client's TLS with another certificate and goes on to the gate in TLS; `change` alters what the
    gate says."""
    other = tls.self_made(folder, ["127.0.0.1"], datetime.now(UTC))
    served = tls.server_context(other.certificate, other.key)
    trusting = ssl.create_default_context(cafile=str(house.ca))

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await writer.start_tls(served)
        there, to = await asyncio.open_connection("127.0.0.1", house.gate.port)
        to.write(codec.untagged(codec.SSL_REQUEST))
        await there.readexactly(1)
        await to.start_tls(trusting, server_hostname="127.0.0.1")
        await asyncio.gather(_relay(reader, to, bytes), _relay(there, writer, change))

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], other.ca


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Change) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(change(data))
        writer.close()
    except (ConnectionError, ssl.SSLError):
        writer.transport.abort()


def without_plus(data: bytes) -> bytes:
    offer = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    if offer not in data:
        return data
    return codec.message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")


@pytest.mark.parametrize(
    ("change", "why"),
    [(bytes, "another certificate"), (without_plus, "cannot bind a login")],
    ids=["passes all on", "strips the binding"],
)
async def test_somebody_between_gains_nothing_even_with_a_certificate_the_client_takes(
    house: House, tmp_path: Path, change: Change, why: str
) -> None:
    async with somebody_between(house, tmp_path / "other", change) as (port, ca):
        with pytest.raises(psycopg.OperationalError, match=why):
            await house.connect(port=str(port), sslrootcert=str(ca))
    assert house.authority.knocks == []


# --- the parts


def test_the_signature_is_that_of_rfc_7677() -> None:
    salted = hashlib.pbkdf2_hmac(
        "sha256", b"pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), ITERATIONS
    )
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    known = Verifier(stored, hmac.digest(salted, b"Server Key", "sha256"))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    messages = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signed = signature(known, Proof(messages, proof))
    assert signed == base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert signature(known, Proof(messages + "x", proof)) is None
    assert signature(known, Proof(messages, bytes(32))) is None
    assert signature(known, Proof(messages, b"")) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_of_a_client_do_more_than_end_its_login(first: bytes, final: bytes) -> None:
    for plus in (b"", b"e" * 32):
        exchange = scram.Exchange("ada", plus, "nonce")
        for said, take in ((first, exchange.first), (final, exchange.final)):
            try:
                take(said)  # type: ignore[operator]
            except (WireError, scram.Misled):
                break


def _certificate(path: Path, key: Any, algorithm: Any) -> Path:
    name = x509.Name([])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now.replace(year=now.year + 1))
    path.write_bytes(made.sign(key, algorithm).public_bytes(serialization.Encoding.PEM))
    return path


def test_a_login_is_bound_by_the_hash_that_the_certificates_signature_uses(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for algorithm, size in ((hashes.SHA256(), 32), (hashes.SHA384(), 48), (hashes.SHA512(), 64)):
        assert len(tls.end_point(_certificate(tmp_path / "it.pem", key, algorithm))) == size
    pure = _certificate(tmp_path / "pure.pem", ed25519.Ed25519PrivateKey.generate(), None)
    assert tls.end_point(pure) == b""
