"""The gate's questions, answered from the database at that moment, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from broker.audit import all_entries
from broker.authority import LocalAuthority
from broker.bus.in_process import InProcessBus
from broker.config import Config, PostgresTarget, SecretRef
from broker.credentials.seal import Seal
from broker.identity.certificates import Bearer
from broker.identity.directory import Person, StaticDirectory
from broker.identity.tokens import TokenKind, Tokens
from broker.service import Service
from broker.store import credentials, sessions, tables
from broker.store.credentials import SealedLogin
from broker.store.engine import Store
from tests.broker.proving import MESSAGES, answer_to, proof_of
from workflows import scram
from workflows.access import Wish
from workflows.gate import Admission, Closing, GrantEnded, GrantMinted, Knock, LoginLink, Progress
from workflows.model import EndReason, Grant, Principal, Refusal, Story

SEAL = Seal([b"k" * 32])
PASSWORD = "what the target wants"


class Changing:
    """A configuration that a test may change under the service, as a reload would."""

    def __init__(self, config: Config) -> None:
        target = PostgresTarget("db", 5432, "shop", "verify-full", "", "keeper", SecretRef("env:X"))
        self.config = replace(config, targets={"prod-db": target})

    def __call__(self) -> Config:
        return self.config

    def person(self, name: str, **change: Any) -> None:
        people = dict(self.config.directory.people)
        principal: Principal = replace(people[name].principal, **change)
        people[name] = Person(principal)
        self.config = replace(self.config, directory=StaticDirectory(people))


@pytest.fixture
def current(config: Config) -> Changing:
    return Changing(config)


@pytest.fixture
def authority(store: Store, clock: Any, chance: Any, current: Changing) -> LocalAuthority:
    service = Service(store, current, clock, chance, InProcessBus())
    return LocalAuthority(service, SEAL, 10.0)


@pytest.fixture
def tokens(store: Store, clock: Any, chance: Any) -> Tokens:
    return Tokens(store, clock, chance)


async def grant_to(
    authority: LocalAuthority, person: str = "ada", role: str = "readonly", *, ready: bool = True
) -> Grant:
    service = authority.service
    story = await service.submit(person, Wish("prod-db", role, timedelta(hours=1), "INC-1"), via="api")
    assert isinstance(story, Story)
    story = await service.approve(story.request.id, "linus", via="api")
    assert isinstance(story, Story)
    assert story.grant is not None
    if ready:
        now = service.clock.now()
        sealed = SEAL.close(PASSWORD, story.grant.id)
        async with service.store.write() as tx:
            login = SealedLogin(
                story.grant.id, "prod-db", f"pc_{story.grant.id}", sealed, SEAL.current, now, now
            )
            await credentials.add(tx, login)
    return story.grant


def knock(token: str, **more: str) -> Knock:
    who = {
        "gate": "g1",
        "protocol": "postgres",
        "principal": "ada",
        "resource": "prod-db",
        "role": "",
        "client": "c",
    }
    return Knock(token=token, **{**who, **more})


async def entry(tokens: Tokens, person: str = "ada") -> str:
    return (await tokens.issue(TokenKind.ENTRY, person, via="cli")).token


async def enter(authority: LocalAuthority, tokens: Tokens, **more: str) -> Admission:
    answer = await authority.admit(knock(await entry(tokens), **more))
    assert isinstance(answer, Admission)
    return answer


async def kinds(authority: LocalAuthority) -> list[str]:
    async with authority.service.store.read() as tx:
        return [e.kind async for e in all_entries(tx) if e.kind.startswith(("session", "entry", "recording"))]


async def test_a_live_grant_opens_a_session_with_its_own_login(
    authority: LocalAuthority, tokens: Tokens
) -> None:
    grant = await grant_to(authority)
    admission = await enter(authority, tokens, resource="shop")
    assert (admission.grant, admission.principal, admission.resource) == (grant.id, "ada", "prod-db")
    assert (admission.remaining, admission.lease, admission.terms) == (3600.0, 10.0, grant.terms)
    assert (admission.upstream.user, admission.upstream.password) == (f"pc_{grant.id}", PASSWORD)
    assert await kinds(authority) == ["session.opened"]
    assert PASSWORD not in repr(admission)


async def test_a_failed_login_is_told_in_the_same_words_whoever_it_was(
    authority: LocalAuthority, tokens: Tokens, current: Changing, clock: Any
) -> None:
    await grant_to(authority)
    bobs, old = await entry(tokens, "bob"), await entry(tokens)
    login = (await tokens.issue(TokenKind.LOGIN, "ada", via="cli")).token
    answers = [await authority.admit(knock(token)) for token in ("", "guess", bobs, login)]
    clock.advance(minutes=10)
    answers.append(await authority.admit(knock(old)))
    current.person("ada", active=False)
    answers.append(await authority.admit(knock(await entry(tokens))))
    assert {str(answer) for answer in answers} == {str(answers[0])}
    assert all(isinstance(answer, Refusal) and answer.code == "login-failed" for answer in answers)


async def test_without_a_grant_a_resource_that_is_there_looks_like_one_that_is_not(
    authority: LocalAuthority, tokens: Tokens
) -> None:
    token = await entry(tokens, "zoe")
    there = await authority.admit(knock(token, principal="zoe"))
    nowhere = await authority.admit(knock(token, principal="zoe", resource="prod-dc"))
    assert isinstance(there, Refusal)
    assert isinstance(nowhere, Refusal)
    assert str(there).replace("prod-db", "") == str(nowhere).replace("prod-dc", "")
    assert await kinds(authority) == ["entry.refused", "entry.refused"]


async def test_the_grant_of_another_person_another_role_or_another_protocol_opens_nothing(
    authority: LocalAuthority, tokens: Tokens
) -> None:
    await grant_to(authority, "bob")
    await grant_to(authority, "ada")
    token = await entry(tokens)
    for wrong in ({"role": "readwrite"}, {"protocol": "ssh"}, {"resource": "other"}):
        answer = await authority.admit(knock(token, **wrong))
        assert isinstance(answer, Refusal)
        assert answer.code == "no-grant"
    carol = await authority.admit(knock(await entry(tokens, "grace"), principal="grace"))
    assert isinstance(carol, Refusal)


async def test_of_two_roles_one_has_to_be_named(authority: LocalAuthority, tokens: Tokens) -> None:
    await grant_to(authority)
    second = await grant_to(authority, role="readwrite")
    answer = await authority.admit(knock(await entry(tokens)))
    assert isinstance(answer, Refusal)
    assert answer.code == "which-role"
    assert (await enter(authority, tokens, role="readwrite")).grant == second.id


@pytest.mark.parametrize("how", ["expired", "released", "revoked"])
async def test_an_ended_grant_opens_nothing_at_that_very_moment(
    authority: LocalAuthority, tokens: Tokens, clock: Any, how: str
) -> None:
    grant = await grant_to(authority)
    await enter(authority, tokens)
    if how == "expired":
        clock.advance(hours=1)
    elif how == "released":
        await authority.service.release(grant.id, "ada", via="cli")
    else:
        await authority.service.revoke(grant.id, "linus", via="cli")
    assert isinstance(await authority.admit(knock(await entry(tokens))), Refusal)


async def test_a_login_that_is_not_ready_or_does_not_unseal_opens_nothing(
    authority: LocalAuthority, tokens: Tokens
) -> None:
    await grant_to(authority, ready=False)
    waiting = await authority.admit(knock(await entry(tokens)))
    assert isinstance(waiting, Refusal)
    assert waiting.code == "not-ready"
    await grant_to(authority, "bob")
    authority.seal = Seal([b"o" * 32])
    foreign = await authority.admit(knock(await entry(tokens, "bob"), principal="bob"))
    assert isinstance(foreign, Refusal)
    assert foreign.code == "not-ready"


async def test_no_more_sessions_than_the_terms_allow(
    authority: LocalAuthority, tokens: Tokens, current: Changing
) -> None:
    policy = current.config.policy
    resource = policy.resources["prod-db"]
    roles = tuple(replace(role, terms=replace(role.terms, max_sessions=2)) for role in resource.roles)
    resources = {"prod-db": replace(resource, roles=roles)}
    current.config = replace(current.config, policy=replace(policy, resources=resources))
    await grant_to(authority)
    token = await entry(tokens)
    answers = await asyncio.gather(*(authority.admit(knock(token)) for _ in range(5)))
    assert sum(isinstance(answer, Admission) for answer in answers) == 2
    assert {a.code for a in answers if isinstance(a, Refusal)} == {"too-many-sessions"}
    first = next(answer for answer in answers if isinstance(answer, Admission))
    await authority.close("g1", Closing(first.session, "client", "", 0, "", 0, 0, 0))
    assert isinstance(await authority.admit(knock(token)), Admission)


async def test_a_lease_is_renewed_only_for_open_sessions_of_this_gate_under_a_live_grant(
    authority: LocalAuthority, tokens: Tokens, clock: Any, current: Changing
) -> None:
    grant = await grant_to(authority)
    mine, other = await enter(authority, tokens), await enter(authority, tokens, gate="g2")
    said = [Progress(s, 5, "ab" * 32) for s in (mine.session, other.session, "S-UNKNOWN")]
    clock.advance(minutes=20)
    assert (await authority.renew("g1", said)).remaining == {mine.session: 2400.0}
    current.person("ada", active=False)
    assert (await authority.renew("g1", said)).remaining == {}
    current.person("ada", active=True)
    assert (await authority.renew("g1", said)).remaining == {mine.session: 2400.0}
    await authority.service.revoke(grant.id, "linus", via="api")
    assert (await authority.renew("g1", said)).remaining == {}
    assert (await authority.renew("g1", [])).remaining == {}


async def test_how_far_a_recording_has_come_is_anchored_now_and_then(
    authority: LocalAuthority, tokens: Tokens, clock: Any
) -> None:
    await grant_to(authority)
    session = (await enter(authority, tokens)).session
    for n in range(1, 31):
        await authority.renew("g1", [Progress(session, n, f"{n:064x}")])
        clock.advance(seconds=3)
    assert (await kinds(authority)).count("recording.anchored") == 2
    async with authority.service.store.read() as tx:
        record = await sessions.find(tx, session)
    assert record is not None
    assert (record.entries, record.head) == (30, f"{30:064x}")


async def test_a_close_that_is_repeated_or_from_another_gate_counts_once(
    authority: LocalAuthority, tokens: Tokens
) -> None:
    await grant_to(authority)
    session = (await enter(authority, tokens)).session
    closing = Closing(session, "client", "bye", 9, "ab" * 32, 3, 1, 42)
    await authority.close("g2", closing)
    await authority.close("g1", closing)
    await authority.close("g1", replace(closing, rows=0, head="forged"))
    async with authority.service.store.read() as tx:
        record = await sessions.find(tx, session)
    assert record is not None
    assert (record.close_reason, record.rows, record.head) == ("client", 42, "ab" * 32)
    assert (await kinds(authority)).count("session.closed") == 1
    assert (await authority.renew("g1", [Progress(session, 10, "cd" * 32)])).remaining == {}


async def test_a_session_whose_gate_fell_silent_is_closed_as_lost_until_the_gate_says_otherwise(
    authority: LocalAuthority, tokens: Tokens, clock: Any
) -> None:
    await grant_to(authority)
    session = (await enter(authority, tokens)).session
    clock.advance(seconds=19)
    assert await authority.close_lost() == 0
    clock.advance(seconds=2)
    assert await authority.close_lost() == 1
    assert await authority.close_lost() == 0
    assert (await authority.renew("g1", [Progress(session, 1, "")])).remaining == {}
    await authority.close("g1", Closing(session, "cut", "lease", 4, "ab" * 32, 1, 0, 0))
    async with authority.service.store.read() as tx:
        record = await sessions.find(tx, session)
    assert record is not None
    assert record.close_reason == "cut"
    assert await kinds(authority) == ["session.opened", "session.lost", "session.closed"]


async def test_a_gate_is_told_every_live_grant_first_and_then_what_changes(
    authority: LocalAuthority, clock: Any
) -> None:
    old = await grant_to(authority)
    notices = authority.notices("g1")
    assert await asyncio.wait_for(anext(notices), 5) == GrantMinted(old.id, 3600.0)
    waiting = await grant_to(authority, "bob", ready=False)
    await authority.service.release(old.id, "ada", via="cli")
    ended = await asyncio.wait_for(anext(notices), 5)
    assert ended == GrantEnded(old.id, EndReason.RELEASED, f"{old.id} released by ada")
    now = clock.now()
    async with authority.service.store.write() as tx:
        await credentials.add(tx, SealedLogin(waiting.id, "prod-db", "pc_b", "x", SEAL.current, now, now))
    # Nobody publishes: the look at the database finds it.
    assert await asyncio.wait_for(anext(notices), 5) == GrantMinted(waiting.id, 3600.0)
    clock.advance(hours=1)
    expired = await asyncio.wait_for(anext(notices), 5)
    assert isinstance(expired, GrantEnded)
    assert expired.reason is EndReason.EXPIRED
    await notices.aclose()


async def test_a_database_that_is_away_is_a_connection_error_to_the_gate(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise SQLAlchemyError("the address of the database, and its password")

    monkeypatch.setattr(authority.service.store, "write", away)
    monkeypatch.setattr(authority.service.store, "read", away)
    notices = authority.notices("g1")
    calls: list[Callable[[], Any]] = [
        lambda: authority.admit(knock("x")),
        lambda: authority.renew("g1", [Progress("S", 1, "")]),
        lambda: authority.hold("g1", "G-1"),
        lambda: authority.close("g1", Closing("S", "client", "", 0, "", 0, 0, 0)),
        lambda: anext(notices),
    ]
    for call in calls:
        with pytest.raises(ConnectionError) as caught:
            await call()
        assert "password" not in str(caught.value)


# --- by a proof of the token, which stays with its owner


def proving(token: str, principal: str = "ada", **more: Any) -> Knock:
    return replace(knock("", principal=principal, **more), proof=proof_of(token, principal))


async def test_a_proof_opens_what_its_token_would(authority: LocalAuthority, tokens: Tokens) -> None:
    grant = await grant_to(authority)
    older, newer = await entry(tokens), await entry(tokens)
    for token in (older, newer, older):
        said = proving(token)
        answer = await authority.admit(said)
        assert isinstance(answer, Admission)
        assert answer.grant == grant.id
        assert said.proof is not None
        assert answer.signature == answer_to(said.proof, token, "ada")


async def test_a_proof_of_nothing_good_is_refused_in_the_same_words(
    authority: LocalAuthority, tokens: Tokens, current: Changing, clock: Any
) -> None:
    await grant_to(authority)
    mine, bobs, old = await entry(tokens), await entry(tokens, "bob"), await entry(tokens)
    login = (await tokens.issue(TokenKind.LOGIN, "ada", via="cli")).token
    await tokens.end(old, via="api")
    right = proof_of(mine, "ada")
    wrong = [
        proving("guess"),
        proving(bobs),
        replace(proving(bobs), proof=proof_of(bobs, "bob")),
        proving(login),
        proving(old),
        replace(proving(mine), proof=replace(right, messages=right.messages + ",x")),
        replace(proving(mine), proof=replace(right, value=right.value[:31])),
        replace(proving(mine), proof=replace(right, value=b"")),
    ]
    answers = [await authority.admit(it) for it in wrong]
    clock.advance(minutes=10)
    answers.append(await authority.admit(proving(mine)))
    fresh = await entry(tokens)
    current.person("ada", active=False)
    answers.append(await authority.admit(proving(fresh)))
    assert {str(answer) for answer in answers} == {str(answers[0])}
    assert all(isinstance(answer, Refusal) and answer.code == "login-failed" for answer in answers)


async def test_that_somebody_exists_costs_no_more_work(
    authority: LocalAuthority, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    await entry(tokens)
    checked: list[scram.Proof] = []
    really = scram.signature

    def counting(known: scram.Verifier, proof: scram.Proof) -> bytes | None:
        checked.append(proof)
        return really(known, proof)

    monkeypatch.setattr(scram, "signature", counting)
    for somebody in ("ada", "nobody"):
        answer = await authority.admit(proving("guess", somebody))
        assert isinstance(answer, Refusal)
    assert [proof == proof_of("guess", "ada") for proof in checked] == [True, False]


async def test_the_database_holds_nothing_to_log_in_with(
    authority: LocalAuthority, tokens: Tokens, store: Store
) -> None:
    """Whoever reads it has verifiers, and what follows from them opens nothing."""
    await grant_to(authority)
    token = await entry(tokens)
    async with store.read() as tx:
        (row,) = (await tx.execute(select(tables.tokens))).all()
    assert token not in str(row)
    known = scram.Verifier(bytes.fromhex(row.stored_key), bytes.fromhex(row.server_key))
    mask = hmac.digest(known.stored_key, MESSAGES.encode(), "sha256")
    for key in (known.stored_key, known.server_key, bytes(32)):
        value = bytes(a ^ b for a, b in zip(key, mask, strict=True))
        answer = await authority.admit(replace(proving(token), proof=scram.Proof(MESSAGES, value)))
        assert isinstance(answer, Refusal)
    assert isinstance(await authority.admit(proving(row.hash)), Refusal)


# --- by a certificate


def bearing(authority: LocalAuthority, grant: str, principal: str = "ada", **more: Any) -> Knock:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    public = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    now = authority.service.clock.now()
    made = authority.certificates.sign(Bearer(principal, grant), public, now, now + timedelta(minutes=10))
    certificate = x509.load_pem_x509_certificate(made.encode()).public_bytes(Encoding.DER)
    return replace(knock("", principal=principal, **more), certificate=certificate)


async def test_a_certificate_opens_its_own_grant_and_no_other(
    authority: LocalAuthority, tokens: Tokens, current: Changing, clock: Any
) -> None:
    grant = await grant_to(authority)
    mine = bearing(authority, grant.id)
    answer = await authority.admit(mine)
    assert isinstance(answer, Admission)
    assert answer.grant == grant.id
    refused = {
        "no-grant": [bearing(authority, "G-other"), replace(mine, resource="other-db")],
        "login-failed": [
            replace(mine, principal="zoe"),
            replace(mine, certificate=mine.certificate[:-1]),
            bearing(authority, grant.id, "nobody"),
        ],
    }
    for code, knocks in refused.items():
        for it in knocks:
            other = await authority.admit(it)
            assert isinstance(other, Refusal)
            assert other.code == code
    clock.advance(minutes=10)
    late = await authority.admit(mine)
    assert isinstance(late, Refusal)
    fresh = bearing(authority, grant.id)
    current.person("ada", active=False)
    assert isinstance(await authority.admit(fresh), Refusal)


# ----------------------------------------------------- entering by a browser


async def linked(authority: LocalAuthority) -> LoginLink:
    authority.browsers, authority.public_url = True, "https://access.example"
    link = await authority.start_login(knock("", client="192.0.2.1:5"))
    assert isinstance(link, LoginLink)
    return link


async def test_who_confirms_the_code_in_a_browser_enters_once(authority: LocalAuthority) -> None:
    await grant_to(authority)
    link = await linked(authority)
    assert link.link == f"https://access.example/device?code={link.code}"
    assert link.device not in repr(link)
    what = await authority.devices.waits(link.code)
    assert what == "an SSH client at 192.0.2.1:5, as ada, which asks for prod-db"
    waiting = await authority.admit(knock("", device=link.device))
    assert isinstance(waiting, Refusal)
    assert waiting.code == "login-pending"
    ada = authority.service.principal("ada")
    assert ada is not None
    assert await authority.devices.decide(link.code, ada, yes=True)
    assert isinstance(await authority.admit(knock("", device=link.device)), Admission)
    again = await authority.admit(knock("", device=link.device))
    assert isinstance(again, Refusal)
    assert again.code == "login-failed"


async def test_a_code_that_another_confirms_or_turns_down_opens_nothing(authority: LocalAuthority) -> None:
    await grant_to(authority)
    for person, yes in (("linus", True), ("ada", False)):
        link = await linked(authority)
        somebody = authority.service.principal(person)
        assert somebody is not None
        await authority.devices.decide(link.code, somebody, yes=yes)
        answer = await authority.admit(knock("", device=link.device))
        assert isinstance(answer, Refusal)
        assert answer.code == "login-failed"


async def test_neither_the_code_nor_a_guess_is_what_the_gate_holds(authority: LocalAuthority) -> None:
    await grant_to(authority)
    link = await linked(authority)
    ada = authority.service.principal("ada")
    assert ada is not None
    await authority.devices.decide(link.code, ada, yes=True)
    for device in (link.code, "guess"):
        answer = await authority.admit(knock("", device=device))
        assert isinstance(answer, Refusal)
        assert answer.code == "login-failed"


async def test_without_a_way_to_log_in_no_link_is_given_out(authority: LocalAuthority) -> None:
    answer = await authority.start_login(knock(""))
    assert isinstance(answer, Refusal)
    assert answer.code == "no-browser-login"
