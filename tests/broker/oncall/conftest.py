"""A server in the place of each vendor: real HTTP on loopback, answers held against the vendor's schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import jsonschema
import pytest
from aiohttp import web

from broker.config import ScheduleSource, SecretRef

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
KEY = "s3cret-key"


@dataclass
class Vendor:
    """Answers by path. An answer is (schema, JSON); what does not fit its schema fails the test."""

    url: str = ""
    answers: dict[str, tuple[dict[str, Any], Any]] = field(default_factory=dict)
    raw: dict[str, web.Response] = field(default_factory=dict)
    """Answers that are no answer: sent as they are, unchecked."""
    asked: list[web.Request] = field(default_factory=list)
    slow: float = 0.0

    def says(self, path: str, schema: dict[str, Any], body: Any) -> None:
        jsonschema.validate(body, schema, format_checker=jsonschema.FormatChecker())
        self.answers[path] = (schema, body)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        await asyncio.sleep(self.slow)
        if raw := self.raw.get(request.path):
            return web.Response(status=raw.status, body=raw.body, headers=raw.headers)
        found = self.answers.get(f"{request.path}?{request.query_string}") or self.answers.get(request.path)
        return web.json_response(found[1]) if found else web.json_response({"error": "none"}, status=404)


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    one = Vendor()
    app = web.Application()
    app.router.add_get("/{path:.*}", one.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    one.url = f"http://{host}:{port}"
    yield one
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=2, follow_redirects=False) as client:
        yield client


@pytest.fixture
def schedule(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ONCALL_TEST_KEY", KEY)

    def make(source: str, id: str = "S1", url: str = "", **more: Any) -> ScheduleSource:
        return ScheduleSource(source, id, SecretRef("env:ONCALL_TEST_KEY"), url=url or vendor.url, **more)

    return make
