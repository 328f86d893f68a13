"""Logging in with a real Chromium: at the certified `oidc-provider` and at a SAML provider on another site.

The broker is at 127.0.0.1 and the SAML provider at localhost, which are two sites to a browser: so what
cookies come along with a POST from one to the other is as it is in the world.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from playwright.async_api import Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from broker.api.app import create_api
from broker.api.parts import GateAddress, Parts
from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance, SystemClock
from broker.config import Config, GroupSource, OidcSettings, SamlSettings, SecretGiven
from broker.credentials.seal import Seal
from broker.gates.gates import Gates
from broker.identity.bindings import Bindings
from broker.identity.certificates import ClientCertificates
from broker.identity.directory import Person, StaticDirectory
from broker.identity.kept import Keep
from broker.identity.logins import Logins
from broker.identity.people import People
from broker.identity.providers import Providers
from broker.identity.tokens import Tokens
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.service import Service
from broker.store.engine import Store
from cli.recordings import Shelf
from tests.saml_idp import EMAIL, ENTITY, GROUPS, SamlIdp, Saying, asked, posted
from workflows.model import Group, Principal
from workflows.policy import Policy

pytestmark = pytest.mark.timeout(180)
NODE = Path(__file__).parents[1] / "oidc_provider"
PEOPLE = {
    name: Person(Principal(name, name.title(), f"{name}@{domain}"))
    for name, domain in (("ada", "example.com"), ("una", "partner.example"))
}


@dataclass
class House:
    url: str
    parts: Parts
    oidc: str


class Quiet(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """pytest's stay."""


async def serve(stack: AsyncExitStack, app: Any, listener: socket.socket) -> None:
    server = Quiet(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve([listener]))

    async def stop() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(stop)
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.01)


def saml_pages(idp: SamlIdp, broker: str) -> Starlette:
    """The pages of a SAML provider: whoever comes with a request may log in as Una, by a button."""

    async def sso(request: Request) -> HTMLResponse:
        asked_for, acs = asked(str(request.url))
        it = Saying(
            SystemClock().now(), asked_for, acs, f"{broker}/auth/saml/partner/metadata",
            subject="u-1", email="una@partner.example",
        )  # fmt: skip
        answer = posted(idp.response(it, idp.sign(idp.assertion(it))))
        return HTMLResponse(
            f'<form method="post" action="{escape(acs)}"><input type="hidden" name="SAMLResponse" '
            f'value="{answer}"><button>Log in as Una</button></form>'
        )

    return Starlette(routes=[Route("/sso", sso)])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        listener, saml = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        issuer = await oidc_provider(stack, f"{url}/auth/callback/staff", f"{url}/auth/logout/staff")
        idp = SamlIdp()
        await serve(stack, saml_pages(idp, url), saml)
        staff = OidcSettings(
            "staff", "Staff", frozenset({"example.com"}), issuer=issuer, client_id="portcullis",
            client_secret=SecretGiven("not-a-secret-of-anybody"),
            scopes=("openid", "email", "groups"), groups=GroupSource("groups", {"eng": "engineers"}),
        )  # fmt: skip
        partner = SamlSettings(
            "partner", "Partner", frozenset({"partner.example"}), entity=ENTITY,
            sign_in=f"http://localhost:{saml.getsockname()[1]}/sso", certificates=(idp.certificate,),
            email=EMAIL, groups=GroupSource(GROUPS, {"prod-engineers": "engineers"}),
        )  # fmt: skip
        policy = Policy({"engineers": Group("engineers")})
        config = Config(policy, StaticDirectory(PEOPLE), providers={"staff": staff, "partner": partner})
        parts = await parts_of(stack, tmp_path, config, url)
        await serve(stack, create_api(parts), listener)
        yield House(url, parts, issuer)


async def oidc_provider(stack: AsyncExitStack, redirect: str, logout: str) -> str:
    """A running `oidc-provider` for these addresses; its issuer. It ends with its standard input."""
    if not (NODE / "node_modules").is_dir():
        pytest.fail("oidc-provider is missing: npm ci --prefix tests/oidc_provider. ./test does this.")
    process = await asyncio.create_subprocess_exec(
        "node", str(NODE / "server.mjs"), redirect, logout,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def stop() -> None:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    stack.push_async_callback(stop)
    assert process.stdout is not None
    return str(json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["issuer"])


async def parts_of(stack: AsyncExitStack, folder: Path, config: Config, url: str) -> Parts:
    clock, chance = SystemClock(), SystemChance()
    store = Store(f"sqlite:///{folder / 'portcullis.db'}")
    await store.migrate()
    stack.push_async_callback(store.close)
    people = People(store, lambda: config, clock)
    service, keep, tokens = (
        Service(store, people, clock, chance, InProcessBus()), Keep(store, clock, chance),
        Tokens(store, clock, chance),
    )  # fmt: skip
    providers = Providers(people, clock, chance, keep, url)
    stack.push_async_callback(providers.aclose)
    return Parts(
        service=service,
        tokens=tokens,
        keep=keep,
        web=WebSessions(keep),
        clock=clock,
        chance=chance,
        public_url=url,
        door=cast(Any, None),
        gate=GateAddress("127.0.0.1", 6543, "-----BEGIN CERTIFICATE-----\n"),
        certificates=ClientCertificates(Seal([b"k" * 32])),
        recordings=Shelf(folder),
        logins=Logins(providers, Bindings(store, people, clock), keep, tokens, chance),
        workloads=Workloads(clock),
        gates=Gates(service, Seal([b"k" * 32])),
    )


@pytest.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = await browser.new_page()
        opened.set_default_timeout(30_000)
        yield opened
        await browser.close()


async def at_oidc_provider(page: Page, name: str) -> None:
    """Its development form: a name, any password, and consent."""
    await page.locator('input[name="login"]').fill(name)
    await page.locator('input[name="password"]').fill("any")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()


async def test_two_people_log_in_at_their_own_providers_and_one_is_logged_out_by_hers(
    house: House, page: Page
) -> None:
    await page.goto(f"{house.url}/account")
    await page.get_by_role("link", name="Staff").click()
    await at_oidc_provider(page, "ada")
    await expect(page).to_have_url(f"{house.url}/account")
    await expect(page.locator("header")).to_contain_text("Ada")
    ada = house.parts.service.principal("ada")
    assert ada is not None
    assert ada.groups == {"engineers"}

    # She logs out there, and the provider tells us by its back channel.
    await page.goto(f"{house.oidc}/session/end")
    await page.get_by_role("button", name="Yes, sign me out").click()
    await expect(page.locator("body")).to_contain_text("Sign-out Success")
    await page.goto(f"{house.url}/account")
    await expect(page.get_by_role("heading")).to_have_text("Log in")

    # Una says her address, and is led to the other provider and back by its POST.
    await page.get_by_label("e-mail address").fill("una@partner.example")
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_role("button", name="Log in as Una").click()
    await expect(page).to_have_url(f"{house.url}/account")
    await expect(page.locator("header")).to_contain_text("Una")
