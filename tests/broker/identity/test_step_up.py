"""Step-up: no decision without a passkey where the policy wants one, and none but the one that was shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.bus.in_process import InProcessBus
from broker.config import Config
from broker.identity.kept import Keep
from broker.identity.passkeys import Ceremony, Passkeys
from broker.identity.step_up import StepUps
from broker.identity.web import WebSession, WebSessions
from broker.service import Service
from broker.store.engine import Store
from broker.store.passkeys import Passkey
from tests.soft_authenticator import SoftAuthenticator
from workflows.access import Wish
from workflows.model import Principal, Refusal, RequestState, Story
from workflows.policy import Emergency

URL = "https://access.example"
HOUR = timedelta(hours=1)
WISH = Wish("prod-db", "readwrite", HOUR, "INC-142")


@pytest.fixture
def policy(config: Config) -> list[Config]:
    """The policy of the moment: every yes for prod-db needs a passkey, and so does its emergency."""
    rules = tuple(replace(rule, step_up=bool(rule.quorum)) for rule in config.policy.rules)
    night = Emergency(
        "night",
        frozenset({"prod-db"}),
        "readonly",
        HOUR,
        ("security",),
        who=frozenset({"engineers"}),
        step_up=True,
    )
    return [replace(config, policy=replace(config.policy, rules=rules, emergencies=(night,)))]


@pytest.fixture
def service(store: Store, clock: Any, chance: Any, policy: list[Config]) -> Service:
    made = Service(store, lambda: policy[0], clock, chance, InProcessBus())
    made.public_url = URL
    return made


@pytest.fixture
def steps(service: Service) -> StepUps:
    return StepUps(service)


class Person:
    """Somebody with a browser that is logged in, and a passkey."""

    def __init__(self, principal: Principal, session: WebSession, device: SoftAuthenticator) -> None:
        self.principal = principal
        self.session = session
        self.device = device


@pytest.fixture
def somebody(service: Service, store: Store, clock: Any, chance: Any) -> Callable[..., Any]:
    async def make(name: str) -> Person:
        principal = service.principal(name)
        assert principal is not None
        session = await WebSessions(Keep(store, clock, chance)).open(name)
        device = SoftAuthenticator(URL, credential=f"the key of {name}".encode())
        keys = Passkeys(service)
        asked = await keys.begin_registration(principal, session)
        assert isinstance(asked, Ceremony)
        made = await keys.register(principal, session, asked.secret, device.create(asked.options), name)
        assert isinstance(made, Passkey)
        return Person(principal, session, device)

    return make


@pytest.fixture
async def grace(somebody: Any) -> Person:
    made: Person = await somebody("grace")
    return made


@pytest.fixture
async def request_id(service: Service) -> str:
    story = await service.submit("ada", WISH, via="slack")
    assert isinstance(story, Story)
    return story.request.id


def page_of(refusal: object) -> str:
    """The secret of the page that a refusal leads to."""
    assert isinstance(refusal, Refusal)
    assert refusal.code == "step-up"
    assert refusal.link in refusal.way_out
    return refusal.link.removeprefix(f"{URL}/decide/")


async def answers(steps: StepUps, page: str, who: Person) -> Any:
    asked = await steps.begin(page, who.session, who.principal)
    assert isinstance(asked, Ceremony), asked
    answer = who.device.get(asked.options)
    return await steps.decide(page, asked.secret, answer, who.session, who.principal)


async def test_a_yes_without_a_passkey_decides_nothing_and_leads_to_the_page(
    service: Service, steps: StepUps, grace: Person, request_id: str
) -> None:
    for via in ("slack", "api", "cli"):
        page_of(await service.approve(request_id, "grace", via=via))
    story = await service.story(request_id)
    assert story is not None
    assert story.request.approvals == ()


async def test_the_passkey_makes_the_decision_and_the_trail_says_by_which(
    service: Service, steps: StepUps, grace: Person, request_id: str
) -> None:
    page = page_of(await service.approve(request_id, "grace", via="slack", reason="looks right"))
    found = await steps.look(page, grace.principal)
    assert not isinstance(found, Refusal)
    rows = dict(found[1].rows)
    assert rows["What"] == "prod-db as readwrite"
    assert rows["Because"] == "INC-142"
    assert rows["Your note"] == "looks right"
    story = await answers(steps, page, grace)
    assert isinstance(story, Story)
    assert story.request.state is RequestState.APPROVED
    key = (await steps.passkeys.of("grace"))[0]
    assert story.request.approvals[0].proof == f"passkey {key.id}"
    trail = await service.trail_of(request_id, "grace")
    assert not isinstance(trail, Refusal)
    given = next(json.loads(entry.body) for entry in trail if entry.kind == "approval.given")
    assert given["approval"]["proof"] == f"passkey {key.id}"


async def test_a_no_needs_no_passkey(service: Service, request_id: str) -> None:
    assert isinstance(await service.deny(request_id, "grace", via="slack"), Story)


@pytest.mark.parametrize("who", ["ada", "zoe"])
async def test_who_may_not_decide_gets_no_page(service: Service, request_id: str, who: str) -> None:
    refusal = await service.approve(request_id, who, via="slack")
    assert isinstance(refusal, Refusal)
    assert refusal.code in ("own-request", "not-an-approver")
    assert refusal.link == ""


async def test_a_page_is_for_whoever_tried_and_for_nobody_else(
    service: Service, steps: StepUps, grace: Person, somebody: Any, request_id: str
) -> None:
    """Another approver opens it, with a key of his own."""
    page, linus = page_of(await service.approve(request_id, "grace", via="slack")), await somebody("linus")
    assert isinstance(await steps.look(page, linus.principal), Refusal)
    assert isinstance(await steps.begin(page, linus.session, linus.principal), Refusal)
    asked = await steps.begin(page, grace.session, grace.principal)
    assert isinstance(asked, Ceremony)
    answer = linus.device.get(asked.options)
    for person in (linus, grace):
        done = await steps.decide(page, asked.secret, answer, person.session, person.principal)
        assert isinstance(done, Refusal)
    story = await service.story(request_id)
    assert story is not None
    assert story.request.approvals == ()


async def test_a_page_is_good_once_and_for_ten_minutes(
    service: Service, steps: StepUps, grace: Person, request_id: str, clock: Any
) -> None:
    late = page_of(await service.approve(request_id, "grace", via="slack"))
    clock.advance(minutes=10)
    assert isinstance(await steps.look(late, grace.principal), Refusal)
    page = page_of(await service.approve(request_id, "grace", via="slack"))
    assert isinstance(await answers(steps, page, grace), Story)
    assert isinstance(await steps.look(page, grace.principal), Refusal)


async def test_an_answer_is_replayed_in_vain_also_at_the_same_moment(
    service: Service, steps: StepUps, grace: Person, request_id: str
) -> None:
    page = page_of(await service.approve(request_id, "grace", via="slack"))
    asked = await steps.begin(page, grace.session, grace.principal)
    assert isinstance(asked, Ceremony)
    answer = grace.device.get(asked.options)
    tries = [steps.decide(page, asked.secret, answer, grace.session, grace.principal) for _ in range(4)]
    done = await asyncio.gather(*tries)
    assert [isinstance(one, Story) for one in done].count(True) == 1


async def test_the_answer_for_one_request_decides_no_other(
    service: Service, steps: StepUps, grace: Person, request_id: str
) -> None:
    other = await service.submit("bob", replace(WISH, reason="harmless"), via="slack")
    assert isinstance(other, Story)
    pages = [page_of(await service.approve(key, "grace", via="slack"))
             for key in (request_id, other.request.id)]  # fmt: skip
    asked = await steps.begin(pages[1], grace.session, grace.principal)
    assert isinstance(asked, Ceremony)
    answer = grace.device.get(asked.options)
    done = await steps.decide(pages[0], asked.secret, answer, grace.session, grace.principal)
    assert isinstance(done, Refusal)
    story = await service.story(request_id)
    assert story is not None
    assert story.request.approvals == ()


async def test_what_changed_between_the_page_and_the_press_is_not_decided(
    service: Service, steps: StepUps, grace: Person, request_id: str
) -> None:
    page = page_of(await service.approve(request_id, "grace", via="slack"))
    asked = await steps.begin(page, grace.session, grace.principal)
    assert isinstance(asked, Ceremony)
    assert isinstance(await service.claim(request_id, "linus", via="slack"), Story)
    answer = grace.device.get(asked.options)
    done = await steps.decide(page, asked.secret, answer, grace.session, grace.principal)
    assert isinstance(done, Refusal)
    assert done.code == "changed"
    assert isinstance(await answers(steps, page, grace), Story)  # looked at again, it is decided


async def test_the_version_is_looked_at_once_more_where_it_is_locked(
    service: Service, steps: StepUps, grace: Person, request_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change comes after the proof was verified and before the decision is written."""
    page = page_of(await service.approve(request_id, "grace", via="slack"))
    prove = steps.passkeys.prove

    async def late(*args: Any, **more: Any) -> Any:
        proved = await prove(*args, **more)
        assert isinstance(await service.comment(request_id, "ada", "wait", via="slack"), Story)
        return proved

    monkeypatch.setattr(steps.passkeys, "prove", late)
    done = await answers(steps, page, grace)
    assert isinstance(done, Refusal)
    assert done.code == "changed"
    story = await service.story(request_id)
    assert story is not None
    assert story.request.approvals == ()


async def test_who_lost_the_say_since_the_page_was_made_decides_nothing(
    service: Service, steps: StepUps, grace: Person, request_id: str, policy: list[Config]
) -> None:
    page = page_of(await service.approve(request_id, "grace", via="slack"))
    people = policy[0].directory.people
    out = replace(people["grace"], principal=replace(grace.principal, groups=frozenset({"engineers"})))
    directory = replace(policy[0].directory, people={**people, "grace": out})
    policy[0] = replace(policy[0], directory=directory)
    found = await steps.look(page, out.principal)
    assert isinstance(found, Refusal)  # may not even see it any more
    assert isinstance(await service.approve(request_id, "grace", via="slack"), Refusal)


async def test_the_policy_of_today_counts_where_it_asks_for_more(
    service: Service, policy: list[Config], request_id: str
) -> None:
    strict = policy[0]
    rules = tuple(replace(rule, step_up=False) for rule in strict.policy.rules)
    policy[0] = replace(strict, policy=replace(strict.policy, rules=rules))
    page_of(await service.approve(request_id, "grace", via="slack"))  # it was asked under the strict one
    easy = await service.submit("bob", WISH, via="slack")
    assert isinstance(easy, Story)
    policy[0] = strict
    page_of(await service.approve(easy.request.id, "grace", via="slack"))


async def test_less_and_more_time_need_it_as_well(
    service: Service, steps: StepUps, grace: Person, request_id: str, policy: list[Config]
) -> None:
    less = await service.approve_for_less(
        request_id, "grace", via="slack", duration=timedelta(minutes=30), reason="enough"
    )
    page = page_of(less)
    found = await steps.look(page, grace.principal)
    assert not isinstance(found, Refusal)
    assert dict(found[1].rows)["How long"].startswith("30m (asked: 1h)")
    story = await answers(steps, page, grace)
    assert isinstance(story, Story)
    assert story.grant is not None
    assert story.grant.expiry - story.grant.not_before == timedelta(minutes=30)
    assert isinstance(await service.extend(request_id, "ada", HOUR, via="slack", reason="not done"), Story)
    page = page_of(await service.approve_extension(request_id, "grace", via="api"))
    more = await answers(steps, page, grace)
    assert isinstance(more, Story)
    assert more.request.extensions[0].approvals[0].proof.startswith("passkey K-")
    assert more.grant is not None
    assert more.grant.expiry - more.grant.not_before == timedelta(minutes=90)


async def test_breaking_the_glass_needs_it_where_the_policy_says_so(
    service: Service, steps: StepUps, somebody: Any
) -> None:
    ada = await somebody("ada")
    wish = Wish("prod-db", "", timedelta(minutes=20), "INC-9 checkout is down")
    page = page_of(await service.break_glass("ada", wish, "INC-9", via="slack"))
    assert await service.stories_of("ada") == []
    story = await answers(steps, page, ada)
    assert isinstance(story, Story)
    assert story.grant is not None
    assert story.request.emergency is not None
    assert "with passkey K-" in story.request.emergency.eligible_by


async def test_a_waiting_request_becomes_an_emergency_only_as_it_was_shown(
    service: Service, steps: StepUps, somebody: Any, request_id: str
) -> None:
    ada = await somebody("ada")
    wish = Wish("", reason="INC-9 checkout is down")
    refusal = await service.break_glass("ada", wish, "INC-9", via="slack", request_id=request_id)
    story = await answers(steps, page_of(refusal), ada)
    assert isinstance(story, Story)
    assert story.request.id == request_id
    assert story.request.emergency is not None


async def test_without_an_address_of_ours_nothing_is_decided_either(
    service: Service, request_id: str
) -> None:
    service.public_url = ""
    refusal = await service.approve(request_id, "grace", via="slack")
    assert isinstance(refusal, Refusal)
    assert "PORTCULLIS_PUBLIC_URL" in refusal.way_out


async def test_the_page_gives_nothing_away_in_the_database(
    service: Service, store: Store, request_id: str
) -> None:
    from sqlalchemy import select

    from broker.store.tables import audit, deliveries, tokens

    page = page_of(await service.approve(request_id, "grace", via="slack", dedupe="one"))
    async with store.read() as tx:
        for table in (tokens, audit, deliveries):
            assert page not in str((await tx.execute(select(table))).all())
