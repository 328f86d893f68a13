"""Several brokers on one database, everything at once, in whatever order comes out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from broker import audit
from broker.codec import EVENT_KINDS, fold
from broker.service import Result, Service
from broker.store.tables import outbox
from workflows.access import Wish
from workflows.model import GrantState, RequestState, Story

from .conftest import sample_config  # isort: skip

PEOPLE = ("ada", "bob", "grace", "linus", "sam", "zoe", "nobody")


@dataclass(frozen=True)
class Press:
    """One call, at one of the brokers; `again` names a delivery that may come more than once."""

    broker: int
    verb: str
    actor: str
    again: int | None


presses = st.builds(
    Press,
    broker=st.integers(0, 1),
    verb=st.sampled_from(["approve", "approve", "deny", "cancel", "release", "revoke", "expire", "fail"]),
    actor=st.sampled_from(PEOPLE),
    again=st.none() | st.integers(0, 2),
)
rounds = st.lists(
    st.tuples(st.lists(presses, min_size=1, max_size=5), st.sampled_from([0, 0, 1, 45, 500])), max_size=5
)


@pytest.fixture
def brokers(make_service: Callable[..., Service]) -> list[Service]:
    return [make_service(), make_service()]


async def do(service: Service, request_id: str, press: Press) -> Result | int:
    if press.verb == "expire":
        return await service.expire_due()
    if press.verb == "fail":
        story = await service.story(request_id)
        return await service.fail_grant(story.grant.id, "x") if story and story.grant else 0
    dedupe = f"{request_id}:{press.again}" if press.again is not None else None
    call: Any = getattr(service, press.verb)
    result: Result = await call(request_id, press.actor, via="slack", dedupe=dedupe)
    return result


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requester=st.sampled_from(["ada", "grace"]), needed=st.integers(1, 2), plan=rounds)
async def test_whatever_the_order_there_is_one_history_and_at_most_one_grant(
    brokers: list[Service], clock: Any, requester: str, needed: int, plan: Any
) -> None:
    config = sample_config(needed=needed)
    for broker in brokers:
        broker._config = lambda: config
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "x")
    begun = await brokers[0].submit(requester, wish, via="api")
    assert isinstance(begun, Story)
    request_id = begun.request.id
    for at_once, minutes in plan:
        await asyncio.gather(*(do(brokers[press.broker], request_id, press) for press in at_once))
        clock.advance(minutes=minutes)
    await check(brokers[1], request_id, requester, needed)


async def check(service: Service, request_id: str, requester: str, needed: int) -> None:
    async with service.store.read() as tx:
        entries = await audit.of_subject(tx, request_id)
        rows = await tx.execute(select(outbox.c.kind, outbox.c.key))
        work = Counter((row.kind, row.key) for row in rows)
    story = await service.story(request_id)
    assert story is not None
    told = [(entry.kind, entry.body) for entry in entries if entry.kind in EVENT_KINDS]
    assert fold(told) == story
    assert story.version == len(told)
    kinds = Counter(kind for kind, _ in told)
    assert all(kinds[kind] <= 1 for kind in EVENT_KINDS if kind != "approval.given")
    assert work["card", request_id] >= 1
    if story.grant is None:
        assert story.request.state is not RequestState.APPROVED
        return
    voters = {approval.approver for approval in story.request.approvals if approval.yes}
    assert len(voters) >= needed
    assert voters <= {"grace", "linus"} - {requester}
    assert work["mint", story.grant.id] == 1
    assert work["drop", story.grant.id] == (story.grant.state is GrantState.ENDED)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(repeats=st.integers(2, 8))
async def test_the_same_submission_at_both_brokers_at_once_is_one_request(
    brokers: list[Service], chance: Any, repeats: int
) -> None:
    key = chance.token(8)
    wish = Wish("prod-db", "readonly", timedelta(hours=1), key)
    answers = await asyncio.gather(
        *(brokers[n % 2].submit("ada", wish, via="slack", dedupe=key) for n in range(repeats))
    )
    assert len({answer.request.id for answer in answers if isinstance(answer, Story)}) == 1
    mine = [s for s in await brokers[0].stories_of("ada", limit=10_000) if s.request.reason == key]
    assert len(mine) == 1
