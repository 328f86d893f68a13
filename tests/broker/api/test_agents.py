"""Agents: logged in by their workload's token, approved by people who are not their owner, within limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from broker.api.app import create_api
from broker.api.parts import Parts
from broker.config import AgentRule, Config
from broker.identity.directory import Person, with_owners
from broker.identity.tokens import TokenKind
from broker.identity.workloads import Workloads
from broker.locks import Locks
from tests.broker.identity.test_workloads import AUDIENCE, BOT, Issuers
from workflows.access import Wish
from workflows.lock import LockKind
from workflows.model import Principal, PrincipalKind, Refusal, Story
from workflows.policy import route

FORM = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}
AGENT = replace(BOT, owner="grace", requests_per_hour=3, longest=timedelta(minutes=30))


@pytest.fixture(scope="module")
def issuers() -> Issuers:
    return Issuers()


@pytest.fixture
def config(config: Config) -> Config:
    """The sample policy with an agent of Grace's, who decides for the others."""
    it = Principal("release-bot", "Release bot", "", frozenset({"engineers", "oncall"}), PrincipalKind.AGENT)
    people = {**config.directory.people, "release-bot": Person(replace(it, owner="grace"))}
    directory = replace(config.directory, people=with_owners(people))
    return replace(config, directory=directory, agents={"release-bot": AGENT})


@pytest.fixture
def parts(parts: Parts, config: Config, issuers: Issuers) -> Parts:
    parts.service._config = lambda: config
    return replace(parts, workloads=Workloads(parts.clock, httpx2.MockTransport(issuers)))


@pytest.fixture
async def anyone(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_api(parts), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://broker.test") as client:
        yield client


async def log_in(anyone: httpx2.AsyncClient, token: str, **more: str) -> httpx2.Response:
    return await anyone.post("/auth/token", data={**FORM, "subject_token": token, **more})


async def test_a_workload_gets_a_short_login_that_use_does_not_prolong(
    anyone: httpx2.AsyncClient, issuers: Issuers, parts: Parts, clock: Any
) -> None:
    answer = (await log_in(anyone, issuers.token(clock))).json()
    assert (answer["principal"], answer["owner"], answer["expires_in"]) == ("release-bot", "grace", 900)
    assert answer["token_type"] == "Bearer"
    mine = {"Authorization": f"Bearer {answer['access_token']}"}
    for _ in range(2):
        assert (await anyone.get("/api/v1/me", headers=mine)).status_code == 200
        clock.advance(minutes=7)
    clock.advance(minutes=2)
    assert (await anyone.get("/api/v1/me", headers=mine)).status_code == 401


async def test_what_is_refused_says_why_in_oauth_s_words(
    anyone: httpx2.AsyncClient, issuers: Issuers, clock: Any
) -> None:
    wrong = await log_in(anyone, issuers.token(clock, repository="eve/shop"))
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    other = await log_in(anyone, issuers.token(clock), grant_type="password")
    assert other.json()["error"] == "unsupported_grant_type"
    kind = await log_in(anyone, issuers.token(clock), subject_token_type="urn:x")
    assert kind.json()["error"] == "invalid_request"
    assert (await anyone.post("/auth/token", data=FORM)).status_code == 422


async def ask(parts: Parts, minutes: int | None = None) -> Story | Refusal:
    span = timedelta(minutes=minutes) if minutes else None
    wish = Wish("prod-db", "readwrite", span, "migrate the orders")
    return await parts.service.submit("release-bot", wish, via="api")


async def test_a_person_approves_and_never_its_owner(parts: Parts) -> None:
    story = await ask(parts)
    assert isinstance(story, Story)
    assert (story.request.owner, story.request.duration) == ("grace", timedelta(minutes=30))
    own = await parts.service.approve(story.request.id, "grace", via="api")
    assert isinstance(own, Refusal)
    assert own.code == "own-request"
    assert isinstance(await parts.service.deny(story.request.id, "grace", via="api"), Refusal)
    granted = await parts.service.approve(story.request.id, "linus", via="api")
    assert isinstance(granted, Story)
    assert granted.grant is not None
    # What takes access away, the owner may.
    assert isinstance(await parts.service.release(story.request.id, "grace", via="api"), Story)


async def test_its_owner_takes_its_request_back(parts: Parts) -> None:
    story = await ask(parts)
    assert isinstance(story, Story)
    assert isinstance(await parts.service.cancel(story.request.id, "linus", via="api"), Refusal)
    assert isinstance(await parts.service.cancel(story.request.id, "grace", via="api"), Story)


async def test_a_rule_that_grants_at_once_does_not_hold_for_agents_unless_it_says_so(parts: Parts) -> None:
    """The agent is in oncall, whose rule needs no approval."""
    agent = parts.service.principal("release-bot")
    assert agent is not None
    found = route(parts.service.policy, agent, "prod-db", "readonly")
    assert not isinstance(found, Refusal)
    assert found.rule.name == "engineers-read-prod"
    policy = parts.service.policy
    only = replace(policy, rules=policy.rules[1:])
    assert isinstance(route(only, agent, "prod-db", "readonly"), Refusal)
    unattended = replace(only, rules=(replace(only.rules[0], unattended=True),))
    assert not isinstance(route(unattended, agent, "prod-db", "readonly"), Refusal)


async def test_it_approves_nothing_itself(parts: Parts) -> None:
    people = dict(parts.service.file.directory.people)
    bot = people["release-bot"]
    people["release-bot"] = replace(bot, principal=replace(bot.principal, groups=frozenset({"dba"})))
    config = parts.service.file
    other = replace(config, directory=replace(config.directory, people=people))
    parts.service._config = lambda: other
    story = await parts.service.submit("bob", Wish("prod-db", reason="INC-1"), via="api")
    assert isinstance(story, Story)
    assert isinstance(await parts.service.approve(story.request.id, "release-bot", via="api"), Refusal)


async def test_its_limits_hold(parts: Parts, clock: Any) -> None:
    long = await ask(parts, 31)
    assert isinstance(long, Refusal)
    assert long.code == "too-long"
    for _ in range(3):
        assert isinstance(await ask(parts), Story)
    often = await ask(parts)
    assert isinstance(often, Refusal)
    assert often.code == "too-many-requests"
    clock.advance(minutes=61)
    assert isinstance(await ask(parts), Story)


@pytest.mark.parametrize("what", ["the owner is locked", "the agent is locked", "the owner left"])
async def test_it_stops_with_its_owner(
    what: str, anyone: httpx2.AsyncClient, issuers: Issuers, parts: Parts, clock: Any, config: Config
) -> None:
    login = (await log_in(anyone, issuers.token(clock))).json()["access_token"]
    if what == "the owner left":
        people = dict(config.directory.people)
        grace = people["grace"]
        people["grace"] = replace(grace, principal=replace(grace.principal, active=False))
        gone = replace(config, directory=replace(config.directory, people=with_owners(people)))
        parts.service._config = lambda: gone
    else:
        whom = "grace" if what == "the owner is locked" else "release-bot"
        await Locks(parts.service).make(LockKind.PERSON, whom, "sam", via="cli", reason="x")
    assert (await log_in(anyone, issuers.token(clock))).json()["error"] == "invalid_grant"
    mine = {"Authorization": f"Bearer {login}"}
    assert (await anyone.get("/api/v1/me", headers=mine)).status_code in (401, 403)
    assert isinstance(await ask(parts), Refusal)


async def test_its_login_is_no_person_s(
    anyone: httpx2.AsyncClient, issuers: Issuers, parts: Parts, clock: Any
) -> None:
    token = (await log_in(anyone, issuers.token(clock))).json()["access_token"]
    assert await parts.tokens.check(TokenKind.LOGIN, token) is None
    assert AUDIENCE not in token
    assert AgentRule is type(AGENT)
