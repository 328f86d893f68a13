"""The Slack page in a real Chromium, with the real bot behind it: Ada types, Grace presses, both can read it.

With PORTCULLIS_SCREENSHOTS set to a folder the pictures are kept there; docs/images has been made so.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

House = Any  # tests/journeys/conftest.py, which tests cannot import
pytestmark = [pytest.mark.timeout(300), pytest.mark.parametrize("house", ["http"], indirect=True)]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PORTCULLIS_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    """A page of a real Chromium; an error in a script fails the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = await browser.new_page(viewport={"width": 1280, "height": 800}, device_scale_factor=2)
        wrong: list[str] = []
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.set_default_timeout(20_000)
        yield opened
        await browser.close()
        assert wrong == []


async def be(page: Page, house: House, name: str) -> None:
    user = house.be(name)
    await page.get_by_label("You are").select_option(user.id)
    first, last = user.user.real_name.split()
    await expect(page.locator("#you-avatar")).to_have_text(first[0] + last[0])


async def goes_to(page: Page, channel: str) -> None:
    await page.locator("#channels").get_by_text(channel, exact=False).first.click()
    await expect(page).to_have_title(re.compile(re.escape(channel)))  # its messages are fetched first


async def test_ada_asks_and_grace_approves_in_the_browser(house: House, page: Page, pictures: Path) -> None:
    await page.goto(house.sandbox.base_url)
    await be(page, house, "ada")
    await goes_to(page, "general")
    box = page.locator("#composer textarea")
    await box.fill("/access request prod-db 1h because INC-142 checkout is slow")
    await box.press("Enter")
    await expect(page.get_by_text("Only visible to you").first).to_be_visible()
    await page.screenshot(path=pictures / "1-asked.png")

    await goes_to(page, "dba-approvals")
    await expect(page.get_by_role("button", name="Approve", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("You cannot decide your own request")).to_be_visible()
    await page.screenshot(path=pictures / "2-not-her-own.png")

    await be(page, house, "grace")
    await goes_to(page, "dba-approvals")
    await page.screenshot(path=pictures / "3-card.png")
    await page.set_viewport_size({"width": 1060, "height": 470})
    await page.screenshot(path=pictures / "card.png")
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("has prod-db")).to_be_visible()
    await expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
    await expect(page.get_by_role("button", name="Revoke")).to_be_visible()
    await page.screenshot(path=pictures / "4-granted.png")

    await be(page, house, "ada")
    await goes_to(page, "Portcullis")
    await expect(page.get_by_text("How to enter")).to_be_visible()
    await page.screenshot(path=pictures / "5-how-to-enter.png")
    assert (await house.psql("select 1")).stdout.strip() == "1"
    await page.get_by_role("button", name="Release").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Release").click()
    await expect(page.get_by_text("Given back by").first).to_be_visible()
    await page.screenshot(path=pictures / "6-given-back.png")


async def test_the_form_of_a_bare_command_asks_the_same(house: House, page: Page, pictures: Path) -> None:
    await page.goto(house.sandbox.base_url)
    await be(page, house, "ada")
    await goes_to(page, "general")
    box = page.locator("#composer textarea")
    await box.fill("/access")
    await box.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    await page.screenshot(path=pictures / "7-form.png")


async def test_a_slip_is_answered_with_a_button(house: House, page: Page, pictures: Path) -> None:
    await page.goto(house.sandbox.base_url)
    await be(page, house, "ada")
    await goes_to(page, "general")
    box = page.locator("#composer textarea")
    await box.fill("/access reqest prod-bd 1h because INC-142")
    await box.press("Enter")
    await expect(page.get_by_role("button", name="Yes, do that")).to_be_visible()
    await page.screenshot(path=pictures / "8-mended.png")
    await page.get_by_role("button", name="Yes, do that").click()
    await goes_to(page, "dba-approvals")
    await expect(page.locator("#messages").get_by_text("INC-142").first).to_be_visible()
