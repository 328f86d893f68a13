"""PagerDuty: the Events API v2.

Source: github.com/PagerDuty/developer-docs, docs/events-API-v2/02-Trigger-Events.md (“Send an Alert Event”).
The same `dedup_key` again is added to the alert that is open; `resolve` under it ends the alert.
"""

from __future__ import annotations

from typing import Any

import httpx2

from broker.config import PagerTarget
from broker.paging import Page
from broker.paging.sending import key_of, post

API = "https://events.pagerduty.com"
"""In Europe https://events.eu.pagerduty.com."""
_LONGEST_SUMMARY = 1024


class PagerDuty:
    """`key` is the integration key of a service."""

    async def page(self, target: PagerTarget, page: Page, http: httpx2.AsyncClient) -> None:
        body: dict[str, Any] = {
            "routing_key": key_of(target),
            "event_action": "trigger",
            "dedup_key": page.key,
            "client": "Portcullis",
            "payload": {
                "summary": page.summary[:_LONGEST_SUMMARY],
                "source": "portcullis",
                "severity": page.urgency.value,
                "component": page.resource,
                "class": "access",
            },
        }
        if page.url:
            body |= {"client_url": page.url, "links": [{"href": page.url, "text": "Decide it"}]}
        await post(http, f"{target.url or API}/v2/enqueue", body)

    async def settle(self, target: PagerTarget, key: str, http: httpx2.AsyncClient) -> None:
        body = {"routing_key": key_of(target), "event_action": "resolve", "dedup_key": key}
        await post(http, f"{target.url or API}/v2/enqueue", body)
