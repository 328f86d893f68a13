"""The identity provider says that somebody has logged out there: what came of that login ends here."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from broker.api.app import create_api
from broker.api.parts import Parts
from broker.bus import GRANTS
from broker.config import Config, OidcSettings
from broker.identity.answer import Identity, origin_of
from broker.identity.bindings import Bindings
from broker.identity.kept import Keep
from broker.identity.logins import Logins
from broker.identity.people import People
from broker.identity.providers import Providers
from broker.identity.tokens import TokenKind
from broker.store import sessions
from broker.store.engine import Store
from broker.store.sessions import SessionRecord

ISSUER = "https://idp.example.com"
EVENT = "http://schemas.openid.net/event/backchannel-logout"
KEY = RSAKey.generate_key(2048, {"kid": "one"})
CORP = OidcSettings("corp", "Corp", issuer=ISSUER, client_id="us")


async def idp(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    said: Any = {"issuer": ISSUER, **{name: f"{ISSUER}/{name}" for name in names}}
    if scope["path"] == "/jwks_uri":
        said = KeySet([KEY]).as_dict(private=False)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


@dataclass
class House:
    """Ada, who is logged in by that provider in a browser and on a command line, with a session at a gate."""

    parts: Parts
    http: httpx2.AsyncClient
    clock: Any
    web: str = ""
    token: str = ""
    entry: str = ""
    other: str = ""
    heard: list[str] = field(default_factory=list)

    async def settle(self) -> None:
        origin = origin_of(ISSUER, "sid-1")
        bindings = self.parts.logins._bindings if self.parts.logins else None
        assert bindings is not None
        await bindings.person(CORP, Identity(ISSUER, "00u1", "ada@example.com", "ada@example.com"))
        self.web = (await self.parts.web.open("ada", origin=origin)).secret
        tokens = self.parts.tokens
        self.token = (await tokens.issue(TokenKind.LOGIN, "ada", via="cli", origin=origin)).token
        self.entry = (await tokens.issue(TokenKind.ENTRY, "ada", via="cli")).token
        self.other = (
            await tokens.issue(TokenKind.LOGIN, "ada", via="cli", origin=origin_of(ISSUER, "sid-2"))
        ).token
        now = self.clock.now()
        record = SessionRecord(
            "S-1", "R-1", "G-1", "ada", "prod-db", "readonly", "gate", "postgresql", "127.0.0.1", now, now
        )
        async with self.parts.service.store.write() as tx:
            await sessions.add(tx, record)

    def logout_token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(self.clock.now().timestamp())
        all_ = {"iss": ISSUER, "aud": "us", "iat": now, "exp": now + 120, "jti": "j1", "events": {EVENT: {}}}
        all_ |= {"sub": "00u1", "sid": "sid-1"} | claims
        all_ = {name: value for name, value in all_.items() if value is not None}
        return jwt.encode(header or {"alg": "RS256", "kid": "one", "typ": "logout+jwt"}, all_, KEY)

    async def tells(self, token: str) -> httpx2.Response:
        return await self.http.post("/auth/logout/corp", data={"logout_token": token})

    async def ended(self) -> set[str]:
        """What of Ada's is over."""
        tokens, found = self.parts.tokens, set()
        if await self.parts.web.check(self.web) is None:
            found.add("browser")
        for name, kind, token in (
            ("command line", TokenKind.LOGIN, self.token),
            ("password", TokenKind.ENTRY, self.entry),
            ("other login", TokenKind.LOGIN, self.other),
        ):
            if await tokens.check(kind, token) is None:
                found.add(name)
        async with self.parts.service.store.read() as tx:
            record = await sessions.find(tx, "S-1")
        if record and record.killed_at:
            found.add("session")
        return found


@pytest.fixture
async def house(parts: Parts, store: Store, clock: Any, chance: Any, config: Config) -> AsyncIterator[House]:
    known = replace(config, providers={"corp": CORP})
    people = People(store, lambda: known, clock)
    keep = Keep(store, clock, chance)
    transport = httpx2.ASGITransport(app=idp)
    providers = Providers(people, clock, chance, keep, "http://broker.test", transport=transport)
    logins = Logins(providers, Bindings(store, people, clock), keep, parts.tokens, chance)
    parts = replace(parts, logins=logins)
    app = httpx2.ASGITransport(app=create_api(parts), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=app, base_url="http://broker.test") as http:
        it = House(parts, http, clock)
        await it.settle()
        yield it
    await providers.aclose()


async def test_back_channel_logout_ends_what_came_of_that_login_and_cuts_what_is_open(house: House) -> None:
    answer = await house.tells(house.logout_token())
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert await house.ended() == {"browser", "command line", "password", "session"}


async def test_a_logout_of_the_whole_account_ends_all_of_its_logins(house: House) -> None:
    assert (await house.tells(house.logout_token(sid=None))).status_code == 200
    assert await house.ended() == {"browser", "command line", "password", "other login", "session"}


async def test_a_logout_of_somebody_unknown_here_ends_nothing(house: House) -> None:
    assert (await house.tells(house.logout_token(sid=None, sub="00u9"))).status_code == 200
    assert (await house.tells(house.logout_token(sid="sid-9", jti="j2"))).status_code == 200
    assert await house.ended() == set()


async def test_the_gate_is_woken_at_once(house: House) -> None:
    wake = house.parts.service.bus.subscribe(GRANTS)
    await house.tells(house.logout_token())
    assert await anext(wake) == "G-1"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "somebody-else"},
        {"exp": 1},
        {"exp": None},
        {"iat": 4102444800},
        {"jti": None},
        {"events": {}},
        {"events": {"http://schemas.openid.net/event/other": {}}},
        {"events": EVENT},
        {"nonce": "n"},
        {"sub": None, "sid": None},
        {"sid": 7},
    ],
    ids=str,
)
async def test_a_logout_token_that_does_not_fit_ends_nothing(house: House, claims: dict[str, Any]) -> None:
    answer = await house.tells(house.logout_token(**claims))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert await house.ended() == set()


async def test_a_logout_token_is_good_once(house: House) -> None:
    token = house.logout_token(sid="sid-9")
    assert (await house.tells(token)).status_code == 200
    assert (await house.tells(token)).status_code == 400


async def test_an_id_token_or_an_unsigned_one_is_no_logout_token(house: House) -> None:
    id_token = house.logout_token(events=None, nonce="n", header={"alg": "RS256", "kid": "one"})
    assert (await house.tells(id_token)).status_code == 400
    head, body, _ = house.logout_token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"logout+jwt"}').rstrip(b"=").decode()
    assert (await house.tells(f"{head}.{body}.")).status_code == 400
    other = RSAKey.generate_key(2048, {"kid": "one"})
    forged = jwt.encode({"alg": "RS256", "kid": "one"}, {"iss": ISSUER, "aud": "us"}, other)
    assert (await house.tells(forged)).status_code == 400
    assert (await house.tells(house.logout_token(header={"alg": "RS256", "kid": "one", "typ": "at+jwt"}))
            ).status_code == 400  # fmt: skip
    assert await house.ended() == set()


async def test_front_channel_logout_takes_the_name_of_the_login_and_may_be_framed_by_the_provider(
    house: House,
) -> None:
    for wrong in ({}, {"iss": ISSUER}, {"sid": "sid-1"}, {"iss": "https://evil.example", "sid": "sid-1"}):
        assert (await house.http.get("/auth/logout/corp/front", params=wrong)).status_code == 400
    assert await house.ended() == set()
    said = await house.http.get("/auth/logout/corp/front", params={"iss": ISSUER, "sid": "sid-1"})
    assert said.status_code == 200
    assert f"frame-ancestors {ISSUER}" in said.headers["content-security-policy"]
    assert await house.ended() == {"browser", "command line", "password", "session"}
