"""Gates on other machines: how they join, who they are at the broker's door, and who is turned away there."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.api.app import create_api, create_gates_door
from broker.api.gate import router
from broker.api.parts import Parts
from broker.credentials.seal import Seal
from broker.gates.authority import LIFETIME, SETTLING, GateCa, Trust, key_pem, new_key, read_request
from broker.gates.gates import JOIN_WITHIN, Gates
from cli.servers import GatesDoor, Server
from proxy.authority import Closing, Knock
from proxy.identity import GateIdentity, NotJoined
from proxy.remote import RemoteAuthority
from tests.broker.api.conftest import A_NOTICE, AN_ADMISSION, Door
from tests.broker.api.test_gate_reviews import HELD
from workflows.model import Refusal


class MovableClock:
    """The time, which TLS goes by as well, moved by a test."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.ahead

    def monotonic(self) -> float:
        return self.now().timestamp()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@dataclass
class World:
    """A broker with its public address and its door for gates, both listening."""

    gates: Gates
    clock: MovableClock
    said: Door
    door: GatesDoor
    public: str
    address: str
    folder: Path
    opened: list[RemoteAuthority] = field(default_factory=list)

    async def token(self, gate: str = "berlin") -> str:
        made = await self.gates.add(gate, "sam", via="api")
        assert not isinstance(made, Refusal)
        return made.token

    async def join(self, gate: str = "berlin", folder: str = "") -> GateIdentity:
        identity = GateIdentity(self.folder / (folder or gate))
        await identity.join(self.public, await self.token(gate))
        return identity

    def authority(self, identity: GateIdentity) -> RemoteAuthority:
        made = RemoteAuthority(identity=identity)
        self.opened.append(made)
        return made

    def ca(self) -> GateCa:
        return self.gates.trust.signing(self.clock.now())

    def context(self, certificate: str, key: str) -> ssl.SSLContext:
        """A client that trusts the door and shows this."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.gates.trust.bundle(self.clock.now()))
        if certificate:
            file = self.folder / "shown.pem"
            file.write_text(certificate + key)
            context.load_cert_chain(file)
        return context

    async def asked_with(self, context: ssl.SSLContext) -> int:
        """The status of a gate's question asked with this context; raises where TLS refuses."""
        async with httpx2.AsyncClient(verify=context, base_url=self.address) as http:
            body = {"gate": "berlin", "progress": []}
            extensions = {"sni_hostname": "broker.portcullis.internal"}
            return (await http.post("/gate/renew", json=body, extensions=extensions)).status_code


REFUSED = (httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError, ssl.SSLError)
"""How a refused handshake looks from a client: with TLS 1.3 it may come with the first bytes it reads."""


@pytest.fixture
async def world(parts: Parts, door: Door, clock: MovableClock, tmp_path: Path) -> AsyncIterator[World]:
    listener, public = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    at_door = f"https://127.0.0.1:{listener.getsockname()[1]}"
    parts = replace(parts, gates_door=at_door)
    gates_door = GatesDoor(create_gates_door(parts), listener, parts.gates, parts.clock)
    server = Server(create_api(parts), [public])
    await gates_door.start()
    await server.start()
    address = f"http://127.0.0.1:{public.getsockname()[1]}"
    made = World(parts.gates, clock, door, gates_door, address, at_door, tmp_path)
    yield made
    for authority in made.opened:
        await authority.aclose()
    await server.stop()
    await gates_door.stop()


# ------------------------------------------------------------------ joining


async def test_an_invited_gate_joins_and_is_heard_by_its_name(world: World) -> None:
    world.said.answer = AN_ADMISSION
    identity = await world.join("berlin")
    assert identity.kept.gate == "berlin"
    authority = world.authority(identity)
    knock = Knock("berlin/0", "postgres", "ada", "t", "prod-db", "", "127.0.0.1:5")
    assert await authority.admit(knock) == AN_ADMISSION
    assert [it.joined_at is not None for it in await world.gates.listed()] == [True]


async def test_the_key_of_a_gate_is_never_sent_and_can_be_read_by_nobody_else(world: World) -> None:
    identity = await world.join()
    (file,) = identity.folder.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert "PRIVATE KEY" in identity.kept.key
    async with world.gates.service.store.read() as tx:
        kept = (await tx.exec_driver_sql("select * from gates")).all()
    assert "PRIVATE KEY" not in repr(kept)


async def test_a_join_token_lets_in_one_machine_once(world: World) -> None:
    token = await world.token()
    await GateIdentity(world.folder / "first").join(world.public, token)
    with pytest.raises(NotJoined, match="another key has joined"):
        await GateIdentity(world.folder / "thief").join(world.public, token)
    async with world.gates.service.store.read() as tx:
        told = (await tx.exec_driver_sql("select actor, body from audit where kind = 'refused'")).all()
    assert [row[0] for row in told] == ["gate:berlin"]
    assert "joined-already" in told[0][1]


async def test_a_machine_that_lost_the_answer_joins_again_with_its_key(world: World) -> None:
    token, identity = await world.token(), GateIdentity(world.folder / "berlin")
    identity.folder.mkdir()
    request = identity._request()
    assert not isinstance(await world.gates.join(token, request, ""), Refusal)  # and the answer is lost
    await GateIdentity(identity.folder).join(world.public, token)
    assert await world.authority(identity).renew("berlin", []) is not None


async def test_a_join_token_ends_after_an_hour(world: World) -> None:
    token = await world.token()
    world.clock.ahead = JOIN_WITHIN
    with pytest.raises(NotJoined, match="not good, or no longer"):
        await GateIdentity(world.folder / "berlin").join(world.public, token)


async def test_neither_a_guess_nor_the_token_of_a_removed_gate_lets_anybody_join(world: World) -> None:
    token = await world.token()
    await world.gates.remove("berlin", "sam", via="api")
    for guess in (token, "", "0" * 43, "-"):
        with pytest.raises(NotJoined, match="not good, or no longer"):
            await GateIdentity(world.folder / "berlin").join(world.public, guess)


async def test_a_join_token_does_not_cross_a_network_in_the_clear(world: World) -> None:
    with pytest.raises(NotJoined, match="by https"):
        await GateIdentity(world.folder / "berlin").join("http://broker.example", "token")


async def test_without_a_door_nobody_joins(parts: Parts, anyone: httpx2.AsyncClient) -> None:
    answer = await anyone.post("/gate/join", json={"token": "t", "request": ""})
    assert (answer.status_code, answer.json()["code"]) == (409, "no-door")


async def test_a_request_that_is_not_signed_with_its_own_key_is_refused(world: World) -> None:
    honest, other = GateIdentity(world.folder / "a"), GateIdentity(world.folder / "b")
    for it in (honest, other):
        it.folder.mkdir()
    der = [ssl.PEM_cert_to_DER_cert(_as_certificate(it._request())) for it in (honest, other)]
    # The first's body with the second's signature.
    mixed = der[0][:-60] + der[1][-60:]
    text = ssl.DER_cert_to_PEM_cert(mixed).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    for wrong in (text, "", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"):
        outcome = await world.gates.join(await world.token(), wrong, "")
        assert isinstance(outcome, Refusal)
        assert outcome.code == "invalid"


def _as_certificate(request: str) -> str:
    return request.replace("CERTIFICATE REQUEST", "CERTIFICATE")


# ------------------------------------------------------ refused at the door


async def test_nobody_comes_through_the_door_without_a_certificate(world: World) -> None:
    await world.join()
    with pytest.raises(REFUSED):
        await world.asked_with(world.context("", ""))


async def test_a_certificate_of_another_authority_is_refused_in_the_handshake(world: World) -> None:
    identity, now = await world.join(), world.clock.now()
    # It names itself as ours does.
    other = GateCa.new(world.ca().id, now)
    shown = other.sign("berlin", read_request(identity._request()), now)
    with pytest.raises(REFUSED):
        await world.asked_with(world.context(shown.certificate, identity.kept.next_key))


async def test_a_certificate_that_has_ended_is_refused_in_the_handshake(world: World) -> None:
    world.clock.ahead = -LIFETIME - dt.timedelta(minutes=1)
    identity = await world.join()
    world.clock.ahead = dt.timedelta()
    await world.door.refresh()
    it = identity.kept
    with pytest.raises(REFUSED):
        await world.asked_with(world.context(it.certificate, it.key))
    assert await world.gates.known(it.certificate) is None, "nor would it be without TLS"


async def test_the_doors_own_certificate_is_no_gates(world: World) -> None:
    await world.join()
    key, now = new_key(), world.clock.now()
    with pytest.raises(REFUSED):
        await world.asked_with(world.context(world.ca().sign_door(key, now), key_pem(key)))


async def test_a_certificate_that_nobody_wrote_down_opens_nothing_whoever_signed_it(world: World) -> None:
    identity, now = await world.join(), world.clock.now()
    stolen = world.ca().sign("berlin", read_request(identity._request()), now)
    assert await world.asked_with(world.context(stolen.certificate, identity.kept.next_key)) == 401
    unknown = world.ca().sign("nobody", read_request(identity._request()), now)
    assert await world.asked_with(world.context(unknown.certificate, identity.kept.next_key)) == 401


async def test_an_older_tls_is_refused(world: World) -> None:
    it = (await world.join()).kept
    context = world.context(it.certificate, it.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(REFUSED):
        await world.asked_with(context)


async def test_a_client_that_names_no_server_is_let_in_no_easier(world: World) -> None:
    it = (await world.join()).kept
    for shown, good in (((it.certificate, it.key), True), (("", ""), False)):
        context = world.context(*shown)
        context.check_hostname = False
        async with httpx2.AsyncClient(verify=context, base_url=world.address) as http:
            ask = http.post("/gate/renew", json={"gate": "berlin", "progress": []})
            if good:
                assert (await ask).status_code == 200
            else:
                with pytest.raises(REFUSED):
                    await ask


async def test_the_door_answers_gates_questions_and_nothing_else(world: World) -> None:
    identity = await world.join()
    async with identity.client(5.0) as http:
        for path in (
            "/api/v1/requests",
            "/healthz",
            "/",
            "/login",
            "/scim/v2/Users",
            "/gate/join",
            "/metrics",
        ):
            assert (await http.get(path)).status_code == 404, path


async def test_the_token_of_the_houses_own_gates_opens_nothing_at_the_door(
    world: World, parts: Parts
) -> None:
    identity = await world.join()
    await world.gates.remove("berlin", "sam", via="api")
    async with identity.client(5.0) as http:
        bearer = {"Authorization": f"Bearer {parts.gate_token}"}
        answer = await http.post("/gate/renew", json={"gate": "berlin", "progress": []}, headers=bearer)
    assert answer.status_code == 401


# -------------------------------------------------------- one gate, another


def _questions(authority: RemoteAuthority, gate: str) -> Iterator[Awaitable[Any]]:
    knock = Knock(gate, "postgres", "ada", "t", "prod-db", "", "127.0.0.1:5")
    yield authority.admit(knock)
    yield authority.start_login(knock)
    yield authority.renew(gate, [])
    yield authority.hold(gate, "G-1")
    yield authority.close(gate, Closing("S-1", "client", "", 0, "", 0, 0, 0))
    yield authority.ask_review(gate, HELD)
    yield authority.take_run(gate, "V-1", "S-1", "the digest")
    yield authority.finish_run(gate, "V-1", "DELETE 7")
    yield authority.withdraw_review(gate, "V-1", "")
    yield authority.ship(gate, "S-1", 0, b"forged\n")
    yield anext(authority.notices(gate))


async def test_a_gate_asks_nothing_in_the_name_of_another(world: World) -> None:
    await world.join("paris")
    authority = world.authority(await world.join("berlin"))
    for name in ("paris", "paris/0", "berlin-2", "berlin.paris", "", "Berlin"):
        for question in _questions(authority, name):
            with pytest.raises(ConnectionError, match=r"403|no recording"):
                await question
    assert world.said.heard == []


def test_every_question_of_a_gate_is_among_those_tried() -> None:
    asked = {str(getattr(it, "path", "")) for it in router.routes}
    tried = {"admit", "login", "renew", "hold", "close", "review", "run", "finish", "withdraw", "recording"}
    without_a_name = {"/gate/client-ca", "/gate/identity"}
    assert asked - without_a_name == {f"/gate/{name}" for name in tried | {"notices"}}


async def test_a_gate_cannot_pass_for_the_broker(world: World) -> None:
    identity, victim = await world.join("paris"), await world.join("berlin")
    it = identity.kept
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = world.folder / "false.pem"
    file.write_text(it.certificate + it.key)
    context.load_cert_chain(file)
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    kept = victim._file.read_bytes()
    victim._file.write_bytes(kept.replace(world.address.encode(), f"https://127.0.0.1:{port}".encode()))
    async with server:
        with pytest.raises(ConnectionError):
            await world.authority(victim).renew("berlin", [])
    assert heard == []


# ------------------------------------------------------- renewal and removal


async def test_a_renewed_gate_goes_on_and_its_former_certificate_opens_nothing(world: World) -> None:
    identity = await world.join()
    authority, before = world.authority(identity), identity.kept
    await authority.renew("berlin", [])
    await identity.renew()
    after = identity.kept
    assert after.key != before.key
    assert after.certificate != before.certificate
    # Until the next one is in use, the one before it is good: an answer that was lost locks nobody out.
    assert await world.asked_with(world.context(before.certificate, before.key)) == 200
    await authority.renew("berlin", [])  # with the new one, without a start
    assert await world.asked_with(world.context(before.certificate, before.key)) == 401


async def test_a_renewal_whose_answer_was_lost_is_asked_again(world: World) -> None:
    identity = await world.join()
    bearer = await world.gates.known(identity.kept.certificate)
    assert bearer is not None
    assert not isinstance(await world.gates.renew(bearer, identity._request()), Refusal)
    await GateIdentity(identity.folder).renew()  # after a start, say
    await world.authority(identity).renew("berlin", [])


async def test_a_copied_identity_is_found_by_its_renewal(world: World) -> None:
    identity = await world.join()
    copy = GateIdentity(world.folder / "copy")
    copy.folder.mkdir()
    copy._file.write_bytes(identity._file.read_bytes())
    await copy.renew()
    await world.authority(copy).renew("berlin", [])
    with pytest.raises(ConnectionError, match="does not know this gate"):
        await world.authority(identity).renew("berlin", [])
    with pytest.raises(NotJoined, match="no gate of ours"):
        await identity.renew()


async def test_certificates_are_renewed_at_half_of_their_life(world: World) -> None:
    world.gates.lifetime = dt.timedelta(seconds=2)
    identity = await world.join()
    first, told = identity.kept.certificate, []
    keeping = asyncio.create_task(identity.keep(lambda *said, **more: told.append((said, more))))
    async with asyncio.timeout(30):
        while identity.kept.certificate == first:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    keeping.cancel()
    assert told == []
    await world.authority(identity).renew("berlin", [])


async def test_a_removed_gate_is_turned_away_at_once_and_hears_nothing_more(world: World) -> None:
    world.said.notices_to_come = [A_NOTICE]
    identity = await world.join()
    authority = world.authority(identity)
    notices = authority.notices("berlin")
    assert await anext(notices) == A_NOTICE
    await world.gates.remove("berlin", "sam", via="api")
    with pytest.raises(ConnectionError, match="does not know this gate"):
        await authority.renew("berlin", [])  # over the connection that it had
    async with asyncio.timeout(5):
        with pytest.raises((StopAsyncIteration, ConnectionError)):
            await anext(notices)
    with pytest.raises(NotJoined):
        await identity.renew()


async def test_a_gate_that_is_added_again_takes_the_place_of_the_one_before(world: World) -> None:
    before = await world.join("berlin", "old machine")
    old = world.authority(before)
    token = await world.token("berlin")
    await old.renew("berlin", [])  # it goes on until the other has joined
    after = GateIdentity(world.folder / "new machine")
    await after.join(world.public, token)
    await world.authority(after).renew("berlin", [])
    with pytest.raises(ConnectionError, match="does not know this gate"):
        await old.renew("berlin", [])


# ------------------------------------------------------------ the authority


async def test_a_gate_starts_by_what_it_has_and_joins_anew_where_that_is_over(world: World) -> None:
    identity = await world.join()
    first = identity.kept.certificate
    assert await identity.begin(world.public, "a token that was used long ago") == ""
    assert identity.kept.certificate != first
    await world.gates.remove("berlin", "sam", via="api")
    with pytest.raises(NotJoined, match="no gate of ours"):
        await identity.begin(world.public, "")
    assert await identity.begin(world.public, await world.token()) == ""
    await world.authority(identity).renew("berlin", [])
    await world.door.stop()
    assert "does not answer" in await identity.begin(world.public, ""), "it waits for its broker, shut"


async def test_an_authority_is_replaced_without_a_gap(world: World) -> None:
    identity = await world.join()
    authority, before = world.authority(identity), identity.kept
    assert await world.gates.rotate("sam", via="api") is None
    await world.door.refresh()
    await authority.renew("berlin", [])  # both are trusted

    now = world.clock.now() + SETTLING
    trust = world.gates.trust
    assert trust.signing(now) is trust.authorities[1]
    assert trust.serving(now) is trust.authorities[0], "no gate knows the new one before its renewal"
    world.clock.ahead = SETTLING
    await identity.renew()
    assert identity.kept.trusted == trust.bundle(now)
    await authority.renew("berlin", [])

    world.clock.ahead = SETTLING + LIFETIME - dt.timedelta(hours=1)
    await identity.renew()
    world.clock.ahead = SETTLING + LIFETIME + dt.timedelta(seconds=1)
    await world.door.refresh()
    assert trust.trusted(world.clock.now()) == (trust.authorities[1],)
    # TLS goes by the real time, by which the first certificate is still good: only its authority is not.
    with pytest.raises(REFUSED):
        await world.asked_with(world.context(before.certificate, before.key))


async def test_an_authority_is_not_replaced_while_it_is_being_replaced(world: World) -> None:
    assert await world.gates.rotate("sam", via="api") is None
    refused = await world.gates.rotate("sam", via="api")
    assert isinstance(refused, Refusal)
    assert refused.code == "rotating"
    world.clock.ahead = SETTLING + LIFETIME
    assert await world.gates.rotate("sam", via="api") is None


async def test_an_old_authority_is_replaced_by_itself(world: World) -> None:
    world.clock.ahead = dt.timedelta(days=181)
    await world.gates.refresh()
    assert len(world.gates.trust.authorities) == 2


async def test_a_second_broker_reads_the_same_authority_and_not_without_the_seal(world: World) -> None:
    other = Gates(world.gates.service, Seal([b"k" * 32]))
    await other.refresh()
    now = world.clock.now()
    assert other.trust.bundle(now) == world.gates.trust.bundle(now)
    with pytest.raises(ValueError, match="sealed with the key"):
        await Gates(world.gates.service, Seal([b"x" * 32])).refresh()


def test_who_signs_and_who_is_trusted_follows_from_the_ages() -> None:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    first, second = GateCa.new("GA-1", start), GateCa.new("GA-2", start + dt.timedelta(days=10))
    trust, made = Trust((first, second)), second.made_at
    moments = [
        (made, first, first, (first, second)),
        (made + SETTLING, second, first, (first, second)),
        (made + SETTLING + LIFETIME, second, second, (second,)),
    ]
    for now, signing, serving, trusted in moments:
        assert (trust.signing(now), trust.serving(now), trust.trusted(now)) == (signing, serving, trusted)
        # Whatever was signed last by one that is trusted no longer has ended by then.
        assert trust.signing(now - LIFETIME) in trusted


# ------------------------------------------------------- who says what there is


async def test_administrators_invite_see_and_remove_gates(call: Callable[[str], Any], world: World) -> None:
    sam = await call("sam")
    made = await sam.post("/api/v1/gates/add", json={"name": "berlin"})
    assert made.status_code == 201
    assert made.json()["address"] == "http://broker.test"
    await GateIdentity(world.folder / "berlin").join(world.public, made.json()["token"])
    (listed,) = (await sam.get("/api/v1/gates")).json()
    assert (listed["name"], listed["added_by"]) == ("berlin", "sam")
    assert listed["joined_at"] < listed["until"]
    assert "token" not in listed
    assert (await sam.post("/api/v1/gates/rotate", json={})).status_code == 204
    assert (await sam.post("/api/v1/gates/rotate", json={})).json()["code"] == "rotating"
    assert (await sam.post("/api/v1/gates/berlin/remove", json={})).status_code == 204
    assert (await sam.post("/api/v1/gates/berlin/remove", json={})).status_code == 404
    assert (await sam.get("/api/v1/gates")).json() == []
    async with world.gates.service.store.read() as tx:
        rows = await tx.exec_driver_sql("select kind, actor from audit where kind like 'gate.%'")
    assert [tuple(row) for row in rows] == [
        ("gate.authority_made", ""),
        ("gate.added", "sam"),
        ("gate.joined", "gate:berlin"),
        ("gate.authority_made", "sam"),
        ("gate.removed", "sam"),
    ]


async def test_nobody_else_invites_sees_or_removes_gates(call: Callable[[str], Any], world: World) -> None:
    await world.join()
    for person in ("ada", "grace"):
        client = await call(person)
        answers = [
            await client.get("/api/v1/gates"),
            await client.post("/api/v1/gates/add", json={"name": "mine"}),
            await client.post("/api/v1/gates/berlin/remove", json={}),
            await client.post("/api/v1/gates/rotate", json={}),
        ]
        assert [it.status_code for it in answers] == [403] * 4
        assert {it.json()["code"] for it in answers} == {"not-an-admin"}
    assert [it.name for it in await world.gates.listed()] == ["berlin"]
