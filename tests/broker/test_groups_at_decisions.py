"""Groups that a provider tells are looked at when somebody asks, when somebody decides and when a session
starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from broker.authority import LocalAuthority
from broker.bus.in_process import InProcessBus
from broker.config import Config, GroupSource, OidcSettings, PostgresTarget, SecretRef
from broker.credentials.seal import Seal
from broker.identity.answer import Identity
from broker.identity.bindings import Bindings
from broker.identity.looking import Looking
from broker.identity.people import People
from broker.identity.providers import Providers
from broker.identity.tokens import TokenKind, Tokens
from broker.service import Service
from broker.store import credentials
from broker.store.credentials import SealedLogin
from broker.store.engine import Store
from workflows.access import Wish
from workflows.gate import Admission, Knock
from workflows.model import Refusal, RequestState, Story

ISSUER = "https://idp.example.com"
SEAL = Seal([b"k" * 32])
CORP = OidcSettings(
    "corp",
    "Corp",
    issuer=ISSUER,
    groups=GroupSource("groups", {"eng": "engineers", "data": "dba"}, max_age=timedelta(hours=12)),
)


class Answering:
    """A provider that can be asked for groups, or not."""

    def __init__(self) -> None:
        self.groups: dict[str, tuple[str, ...]] = {}

    async def groups_of(self, subject: str, email: str) -> tuple[str, ...] | None:
        return self.groups.get(subject)


class Ones(Providers):
    one: Answering

    def __getitem__(self, name: str) -> Any:
        return self.one


@dataclass
class House:
    service: Service
    authority: LocalAuthority
    bindings: Bindings
    tokens: Tokens
    provider: Answering
    clock: Any

    async def log_in(self, name: str, *groups: str) -> None:
        email = f"{name}@example.com"
        await self.bindings.person(CORP, Identity(ISSUER, name, email, email, groups))

    async def ask(self) -> Story | Refusal:
        wish = Wish("prod-db", "readonly", timedelta(hours=4), "INC-1")
        return await self.service.submit("zoe", wish, via="api")

    async def granted(self) -> Story:
        asked = await self.ask()
        assert isinstance(asked, Story)
        story = await self.service.approve(asked.request.id, "linus", via="api")
        assert isinstance(story, Story)
        assert story.grant is not None
        now = self.clock.now()
        sealed = SEAL.close("pw", story.grant.id)
        login = SealedLogin(story.grant.id, "prod-db", "pc", sealed, SEAL.current, now, now)
        async with self.service.store.write() as tx:
            await credentials.add(tx, login)
        return story

    async def enter(self) -> Admission | Refusal:
        token = (await self.tokens.issue(TokenKind.ENTRY, "zoe", via="cli")).token
        return await self.authority.admit(Knock("g", "postgres", "zoe", token, "prod-db", "", "c"))


@pytest.fixture
def house(store: Store, clock: Any, chance: Any, config: Config) -> House:
    """Zoe is in no group but those that her provider tells."""
    target = PostgresTarget("db", 5432, "shop", "verify-full", "", "keeper", SecretRef("env:X"))
    known = replace(config, providers={"corp": CORP}, targets={"prod-db": target})
    people = People(store, lambda: known, clock)
    service = Service(store, people, clock, chance, InProcessBus())
    providers = Ones(people, clock, chance, None, "")  # type: ignore[arg-type]
    providers.one = Answering()
    service.look_again = Looking(store, people, providers, clock).again
    tokens = Tokens(store, clock, chance)
    authority = LocalAuthority(service, SEAL)
    return House(service, authority, Bindings(store, people, clock), tokens, providers.one, clock)


def code(answer: object) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


async def test_the_groups_that_a_provider_tells_open_what_the_policy_says(house: House) -> None:
    assert code(await house.ask()) == "no-such-resource"
    await house.log_in("zoe", "eng")
    assert isinstance(await house.ask(), Story)


async def test_old_groups_ask_for_nothing_and_a_new_login_mends_it(house: House) -> None:
    await house.log_in("zoe", "eng")
    house.clock.advance(hours=12)
    refused = await house.ask()
    assert code(refused) == "groups-too-old"
    assert isinstance(refused, Refusal)
    assert refused.way_out == "Log in again: access login."
    await house.log_in("zoe", "eng")
    assert isinstance(await house.ask(), Story)


async def test_old_groups_are_looked_up_where_the_provider_can_be_asked(house: House) -> None:
    await house.log_in("zoe", "eng")
    house.clock.advance(hours=12)
    house.provider.groups = {"zoe": ("eng",)}
    assert isinstance(await house.ask(), Story)
    house.clock.advance(hours=12)
    house.provider.groups = {"zoe": ()}
    assert code(await house.ask()) == "no-such-resource"


async def test_who_lost_a_group_at_the_provider_decides_nothing(house: House) -> None:
    await house.log_in("zoe", "eng")
    await house.log_in("bob", "data")
    asked = await house.ask()
    assert isinstance(asked, Story)
    await house.log_in("bob")
    assert code(await house.service.approve(asked.request.id, "bob", via="api")) == "not-an-approver"
    await house.log_in("bob", "data")
    house.clock.advance(hours=12)
    await house.log_in("zoe", "eng")
    again = await house.ask()
    assert isinstance(again, Story)
    assert code(await house.service.approve(again.request.id, "bob", via="api")) == "groups-too-old"


async def test_a_request_is_not_granted_once_the_requester_lost_the_group(house: House) -> None:
    await house.log_in("zoe", "eng")
    asked = await house.ask()
    assert isinstance(asked, Story)
    await house.log_in("zoe")
    assert code(await house.service.approve(asked.request.id, "linus", via="api")) == "policy-changed"
    await house.log_in("zoe", "eng")
    story = await house.service.approve(asked.request.id, "linus", via="api")
    assert isinstance(story, Story)
    assert story.request.state is RequestState.APPROVED


async def test_a_session_starts_only_while_the_groups_still_open_the_role(house: House) -> None:
    await house.log_in("zoe", "eng")
    await house.granted()
    assert isinstance(await house.enter(), Admission)
    await house.log_in("zoe")
    assert code(await house.enter()) == "groups-changed"
    await house.log_in("zoe", "eng")
    assert isinstance(await house.enter(), Admission)


async def test_a_session_does_not_start_on_groups_that_are_too_old(house: House) -> None:
    await house.log_in("zoe", "eng")
    house.clock.advance(hours=9)
    await house.granted()
    house.clock.advance(hours=3)
    assert code(await house.enter()) == "groups-too-old"
    house.provider.groups = {"zoe": ("eng",)}
    assert isinstance(await house.enter(), Admission)
