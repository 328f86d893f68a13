"""From the outbox to Slack: every card, thread and direct message of a story, kept equal to the database.

Work says only which request changed. What is shown is read from the database at that moment, so late,
repeated and reordered work does no harm, and hours of Slack being away end in one update a card. Rows of one
request are done one at a time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from weakref import WeakValueDictionary

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot import digest
from bot.allowances import AllowanceCourier
from bot.ledger import Ledger, Place
from bot.link_texts import account_card
from bot.notice_courier import NoticeCourier
from bot.places import Overtaken, Places
from bot.reach import Reach
from bot.review_courier import ReviewCourier
from bot.slack import NO_ENTRY, TROUBLE, Pace, error_of
from bot.story_courier import AGAIN, StoryCourier
from broker import metrics, outbox
from broker.bus import OUTBOX
from broker.outbox import ACCOUNT, ALLOWANCE, CARD, NOTIFY, REVIEW, WATCH, Outbox, Work, backoff
from broker.recordings import Recordings
from broker.reviews import Reviews
from broker.runs import Runs
from broker.service import Service

log = structlog.get_logger(__name__)

_LEASE = timedelta(seconds=60)
_IDLE = 1.0


class Courier:
    """`run` works until it is cancelled; `drain` does what is due and returns, for tests and for shutdown."""

    def __init__(
        self,
        service: Service,
        box: Outbox,
        client: AsyncWebClient,
        ledger: Ledger,
        pace: Pace,
        *,
        public_url: str = "",
        workers: int = 4,
        sweep_seconds: float = 60.0,
        runs: Runs | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self._service = service
        self._box = box
        self._ledger = ledger
        self._places = places = Places(client, ledger, pace)
        self._reach = reach = Reach(service, client, places)
        self._stories = StoryCourier(service, places, ledger, reach, public_url, recordings)
        self._reviews = ReviewCourier(Reviews(service), places, ledger, public_url, reach.dm, runs)
        self._allowances = AllowanceCourier(service, places, reach.dm, reach.refuse_shared)
        self._notices = NoticeCourier(service, places, ledger, public_url, self._stories.seats)
        self._workers = workers
        self._sweep_seconds = sweep_seconds
        self._wake = asyncio.Event()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # ------------------------------------------------------------- running

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._sweep_often())
            for _ in range(self._workers):
                group.create_task(self._work())
            # Of its own, so that after a rush, or a day without Slack, what is new does not wait for changes.
            group.create_task(self._work(new=True))

    async def drain(self) -> int:
        """Do everything that is due now; how much there was."""
        count = 0
        while await self.one():
            count += 1
        return count

    async def one(self, *, likely: bool = False, new: bool = False) -> bool:
        """Claim one row, of which there is `likely` one, and do it; False where there is none. The claim is
        kept while it takes, and two workers of ours take turns where a claim ran out all the same (the clock
        was set, say): of two who show one story at once the slower would put an older state over a newer one,
        or post twice.
        """
        work = await self._box.claim(
            CARD, REVIEW, NOTIFY, WATCH, ALLOWANCE, ACCOUNT, lease=_LEASE, likely=likely, new=new
        )
        if work is None:
            return False
        turn = self._turns.setdefault(work.key, asyncio.Lock())
        async with self._box.holding(work, _LEASE), turn:
            await self._do(work)
        return True

    async def _do(self, work: Work) -> None:
        try:
            if work.kind == REVIEW:
                await self._reviews.deliver(work.key)
            elif work.kind == ALLOWANCE:
                await self._allowances.deliver(work.key)
            elif work.kind == NOTIFY:
                await self._notices.deliver(work.payload)
            elif work.kind == WATCH:
                await self._look(work.payload)
            elif work.kind == ACCOUNT:
                await self._tell_account(work)
            else:
                await self._stories.deliver(work.key, force=work.payload == AGAIN)
        except TROUBLE as trouble:
            await self._failed(work, error_of(trouble))
        except Overtaken:
            await self._box.finish(work)
        except asyncio.CancelledError:
            # We are being stopped: let another, or the next start, go on at once. Where that cannot be
            # written down the claim runs out by itself; what must not happen is that we are not stopped.
            with suppress(Exception):
                await asyncio.shield(self._box.retry(work, "stopped", timedelta()))
            raise
        except Exception:
            log.exception("card_failed", request=work.key)
            await self._failed(work, "internal error")
        else:
            metrics.outbox_done.labels(work.kind).inc()
            if not await self._box.finish(work) and work.kind in (CARD, REVIEW, ALLOWANCE):
                # Our claim had run out: another may have shown something newer before we wrote over it.
                await self._again(work.key, work.kind)

    async def _tell_account(self, work: Work) -> None:
        """Once, in direct messages."""
        user, card = account_card(work.payload, f"A-{work.id}")
        await self._reach.dm(f"A-{work.id}", 0, user, "account", card)

    async def _failed(self, work: Work, problem: str) -> None:
        metrics.outbox_failed.labels(work.kind).inc()
        log.warning("card_delayed", request=work.key, problem=problem, attempts=work.attempts)
        await self._box.retry(work, problem, backoff(work.attempts))

    async def _work(self, *, new: bool = False) -> None:
        """Work for ever; where `new` on that alone of which nobody has seen anything yet."""
        busy = False
        while True:
            try:
                busy = await self.one(likely=busy, new=new)
            except Exception:
                log.exception("courier_stumbled")
                busy = False
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):  # wait_for may swallow the stop (before Python 3.12)
                        await self._wake.wait()
                self._wake.clear()

    async def _listen(self) -> None:
        async for _ in self._service.bus.subscribe(OUTBOX):
            self._wake.set()

    async def _sweep_often(self) -> None:
        while True:
            try:
                await self.sweep()
                await digest.post(self._service, self._places)
            except TROUBLE as trouble:
                log.warning("card_sweep_delayed", problem=error_of(trouble))
            except Exception:
                log.exception("card_sweep_failed")
            await asyncio.sleep(self._sweep_seconds)

    async def sweep(self) -> int:
        """Look for cards that do not show what the database holds, or are gone, and have them mended."""
        behind, gone = set(await self._ledger.behind()), set[str]()
        for request_id, _, place in await self._ledger.standing():
            if request_id not in behind | gone and not await self._stands(place):
                gone.add(request_id)
        found = [(CARD, request_id, "") for request_id in behind]
        found += [(CARD, request_id, AGAIN) for request_id in gone]
        found += [(REVIEW, review_id, "") for review_id in await self._ledger.behind_of_statements()]
        mended = 0
        for kind, key, payload in found:
            mended += await self._mend(kind, key, payload)
        return mended

    async def _mend(self, kind: str, key: str, payload: str) -> bool:
        """Have a card shown anew, unless that is to be done anyhow: after a rush many cards are behind."""
        async with self._service.store.write() as tx:
            if await outbox.is_open(tx, kind, key):
                return False
            await outbox.put(tx, kind, key, self._service.clock.now(), payload)
        self._wake.set()
        return True

    async def _stands(self, place: Place) -> bool:
        try:
            return await self._places.stands(place)
        except SlackApiError as error:
            return error_of(error) not in NO_ENTRY

    async def _again(self, key: str, kind: str) -> None:
        async with self._service.store.write() as tx:
            await outbox.put(tx, kind, key, self._service.clock.now(), AGAIN)
        self._wake.set()

    async def _look(self, request_id: str) -> None:
        """See what has happened in an emergency since; in its turn among the rows of that request."""
        async with self._service.store.write() as tx:
            await outbox.put(tx, CARD, request_id, self._service.clock.now())
