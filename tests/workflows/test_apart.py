"""Separation: who shares a named relation with whose matter it is does not decide it, as people are now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import access, allowance, break_glass, glass_review
from workflows.access import Approve, Deny, Revoke, Wish
from workflows.allowance import Allow
from workflows.break_glass import Break, OnDuty
from workflows.glass_review import Review
from workflows.model import Principal, Quorum, Refusal, Relation, Resource, Role, Story, Verdict
from workflows.policy import Emergency, Policy, Rule, decided_by, route
from workflows.quorum import eligible, has_a_say, may_not_decide, missing

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEAM, MANAGER = Relation("team", ("checkout", "search")), Relation("manager")
ROLE = Role("readonly", ("r",))
PROD = Resource("prod-db", "postgres", roles=(ROLE,))


def person(name: str, *groups: str, manager: str | None = None) -> Principal:
    relations = frozenset() if manager is None else frozenset({("manager", manager)})
    return Principal(name, name.title(), "", frozenset(groups), relations=relations)


PEOPLE = {
    one.id: one
    for one in (
        person("ada", "engineers", "checkout", manager="mona"),
        person("bob", "engineers", manager=""),
        person("near", "dba", "checkout", manager="otto"),
        person("peer", "dba", "search", manager="mona"),
        person("far", "dba", "search", manager="otto"),
        person("chief", "dba", manager=""),
        person("blank", "dba", "search"),
        person("mona", "dba", "search", manager="otto"),
    )
}


def rule(*quorum: Quorum) -> Rule:
    return Rule(
        "read",
        frozenset({"engineers"}),
        frozenset({"prod-db"}),
        ("readonly",),
        4 * HOUR,
        HOUR,
        quorum,
        8 * HOUR,
    )


def policy(*quorum: Quorum) -> Policy:
    return Policy(resources={"prod-db": PROD}, rules=(rule(*quorum),))


def asked(*quorum: Quorum, who: str = "ada", beneficiary: str = "") -> Story:
    way = route(policy(*quorum), PEOPLE["ada"], "prod-db")
    assert not isinstance(way, Refusal)
    wish = Wish("prod-db", reason="x", beneficiary=beneficiary)
    decision = access.submit(way, PEOPLE[who], wish, "R-1", "G-1", NOW)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    return access.begin(decision[0])


def yes(story: Story, who: str, people: dict[str, Principal] = PEOPLE) -> access.Decision:
    return access.decide(story, Approve(who, people, "G-1"), NOW)


def code(decision: object) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


@pytest.mark.parametrize(
    ("who", "relations", "counts"),
    [
        ("near", (TEAM,), False),
        ("near", (MANAGER,), True),
        ("peer", (TEAM,), True),
        ("peer", (MANAGER,), False),
        ("far", (TEAM, MANAGER), True),
        ("near", (TEAM, MANAGER), False),
        ("peer", (TEAM, MANAGER), False),
        ("chief", (TEAM, MANAGER), True),  # in no team, and nobody's report
        ("mona", (MANAGER,), True),  # her manager is no report of the same manager
        ("blank", (MANAGER,), False),  # not known, so perhaps shared
        ("blank", (TEAM,), True),
    ],
)
def test_who_shares_a_relation_with_the_requester_does_not_count(
    who: str, relations: tuple[Relation, ...], counts: bool
) -> None:
    story = asked(Quorum("dba", apart=relations))
    assert eligible(story.request, PEOPLE[who], PEOPLE) is counts
    decision = yes(story, who)
    if counts:
        assert not isinstance(decision, Refusal)
        return
    assert code(decision) == "too-near"
    assert code(access.decide(story, Deny(who, PEOPLE), NOW)) == "too-near"


def test_nobody_of_two_without_a_manager_shares_one() -> None:
    people = PEOPLE | {"ada": PEOPLE["bob"]}
    story = asked(Quorum("dba", apart=(MANAGER,)))
    assert not isinstance(yes(story, "chief", people), Refusal)


def test_the_refusal_says_what_is_shared_and_who_can() -> None:
    story = asked(Quorum("dba", apart=(TEAM, MANAGER)))
    told = may_not_decide(story.request, "near", PEOPLE)
    assert told is not None
    assert told.why == "You share the team of ada, so your decision on R-1 does not count."
    assert told.way_out == "Who can: anyone of dba, except ada and whoever shares their team or manager."
    unknown = may_not_decide(story.request, "blank", PEOPLE)
    assert unknown is not None
    assert "may share the manager of ada" in unknown.why


def test_it_counts_how_people_are_now_and_not_how_they_were() -> None:
    story = asked(Quorum("dba", 2, apart=(TEAM,)))
    first = yes(story, "far")
    assert not isinstance(first, Refusal)
    for event in first:
        story = access.evolve(story, event)
    moved = PEOPLE | {"far": replace(PEOPLE["far"], groups=frozenset({"dba", "checkout"}))}
    decision = yes(story, "chief", moved)
    assert not isinstance(decision, Refusal)
    assert [type(event) for event in decision] == [access.ApprovalGiven], "the first yes counts no more"
    assert missing(story.request, moved) == (Quorum("dba", 2, apart=(TEAM,)),)


def test_nearness_to_whom_it_is_for_stands_in_the_way_as_well() -> None:
    story = asked(Quorum("dba", apart=(TEAM,)), who="bob", beneficiary="ada")
    assert code(yes(story, "near")) == "too-near"
    assert not isinstance(yes(story, "far"), Refusal)


def test_each_quorum_keeps_its_own_apart() -> None:
    story = asked(Quorum("dba", apart=(TEAM,)), Quorum("search"))
    both = PEOPLE | {"near": replace(PEOPLE["near"], groups=frozenset({"dba", "search", "checkout"}))}
    decision = yes(story, "near", both)
    assert not isinstance(decision, Refusal)
    for event in decision:
        story = access.evolve(story, event)
    assert [quorum.group for quorum in missing(story.request, both)] == ["dba"]


def test_who_is_too_near_may_still_see_it_and_end_it() -> None:
    story = asked(Quorum("dba", apart=(TEAM,)))
    decision = yes(story, "far")
    assert not isinstance(decision, Refusal)
    for event in decision:
        story = access.evolve(story, event)
    assert has_a_say(story.request, PEOPLE["near"])
    ended = access.decide(story, Revoke("near", PEOPLE), NOW)
    assert not isinstance(ended, Refusal)
    assert ended != ()


def test_where_the_requester_is_gone_nobody_is_apart() -> None:
    story = asked(Quorum("dba", apart=(TEAM,)))
    people = {name: one for name, one in PEOPLE.items() if name != "ada"}
    assert not any(eligible(story.request, one, people) for one in people.values())


def test_a_yes_in_advance_of_somebody_too_near_is_not_taken() -> None:
    rules = policy(Quorum("dba", apart=(TEAM,)))
    for who, taken in (("near", False), ("far", True)):
        wanted = Allow(PEOPLE[who], PEOPLE["ada"], "prod-db", reason="duty")
        made = allowance.allow(rules, wanted, "A-1", NOW)
        assert (code(made) == "too-near") if not taken else not isinstance(made, Refusal)


def test_a_yes_in_advance_does_not_count_once_its_giver_came_too_near() -> None:
    rules = policy(Quorum("dba", apart=(TEAM,)))
    wanted = Allow(PEOPLE["far"], PEOPLE["ada"], "prod-db", reason="duty")
    made = allowance.allow(rules, wanted, "A-1", NOW)
    assert not isinstance(made, Refusal)
    story = asked(Quorum("dba", apart=(TEAM,)))
    assert allowance.given(story, [made], PEOPLE, "G-1", NOW)[1] == (made,)
    moved = PEOPLE | {"far": replace(PEOPLE["far"], groups=frozenset({"dba", "checkout"}))}
    assert allowance.given(story, [made], moved, "G-1", NOW) == ((), ())


def test_an_emergency_is_not_reviewed_by_somebody_too_near() -> None:
    night = Emergency(
        "night",
        frozenset({"prod-db"}),
        "readonly",
        HOUR,
        ("dba",),
        who=frozenset({"engineers"}),
        apart=(TEAM,),
    )
    rules = Policy(resources={"prod-db": PROD}, emergencies=(night,))
    wish = Wish("prod-db", reason="checkout is down for all")
    command = Break(PEOPLE["ada"], wish, "INC-1", OnDuty(), (), PEOPLE, "G-1")
    decision = break_glass.break_glass(rules, command, "R-1", NOW)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    story = access.begin(decision[0])
    for event in decision[1:]:
        story = access.evolve(story, event)
    later = NOW + 2 * HOUR
    near = glass_review.decide(story, Review("near", Verdict.JUSTIFIED, PEOPLE), later)
    assert code(near) == "not-a-reviewer"
    assert "shares their team" in str(near)
    assert not isinstance(
        glass_review.decide(story, Review("far", Verdict.JUSTIFIED, PEOPLE), later), Refusal
    )


def test_the_rule_says_it_in_words() -> None:
    quorum = Quorum("dba", 1, apart=(TEAM, MANAGER))
    assert decided_by(rule(quorum)) == "decided by 1 of dba, nobody of the same team or manager"


@given(
    st.lists(st.sampled_from(["checkout", "search", ""]), min_size=2, max_size=2),
    st.lists(st.sampled_from(["mona", "otto", "", None]), min_size=2, max_size=2),
)
def test_sharing_is_the_same_from_both_sides(teams: list[str], managers: list[str | None]) -> None:
    one, other = (
        person(name, *filter(None, [team]), manager=manager)
        for name, team, manager in zip(("one", "other"), teams, managers, strict=True)
    )
    for relation in (TEAM, MANAGER):
        assert relation.shared(one, other) == relation.shared(other, one)
    assert TEAM.shared(one, other) == (teams[0] == teams[1] != "")
    assert MANAGER.shared(one, other) == (None in managers or managers[0] == managers[1] != "")
