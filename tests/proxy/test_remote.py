"""The gate's way to a broker elsewhere: a real broker process, over TCP and over a Unix socket."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance, SystemClock
from broker.credentials.seal import Seal
from broker.identity.certificates import Bearer, ClientCertificates
from broker.identity.tokens import TokenKind, Tokens
from broker.policy_file.holder import ConfigHolder
from broker.service import Service
from broker.sessions import Sessions
from broker.store import credentials
from broker.store.credentials import SealedLogin
from broker.store.engine import Store
from proxy.authority import Admission, Closing, GrantEnded, GrantMinted, Knock, Progress, SessionKilled
from proxy.remote import RemoteAuthority
from proxy.shipping import NotOurs
from tests import tables
from tests.broker.proving import answer_to, proof_of
from workflows.access import Wish
from workflows.model import EndReason, Refusal, Story

SCRIPT = Path(__file__).with_name("remote_broker.py")
GATE_TOKEN = "the-token-of-this-gate"
POLICY = """
people:
  ada: {name: Ada, email: ada@example.com, groups: [engineers]}
  grace: {name: Grace, email: grace@example.com, groups: [dba]}
groups:
  engineers: {title: Engineers}
  dba: {title: Approvers}
resources:
  prod-db:
    kind: postgres
    address: 127.0.0.1:5432
    database: shop
    tls: disable
    admin: {user: admin, password: "env:NOBODY_READS_THIS"}
    roles: {readonly: {memberships: [app_readonly]}}
rules:
  - {name: r, who: [engineers], resources: [prod-db], roles: [readonly], longest: 4h, usual: 1h,
     approval: [{group: dba, needed: 1}], lapses_after: 8h, reason: required}
"""


@dataclass
class House:
    """The database that the broker process reads, seen from the test, and how to start such a process."""

    directory: Path
    service: Service
    tokens: Tokens
    seal_key: bytes
    started: list[subprocess.Popen[str]]

    async def grant(self) -> Story:
        asked = await self.service.submit("ada", Wish("prod-db", reason="INC-142"), via="api")
        assert isinstance(asked, Story)
        story = await self.service.approve(asked.request.id, "grace", via="api")
        assert isinstance(story, Story)
        assert story.grant
        now = self.service.clock.now()
        seal = Seal([self.seal_key])
        sealed = seal.close("minted password", story.grant.id)
        login = SealedLogin(story.grant.id, "prod-db", "pc_ada", sealed, seal.current, now, now)
        async with self.service.store.write() as tx:
            await credentials.add(tx, login)
        return story

    async def knock(self) -> Knock:
        token = (await self.tokens.issue(TokenKind.ENTRY, "ada", via="api")).token
        return Knock("g1", "postgres", "ada", token, "prod-db", "", "127.0.0.1:5")

    def start(self, where: str) -> tuple[subprocess.Popen[str], str]:
        url = f"sqlite:///{self.directory / 'portcullis.db'}"
        key = base64.b64encode(self.seal_key).decode()
        command = [sys.executable, str(SCRIPT), url, str(self.directory / "access.yaml"), key, where]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SCRIPT.parents[2])
        self.started.append(process)
        assert process.stdout
        return process, process.stdout.readline().strip()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "access.yaml").write_text(POLICY)
    store = Store(tables.sqlite(tmp_path / "portcullis.db"))
    clock, chance = SystemClock(), SystemChance()
    service = Service(store, ConfigHolder(tmp_path / "access.yaml"), clock, chance, InProcessBus())
    made = House(tmp_path, service, Tokens(store, clock, chance), os.urandom(32), [])
    yield made
    for process in made.started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
    await store.close()


@dataclass
class Far:
    """A broker process and a gate's way to it."""

    process: subprocess.Popen[str]
    authority: RemoteAuthority
    reach: Callable[..., RemoteAuthority]


@pytest.fixture(params=["tcp", "unix"])
async def far(request: pytest.FixtureRequest, house: House) -> AsyncIterator[Far]:
    where = "0" if request.param == "tcp" else str(house.directory / "gate.sock")
    process, place = house.start(where)

    def reach(token: str = GATE_TOKEN, **other: Any) -> RemoteAuthority:
        if request.param == "tcp":
            return RemoteAuthority(f"http://127.0.0.1:{place}", token, **other)
        return RemoteAuthority("http://broker", token, socket=Path(place), **other)

    async with reach() as authority:
        await until_up(authority)
        yield Far(process, authority, reach)


async def until_up(authority: RemoteAuthority) -> None:
    for _ in range(200):
        try:
            await authority.renew("g1", [])
            return
        except ConnectionError:
            await asyncio.sleep(0.05)
    pytest.fail("the broker process did not come up")


async def test_a_knock_is_answered_as_if_the_broker_were_here(house: House, far: Far) -> None:
    story = await house.grant()
    admitted = await far.authority.admit(await house.knock())
    assert isinstance(admitted, Admission)
    assert story.grant
    assert (admitted.grant, admitted.principal, admitted.role) == (story.grant.id, "ada", "readonly")
    assert admitted.upstream.password == "minted password"
    assert admitted.terms == story.grant.terms
    assert 0 < admitted.remaining <= 3600


async def test_a_wrong_password_is_refused(house: House, far: Far) -> None:
    await house.grant()
    answer = await far.authority.admit(replace(await house.knock(), token="guess"))
    assert isinstance(answer, Refusal)
    assert answer.code == "login-failed"


async def test_leases_are_renewed_until_the_grant_is_revoked(house: House, far: Far) -> None:
    story = await house.grant()
    admitted = await far.authority.admit(await house.knock())
    assert isinstance(admitted, Admission)
    progress = [Progress(admitted.session, 1, "f" * 64), Progress("S-UNKNOWN", 1, "f" * 64)]
    assert set((await far.authority.renew("g1", progress)).remaining) == {admitted.session}
    assert (await far.authority.renew("another-gate", progress)).remaining == {}
    await house.service.revoke(story.request.id, "grace", via="api")
    renewal = await far.authority.renew("g1", progress)
    assert renewal.remaining == {}
    assert [(end.grant, end.reason) for end in renewal.ends if isinstance(end, GrantEnded)] == [
        (admitted.grant, EndReason.REVOKED)
    ]


async def test_notices_tell_what_is_live_and_then_what_changes(house: House, far: Far) -> None:
    first = await house.grant()
    assert first.grant
    notices = far.authority.notices("g1")
    minted = await asyncio.wait_for(anext(notices), 5)
    assert isinstance(minted, GrantMinted)
    assert minted.grant == first.grant.id
    began = time.monotonic()
    await house.service.revoke(first.request.id, "grace", via="api", reason="enough")
    ended = await asyncio.wait_for(anext(notices), 5)
    assert isinstance(ended, GrantEnded)
    assert (ended.grant, ended.reason) == (first.grant.id, EndReason.REVOKED)
    assert time.monotonic() - began < 1.0
    await notices.aclose()  # type: ignore[attr-defined]


async def test_a_kill_reaches_the_gate_of_its_session(house: House, far: Far) -> None:
    await house.grant()
    admitted = await far.authority.admit(await house.knock())
    assert isinstance(admitted, Admission)
    notices = far.authority.notices("g1")
    assert isinstance(await asyncio.wait_for(anext(notices), 5), GrantMinted)
    began = time.monotonic()
    # Another broker than the gate's: no bus between them, only the database.
    await Sessions(house.service).kill(admitted.session, "grace", via="api", reason="enough")
    told = await asyncio.wait_for(anext(notices), 5)
    assert told == SessionKilled(admitted.session, "grace", "enough")
    assert time.monotonic() - began < 1.0
    await notices.aclose()  # type: ignore[attr-defined]


async def test_a_recording_is_put_behind_what_is_there_and_never_over_it(house: House, far: Far) -> None:
    await house.grant()
    admitted = await far.authority.admit(await house.knock())
    assert isinstance(admitted, Admission)
    session = admitted.session
    ship = far.authority.ship
    assert await ship("g1", session, 0, b"header\n") == 7
    assert await ship("g1", session, 0, b"forged\n") == 7, "it says what it holds"
    assert await ship("g1", session, 99, b"a gap\n") == 7
    assert await ship("g1", session, 7, b"\x00\xff" * 1000) == 2007
    assert (house.directory / "kept" / f"{session}.jsonl").read_bytes() == b"header\n" + b"\x00\xff" * 1000


async def test_no_gate_brings_the_recording_of_anothers_session(house: House, far: Far) -> None:
    await house.grant()
    admitted = await far.authority.admit(await house.knock())
    assert isinstance(admitted, Admission)
    for gate, session in (("g2", admitted.session), ("g1", "S-NOBODY"), ("g1", "../../etc/passwd"), ("", "")):
        with pytest.raises(NotOurs):
            await far.authority.ship(gate, session, 0, b"forged\n")
    with pytest.raises(ConnectionError):
        await far.reach("the wrong token").ship("g1", admitted.session, 0, b"forged\n")
    assert not (house.directory / "kept").exists()


async def test_holding_and_closing_may_be_repeated(house: House, far: Far) -> None:
    story = await house.grant()
    admitted = await far.authority.admit(await house.knock())
    assert isinstance(admitted, Admission)
    for _ in range(3):
        await far.authority.hold("g1", admitted.grant)
        await far.authority.close("g1", Closing(admitted.session, "client", "", 2, "a" * 64, 1, 0, 1))
    record = (await house.service.sessions("ada"))[0]
    assert (record.close_reason, record.statements) == ("client", 1)
    trail = await house.service.trail_of(story.request.id, "ada")
    assert isinstance(trail, list)
    assert [entry.kind for entry in trail].count("session.closed") == 1
    assert [entry.kind for entry in trail].count("grant.held") == 1


async def test_without_the_gates_token_nothing_is_answered(house: House, far: Far) -> None:
    await house.grant()
    knock = await house.knock()
    for token in ("-", "wrong", GATE_TOKEN + "x", GATE_TOKEN[:-1], GATE_TOKEN.upper()):
        async with far.reach(token) as stranger:
            for question in (
                stranger.admit(knock),
                stranger.renew("g1", []),
                stranger.hold("g1", "G-1"),
                anext(stranger.notices("g1")),
            ):
                with pytest.raises(ConnectionError, match="does not know this gate"):
                    await question


async def test_the_tokens_of_people_do_not_open_the_gates_door(house: House, far: Far) -> None:
    for kind in (TokenKind.LOGIN, TokenKind.ENTRY):
        issued = await house.tokens.issue(kind, "ada", via="api")
        async with far.reach(issued.token) as person:
            with pytest.raises(ConnectionError, match="does not know"):
                await person.renew("g1", [])


async def test_a_knock_replayed_after_the_revocation_is_refused(house: House, far: Far) -> None:
    story = await house.grant()
    knock = await house.knock()
    assert isinstance(await far.authority.admit(knock), Admission)
    await house.service.revoke(story.request.id, "grace", via="api")
    replayed = await far.authority.admit(knock)
    assert isinstance(replayed, Refusal)


async def test_a_killed_broker_is_a_lost_connection_for_every_question(house: House, far: Far) -> None:
    await house.grant()
    notices = far.authority.notices("g1")
    await asyncio.wait_for(anext(notices), 5)
    waiting = asyncio.ensure_future(anext(notices))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    far.process.send_signal(signal.SIGKILL)
    far.process.wait()
    with pytest.raises((ConnectionError, StopAsyncIteration)):
        await asyncio.wait_for(waiting, 2)
    knock = await house.knock()
    for ask in (far.authority.admit(knock), far.authority.renew("g1", []), far.authority.hold("g1", "G-1")):
        with pytest.raises(ConnectionError) as raised:
            await ask
        assert knock.token not in str(raised.value)


async def test_a_broker_that_is_frozen_counts_as_lost(house: House, far: Far) -> None:
    await house.grant()
    async with far.reach(timeout=0.5, silence=1.5) as authority:
        notices = authority.notices("g1")
        await asyncio.wait_for(anext(notices), 5)
        far.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            await authority.renew("g1", [])
        with pytest.raises(ConnectionError):
            await anext(notices)
        assert time.monotonic() - began < 3.0
        far.process.send_signal(signal.SIGCONT)
        await until_up(authority)


async def test_a_broker_that_comes_back_is_followed_anew(house: House) -> None:
    story = await house.grant()
    assert story.grant
    first, port = house.start("0")
    async with RemoteAuthority(f"http://127.0.0.1:{port}", GATE_TOKEN) as authority:
        await until_up(authority)
        first.kill()
        first.wait()
        with pytest.raises(ConnectionError):
            await authority.renew("g1", [])
        house.start(port)
        await until_up(authority)
        notice = await asyncio.wait_for(anext(authority.notices("g1")), 5)
        assert isinstance(notice, GrantMinted)
        assert notice.grant == story.grant.id


def test_a_token_is_for_this_machine_alone() -> None:
    for address in ("http://broker.example.com", "http://10.0.0.1:80", "https://broker.example.com"):
        with pytest.raises(ValueError, match="not by a token"):
            RemoteAuthority(address, "t")


@pytest.fixture
async def babbler() -> AsyncIterator[Callable[[bytes], Any]]:
    """Something at the broker's address that answers every question with these bytes."""
    servers: list[asyncio.Server] = []

    async def start(content: bytes) -> RemoteAuthority:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content)
            writer.write(head + content)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        servers.append(server)
        return RemoteAuthority(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "t")

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"[]", b"<html>", b'{"admission":{}}', b'{"admission":{"session":"S-1"}}', b"\xff"],
    ids=str,
)
async def test_an_answer_that_is_no_answer_lets_nobody_in(
    babbler: Callable[[bytes], Any], content: bytes
) -> None:
    async with await babbler(content) as authority:
        with pytest.raises(ConnectionError):
            await authority.admit(Knock("g1", "postgres", "ada", "t", "prod-db", "", "c"))


async def test_a_notice_that_breaks_off_is_not_taken(babbler: Callable[[bytes], Any]) -> None:
    whole = b'{"minted":{"grant":"G-1","remaining":60}}'
    async with await babbler(b"{}\n" + whole + b"\n" + whole) as authority:
        assert [notice async for notice in authority.notices("g1")] == [GrantMinted("G-1", 60.0)]


async def test_a_proof_and_a_certificate_travel_like_a_token(far: Far, house: House) -> None:
    story = await house.grant()
    assert story.grant is not None
    knock = await house.knock()
    proof = proof_of(knock.token, "ada")
    by_proof = await far.authority.admit(replace(knock, token="", proof=proof))
    assert isinstance(by_proof, Admission)
    assert by_proof.signature == answer_to(proof, knock.token, "ada")
    certificates = ClientCertificates(Seal([house.seal_key]))
    told = x509.load_pem_x509_certificate((await far.authority.client_ca()).encode())
    assert told.public_key() == x509.load_pem_x509_certificate(certificates.ca.encode()).public_key()
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    public = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    now = house.service.clock.now()
    made = certificates.sign(Bearer("ada", story.grant.id), public, now, now + timedelta(minutes=1))
    der = x509.load_pem_x509_certificate(made.encode()).public_bytes(Encoding.DER)
    by_certificate = await far.authority.admit(replace(knock, token="", certificate=der))
    assert isinstance(by_certificate, Admission)
    assert by_certificate.grant == story.grant.id
