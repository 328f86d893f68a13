"""A decision that wants a passkey, over HTTP: refused with an address, shown whole, decided by signature."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from broker.api.parts import Parts
from broker.bus.in_process import InProcessBus
from broker.config import Config
from broker.identity.passkeys import Ceremony, Passkeys
from broker.identity.web import WebSession
from broker.service import Service
from broker.store.engine import Store
from tests.soft_authenticator import SoftAuthenticator
from workflows.access import Wish
from workflows.model import RequestState, Story

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
URL = "https://broker.test"


@pytest.fixture
def service(store: Store, clock: Any, chance: Any, config: Config) -> Service:
    """Every yes needs a passkey."""
    rules = tuple(replace(rule, step_up=bool(rule.quorum)) for rule in config.policy.rules)
    strict = replace(config, policy=replace(config.policy, rules=rules))
    made = Service(store, lambda: strict, clock, chance, InProcessBus())
    made.public_url = URL
    return made


@pytest.fixture
async def story(service: Service) -> Story:
    made = await service.submit("ada", Wish("prod-db", "readonly", None, f"INC-1 {EVIL}\u202e"), via="api")
    assert isinstance(made, Story)
    return made


@pytest.fixture
async def grace(parts: Parts) -> WebSession:
    return await parts.web.open("grace")


def as_(session: WebSession) -> dict[str, str]:
    return {"cookie": f"portcullis={session.secret}"}


async def registered(service: Service, session: WebSession) -> SoftAuthenticator:
    person, keys, device = service.principal(session.principal), Passkeys(service), SoftAuthenticator(URL)
    assert person is not None
    asked = await keys.begin_registration(person, session)
    assert isinstance(asked, Ceremony)
    await keys.register(person, session, asked.secret, device.create(asked.options), "x")
    return device


def form_of(page: str) -> tuple[str, str]:
    """The options for the browser, and the challenge's secret."""
    options = re.search(r'data-options="([^"]*)"', page)
    secret = re.search(r'name="challenge" value="([^"]*)"', page)
    assert options is not None, page
    assert secret is not None
    return html.unescape(options[1]), secret[1]


async def state(service: Service, story: Story) -> RequestState:
    found = await service.story(story.request.id)
    assert found is not None
    return found.request.state


async def test_the_api_and_the_command_line_are_refused_with_the_address_of_the_page(
    call: Any, story: Story, service: Service
) -> None:
    client, key = await call("grace"), story.request.id
    for answer in (
        await client.post(f"/api/v1/requests/{key}/approve", json={}),
        await client.post(f"/api/v1/requests/{key}/approve-less", json={"seconds": 60}),
        await client.post("/api/v1/lines", json={"line": f"approve {key}"}),
    ):
        assert answer.status_code == 403
        problem = answer.json()
        assert problem["code"] == "step-up"
        assert problem["link"].startswith(f"{URL}/decide/")
        assert problem["link"] in problem["way_out"]
    assert await state(service, story) is RequestState.PENDING
    assert (await client.get(f"/api/v1/requests/{key}")).json()["step_up"] is True


async def page_for(call: Any, story: Story) -> str:
    answer = await (await call("grace")).post(f"/api/v1/requests/{story.request.id}/approve", json={})
    return str(answer.json()["link"]).removeprefix(URL)


async def test_the_page_shows_what_is_decided_and_the_signature_decides_it(
    anyone: httpx2.AsyncClient, call: Any, story: Story, service: Service, grace: WebSession
) -> None:
    device, address = await registered(service, grace), await page_for(call, story)
    page = (await anyone.get(address, headers=as_(grace))).text
    assert story.request.id in page
    assert "prod-db as readonly" in page
    options, challenge = form_of(page)
    data = {"csrf": grace.csrf, "challenge": challenge, "answer": device.get(options)}
    done = await anyone.post(address, data=data, headers=as_(grace))
    assert done.status_code == 200
    assert await state(service, story) is RequestState.APPROVED
    again = await anyone.post(address, data=data, headers=as_(grace))
    assert again.status_code == 404


async def test_nothing_in_it_is_markup_or_hidden(
    anyone: httpx2.AsyncClient, call: Any, story: Story, service: Service, grace: WebSession
) -> None:
    await registered(service, grace)
    page = (await anyone.get(await page_for(call, story), headers=as_(grace))).text
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\\u202e" in page
    assert "\u202e" not in page


@pytest.mark.parametrize("csrf", ["", "0" * 64])
async def test_a_form_from_elsewhere_decides_nothing_even_with_a_good_signature(
    anyone: httpx2.AsyncClient, call: Any, story: Story, service: Service, grace: WebSession, csrf: str
) -> None:
    device, address = await registered(service, grace), await page_for(call, story)
    options, challenge = form_of((await anyone.get(address, headers=as_(grace))).text)
    data = {"csrf": csrf, "challenge": challenge, "answer": device.get(options)}
    assert (await anyone.post(address, data=data, headers=as_(grace))).status_code == 403
    headers = {**as_(grace), "sec-fetch-site": "cross-site"}
    data["csrf"] = grace.csrf
    assert (await anyone.post(address, data=data, headers=headers)).status_code == 403
    assert await state(service, story) is RequestState.PENDING


async def test_a_wrong_signature_is_told_and_the_page_can_be_used_again(
    anyone: httpx2.AsyncClient, call: Any, story: Story, service: Service, grace: WebSession
) -> None:
    device, address = await registered(service, grace), await page_for(call, story)
    options, challenge = form_of((await anyone.get(address, headers=as_(grace))).text)
    stranger = SoftAuthenticator(URL)
    data = {"csrf": grace.csrf, "challenge": challenge, "answer": stranger.get(options)}
    wrong = await anyone.post(address, data=data, headers=as_(grace))
    assert wrong.status_code == 409
    assert "did not prove" in wrong.text
    options, challenge = form_of(wrong.text)
    data |= {"challenge": challenge, "answer": device.get(options)}
    assert (await anyone.post(address, data=data, headers=as_(grace))).status_code == 200
    assert await state(service, story) is RequestState.APPROVED


async def test_the_page_is_shown_to_nobody_else_and_comes_after_a_login(
    anyone: httpx2.AsyncClient, call: Any, story: Story, parts: Parts
) -> None:
    address = await page_for(call, story)
    asked = await anyone.get(address)
    assert asked.status_code == 303
    assert asked.headers["location"].startswith("/login?next=%2Fdecide%2F")
    for name in ("linus", "ada"):
        answer = await anyone.get(address, headers=as_(await parts.web.open(name)))
        assert answer.status_code == 404
        assert story.request.id not in answer.text


async def test_who_has_no_passkey_is_sent_to_register_one(
    anyone: httpx2.AsyncClient, call: Any, story: Story, grace: WebSession
) -> None:
    page = (await anyone.get(await page_for(call, story), headers=as_(grace))).text
    assert "/account#passkeys" in page
    assert "data-passkey" not in page


# ---------------------------------------------------------- the account page


async def test_a_passkey_is_registered_listed_and_removed_on_the_account_page(
    anyone: httpx2.AsyncClient, service: Service, grace: WebSession
) -> None:
    options, challenge = form_of((await anyone.get("/account", headers=as_(grace))).text)
    device = SoftAuthenticator(URL)
    data = {"csrf": grace.csrf, "challenge": challenge, "answer": device.create(options), "name": EVIL}
    assert (await anyone.post("/account/passkeys", data=data, headers=as_(grace))).status_code == 303
    page = (await anyone.get("/account", headers=as_(grace))).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    key = (await Passkeys(service).of("grace"))[0].id
    remove = f"/account/passkeys/{key}/remove"
    assert (await anyone.post(remove, data={"csrf": "x"}, headers=as_(grace))).status_code == 403
    assert (await anyone.post(remove, data={"csrf": grace.csrf}, headers=as_(grace))).status_code == 303
    assert await Passkeys(service).of("grace") == []


async def test_an_old_session_is_asked_to_log_in_again(
    anyone: httpx2.AsyncClient, service: Service, grace: WebSession, clock: Any
) -> None:
    options, challenge = form_of((await anyone.get("/account", headers=as_(grace))).text)
    answer = SoftAuthenticator(URL).create(options)
    clock.advance(minutes=11)
    page = (await anyone.get("/account", headers=as_(grace))).text
    assert "Log in again" in page
    assert "data-passkey" not in page
    data = {"csrf": grace.csrf, "challenge": challenge, "answer": answer}
    assert (await anyone.post("/account/passkeys", data=data, headers=as_(grace))).status_code == 403
    assert await Passkeys(service).of("grace") == []
