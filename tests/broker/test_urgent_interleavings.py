"""Two brokers, everything urgent at once, in whatever order comes out: one history, and the bounds hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from broker import audit
from broker.codec import EVENT_KINDS, fold
from broker.config import Config
from broker.service import Service
from broker.store.tables import stories as rows
from workflows.access import Wish
from workflows.glass_review import owes_review
from workflows.model import Story, Verdict
from workflows.policy import Emergency, Ladder, Step, StepKind

from .conftest import sample_config  # isort: skip

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TOTAL = 3 * HOUR
WISH = Wish("prod-db", "readonly", HOUR, "INC-142")
BURNS = Wish("prod-db", reason="checkout is down since 02:40")


def urgent_config() -> Config:
    base = sample_config()
    rule = Emergency(
        "night",
        frozenset({"prod-db"}),
        "readwrite",
        30 * MINUTE,
        ("security", "dba"),
        who=frozenset({"engineers"}),
        cool_down=MINUTE,
    )
    ladder = Ladder((Step(5 * MINUTE, StepKind.MENTION), Step(40 * MINUTE, StepKind.WIDEN, "security")))
    read = replace(base.policy.rules[0], longest_total=TOTAL, extend_freely=20 * MINUTE, ladder=ladder)
    policy = replace(base.policy, rules=(read, *base.policy.rules[1:]), emergencies=(rule,))
    return replace(base, policy=policy)


@dataclass(frozen=True)
class Press:
    broker: int
    verb: str
    actor: str
    which: int
    minutes: int


presses = st.builds(
    Press,
    broker=st.integers(0, 1),
    verb=st.sampled_from(
        [
            "ask", "break", "break", "escalate", "approve", "less", "deny", "extend", "extend",
            "approve_extension", "deny_extension", "justified", "unjustified", "release", "revoke", "expire",
            "wake", "nudge", "claim", "comment",
        ]
    ),
    actor=st.sampled_from(["ada", "bob", "grace", "linus", "sam", "zoe"]),
    which=st.integers(0, 3),
    minutes=st.sampled_from([1, 15, 30, 90]),
)  # fmt: skip
rounds = st.lists(
    st.tuples(st.lists(presses, min_size=1, max_size=5), st.sampled_from([0, 0, 2, 6, 45, 1500])), max_size=6
)


@pytest.fixture
def brokers(make_service: Callable[..., Service]) -> list[Service]:
    config = urgent_config()
    return [make_service(config), make_service(config)]


async def do(service: Service, known: list[str], press: Press) -> None:
    who, key = press.actor, known[press.which % len(known)]
    span = press.minutes * MINUTE
    calls: dict[str, Callable[[], Any]] = {
        "ask": lambda: service.submit(who, WISH, via="slack"),
        "break": lambda: service.break_glass(who, BURNS, "INC-142", via="slack"),
        "escalate": lambda: service.break_glass(who, BURNS, "INC-1", via="slack", request_id=key),
        "approve": lambda: service.approve(key, who, via="slack"),
        "less": lambda: service.approve_for_less(key, who, via="slack", duration=span),
        "deny": lambda: service.deny(key, who, via="slack"),
        "extend": lambda: service.extend(key, who, span, via="slack"),
        "approve_extension": lambda: service.approve_extension(key, who, via="slack"),
        "deny_extension": lambda: service.deny_extension(key, who, via="slack"),
        "justified": lambda: service.review_break_glass(key, who, Verdict.JUSTIFIED, via="slack"),
        "unjustified": lambda: service.review_break_glass(
            key, who, Verdict.NOT_JUSTIFIED, via="slack", note="no"
        ),
        "release": lambda: service.release(key, who, via="slack"),
        "revoke": lambda: service.revoke(key, who, via="slack"),
        "expire": service.expire_due,
        "wake": service.wake_due,
        "nudge": lambda: service.nudge(key, who, via="slack"),
        "claim": lambda: service.claim(key, who, via="slack"),
        "comment": lambda: service.comment(key, who, "hm", via="slack"),
    }
    result = await calls[press.verb]()
    if isinstance(result, Story) and result.request.id not in known:
        known.append(result.request.id)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=rounds)
async def test_whatever_is_urgent_at_once_the_history_is_one_and_the_bounds_hold(
    brokers: list[Service], clock: Any, plan: Any
) -> None:
    begun = await brokers[0].submit("ada", WISH, via="api")
    assert isinstance(begun, Story)
    known = [begun.request.id]
    for at_once, minutes in plan:
        await asyncio.gather(*(do(brokers[press.broker], known, press) for press in at_once))
        await check_people(brokers[0], known)
        clock.advance(minutes=minutes)
    for key in known:
        await check_story(brokers[1], key)
    # Nothing of this example stands in the way of the next one.
    for key in known:
        await brokers[0].revoke(key, "sam", via="cli")
        await brokers[0].review_break_glass(key, "sam", Verdict.JUSTIFIED, via="cli")
        await brokers[0].review_break_glass(key, "linus", Verdict.JUSTIFIED, via="cli")
    clock.advance(hours=30)
    await brokers[0].expire_due()


async def check_people(service: Service, known: list[str]) -> None:
    found = [story for key in known if (story := await service.story(key))]
    now = service.clock.now()
    for person in ("ada", "bob", "grace"):
        mine = [s for s in found if s.request.requester == person and s.request.emergency]
        assert sum(s.grant is not None and s.grant.live(now) for s in mine) <= 1
        assert sum(owes_review(s) for s in mine) <= 1


async def check_story(service: Service, key: str) -> None:
    async with service.store.read() as tx:
        entries = await audit.of_subject(tx, key)
        row = (await tx.execute(select(rows).where(rows.c.request_id == key))).one()
    story = await service.story(key)
    assert story is not None
    told = [(entry.kind, entry.body) for entry in entries if entry.kind in EVENT_KINDS]
    assert fold(told) == story
    assert story.version == len(told)
    assert (row.review_due is not None) == owes_review(story)
    assert row.emergency == (story.request.emergency is not None)
    request, grant, emergency = story.request, story.grant, story.request.emergency
    assert all(a.approver != request.requester for e in request.extensions for a in e.approvals)
    if grant is None:
        return
    most = 30 * MINUTE if emergency else TOTAL
    assert grant.expiry - grant.not_before <= most
    assert [kind for kind, _ in told].count("request.approved") + [k for k, _ in told].count(
        "glass.broken"
    ) == 1
    if emergency:
        assert emergency.reviewed_by != request.requester
        assert not request.extensions
