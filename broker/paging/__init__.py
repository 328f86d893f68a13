"""Paging people through whoever pages them: one interface, one file a service.

A page is told once under a key of its own, however often it is sent, and is settled under the same key. What
it says is for a lock screen: who, what, and where to look; neither the reason nor anything of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import httpx2

from broker.config import PagerTarget


class Urgency(StrEnum):
    CRITICAL = "critical"
    """The glass was broken."""
    WARNING = "warning"
    """A request waits and nobody has decided."""
    INFO = "info"
    """A drill."""


@dataclass(frozen=True, slots=True)
class Page:
    """`key` names the matter: the same again is no second page. `url` is where to look, empty for nowhere."""

    key: str
    summary: str
    urgency: Urgency
    resource: str
    url: str = ""


class PageFailed(Exception):
    """The page was not taken. `lasting` where trying again cannot help. The text holds no secret."""

    def __init__(self, problem: str, *, lasting: bool = False) -> None:
        self.lasting = lasting
        super().__init__(problem)


class Pager(Protocol):
    """An adapter. Raises PageFailed for everything that is not a plain yes."""

    async def page(self, target: PagerTarget, page: Page, http: httpx2.AsyncClient) -> None: ...

    async def settle(self, target: PagerTarget, key: str, http: httpx2.AsyncClient) -> None: ...
