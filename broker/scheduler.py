"""Time: wakes at the next deadline, and sweeps for whatever a lost wake-up left behind.

APScheduler keeps its jobs in memory only and lets none of them be late (no misfire grace): when something is
due stands in the database, where any number of brokers may look and each row is claimed by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from broker import metrics
from broker.bus import DEADLINES
from broker.service import Service

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0

Chore = Callable[[], Awaitable[object]]


class Scheduler:
    """`sweep` and `chores` (name → (seconds, what)) run again and again; deadlines run when they are due."""

    def __init__(
        self, service: Service, *, sweep_seconds: float, sweep: Chore, chores: dict[str, tuple[float, Chore]]
    ) -> None:
        self._service = service
        self._sweep_seconds = sweep_seconds
        self._sweep = sweep
        self._chores = chores
        self._jobs: Any = AsyncIOScheduler(  # type: ignore[no-untyped-call]
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        self._one = asyncio.Lock()
        self._due: datetime | None = None
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Sweep once, for what fell due while no broker ran, then go on by the clock."""
        self._jobs.start()
        await self.look()
        self._jobs.add_job(self.look, "interval", seconds=self._sweep_seconds, id="sweep")
        for name, (seconds, chore) in self._chores.items():
            self._jobs.add_job(self._run, "interval", seconds=seconds, id=name, args=[name, chore])
        self._listener = asyncio.create_task(self._listen(), name="deadlines")

    async def stop(self) -> None:
        """Start nothing more, and let what runs come to its end."""
        if self._listener:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._jobs.running:
            self._jobs.pause()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS), self._one:
                    pass
            self._jobs.shutdown(wait=False)

    async def look(self) -> None:
        """End what is due, sweep, and set the alarm for the next deadline. What fails waits for the next."""
        await self._run("due", self._end_due)
        await self._run("sweep", self._sweep)
        await self._run("alarm", self._set_alarm)

    async def _alarm(self) -> None:
        self._due = None
        await self._run("due", self._end_due)
        await self._run("alarm", self._set_alarm)

    async def _end_due(self) -> None:
        due = await self._service.next_deadline()
        if await self._service.expire_due() and due:
            metrics.deadline_lag.set((self._service.clock.now() - due).total_seconds())
        await self._service.wake_due()

    async def _set_alarm(self) -> None:
        due = await self._next()
        if due is None or due == self._due:
            return
        # The service's clock decides; the scheduler's own is only told how long to wait.
        wait = max(due - self._service.clock.now(), timedelta())
        self._due = due
        self._jobs.add_job(
            self._alarm, "date", run_date=datetime.now(due.tzinfo) + wait, id="alarm", replace_existing=True
        )

    async def _next(self) -> datetime | None:
        """The next end, or the next step, warning or reminder."""
        times = (await self._service.next_deadline(), await self._service.next_wake())
        return min((at for at in times if at), default=None)

    async def _listen(self) -> None:
        async for _ in self._service.bus.subscribe(DEADLINES):
            await self._run("alarm", self._set_alarm)

    async def _run(self, name: str, chore: Chore) -> None:
        """One chore at a time. A database that is away must not end the clock."""
        try:
            async with self._one:
                await chore()
        except Exception as error:
            metrics.sweep_failures.inc()
            log.error("scheduler: failed", chore=name, problem=f"{type(error).__name__}: {error}"[:300])
