"""incident.io: an alert source of the kind HTTP, which is sent events.

Source: incident.io's published OpenAPI, “Create HTTP alert event” (AlertEventsCreateHTTPPayloadV2). Events
with one `deduplication_key` make one alert; the one that is `resolved` ends it.
"""

from __future__ import annotations

from typing import Any

import httpx2

from broker.config import PagerTarget
from broker.paging import Page
from broker.paging.sending import key_of, post


class IncidentIo:
    """`url` is the alert source's own, https://api.incident.io/v2/alert_events/http/…, and `key` its token.

    Whom it calls is said by the alert routes there; they may go by the priority in the metadata.
    """

    async def page(self, target: PagerTarget, page: Page, http: httpx2.AsyncClient) -> None:
        body: dict[str, Any] = {
            "title": page.summary,
            "status": "firing",
            "deduplication_key": page.key,
            "metadata": {"urgency": page.urgency.value, "resource": page.resource},
        }
        if page.url:
            body["source_url"] = page.url
        await self._send(target, body, http)

    async def settle(self, target: PagerTarget, key: str, http: httpx2.AsyncClient) -> None:
        body = {"title": "Decided.", "status": "resolved", "deduplication_key": key}
        await self._send(target, body, http)

    async def _send(self, target: PagerTarget, body: dict[str, Any], http: httpx2.AsyncClient) -> None:
        await post(http, target.url, body, {"Authorization": f"Bearer {key_of(target)}"})
