"""Yeses in advance through the one door, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker import audit
from broker.service import Service
from broker.store.engine import Store
from tests.broker.conftest import FakeClock, sample_config
from workflows.access import Wish
from workflows.allowance import Allowance
from workflows.model import GrantState, Refusal, RequestState, Story


@pytest.fixture
def service(make_service: Any) -> Service:
    made: Service = make_service()
    return made


async def allow(service: Service, **more: Any) -> Allowance:
    made = await service.allow("linus", "ada", "prod-db", via="cli", reason="release duty", **more)
    assert isinstance(made, Allowance), made
    return made


async def ask(service: Service, who: str = "ada") -> Story:
    asked = await service.submit(who, Wish("prod-db", reason="INC-1"), via="cli")
    assert isinstance(asked, Story), asked
    return asked


async def kinds(service: Service) -> list[str]:
    async with service.store.read() as tx:
        return [entry.kind for entry in reversed(await audit.newest(tx))]


async def test_asking_uses_it_once_and_says_so_in_the_trail(service: Service) -> None:
    one = await allow(service)
    story = await ask(service)
    assert story.grant is not None
    assert story.request.state is RequestState.APPROVED
    assert story.request.approvals[0].reason == f"in advance ({one.id}): release duty"
    assert (await kinds(service))[-4:] == [
        "allowance.used", "request.submitted", "approval.given", "request.approved",
    ]  # fmt: skip
    assert (await ask(service)).request.state is RequestState.PENDING


async def test_a_repeated_one_is_used_until_it_ends_or_is_taken_back(
    service: Service, clock: FakeClock
) -> None:
    one = await allow(service, repeated=True)
    for _ in range(2):
        assert (await ask(service)).grant is not None
    ended = await service.end_allowance(one.id, "ada", via="cli")
    assert isinstance(ended, Allowance)
    assert (await ask(service)).grant is None
    again = await service.end_allowance(one.id, "ada", via="cli")
    assert again == ended
    clock.advance(days=2)
    assert await service.allowances_for("linus") == []


async def test_what_was_granted_by_it_is_revoked_like_any_other(service: Service) -> None:
    await allow(service)
    story = await ask(service)
    ended = await service.revoke(story.request.id, "linus", via="cli")
    assert isinstance(ended, Story)
    assert ended.grant is not None
    assert ended.grant.state is GrantState.ENDED


async def test_two_who_ask_at_once_get_one_grant_by_it(make_service: Any, store: Store) -> None:
    one, other = make_service(), make_service()
    await allow(one)
    stories = await asyncio.gather(ask(one), ask(other), ask(one), ask(other))
    assert sum(story.grant is not None for story in stories) == 1


async def test_it_does_not_outlive_its_givers_right(make_service: Any, store: Store) -> None:
    await allow(make_service())
    config = sample_config()
    people = dict(config.directory.people)
    del people["linus"]
    left = make_service(type(config)(config.policy, type(config.directory)(people)))
    assert (await ask(left)).request.state is RequestState.PENDING


async def test_a_delivery_that_comes_twice_makes_one(service: Service) -> None:
    first = await allow(service, dedupe="k")
    assert await allow(service, dedupe="k") == first
    assert len(await service.allowances_for("ada")) == 1


async def test_a_stranger_neither_sees_it_nor_ends_it(service: Service) -> None:
    one = await allow(service)
    assert await service.allowances_for("bob") == []
    for key in (one.id, "A-NOSUCH"):
        refused = await service.end_allowance(key, "bob", via="cli")
        assert isinstance(refused, Refusal)
        assert refused.code == "no-such-allowance"
