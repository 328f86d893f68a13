"""Logins count only as long as the provider confirms them: it is asked again by a refresh token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from sqlalchemy import select

from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance
from broker.config import Config, GroupSource, OidcSettings
from broker.credentials.seal import Seal
from broker.identity.bindings import Bindings
from broker.identity.ending import Ending
from broker.identity.kept import Keep
from broker.identity.logins import Logins, WebGoal
from broker.identity.looking import Looking
from broker.identity.people import People
from broker.identity.providers import Providers
from broker.identity.tokens import TokenKind, Tokens
from broker.service import Service
from broker.store.engine import Store
from broker.store.tables import identities
from tests import tables
from tests.broker.identity.real_time import Movable
from tests.liar_idp import ISSUER, Liar

SEAL = Seal([b"k" * 32])
CORP = OidcSettings(
    "corp",
    "Corp",
    issuer=ISSUER,
    client_id="us",
    check_every=timedelta(hours=1),
    scopes=("openid", "email", "offline_access"),
    groups=GroupSource("groups", {"eng": "engineers"}),
)


@dataclass
class House:
    """Zoe, logged in on a command line, at a provider that gives refresh tokens."""

    liar: Liar
    people: People
    looking: Looking
    other: Looking
    tokens: Tokens
    clock: Movable
    store: Store
    token: str

    async def logged_in(self) -> bool:
        return await self.tokens.check(TokenKind.LOGIN, self.token) is not None

    def groups(self) -> set[str]:
        zoe = self.people().directory.principal("zoe")
        return set(zoe.groups) if zoe else set()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return tables.sqlite(tmp_path / "portcullis.db")


@pytest.fixture
def clock() -> Movable:
    return Movable()


@pytest.fixture
async def house(store: Store, keep: Keep, tokens: Tokens, clock: Any, config: Config) -> AsyncIterator[House]:
    liar = Liar(renewal="rt", clock=lambda: clock.now().timestamp())
    liar.claims = {"sub": "z", "email": "zoe@example.com", "email_verified": True, "groups": ["eng"]}
    known = replace(config, providers={"corp": CORP})
    people, chance = People(store, lambda: known, clock), SystemChance()
    transport = httpx2.ASGITransport(app=liar)
    providers = Providers(people, clock, chance, keep, "https://us", transport=transport)
    service = Service(store, people, clock, chance, InProcessBus())
    one, other = (
        Looking(store, people, providers, clock, seal=SEAL, keep=keep, ended=Ending(service).logged_out)
        for _ in range(2)
    )
    logins = Logins(providers, Bindings(store, people, clock, SEAL), keep, tokens, chance)
    address, secret = await logins.begin("corp", WebGoal("/"))
    query = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
    assert "offline_access" in query["scope"].split()
    liar.nonce = query["nonce"]
    await logins.finish(secret, "corp", {"code": "c", "state": query["state"]})
    issued = await tokens.issue(TokenKind.LOGIN, "zoe", via="cli")
    yield House(liar, people, one, other, tokens, clock, store, issued.token)
    await providers.aclose()


async def test_a_login_is_renewed_while_the_provider_confirms_it_with_its_groups_of_now(house: House) -> None:
    assert await house.looking.stands("zoe")
    assert house.liar.renewal == "rt", "its word is new enough"
    for hour in range(1, 4):
        house.clock.advance(hours=1)
        house.liar.claims["groups"] = ["eng"] if hour % 2 else []
        assert await house.looking.stands("zoe")
        assert house.liar.renewal == "rt" + "+" * hour
        assert house.groups() == ({"engineers"} if hour % 2 else set())
    assert await house.logged_in()


async def test_where_the_provider_says_no_all_logins_end_at_once(house: House) -> None:
    house.clock.advance(hours=1)
    house.liar.renewal = ""
    assert not await house.looking.stands("zoe")
    assert not await house.logged_in()
    assert house.groups() == set()


async def test_an_account_that_became_another_ends_the_login(house: House) -> None:
    house.clock.advance(hours=1)
    house.liar.claims["sub"] = "somebody-else"
    assert not await house.looking.stands("zoe")
    assert not await house.logged_in()


async def test_a_provider_that_is_away_is_borne_with_for_as_long_again(house: House) -> None:
    house.clock.advance(hours=1)
    house.liar.away = True
    assert await house.looking.stands("zoe")
    house.clock.advance(minutes=59)
    assert await house.looking.stands("zoe")
    house.clock.advance(minutes=2)
    assert not await house.looking.stands("zoe")
    assert await house.logged_in(), "nobody ended it: it counts again once the provider answers"
    house.liar.away = False
    house.clock.advance(minutes=1)
    assert await house.looking.stands("zoe")


async def test_of_many_calls_at_several_brokers_one_asks(house: House) -> None:
    house.clock.advance(hours=1)
    calls = [looking.stands("zoe") for looking in (house.looking, house.other) for _ in range(5)]
    assert all(await asyncio.gather(*calls))
    assert house.liar.renewal == "rt+"
    assert await house.logged_in()


async def test_the_refresh_token_is_in_the_database_only_sealed(house: House) -> None:
    async with house.store.read() as tx:
        rows = (await tx.execute(select(identities))).all()
    assert SEAL.open(rows[0].renewal, f"renewal {ISSUER} z") == "rt"
    assert "'rt'" not in str(rows)
    binding, _ = house.people.binding("zoe")
    assert binding is not None
    assert binding.renewal not in repr(binding)


async def test_groups_that_are_too_old_are_looked_up_by_the_refresh_token(house: House) -> None:
    house.clock.advance(hours=12)
    assert house.groups() == set()
    await house.looking.again("zoe")
    assert house.groups() == {"engineers"}
