"""Has approved statements run: as a client of the gate, with a password that is good for that alone.

Work may be done twice. The statement cannot: the broker gives its run out once, to the session that the gate
opened for it. A run whose worker died keeps its outcome and loses its rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog

from broker import metrics, outbox
from broker.identity.tokens import TokenKind, Tokens
from broker.outbox import RUN, Outbox, Work, work_off
from broker.runs import RunOutput, Runs
from workflows.model import Grant, GrantState, ReviewState, StatementReview

LEASE = timedelta(seconds=6)
LOOK_AGAIN = timedelta(seconds=0.3)
MOST_ROWS = 10_000
MOST_BYTES = 4 << 20
_AT_HAND = (ReviewState.APPROVED, ReviewState.RUNNING)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What is to be sent through the gate, and as whom. More than `most_rows` or `most_bytes` of rows are
    counted and not kept.
    """

    resource: str
    principal: str
    role: str
    text: str
    token: str = field(repr=False)
    most_rows: int = MOST_ROWS
    most_bytes: int = MOST_BYTES
    kind: str = "postgres"


class NotEntered(Exception):
    """The gate did not let the run in. The text is for people."""


Client = Callable[[RunOrder], Awaitable[RunOutput]]
"""Sends an order through the gate. Raises NotEntered where nothing was sent."""


class RunWorker:
    """`run` works until it is cancelled; `drain` does what is due and returns."""

    def __init__(self, runs: Runs, tokens: Tokens, box: Outbox, client: Client) -> None:
        self._runs = runs
        self._service = runs.service
        self._tokens = tokens
        self._box = box
        self._client = client

    async def run(self) -> None:
        await work_off("runs", self._service.bus, self.drain, partial(self._box.pause, RUN, least=0.05))

    async def drain(self) -> int:
        """Do everything that is due now; how much there was."""
        count = 0
        while work := await self._box.claim(RUN, lease=LEASE):
            async with self._box.holding(work, LEASE):
                await self._do(work)
            count += 1
        return count

    async def _do(self, work: Work) -> None:
        review = await self._runs.reviews.find(work.payload)
        story = await self._service.story(review.grant_id) if review and review.grant_id else None
        grant = story.grant if story else None
        if review is None or grant is None:
            await self._box.finish(work)
        elif review.state not in _AT_HAND:
            await self._end(work, review, grant, None)
        elif review.state is ReviewState.RUNNING:
            lost = "The rows were lost: the broker that had it run stopped meanwhile."
            await self._end(work, review, grant, RunOutput(error=lost))
        elif not grant.live(self._service.clock.now()):
            why = grant.end_note or "the grant for it ended first"
            await self._end(work, review, grant, RunOutput(error=f"Nothing was run: {why}."))
        elif grant.state is GrantState.MINTING:
            await self._box.retry(work, "the gate is being opened", LOOK_AGAIN)
        else:
            await self._send(work, review, grant)

    async def _send(self, work: Work, review: StatementReview, grant: Grant) -> None:
        issued = await self._tokens.issue(
            TokenKind.ENTRY,
            review.requester,
            via="system",
            label=f"run {review.id}",
            payload=review.id,
            lifetime=timedelta(minutes=1),
        )
        resource = self._service.policy.find(review.resource)
        order = RunOrder(
            review.resource,
            review.requester,
            review.role,
            review.statement.text,
            issued.token,
            kind=resource.kind if resource else "",
        )
        left = (grant.expiry - self._service.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(left):
                output = await self._client(order)
        except NotEntered as error:
            log.warning("a run did not enter", review=review.id, problem=str(error))
            await self._box.retry(work, str(error), timedelta(seconds=min(0.5 * work.attempts, 5)))
            return
        except TimeoutError:
            output = RunOutput(error=f"It did not end within its {round(left)} s, and was cut.")
        await self._end(work, review, grant, output)

    async def _end(self, work: Work, review: StatementReview, grant: Grant, output: RunOutput | None) -> None:
        """Keep the result, close what did not run, give the grant back, and have the cards say so."""
        reviews = self._runs.reviews
        if output is not None:
            await self._runs.keep(review.id, output)
            await reviews.not_run(review.id, output.error)
        await self._service.release(grant.id, grant.principal, via="system")
        async with self._service.store.write() as tx:
            now = self._service.clock.now()
            await outbox.put(tx, outbox.REVIEW, review.id, now)
            await outbox.finish(tx, work, now)
        metrics.outbox_done.labels(work.kind).inc()
        await reviews.wake(review)
