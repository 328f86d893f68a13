"""A picture of every state of every card, as people see it in the sandbox's page:

    python -m tests.bot.pictures FOLDER [ordinary closed others urgent statements answers]

Needs Chromium. The pictures are for looking at; what cards say is tested in test_cards.py and beside it.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.async_api import Page, TimeoutError, async_playwright

from bot import digest
from bot.sandbox import Message
from tests.bot.test_reviews import DIGEST, held
from tests.bot.world import World, make_world, sample_config, urgent_config
from workflows.model import Quorum, Relation

_WIDE = {"width": 1000, "height": 1400}


class Album:
    """Takes the pictures: `card` is a message as one of the people sees it, `modal` their open form."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.folder, self.world = page, folder, None

    async def shows(self, world: World) -> None:
        self.world = world
        await self.page.goto(world.sandbox.base_url)

    async def card(self, name: str, who: str, message: Message, *, thread: bool = False) -> None:
        shown = self.page.locator(f'article.message[data-ts="{message.ts}"]').first
        for _ in range(5):  # a click is lost where the page is just drawn for somebody else
            await self.be(who, message.channel)
            with suppress(TimeoutError):
                await shown.wait_for(timeout=5000)
                break
        await self.page.wait_for_timeout(400)  # the page draws a message anew when it changes
        await shown.screenshot(path=self.folder / f"{name}.png")
        if thread:
            await shown.locator("button.replies").click()
            await self.page.wait_for_timeout(200)
            await self.page.screenshot(path=self.folder / f"{name}-thread.png")
            await self.page.keyboard.press("Escape")

    async def whole(self, name: str) -> None:
        await self.page.wait_for_timeout(300)
        await self.page.screenshot(path=self.folder / f"{name}.png")

    async def home(self, name: str, who: str) -> None:
        assert self.world is not None
        await self.world.sandbox.as_user(who).opens_home()
        await self.be(who, None)
        await self.page.locator("#channels").get_by_text("Portcullis", exact=False).first.click()
        await self.page.get_by_text("Home", exact=True).first.click()
        await self.whole(name)

    async def be(self, who: str, channel: str | None) -> None:
        assert self.world is not None
        user = self.world.sandbox.as_user(who).user
        await self.page.get_by_label("You are").select_option(user.id)
        if channel is None:
            return
        found = self.world.sandbox.state.channels[channel]
        name = "Portcullis" if found.is_im else found.name
        await self.page.locator("#channels").get_by_text(name, exact=False).first.click()


async def ordinary(album: Album, folder: Path) -> None:
    """Asked, one of two, opening, open, more time, ended; denied, cancelled, lapsed, failed."""
    extra = (Quorum("security"),)
    async with make_world(folder, config=sample_config(extra=extra), rate_limits=False) as world:
        await album.shows(world)
        card = await world.ask("request prod-db 1h because INC-142 checkout is slow")
        mine = await world.ada.sees("You ask for", channel="@portcullis")
        await album.card("01-pending", "grace", card)
        await album.card("02-pending-own", "ada", mine)
        await world.linus.clicks(card, "claim")
        await world.grace.sees_change(card, "is looking")
        await world.grace.clicks(card, "approve")
        await world.grace.sees_change(card, "1 of 1 Database")
        await album.card("03-one-of-two", "grace", card)
        await world.olive.clicks(await world.olive.sees("asks for", channel="#security"), "approve")
        await world.grace.sees_change(card, "opening the gate")
        await album.card("04-opening", "grace", card)
        await world.gate_holds()
        await world.grace.sees_change(card, "🟢")
        await world.ada.sees_change(mine, "access psql")
        await album.card("05-open", "grace", card, thread=True)
        await album.card("06-open-own", "ada", mine)
        await world.ada.clicks(mine, "+1h")
        await world.grace.sees_change(card, "asks for 1h more")
        await album.card("07-more-time", "grace", card)
        await world.session("S-BBBBBBBB", statements=12, refused=1, rows=340)
        await world.passes(minutes=51)
        await album.card(
            "08-ending-own", "ada", await world.ada.sees("Then open sessions are cut", channel="@portcullis")
        )
        await world.passes(minutes=10)
        await world.grace.sees_change(card, "1 session")
        await album.card("09-ended", "grace", card)
        await album.card("10-ended-own", "ada", mine)


async def closed(album: Album, folder: Path) -> None:
    async with make_world(folder, rate_limits=False) as world:
        await album.shows(world)
        card = await world.ask("request prod-db 1h because INC-1 looking")
        await world.grace.clicks(card, "deny")
        await world.grace.sees_modal("Deny")
        await world.grace.submits({"reason": "use the replica, please"})
        await world.grace.sees_change(card, "Denied")
        await album.card("11-denied", "grace", card)
        world.clock.advance(minutes=1)
        card = await world.ask("request prod-db 2h because INC-2 looking")
        newest = (await world.stories())[0].request.id
        await world.service.cancel(newest, "ada", via="cli")
        await world.grace.sees_change(card, "Taken back")
        await album.card("12-cancelled", "grace", card)
        world.clock.advance(minutes=1)
        card = await world.ask("request prod-db 30m because INC-3 looking")
        await world.passes(hours=9)
        await world.grace.sees_change(card, "Lapsed")
        await album.card("13-lapsed", "grace", card)
        world.clock.advance(minutes=1)
        card = await world.ask("request prod-db 45m because INC-4 looking")
        await world.grace.clicks(card, "approve")
        await world.grace.sees_change(card, "opening")
        grant = (await world.stories())[0].grant
        assert grant is not None
        await world.service.fail_grant(grant.id, "the target does not answer")
        await world.grace.sees_change(card, "Failed")
        await album.card("14-failed", "grace", card)
        world.clock.advance(minutes=1)
        await world.ada.commands("/access request prod-db 1h from tomorrow 9:00 because INC-5 the migration")
        card = await world.grace.sees("INC-5", channel="#dba")
        await album.card("15-later", "grace", card)
        await world.grace.clicks(card, "approve")
        await world.grace.sees_change(card, "opens for")
        await album.card("16-approved-for-later", "grace", card)
        world.clock.advance(minutes=1)
        card = await world.ask("request prod-db 1h because INC-6 looking")
        await album.be("grace", card.channel)
        await world.grace.clicks(card, "less")
        await world.grace.sees_modal("Approve for less")
        await album.whole("19-less-form")
        await world.grace.submits({"less_span": "1800", "reason": "half of it will do"})
        await world.grace.sees_change(card, "opening")
        await world.gate_holds()
        card = await world.grace.sees_change(card, "🟢")
        mine = await world.ada.sees("access psql", channel="@portcullis")
        await world.session("S-CCCCCCCC", statements=2, refused=0, rows=9)
        await world.grace.clicks(card, "revoke")
        await world.grace.sees_modal("Revoke")
        await album.whole("17-revoke-form")
        await world.grace.submits({"reason": "the window is over"})
        await world.grace.sees_change(card, "1 session")
        await album.card("17-revoked", "grace", card, thread=True)
        await album.card("17-revoked-own", "ada", mine)
        await album.home("18-home", "ada")


async def others(album: Album, folder: Path) -> None:
    config = sample_config(rule={"for_others": frozenset({"dba"})})
    async with make_world(folder, config=config, rate_limits=False) as world:
        await album.shows(world)
        await world.grace.commands("/access request prod-db 1h for <@U0ADA|ada> because INC-142 pairing")
        told = await world.ada.sees("for you", channel="@portcullis")
        card = await world.linus.sees("for <@U0ADA>", channel="#dba")
        await album.card("20-for-somebody", "linus", card)
        await album.card("21-for-you", "ada", told)
        await album.card(
            "22-for-somebody-own", "grace", await world.grace.sees("You ask", channel="@portcullis")
        )
        await world.ada.clicks(told, "I do not want it")
        await world.linus.sees_change(card, "Refused")
        await album.card("23-refused", "linus", card)
        await world.grace.commands(
            "/access allow <@U0ADA|ada> prod-db 2h within 5d because she is on release duty"
        )
        shown = await world.linus.sees("says yes in advance", channel="#dba")
        await album.card("24-in-advance", "linus", shown)
        await album.card(
            "25-in-advance-own", "ada", await world.ada.sees("in advance", channel="@portcullis")
        )
        card = await world.ask("request prod-db 1h because INC-7 the release")
        await world.linus.sees_change(shown, "is used")
        await album.card("26-in-advance-used", "linus", shown)
        await album.be("grace", "C0GENERAL")
        await world.grace.commands("/access")
        await world.grace.sees_modal("must say yes")
        await album.whole("27-form")


async def urgent(album: Album, folder: Path) -> None:
    config = urgent_config(extra=(Quorum("security"),), emergency={"tells": ("manager",)})
    async with make_world(folder, config=config, rate_limits=False) as world:
        await album.shows(world)
        world.relates("ada", manager="mallory")
        await world.ada.commands("/access drill prod-db")
        card = await world.grace.sees("DRILL", channel="#dba")
        await world.gate_holds()
        await world.grace.sees("lets nobody in", thread=card)
        await album.card("30-drill", "grace", card, thread=True)
        await album.card("31-drill-own", "ada", await world.ada.sees("DRILL", channel="@portcullis"))
        await world.passes(minutes=2)
        await world.grace.sees_change(card, "let it fall")
        await album.card("32-drill-over", "grace", card)
        await album.be("ada", "C0GENERAL")
        await world.ada.commands("/access break-glass prod-db because INC-142 checkout is down")
        await world.ada.sees_modal("What is broken")
        await album.whole("33-emergency-form")
        await world.ada.submits({})
        card = await world.grace.sees("Emergency INC-142", channel="#dba")
        await world.gate_holds()
        await world.grace.sees_change(card, "🟢")
        await world.session("S-AAAAAAAA")
        await album.card("34-emergency", "grace", card)
        told = await world.mallory.sees("Emergency INC-142", channel="@portcullis")
        await album.card("34-emergency-manager", "mallory", told)
        await world.session("S-AAAAAAAA", statements=3, rows=7, refused=0)
        await world.passes(minutes=31)
        await world.grace.sees_change(card, "time was up")
        await album.card("35-emergency-over", "grace", card)
        await album.home("36-home-on-call", "ada")
        await world.service.review_break_glass(
            (await world.stories())[0].request.id, "olive", _justified(), via="cli", note="It was down."
        )
        await world.grace.sees_change(card, "justified")
        await album.card("37-emergency-reviewed", "grace", card)
        world.clock.advance(days=40 - world.clock.now().day)
        await digest.post(world.service, world.bot.courier._places)
        report = await world.olive.sees("The month in emergencies", channel="#security")
        await album.card("38-month", "olive", report)


async def statements(album: Album, folder: Path) -> None:
    """Held on the wire: waiting, approved, run; denied; lapsed."""
    async with make_world(folder, rate_limits=False) as world:
        await album.shows(world)
        reviews, review = await held(world)
        card = await world.grace.sees(review, channel="#dba")
        await album.card("40-held", "grace", card)
        await world.grace.clicks(card, "review_approve")
        await world.grace.sees_change(card, "may run this once")
        await album.card("41-held-approved", "grace", card)
        await reviews.take_run("g1", review, "S-1", DIGEST)
        await reviews.finish_run("g1", review, "DELETE 3")
        await world.grace.sees_change(card, "Ran on")
        await album.card("42-held-ran", "grace", card)
    for name, end in (("43-held-denied", "deny"), ("44-held-lapsed", "lapse")):
        with TemporaryDirectory(dir=folder) as other:
            async with make_world(Path(other), rate_limits=False) as world:
                await album.shows(world)
                reviews, review = await held(world)
                card = await world.grace.sees(review, channel="#dba")
                if end == "deny":
                    await reviews.deny(review, "grace", via="cli", reason="use the runbook")
                    await world.grace.sees_change(card, "Denied")
                else:
                    world.clock.advance(minutes=16)
                    await reviews.close_over()
                    await world.grace.sees_change(card, "Nobody decided")
                await album.card(name, "grace", card)


async def answers(album: Album, folder: Path) -> None:
    """What one person alone is shown: a slip, a refusal, lists, the way to link; and the digest."""
    quorum = (Quorum("dba", apart=(Relation("team", ("engineers",)),)),)
    async with make_world(folder, config=sample_config(rule={"quorum": quorum}), rate_limits=False) as world:
        await album.shows(world)
        world.regroup("grace", "dba", "engineers")
        card = await world.ask("request prod-db 1h because INC-142 checkout is slow")
        await album.card("50-apart", "grace", card)
        await world.grace.clicks(card, "approve")
        await album.card("51-too-near", "grace", await world.grace.sees("share the team", ephemeral=True))
        for name, line, told in (
            ("52-slip", "requst prod-db 1h becuse INC-1 slow", "did you mean"),
            ("53-status", "status", "Yours"),
            ("54-who", "who prod-db", "Who has"),
            ("55-help", "help", "alone opens a form"),
        ):
            await world.ada.commands(f"/access {line}")
            await album.card(name, "ada", await world.ada.sees(told, ephemeral=True))
        await world.unlinked.commands("/access request prod-db 1h because INC-1")
        await album.card("56-link", "unlinked", await world.unlinked.sees("not linked", ephemeral=True))
        await album.home("57-home-unlinked", "unlinked")
        await world.passes(hours=9)
        world.clock.advance(days=8 - world.clock.now().weekday())
        await digest.post(world.service, world.bot.courier._places)
        told = await world.olive.sees("The week in access", channel="#security")
        await album.card("58-digest", "olive", told)


def _justified() -> Any:
    from workflows.model import Verdict

    return Verdict.JUSTIFIED


@asynccontextmanager
async def _page() -> Any:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = await browser.new_page(viewport=_WIDE, device_scale_factor=1)  # type: ignore[arg-type]
        page.set_default_timeout(timedelta(seconds=15).total_seconds() * 1000)
        yield page
        await browser.close()


async def main(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    async with _page() as page:
        album = Album(page, folder)
        for scene in (ordinary, closed, others, urgent, statements, answers):
            if only and scene.__name__ not in only:
                continue
            with TemporaryDirectory(prefix="portcullis-pictures-") as data:
                await scene(album, Path(data))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "pictures"), sys.argv[2:]))
