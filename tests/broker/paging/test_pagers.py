"""Each pager, against a server in its place: what is sent fits what the vendor publishes, and ends by key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jsonschema
import pytest
from aiohttp import web

from broker.config import PagerTarget, SecretRef
from broker.paging import Page, PageFailed, Urgency
from broker.paging.pagers import PAGERS

from . import schemas  # isort: skip

KEY = "0123456789abcdef0123456789abcdef"
PAGE = Page(
    "portcullis-R-1", "Ada waits for prod-db", Urgency.WARNING, "prod-db", "https://access.example.com"
)


@dataclass(frozen=True)
class Place:
    """Where a vendor takes pages: the address in the policy, and what each path there takes.

    `begin` and `end` are the paths of a page and of its settling, with the schema of what is sent there.
    """

    begin: tuple[str, dict[str, Any]]
    end: tuple[str, dict[str, Any]]
    authorization: str = ""
    url: str = ""
    key: str = KEY
    key_of_alert: str = ""
    """The field that names the alert, where the path does not."""


_GENIE = f"GenieKey {KEY}"
_CLOSE = "/v2/alerts/portcullis-R-1/close?identifierType=alias"
_JSM = "/jsm/ops/integration"
_SOURCE = "/v2/alert_events/http/01GW2G3V0S59R238FAHPDS1R66"
_HOOK = "/webhooks/incoming/generic_webhooks/notify/escalationPolicy/P1"
_FORMATTED = "/integrations/v1/formatted_webhook/t0ken/"
PLACES = {
    "pagerduty": Place(
        ("/v2/enqueue", schemas.PAGERDUTY_EVENT),
        ("/v2/enqueue", schemas.PAGERDUTY_EVENT),
        key_of_alert="dedup_key",
    ),
    "opsgenie": Place(("/v2/alerts", schemas.OPSGENIE_ALERT), (_CLOSE, schemas.OPSGENIE_CLOSE), _GENIE),
    "jsm": Place(
        (f"{_JSM}/v2/alerts", schemas.OPSGENIE_ALERT),
        (_JSM + _CLOSE, schemas.OPSGENIE_CLOSE),
        _GENIE,
        url=_JSM,
    ),
    "incident_io": Place(
        (_SOURCE, schemas.INCIDENT_IO_EVENT),
        (_SOURCE, schemas.INCIDENT_IO_EVENT),
        f"Bearer {KEY}",
        url=_SOURCE,
        key_of_alert="deduplication_key",
    ),
    "rootly": Place(
        (_HOOK, schemas.ROOTLY_EVENT),
        (_HOOK, schemas.ROOTLY_EVENT),
        f"Bearer {KEY}",
        url=_HOOK,
        key_of_alert="external_id",
    ),
    "grafana": Place(
        (_FORMATTED, schemas.GRAFANA_EVENT),
        (_FORMATTED, schemas.GRAFANA_EVENT),
        key=f"URL{_FORMATTED}",
        key_of_alert="alert_uid",
    ),
}


@dataclass
class Vendor:
    url: str = ""
    heard: list[tuple[str, str, Any]] = field(default_factory=list)
    status: int = 202

    async def take(self, request: web.Request) -> web.Response:
        self.heard.append(
            (str(request.rel_url), request.headers.get("Authorization", ""), await request.json())
        )
        return web.json_response({}, status=self.status)


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    one = Vendor()
    app = web.Application()
    app.router.add_post("/{path:.*}", one.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    one.url = f"http://{host}:{port}"
    yield one
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10, follow_redirects=False) as client:
        yield client


def target_of(via: str, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> PagerTarget:
    place = PLACES[via]
    monkeypatch.setenv("PAGER_TEST_KEY", place.key.replace("URL", vendor.url))
    return PagerTarget(via, SecretRef("env:PAGER_TEST_KEY"), vendor.url + place.url)


def test_every_pager_that_there_is_is_held_against_its_schema() -> None:
    assert PLACES.keys() == PAGERS.keys()


@pytest.mark.parametrize("via", PLACES)
async def test_a_page_fits_the_schema_and_is_settled_under_its_key(
    via: str, vendor: Vendor, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, target = PLACES[via], target_of(via, vendor, monkeypatch)
    await PAGERS[via].page(target, PAGE, http)
    await PAGERS[via].settle(target, PAGE.key, http)
    begun, ended = vendor.heard
    for (path, authorization, body), (where, schema) in zip(
        (begun, ended), (place.begin, place.end), strict=True
    ):
        assert path == where
        assert authorization == place.authorization
        jsonschema.validate(body, schema, format_checker=jsonschema.FormatChecker())
    assert "Ada waits for prod-db" in str(begun[2])
    assert PAGE.url in str(begun[2])
    if place.key_of_alert:
        assert begun[2][place.key_of_alert] == ended[2][place.key_of_alert] == PAGE.key
        assert begun[2] != ended[2]
    else:
        assert begun[2]["alias"] == PAGE.key


@pytest.mark.parametrize("via", PLACES)
async def test_a_redirect_is_a_lasting_failure_and_is_not_followed(
    via: str, vendor: Vendor, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.status = 307
    with pytest.raises(PageFailed) as failure:
        await PAGERS[via].page(target_of(via, vendor, monkeypatch), PAGE, http)
    assert failure.value.lasting
    assert len(vendor.heard) == 1


async def test_an_address_in_clear_is_not_posted_to(
    vendor: Vendor, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of("grafana", vendor, monkeypatch)
    monkeypatch.setenv("PAGER_TEST_KEY", "http://oncall.example.com/integrations/v1/formatted_webhook/t0ken/")
    with pytest.raises(PageFailed, match="https"):
        await PAGERS["grafana"].page(target, PAGE, http)
    assert vendor.heard == []
