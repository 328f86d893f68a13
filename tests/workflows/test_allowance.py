"""A yes in advance is one approver's yes: it counts when it is asked for, if they may give it then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import access, allowance
from workflows.access import Wish
from workflows.allowance import Allow, Allowance
from workflows.model import Principal, Quorum, Refusal, RequestState, Resource, Role, Story
from workflows.policy import Policy, Route, Rule, route
from workflows.quorum import missing

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROLE, WIDE = Role("readonly", ("r",)), Role("readwrite", ("w",))
PROD, VAULT = (Resource(name, "postgres", roles=(ROLE, WIDE)) for name in ("prod-db", "vault-db"))


def rule(name: str, who: str, resource: str, *quorum: Quorum) -> Rule:
    return Rule(
        name,
        frozenset({who}),
        frozenset({resource}),
        ("readonly", "readwrite"),
        4 * HOUR,
        HOUR,
        quorum,
        8 * HOUR,
    )


READ = rule("read", "engineers", "prod-db", Quorum("dba"), Quorum("security"))
POLICY = Policy(
    resources={"prod-db": PROD, "vault-db": VAULT},
    rules=(READ, rule("vault", "security", "vault-db", Quorum("owners")), rule("free", "leads", "prod-db")),
)
PEOPLE = {
    name: Principal(name, name.title(), "", frozenset(of))
    for name, of in {
        "ada": ("engineers",), "bob": ("engineers",), "grace": ("dba",), "linus": ("dba",),
        "olive": ("security",),
        "both": ("dba", "security"), "lena": ("leads",), "zoe": (),
    }.items()
}  # fmt: skip


def allowed(approver: str, holder: str = "ada", **more: object) -> Allowance | Refusal:
    wanted = Allow(PEOPLE[approver], PEOPLE[holder], "prod-db", reason="release duty", **more)  # type: ignore[arg-type]
    return allowance.allow(POLICY, wanted, f"A-{approver}", NOW)


def good(approver: str, **more: object) -> Allowance:
    made = allowed(approver, **more)
    assert isinstance(made, Allowance), made
    return made


def asked(who: str = "ada", duration: timedelta = HOUR, **more: object) -> Story:
    way = route(POLICY, PEOPLE[who], "prod-db")
    assert isinstance(way, Route)
    wish = Wish("prod-db", duration=duration, reason="x", **more)  # type: ignore[arg-type]
    decision = access.submit(way, PEOPLE[who], wish, "R-1", "G-0", NOW)
    assert not isinstance(decision, Refusal)
    assert isinstance(decision[0], access.RequestSubmitted)
    return access.begin(decision[0])


def after(
    story: Story, *allowances: Allowance, people: dict[str, Principal] = PEOPLE
) -> tuple[Story, list[str]]:
    events, used = allowance.given(story, allowances, people, "G-1", NOW)
    for event in events:
        story = access.evolve(story, event)
    return story, [one.approver for one in used]


# ------------------------------------------------------------------ giving it


def test_only_who_could_approve_it_can_say_yes_in_advance() -> None:
    assert isinstance(allowed("grace"), Allowance)
    for approver in ("bob", "ada"):
        refused = allowed(approver, "ada")
        assert isinstance(refused, Refusal)
        assert refused.code == "not-an-approver"


def test_nobody_allows_themselves() -> None:
    people = replace(PEOPLE["grace"], groups=frozenset({"dba", "engineers"}))
    refused = allowance.allow(POLICY, Allow(people, people, "prod-db", reason="x"), "A-1", NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "own-request"


@pytest.mark.parametrize("approver", ["bob", "grace", "zoe"])
def test_a_hidden_resource_is_refused_in_the_words_for_one_that_does_not_exist(approver: str) -> None:
    said = []
    for name in ("vault-db", "no-such"):
        wanted = Allow(PEOPLE[approver], PEOPLE["olive"], name, reason="x")
        refused = allowance.allow(POLICY, wanted, "A-1", NOW)
        assert isinstance(refused, Refusal)
        said.append((refused.code, str(refused).replace(name, "…")))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("holder", "more", "code"),
    [
        ("zoe", {}, "not-for-them"),
        ("lena", {}, "no-approval-needed"),
        ("ada", {"longest": 5 * HOUR}, "too-long"),
        ("ada", {"within": 31 * DAY}, "too-far"),
        ("ada", {"role": "admin"}, "not-for-them"),
    ],
)
def test_it_opens_nothing_that_the_policy_does_not(holder: str, more: dict[str, object], code: str) -> None:
    refused = allowed("grace", holder, **more)
    assert isinstance(refused, Refusal)
    assert refused.code == code


# ------------------------------------------------------------------- using it


def test_one_of_two_leaves_the_other_to_be_asked() -> None:
    story, used = after(asked(), good("grace"))
    assert (story.request.state, used) == (RequestState.PENDING, ["grace"])
    assert missing(story.request, PEOPLE) == (Quorum("security"),)


def test_both_grant_at_once() -> None:
    story, used = after(asked(), good("grace"), good("olive"))
    assert story.request.state is RequestState.APPROVED
    assert used == ["grace", "olive"]
    assert [a.reason for a in story.request.approvals] == [
        "in advance (A-grace): release duty", "in advance (A-olive): release duty",
    ]  # fmt: skip


def test_a_second_yes_for_a_seat_that_is_taken_is_kept() -> None:
    story, used = after(asked(), good("grace"), good("linus"))
    assert used == ["grace"]
    assert [a.approver for a in story.request.approvals] == ["grace"]


@pytest.mark.parametrize(
    ("story", "one"),
    [
        (asked("bob"), good("grace")),
        (asked(duration=3 * HOUR), good("grace", longest=2 * HOUR)),
        (asked(), good("grace", role="readwrite")),
        (asked(), replace(good("grace"), until=NOW)),
        (asked(), allowance.end(good("grace"), "grace", NOW)),
        (asked(), allowance.use(good("grace"), "R-0", NOW)),
        (asked(starts_at=NOW + 25 * HOUR), good("grace")),
        (asked("bob", beneficiary="ada"), good("grace")),
    ],
)
def test_what_does_not_fit_says_nothing(story: Story, one: Allowance) -> None:
    assert after(story, one) == (story, [])


def test_an_approver_who_is_none_any_more_says_nothing() -> None:
    gone = PEOPLE | {"grace": replace(PEOPLE["grace"], groups=frozenset())}
    assert after(asked(), good("grace"), people=gone)[1] == []
    inactive = PEOPLE | {"grace": replace(PEOPLE["grace"], active=False)}
    assert after(asked(), good("grace"), people=inactive)[1] == []


def test_once_is_once_and_repeated_is_not() -> None:
    once = allowance.use(good("grace"), "R-1", NOW)
    assert not once.live(NOW)
    often = allowance.use(good("grace", repeated=True), "R-1", NOW)
    assert often.live(NOW)
    assert (often.used, often.version) == (("R-1",), 2)


@given(st.lists(st.sampled_from(["grace", "linus", "olive", "both"]), max_size=8))
def test_the_quorum_holds_whatever_was_said_in_advance(approvers: list[str]) -> None:
    """Granted exactly where distinct approvers fill every seat, and then by them alone."""
    story, used = after(asked(), *(good(name) for name in approvers))
    assert len(used) == len(set(used))
    granted = story.request.state is RequestState.APPROVED
    assert granted == (missing(story.request, PEOPLE) == ())
    if granted:
        assert len(used) == 2
        assert story.grant is not None


# --------------------------------------------------------------- taking it back


def test_who_may_take_it_back() -> None:
    one = good("grace")
    may = {name for name in PEOPLE if allowance.may_end(one, PEOPLE[name], POLICY, PEOPLE["ada"])}
    assert may == {"grace", "linus", "olive", "both", "ada"}
