"""Pages: sent once to whoever pages people, settled on the decision, and a failure is said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from sqlalchemy import select

from broker import audit
from broker.clock import SystemChance
from broker.config import Config, PagerTarget, ScheduleSource, SecretRef
from broker.oncall.roster import Roster
from broker.outbox import NOTIFY, PAGE, Outbox
from broker.paging.worker import MOST_ATTEMPTS, PagingWorker
from broker.service import Service
from broker.store.engine import Store
from broker.store.tables import outbox
from tests.broker.conftest import FakeClock, sample_config
from workflows.access import Wish
from workflows.model import Story
from workflows.policy import Emergency, Ladder, Step, StepKind

from .schemas import OPSGENIE_ALERT, OPSGENIE_CLOSE, PAGERDUTY_EVENT  # isort: skip

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Vendor:
    """Both services: holds what it is sent against the schema, keeps alerts by their key, answers 202."""

    url: str = ""
    open: dict[str, Any] = field(default_factory=dict)
    heard: list[tuple[str, Any]] = field(default_factory=list)
    fails: list[int] = field(default_factory=list)

    async def pagerduty(self, request: web.Request) -> web.Response:
        body = self._heard("pagerduty", await request.json(), PAGERDUTY_EVENT)
        if self.fails:
            return web.Response(status=self.fails.pop(0))
        if body["event_action"] == "trigger":
            self.open[body["dedup_key"]] = body["payload"]
        else:
            self.open.pop(body["dedup_key"], None)
        told = {"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]}
        return web.json_response(told, status=202)

    async def create(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"GenieKey {KEY}"
        body = self._heard("opsgenie", await request.json(), OPSGENIE_ALERT)
        self.open[body["alias"]] = body
        return web.json_response(
            {"result": "Request will be processed", "took": 0.1, "requestId": "x"}, status=202
        )

    async def close(self, request: web.Request) -> web.Response:
        assert request.query["identifierType"] == "alias"
        self._heard("opsgenie close", await request.json(), OPSGENIE_CLOSE)
        self.open.pop(request.match_info["alias"], None)
        return web.json_response(
            {"result": "Request will be processed", "took": 0.1, "requestId": "y"}, status=202
        )

    def _heard(self, what: str, body: Any, schema: dict[str, Any]) -> Any:
        jsonschema.validate(body, schema, format_checker=jsonschema.FormatChecker())
        self.heard.append((what, body))
        return body


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    one = Vendor()
    app = web.Application()
    app.router.add_post("/v2/enqueue", one.pagerduty)
    app.router.add_post("/v2/alerts", one.create)
    app.router.add_post("/v2/alerts/{alias}/close", one.close)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    one.url = f"http://{host}:{port}"
    yield one
    await runner.cleanup()


@dataclass
class Desk:
    """A broker whose ladder pages whoever is on call after five minutes, and whose emergencies page both."""

    service: Service
    worker: PagingWorker
    clock: FakeClock
    vendor: Vendor

    async def ask(self) -> Story:
        asked = await self.service.submit("ada", Wish("prod-db", reason="INC-1"), via="cli")
        assert isinstance(asked, Story)
        return asked

    async def climbs(self) -> None:
        self.clock.advance(minutes=6)
        await self.service.wake_due()
        await self.worker.drain()

    async def told(self) -> list[str]:
        async with self.service.store.read() as tx:
            found = await tx.execute(
                select(outbox.c.payload).where(outbox.c.kind == NOTIFY).order_by(outbox.c.id)
            )
            return [json.loads(payload)["what"] for payload in found.scalars()]

    async def kinds(self) -> list[str]:
        async with self.service.store.read() as tx:
            return [e.kind for e in reversed(await audit.newest(tx)) if e.kind.startswith("page.")]


def paging_config(vendor: Vendor) -> Config:
    base = sample_config()
    rule, *rest = base.policy.rules
    ladder = Ladder((Step(timedelta(minutes=5), StepKind.PAGE, "primary", wakes=True),))
    night = Emergency(
        "night", frozenset({"prod-db"}), "readwrite", timedelta(minutes=30), ("security",),
        who=frozenset({"engineers"}), pagers=("security", "ops"),
    )  # fmt: skip
    key = SecretRef("env:PAGER_TEST_KEY")
    return replace(
        base,
        policy=replace(base.policy, rules=(replace(rule, ladder=ladder), *rest), emergencies=(night,)),
        schedules={"primary": ScheduleSource("static", people=("grace",), pager="security")},
        pagers={
            "security": PagerTarget("pagerduty", key, vendor.url),
            "ops": PagerTarget("opsgenie", key, vendor.url, "S-1"),
        },
    )


@pytest.fixture
async def desk(
    store: Store, clock: FakeClock, vendor: Vendor, make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("PAGER_TEST_KEY", KEY)
    service = make_service(paging_config(vendor))
    service.roster = Roster(clock)
    worker = PagingWorker(service, Outbox(store, clock, SystemChance()), "https://access.example.com")
    yield Desk(service, worker, clock, vendor)
    await worker.close()
    await service.roster.close()


async def test_a_step_that_pages_calls_the_pager_once_and_the_decision_settles_it(desk: Desk) -> None:
    story = await desk.ask()
    assert await desk.worker.drain() == 0
    await desk.climbs()
    (page,) = desk.vendor.open.values()
    assert page["severity"] == "warning"
    assert page["summary"].startswith("Ada waits for prod-db")
    assert "INC-1" not in json.dumps(desk.vendor.heard), "the reason stays here"
    await desk.service.approve(story.request.id, "grace", via="cli")
    await desk.worker.drain()
    assert desk.vendor.open == {}
    assert await desk.kinds() == ["page.sent", "page.settled"]
    assert "paged" in await desk.told()


@pytest.mark.parametrize("end", ["deny", "cancel", "lapse"])
async def test_every_end_of_the_waiting_settles_it(desk: Desk, end: str) -> None:
    story = await desk.ask()
    await desk.climbs()
    if end == "lapse":
        desk.clock.advance(hours=9)
        await desk.service.expire_due()
    elif end == "deny":
        await desk.service.deny(story.request.id, "grace", via="cli")
    else:
        await desk.service.cancel(story.request.id, "ada", via="cli")
    await desk.worker.drain()
    assert desk.vendor.open == {}


async def test_what_was_decided_before_the_page_went_out_pages_nobody(desk: Desk) -> None:
    story = await desk.ask()
    desk.clock.advance(minutes=6)
    await desk.service.wake_due()
    await desk.service.approve(story.request.id, "grace", via="cli")
    await desk.worker.drain()
    assert desk.vendor.heard == []


async def test_an_emergency_calls_every_pager_of_its_rule_until_it_is_over(desk: Desk) -> None:
    taken = await desk.service.break_glass(
        "ada", Wish("prod-db", reason="checkout is down for all"), "INC-142", via="cli"
    )
    assert isinstance(taken, Story)
    await desk.worker.drain()
    severities = [
        (what, body.get("priority") or body["payload"]["severity"]) for what, body in desk.vendor.heard
    ]
    assert sorted(severities) == [("opsgenie", "P1"), ("pagerduty", "critical")]
    assert all("EMERGENCY INC-142" in json.dumps(body) for _, body in desk.vendor.heard)
    await desk.service.release(taken.request.id, "ada", via="cli")
    await desk.worker.drain()
    assert desk.vendor.open == {}
    assert sorted(what for what, _ in desk.vendor.heard[2:]) == ["opsgenie close", "pagerduty"]


async def test_a_service_that_is_away_is_tried_again_and_both_are_said(desk: Desk) -> None:
    await desk.ask()
    desk.vendor.fails = [500, 429]
    await desk.climbs()
    assert desk.vendor.open == {}
    assert (await desk.told())[-1] == "page-failed"
    for _ in range(2):
        desk.clock.advance(minutes=1)
        await desk.worker.drain()
    assert len(desk.vendor.open) == 1
    assert await desk.kinds() == ["page.failed", "page.sent"]
    assert (await desk.told())[-2:] == ["page-failed", "paged"]


async def test_a_wrong_key_is_given_up_at_once_and_said(desk: Desk) -> None:
    await desk.ask()
    desk.vendor.fails = [400]
    await desk.climbs()
    desk.clock.advance(minutes=10)
    await desk.worker.drain()
    assert len(desk.vendor.heard) == 1
    assert (await desk.told())[-1] == "page-given-up"


async def test_it_is_not_tried_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGER_TEST_KEY")
    await desk.ask()
    await desk.climbs()
    for _ in range(MOST_ATTEMPTS + 3):
        desk.clock.advance(minutes=1)
        await desk.worker.drain()
    assert desk.vendor.heard == []
    assert await desk.kinds() == ["page.failed", "page.failed"]
    assert (await desk.told())[-2:] == ["page-failed", "page-given-up"]
    async with desk.service.store.read() as tx:
        left = await tx.execute(select(outbox.c.id).where(outbox.c.kind == PAGE, outbox.c.done_at.is_(None)))
        assert left.first() is None
