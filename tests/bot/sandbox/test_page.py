"""The page, in a real browser: be Ada, type a command; be Grace, press the button. And what it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright, expect


def words(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def button(action_id: str, label: str, **more: Any) -> dict[str, Any]:
    return {"type": "button", "action_id": action_id, "text": {"type": "plain_text", "text": label}, **more}


@pytest.fixture
async def browser_page() -> AsyncIterator[Page]:
    """A page of a real Chromium; an error in a script or a refused resource fails the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
        yield page
        await browser.close()
        assert wrong == []


async def be(page: Page, bolt: Any, handle: str) -> None:
    user = bolt.sandbox.state.user_named(handle)
    await page.get_by_label("You are").select_option(user.id)
    await expect(page.locator("#you-avatar")).to_have_text(user.real_name[0] + user.real_name.split()[1][0])


async def types(page: Page, text: str) -> None:
    box = page.locator("#composer textarea")
    await box.fill(text)
    await box.press("Enter")


def request_bot(bolt: Any) -> None:
    approvers = bolt.sandbox.state.channel_named("approvers").id
    grace = bolt.sandbox.as_user("grace").id

    @bolt.app.command("/access")
    async def access(ack, command, client):
        await ack(f"Asked: {command['text']}")
        row = {"type": "actions", "elements": [button("approve", "Approve", visible_to_user_ids=[grace])]}
        blocks = [words(f"<@{command['user_id']}> asks: {command['text']}"), row]
        await client.chat_postMessage(channel=approvers, text="request", blocks=blocks)

    @bolt.app.action("approve")
    async def approve(ack, body, client):
        await ack()
        where, ts = body["channel"]["id"], body["message"]["ts"]
        await client.chat_update(
            channel=where, ts=ts, text="ok", blocks=[words("Approved :white_check_mark:")]
        )
        await client.chat_postMessage(channel=where, thread_ts=ts, text=f"by <@{body['user']['id']}>")


async def test_ada_types_a_command_and_grace_presses_the_button(bolt, browser_page):
    request_bot(bolt)
    page = browser_page
    await page.goto(bolt.sandbox.base_url)
    await be(page, bolt, "ada")
    await types(page, "/access request prod-db 1h because INC-142")
    await expect(page.get_by_text("Only visible to you")).to_be_visible()
    await expect(page.get_by_text("Asked: request prod-db 1h")).to_be_visible()
    await expect(page.get_by_role("button", name="approvers")).to_have_count(0)

    await be(page, bolt, "linus")
    await page.get_by_role("button", name="approvers").click()
    await expect(page.get_by_text("@Ada Lovelace")).to_be_visible()
    await expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)

    await be(page, bolt, "grace")
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("Approved")).to_be_visible()
    await page.get_by_text("1 reply").click()
    await expect(page.locator("#thread").get_by_text("by @Grace Hopper")).to_be_visible()


async def test_what_people_type_is_never_markup(http_bolt, browser_page):
    evil = '<img src=x onerror="alert(1)"> <script>alert(2)</script> & *bold* `code`'
    await http_bolt.sandbox.as_user("ada").types("#general", evil)
    general = http_bolt.sandbox.state.channel_named("general").id
    text = "<javascript:alert(3)|press me> <https://example.com/?a=1&amp;b=2|fine> <!date^1^{date}|x>"
    await http_bolt.client.chat_postMessage(channel=general, text=text)
    page = browser_page
    await page.goto(http_bolt.sandbox.base_url)
    await expect(page.locator("#messages strong", has_text="bold")).to_be_visible()
    assert evil.split(" &")[0] in await page.locator("#messages").inner_text()
    assert await page.locator("#messages script, #messages img[src=x]").count() == 0
    await expect(page.get_by_text("press me")).to_be_visible()
    links = await page.locator("#messages a").evaluate_all("all => all.map(a => a.href)")
    assert links == ["https://example.com/?a=1&b=2"]


async def test_a_modal_keeps_what_was_typed_and_shows_errors_at_their_fields(http_bolt, browser_page):
    def field(name: str, element: dict[str, Any]) -> dict[str, Any]:
        label = {"type": "plain_text", "text": name}
        return {"type": "input", "block_id": name, "label": label, "element": {"action_id": name, **element}}

    view = {
        "type": "modal",
        "callback_id": "ask",
        "title": {"type": "plain_text", "text": "Ask"},
        "submit": {"type": "plain_text", "text": "Send"},
        "blocks": [
            field("Resource", {"type": "external_select", "min_query_length": 0}),
            field("Reason", {"type": "plain_text_input"}),
        ],
    }
    submitted = []

    @http_bolt.app.command("/access")
    async def access(ack, command, client):
        await ack()
        await client.views_open(trigger_id=command["trigger_id"], view=view)

    @http_bolt.app.options("Resource")
    async def resources(ack):
        await ack(options=[{"text": {"type": "plain_text", "text": "prod-db"}, "value": "r1"}])

    @http_bolt.app.view("ask")
    async def submit(ack, view):
        values = view["state"]["values"]
        reason = values["Reason"]["Reason"]["value"]
        if not reason.startswith("INC"):
            await ack(response_action="errors", errors={"Reason": "Name the incident."})
            return
        submitted.append((values["Resource"]["Resource"]["selected_option"]["value"], reason))
        await ack()

    page = browser_page
    await page.goto(http_bolt.sandbox.base_url)
    await be(page, http_bolt, "ada")
    await types(page, "/access")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Send").click()
    await expect(dialog.get_by_text("Please complete this required field.").first).to_be_visible()
    await dialog.get_by_label("Resource").click()
    await dialog.get_by_role("option", name="prod-db").click()
    await dialog.get_by_label("Reason").fill("because")
    await dialog.get_by_role("button", name="Send").click()
    await expect(dialog.get_by_text("Name the incident.")).to_be_visible()
    await expect(dialog.get_by_label("Resource")).to_have_value("prod-db")
    await expect(dialog.get_by_label("Reason")).to_have_value("because")
    await dialog.get_by_label("Reason").fill("INC-142")
    await dialog.get_by_role("button", name="Send").click()
    await expect(dialog).to_have_count(0)
    assert submitted == [("r1", "INC-142")]


async def test_the_home_tab_is_published_when_it_is_opened(http_bolt, browser_page):
    @http_bolt.app.event("app_home_opened")
    async def opened(event, client):
        blocks = [words("Your access, <@" + event["user"] + ">")]
        await client.views_publish(user_id=event["user"], view={"type": "home", "blocks": blocks})

    page = browser_page
    await page.goto(http_bolt.sandbox.base_url)
    await be(page, http_bolt, "grace")
    await page.locator("#channels").get_by_role("button", name="Portcullis").click()
    await page.get_by_role("button", name="Home").click()
    await expect(page.get_by_text("Your access, @Grace Hopper")).to_be_visible()


def option(name: str) -> dict[str, Any]:
    return {"text": {"type": "plain_text", "text": name}, "value": name.lower()}


async def test_every_interactive_element_tells_the_app_what_was_chosen(http_bolt, browser_page):
    heard: list[tuple[str, Any]] = []

    @http_bolt.app.action(re.compile(".*"))
    async def any_action(ack, action):
        await ack()
        value = next((v for k, v in action.items() if k.startswith("selected") or k == "value"), None)
        value = [one["value"] for one in value] if isinstance(value, list) else value
        heard.append((action["action_id"], value["value"] if isinstance(value, dict) else value))

    choices = [option("Reader"), option("Writer")]
    confirm = {
        "title": {"type": "plain_text", "text": "Sure?"},
        "text": {"type": "mrkdwn", "text": "*Really*?"},
    }
    elements = [
        {"type": "static_select", "action_id": "role", "options": choices},
        {"type": "users_select", "action_id": "person"},
        {"type": "datepicker", "action_id": "day"},
        {"type": "timepicker", "action_id": "time"},
        {"type": "radio_buttons", "action_id": "one", "options": choices},
        {"type": "checkboxes", "action_id": "many", "options": choices},
        {"type": "overflow", "action_id": "more", "options": choices},
        button("revoke", "Revoke", value="g1", style="danger", confirm=confirm),
    ]
    general = http_bolt.sandbox.state.channel_named("general").id
    blocks = [{"type": "actions", "block_id": "all", "elements": elements}]
    await http_bolt.client.chat_postMessage(channel=general, text="all", blocks=blocks)
    ada = http_bolt.sandbox.as_user("ada").id
    page = browser_page
    await page.goto(http_bolt.sandbox.base_url)
    block = page.locator("#messages .b-actions")
    await block.locator("select").nth(0).select_option("writer")
    await block.locator("select").nth(1).select_option(ada)
    await block.locator("input[type=date]").fill("2026-11-24")
    await block.locator("input[type=time]").fill("18:00")
    await block.locator("input[type=radio]").nth(1).check()
    await block.locator("input[type=checkbox]").nth(0).check()
    await block.get_by_label("More actions").click()
    await block.locator(".menu button").nth(0).click()
    await block.get_by_role("button", name="Revoke").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Cancel").click()
    await block.get_by_role("button", name="Revoke").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Yes").click()
    await expect(page.get_by_role("alertdialog")).to_have_count(0)
    await expect(block.locator(".busy")).to_have_count(0)
    assert heard == [
        ("role", "writer"),
        ("person", ada),
        ("day", "2026-11-24"),
        ("time", "18:00"),
        ("one", "writer"),
        ("many", ["reader"]),
        ("more", "reader"),
        ("revoke", "g1"),
    ]


async def test_an_app_that_does_not_answer_is_said_so(http_bolt, browser_page):
    @http_bolt.app.action("slow")
    async def slow(ack):
        await asyncio.sleep(1.3)

    general = http_bolt.sandbox.state.channel_named("general").id
    blocks = [{"type": "actions", "elements": [button("slow", "Slow")]}]
    await http_bolt.client.chat_postMessage(channel=general, text="slow", blocks=blocks)
    page = browser_page
    await page.goto(http_bolt.sandbox.base_url)
    await page.get_by_role("button", name="Slow").click()
    await expect(page.get_by_text("Portcullis did not answer in time.")).to_be_visible()


async def ask(bolt: Any, body: Any, **headers: str) -> tuple[int, str]:
    url = f"{bolt.sandbox.base_url}/sandbox/act"
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as reply:
        return reply.status, await reply.text()


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
async def test_another_website_cannot_act(api, headers):
    general = api.sandbox.state.channel_named("general").id
    act = {"do": "type", "user": api.sandbox.as_user("ada").id, "channel": general, "text": "hi"}
    assert (await ask(api, act, **headers))[0] == 403
    assert (await ask(api, act))[0] == 200
    assert len(api.sandbox.as_user("ada").messages("#general")) == 1


async def test_an_act_that_is_not_json_is_refused(api):
    url = f"{api.sandbox.base_url}/sandbox/act"
    async with aiohttp.ClientSession() as http, http.post(url, data="{}") as reply:
        assert reply.status == 415


async def test_one_person_cannot_submit_another_s_modal(api):
    ada, grace = api.sandbox.as_user("ada"), api.sandbox.as_user("grace")
    view = {"type": "modal", "title": {"type": "plain_text", "text": "M"}, "blocks": [words("x")]}
    await api.client.views_open(trigger_id=api.sandbox.state.new_trigger(ada.id), view=view)
    _, answer = await ask(api, {"do": "close", "user": grace.id, "view": ada.modal.id})
    assert "gone" in answer
    assert ada.modal is not None


async def test_faults_are_armed_and_listed_over_http(api):
    url = f"{api.sandbox.base_url}/sandbox/faults"
    async with aiohttp.ClientSession() as http:
        await http.post(url, json={"fault": "rate_limit", "on": "auth.test", "times": 2, "value": 7})
        async with http.get(url) as reply:
            armed = (await reply.json())["armed"]
        assert armed == [{"fault": "rate_limit", "on": "auth.test", "times": 2, "value": 7}]
        async with http.post(url, json={"fault": "meteor"}) as reply:
            assert reply.status == 400
            assert "there are rate_limit" in (await reply.json())["error"]
        async with http.post(f"{api.sandbox.api_url}auth.test") as reply:
            assert (reply.status, reply.headers["Retry-After"]) == (429, "7")
