"""Work left behind: claimed once, in order for a key, given up by nobody."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from broker import outbox
from broker.outbox import CARD, DROP, MINT, Outbox, backoff
from broker.store.engine import Store


@pytest.fixture
def box(store: Store, clock: Any, chance: Any) -> Outbox:
    return Outbox(store, clock, chance)


async def put(store: Store, clock: Any, *rows: tuple[str, str], **more: Any) -> None:
    async with store.write() as tx:
        for kind, key in rows:
            await outbox.put(tx, kind, key, clock.now(), **more)


async def test_a_row_is_claimed_by_one_of_many(box: Outbox, store: Store, clock: Any) -> None:
    await put(store, clock, (CARD, "R-1"), (CARD, "R-2"), (CARD, "R-3"))
    found = await asyncio.gather(*(box.claim(CARD) for _ in range(8)))
    keys = [work.key for work in found if work]
    assert len(keys) == len(set(keys))
    assert set(keys) <= {"R-1", "R-2", "R-3"}
    while work := await box.claim(CARD):
        keys.append(work.key)
    assert sorted(keys) == ["R-1", "R-2", "R-3"]


async def test_rows_of_one_key_are_done_one_at_a_time_and_in_order_across_kinds(
    box: Outbox, store: Store, clock: Any
) -> None:
    await put(store, clock, (MINT, "G-1"), (DROP, "G-1"), (MINT, "G-2"))
    first = await box.claim(MINT, DROP)
    other = await box.claim(MINT, DROP)
    assert first is not None
    assert other is not None
    assert (first.kind, first.key, other.key) == (MINT, "G-1", "G-2")
    assert await box.claim(MINT, DROP) is None
    assert await box.finish(first)
    then = await box.claim(MINT, DROP)
    assert then is not None
    assert (then.kind, then.key) == (DROP, "G-1")


async def test_what_nobody_has_seen_anything_of_can_be_claimed_before_what_changed(
    box: Outbox, store: Store, clock: Any
) -> None:
    await put(store, clock, (CARD, "R-1"))
    first = await box.claim(CARD)
    assert first is not None
    assert await box.finish(first)
    await put(store, clock, (CARD, "R-1"), (CARD, "R-2"), (CARD, "R-2"))
    new = await box.claim(CARD, new=True)
    assert new is not None
    assert new.key == "R-2"
    assert await box.claim(CARD, new=True) is None, "its second row waits for the first"
    assert await box.finish(new)
    assert await box.claim(CARD, new=True) is None, "nothing is new any more"
    assert [work.key for _ in range(2) if (work := await box.claim(CARD))] == ["R-1", "R-2"]


async def test_a_claim_that_runs_out_is_claimed_again_and_the_slow_one_finishes_nothing(
    box: Outbox, store: Store, clock: Any
) -> None:
    await put(store, clock, (MINT, "G-1"))
    slow = await box.claim(MINT, lease=timedelta(seconds=30))
    assert slow is not None
    clock.advance(seconds=29)
    assert await box.claim(MINT) is None
    clock.advance(seconds=1)
    quick = await box.claim(MINT)
    assert quick is not None
    assert quick.attempts == 2
    assert not await box.finish(slow)
    await box.retry(slow, "late", timedelta())
    assert await box.claim(MINT) is None
    assert await box.finish(quick)
    assert not await box.finish(quick)


async def test_failed_work_waits_and_then_comes_again_with_its_problem(
    box: Outbox, store: Store, clock: Any
) -> None:
    await put(store, clock, (MINT, "G-1"))
    work = await box.claim(MINT)
    assert work is not None
    await box.retry(work, "prod-db cannot be reached", timedelta(seconds=4))
    assert await box.claim(MINT) is None
    assert await box.next_due(MINT) == clock.now() + timedelta(seconds=4)
    clock.advance(seconds=4)
    again = await box.claim(MINT)
    assert again is not None
    assert again.attempts == 2


async def test_delayed_work_is_not_due_before(box: Outbox, store: Store, clock: Any) -> None:
    await put(store, clock, (DROP, "G-1"), delay=timedelta(seconds=0.5))
    assert await box.claim(DROP) is None
    clock.advance(seconds=0.5)
    assert await box.claim(DROP)


async def test_work_that_is_withdrawn_is_not_begun_but_what_is_begun_goes_on(
    box: Outbox, store: Store, clock: Any
) -> None:
    await put(store, clock, (MINT, "G-1"), (MINT, "G-2"))
    begun = await box.claim(MINT)
    assert begun is not None
    async with store.write() as tx:
        await outbox.withdraw(tx, MINT, "G-1", clock.now())
        await outbox.withdraw(tx, MINT, "G-2", clock.now())
    assert await box.claim(MINT) is None
    assert await box.finish(begun)


async def test_done_rows_are_swept_and_open_ones_are_not(box: Outbox, store: Store, clock: Any) -> None:
    await put(store, clock, (CARD, "R-1"), (CARD, "R-2"))
    done = await box.claim(CARD)
    assert done is not None
    await box.finish(done)
    clock.advance(days=2)
    async with store.write() as tx:
        assert await outbox.sweep(tx, clock.now() - timedelta(days=1)) == 1
    left = await box.claim(CARD)
    assert left is not None
    assert left.key == "R-2"


def test_waiting_doubles_up_to_an_end() -> None:
    assert [backoff(n).total_seconds() for n in (1, 2, 3, 8, 100)] == [0.5, 1, 2, 60, 60]
