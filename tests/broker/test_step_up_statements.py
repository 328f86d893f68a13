"""Held statements whose guardrail wants a passkey: the page shows the very statement, and that is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.authority import LocalAuthority
from broker.bus.in_process import InProcessBus
from broker.credentials.seal import Seal
from broker.identity.kept import Keep
from broker.identity.passkeys import Ceremony
from broker.identity.step_up import StepUps
from broker.identity.tokens import Tokens
from broker.identity.web import WebSession, WebSessions
from broker.reviews import Reviews
from broker.service import Service
from broker.store.engine import Store
from broker.store.passkeys import Passkey
from tests.broker.test_authority import Changing, enter, grant_to
from tests.soft_authenticator import SoftAuthenticator
from workflows.gate import HeldStatement, ReviewTicket
from workflows.model import (
    Action,
    Guardrail,
    Principal,
    Quorum,
    Refusal,
    ReviewState,
    Statement,
    StatementClass,
    StatementReview,
)

URL = "https://access.example"
GATE = "g1"
RAILS = (
    Guardrail("deletes", Action.HOLD, quorum=(Quorum("dba"),), step_up=True),
    Guardrail("writes", Action.HOLD, quorum=(Quorum("dba"),)),
)


def with_rails(config: Any) -> Changing:
    resource = config.policy.resources["prod-db"]
    roles = tuple(replace(role, terms=replace(role.terms, guardrails=RAILS)) for role in resource.roles)
    resources = {"prod-db": replace(resource, roles=roles)}
    return Changing(replace(config, policy=replace(config.policy, resources=resources)))


@pytest.fixture
def service(store: Store, config: Any, clock: Any, chance: Any) -> Service:
    made = Service(store, with_rails(config), clock, chance, InProcessBus())
    made.public_url = URL
    return made


@pytest.fixture
def authority(service: Service) -> LocalAuthority:
    return LocalAuthority(service, Seal([b"k" * 32]), 10.0)


@pytest.fixture
def reviews(authority: LocalAuthority) -> Reviews:
    return authority.reviews


@pytest.fixture
async def session(authority: LocalAuthority, store: Store, clock: Any, chance: Any) -> str:
    await grant_to(authority, role="readwrite")
    return (await enter(authority, Tokens(store, clock, chance))).session


async def held(authority: LocalAuthority, session: str, rule: str, text: str = "DELETE FROM orders") -> str:
    statement = Statement(text, f"digest of {text}", StatementClass.DESTRUCTIVE, ("public.orders",), True, 3)
    ticket = await authority.ask_review(
        GATE, HeldStatement(session, statement, rule, (Quorum("dba"),), 900.0, "alone")
    )
    assert isinstance(ticket, ReviewTicket)
    return ticket.review


@pytest.fixture
async def linus(service: Service, store: Store, clock: Any, chance: Any) -> tuple[Principal, WebSession, Any]:
    person, keys = service.principal("linus"), StepUps(service).passkeys
    assert person is not None
    browser = await WebSessions(Keep(store, clock, chance)).open("linus")
    device = SoftAuthenticator(URL)
    asked = await keys.begin_registration(person, browser)
    assert isinstance(asked, Ceremony)
    assert isinstance(
        await keys.register(person, browser, asked.secret, device.create(asked.options), ""), Passkey
    )
    return person, browser, device


@pytest.mark.parametrize("rule", ["deletes", "writes, deletes"])
async def test_the_page_shows_the_very_statement_and_the_passkey_lets_it_run(
    authority: LocalAuthority, reviews: Reviews, session: str, service: Service, linus: Any, rule: str
) -> None:
    review, steps = await held(authority, session, rule), StepUps(service)
    refusal = await reviews.approve(review, "linus", via="slack", row_budget=5)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "step-up"
    page = refusal.link.rpartition("/")[2]
    person, browser, device = linus
    found = await steps.look(page, person)
    assert not isinstance(found, Refusal)
    assert (found[1].text, found[1].digest) == ("DELETE FROM orders", "digest of DELETE FROM orders")
    assert dict(found[1].rows)["Rows"] == "about 3; rolled back beyond 5"
    asked = await steps.begin(page, browser, person)
    assert isinstance(asked, Ceremony)
    done = await steps.decide(page, asked.secret, device.get(asked.options), browser, person)
    assert isinstance(done, StatementReview)
    assert (done.state, done.row_budget) == (ReviewState.APPROVED, 5)
    assert done.approvals[0].proof.startswith("passkey K-")


async def test_the_answer_for_a_harmless_statement_lets_no_other_run(
    authority: LocalAuthority, reviews: Reviews, session: str, service: Service, linus: Any
) -> None:
    steps, (person, browser, device) = StepUps(service), linus
    keys = [await held(authority, session, "deletes", text) for text in ("DELETE FROM orders", "DELETE 1")]
    pages = []
    for key in keys:
        refusal = await reviews.approve(key, "linus", via="slack")
        assert isinstance(refusal, Refusal)
        pages.append(refusal.link.rpartition("/")[2])
    asked = await steps.begin(pages[1], browser, person)
    assert isinstance(asked, Ceremony)
    done = await steps.decide(pages[0], asked.secret, device.get(asked.options), browser, person)
    assert isinstance(done, Refusal)
    first = await reviews.find(keys[0])
    assert first is not None
    assert first.state is ReviewState.PENDING


async def test_another_guardrail_wants_none(
    authority: LocalAuthority, reviews: Reviews, session: str
) -> None:
    review = await held(authority, session, "writes")
    assert isinstance(await reviews.approve(review, "linus", via="slack"), StatementReview)


async def test_a_no_wants_none(authority: LocalAuthority, reviews: Reviews, session: str) -> None:
    review = await held(authority, session, "deletes")
    assert isinstance(await reviews.deny(review, "linus", via="slack"), StatementReview)


async def test_what_is_over_by_the_time_of_the_press_does_not_run(
    authority: LocalAuthority, reviews: Reviews, session: str, service: Service, linus: Any
) -> None:
    review = await held(authority, session, "deletes")
    steps, (person, browser, device) = StepUps(service), linus
    refusal = await reviews.approve(review, "linus", via="slack")
    assert isinstance(refusal, Refusal)
    page = refusal.link.rpartition("/")[2]
    asked = await steps.begin(page, browser, person)
    assert isinstance(asked, Ceremony)
    await authority.withdraw_review(GATE, review, "the client went away")
    done = await steps.decide(page, asked.secret, device.get(asked.options), browser, person)
    assert isinstance(done, Refusal)
    assert done.code == "already-decided"
