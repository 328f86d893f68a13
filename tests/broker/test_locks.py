"""Locks: what is locked is cut, opens nothing and decides nothing, until whoever may takes the lock away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.audit import all_entries
from broker.authority import LocalAuthority
from broker.bus.in_process import InProcessBus
from broker.config import Config, PostgresTarget, SecretRef
from broker.credentials.seal import Seal
from broker.identity.certificates import Bearer
from broker.identity.tokens import TokenKind, Tokens, device_of
from broker.locks import Locked, Locks
from broker.service import Service
from broker.store import credentials
from broker.store.credentials import SealedLogin
from broker.store.engine import Store
from tests.broker.test_certificates import der, public
from workflows.access import Wish
from workflows.gate import Admission, Knock, Progress, SessionKilled
from workflows.lock import LockKind
from workflows.model import Grant, Refusal, Story

SEAL = Seal([b"k" * 32])


@pytest.fixture
def locked_config(config: Config) -> Config:
    target = PostgresTarget("db", 5432, "shop", "verify-full", "", "keeper", SecretRef("env:X"))
    return replace(config, targets={"prod-db": target})


@pytest.fixture
def authority(store: Store, clock: Any, chance: Any, locked_config: Config) -> LocalAuthority:
    service = Service(store, lambda: locked_config, clock, chance, InProcessBus())
    return LocalAuthority(service, SEAL, 10.0)


@pytest.fixture
def service(authority: LocalAuthority) -> Service:
    return authority.service


@pytest.fixture
def locks(service: Service) -> Locks:
    return Locks(service)


@pytest.fixture
def tokens(store: Store, clock: Any, chance: Any) -> Tokens:
    return Tokens(store, clock, chance)


async def granted(authority: LocalAuthority, person: str = "ada") -> Grant:
    service = authority.service
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-1")
    asked = await service.submit(person, wish, via="api")
    assert isinstance(asked, Story), asked
    story = await service.approve(asked.request.id, "linus", via="api")
    assert isinstance(story, Story), story
    assert story.grant is not None
    now = service.clock.now()
    sealed = SEAL.close("pw", story.grant.id)
    login = SealedLogin(story.grant.id, "prod-db", f"pc_{story.grant.id}", sealed, SEAL.current, now, now)
    async with service.store.write() as tx:
        await credentials.add(tx, login)
    return story.grant


def knock(token: str, principal: str = "ada", certificate: bytes = b"") -> Knock:
    return Knock("g1", "postgres", principal, token, "prod-db", "", "127.0.0.1", None, certificate)


async def entered(authority: LocalAuthority, tokens: Tokens, person: str = "ada", device: str = "") -> str:
    issued = await tokens.issue(TokenKind.ENTRY, person, via="cli", device=device)
    answer = await authority.admit(knock(issued.token, person))
    assert isinstance(answer, Admission), answer
    return answer.session


def made_for(authority: LocalAuthority, grant: Grant, now: datetime) -> bytes:
    bearer, until = Bearer(grant.principal, grant.id), now + timedelta(minutes=10)
    return der(authority.certificates.sign(bearer, public(), now, until))


async def lock(locks: Locks, kind: LockKind, target: str = "", by: str = "sam") -> Locked:
    made = await locks.make(kind, target, by, via="cli", reason="a test of it")
    assert isinstance(made, Locked), made
    return made


async def code(answer: Any) -> str:
    outcome = await answer
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


async def test_a_locked_person_is_cut_logged_out_and_opens_nothing_until_unlocked(
    authority: LocalAuthority, service: Service, locks: Locks, tokens: Tokens
) -> None:
    grant = await granted(authority)
    session = await entered(authority, tokens)
    login = await tokens.issue(TokenKind.LOGIN, "ada", via="cli")
    password = await tokens.issue(TokenKind.ENTRY, "ada", via="cli")
    waits = await service.submit("bob", Wish("prod-db", reason="INC-2"), via="api")
    made = await lock(locks, LockKind.PERSON, "ada")
    assert (made.sessions, made.logins) == (1, 3)

    assert await tokens.check(TokenKind.LOGIN, login.token) is None
    assert isinstance(await authority.admit(knock(password.token)), Refusal)
    fresh = await tokens.issue(TokenKind.ENTRY, "ada", via="cli")
    assert isinstance(await authority.admit(knock(fresh.token)), Refusal)
    renewal = await authority.renew("g1", [Progress(session, 1, "ab" * 32)])
    assert renewal.remaining == {}
    assert isinstance(renewal.ends[0], SessionKilled)
    assert await code(service.submit("ada", Wish("prod-db", reason="INC-3"), via="api")) == "locked"
    assert service.login_stopped("ada") is not None
    assert service.login_stopped("bob") is None

    # Whom they would approve for, and what others would give them, is as good as nobody's.
    await lock(locks, LockKind.PERSON, "grace")
    assert isinstance(waits, Story)
    assert await code(service.approve(waits.request.id, "grace", via="api")) == "not-an-approver"

    ended = await locks.end("ada", "sam", via="cli")
    assert [str(one) for one in ended] == ["person ada"]  # type: ignore[union-attr]
    assert await entered(authority, tokens)
    assert (await service.story(grant.id)).grant.live(service.clock.now())  # type: ignore[union-attr]


async def test_what_a_locked_person_asked_for_is_approved_by_nobody(service: Service, locks: Locks) -> None:
    asked = await service.submit("ada", Wish("prod-db", reason="INC-1"), via="api")
    assert isinstance(asked, Story)
    await lock(locks, LockKind.PERSON, "ada")
    assert await code(service.approve(asked.request.id, "linus", via="api")) == "requester-inactive"
    await locks.end("ada", "sam", via="cli")
    assert isinstance(await service.approve(asked.request.id, "linus", via="api"), Story)


@pytest.mark.parametrize(("kind", "target"), [(LockKind.RESOURCE, "shop"), (LockKind.EVERYTHING, "")])
async def test_a_locked_resource_is_neither_asked_for_nor_approved_nor_entered(
    kind: LockKind, target: str, authority: LocalAuthority, service: Service, locks: Locks, tokens: Tokens
) -> None:
    await granted(authority)
    session = await entered(authority, tokens)
    waits = await service.submit("bob", Wish("prod-db", reason="INC-2"), via="api")
    assert isinstance(waits, Story)
    made = await lock(locks, kind, target)
    assert made.sessions == 1
    assert await code(service.submit("bob", Wish("prod-db", reason="INC-3"), via="api")) == "locked"
    assert await code(service.submit("olive", Wish("prod-db", reason="INC-3"), via="api")) == "locked"
    assert await code(service.approve(waits.request.id, "linus", via="api")) == "locked"
    password = await tokens.issue(TokenKind.ENTRY, "ada", via="cli")
    assert await code(authority.admit(knock(password.token))) == "locked"
    assert (await authority.renew("g1", [Progress(session, 1, "ab" * 32)])).remaining == {}
    # What takes access away goes on.
    assert isinstance(await service.deny(waits.request.id, "linus", via="api"), Story)
    everything = kind is LockKind.EVERYTHING
    assert (service.login_stopped("bob") is not None) is everything
    assert service.login_stopped("sam") is None
    await locks.end(target or "everything", "sam", via="cli")
    assert await entered(authority, tokens)


async def test_a_session_that_slips_in_beside_a_lock_falls_at_its_next_renewal(
    authority: LocalAuthority, locks: Locks, tokens: Tokens, store: Store
) -> None:
    """Admitted by a transaction that began before the lock, and so not among those that it cut."""
    from sqlalchemy import update

    from broker.store.tables import sessions

    await granted(authority)
    session = await entered(authority, tokens)
    await lock(locks, LockKind.RESOURCE, "prod-db")
    async with store.write() as tx:
        await tx.execute(update(sessions).values(killed_at=None, killed_by="", kill_reason=""))
    renewal = await authority.renew("g1", [Progress(session, 1, "ab" * 32)])
    assert renewal.remaining == {}
    assert "locked by sam" in renewal.ends[0].reason  # type: ignore[union-attr]


async def test_a_locked_device_ends_with_all_that_came_of_it_and_the_others_stay(
    authority: LocalAuthority, locks: Locks, tokens: Tokens, clock: Any
) -> None:
    grant = await granted(authority)
    stolen, kept = [await tokens.issue(TokenKind.LOGIN, "ada", via="cli") for _ in range(2)]
    there = await entered(authority, tokens, device=device_of(stolen.token))
    here = await entered(authority, tokens, device=device_of(kept.token))
    left = await tokens.issue(TokenKind.ENTRY, "ada", via="cli", device=device_of(stolen.token))
    made = await locks.make(LockKind.DEVICE, device_of(stolen.token), "ada", via="cli", reason="lost it")
    assert isinstance(made, Locked)
    assert (made.sessions, made.lock.principal) == (1, "ada")
    assert await tokens.check(TokenKind.LOGIN, stolen.token) is None
    assert await tokens.check(TokenKind.LOGIN, kept.token) is not None
    assert await code(authority.admit(knock(left.token))) == "login-failed"
    said = [Progress(session, 1, "ab" * 32) for session in (there, here)]
    assert list((await authority.renew("g1", said)).remaining) == [here]

    # A certificate does not say from which device it came: for as long as an old one lasts, none is taken.
    certificate = made_for(authority, grant, clock.now())
    assert await code(authority.admit(knock("", certificate=certificate))) == "device-locked"
    clock.advance(minutes=11)
    certificate = made_for(authority, grant, clock.now())
    assert isinstance(await authority.admit(knock("", certificate=certificate)), Admission)


async def test_a_device_is_locked_by_the_beginning_of_its_id_where_no_other_begins_so(
    authority: LocalAuthority, locks: Locks, tokens: Tokens
) -> None:
    await granted(authority)
    logins = {}
    for number in range(40):  # more than there are first letters: two begin alike
        issued = await tokens.issue(TokenKind.LOGIN, ("ada", "bob")[number % 2], via="cli")
        logins[device_of(issued.token)] = issued.token
    firsts = [device[0] for device in logins]
    shared = next(first for first in firsts if firsts.count(first) > 1)
    for ambiguous in (shared, ""):
        refused = await locks.make(LockKind.DEVICE, ambiguous, "sam", via="cli", reason="lost it")
        assert isinstance(refused, Refusal)
        assert refused.code == ("several-devices" if ambiguous else "no-such-device")
    assert all([await tokens.check(TokenKind.LOGIN, token) for token in logins.values()])

    stolen = next(iter(logins))
    there = await entered(authority, tokens, device=device_of(logins[stolen]))
    made = await locks.make(LockKind.DEVICE, stolen[:12], "sam", via="cli", reason="lost it")
    assert isinstance(made, Locked)
    assert (made.lock.target, made.sessions) == (stolen, 1), there
    assert [d for d, token in logins.items() if not await tokens.check(TokenKind.LOGIN, token)] == [stolen]


async def test_only_those_whom_the_policy_names_lock_and_unlock(locks: Locks, service: Service) -> None:
    for who in ("ada", "grace", "nobody"):
        assert isinstance(await locks.make(LockKind.RESOURCE, "prod-db", who, via="cli", reason="x"), Refusal)
    made = await lock(locks, LockKind.RESOURCE, "prod-db")
    assert await code(locks.end(made.lock.id, "ada", via="cli")) == "not-a-keeper"
    assert await code(locks.listed("ada")) == "not-a-keeper"
    assert await locks.listed("sam") == [made.lock]
    # Oneself one may lock, and not unlock again.
    own = await lock(locks, LockKind.PERSON, "ada", by="ada")
    assert await code(locks.end(own.lock.id, "ada", via="cli")) == "not-a-keeper"


async def test_the_last_who_could_unlock_is_not_locked(locks: Locks) -> None:
    assert await code(locks.make(LockKind.PERSON, "sam", "sam", via="cli", reason="x")) == "last-keeper"


@pytest.mark.parametrize(
    ("kind", "target", "reason", "expected"),
    [
        (LockKind.PERSON, "nobody", "x", "no-such-person"),
        (LockKind.RESOURCE, "no-db", "x", "no-such-resource"),
        (LockKind.DEVICE, "0123456789abcdef", "x", "no-such-device"),
        (LockKind.RESOURCE, "prod-db", " ", "no-reason"),
    ],
)
async def test_a_lock_on_nothing_or_for_nothing_is_refused(
    kind: LockKind, target: str, reason: str, expected: str, locks: Locks
) -> None:
    assert await code(locks.make(kind, target, "sam", via="cli", reason=reason)) == expected


async def test_locking_twice_is_one_lock_and_the_trail_tells_both_ends(
    locks: Locks, service: Service
) -> None:
    first = await lock(locks, LockKind.EVERYTHING)
    assert (await lock(locks, LockKind.EVERYTHING)).lock == first.lock
    await locks.end("everything", "sam", via="cli")
    assert await code(locks.end("everything", "sam", via="cli")) == "no-such-lock"
    async with service.store.read() as tx:
        kinds = [entry.kind async for entry in all_entries(tx)]
    assert [kind for kind in kinds if kind.startswith("lock.")] == ["lock.made", "lock.ended"]


async def test_another_broker_knows_of_a_lock_in_its_very_next_decision(
    make_service: Callable[..., Service], locks: Locks, locked_config: Config
) -> None:
    other = make_service(locked_config)
    assert isinstance(await other.submit("ada", Wish("prod-db", reason="INC-1"), via="api"), Story)
    await lock(locks, LockKind.PERSON, "ada")
    assert await code(other.submit("ada", Wish("prod-db", reason="INC-1"), via="api")) == "locked"
    await locks.end("ada", "sam", via="cli")
    assert isinstance(await other.submit("ada", Wish("prod-db", reason="INC-1"), via="api"), Story)


async def test_a_gate_is_told_to_cut_within_a_second(
    authority: LocalAuthority, locks: Locks, tokens: Tokens
) -> None:
    await granted(authority)
    session = await entered(authority, tokens)
    told: asyncio.Queue[float] = asyncio.Queue()

    async def follow() -> None:
        async for notice in authority.notices("g1"):
            if isinstance(notice, SessionKilled) and notice.session == session:
                told.put_nowait(time.monotonic())

    following = asyncio.create_task(follow())
    try:
        began = time.monotonic()
        await lock(locks, LockKind.PERSON, "ada")
        assert await asyncio.wait_for(told.get(), 20) - began < 1
    finally:
        following.cancel()
