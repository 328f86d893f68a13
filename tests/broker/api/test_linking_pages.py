"""The page behind the link: whose browser, whose form, whose account; and the account page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from broker.api.parts import Parts
from broker.bus.in_process import InProcessBus
from broker.config import Config
from broker.identity.links import Account, Links
from broker.identity.web import WebSession
from broker.service import Service
from broker.store.engine import Store

EVIL = '"><script>alert(1)</script><img src=x>'
HERS = Account("T0HOME", "U1ADA", "Example & Co", "ada", "Ada Lovelace", "ada@example.com")


@pytest.fixture
def service(store: Store, clock: Any, chance: Any, config: Config) -> Service:
    """Nobody has a Slack account by the policy file."""
    bare = {name: replace(known, slack="") for name, known in config.directory.people.items()}
    policy = replace(config, directory=replace(config.directory, people=bare))
    return Service(store, lambda: policy, clock, chance, InProcessBus())


@pytest.fixture
def links(service: Service) -> Links:
    return Links(service)


def as_(session: WebSession) -> dict[str, str]:
    return {"cookie": f"portcullis={session.secret}"}


async def test_the_page_names_workspace_account_and_person_and_a_yes_links_them(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links, service: Service
) -> None:
    secret = await links.offer(HERS, "request prod-db 1h")
    ada = await parts.web.open("ada")
    page = (await anyone.get(f"/link/{secret}", headers=as_(ada))).text
    for named in ("Example &amp; Co", "@ada", "U1ADA", "ada@example.com", "/access request prod-db 1h"):
        assert named in page
    done = await anyone.post(f"/link/{secret}", data={"csrf": ada.csrf, "say": "yes"}, headers=as_(ada))
    assert done.status_code == 200
    assert await service.slack_user("ada") == "U1ADA"
    for again in (
        await anyone.post(f"/link/{secret}", data={"csrf": ada.csrf, "say": "yes"}, headers=as_(ada)),
        await anyone.get(f"/link/{secret}", headers=as_(ada)),
    ):
        assert again.status_code == 404


async def test_a_login_comes_first_and_one_from_before_the_link_is_asked_for_again(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links, clock: Any
) -> None:
    planted = await parts.web.open("ada")
    clock.advance(seconds=1)
    secret = await links.offer(HERS)
    for headers in ({}, as_(planted)):
        answer = await anyone.get(f"/link/{secret}", headers=headers)
        assert answer.status_code == 303
        to = urlsplit(answer.headers["location"])
        assert to.path == "/login"
        assert parse_qs(to.query)["next"] == [f"/link/{secret}"]
        assert "U1ADA" not in answer.text
    form = {"csrf": planted.csrf, "say": "yes"}
    assert (await anyone.post(f"/link/{secret}", data=form, headers=as_(planted))).status_code == 404


async def test_what_slack_fetches_to_preview_a_link_uses_nothing_up(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links
) -> None:
    secret = await links.offer(HERS)
    for _ in range(3):
        assert (await anyone.get(f"/link/{secret}")).status_code == 303
    assert (await anyone.get(f"/link/{secret}", headers=as_(await parts.web.open("ada")))).status_code == 200


@pytest.mark.parametrize("csrf", ["", "0" * 64, "another session's"])
@pytest.mark.parametrize("site", ["same-origin", "cross-site"])
async def test_a_form_from_elsewhere_links_nothing(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links, service: Service, csrf: str, site: str
) -> None:
    secret = await links.offer(HERS)
    ada = await parts.web.open("ada")
    await anyone.get(f"/link/{secret}", headers=as_(ada))
    csrf = (await parts.web.open("ada")).csrf if csrf == "another session's" else csrf
    headers = {**as_(ada), "sec-fetch-site": site}
    answer = await anyone.post(f"/link/{secret}", data={"csrf": csrf, "say": "yes"}, headers=headers)
    assert answer.status_code == 403
    assert await service.slack_user("ada") is None


async def test_a_right_form_that_the_browser_says_is_anothers_links_nothing(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links, service: Service
) -> None:
    secret, ada = await links.offer(HERS), await parts.web.open("ada")
    await anyone.get(f"/link/{secret}", headers=as_(ada))
    headers = {**as_(ada), "sec-fetch-site": "cross-site"}
    answer = await anyone.post(f"/link/{secret}", data={"csrf": ada.csrf, "say": "yes"}, headers=headers)
    assert answer.status_code == 403
    assert await service.slack_user("ada") is None


async def test_a_forwarded_link_shows_its_victim_no_way_to_say_yes(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links
) -> None:
    """Grace opens the link that was made for Ada's account; and after Ada has opened it, too."""
    secret = await links.offer(HERS)
    grace, ada = await parts.web.open("grace"), await parts.web.open("ada")
    shown = await anyone.get(f"/link/{secret}", headers=as_(grace))
    assert shown.status_code == 409
    assert "Yes, it is mine" not in shown.text
    assert (await anyone.get(f"/link/{secret}", headers=as_(ada))).status_code == 404


async def test_a_no_links_nothing(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links, service: Service
) -> None:
    secret, ada = await links.offer(HERS), await parts.web.open("ada")
    await anyone.get(f"/link/{secret}", headers=as_(ada))
    answer = await anyone.post(f"/link/{secret}", data={"csrf": ada.csrf, "say": "no"}, headers=as_(ada))
    assert "Not linked" in answer.text
    assert await service.slack_user("ada") is None


async def test_no_text_of_slacks_is_markup_on_the_page(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links
) -> None:
    evil = Account("T0HOME", "U1ADA", EVIL, EVIL, EVIL, "ada@example.com")
    secret, ada = await links.offer(evil, f"request {EVIL}"), await parts.web.open("ada")
    page = (await anyone.get(f"/link/{secret}", headers=as_(ada))).text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "<img" not in page


@pytest.mark.parametrize("secret", ["x", "a" * 101, "%2e%2e" * 10, "a" * 40])
async def test_a_link_that_was_never_made_is_not_found(anyone: httpx2.AsyncClient, secret: str) -> None:
    assert (await anyone.get(f"/link/{secret}")).status_code in (404, 422)


async def test_the_account_page_shows_the_link_and_takes_it_away(
    anyone: httpx2.AsyncClient, parts: Parts, links: Links, service: Service
) -> None:
    ada = await parts.web.open("ada")
    assert "/access link" in (await anyone.get("/account", headers=as_(ada))).text
    person = service.principal("ada")
    assert person is not None
    await links.confirm(await links.offer(HERS), ada, person)
    page = (await anyone.get("/account", headers=as_(ada))).text
    assert "U1ADA" in page
    refused = await anyone.post("/account/unlink", data={"csrf": "x"}, headers=as_(ada))
    assert refused.status_code == 403
    assert await service.slack_user("ada") == "U1ADA"
    done = await anyone.post("/account/unlink", data={"csrf": ada.csrf}, headers=as_(ada))
    assert done.status_code == 303
    assert await service.slack_user("ada") is None


async def test_me_tells_the_account_and_the_lines_show_and_take_it_away(
    call: Any, parts: Parts, links: Links, service: Service
) -> None:
    client, person = await call("ada"), service.principal("ada")
    assert person is not None
    assert (await client.get("/api/v1/me")).json()["slack"] is None
    await links.confirm(await links.offer(HERS), await parts.web.open("ada"), person)
    slack = (await client.get("/api/v1/me")).json()["slack"]
    assert (slack["user"], slack["how"], slack["team"]) == ("U1ADA", "login", "T0HOME")
    said = (await client.post("/api/v1/lines", json={"line": "link"})).json()
    assert "U1ADA" in said["text"]
    other = await (await call("grace")).post("/api/v1/lines", json={"line": "unlink @ada"})
    assert other.status_code == 403
    gone = await (await call("sam")).post("/api/v1/lines", json={"line": "unlink @ada"})
    assert gone.status_code == 200
    assert (await client.post("/api/v1/lines", json={"line": "unlink"})).status_code == 404
