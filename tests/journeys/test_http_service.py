"""The story of a service in a real Chromium: log in, ask on the page, approved in Slack, in, revoked, out.

Slack is the sandbox, the identity provider a real one, the service aiohttp's. With PORTCULLIS_SCREENSHOTS set
to a folder the pictures are kept there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet
from playwright.async_api import Page, async_playwright, expect

from bot.app import EVENTS_PATH
from bot.sandbox import App, Driver, Person, Room, Sandbox, Workspace, create_sandbox
from cli.dev_idp import start_dev_idp
from cli.embedded_postgres import free_port
from cli.house import House
from cli.settings import ServeSettings
from proxy.http.har import har
from proxy.recording import read
from workflows.model import Principal

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
NAMES = {"ada": "Ada Lovelace", "grace": "Grace Hopper", "mallory": "Mallory Moss"}
KEY = "the-services-own-key"
POLICY = """
people:
  ada: {name: Ada Lovelace, email: ada@example.com, slack: U0ADA, groups: [engineers]}
  grace: {name: Grace Hopper, email: grace@example.com, slack: U0GRACE, groups: [ops]}
  mallory: {name: Mallory Moss, email: mallory@example.com, slack: U0MALLORY, groups: [others]}
groups:
  engineers: {title: Engineers}
  others: {title: Others}
  ops: {title: Operations, channel: C0OPS}
slack: {team: T0SHOP}
resources:
  grafana:
    kind: http
    title: Dashboards
    address: 127.0.0.1:%(port)s
    tls: disable
    credential: {header: X-Api-Key, value: "file:key.secret"}
    headers: {X-WEBAUTH-USER: "{principal}"}
    record: bodies
    masks: [{field: "$.people[*].email", method: email}]
    roles:
      viewer:
        title: Look
        pass_types: [text/html]
        guardrails:
          - {name: no-admin, action: refuse, paths: ["/admin/**"]}
          - {name: ask, action: hold, methods: [POST], approval: [{group: ops}]}
rules:
  - {name: look, who: [engineers], resources: [grafana], roles: [viewer], longest: 2h,
     approval: [{group: ops}]}
"""
_PAGE = """<!doctype html><title>Dashboards</title><h1>Hello %s</h1>
<form method="post" action="/delete"><button>Delete it</button></form><p id="live"></p>
<script>
const events = new EventSource("/live");
events.onmessage = (event) => { document.getElementById("live").textContent = event.data; };
</script>"""


class Dashboards:
    """The service: says who it was told that asks."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.deleted = 0
        self.streams = 0
        self.port = 0

    async def start(self, stack: AsyncExitStack) -> None:
        app = web.Application()
        app.router.add_get("/live", self._live)
        app.router.add_post("/delete", self._delete)
        app.router.add_get("/people", self._people)
        app.router.add_get("/{rest:.*}", self._page)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]

    async def _page(self, request: web.Request) -> web.Response:
        self.got.append({name.lower(): value for name, value in request.headers.items()})
        text = _PAGE % request.headers.get("X-WEBAUTH-USER", "nobody")
        return web.Response(text=text, content_type="text/html")

    async def _people(self, request: web.Request) -> web.Response:
        return web.json_response({"people": [{"name": "Eve", "email": "eve@secret.example"}]})

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted += 1
        return web.Response(text="<h1>It is deleted</h1>", content_type="text/html")

    async def _live(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        self.streams += 1
        try:
            while True:
                await answer.write(b'data: {"cpu": 1}\n\n')
                await asyncio.sleep(0.1)
        except ConnectionError:
            return answer
        finally:
            self.streams -= 1


@dataclass
class Office:
    house: House
    sandbox: Sandbox
    service: Dashboards
    playwright: Any
    chromium: str
    stack: AsyncExitStack
    folder: Path

    def be(self, name: str) -> Driver:
        return self.sandbox.as_user(name)

    @property
    def address(self) -> str:
        assert self.house.gate is not None
        return self.house.gate.http_address("grafana")

    async def browser(self) -> Page:
        """A browser of somebody's own, that trusts the gate's own authority."""
        opened = await self.playwright.chromium.launch(executable_path=self.chromium, args=["--no-sandbox"])
        self.stack.push_async_callback(opened.close)
        context = await opened.new_context(ignore_https_errors=True, viewport={"width": 860, "height": 620})
        page = await context.new_page()
        page.set_default_timeout(20_000)
        return page


@pytest.fixture
async def office(tmp_path: Path, chromium: str) -> AsyncIterator[Office]:
    manifest = yaml.safe_load((ROOT / "app-manifest.yaml").read_text(encoding="utf-8"))
    workspace = Workspace(
        people=tuple(Person(n, full, f"{n}@example.com", id=f"U0{n.upper()}") for n, full in NAMES.items()),
        channels=(Room("general", tuple(NAMES)), Room("ops", tuple(NAMES), id="C0OPS")),
        groups=(),
        app=App(manifest=manifest),
        name="Shop",
        team_id="T0SHOP",
    )
    async with AsyncExitStack() as stack:
        service = Dashboards()
        await service.start(stack)
        (tmp_path / "access.yaml").write_text(POLICY % {"port": service.port})
        (tmp_path / "key.secret").write_text(KEY + "\n")
        sandbox = await stack.enter_async_context(create_sandbox(workspace))
        idp = start_dev_idp([Principal(n, full, f"{n}@example.com") for n, full in NAMES.items()])
        stack.callback(idp.stop)
        port = free_port()
        settings = ServeSettings(
            policy=tmp_path / "access.yaml",
            data_dir=tmp_path / "data",
            http_port=port,
            gate_port=0,
            gate_http_port=0,
            public_url=f"http://localhost:{port}",
            oidc_issuer=idp.issuer,
            oidc_client_id=idp.client_id,
            oidc_client_secret=idp.client_secret,
            slack_bot_token=workspace.app.bot_token,
            slack_signing_secret=workspace.app.signing_secret,
            slack_api_url=sandbox.api_url,
        )
        house = await stack.enter_async_context(House(settings))
        sandbox.request_url = f"http://127.0.0.1:{port}{EVENTS_PATH}"
        playwright = await stack.enter_async_context(async_playwright())
        yield Office(house, sandbox, service, playwright, chromium, stack, tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PORTCULLIS_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def test_from_the_page_that_asks_to_the_cut(office: Office, pictures: Path) -> None:
    grace = office.be("grace")
    page = await office.browser()

    # Nobody is logged in: to the identity provider; no grant: a page to ask for one.
    await page.goto(f"{office.address}/d/cpu?from=now-1h")
    await page.get_by_role("button", name="Ada Lovelace").click()
    await expect(page.get_by_role("heading")).to_have_text("Dashboards")
    await page.get_by_label("For how long").fill("30m")
    await page.get_by_label("Why").fill("INC-142")
    await page.screenshot(path=pictures / "service-ask.png")
    await page.get_by_role("button", name="Ask for access").click()
    await expect(page.get_by_text("it waits for a decision")).to_be_visible()
    await page.screenshot(path=pictures / "service-waits.png")
    assert office.service.got == []

    # The same request as in Slack; once approved the page goes on to where Ada wanted to be.
    card = await grace.sees("INC-142", channel="#ops")
    await grace.clicks(card, "approve")
    await expect(page.get_by_role("heading")).to_have_text("Hello ada")
    assert page.url == f"{office.address}/d/cpu?from=now-1h"
    await expect(page.locator("#live")).to_have_text('{"cpu": 1}')

    # The service knows who it is, by a key that the broker publishes; the browser knows no secret of it.
    got = office.service.got[-1]
    assert got["x-api-key"] == KEY
    assert "portcullis" not in got.get("cookie", "")
    async with httpx2.AsyncClient() as http:
        keys = (await http.get(f"{office.house.public_url}/.well-known/jwks.json")).json()
    claims = jwt.decode(got["portcullis-identity"], KeySet.import_key_set(keys), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["aud"], claims["role"]) == ("ada", "grafana", "viewer")
    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies(office.address)}
    ours = cookies["__Host-portcullis-gate"]
    assert ours["httpOnly"]
    assert ours["secure"]
    assert ours["sameSite"] == "Lax"
    assert "__Host-portcullis-way" not in cookies
    assert await page.evaluate("document.cookie") == ""

    # Masks, guardrails, and a form that waits for a yes.
    people = await page.evaluate("fetch('/people').then(r => r.text())")
    assert "secret.example" not in people
    assert await page.evaluate("fetch('/admin/users').then(r => r.status)") == 403
    await page.get_by_role("button", name="Delete it").click()
    await expect(page.get_by_role("heading")).to_contain_text("This request waits for")
    await page.screenshot(path=pictures / "service-held.png")
    held = await grace.sees("POST /delete", channel="#ops", timeout=15)
    assert office.service.deleted == 0
    await grace.clicks(held, "review_approve")
    await expect(page.get_by_role("heading")).to_have_text("It is deleted")
    assert office.service.deleted == 1

    # Somebody else's browser gets in by none of that.
    mallory = await office.browser()
    await mallory.goto(office.address)
    await mallory.get_by_role("button", name="Mallory Moss").click()
    await expect(mallory.get_by_role("heading")).to_have_text("Not found")

    # At the revocation what is open is closed within a second.
    await page.goto(f"{office.address}/")
    await expect(page.locator("#live")).to_have_text('{"cpu": 1}')
    await grace.clicks(card, "revoke")
    await grace.sees_modal()
    began = time.monotonic()
    await grace.submits({"reason": "enough"})
    while office.service.streams:
        assert time.monotonic() - began < 2
        await asyncio.sleep(0.02)
    await page.goto(f"{office.address}/")
    await expect(page.get_by_text("You hold no grant for grafana")).to_be_visible()
    await _opens_as_an_archive(office, page, "/d/cpu?from=now-1h")


async def _opens_as_an_archive(office: Office, page: Page, place: str) -> None:
    """What was recorded shows in a browser that has nothing but the archive of it."""
    recordings = [read(path) for path in (office.folder / "data" / "recordings").rglob("S*.jsonl")]
    recorded = next(it for it in recordings if any(place in one.text for one in it.statements))
    archive = office.folder / "it.har"
    archive.write_text(json.dumps(har(recorded)))
    assert page.context.browser is not None
    context = await page.context.browser.new_context()
    await context.route_from_har(archive, not_found="abort")
    again = await context.new_page()
    await again.goto(f"{office.address}{place}")
    await expect(again.get_by_role("heading")).to_have_text("Hello ada")


async def test_a_stolen_or_prepared_address_opens_nothing(office: Office) -> None:
    """Theft and fixation: Mallory takes the address that leads Ada in, or has Ada follow one of her own."""
    service = office.house.broker.service if office.house.broker else None
    assert service is not None
    from workflows.access import Wish
    from workflows.model import Refusal

    made = await service.submit("ada", Wish("grafana", "viewer", reason="INC-1"), via="api")
    assert not isinstance(made, Refusal)
    assert not isinstance(await service.approve(made.request.id, "grace", via="api"), Refusal)
    page = await office.browser()
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    await page.goto(office.address)
    await page.get_by_role("button", name="Ada Lovelace").click()
    await expect(page.get_by_role("heading")).to_have_text("Hello ada")
    (entry,) = {url for url in seen if "/.portcullis/enter" in url}
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for cookies in (
        {},
        {"__Host-portcullis-way": "A" * 43 + ".Lw"},
        {"__Host-portcullis-gate": "pcw_" + (re.search(r"code=([\w-]+)", entry) or [""])[1] + "." + "A" * 43},
    ):
        header = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())} if cookies else {}
        port = entry.split(":")[2].split("/")[0]
        host = entry.split("/")[2]
        async with httpx2.AsyncClient(verify=context, base_url=f"https://127.0.0.1:{port}") as http:
            path = "/" if "__Host-portcullis-gate" in cookies else entry[entry.index("/.portcullis") :]
            answer = await http.get(path, headers={"Host": host, **header})
        assert answer.status_code in (400, 401), answer.text
        assert "__Host-portcullis-gate=pcw" not in str(answer.headers)
    # The address again, in the browser that it was for, but after its login: nothing new begins by it.
    answer = await page.goto(entry)
    assert answer is not None
    assert answer.status == 400
