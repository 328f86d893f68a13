"""In a real Chromium with a real authenticator: Una links her Slack account, Grace decides with a passkey.

Slack is the sandbox, the identity provider a real one. With PORTCULLIS_SCREENSHOTS set to a folder the
pictures are kept there.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.async_api import CDPSession, Page, async_playwright, expect

from bot.app import EVENTS_PATH
from bot.sandbox import App, Driver, Message, Person, Room, Sandbox, Workspace, create_sandbox, text_of
from cli.dev_idp import start_dev_idp
from cli.embedded_postgres import free_port
from cli.house import House
from cli.settings import ServeSettings
from workflows.model import Principal

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
PEOPLE = [
    Principal("una", "Una Novak", "una@example.com"),
    Principal("grace", "Grace Hopper", "grace@example.com"),
    Principal("mallory", "Mallory Moss", "mallory@example.com"),
]
POLICY = """
people:
  una: {name: Una Novak, email: una@example.com, groups: [engineers]}
  grace: {name: Grace Hopper, email: grace@example.com, slack: U0GRACE, groups: [dba]}
  mallory: {name: Mallory Moss, email: mallory@example.com, groups: [engineers]}
groups:
  engineers: {title: Engineers}
  dba: {title: Database approvers, channel: C0DBA}
slack: {team: T0SHOP}
resources:
  prod-db:
    kind: postgres
    title: Shop, production
    address: 127.0.0.1:1
    database: shop
    tls: disable
    admin: {user: keeper, password: "file:secret"}
    roles:
      readwrite: {memberships: [app_readwrite], title: Read and write}
rules:
  - name: engineers-write-prod
    who: [engineers]
    resources: [prod-db]
    roles: [readwrite]
    longest: 1h
    approval: [{group: dba}]
    step_up: true
"""


@dataclass
class Street:
    """The house, its Slack, and a browser for each person."""

    house: House
    sandbox: Sandbox
    playwright: Any
    chromium: str
    stack: AsyncExitStack

    def be(self, name: str) -> Driver:
        return self.sandbox.as_user(name)

    async def browser(self) -> Page:
        """A browser of somebody's own; an error in a script fails the test."""
        opened = await self.playwright.chromium.launch(executable_path=self.chromium, args=["--no-sandbox"])
        self.stack.push_async_callback(opened.close)
        page = await opened.new_page(viewport={"width": 860, "height": 620}, device_scale_factor=2)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        self.stack.callback(lambda: _none(wrong))
        page.set_default_timeout(20_000)
        return page


def _none(wrong: list[str]) -> None:
    assert wrong == []


@pytest.fixture
async def street(tmp_path: Path, chromium: str) -> AsyncIterator[Street]:
    (tmp_path / "access.yaml").write_text(POLICY)
    (tmp_path / "secret").write_text("x")
    manifest = yaml.safe_load((ROOT / "app-manifest.yaml").read_text(encoding="utf-8"))
    names = {"una": "Una Novak", "grace": "Grace Hopper", "mallory": "Mallory Moss"}
    people = [Person(n, full, f"{n}@example.com", id=f"U0{n.upper()}") for n, full in names.items()]
    workspace = Workspace(
        people=tuple(people),
        channels=(Room("general", tuple(names)), Room("dba", tuple(names), id="C0DBA")),
        groups=(),
        app=App(manifest=manifest),
        name="Shop",
        team_id="T0SHOP",
    )
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(create_sandbox(workspace))
        idp = start_dev_idp(PEOPLE)
        stack.callback(idp.stop)
        port = free_port()
        settings = ServeSettings(
            policy=tmp_path / "access.yaml",
            data_dir=tmp_path / "data",
            http_port=port,
            gate_port=0,
            public_url=f"http://localhost:{port}",
            oidc_issuer=idp.issuer,
            oidc_client_id=idp.client_id,
            oidc_client_secret=idp.client_secret,
            slack_bot_token=workspace.app.bot_token,
            slack_signing_secret=workspace.app.signing_secret,
            slack_api_url=sandbox.api_url,
        )
        house = await stack.enter_async_context(House(settings, only=frozenset({"broker", "bot"})))
        sandbox.request_url = f"http://127.0.0.1:{port}{EVENTS_PATH}"
        playwright = await stack.enter_async_context(async_playwright())
        yield Street(house, sandbox, playwright, chromium, stack)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PORTCULLIS_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def link_in(message: Message) -> str:
    found = re.search(r"http://localhost:\d+/(?:link|decide)/[\w-]+", str(message.blocks))
    assert found is not None, text_of(message)
    return found[0]


async def logs_in(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name).click()


async def authenticator(page: Page, *, verified: bool = True) -> tuple[CDPSession, str]:
    """A virtual authenticator in this browser, as Chrome's own tests use it."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": verified,
        "automaticPresenceSimulation": True,
    }
    made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session, str(made["authenticatorId"])


async def links(street: Street, page: Page, pictures: Path | None = None) -> None:
    """Una types a request; the link, the login, the yes."""
    una = street.be("una")
    await una.commands("/access request prod-db 30m because INC-142 checkout is slow", channel="#general")
    offer = await una.sees("not linked to you yet", ephemeral=True)
    await page.goto(link_in(offer))
    await logs_in(page, "Una Novak")
    await expect(page.get_by_role("heading")).to_have_text("Is this Slack account yours?")
    await expect(page.locator("dl")).to_contain_text("@una")
    await expect(page.locator("dl")).to_contain_text("Shop")
    if pictures:
        await page.screenshot(path=pictures / "link.png")
    await page.get_by_role("button", name="Yes, it is mine").click()
    await expect(page.get_by_role("heading")).to_have_text("Linked")


async def test_una_links_her_account_and_grace_decides_with_a_passkey(street: Street, pictures: Path) -> None:
    una, grace = street.be("una"), street.be("grace")
    hers = await street.browser()
    await links(street, hers, pictures)
    told = await una.sees("is now linked to una")
    await una.clicks(told, "Go on with it")
    card = await grace.sees("INC-142", channel="#dba", ephemeral=False)
    assert "each with a passkey" in text_of(card)
    await hers.goto(f"{street.house.public_url}/account")
    await expect(hers.locator("#slack")).to_contain_text("U0UNA")

    await grace.clicks(card, "approve")
    address = link_in(await grace.sees("needs your passkey", ephemeral=True))
    page = await street.browser()
    session, device = await authenticator(page)
    await page.goto(address)
    await logs_in(page, "Grace Hopper")
    await page.get_by_role("link", name="Register a passkey").click()
    await page.get_by_label("Name of the new one").fill("Work laptop")
    await page.get_by_role("button", name="Register a passkey").click()
    await expect(page.locator("#passkeys")).to_contain_text("Work laptop")
    await expect(page.locator("#passkeys")).to_contain_text("not used yet")
    await page.screenshot(path=pictures / "account.png")

    await page.goto(address)
    await expect(page.get_by_role("heading")).to_have_text("Give access to prod-db?")
    await page.screenshot(path=pictures / "decide.png")
    # Nobody shows a finger: the browser gives no answer, and nothing is decided.
    await session.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
    await page.get_by_role("button", name="Approve with my passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was confirmed")
    await session.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": True})
    await page.get_by_role("button", name="Approve with my passkey").click()
    await expect(page.get_by_role("heading")).to_have_text("Decided")
    await grace.sees_change(card, "Approved")
    assert street.house.broker is not None
    story = (await street.house.broker.service.stories_of("una"))[0]
    assert story.request.approvals[0].proof.startswith("passkey K-")
    await page.goto(f"{street.house.public_url}/account")
    await expect(page.locator("#passkeys")).to_contain_text("last used")
    await page.get_by_role("button", name="Remove Work laptop").click()
    await expect(page.locator("#passkeys")).not_to_contain_text("Work laptop")


async def test_a_link_that_was_passed_on_links_nobody(street: Street) -> None:
    """Mallory sends Una the link for her own account; and Una's own opens in one browser only."""
    await street.be("mallory").commands("/access status", channel="#general")
    sent = link_in(await street.be("mallory").sees("not linked to you yet", ephemeral=True))
    page = await street.browser()
    await page.goto(sent)
    await logs_in(page, "Una Novak")
    await expect(page.get_by_role("heading")).to_have_text("Not linked")
    await expect(page.get_by_role("button", name="Yes, it is mine")).to_have_count(0)
    thief = await street.browser()
    await thief.goto(sent)
    await logs_in(thief, "Mallory Moss")
    await expect(thief.get_by_role("heading")).to_have_text("Not linked")
    assert street.house.broker is not None
    assert await street.house.broker.service.slack_users(["una", "mallory"]) == {}


async def test_what_changes_while_the_page_is_open_is_looked_at_again(street: Street) -> None:
    await links(street, await street.browser())
    una, grace = street.be("una"), street.be("grace")
    await una.clicks(await una.sees("is now linked to una"), "Go on with it")
    card = await grace.sees("INC-142", channel="#dba", ephemeral=False)
    page = await street.browser()
    await authenticator(page)
    await page.goto(f"{street.house.public_url}/login?next=/account")
    await logs_in(page, "Grace Hopper")
    await page.get_by_role("button", name="Register a passkey").click()
    await expect(page.locator("#passkeys")).to_contain_text("not used yet")
    await grace.clicks(card, "approve")
    await page.goto(link_in(await grace.sees("needs your passkey", ephemeral=True)))
    assert street.house.broker is not None
    service = street.house.broker.service
    request = (await service.stories_of("una"))[0].request.id
    await service.comment(request, "una", "it is about all orders now", via="api")
    await page.get_by_role("button", name="Approve with my passkey").click()
    await expect(page.locator("#wrong")).to_contain_text("It has changed")
    assert (await service.stories_of("una"))[0].request.approvals == ()
    await page.get_by_role("button", name="Approve with my passkey").click()
    await expect(page.get_by_role("heading")).to_have_text("Decided")
