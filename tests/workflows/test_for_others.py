"""Asking for somebody else: who may, on whose rule, who never decides it, and who gets the grant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workflows import access
from workflows.access import Approve, Cancel, Release, Wish
from workflows.model import Principal, Quorum, Refusal, RequestState, Resource, Role, Story
from workflows.policy import Policy, Route, Rule, route_for

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROLE = Role("readonly", ("r",))
PROD, VAULT = (Resource(name, "postgres", roles=(ROLE,)) for name in ("prod-db", "vault-db"))


def rule(name: str, who: str, resource: str, *others: str) -> Rule:
    return Rule(
        name, frozenset({who}), frozenset({resource}), ("readonly",), 4 * HOUR, HOUR, (Quorum("dba"),),
        8 * HOUR, for_others=frozenset(others),
    )  # fmt: skip


POLICY = Policy(
    resources={"prod-db": PROD, "vault-db": VAULT},
    rules=(rule("read", "engineers", "prod-db", "leads"), rule("vault", "security", "vault-db")),
)
PEOPLE = {
    name: Principal(name, name.title(), "", frozenset(of))
    for name, of in {
        "ada": ("engineers", "dba"), "bob": ("engineers",), "lena": ("leads", "dba"), "sam": ("security",),
        "grace": ("dba",), "zoe": (),
    }.items()
}  # fmt: skip


def way(asker: str, holder: str, resource: str = "prod-db") -> Route | Refusal:
    return route_for(POLICY, PEOPLE[asker], PEOPLE[holder], resource)


def refusal(asker: str, holder: str, resource: str = "prod-db") -> Refusal:
    found = way(asker, holder, resource)
    assert isinstance(found, Refusal)
    return found


def asked() -> Story:
    found = way("lena", "ada")
    assert isinstance(found, Route)
    wish = Wish("prod-db", reason="x", beneficiary="ada")
    decision = access.submit(found, PEOPLE["lena"], wish, "R-1", "G-0", NOW)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    return access.begin(decision[0])


def test_the_rule_is_that_of_whom_it_is_for() -> None:
    found = way("lena", "ada")
    assert isinstance(found, Route)
    assert found.rule.name == "read"
    assert refusal("lena", "zoe").code == "not-for-them"
    assert refusal("lena", "sam").code == "not-for-them"


def test_who_is_not_named_by_the_rule_may_ask_only_for_themselves() -> None:
    assert refusal("bob", "ada").code == "only-for-yourself"
    assert isinstance(way("bob", "bob"), Route)
    assert refusal("lena", "lena").code == "only-for-others"


@pytest.mark.parametrize("asker", ["bob", "lena", "zoe"])
def test_a_hidden_resource_is_hidden_also_when_asked_for_somebody_who_sees_it(asker: str) -> None:
    hidden, unknown = refusal(asker, "sam", "vault-db"), refusal(asker, "sam", "no-such")
    assert hidden.code == "no-such-resource"
    assert str(hidden).replace("vault-db", "no-such") == str(unknown)


def test_neither_who_asks_nor_whom_it_is_for_decides_it() -> None:
    story = asked()
    for name in ("lena", "ada"):  # both are of the group that decides
        for command in (Approve(name, PEOPLE, "G-1"), access.Deny(name, PEOPLE)):
            answer = access.decide(story, command, NOW)
            assert isinstance(answer, Refusal)
            assert answer.code == "own-request"


def test_whom_it_is_for_gets_the_grant_and_gives_it_back() -> None:
    story = asked()
    decision = access.decide(story, Approve("grace", PEOPLE, "G-1"), NOW)
    assert not isinstance(decision, Refusal)
    for event in decision:
        story = access.evolve(story, event)
    assert story.grant is not None
    assert story.grant.principal == "ada"
    assert isinstance(access.decide(story, Release("lena"), NOW), Refusal)
    assert access.decide(story, Release("ada"), NOW) != ()


@pytest.mark.parametrize("who", ["ada", "lena"])
def test_it_is_refused_by_whom_it_is_for_and_taken_back_by_who_asked(who: str) -> None:
    story = asked()
    decision = access.decide(story, Cancel(who), NOW)
    assert not isinstance(decision, Refusal)
    closed = access.evolve(story, decision[0]).request
    assert (closed.state, closed.closed_by) == (RequestState.CANCELLED, who)
    assert isinstance(access.decide(story, Cancel("bob"), NOW), Refusal)


@pytest.mark.parametrize("who", ["ada", "lena"])
def test_nothing_is_granted_once_one_of_them_is_gone(who: str) -> None:
    people = PEOPLE | {who: replace(PEOPLE[who], active=False)}
    answer = access.decide(asked(), Approve("grace", people, "G-1"), NOW)
    assert isinstance(answer, Refusal)
    assert answer.code == "requester-inactive"
