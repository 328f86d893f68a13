"""Grafana OnCall and Grafana Cloud IRM: an integration of the kind formatted webhook.

Source: grafana.com/docs, “Configure OnCall incoming webhooks”, recognised fields. Alerts with one `alert_uid`
are one; `state` ok resolves it.
"""

from __future__ import annotations

import httpx2

from broker.config import PagerTarget
from broker.paging import Page, PageFailed
from broker.paging.sending import key_of, post


class Grafana:
    """The integration's address is itself the secret, so it is the `key`."""

    async def page(self, target: PagerTarget, page: Page, http: httpx2.AsyncClient) -> None:
        body = {"alert_uid": page.key, "title": page.summary, "state": "alerting", "message": page.summary}
        if page.url:
            body["link_to_upstream_details"] = page.url
        await post(http, _address(target), body)

    async def settle(self, target: PagerTarget, key: str, http: httpx2.AsyncClient) -> None:
        await post(http, _address(target), {"alert_uid": key, "title": "Decided.", "state": "ok"})


def _address(target: PagerTarget) -> str:
    address = key_of(target)
    if not address.startswith(("https://", "http://127.0.0.1:")):
        raise PageFailed("the integration's address does not begin with https://", lasting=True)
    return address
