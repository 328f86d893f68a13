"""From the outbox to the pagers: pages for what waits and for what was taken, settled when that is over.

Pages go out by the broker and not by the bot, so that they go out while Slack is away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

import httpx2
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics, outbox
from broker.bus import OUTBOX
from broker.outbox import PAGE, Outbox, Work, backoff, work_off
from broker.paging import Page, PageFailed, Pager, Urgency
from broker.paging.pagers import PAGERS
from broker.paging.rows import is_wanted, page_key, settle_all
from broker.service import Service
from broker.store import pages, stories
from broker.trust import system_trust
from workflows.model import Story

MOST_ATTEMPTS = 8
"""Then it is given up, and said so: after some two minutes of waiting in between."""
TIMEOUT = 10.0
"""Seconds for one attempt."""
LEASE = timedelta(seconds=30)

log = structlog.get_logger(__name__)


class PagingWorker:
    """`run` works until it is cancelled; `drain` does what is due and returns."""

    def __init__(
        self,
        service: Service,
        box: Outbox,
        public_url: str,
        http: httpx2.AsyncClient | None = None,
        pagers: Mapping[str, Pager] = PAGERS,
    ) -> None:
        self._service = service
        self._box = box
        self._public_url = public_url
        self._http = http or httpx2.AsyncClient(
            timeout=TIMEOUT, follow_redirects=False, verify=system_trust()
        )
        self._pagers = pagers

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self) -> None:
        await work_off("paging", self._service.bus, self.drain, partial(self._box.pause, PAGE))

    async def drain(self) -> int:
        """Do everything that is due now; how much there was."""
        count = 0
        while work := await self._box.claim(PAGE, lease=LEASE):
            await self._do(work)
            count += 1
        return count

    async def _do(self, work: Work) -> None:
        said = json.loads(work.payload)
        request_id, name = str(said["request"]), str(said["pager"])
        try:
            async with asyncio.timeout(TIMEOUT):
                done = await self._send(request_id, name, settle=bool(said["settle"]))
        except (PageFailed, TimeoutError) as error:
            await self._failed(work, request_id, name, error, settle=bool(said["settle"]))
            return
        metrics.outbox_done.labels(PAGE).inc()
        async with self._service.store.write() as tx:
            now = self._service.clock.now()
            if await outbox.finish(tx, work, now) and done:
                await self._note(tx, request_id, name, now, settle=bool(said["settle"]))

    async def _send(self, request_id: str, name: str, *, settle: bool) -> bool:
        """Page, or settle; False where there was nothing to send (any more)."""
        story = await self._service.story(request_id)
        target = self._service.config.pagers.get(name)
        if story is None or target is None:
            return False
        pager, key = self._pagers[target.via], page_key(request_id)
        if settle:
            await pager.settle(target, key, self._http)
        elif not is_wanted(story):
            return False
        else:
            await pager.page(target, page_of(self._service, story, self._public_url), self._http)
        return True

    async def _note(
        self, tx: AsyncConnection, request_id: str, name: str, now: datetime, *, settle: bool
    ) -> None:
        kind = "page.settled" if settle else "page.sent"
        await audit.append(
            tx, [audit.Note(kind, request_id, {"pager": name})], at=now, actor="", via="system"
        )
        if settle:
            await pages.settled(tx, request_id, name, now)
            return
        if await pages.sent(tx, request_id, name, now):
            await _tell(tx, request_id, "paged", name, "", now)
        # Decided while the page was on its way: nothing else would settle it. Locked, so that a decision
        # comes either before this look, or after the page is known.
        story = await stories.lock(tx, request_id)
        if story is not None and not is_wanted(story):
            await settle_all(tx, request_id, now)

    async def _failed(
        self, work: Work, request_id: str, name: str, error: Exception, *, settle: bool
    ) -> None:
        problem = str(error) or "no answer in time"
        over = work.attempts >= MOST_ATTEMPTS or (isinstance(error, PageFailed) and error.lasting)
        metrics.outbox_failed.labels(PAGE).inc()
        log.warning("page_failed", request=request_id, pager=name, problem=problem, attempts=work.attempts)
        async with self._service.store.write() as tx:
            now = self._service.clock.now()
            if work.attempts == 1 or over:
                body = {"pager": name, "problem": problem, "settle": settle, "given_up": over}
                note = audit.Note("page.failed", request_id, body)
                await audit.append(tx, [note], at=now, actor="", via="system")
            if (work.attempts == 1 or over) and not settle:
                await _tell(tx, request_id, "page-given-up" if over else "page-failed", name, problem, now)
            if over:
                await outbox.finish(tx, work, now)
        if not over:
            await self._box.retry(work, problem, backoff(work.attempts, first=1.0, most=30.0))
        await self._service.bus.publish(OUTBOX, request_id)


async def _tell(
    tx: AsyncConnection, request_id: str, what: str, name: str, problem: str, now: datetime
) -> None:
    body = {"request": request_id, "version": 0, "what": what, "target": name, "problem": problem}
    await outbox.put(tx, outbox.NOTIFY, f"{request_id}:notify", now, json.dumps(body))


def page_of(service: Service, story: Story, public_url: str) -> Page:
    request, emergency = story.request, story.request.emergency
    person = service.principal(request.holder)
    who = person.name if person else request.holder
    url = public_url
    if emergency is None:
        text = f"{who} waits for {request.resource} as {request.role}, and nobody has decided ({request.id})"
        return Page(page_key(request.id), text, Urgency.WARNING, request.resource, url)
    if emergency.drill:
        text = (
            f"DRILL, nothing is open: {who} rehearses breaking the glass of {request.resource} ({request.id})"
        )
        return Page(page_key(request.id), text, Urgency.INFO, request.resource, url)
    text = f"EMERGENCY {emergency.incident}: {who} broke the glass of {request.resource} ({request.id})"
    return Page(page_key(request.id), text, Urgency.CRITICAL, request.resource, url)
