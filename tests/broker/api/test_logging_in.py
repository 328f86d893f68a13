"""Logging in over HTTP with several providers: the choice, the way to each and back, and the end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import Request

from broker.api.app import create_api
from broker.api.login import each_once
from broker.api.parts import Parts
from broker.config import Config, GroupSource, OidcSettings, SamlSettings
from broker.identity.bindings import Bindings
from broker.identity.kept import Keep
from broker.identity.logins import Logins
from broker.identity.people import People
from broker.identity.pkce import challenge_of
from broker.identity.providers import Providers
from broker.store.engine import Store
from tests.saml_idp import EMAIL, ENTITY, GROUPS, SamlIdp, Saying, asked, posted

IDP = SamlIdp()
CORP = SamlSettings(
    name="corp",
    title="Corp",
    domains=frozenset({"example.com"}),
    groups=GroupSource(GROUPS, {"prod-engineers": "engineers"}),
    entity=ENTITY,
    sign_in="https://idp.example.com/sso",
    certificates=(IDP.certificate,),
    email=EMAIL,
)
OTHER = OidcSettings("other", "Other", frozenset({"other.example"}), issuer="http://127.0.0.1:9")


@pytest.fixture
def parts(parts: Parts, store: Store, keep: Keep, clock: Any, chance: Any, config: Config) -> Parts:
    known = replace(config, providers={"corp": CORP, "other": OTHER})
    people = People(store, lambda: known, clock)
    parts.service._config = people
    providers = Providers(people, clock, chance, keep, "http://broker.test")
    logins = Logins(providers, Bindings(store, people, clock), keep, parts.tokens, chance)
    return replace(parts, logins=logins)


@pytest.fixture
def keep(store: Store, clock: Any, chance: Any) -> Keep:
    return Keep(store, clock, chance)


@pytest.fixture
async def browser(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_api(parts), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://broker.test") as client:
        yield client


async def answered(browser: httpx2.AsyncClient, address: str, clock: Any, **said: Any) -> httpx2.Response:
    """What the provider's page posts for whoever was sent to `address`."""
    request, acs = asked(address)
    it = Saying(clock.now(), request, acs, "http://broker.test/auth/saml/corp/metadata", **said)
    xml = IDP.response(it, IDP.sign(IDP.assertion(it)))
    return await browser.post(urlsplit(acs).path, data={"SAMLResponse": posted(xml)})


async def test_with_several_providers_the_page_lets_choose(browser: httpx2.AsyncClient) -> None:
    page = await browser.get("/login", params={"next": "/account"})
    assert page.status_code == 200
    links = re.findall(r'href="(/login\?[^"]+)"', page.text)
    assert [parse_qs(urlsplit(link.replace("&amp;", "&")).query)["provider"] for link in links] == [
        ["corp"], ["other"],
    ]  # fmt: skip
    assert "next=%2Faccount" in links[0] or "next=/account" in links[0]


async def test_an_address_finds_its_provider_and_tells_nothing_of_people(browser: httpx2.AsyncClient) -> None:
    for known in ("ada@example.com", "nobody@EXAMPLE.com"):
        page = await browser.get("/login", params={"email": known})
        assert page.status_code == 200, "a form does not lead to another site by itself"
        assert re.search(r'http-equiv="refresh" content="0; url=/login\?[^"]*provider=corp', page.text)
    stranger = await browser.get("/login", params={"email": "x@nowhere.example"})
    assert "No identity provider here speaks for that address." in stranger.text


async def test_what_somebody_types_is_never_markup_nor_another_page(browser: httpx2.AsyncClient) -> None:
    page = await browser.get("/login", params={"next": "//evil.example", "email": '"><script>@x.y'})
    assert "<script>@x.y" not in page.text
    assert "evil.example" not in page.text


async def test_a_login_by_saml_from_the_page_to_the_session(
    browser: httpx2.AsyncClient, parts: Parts, clock: Any
) -> None:
    sent = await browser.get("/login", params={"provider": "corp", "next": "/account"})
    assert sent.status_code == 303
    came = await answered(browser, sent.headers["location"], clock)
    assert came.status_code == 303, came.text
    assert came.headers["location"].startswith("/auth/saml/corp/finish?answer=")
    done = await browser.get(came.headers["location"])
    assert (done.status_code, done.headers["location"]) == (303, "/account")
    session = await parts.web.check(browser.cookies["portcullis"])
    assert session is not None
    assert session.principal == "ada"
    zoe = parts.service.principal("ada")
    assert zoe is not None
    assert "engineers" in zoe.groups


async def test_a_command_line_logs_in_by_saml(browser: httpx2.AsyncClient, clock: Any) -> None:
    verifier = "v" * 64
    asked_for = {"port": 5000, "challenge": challenge_of(verifier), "state": "s" * 24}
    choice = await browser.get("/auth/cli/start", params=asked_for)
    link = re.findall(r'href="(/auth/cli/start\?[^"]+provider=corp[^"]*)"', choice.text)[0]
    sent = await browser.get(link.replace("&amp;", "&"))
    came = await answered(browser, sent.headers["location"], clock)
    done = await browser.get(came.headers["location"])
    back = urlsplit(done.headers["location"])
    assert (back.netloc, back.path) == ("127.0.0.1:5000", "/callback")
    query = parse_qs(back.query)
    assert query["state"] == ["s" * 24]
    token = await browser.post("/auth/cli/token", json={"code": query["code"][0], "verifier": verifier})
    assert token.json()["principal"] == "ada"


async def test_an_answer_in_another_browser_logs_nobody_in(
    browser: httpx2.AsyncClient, parts: Parts, clock: Any
) -> None:
    """Login CSRF: a stranger's good answer, brought by the victim's browser."""
    sent = await browser.get("/login", params={"provider": "corp"})
    came = await answered(browser, sent.headers["location"], clock)
    transport = httpx2.ASGITransport(app=create_api(parts), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://broker.test") as victim:
        done = await victim.get(came.headers["location"])
        assert done.status_code == 403
        await victim.get("/login", params={"provider": "corp"})
        again = await victim.get(came.headers["location"])
        assert again.status_code == 403
        assert "portcullis" not in victim.cookies


async def test_an_answer_of_one_provider_at_the_place_of_another_is_refused(
    browser: httpx2.AsyncClient, clock: Any
) -> None:
    sent = await browser.get("/login", params={"provider": "corp"})
    came = await answered(browser, sent.headers["location"], clock)
    elsewhere = came.headers["location"].replace("/corp/", "/other/")
    assert (await browser.get(elsewhere)).status_code == 403
    assert (await browser.get("/auth/callback/corp", params={"code": "c", "state": "s"})).status_code == 403


async def test_a_bad_answer_is_told_and_noted(browser: httpx2.AsyncClient, parts: Parts, clock: Any) -> None:
    sent = await browser.get("/login", params={"provider": "corp"})
    came = await answered(browser, sent.headers["location"], clock, recipient="https://other.example")
    assert came.status_code == 403
    assert "it is not for this place" in came.text.replace("&#39;", "'")


async def test_our_metadata_is_public_and_only_for_saml(browser: httpx2.AsyncClient) -> None:
    found = await browser.get("/auth/saml/corp/metadata")
    assert found.headers["content-type"] == "application/samlmetadata+xml"
    assert "http://broker.test/auth/saml/corp/acs" in found.text
    for missing in ("other", "nobody"):
        assert (await browser.get(f"/auth/saml/{missing}/metadata")).status_code == 404


async def test_a_provider_that_is_not_there_is_told(browser: httpx2.AsyncClient) -> None:
    assert (await browser.get("/login", params={"provider": "nobody"})).status_code == 503
    assert (await browser.get("/login", params={"provider": "../x"})).status_code == 422


async def test_an_account_is_released_by_administrators_only(
    browser: httpx2.AsyncClient, parts: Parts, clock: Any, call: Any, app: Any
) -> None:
    sent = await browser.get("/login", params={"provider": "corp"})
    came = await answered(browser, sent.headers["location"], clock)
    await browser.get(came.headers["location"])
    ada, sam = await call("ada"), await call("sam")
    assert (await ada.get("/api/v1/me")).json()["account"]["provider"] == "Corp"
    assert (await ada.post("/api/v1/identities/ada/unbind", json={})).status_code == 403
    assert (await sam.post("/api/v1/identities/ada/unbind", json={})).status_code == 204
    assert (await sam.post("/api/v1/identities/ada/unbind", json={})).status_code == 404
    assert (await ada.get("/api/v1/me")).status_code == 401, "their logins end with it"
    assert await parts.web.check(browser.cookies["portcullis"]) is None


# ------------------------------------- RFC 9700, where it is about HTTP


async def test_4_2_and_4_16_pages_of_a_login_tell_no_referrer_and_are_in_no_frame(
    browser: httpx2.AsyncClient,
) -> None:
    for page in ("/login", "/auth/callback/other?code=c&state=s", "/login?provider=corp"):
        headers = (await browser.get(page)).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"


async def test_4_11_nothing_that_a_login_is_given_makes_an_open_redirect(
    browser: httpx2.AsyncClient, clock: Any
) -> None:
    for page in ("https://evil.example", "//evil.example", "/\\evil.example", "/enter/..//evil.example"):
        sent = await browser.get("/login", params={"provider": "corp", "next": page})
        assert urlsplit(sent.headers["location"]).hostname == "idp.example.com"
        came = await answered(browser, sent.headers["location"], clock)
        done = await browser.get(came.headers["location"])
        assert done.headers["location"] == "/"


async def test_4_12_a_post_is_never_passed_on_as_a_post(browser: httpx2.AsyncClient, clock: Any) -> None:
    sent = await browser.get("/login", params={"provider": "corp"})
    came = await answered(browser, sent.headers["location"], clock)
    assert (sent.status_code, came.status_code) == (303, 303)


async def test_4_13_where_we_are_is_not_read_from_the_request(browser: httpx2.AsyncClient) -> None:
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    sent = await browser.get("/login", params={"provider": "corp"}, headers=forged)
    assert asked(sent.headers["location"])[1] == "http://broker.test/auth/saml/corp/acs"


@pytest.mark.parametrize(
    ("query", "read"),
    [(b"code=a&state=s", {"code": "a", "state": "s"}), (b"code=a&code=b&state=s", {}), (b"", {})],
)
def test_an_answer_that_says_something_twice_says_nothing(query: bytes, read: dict[str, str]) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query}
    assert each_once(Request(scope)) == read


async def test_the_cookie_of_a_login_is_for_this_host_and_not_for_scripts(
    browser: httpx2.AsyncClient,
) -> None:
    cookie = (await browser.get("/login", params={"provider": "corp"})).headers["set-cookie"].lower()
    for word in ("httponly", "samesite=lax", "path=/auth", "max-age=600"):
        assert word in cookie
