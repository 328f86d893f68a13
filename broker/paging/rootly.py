"""Rootly: an alert source of the kind generic webhook.

Source: docs.rootly.com, “Generic Webhook Alert Source”. What the fields mean is said on the source's own page
there: external_id is the identifier to deduplicate and to resolve by, and `state` resolves at “resolved”.
"""

from __future__ import annotations

from typing import Any

import httpx2

from broker.config import PagerTarget
from broker.paging import Page
from broker.paging.sending import key_of, post

API = "https://webhooks.rootly.com/webhooks/incoming/generic_webhooks"


class Rootly:
    """`key` is the source's secret; a `url` that ends with /notify/escalationPolicy/ID says whom it calls,
    where the alert routes there do not.
    """

    async def page(self, target: PagerTarget, page: Page, http: httpx2.AsyncClient) -> None:
        body = {
            "external_id": page.key,
            "state": "triggered",
            "title": page.summary,
            "description": page.summary,
            "urgency": page.urgency.value,
            "resource": page.resource,
            "external_url": page.url,
        }
        await self._send(target, body, http)

    async def settle(self, target: PagerTarget, key: str, http: httpx2.AsyncClient) -> None:
        await self._send(target, {"external_id": key, "state": "resolved", "title": "Decided."}, http)

    async def _send(self, target: PagerTarget, body: dict[str, Any], http: httpx2.AsyncClient) -> None:
        await post(http, target.url or API, body, {"Authorization": f"Bearer {key_of(target)}"})
