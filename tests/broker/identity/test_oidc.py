"""The broker as relying party, against a provider that answers well and one that answers badly."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from broker.clock import SystemChance, SystemClock
from broker.identity.answer import LoginError
from broker.identity.oidc import Begun, OidcProvider
from broker.identity.pkce import challenge_of
from cli.dev_idp import DevIdp, start_dev_idp
from tests.liar_idp import CALLBACK, ISSUER, Liar, finish_with
from workflows.model import Principal

ADA = Principal("ada", "Ada Lovelace", "ada@example.com", frozenset({"engineers"}))
GRACE = Principal("grace", "Grace Hopper", "grace@example.com")


@pytest.fixture(scope="module")
def idp() -> Iterator[DevIdp]:
    running = start_dev_idp([ADA, GRACE], client_secret="s3cret", redirect_uris=[CALLBACK])
    yield running
    running.stop()


def provider_of(idp: DevIdp, **other: Any) -> OidcProvider:
    secret = other.pop("client_secret", idp.client_secret)
    return OidcProvider(
        idp.issuer, idp.client_id, secret, clock=SystemClock(), chance=SystemChance(), **other
    )


def press(address: str, sub: str = "ada") -> dict[str, str]:
    """Log in at the development provider as a browser does; the query of the callback."""
    answer = httpx2.post(address, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"].startswith(CALLBACK)
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


async def test_a_login_at_a_real_provider_gives_verified_claims(idp: DevIdp) -> None:
    provider = provider_of(idp)
    address, begun = await provider.begin(CALLBACK)
    claims = await provider.finish(begun, press(address))
    assert claims["sub"] == "ada"
    assert (claims["email"], claims["email_verified"]) == ("ada@example.com", True)
    await provider.aclose()


async def test_the_challenge_is_that_of_the_verifier_which_never_leaves_before_the_exchange(
    idp: DevIdp,
) -> None:
    provider = provider_of(idp)
    address, begun = await provider.begin(CALLBACK)
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert query["code_challenge_method"] == "S256"
    assert query["code_challenge"] == challenge_of(begun.verifier)
    assert begun.verifier not in address
    assert begun.verifier not in repr(begun)


async def test_a_stolen_code_is_worth_nothing_without_the_verifier(idp: DevIdp) -> None:
    provider = provider_of(idp)
    address, begun = await provider.begin(CALLBACK)
    answer = press(address)
    thief = Begun(begun.state, begun.nonce, SystemChance().token(48), CALLBACK)
    with pytest.raises(LoginError, match="did not honour the code"):
        await provider.finish(thief, answer)


async def test_a_code_is_good_once(idp: DevIdp) -> None:
    provider = provider_of(idp)
    address, begun = await provider.begin(CALLBACK)
    answer = press(address)
    await provider.finish(begun, answer)
    with pytest.raises(LoginError, match="did not honour the code"):
        await provider.finish(begun, answer)


async def test_an_answer_to_another_login_is_refused(idp: DevIdp) -> None:
    provider = provider_of(idp)
    address, _ = await provider.begin(CALLBACK)
    _, other = await provider.begin(CALLBACK)
    with pytest.raises(LoginError, match="another login"):
        await provider.finish(other, press(address))


async def test_a_wrong_client_secret_gets_nobody_in(idp: DevIdp) -> None:
    provider = provider_of(idp, client_secret="guess")
    address, begun = await provider.begin(CALLBACK)
    with pytest.raises(LoginError, match="did not honour the code"):
        await provider.finish(begun, press(address))


async def test_saying_no_at_the_provider_is_told_as_it_is(idp: DevIdp) -> None:
    provider = provider_of(idp)
    address, begun = await provider.begin(CALLBACK)
    answer = httpx2.post(address, data={"action": "deny"})
    query = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    with pytest.raises(LoginError, match="access_denied"):
        await provider.finish(begun, {"state": begun.state, **query})


async def test_the_development_provider_knows_only_its_people(idp: DevIdp) -> None:
    provider = provider_of(idp)
    address, _ = await provider.begin(CALLBACK)
    assert httpx2.post(address, data={"sub": "mallory"}).status_code == 403
    made = httpx2.put(idp.issuer + "/users/mallory", json={"email": "ada@example.com"})
    assert made.status_code == 403


async def test_a_provider_that_is_away_is_told_without_a_trace() -> None:
    provider = OidcProvider("http://127.0.0.1:9", "c", "s", clock=SystemClock(), chance=SystemChance())
    with pytest.raises(LoginError, match="cannot be reached"):
        await provider.begin(CALLBACK)


def test_an_issuer_over_plain_http_is_refused_unless_it_is_this_machine() -> None:
    with pytest.raises(ValueError, match="https"):
        OidcProvider("http://idp.example.com", "c", "s", clock=SystemClock(), chance=SystemChance())


# -------------------------------------------------- a provider that lies


async def test_an_honest_answer_of_the_liar_is_taken() -> None:
    assert (await finish_with(Liar()))["sub"] == "ada"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "somebody-else"},
        {"aud": ["us", "them"]},
        {"aud": ["us", "them"], "azp": "them"},
        {"azp": "them"},
        {"exp": int(time.time()) - 3600},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"nonce": "of another login"},
        {"nonce": None},
        {"sub": None},
        {"exp": None},
        {"aud": None},
        {"iss": None},
    ],
    ids=lambda claims: "-".join(f"{name} {type(value).__name__}" for name, value in claims.items()),
)
async def test_a_token_with_a_claim_that_does_not_fit_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(LoginError):
        await finish_with(Liar(claims=claims))


async def test_several_audiences_are_fine_when_the_token_was_issued_to_us() -> None:
    assert await finish_with(Liar(claims={"aud": ["us", "them"], "azp": "us"}))


async def test_a_token_signed_by_another_key_is_refused() -> None:
    other = RSAKey.generate_key(2048, {"kid": "one"})
    with pytest.raises(LoginError, match="not signed"):
        await finish_with(
            Liar(forge=lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, other))
        )


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


async def test_an_unsigned_token_is_refused() -> None:
    def unsigned(claims: dict[str, Any]) -> str:
        head = part(b'{"alg":"none"}')
        return f"{head}.{part(json.dumps(claims).encode())}."

    with pytest.raises(LoginError, match="not signed"):
        await finish_with(Liar(forge=unsigned))


async def test_a_public_key_used_as_a_shared_secret_is_refused() -> None:
    liar = Liar()

    def confused(claims: dict[str, Any]) -> str:
        head = part(b'{"alg":"HS256","kid":"one"}')
        signed = f"{head}.{part(json.dumps(claims).encode())}"
        return f"{signed}.{part(hmac.digest(liar.key.as_pem(private=False), signed.encode(), 'sha256'))}"

    liar.forge = confused
    with pytest.raises(LoginError, match="not signed"):
        await finish_with(liar)


async def test_a_key_that_was_rotated_in_is_found_by_looking_once_more() -> None:
    liar = Liar()
    moment = [0.0]

    class Later(SystemClock):
        def monotonic(self) -> float:
            return moment[0]

    provider = OidcProvider(
        ISSUER, "us", "x", clock=Later(), chance=SystemChance(), transport=httpx2.ASGITransport(app=liar)
    )
    _, begun = await provider.begin(CALLBACK)
    liar.nonce = begun.nonce
    answer = {"state": begun.state, "code": "c"}
    await provider.finish(begun, answer)
    liar.key = RSAKey.generate_key(2048, {"kid": "two"})
    liar.header = {"alg": "RS256", "kid": "two"}
    with pytest.raises(LoginError):
        await provider.finish(begun, answer)  # the keys were read a moment ago: a forger cannot make us read
    moment[0] += 60
    await provider.finish(begun, answer)
    assert liar.key_reads == 2


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example.com"},
        {"token_endpoint": "http://idp.example.com/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": None},
    ],
    ids=str,
)
async def test_a_discovery_document_that_does_not_fit_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(LoginError):
        await finish_with(Liar(document=document))


async def test_a_provider_that_promises_to_name_itself_must() -> None:
    document = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(LoginError, match="does not name"):
        await finish_with(Liar(document=document))
    with pytest.raises(LoginError, match="does not name"):
        await finish_with(Liar(document=document), iss="https://evil.example.com")
    assert await finish_with(Liar(document=document), iss=ISSUER)
