"""Opsgenie, and Jira Service Management which succeeds it (Opsgenie's API ends on 5 April 2027).

Sources: github.com/opsgenie/opsgenie-oas, definitions/alert.yaml (CreateAlertPayload, CloseAlertPayload), and
developer.atlassian.com, “Integration events” of the Jira Service Management ops REST API, which takes the
same bodies under the same kind of key. An alert with the `alias` of one that is open is counted with it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2

from broker.config import PagerTarget
from broker.paging import Page, Urgency
from broker.paging.sending import key_of, post

OPSGENIE = "https://api.opsgenie.com"
SERVICE_MANAGEMENT = "https://api.atlassian.com/jsm/ops/integration"
_LONGEST_MESSAGE = 130
_PRIORITY = {Urgency.CRITICAL: "P1", Urgency.WARNING: "P3", Urgency.INFO: "P5"}


class Opsgenie:
    """`key` is that of an API integration; `schedule`, where there is one, is the id of who is called."""

    def __init__(self, api: str = OPSGENIE) -> None:
        self._api = api

    async def page(self, target: PagerTarget, page: Page, http: httpx2.AsyncClient) -> None:
        body: dict[str, Any] = {
            "message": page.summary[:_LONGEST_MESSAGE],
            "alias": page.key,
            "description": f"{page.summary}\n{page.url}".strip(),
            "entity": page.resource,
            "source": "Portcullis",
            "priority": _PRIORITY[page.urgency],
        }
        if target.schedule:
            body["responders"] = [{"type": "schedule", "id": target.schedule}]
        await post(http, f"{target.url or self._api}/v2/alerts", body, _headers(target))

    async def settle(self, target: PagerTarget, key: str, http: httpx2.AsyncClient) -> None:
        place = f"{target.url or self._api}/v2/alerts/{quote(key, safe='')}"
        await post(
            http,
            f"{place}/close?identifierType=alias",
            {"source": "Portcullis", "note": "Decided."},
            _headers(target),
        )


def _headers(target: PagerTarget) -> dict[str, str]:
    return {"Authorization": f"GenieKey {key_of(target)}"}
