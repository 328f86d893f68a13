"""What the adapters share: one HTTP question, and careful reading of whatever comes back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2

from broker.config import ScheduleSource
from broker.oncall import OnCallUnavailable

MOST_BYTES = 2_000_000


class NotThere(OnCallUnavailable):
    """Its keeper says that there is no such thing (404)."""


async def get_json(
    http: httpx2.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The JSON object at `url`. Redirects are not followed: the key is for this address only.

    Raises OnCallUnavailable.
    """
    body = await get(http, url, headers=headers, params=params)
    try:
        found = body.json()
    except ValueError as error:
        raise OnCallUnavailable("the answer is no JSON") from error
    if not isinstance(found, dict):
        raise OnCallUnavailable("the answer is no JSON object")
    return found


async def get(
    http: httpx2.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """The answer to one GET with status 200 and of a bearable size. Raises OnCallUnavailable."""
    try:
        async with http.stream("GET", url, headers=dict(headers or {}), params=params) as response:
            if response.status_code == 404:
                raise NotThere("the answer has status 404")
            if response.status_code != 200:
                raise OnCallUnavailable(f"the answer has status {response.status_code}")
            size = 0
            parts = []
            async for part in response.aiter_bytes():
                size += len(part)
                if size > MOST_BYTES:
                    raise OnCallUnavailable("the answer is too large")
                parts.append(part)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise OnCallUnavailable(f"no answer ({type(error).__name__})") from error
    return httpx2.Response(200, content=b"".join(parts), request=response.request)


def key_of(schedule: ScheduleSource) -> str:
    """The key for this source. Raises OnCallUnavailable, which names the place and not the key."""
    if schedule.key is None:
        raise OnCallUnavailable("there is no key in the policy")
    try:
        key = schedule.key.read().strip()
    except LookupError as error:
        raise OnCallUnavailable(str(error)) from error
    if not key.isascii() or not key.isprintable():
        raise OnCallUnavailable("the key holds characters that cannot be sent")
    return key


def at(found: object, *path: str | int) -> Any:
    """What stands at `path` in plain JSON data; None where nothing does."""
    for part in path:
        if isinstance(part, str):
            found = found.get(part) if isinstance(found, dict) else None
        else:
            found = found[part] if isinstance(found, list) and -len(found) <= part < len(found) else None
    return found


def text(found: object, *path: str | int) -> str:
    value = at(found, *path)
    return value if isinstance(value, str) else ""


def items(found: object, *path: str | int) -> list[Any]:
    """The list at `path`. Raises OnCallUnavailable where there is none: then the answer is another one than
    was asked for, and an empty list would be a lie.
    """
    value = at(found, *path)
    if not isinstance(value, list):
        raise OnCallUnavailable(f"the answer lacks {'.'.join(map(str, path))}")
    return value


def instant(value: object) -> datetime | None:
    """An instant of RFC 3339 with its zone; None for nothing. Raises OnCallUnavailable for anything else."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    raise OnCallUnavailable("the answer holds a time that cannot be read")
