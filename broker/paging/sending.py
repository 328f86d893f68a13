"""What the adapters share: one POST, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from broker.config import PagerTarget
from broker.paging import PageFailed

_AGAIN = frozenset({408, 425, 429})
"""Refusals that pass by themselves."""


async def post(
    http: httpx2.AsyncClient, url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Have `body` taken. Redirects are not followed: the key is for this address only.

    Raises PageFailed, lasting where the service says that the request itself is wrong.
    """
    try:
        async with http.stream("POST", url, json=dict(body), headers=dict(headers or {})) as response:
            status = response.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise PageFailed(f"no answer ({type(error).__name__})") from error
    if not 200 <= status < 300:
        raise PageFailed(
            f"the answer has status {status}", lasting=300 <= status < 500 and status not in _AGAIN
        )


def key_of(target: PagerTarget) -> str:
    """The key for this service. Raises PageFailed, which names the place and not the key."""
    try:
        key = target.key.read().strip()
    except LookupError as error:
        raise PageFailed(str(error)) from error
    if not key or not key.isascii() or not key.isprintable():
        raise PageFailed("the key is empty or holds characters that cannot be sent")
    return key
