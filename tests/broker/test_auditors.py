"""Auditors read what administrators read, and can end, answer and decide nothing by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.reviews import Reviews
from broker.service import Service
from broker.sessions import Sessions
from broker.store import sessions
from broker.store.sessions import SessionRecord
from tests.broker.conftest import sample_config
from workflows.access import Wish
from workflows.model import Refusal, Story


@pytest.fixture
def service(make_service: Any) -> Service:
    """zoe, whom no rule opens anything to, is an auditor."""
    config = sample_config()
    people = dict(config.directory.people)
    zoe = people["zoe"]
    people["zoe"] = replace(zoe, principal=replace(zoe.principal, groups=frozenset({"audit"})))
    made: Service = make_service(
        replace(
            config,
            directory=replace(config.directory, people=people),
            policy=replace(config.policy, auditors=frozenset({"audit"})),
        )
    )
    return made


async def granted(service: Service) -> Story:
    asked = await service.submit("ada", Wish("prod-db", reason="INC-1"), via="cli")
    assert isinstance(asked, Story)
    story = await service.approve(asked.request.id, "grace", via="cli")
    assert isinstance(story, Story)
    assert story.grant
    now = service.clock.now()
    record = SessionRecord(
        "S-1", story.request.id, story.grant.id, "ada", "prod-db", "readonly", "gate-1", "postgres",
        "127.0.0.1", now, now + timedelta(seconds=5),
    )  # fmt: skip
    async with service.store.write() as tx:
        await sessions.add(tx, record)
    return story


async def test_they_read_requests_sessions_the_trail_and_who_holds_what(service: Service) -> None:
    story = await granted(service)
    assert isinstance(await service.story_for(story.request.id, "zoe"), Story)
    assert [one.id for one in await service.sessions("zoe")] == ["S-1"]
    assert not isinstance(await service.session("S-1", "zoe"), Refusal)
    assert not isinstance(await service.trail("zoe"), Refusal)
    assert not isinstance(await service.trail_of(story.request.id, "zoe"), Refusal)
    held = await service.who("prod-db", "zoe")
    assert not isinstance(held, Refusal)
    assert [one.request.id for one in held] == [story.request.id]


async def test_they_end_answer_and_decide_nothing(service: Service) -> None:
    story = await granted(service)
    pending = await service.submit("bob", Wish("prod-db", reason="INC-2"), via="cli")
    assert isinstance(pending, Story)
    tried = [
        await service.revoke(story.request.id, "zoe", via="cli"),
        await Sessions(service).kill("S-1", "zoe", via="cli"),
        await service.approve(pending.request.id, "zoe", via="cli"),
        await service.deny(pending.request.id, "zoe", via="cli"),
        await service.comment(pending.request.id, "zoe", "let it through", via="cli"),
        await service.cancel(pending.request.id, "zoe", via="cli"),
        await service.claim(pending.request.id, "zoe", via="cli"),
        await service.submit("zoe", Wish("prod-db", reason="to look"), via="cli"),
    ]
    assert all(isinstance(one, Refusal) for one in tried), tried
    assert await service.waiting_for("zoe") == []
    assert await Reviews(service).waiting_for("zoe") == []


async def test_who_is_in_no_such_group_or_inactive_reads_nothing(make_service: Any, service: Service) -> None:
    story = await granted(service)
    plain = make_service(sample_config())
    assert isinstance(await plain.story_for(story.request.id, "zoe"), Refusal)
    assert isinstance(await plain.trail("zoe"), Refusal)
    people = dict(service.config.directory.people)
    people["zoe"] = replace(people["zoe"], principal=replace(people["zoe"].principal, active=False))
    gone = make_service(replace(service.config, directory=replace(service.config.directory, people=people)))
    assert await gone.sessions("zoe") == []
    assert isinstance(await gone.trail("zoe"), Refusal)
