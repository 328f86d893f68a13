"""Asking the schedules, with a short memory, and turning whom they name into principals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import httpx2
import structlog

from broker.clock import Clock
from broker.config import Config, ScheduleSource
from broker.identity.directory import Directory
from broker.oncall import Answer, OnCall, OnCallUnavailable, Source, incidents
from broker.oncall.sources import SOURCES
from broker.trust import system_trust
from workflows.break_glass import Duty, IncidentState, OnDuty
from workflows.model import Principal

TIMEOUT = 4.0
"""Seconds that a source has for the whole of its answer; somebody waits with a fire behind them."""
MEMORY = timedelta(seconds=60)
"""An answer is shown again for so long, and stands in for a source that is away for no longer."""

log = structlog.get_logger(__name__)


class Roster:
    """`on_duty` for decisions (asks anew), `shown` for pages (may be up to MEMORY old)."""

    def __init__(
        self,
        clock: Clock,
        http: httpx2.AsyncClient | None = None,
        *,
        sources: dict[str, Source] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._clock = clock
        self._http = http or httpx2.AsyncClient(
            timeout=timeout, follow_redirects=False, verify=system_trust()
        )
        self._sources = SOURCES if sources is None else sources
        self._timeout = timeout
        self._memory: dict[ScheduleSource, Answer] = {}

    async def close(self) -> None:
        await self._http.aclose()

    async def on_duty(self, config: Config, names: Iterable[str]) -> OnDuty:
        """What the schedules of these names say now. One that does not answer is `away`, unless it did so
        within the last minute: then that answer goes on, with its own time. Raises nothing.
        """
        wanted = list(dict.fromkeys(names))
        answers = await asyncio.gather(*(self._anew(config, name) for name in wanted))
        duties: list[Duty] = []
        away: list[str] = []
        for name, answer in zip(wanted, answers, strict=True):
            if answer is None:
                away.append(name)
            else:
                duties += _duties(name, answer, config.directory)
        return OnDuty(tuple(duties), tuple(away))

    async def shown(self, config: Config, name: str) -> Answer:
        """Who is on call, for showing it. Raises OnCallUnavailable."""
        schedule = config.schedules.get(name)
        if schedule is None:
            raise OnCallUnavailable(f"the policy has no schedule {name}")
        if found := self._remembered(schedule):
            return found
        return await self._ask(schedule)

    async def incident(self, config: Config, name: str) -> IncidentState:
        """Whether the incident of this name is open, where the policy says who keeps them. Raises nothing."""
        keeper = config.incidents
        if keeper is None or not name.strip():
            return IncidentState.UNASKED
        try:
            async with asyncio.timeout(self._timeout):
                return await incidents.state_of(keeper, name.strip(), self._http)
        except (OnCallUnavailable, TimeoutError) as error:
            log.warning("incident: no answer", source=keeper.source, problem=str(error))
            return IncidentState.UNTOLD

    # -------------------------------------------------------------- inside

    async def _anew(self, config: Config, name: str) -> Answer | None:
        schedule = config.schedules.get(name)
        if schedule is None:
            log.warning("on call: the policy has no such schedule", schedule=name)
            return None
        try:
            return await self._ask(schedule)
        except OnCallUnavailable as error:
            log.warning("on call: no answer", schedule=name, source=schedule.source, problem=str(error))
            return self._remembered(schedule)

    async def _ask(self, schedule: ScheduleSource) -> Answer:
        source = self._sources.get(schedule.source)
        if source is None:
            raise OnCallUnavailable(f"there is no adapter for {schedule.source}")
        asked_at = self._clock.now()
        try:
            async with asyncio.timeout(self._timeout):
                people = await source.on_call(schedule, asked_at, self._http)
        except TimeoutError as error:
            raise OnCallUnavailable(f"no answer within {self._timeout:g} seconds") from error
        answer = Answer(tuple(people), asked_at)
        self._memory[schedule] = answer
        return answer

    def _remembered(self, schedule: ScheduleSource) -> Answer | None:
        found = self._memory.get(schedule)
        if found is None or not timedelta() <= self._clock.now() - found.as_of <= MEMORY:
            return None
        return found


def _duties(name: str, answer: Answer, directory: Directory) -> list[Duty]:
    """The people of an answer whom the directory knows."""
    return [
        Duty(name, person.id, answer.as_of, found.until, found.level, found.since_override)
        for found in answer.people
        if (person := who(found, directory)) is not None
    ]


def who(found: OnCall, directory: Directory) -> Principal | None:
    """The principal whom a source names. A Slack id counts only where no e-mail address is given: the
    address is what the identity provider knows people by.
    """
    if found.principal:
        return directory.principal(found.principal)
    if found.email:
        return directory.of_email(found.email)
    if not found.slack:
        return None
    known = (p for p in directory.everyone().values() if directory.slack_user(p.id) == found.slack)
    return next(known, None)
