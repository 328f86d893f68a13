"""The how-to pages for identity providers, each tried with answers of the shape that the provider really
gives.

The YAML of the page is read by the product's own reader; the provider in its place answers from
tests/providers/.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from broker.config import Config, OidcSettings
from broker.identity.answer import Identity, LoginError
from broker.identity.bindings import Bindings
from broker.identity.kept import Keep
from broker.identity.looking import Looking
from broker.identity.people import People, outdated
from broker.identity.providers import Providers
from broker.policy_file.holder import load
from broker.store.engine import Store
from tests import tables

ROOT = Path(__file__).parents[3]
PEOPLE = "\npeople:\n  ada: {name: Ada Lovelace, email: ada@example.com}\n"
KEY = RSAKey.generate_key(2048, {"kid": "one"})
ACCOUNT = RSAKey.generate_key(2048, {"kid": "account"})


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return tables.sqlite(tmp_path / "portcullis.db")


def answers(name: str) -> dict[str, Any]:
    found = json.loads((ROOT / "tests" / "providers" / f"{name}.json").read_text())
    assert found["source"]
    return dict(found)


def page(name: str, nth: int = 0) -> str:
    text = (ROOT / "docs" / "how-to" / f"log-in-with-{name}.md").read_text()
    return re.findall(r"```yaml\n(.*?)```", text, re.S)[nth]


@dataclass
class Cloud:
    """Every host that a recipe asks, answering as recorded; a test changes what it says."""

    recorded: dict[str, Any]
    claims: dict[str, Any] = field(default_factory=dict)
    nonce: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    wrong: dict[str, tuple[int, Any]] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        host = dict(scope["headers"])[b"host"].decode()
        query = parse_qs(scope["query_string"].decode())
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((host, scope["path"]))
        status, said = self.answer(host, scope["path"], query, parse_qs(body.decode()), headers)
        content = json.dumps(said).encode()
        start = {"type": "http.response.start", "status": status}
        await send(start | {"headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": content})

    def answer(self, host: str, path: str, query: Any, form: Any, headers: Any) -> tuple[int, Any]:
        for part, said in self.wrong.items():
            if part in f"{host}{path}":
                return said
        found = self.recorded["discovery"]
        if path.endswith("/.well-known/openid-configuration"):
            return 200, found
        if f"https://{host}{path}" == found["jwks_uri"]:
            return 200, KeySet([KEY]).as_dict(private=False)
        grant = form.get("grant_type", [""])[0]
        if f"https://{host}{path}" == found["token_endpoint"] and grant == "authorization_code":
            return 200, {"access_token": "at", "token_type": "Bearer", "id_token": self._id_token()}
        if grant == "client_credentials":
            assert form["scope"] == ["https://graph.microsoft.com/.default"]
            return 200, {"token_type": "Bearer", "expires_in": 3599, "access_token": "graph"}
        if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return self._google_token(form["assertion"][0], f"https://{host}{path}")
        if host == "graph.microsoft.com" and headers["authorization"] == "Bearer graph":
            return 200, self.recorded["graph"]["pages"]["$skiptoken" in query]
        if host == "admin.googleapis.com" and headers["authorization"] == "Bearer directory":
            assert query["userKey"] == ["ada@example.com"]
            return 200, self.recorded["directory"]["pages"]["pageToken" in query]
        return 404, {}

    def _id_token(self) -> str:
        now = int(time.time())
        claims = self.recorded["claims"] | {"iat": now, "nbf": now, "exp": now + 300, "nonce": self.nonce}
        claims |= self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": "one", "typ": "JWT"}, claims, KEY)

    def _google_token(self, assertion: str, here: str) -> tuple[int, Any]:
        """Let the service account in as Google does: by its signature, for the administrator and the
        scope.
        """
        claims = jwt.decode(assertion, ACCOUNT, algorithms=["RS256"]).claims
        assert claims["iss"] == "directory@project.iam.gserviceaccount.com"
        assert claims["aud"] == here
        assert claims["scope"] == "https://www.googleapis.com/auth/admin.directory.group.readonly"
        if claims["sub"] != "groups-reader@example.com":
            return 401, {"error": "unauthorized_client"}
        return 200, {"access_token": "directory", "expires_in": 3599, "token_type": "Bearer"}


class Recipe:
    """A house set up by a page, in front of a cloud."""

    def __init__(
        self, config: Config, cloud: Cloud, store: Store, keep: Keep, clock: Any, chance: Any
    ) -> None:
        self.cloud = cloud
        self.clock = clock
        self.people = People(store, lambda: config, clock)
        transport = httpx2.ASGITransport(app=cloud)
        self.providers = Providers(
            self.people, clock, chance, keep, "https://access.example.com", transport=transport
        )
        self.bindings = Bindings(store, self.people, clock)
        self.looking = Looking(store, self.people, self.providers, clock)
        (self.name,) = config.providers

    async def log_in(self) -> Identity:
        provider = self.providers.oidc(self.name)
        callback = self.providers.callback(self.name)
        sent = await provider.begin(callback)
        query = parse_qs(urlsplit(sent.address).query)
        assert query["redirect_uri"] == [f"https://access.example.com/auth/callback/{self.name}"]
        self.cloud.nonce = query["nonce"][0]
        answer = {"state": query["state"][0], "code": "c"}
        identity = await provider.finish(sent.begun, answer)
        await self.bindings.person(self.providers.settings(self.name), identity)
        return identity

    def groups(self) -> list[str]:
        ada = self.people().directory.principal("ada")
        return sorted(ada.groups) if ada else []


@pytest.fixture
def recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, keep: Keep, chance: Any
) -> Callable[..., Recipe]:
    from tests.broker.identity.real_time import Movable

    for name in ("OKTA", "ENTRA", "GOOGLE"):
        monkeypatch.setenv(f"{name}_CLIENT_SECRET", "s3cret")

    def make(name: str, nth: int = 0) -> Recipe:
        account = {
            "type": "service_account",
            "client_email": "directory@project.iam.gserviceaccount.com",
            "private_key_id": "account",
            "private_key": ACCOUNT.raw_value.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        (tmp_path / "directory.json").write_text(json.dumps(account))
        (tmp_path / "access.yaml").write_text(page(name, nth) + PEOPLE)
        return Recipe(load(tmp_path / "access.yaml"), Cloud(answers(name)), store, keep, Movable(), chance)

    return make


@pytest.mark.parametrize("name", ["okta", "entra", "google"])
async def test_a_page_gives_the_groups_that_its_provider_tells(recipe: Any, name: str) -> None:
    it: Recipe = recipe(name)
    identity = await it.log_in()
    expected = answers(name)["expected"]
    assert identity.subject == expected["subject"]
    assert it.groups() == expected["groups"]


# -------------------------------------------------------------------- Okta


async def test_okta_leaves_the_claim_out_where_no_group_fits_the_filter(recipe: Any) -> None:
    it: Recipe = recipe("okta")
    it.cloud.claims = {"groups": None}
    await it.log_in()
    assert it.groups() == []


async def test_groups_that_cannot_be_read_let_nobody_in(recipe: Any) -> None:
    it: Recipe = recipe("okta")
    it.cloud.claims = {"groups": {"0": "access-dba"}}
    with pytest.raises(LoginError, match="cannot be read"):
        await it.log_in()


async def test_a_claim_is_too_old_after_its_time_and_cannot_be_asked_for(recipe: Any) -> None:
    it: Recipe = recipe("okta")
    await it.log_in()
    it.clock.advance(hours=12)
    await it.looking.again("ada")
    assert it.groups() == []
    refusal = outdated(it.people(), "ada", it.clock)
    assert refusal is not None
    assert refusal.why == "Okta told your groups 12 h ago; they count for 12 h."


# ------------------------------------------------------------------- Entra


@pytest.mark.parametrize("sign", ["_claim_names", "hasgroups"])
async def test_too_many_groups_for_a_token_are_asked_of_graph_page_by_page(recipe: Any, sign: str) -> None:
    it: Recipe = recipe("entra", 1)
    overage = answers("entra")["overage"]
    it.cloud.claims = {"roles": None} | (overage if sign == "_claim_names" else {"hasgroups": True})
    await it.log_in()
    assert it.groups() == ["dba", "engineers"]
    hosts = [host for host, _ in it.cloud.asked]
    assert hosts.count("graph.microsoft.com") == 2
    assert "graph.windows.net" not in hosts, "where the token sends us is not gone to"


async def test_groups_in_the_token_are_not_asked_for(recipe: Any) -> None:
    it: Recipe = recipe("entra", 1)
    it.cloud.claims = {"groups": ["45b7d2e7-b882-4a80-ba97-10b7a63b8fa4"]}
    await it.log_in()
    assert it.groups() == ["dba"]
    assert "graph.microsoft.com" not in [host for host, _ in it.cloud.asked]


@pytest.mark.parametrize(
    ("where", "said", "why"),
    [
        ("graph.microsoft.com", (403, {"error": {"code": "Authorization_RequestDenied"}}), "may not read"),
        ("graph.microsoft.com", (500, {}), "cannot be read"),
        ("graph.microsoft.com", (200, {"value": [{"displayName": "x"}]}), "cannot be read"),
        (
            "graph.microsoft.com",
            (200, {"value": [], "@odata.nextLink": "https://evil.example.com/more"}),
            "another address",
        ),
        (
            "graph.microsoft.com",
            (200, {"value": [], "@odata.nextLink": "https://graph.microsoft.com/v1.0/again"}),
            "come to an end",
        ),
    ],
    ids=["forbidden", "away", "another form", "elsewhere", "for ever"],
)
async def test_a_look_up_at_graph_that_fails_lets_nobody_in(
    recipe: Any, where: str, said: tuple[int, Any], why: str
) -> None:
    it: Recipe = recipe("entra", 1)
    it.cloud.claims = answers("entra")["overage"]
    it.cloud.wrong[where] = said
    with pytest.raises(LoginError, match=why):
        await it.log_in()
    assert it.groups() == []


async def test_an_overage_without_a_look_up_lets_nobody_in(recipe: Any) -> None:
    it: Recipe = recipe("entra")
    it.cloud.claims = {"_claim_names": {"roles": "src1"}}
    with pytest.raises(LoginError, match="more groups than"):
        await it.log_in()


async def test_an_address_that_entra_has_not_verified_is_nobody(recipe: Any) -> None:
    """Whoever owns an account at Entra can give it any address (“nOAuth”)."""
    it: Recipe = recipe("entra")
    for edov in (None, False, "0"):
        it.cloud.claims = {"xms_edov": edov}
        with pytest.raises(LoginError, match="not verified"):
            await it.log_in()


async def test_entras_old_groups_are_looked_up_anew_by_object_id(recipe: Any) -> None:
    it: Recipe = recipe("entra", 1)
    it.cloud.claims = {"groups": ["45b7d2e7-b882-4a80-ba97-10b7a63b8fa4"]}
    await it.log_in()
    it.clock.advance(hours=12)
    assert it.groups() == []
    await it.looking.again("ada")
    assert it.groups() == ["dba", "engineers"]


# ------------------------------------------------------------------ Google


async def test_somebody_in_no_google_group_has_none(recipe: Any) -> None:
    it: Recipe = recipe("google")
    it.cloud.wrong["admin.googleapis.com"] = (200, answers("google")["directory"]["none"])
    await it.log_in()
    assert it.groups() == []


@pytest.mark.parametrize(
    ("where", "said", "why"),
    [
        ("admin.googleapis.com", (403, answers("google")["directory"]["forbidden"]), "may not read groups"),
        ("admin.googleapis.com", (503, {}), "cannot be read"),
        ("admin.googleapis.com", (200, {"groups": [{"id": "1"}]}), "cannot be read"),
        ("admin.googleapis.com", (200, {"groups": [], "nextPageToken": "again"}), "come to an end"),
    ],
    ids=["forbidden", "away", "another form", "for ever"],
)
async def test_a_look_up_at_google_that_fails_lets_nobody_in(
    recipe: Any, where: str, said: tuple[int, Any], why: str
) -> None:
    it: Recipe = recipe("google")
    it.cloud.wrong[where] = said
    with pytest.raises(LoginError, match=why):
        await it.log_in()
    assert it.groups() == []


async def test_googles_old_groups_are_looked_up_anew_and_a_failure_gives_none(recipe: Any) -> None:
    it: Recipe = recipe("google")
    await it.log_in()
    it.clock.advance(hours=12)
    it.cloud.wrong["admin.googleapis.com"] = (503, {})
    await it.looking.again("ada")
    assert it.groups() == []
    before = len(it.cloud.asked)
    await it.looking.again("ada")
    assert len(it.cloud.asked) == before, "it is not asked again at once"
    it.cloud.wrong.clear()
    it.clock.advance(seconds=31)
    await it.looking.again("ada")
    assert it.groups() == ["dba", "engineers"]


async def test_a_google_account_of_another_domain_is_nobody(recipe: Any) -> None:
    it: Recipe = recipe("google")
    it.cloud.claims = {"email": "ada@gmail.com", "hd": None}
    it.cloud.wrong["admin.googleapis.com"] = (200, answers("google")["directory"]["none"])
    with pytest.raises(LoginError, match="not here"):
        await it.log_in()


def test_each_page_names_where_the_provider_sends_people_back() -> None:
    for name in ("okta", "entra", "google"):
        text = (ROOT / "docs" / "how-to" / f"log-in-with-{name}.md").read_text()
        assert f"https://access.example.com/auth/callback/{name}`" in text


def test_the_saml_page_reads_and_names_our_addresses(tmp_path: Path) -> None:
    from tests.saml_idp import key_pair

    (tmp_path / "idp.pem").write_text(key_pair()[1])
    (tmp_path / "access.yaml").write_text(page("saml") + PEOPLE)
    config = load(tmp_path / "access.yaml")
    assert not isinstance(config.providers["corp"], OidcSettings)
    text = (ROOT / "docs" / "how-to" / "log-in-with-saml.md").read_text()
    for part in ("metadata", "acs"):
        assert f"https://access.example.com/auth/saml/corp/{part}`" in text
