"""One session is ended by itself: who may, what the gate hears, and what stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.audit import all_entries
from broker.authority import LocalAuthority
from broker.identity.tokens import Tokens
from broker.sessions import Sessions
from broker.store import sessions
from broker.store.sessions import SessionRecord
from tests.broker.test_authority import (  # noqa: F401  (fixtures are imported by name)
    authority,
    current,
    enter,
    grant_to,
    tokens,
)
from workflows.gate import Admission, Closing, Notice, Progress, Renewal, SessionKilled
from workflows.model import Refusal

# ruff: noqa: F811


@pytest.fixture
async def entered(authority: LocalAuthority, tokens: Tokens) -> Admission:
    await grant_to(authority)
    return await enter(authority, tokens)


async def trail_of(authority: LocalAuthority, kind: str) -> list[tuple[str, str]]:
    async with authority.service.store.read() as tx:
        return [(e.actor, e.subject) async for e in all_entries(tx) if e.kind == kind]


async def next_kill(notices: Any) -> SessionKilled:
    async with asyncio.timeout(5):
        async for notice in notices:
            if isinstance(notice, SessionKilled):
                return notice
    raise AssertionError("the notices ended")


@pytest.mark.parametrize("person", ["ada", "grace", "linus", "sam"])
async def test_its_owner_an_approver_and_an_administrator_may(
    authority: LocalAuthority, entered: Admission, person: str
) -> None:
    killed = await Sessions(authority.service).kill(entered.session, person, via="cli", reason=" too \n much")
    assert isinstance(killed, SessionRecord)
    assert (killed.killed_by, killed.kill_reason, killed.closed_at) == (person, "too much", None)
    notices = authority.notices("g1")
    assert await next_kill(notices) == SessionKilled(entered.session, person, "too much")
    await notices.aclose()  # type: ignore[attr-defined]
    story = await authority.service.story(entered.grant)
    assert story
    assert story.grant
    assert story.grant.live(authority.service.clock.now()), "the grant itself stays"
    assert await trail_of(authority, "session.killed") == [(person, killed.request_id)]


@pytest.mark.parametrize("person", ["bob", "zoe", "olive", "nobody", ""])
async def test_for_everybody_else_it_is_as_if_it_were_not_there(
    authority: LocalAuthority, entered: Admission, person: str
) -> None:
    kill = Sessions(authority.service).kill
    there = await kill(entered.session, person, via="api")
    guessed = await kill("S-GUESSED", person, via="api")
    assert isinstance(there, Refusal)
    assert there == guessed
    said = Progress(entered.session, 1, "a" * 64)
    authority.service.clock.advance(seconds=5)  # type: ignore[attr-defined]
    assert entered.session in (await authority.renew("g1", [said])).remaining
    assert await trail_of(authority, "refused") == [(person, entered.session), (person, "S-GUESSED")]


async def test_an_approver_of_another_grant_and_one_who_has_left_may_not(
    authority: LocalAuthority, tokens: Tokens, entered: Admission, current: Any
) -> None:
    kill = Sessions(authority.service).kill
    current.person("linus", active=False)
    assert isinstance(await kill(entered.session, "linus", via="slack"), Refusal)
    current.person("grace", groups=frozenset({"engineers"}))
    assert isinstance(await kill(entered.session, "grace", via="slack"), Refusal)


async def test_pressed_by_many_at_once_it_is_one_kill(
    authority: LocalAuthority, entered: Admission, make_service: Any, current: Any
) -> None:
    services = [make_service(current()) for _ in range(3)]
    people = ["ada", "grace", "linus"] * 2
    found = await asyncio.gather(
        *(
            Sessions(services[n % 3]).kill(entered.session, who, via="api", reason=who)
            for n, who in enumerate(people)
        )
    )
    records = [it for it in found if isinstance(it, SessionRecord)]
    assert len(records) == len(people)
    assert len({(it.killed_by, it.kill_reason) for it in records}) == 1
    assert len(await trail_of(authority, "session.killed")) == 1


async def test_a_session_that_is_over_cannot_be_killed_and_says_so(
    authority: LocalAuthority, entered: Admission
) -> None:
    await authority.close("g1", Closing(entered.session, "client", "", 0, "", 0, 0, 0))
    found = await Sessions(authority.service).kill(entered.session, "grace", via="cli")
    assert isinstance(found, Refusal)
    assert found.code == "session-over"
    stranger = await Sessions(authority.service).kill(entered.session, "bob", via="cli")
    assert isinstance(stranger, Refusal)
    assert stranger.code == "no-such-session"
    assert await trail_of(authority, "session.killed") == []


async def test_only_the_sessions_own_gate_hears_of_it_and_once(
    authority: LocalAuthority, tokens: Tokens, entered: Admission
) -> None:
    other = await enter(authority, tokens, gate="g2")
    heard: dict[str, list[Notice]] = {"g1": [], "g2": []}

    async def follow(gate: str) -> None:
        async for notice in authority.notices(gate):
            heard[gate].append(notice)

    following = [asyncio.create_task(follow(gate)) for gate in heard]
    try:
        while not all(heard.values()):  # each has its live grant  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await Sessions(authority.service).kill(other.session, "grace", via="cli", reason="enough")
        async with asyncio.timeout(1):
            while SessionKilled(other.session, "grace", "enough") not in heard["g2"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await Sessions(authority.service).kill(entered.session, "grace", via="cli")
        async with asyncio.timeout(1):
            while SessionKilled(entered.session, "grace") not in heard["g1"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    kills = {gate: [n for n in told if isinstance(n, SessionKilled)] for gate, told in heard.items()}
    assert [n.session for n in kills["g1"]] == [entered.session]
    assert [n.session for n in kills["g2"]] == [other.session]


async def test_a_gate_that_missed_the_notice_is_not_renewed_and_told_why(
    authority: LocalAuthority, entered: Admission
) -> None:
    said = Progress(entered.session, 3, "a" * 64)
    await Sessions(authority.service).kill(entered.session, "grace", via="cli")
    assert await authority.renew("g1", [said]) == Renewal({}, (SessionKilled(entered.session, "grace"),))


async def test_what_ended_long_ago_is_told_to_no_gate(
    authority: LocalAuthority, entered: Admission, clock: Any
) -> None:
    await Sessions(authority.service).kill(entered.session, "grace", via="cli")
    await authority.close("g1", Closing(entered.session, "cut", "killed", 2, "a" * 64, 1, 0, 0))
    async with authority.service.store.read() as tx:
        assert await sessions.killed_at(tx, "g1", clock.now() - clock.now().resolution) == []
