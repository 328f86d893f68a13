"""Emergencies, more time and the waiting through the one door, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from broker import audit
from broker.authority import LocalAuthority
from broker.codec import fold
from broker.config import Config, ScheduleSource
from broker.credentials.seal import Seal
from broker.identity import offline_codes
from broker.oncall import OnCall, OnCallUnavailable
from broker.oncall.roster import Roster
from broker.outbox import CARD, NOTIFY, Outbox, give_up
from broker.service import Service
from broker.store import sessions
from broker.store.engine import Store
from broker.store.sessions import SessionRecord
from broker.store.tables import outbox
from workflows.access import Wish
from workflows.gate import Progress
from workflows.model import EndReason, GrantState, Quorum, Refusal, RequestState, Story, Verdict
from workflows.policy import Emergency, Ladder, Step, StepKind

from .conftest import sample_config  # isort: skip

WISH = Wish("prod-db", reason="checkout is down since 02:40")
MINUTES = timedelta(minutes=1)


class Rota:
    """A source in the test's hands: who is on call, and whether it answers."""

    def __init__(self) -> None:
        self.people: list[OnCall] = [OnCall(email="olive@example.com")]
        self.away = False
        self.asked = 0

    async def on_call(self, schedule: ScheduleSource, at: Any, http: Any) -> list[OnCall]:
        self.asked += 1
        if self.away:
            raise OnCallUnavailable("status 500")
        return self.people


def urgent_config(**emergency: Any) -> Config:
    base = sample_config()
    rule = Emergency(
        **{
            "name": "night",
            "resources": frozenset({"prod-db"}),
            "role": "readwrite",
            "longest": timedelta(minutes=30),
            "reviewers": ("security",),
            "schedules": ("primary",),
            "codes": True,
        }
        | emergency
    )
    ladder = Ladder(
        (
            Step(timedelta(minutes=5), StepKind.MENTION),
            Step(timedelta(minutes=15), StepKind.PAGE, "primary", wakes=True),
            Step(timedelta(hours=1), StepKind.WIDEN, "security"),
        )
    )
    read = replace(
        base.policy.rules[0],
        ladder=ladder,
        longest_total=timedelta(hours=6),
        extend_freely=timedelta(minutes=30),
    )
    policy = replace(base.policy, rules=(read, *base.policy.rules[1:]), emergencies=(rule,))
    return replace(base, policy=policy, schedules={"primary": ScheduleSource("fake", "P1")})


@pytest.fixture
def rota() -> Rota:
    return Rota()


@pytest.fixture
def make(make_service: Callable[..., Service], rota: Rota, clock: Any) -> Callable[..., Service]:
    def urgent(**emergency: Any) -> Service:
        service = make_service(urgent_config(**emergency))
        service.roster = Roster(clock, httpx2.AsyncClient(), sources={"fake": rota})
        return service

    return urgent


@pytest.fixture
def service(make: Callable[..., Service]) -> Service:
    return make()


def good(answer: Any) -> Story:
    assert isinstance(answer, Story), answer
    return answer


def code(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


async def broken(service: Service, **more: Any) -> Story:
    return good(await service.break_glass("olive", WISH, "INC-142", via="slack", **more))


async def told(service: Service, story: Story) -> Story | None:
    async with service.store.read() as tx:
        return fold([(e.kind, e.body) for e in await audit.of_subject(tx, story.request.id)])


async def kinds(service: Service, subject: str) -> list[str]:
    async with service.store.read() as tx:
        return [entry.kind for entry in await audit.of_subject(tx, subject)]


async def work(store: Store) -> list[tuple[str, str]]:
    async with store.read() as tx:
        rows = await tx.execute(select(outbox.c.kind, outbox.c.payload).order_by(outbox.c.id))
        return [(row.kind, json.loads(row.payload)["what"] if row.payload else "") for row in rows]


# ------------------------------------------------------------- the emergency


async def test_an_emergency_is_granted_at_once_told_to_everybody_and_in_the_trail(
    service: Service, store: Store
) -> None:
    story = await broken(service)
    assert story.grant is not None
    assert story.grant.state is GrantState.MINTING
    assert await service.story(story.request.id) == story
    assert await told(service, story) == story
    assert await kinds(service, story.request.id) == ["request.submitted", "glass.broken"]
    assert await work(store) == [("card", ""), ("mint", ""), ("notify", "glass-broken")]


async def test_who_is_on_call_is_asked_anew_every_time(service: Service, rota: Rota) -> None:
    rota.people = [OnCall(email="zoe@example.com")]
    assert code(await service.break_glass("olive", WISH, "INC-1", via="cli")) == "not-on-call"
    rota.people = [OnCall(email="OLIVE@example.com")]
    await broken(service)
    assert rota.asked == 2


async def test_a_source_that_fails_opens_nothing_even_for_whoever_was_on_call_a_while_ago(
    service: Service, rota: Rota, clock: Any
) -> None:
    story = await broken(service)
    await service.release(story.request.id, "olive", via="cli")
    await service.review_break_glass(story.request.id, "sam", Verdict.JUSTIFIED, via="cli")
    rota.away = True
    clock.advance(minutes=16)
    assert code(await service.break_glass("olive", WISH, "INC-1", via="cli")) == "on-call-unknown"


async def test_without_any_roster_every_schedule_counts_as_away(make_service: Callable[..., Service]) -> None:
    alone = make_service(urgent_config())
    assert code(await alone.break_glass("olive", WISH, "INC-1", via="cli")) == "on-call-unknown"


async def test_two_emergencies_at_once_from_two_brokers_make_one(make: Callable[..., Service]) -> None:
    brokers = [make(), make()]
    answers = await asyncio.gather(
        *(b.break_glass("olive", WISH, f"INC-{n}", via="slack") for n in range(3) for b in brokers)
    )
    assert len([a for a in answers if isinstance(a, Story)]) == 1
    assert {code(a) for a in answers if isinstance(a, Refusal)} == {"one-at-a-time"}


async def test_the_same_delivery_again_breaks_no_second_glass(service: Service) -> None:
    first = await broken(service, dedupe="T1")
    assert await broken(service, dedupe="T1") == first


async def test_a_refused_attempt_stands_in_the_trail(service: Service, rota: Rota) -> None:
    rota.people = []
    await service.break_glass("olive", WISH, "INC-1", via="slack")
    async with service.store.read() as tx:
        entry = (await audit.newest(tx, limit=1))[0]
    assert (entry.kind, entry.actor, json.loads(entry.body)["code"]) == ("refused", "olive", "not-on-call")


async def test_a_waiting_request_becomes_the_emergency_of_its_requester_alone(
    make: Callable[..., Service],
) -> None:
    service = make(who=frozenset({"engineers"}))
    story = good(await service.submit("ada", Wish("prod-db", "readonly", None, "INC-1 look"), via="slack"))
    request_id = story.request.id
    wish = Wish("", reason="it is burning now")
    other = await service.break_glass("bob", wish, "INC-1", via="slack", request_id=request_id)
    assert code(other) == "no-such-request"
    approver = await service.break_glass("grace", wish, "INC-1", via="slack", request_id=request_id)
    assert code(approver) == "not-yours"
    taken = good(await service.break_glass("ada", wish, "INC-1", via="slack", request_id=request_id))
    assert taken.request.id == request_id
    assert taken.request.emergency is not None
    assert code(await service.approve(request_id, "grace", via="slack")) == "already-decided"
    assert await told(service, taken) == taken


async def test_an_approval_and_an_escalation_at_once_make_one_grant(make: Callable[..., Service]) -> None:
    service, other = make(who=frozenset({"engineers"})), make(who=frozenset({"engineers"}))
    wish = Wish("", reason="it is burning now")
    for _ in range(3):
        story = good(await service.submit("ada", Wish("prod-db", "readonly", None, "INC-1"), via="slack"))
        request_id = story.request.id
        await asyncio.gather(
            service.approve(request_id, "grace", via="slack"),
            other.break_glass("ada", wish, "INC-1", via="slack", request_id=request_id),
        )
        after = await service.story(request_id)
        assert after is not None
        assert after.grant is not None
        assert await told(service, after) == after
        await service.revoke(request_id, "sam", via="cli")
        if after.request.emergency:
            break


async def test_any_approver_and_any_reviewer_kills_it(service: Service) -> None:
    story = await broken(service)
    assert code(await service.revoke(story.request.id, "bob", via="slack")) == "not-an-approver"
    ended = good(await service.revoke(story.request.id, "linus", via="slack", reason="stop"))
    assert ended.grant is not None
    assert ended.grant.end_reason is EndReason.REVOKED


async def test_the_review_is_somebody_elses_and_frees_the_next_emergency(
    service: Service, clock: Any
) -> None:
    story = await broken(service)
    key = story.request.id
    assert [s.request.id for s in await service.reviews_owed("sam")] == [key]
    assert await service.reviews_owed("olive") == []
    clock.advance(minutes=31)
    await service.expire_due()
    clock.advance(minutes=30)
    assert code(await service.break_glass("olive", WISH, "INC-2", via="cli")) == "review-owed"
    for who, why in (("olive", "own-request"), ("linus", "not-a-reviewer"), ("nobody", "not-a-reviewer")):
        said = await service.review_break_glass(key, who, Verdict.JUSTIFIED, via="slack")
        assert code(said) == why
    done = good(await service.review_break_glass(key, "sam", Verdict.JUSTIFIED, via="slack", note="INC-142"))
    assert await told(service, done) == done
    assert await service.reviews_owed("sam") == []
    assert good(await service.break_glass("olive", WISH, "INC-2", via="cli")).grant


async def test_a_review_is_asked_for_until_it_is_done(service: Service, store: Store, clock: Any) -> None:
    story = await broken(service)
    await service.release(story.request.id, "olive", via="cli")
    seen = []
    for _ in range(5):
        clock.advance(hours=12)
        await service.wake_due()
        after = await service.story(story.request.id)
        assert after is not None
        assert after.request.emergency is not None
        seen.append(after.request.emergency.reminded)
    assert seen == [1, 2, 2, 3, 3]
    assert [what for kind, what in await work(store) if kind == "notify"].count("review-owed") == 3
    await service.review_break_glass(story.request.id, "sam", Verdict.NOT_JUSTIFIED, via="cli", note="no")
    assert await service.next_wake() is None


async def test_who_is_on_call_is_told_for_paging_them(service: Service, rota: Rota) -> None:
    rota.people = [
        OnCall(email="olive@example.com"),
        OnCall(email="nobody@example.com"),
        OnCall(slack="U0SAM"),
    ]
    assert [person.id for person in await service.on_call_now("primary")] == ["olive", "sam"]
    with pytest.raises(OnCallUnavailable):
        await service.on_call_now("unknown")


async def test_the_explanation_tells_of_emergencies(service: Service) -> None:
    told_to = "\n".join(service.explain("olive", "prod-db"))
    assert (
        "emergency night: while on call for primary, or with a sealed code: readwrite for at most 30m"
        in told_to
    )


# ------------------------------------------------------------- sealed codes


async def codes(service: Service, count: int = 1) -> list[str]:
    now = service.clock.now()
    return await offline_codes.make(
        service.store, service.chance, now, principal="olive", actor="sam", via="cli", count=count
    )


async def test_a_sealed_code_opens_once_with_everything_else_away(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(urgent_config())
    one = (await codes(service))[0]
    typed = one.upper().replace("-", " ")
    story = good(await service.break_glass_with_code(typed, WISH, "INC-1", via="cli"))
    assert story.request.requester == "olive"
    assert "offline_code.used" in await kinds(service, story.request.id)
    assert code(await service.break_glass_with_code(one, WISH, "INC-1", via="cli")) == "bad-code"


async def test_what_is_refused_spends_no_code(service: Service) -> None:
    one = (await codes(service))[0]
    short = replace(WISH, reason="x")
    assert code(await service.break_glass_with_code(one, short, "INC-1", via="cli")) == "reason-too-short"
    assert good(await service.break_glass_with_code(one, WISH, "INC-1", via="cli"))


async def test_one_of_many_uses_at_once_gets_the_code(make: Callable[..., Service]) -> None:
    brokers = [make(), make()]
    one = (await codes(brokers[0]))[0]
    answers = await asyncio.gather(
        *(b.break_glass_with_code(one, WISH, "INC-1", via="cli") for b in brokers for _ in range(2))
    )
    assert len([a for a in answers if isinstance(a, Story)]) == 1


async def test_a_code_that_is_wrong_withdrawn_or_too_old_opens_nothing(service: Service, clock: Any) -> None:
    first, second = await codes(service, 2)
    flipped = first[:-1] + ("0" if first[-1] != "0" else "1")
    for bad in (flipped, "", "pcb-", "' OR 1=1 --", "pcb-" + "0" * 8 + ("-" + "0" * 5) * 5):
        assert code(await service.break_glass_with_code(bad, WISH, "INC-1", via="api")) == "bad-code"
    assert (
        await offline_codes.withdraw(service.store, clock.now(), actor="sam", via="cli", principal="olive")
        == 2
    )
    assert code(await service.break_glass_with_code(second, WISH, "INC-1", via="cli")) == "bad-code"
    old = (await codes(service))[0]
    clock.advance(days=366)
    assert code(await service.break_glass_with_code(old, WISH, "INC-1", via="cli")) == "bad-code"


async def test_the_database_and_the_trail_hold_no_code(service: Service) -> None:
    made = (await codes(service))[0]
    secret = made.split("-", 2)[2]
    async with service.store.read() as tx:
        trail = "".join([entry.body async for entry in audit.all_entries(tx)])
    assert secret not in trail
    listed = await offline_codes.listed(service.store, "olive")
    assert secret not in repr(listed)
    assert [item.id for item in listed] == [made.split("-")[1]]


# --------------------------------------------------------------- more time


async def held(service: Service) -> Story:
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")
    story = good(await service.submit("ada", wish, via="slack"))
    return good(await service.approve(story.request.id, "grace", via="slack"))


async def test_free_time_is_given_at_once_and_the_login_gets_its_new_end(
    service: Service, store: Store
) -> None:
    story = await held(service)
    assert story.grant is not None
    before = (await work(store)).count(("mint", ""))
    longer = good(await service.extend(story.grant.id, "ada", 20 * MINUTES, via="slack"))
    assert longer.grant is not None
    assert longer.grant.expiry == story.grant.expiry + 20 * MINUTES
    assert await service.next_deadline() == longer.grant.expiry
    assert (await work(store)).count(("mint", "")) == before + 1
    assert await told(service, longer) == longer


async def test_more_than_that_is_decided_by_the_approvers(service: Service, store: Store) -> None:
    story = await held(service)
    key = story.request.id
    asked = good(await service.extend(key, "ada", timedelta(hours=2), via="slack", reason="not done"))
    assert asked.grant == story.grant
    assert ("notify", "extension-asked") in await work(store)
    assert code(await service.approve_extension(key, "ada", via="slack")) == "own-request"
    assert code(await service.approve_extension(key, "bob", via="slack")) == "not-an-approver"
    longer = good(await service.approve_extension(key, "linus", via="slack"))
    assert longer.grant is not None
    assert story.grant is not None
    assert longer.grant.expiry == story.grant.expiry + timedelta(hours=2)
    assert code(await service.extend(key, "ada", timedelta(hours=4), via="slack")) == "too-long"


async def test_the_approvers_see_a_wish_for_more_time_and_nobody_else_does(service: Service) -> None:
    story = await held(service)
    await service.extend(story.request.id, "ada", timedelta(hours=2), via="slack")
    for who, sees in (("linus", True), ("grace", True), ("ada", False), ("bob", False), ("nobody", False)):
        assert bool(await service.extensions_for(who)) == sees
    await service.approve_extension(story.request.id, "linus", via="slack")
    assert await service.extensions_for("grace") == []


async def test_a_session_that_is_open_learns_the_new_end_with_its_next_renewal(
    service: Service, clock: Any
) -> None:
    story = await held(service)
    assert story.grant is not None
    opened = SessionRecord(
        "S-1", story.request.id, story.grant.id, "ada", "prod-db", "readonly", "gate-1", "postgresql",
        "127.0.0.1", clock.now(), clock.now() + timedelta(seconds=10),
    )  # fmt: skip
    async with service.store.write() as tx:
        await sessions.add(tx, opened)
    authority = LocalAuthority(service, Seal([b"0" * 32]))
    clock.advance(minutes=50)
    said = [Progress("S-1", 0, "")]
    assert (await authority.renew("gate-1", said)).remaining == {"S-1": 600.0}
    await service.extend(story.grant.id, "ada", 20 * MINUTES, via="slack")
    assert (await authority.renew("gate-1", said)).remaining == {"S-1": 1800.0}
    clock.advance(minutes=30)
    await service.expire_due()
    assert (await authority.renew("gate-1", said)).remaining == {}


async def test_a_no_leaves_the_end_where_it_is(service: Service) -> None:
    story = await held(service)
    await service.extend(story.request.id, "ada", timedelta(hours=2), via="slack")
    after = good(await service.deny_extension(story.request.id, "grace", via="slack", reason="enough"))
    assert after.grant == story.grant


async def test_the_policy_of_today_decides_on_more_time(make: Callable[..., Service], config: Config) -> None:
    service = make()
    story = await held(service)
    smaller = urgent_config()
    nobody = replace(smaller, policy=replace(smaller.policy, rules=()))
    service._config = lambda: nobody
    assert code(await service.extend(story.request.id, "ada", MINUTES, via="slack")) == "policy-changed"


async def test_an_approver_gives_less_and_never_more(service: Service) -> None:
    wish = Wish("prod-db", "readwrite", timedelta(hours=1), "INC-142")
    story = good(await service.submit("ada", wish, via="slack"))
    key = story.request.id
    for more in ({"duration": timedelta(hours=2)}, {"role": "readonly"}):
        assert code(await service.approve_for_less(key, "grace", via="slack", **more)) == "not-less"
    assert code(await service.approve_for_less(key, "grace", via="slack", role="no")) == "no-such-role"
    assert code(await service.approve_for_less(key, "ada", via="slack", duration=MINUTES)) == "own-request"
    less = good(await service.approve_for_less(key, "grace", via="slack", duration=20 * MINUTES))
    assert less.grant is not None
    assert less.grant.expiry - less.grant.not_before == 20 * MINUTES
    assert await told(service, less) == less


async def test_access_that_begins_later_is_made_and_shown_only_then(
    service: Service, store: Store, clock: Any
) -> None:
    begins = clock.now() + timedelta(hours=3)
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142", begins)
    story = good(await service.submit("ada", wish, via="slack"))
    story = good(await service.approve(story.request.id, "grace", via="slack"))
    box = Outbox(service.store, clock, service.chance)
    assert await box.claim("mint") is None
    assert await service.who("prod-db", "linus") == []
    clock.advance(hours=3)
    assert (await box.claim("mint")) is not None
    assert await service.who("prod-db", "linus") == [story]
    clock.advance(hours=1)
    assert await service.expire_due() == 1


# -------------------------------------------------------------- the waiting


async def asked(service: Service) -> Story:
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")
    return good(await service.submit("ada", wish, via="slack"))


async def test_the_ladder_is_climbed_at_its_times_and_leaves_work_for_the_courier(
    service: Service, store: Store, clock: Any
) -> None:
    story = await asked(service)
    start = clock.now()
    assert await service.next_wake() == start + 5 * MINUTES
    clock.advance(minutes=4)
    assert await service.wake_due() == 0
    clock.advance(minutes=1)
    assert await service.wake_due() == 1
    assert await service.wake_due() == 0
    assert await service.next_wake() == start + 15 * MINUTES
    clock.advance(hours=2)
    assert await service.wake_due() == 1
    assert [what for kind, what in await work(store) if kind == "notify"] == ["mention", "page", "widen"]
    after = await service.story(story.request.id)
    assert after is not None
    assert after.request.quorum == (Quorum("dba", 1, ("security",)),)
    assert good(await service.approve(story.request.id, "sam", via="slack")).grant
    assert await told(service, after) != after, "approved meanwhile"


async def test_many_brokers_take_a_step_once(make: Callable[..., Service], clock: Any) -> None:
    brokers = [make(), make()]
    ids = [(await asked(brokers[0])).request.id for _ in range(4)]
    clock.advance(minutes=20)
    assert sum(await asyncio.gather(*(b.wake_due() for b in (*brokers, *brokers)))) == 4
    for key in ids:
        after = await brokers[0].story(key)
        assert after is not None
        assert after.request.steps == 2
        assert await told(brokers[0], after) == after


async def test_a_decided_request_wakes_nobody(service: Service, clock: Any) -> None:
    story = await asked(service)
    await service.deny(story.request.id, "grace", via="slack")
    assert await service.next_wake() is None
    clock.advance(hours=9)
    assert await service.wake_due() == 0


async def test_a_story_woken_for_nothing_sleeps_again(make: Callable[..., Service], clock: Any) -> None:
    service = make()
    story = await asked(service)
    plain = sample_config()
    service._config = lambda: plain
    clock.advance(minutes=6)
    assert await service.wake_due() == 0
    assert await service.next_wake() is None
    assert await service.story(story.request.id) == story


async def test_nudge_claim_and_comment_stay_with_the_request(service: Service, clock: Any) -> None:
    story = await asked(service)
    key = story.request.id
    assert code(await service.nudge(key, "ada", via="slack")) == "too-soon"
    clock.advance(minutes=15)
    good(await service.nudge(key, "ada", via="slack"))
    good(await service.claim(key, "grace", via="slack"))
    assert code(await service.claim(key, "bob", via="slack")) == "not-an-approver"
    assert code(await service.comment(key, "zoe", "hm", via="slack")) == "no-such-request"
    last = good(await service.comment(key, "grace", "which table?", via="slack", dedupe="Ev1"))
    assert await service.comment(key, "grace", "which table?", via="slack", dedupe="Ev1") == last
    assert [(c.by, c.text) for c in last.request.comments] == [("grace", "which table?")]
    assert last.request.claimed_by == "grace"
    assert await told(service, last) == last


async def test_the_holder_is_warned_once_before_the_end(service: Service, store: Store, clock: Any) -> None:
    await held(service)
    clock.advance(minutes=51)
    assert await service.wake_due() == 1
    assert await service.wake_due() == 0
    assert [what for kind, what in await work(store) if kind == "notify"] == ["ending"]
    clock.advance(minutes=9)
    assert await service.expire_due() == 1
    assert await service.next_wake() is None


async def test_a_lapsed_request_takes_no_step_after(service: Service, clock: Any) -> None:
    story = await asked(service)
    clock.advance(hours=8)
    await service.wake_due()
    await service.expire_due()
    after = await service.story(story.request.id)
    assert after is not None
    assert after.request.state is RequestState.LAPSED
    assert await service.next_wake() is None


async def test_a_message_that_nobody_could_send_is_given_up_and_no_card_waits_behind_it(
    service: Service, clock: Any
) -> None:
    story = await broken(service)
    box = Outbox(service.store, clock, service.chance)
    stuck = await box.claim(NOTIFY)
    assert stuck is not None
    card = await box.claim(CARD)
    assert card is not None
    assert card.key == story.request.id
    await box.retry(stuck, "slack is away", timedelta(seconds=1))
    clock.advance(days=2, seconds=1)
    async with service.store.write() as tx:
        assert await give_up(tx, NOTIFY, clock.now() - timedelta(days=2), clock.now()) == 1
    assert await box.claim(NOTIFY) is None
