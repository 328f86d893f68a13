"""The attacks of RFC 9700 (Best Current Practice for OAuth 2.0 Security) on us as a client, by its sections.

What a section is about and we do not do (implicit grant, access tokens at resources, refresh tokens,
postMessage) has no test. Signatures, claims, state, nonce and PKCE against providers are in test_oidc.py;
here are those that go by name.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey

from broker.clock import SystemChance, SystemClock
from broker.config import Config, OidcSettings
from broker.identity.answer import LoginError
from broker.identity.bindings import Bindings
from broker.identity.kept import Keep
from broker.identity.logins import Came, Logins, WebGoal
from broker.identity.oidc import OidcProvider
from broker.identity.people import People
from broker.identity.providers import Providers
from broker.identity.tokens import Tokens
from broker.store.engine import Store
from tests import tables
from tests.broker.identity.real_time import Movable
from tests.liar_idp import CALLBACK, ISSUER, Liar, finish_with


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return tables.sqlite(tmp_path / "portcullis.db")


@pytest.fixture
def clock() -> Movable:
    return Movable()


class Two:
    """Two providers, the honest one and one that an attacker runs, and a browser's logins at either."""

    def __init__(self, logins: Logins, honest: Liar, evil: Liar, asked: list[str]) -> None:
        self.logins = logins
        self.honest = honest
        self.evil = evil
        self.asked = asked

    async def begins(self, name: str) -> tuple[dict[str, str], str]:
        """What the browser is sent along with, and the cookie's secret."""
        address, secret = await self.logins.begin(name, WebGoal("/"))
        query = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
        (self.honest if name == "corp" else self.evil).nonce = query["nonce"]
        return query, secret

    async def comes_back(self, name: str, secret: str, **answer: str) -> Came:
        return await self.logins.finish(secret, name, answer)


@pytest.fixture
async def two(store: Store, keep: Keep, tokens: Tokens, clock: Any, config: Config) -> AsyncIterator[Two]:
    honest, evil, asked = Liar(), Liar(), []
    evil.document = {"issuer": "https://evil.example.com"}
    honest.claims = {"email": "ada@example.com", "email_verified": True}
    evil.claims = {"iss": "https://evil.example.com", "email": "ada@example.com", "email_verified": True}

    async def both(scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        asked.append(f"{host}{scope['path']}")
        chosen = evil if host == "evil.example.com" else honest
        if scope["path"].endswith("openid-configuration") and chosen is evil:
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            evil.document |= {name: f"https://evil.example.com/{name}" for name in names}
        await chosen(scope, receive, send)

    corp = OidcSettings("corp", "Corp", frozenset({"example.com"}), issuer=ISSUER, client_id="us")
    other = OidcSettings(
        "other", "Other", frozenset({"evil.example"}), issuer="https://evil.example.com", client_id="us"
    )
    known = replace(config, providers={"corp": corp, "other": other})
    people = People(store, lambda: known, clock)
    providers = Providers(
        people, clock, SystemChance(), keep, "https://us", transport=httpx2.ASGITransport(app=both)
    )
    logins = Logins(providers, Bindings(store, people, clock), keep, tokens, SystemChance())
    yield Two(logins, honest, evil, asked)
    await providers.aclose()


async def test_4_1_each_provider_is_given_one_redirect_uri_in_full_and_of_its_own(two: Two) -> None:
    for name in ("corp", "other"):
        query, _ = await two.begins(name)
        assert query["redirect_uri"] == f"https://us/auth/callback/{name}"
        assert query["response_type"] == "code"


async def test_4_3_what_stays_in_the_browsers_history_is_used_up(two: Two) -> None:
    query, secret = await two.begins("corp")
    came = await two.comes_back("corp", secret, code="c", state=query["state"])
    assert came.person.id == "ada"
    with pytest.raises(LoginError, match="used before"):
        await two.comes_back("corp", secret, code="c", state=query["state"])


async def test_4_4_mix_up_a_code_of_the_honest_provider_never_reaches_the_attackers(two: Two) -> None:
    """The victim wants the attacker's provider, which sends them on to the honest one. That answers where it
    alone answers, with the attacker's state."""
    query, secret = await two.begins("other")
    with pytest.raises(LoginError, match="does not come from the identity provider that was asked"):
        await two.comes_back("corp", secret, code="honest", state=query["state"])
    assert not [address for address in two.asked if address.endswith("/token_endpoint")]


async def test_4_4_mix_up_is_seen_by_the_issuer_in_the_answer_too(two: Two) -> None:
    two.evil.document["authorization_response_iss_parameter_supported"] = True
    query, secret = await two.begins("other")
    with pytest.raises(LoginError, match="does not name"):
        await two.comes_back("other", secret, code="honest", state=query["state"], iss=ISSUER)
    assert not [address for address in two.asked if address.endswith("/token_endpoint")]


async def test_4_4_an_issuer_in_the_answer_counts_without_a_promise(two: Two) -> None:
    """RFC 9207 section 2.4: who names an issuer names the right one."""
    query, secret = await two.begins("corp")
    with pytest.raises(LoginError, match="does not name"):
        await two.comes_back("corp", secret, code="c", state=query["state"], iss="https://evil.example.com")


async def test_4_5_a_code_of_another_login_is_not_taken(two: Two) -> None:
    """The attacker's own browser gets the victim's code: the ID token has the nonce of the victim's login."""
    await two.begins("corp")
    victims = two.honest.nonce
    query, secret = await two.begins("corp")
    two.honest.nonce = victims
    with pytest.raises(LoginError, match="does not hold"):
        await two.comes_back("corp", secret, code="stolen", state=query["state"])


async def test_4_6_tokens_in_the_answer_itself_are_not_looked_at(two: Two) -> None:
    query, secret = await two.begins("corp")
    token = two.honest.answer("/token_endpoint")["id_token"]
    with pytest.raises(LoginError, match="without a code"):
        await two.comes_back("corp", secret, state=query["state"], id_token=token, access_token="a")


async def test_4_7_an_answer_with_another_state_is_refused(two: Two) -> None:
    _, secret = await two.begins("corp")
    with pytest.raises(LoginError, match="another login"):
        await two.comes_back("corp", secret, code="c", state="x" * 32)


async def test_4_8_pkce_is_asked_for_whatever_the_provider_says_of_itself(two: Two) -> None:
    query, _ = await two.begins("corp")
    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == 43
    provider = OidcProvider(
        ISSUER, "us", "", clock=SystemClock(), chance=SystemChance(),
        transport=httpx2.ASGITransport(app=Liar(document={"code_challenge_methods_supported": ["plain"]})),
    )  # fmt: skip
    with pytest.raises(LoginError, match="PKCE"):
        await provider.begin(CALLBACK)


async def test_4_13_a_key_that_the_token_brings_along_is_not_used() -> None:
    evil = RSAKey.generate_key(2048, {"kid": "evil"})
    for header in (
        {"alg": "RS256", "kid": "evil", "jwk": evil.as_dict(private=False)},
        {"alg": "RS256", "kid": "evil", "jku": "https://evil.example.com/jwks"},
        {"alg": "RS256", "kid": "../../../dev/null"},
        {"alg": "RS256", "kid": "evil", "crit": ["b64"], "b64": False},
    ):
        liar = Liar()
        liar.forge = lambda claims, header=header: forged(header, claims, evil)  # type: ignore[misc]
        with pytest.raises(LoginError, match="not signed"):
            await finish_with(liar)


def forged(header: dict[str, Any], claims: dict[str, Any], key: RSAKey) -> str:
    """A token with any header, signed by any key."""
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signed = f"{part(header)}.{part(claims)}"
    mark = key.private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


async def test_a_token_for_another_client_of_the_same_provider_is_not_ours() -> None:
    """Token substitution: a good token that the person gave to somebody else."""
    with pytest.raises(LoginError, match="does not hold"):
        await finish_with(Liar(claims={"aud": "another-client"}))


async def test_tokens_are_of_now_by_half_a_minute() -> None:
    import time

    now = int(time.time())
    assert await finish_with(Liar(claims={"iat": now + 20, "nbf": now + 20}))
    assert await finish_with(Liar(claims={"exp": now - 20, "iat": now - 300}))
    for late in ({"exp": now - 40, "iat": now - 300}, {"nbf": now + 60}):
        with pytest.raises(LoginError, match="does not hold"):
            await finish_with(Liar(claims=late))


def test_no_token_is_made_by_a_shared_secret() -> None:
    from broker.identity.oidc import ALGORITHMS

    assert not [name for name in ALGORITHMS if name.startswith("HS") or name == "none"]
