"""The one door, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from broker import audit
from broker.codec import fold
from broker.config import Config
from broker.identity.directory import Person, StaticDirectory
from broker.service import Service
from broker.store import credentials
from broker.store.credentials import SealedLogin
from broker.store.engine import Store
from broker.store.tables import outbox
from workflows.access import Wish
from workflows.model import EndReason, GrantState, Refusal, RequestState, Story

ASK = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")


async def ask(service: Service, **more: Any) -> Story:
    story = await service.submit("ada", ASK, via="slack", **more)
    assert isinstance(story, Story)
    return story


async def approved(service: Service) -> Story:
    story = await service.approve((await ask(service)).request.id, "grace", via="slack")
    assert isinstance(story, Story)
    assert story.grant is not None
    return story


async def work_left(store: Store) -> list[tuple[str, str]]:
    async with store.read() as tx:
        query = select(outbox.c.kind, outbox.c.key).where(outbox.c.done_at.is_(None)).order_by(outbox.c.id)
        return [(row.kind, row.key) for row in await tx.execute(query)]


async def make_ready(service: Service, grant_id: str) -> None:
    now = service.clock.now()
    async with service.store.write() as tx:
        await credentials.add(tx, SealedLogin(grant_id, "prod-db", f"pc_{grant_id}", "sealed", "k", now, now))


async def told(service: Service, request_id: str) -> Story | None:
    async with service.store.read() as tx:
        return fold([(e.kind, e.body) for e in await audit.of_subject(tx, request_id)])


async def test_a_request_is_stored_with_its_audit_and_a_card_to_post(service: Service, store: Store) -> None:
    story = await ask(service)
    assert await service.story(story.request.id) == story
    assert await told(service, story.request.id) == story
    assert await work_left(store) == [("card", story.request.id)]


async def test_an_approval_makes_the_grant_and_the_work_to_mint_its_login(
    service: Service, store: Store
) -> None:
    story = await approved(service)
    assert story.grant.expiry == service.clock.now() + timedelta(hours=1)
    assert story.grant.state is GrantState.MINTING
    assert await service.story(story.grant.id) == story
    assert ("mint", story.grant.id) in await work_left(store)


async def test_a_second_approval_makes_no_second_grant(service: Service) -> None:
    first = await approved(service)
    second = await service.approve(first.request.id, "linus", via="slack")
    assert isinstance(second, Refusal)
    assert second.code == "already-decided"
    assert await service.approve(first.request.id, "grace", via="slack") == first


async def test_the_requester_never_counts_even_as_a_member_of_the_approver_group(service: Service) -> None:
    story = await service.submit("grace", ASK, via="api")
    assert isinstance(story, Story)
    refusal = await service.approve(story.request.id, "grace", via="api")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "own-request"


async def test_a_refused_press_stands_in_the_trail(service: Service) -> None:
    story = await ask(service)
    assert isinstance(await service.approve(story.request.id, "bob", via="slack"), Refusal)
    async with service.store.read() as tx:
        entries = await audit.of_subject(tx, story.request.id)
    assert [(e.kind, e.actor, e.via) for e in entries] == [
        ("request.submitted", "ada", "slack"),
        ("refused", "bob", "slack"),
    ]
    assert await told(service, story.request.id) == story


async def test_two_approvers_at_once_make_one_transition_and_one_grant(
    make_service: Callable[..., Service],
) -> None:
    one, two = make_service(), make_service()
    story = await ask(one)
    answers = await asyncio.gather(
        *(
            broker.approve(story.request.id, who, via="slack")
            for broker in (one, two)
            for who in ("grace", "linus")
        )
    )
    grants = {a.grant.id for a in answers if isinstance(a, Story) and a.grant}
    assert len(grants) == 1
    after = await one.story(story.request.id)
    assert after is not None
    assert after.version == 3
    assert await told(one, story.request.id) == after


async def test_the_same_delivery_again_gives_the_first_outcome_and_no_second_request(
    service: Service, store: Store
) -> None:
    answers = await asyncio.gather(*(service.submit("ada", ASK, via="slack", dedupe="T1") for _ in range(5)))
    assert len({a.request.id for a in answers if isinstance(a, Story)}) == 1
    assert len(await service.stories_of("ada")) == 1
    other = await service.submit("bob", ASK, via="slack", dedupe="T1")
    assert isinstance(other, Story)
    assert other.request.requester == "bob"


async def test_the_same_delivery_again_repeats_a_refusal(service: Service) -> None:
    story = await ask(service)
    first = await service.approve(story.request.id, "bob", via="slack", dedupe="T1")
    assert isinstance(first, Refusal)
    assert await service.approve(story.request.id, "bob", via="slack", dedupe="T1") == first


async def test_a_hold_counts_only_once_the_login_is_ready(service: Service) -> None:
    story = await approved(service)
    early = await service.confirm_hold(story.grant.id, "gate-1")
    assert isinstance(early, Refusal)
    await make_ready(service, story.grant.id)
    held = await service.confirm_hold(story.grant.id, "gate-1")
    assert isinstance(held, Story)
    assert held.grant is not None
    assert held.grant.state is GrantState.ACTIVE
    assert await service.confirm_hold(story.grant.id, "gate-2") == held


async def test_a_grant_expires_on_time_and_its_login_is_to_be_dropped(
    service: Service, store: Store, clock: Any
) -> None:
    story = await approved(service)
    assert await service.next_deadline() == story.grant.expiry
    clock.advance(minutes=59)
    assert await service.expire_due() == 0
    clock.advance(minutes=1)
    assert await service.expire_due() == 1
    assert await service.expire_due() == 0
    after = await service.story(story.grant.id)
    assert after is not None
    assert after.grant is not None
    assert after.grant.end_reason is EndReason.EXPIRED
    left = await work_left(store)
    assert ("drop", story.grant.id) in left
    assert ("mint", story.grant.id) not in left
    assert await service.next_deadline() is None


async def test_many_brokers_end_a_due_grant_once(make_service: Callable[..., Service], clock: Any) -> None:
    one, two = make_service(), make_service()
    ids = [(await approved(one)).request.id for _ in range(4)]
    clock.advance(hours=2)
    assert sum(await asyncio.gather(one.expire_due(), two.expire_due(), one.expire_due())) == 4
    for request_id in ids:
        assert await told(one, request_id) == await one.story(request_id)


async def test_a_request_that_nobody_decides_lapses(service: Service, clock: Any) -> None:
    story = await ask(service)
    clock.advance(hours=8)
    assert await service.lapse_due() == 1
    after = await service.story(story.request.id)
    assert after is not None
    assert after.request.state is RequestState.LAPSED


@pytest.mark.parametrize(("verb", "who"), [("release", "ada"), ("revoke", "linus"), ("revoke", "sam")])
async def test_release_and_revoke_end_the_grant_by_either_id(service: Service, verb: str, who: str) -> None:
    for by_grant in (True, False):
        story = await approved(service)
        key = story.grant.id if by_grant else story.request.id
        ended = await getattr(service, verb)(key, who, via="cli")
        assert isinstance(ended, Story)
        assert ended.grant is not None
        assert ended.grant.state is GrantState.ENDED
        assert await getattr(service, verb)(key, who, via="cli") == ended


async def test_a_stranger_neither_releases_nor_revokes(service: Service) -> None:
    story = await approved(service)
    for refusal in (
        await service.release(story.grant.id, "bob", via="api"),
        await service.revoke(story.grant.id, "bob", via="api"),
        await service.revoke(story.grant.id, "nobody", via="api"),
    ):
        assert isinstance(refusal, Refusal)
    assert await service.story(story.grant.id) == story


async def test_an_approver_who_lost_the_group_since_the_card_was_posted_is_refused(
    make_service: Callable[..., Service], config: Config
) -> None:
    story = await ask(make_service())
    people = dict(config.directory.people)
    grace = people["grace"]
    people["grace"] = Person(replace(grace.principal, groups=frozenset({"engineers"})))
    later = make_service(replace(config, directory=StaticDirectory(people)))
    refusal = await later.approve(story.request.id, "grace", via="slack")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "not-an-approver"


async def test_a_request_that_the_policy_of_today_would_not_give_is_not_granted(
    make_service: Callable[..., Service], config: Config
) -> None:
    story = await ask(make_service())
    people = dict(config.directory.people)
    people["ada"] = Person(replace(people["ada"].principal, groups=frozenset()))
    later = make_service(replace(config, directory=StaticDirectory(people)))
    refusal = await later.approve(story.request.id, "grace", via="slack")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "policy-changed"
    assert await later.story(story.request.id) == story


async def test_what_needs_no_approval_is_granted_at_once(service: Service, store: Store) -> None:
    story = await service.submit("olive", Wish("prod-db", reason="INC-7"), via="cli")
    assert isinstance(story, Story)
    assert story.grant is not None
    assert ("mint", story.grant.id) in await work_left(store)


async def test_an_unknown_request_and_a_hidden_one_are_refused_alike(service: Service) -> None:
    story = await ask(service)
    assert await service.story_for(story.request.id, "zoe") == await service.story_for("R-XXXXXX", "zoe")
    assert await service.story_for(story.request.id, "linus") == story
    assert await service.story_for(story.request.id, "sam") == story


async def test_an_approver_sees_what_waits_for_them_and_nobody_else_does(service: Service) -> None:
    story = await ask(service)
    assert await service.waiting_for("linus") == [story]
    assert await service.waiting_for("bob") == []
    assert await service.waiting_for("ada") == []
    await service.deny(story.request.id, "linus", via="slack", reason="not now")
    assert await service.waiting_for("grace") == []


async def test_who_is_in_is_told_to_those_who_may_ask_or_decide(service: Service) -> None:
    story = await approved(service)
    for person in ("ada", "linus", "sam"):
        assert await service.who("shop", person) == [story]
    hidden = await service.who("prod-db", "zoe")
    unknown = await service.who("no-db", "zoe")
    assert isinstance(hidden, Refusal)
    assert isinstance(unknown, Refusal)
    assert hidden.code == unknown.code == "no-such-resource"


async def test_a_failed_login_ends_the_grant_and_says_why(service: Service) -> None:
    story = await approved(service)
    failed = await service.fail_grant(story.grant.id, "prod-db did not answer.")
    assert isinstance(failed, Story)
    assert failed.grant is not None
    assert failed.grant.end_reason is EndReason.FAILED
    assert failed.grant.end_note == "prod-db did not answer."
