"""The emergency: who may, on what proof, how often, and who looks at it after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import access, break_glass, extension, glass_review
from workflows.access import Decision, Wish
from workflows.break_glass import Break, Duty, IncidentState, OnDuty
from workflows.glass_review import Remind, Review, next_reminder, owes_review
from workflows.model import Action as A
from workflows.model import (
    EndReason,
    GrantState,
    Guardrail,
    Mask,
    Principal,
    PrincipalKind,
    Quorum,
    Refusal,
    RequestState,
    Resource,
    Role,
    Story,
    Terms,
    Verdict,
)
from workflows.policy import Emergency, Policy, Route, Rule

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TERMS = Terms((Mask("public.users", "email"),), 5, (Guardrail("no-drop", A.REFUSE),))
RESOURCE = Resource(
    "prod-db",
    "postgres",
    aliases=("shop",),
    roles=(Role("readonly", ("r",)), Role("readwrite", ("w",), TERMS)),
)
USUAL = Rule(
    "read", frozenset({"engineers"}), frozenset({"prod-db"}), ("readonly", "readwrite"), 4 * HOUR, HOUR,
    (Quorum("dba"),), 8 * HOUR,
)  # fmt: skip
EMERGENCY = Emergency(
    "night", frozenset({"prod-db"}), "readwrite", 30 * MINUTE, ("security",), schedules=("primary",)
)
PEOPLE = {
    name: Principal(name, name.title(), f"{name}@example.com", frozenset(groups))
    for name, groups in {
        "olive": ("engineers",),
        "ada": ("engineers", "sre"),
        "grace": ("dba",),
        "sam": ("security", "dba"),
        "otto": ("security",),
        "zoe": (),
    }.items()
} | {"bot": Principal("bot", "Bot", "", frozenset({"sre", "security"}), PrincipalKind.AGENT)}
ON_CALL = OnDuty((Duty("primary", "olive", NOW, NOW + 6 * HOUR),))
WISH = Wish("prod-db", reason="checkout is down since 02:40")


def policy(emergency: Emergency = EMERGENCY, **more: Any) -> Policy:
    return Policy(resources={"prod-db": RESOURCE}, rules=(USUAL,), emergencies=(replace(emergency, **more),))


def command(who: str = "olive", **more: Any) -> Break:
    given: dict[str, Any] = {
        "principal": PEOPLE[who],
        "wish": WISH,
        "incident": "INC-142",
        "on_duty": ON_CALL,
        "history": (),
        "directory": PEOPLE,
        "grant_id": "G-1",
    }
    return Break(**(given | more))


def told(decision: Decision) -> Story:
    assert not isinstance(decision, Refusal), decision
    assert isinstance(decision[0], access.RequestSubmitted)
    story = access.begin(decision[0])
    for event in decision[1:]:
        story = access.evolve(story, event)
    return story


def broken(at: datetime = NOW, rules: Policy | None = None, **more: Any) -> Story:
    duty = OnDuty((Duty("primary", "olive", at, at + 6 * HOUR),))
    return told(break_glass.break_glass(rules or policy(), command(**({"on_duty": duty} | more)), "R-1", at))


def after(story: Story, decision: Decision) -> Story:
    assert not isinstance(decision, Refusal), decision
    for event in decision:
        story = access.evolve(story, event)
    return story


def code(decision: Decision) -> str:
    assert isinstance(decision, Refusal), decision
    return decision.code


def tried(rules: Policy | None = None, at: datetime = NOW, **more: Any) -> str:
    return code(break_glass.break_glass(rules or policy(), command(**more), "R-2", at))


# ------------------------------------------------------------- breaking it


def test_whoever_is_on_call_gets_a_short_grant_at_once_and_owes_a_review() -> None:
    story = broken()
    assert story.grant is not None
    assert story.grant.state is GrantState.MINTING
    assert story.grant.expiry == NOW + 30 * MINUTE
    assert story.request.state is RequestState.APPROVED
    emergency = story.request.emergency
    assert emergency is not None
    assert emergency.review_due == NOW + 24 * HOUR
    assert emergency.skipped == ("grace", "otto", "sam")
    assert "on call for primary until 2026-11-24 09:00 UTC" in emergency.eligible_by
    assert story.version == 2


def test_masks_and_guardrails_of_the_role_hold_in_an_emergency() -> None:
    story = broken()
    assert story.grant is not None
    assert story.grant.terms == story.request.terms == TERMS


@pytest.mark.parametrize("who", ["grace", "sam", "otto"])
def test_anybody_who_could_have_decided_and_any_reviewer_can_end_it(who: str) -> None:
    ended = after(broken(), access.decide(broken(), access.Revoke(who, PEOPLE, "stop"), NOW)).grant
    assert ended is not None
    assert ended.end_reason is EndReason.REVOKED


@pytest.mark.parametrize("who", ["olive", "ada", "zoe", "bot"])
def test_nobody_else_can_end_it_for_them(who: str) -> None:
    assert code(access.decide(broken(), access.Revoke(who, PEOPLE), NOW)) == "not-an-approver"


def test_being_on_call_for_another_schedule_opens_nothing() -> None:
    other = OnDuty((Duty("secondary", "olive", NOW), Duty("primary", "grace", NOW)))
    assert tried(on_duty=other) == "not-on-call"


def test_a_higher_escalation_level_counts_only_where_the_policy_says_so() -> None:
    backup = OnDuty((Duty("primary", "olive", NOW, level=2),))
    assert tried(on_duty=backup) == "not-on-call"
    assert told(break_glass.break_glass(policy(level=2), command(on_duty=backup), "R-1", NOW)).grant
    odd = OnDuty((Duty("primary", "olive", NOW, level=0),))
    assert tried(on_duty=odd) == "not-on-call"


@pytest.mark.parametrize("age", [61, 3600, -6, -3600])
def test_an_answer_that_is_too_old_or_from_the_future_is_no_answer(age: int) -> None:
    stale = OnDuty((Duty("primary", "olive", NOW - timedelta(seconds=age)),))
    assert tried(on_duty=stale) == "on-call-unknown"


@pytest.mark.parametrize("age", [0, 60, -5])
def test_an_answer_of_the_last_minute_counts(age: int) -> None:
    fresh = OnDuty((Duty("primary", "olive", NOW - timedelta(seconds=age)),))
    assert told(break_glass.break_glass(policy(), command(on_duty=fresh), "R-1", NOW)).grant


def test_a_shift_that_ends_at_this_moment_is_over() -> None:
    over = OnDuty((Duty("primary", "olive", NOW, until=NOW),))
    assert tried(on_duty=over) == "not-on-call"


def test_a_source_that_is_away_opens_nothing_unless_the_policy_names_who() -> None:
    away = OnDuty(away=("primary",))
    assert tried(on_duty=away) == "on-call-unknown"
    rules = policy(when_away=frozenset({"sre"}))
    assert tried(rules, on_duty=away) == "on-call-unknown"
    story = told(break_glass.break_glass(rules, command("ada", on_duty=away), "R-1", NOW))
    assert story.request.emergency is not None
    assert "Nobody could tell who was on call for primary" in story.request.emergency.concerns[0]
    assert tried(rules, who="ada") == "not-on-call", "only while the source is away"


def test_a_place_on_call_taken_over_by_hand_just_before_is_shown_to_the_reviewer() -> None:
    duty = Duty("primary", "olive", NOW, since_override=4 * MINUTE)
    story = told(
        break_glass.break_glass(policy(), command(on_duty=OnDuty((duty,))), "R-1", NOW)
    ).request.emergency
    assert story is not None
    assert story.concerns == ("olive was put on call for primary by hand 4m before.",)
    old = OnDuty((replace(duty, since_override=HOUR),))
    story = told(break_glass.break_glass(policy(), command(on_duty=old), "R-1", NOW)).request.emergency
    assert story is not None
    assert story.concerns == ()


def test_an_offline_code_counts_only_where_the_rule_takes_codes() -> None:
    nobody = OnDuty(away=("primary",))
    assert tried(code=True, on_duty=nobody) == "no-codes"
    rules = policy(codes=True)
    assert tried(rules, on_duty=nobody) == "on-call-unknown"
    story = told(break_glass.break_glass(rules, command(code=True, on_duty=nobody), "R-1", NOW))
    assert story.request.emergency is not None
    assert story.request.emergency.eligible_by == "an offline code"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"incident": "  "}, "no-incident"),
        ({"wish": replace(WISH, reason="help")}, "reason-too-short"),
        ({"wish": replace(WISH, reason=" " * 30)}, "reason-too-short"),
        ({"wish": replace(WISH, duration=31 * MINUTE)}, "too-long"),
        ({"wish": replace(WISH, duration=timedelta())}, "too-long"),
        ({"wish": replace(WISH, duration=-HOUR)}, "too-long"),
        ({"wish": replace(WISH, role="readonly")}, "no-such-role"),
        ({"principal": replace(PEOPLE["olive"], active=False)}, "inactive"),
        ({"principal": PEOPLE["bot"]}, "no-such-resource"),
    ],
)
def test_what_is_not_enough_is_refused(more: dict[str, Any], why: str) -> None:
    assert tried(**more) == why


def test_somebody_who_may_not_know_of_the_resource_is_refused_as_for_one_that_is_not_there() -> None:
    hidden = break_glass.break_glass(policy(), command("zoe"), "R-1", NOW)
    absent = break_glass.break_glass(
        policy(), command("zoe", wish=replace(WISH, resource="no-db")), "R-1", NOW
    )
    assert isinstance(hidden, Refusal)
    assert isinstance(absent, Refusal)
    assert hidden == replace(absent, why=absent.why.replace("no-db", "prod-db"))


# -------------------------------------------------------------- how often


def test_one_emergency_at_a_time() -> None:
    assert tried(at=NOW + MINUTE, history=(broken(),), on_duty=fresh(NOW + MINUTE)) == "one-at-a-time"


def fresh(at: datetime) -> OnDuty:
    return OnDuty((Duty("primary", "olive", at),))


def expired(story: Story) -> Story:
    assert story.grant is not None
    return after(story, access.decide(story, access.Expire(), story.grant.expiry))


def test_a_second_emergency_waits_for_the_review_of_the_first() -> None:
    later = NOW + 5 * HOUR
    first = expired(broken())
    assert tried(at=later, history=(first,), on_duty=fresh(later)) == "review-owed"
    lenient = policy(most_unreviewed=1)
    assert told(
        break_glass.break_glass(lenient, command(history=(first,), on_duty=fresh(later)), "R-2", later)
    ).grant
    late = NOW + 24 * HOUR
    assert tried(lenient, late, history=(first,), on_duty=fresh(late)) == "review-owed", "overdue"
    reviewed = after(first, glass_review.decide(first, Review("sam", Verdict.JUSTIFIED, PEOPLE), later))
    assert told(
        break_glass.break_glass(policy(), command(history=(reviewed,), on_duty=fresh(later)), "R-2", later)
    ).grant


def test_a_cool_down_follows_an_emergency_counted_from_its_true_end() -> None:
    first = broken()
    end = NOW + 10 * MINUTE
    done = after(first, access.decide(first, access.Release("olive"), end))
    done = after(done, glass_review.decide(done, Review("sam", Verdict.JUSTIFIED, PEOPLE), end))
    soon, later = end + 14 * MINUTE, end + 15 * MINUTE
    assert tried(at=soon, history=(done,), on_duty=fresh(soon)) == "cool-down"
    again = command(history=(done,), on_duty=fresh(later))
    assert told(break_glass.break_glass(policy(), again, "R-2", later)).grant


def test_a_login_that_could_not_be_made_owes_no_review_and_no_cool_down() -> None:
    first = broken()
    failed = after(first, access.decide(first, access.FailGrant("the target is away"), NOW))
    assert not owes_review(failed)
    assert next_reminder(failed) is None
    again = command(history=(failed,))
    assert told(break_glass.break_glass(policy(), again, "R-2", NOW)).grant


def test_what_others_did_does_not_stand_in_the_way() -> None:
    theirs = replace(broken(), request=replace(broken().request, requester="ada"))
    assert told(break_glass.break_glass(policy(), command(history=(theirs,)), "R-2", NOW)).grant


def test_an_emergency_is_not_extended_and_not_approved_after() -> None:
    story = broken()
    assert code(extension.decide(story, extension.Extend("olive", MINUTE, USUAL), NOW)) == "not-extendable"
    assert code(access.decide(story, access.Approve("grace", PEOPLE, "G-2"), NOW)) == "already-decided"


# ----------------------------------------------- a request that cannot wait


def waiting() -> Story:
    wish = Wish("prod-db", "readonly", 4 * HOUR, "a look")
    way = break_glass.route(policy(), PEOPLE["olive"], "prod-db", "readonly")
    assert not isinstance(way, Refusal)
    return told(access.submit(way, PEOPLE["olive"], wish, "R-1", "G-0", NOW))


def escalated(story: Story, **more: Any) -> Decision:
    return break_glass.escalate(policy(), story, command(**more), NOW)


def test_the_requester_turns_a_waiting_request_into_an_emergency() -> None:
    story = after(waiting(), escalated(waiting()))
    assert story.request.id == "R-1"
    assert story.request.emergency is not None
    assert story.grant is not None
    assert (story.grant.role, story.grant.expiry) == ("readwrite", NOW + 30 * MINUTE)
    assert escalated(story) == (), "pressed twice"
    assert code(access.decide(story, access.Approve("grace", PEOPLE, "G-2"), NOW)) == "already-decided"
    assert code(access.decide(story, access.Deny("grace", PEOPLE), NOW)) == "already-decided"


def test_nobody_else_does_and_not_once_it_is_decided() -> None:
    assert code(escalated(waiting(), principal=PEOPLE["ada"])) == "not-yours"
    denied = after(waiting(), access.decide(waiting(), access.Deny("grace", PEOPLE), NOW))
    assert code(escalated(denied)) == "already-decided"
    cancelled = after(waiting(), access.decide(waiting(), access.Cancel("olive"), NOW))
    assert code(escalated(cancelled)) == "already-decided"


def test_the_same_proof_is_wanted_for_a_waiting_request() -> None:
    assert code(escalated(waiting(), on_duty=OnDuty())) == "not-on-call"
    assert code(escalated(waiting(), history=(expired(broken()),))) == "review-owed"


# ------------------------------------------------------------- the review


def review(story: Story, by: str, verdict: Verdict = Verdict.JUSTIFIED, note: str = "") -> Decision:
    return glass_review.decide(story, Review(by, verdict, PEOPLE, note), NOW + HOUR)


def test_nobody_reviews_their_own_emergency_even_as_a_reviewer() -> None:
    mine = replace(expired(broken()), request=replace(expired(broken()).request, requester="sam"))
    assert code(review(mine, "sam")) == "own-request"


@pytest.mark.parametrize("who", ["grace", "ada", "bot", "nobody"])
def test_only_people_of_the_reviewers_groups_review(who: str) -> None:
    assert code(review(expired(broken()), who)) == "not-a-reviewer"


def test_a_reviewer_who_left_the_group_reviews_no_more() -> None:
    now = PEOPLE | {"sam": replace(PEOPLE["sam"], groups=frozenset({"dba"}))}
    decision = glass_review.decide(expired(broken()), Review("sam", Verdict.JUSTIFIED, now), NOW)
    assert code(decision) == "not-a-reviewer"


def test_what_is_still_open_cannot_be_found_justified_yet() -> None:
    decision = glass_review.decide(broken(), Review("sam", Verdict.JUSTIFIED, PEOPLE), NOW + MINUTE)
    assert code(decision) == "still-open"


def test_a_no_to_what_is_still_open_ends_it_at_once() -> None:
    wanted = Review("sam", Verdict.NOT_JUSTIFIED, PEOPLE, "no incident open")
    story = after(broken(), glass_review.decide(broken(), wanted, NOW + MINUTE))
    assert story.grant is not None
    assert story.grant.end_reason is EndReason.REVOKED
    assert not owes_review(story)


def test_a_no_says_why() -> None:
    assert code(review(expired(broken()), "sam", Verdict.NOT_JUSTIFIED, " ")) == "no-note"


def test_one_verdict_stands() -> None:
    story = after(expired(broken()), review(expired(broken()), "sam"))
    assert review(story, "sam") == ()
    assert code(review(story, "otto")) == "already-reviewed"
    assert code(review(story, "sam", Verdict.NOT_JUSTIFIED, "on second thought")) == "already-reviewed"


def test_a_request_that_was_no_emergency_has_nothing_to_review() -> None:
    assert code(review(waiting(), "sam")) == "no-emergency"


def test_reminders_come_half_way_when_due_and_then_every_day_until_reviewed() -> None:
    story, seen = expired(broken()), []
    while len(seen) < 4:
        at = next_reminder(story)
        assert at is not None
        assert glass_review.decide(story, Remind(), at - timedelta(seconds=1)) == ()
        story = after(story, glass_review.decide(story, Remind(), at))
        seen.append((at - NOW) // HOUR)
    assert seen == [12, 24, 48, 72]
    story = after(story, review(story, "sam"))
    assert next_reminder(story) is None
    assert glass_review.decide(story, Remind(), NOW + 1000 * HOUR) == ()


def test_who_asked_for_somebody_and_who_made_an_emergency_of_it_both_never_review_it() -> None:
    """Sam, a reviewer, asks for Otto, who is one as well; Otto is on call and does not wait."""
    asked = access.submit(
        Route(RESOURCE, RESOURCE.roles[0], USUAL), PEOPLE["sam"], replace(WISH, beneficiary="otto"), "R-1",
        "G-0", NOW,
    )  # fmt: skip
    waiting = told(asked)
    duty = OnDuty((Duty("primary", "otto", NOW, NOW + 6 * HOUR),))
    anothers = break_glass.escalate(policy(), waiting, command("sam", on_duty=duty), NOW)
    assert code(anothers) == "not-yours"
    by_otto = command("otto", on_duty=duty)
    story = expired(after(waiting, break_glass.escalate(policy(), waiting, by_otto, NOW)))
    assert story.grant is not None
    assert (story.request.requester, story.grant.principal) == ("sam", "otto")
    assert story.request.emergency is not None
    assert not {"sam", "otto"} & set(story.request.emergency.skipped)
    for party in ("sam", "otto"):
        assert not glass_review.may_review(story, PEOPLE[party], PEOPLE)
        assert code(review(story, party)) == "own-request"
    third = Principal("rita", "Rita", "", frozenset({"security"}))
    everyone = PEOPLE | {"rita": third}
    decision = glass_review.decide(story, Review("rita", Verdict.JUSTIFIED, everyone), NOW + 2 * HOUR)
    assert after(story, decision).request.emergency.reviewed_by == "rita"  # type: ignore[union-attr]


# ------------------------------------------------------- who else hears of it


def managed(name: str, manager: str | None) -> Principal:
    said = frozenset() if manager is None else frozenset({("manager", manager)})
    return replace(PEOPLE[name], relations=said)


@pytest.mark.parametrize("manager", ["zoe", "Zoe@Example.com"])
def test_the_manager_hears_of_it_without_a_say(manager: str) -> None:
    olive = managed("olive", manager)
    story = broken(rules=policy(tells=("manager",)), principal=olive, directory=PEOPLE | {"olive": olive})
    emergency = story.request.emergency
    assert emergency is not None
    assert (emergency.told, emergency.concerns) == (("zoe",), ())
    assert code(access.decide(story, access.Revoke("zoe", PEOPLE, "stop"), NOW)) == "not-an-approver"


@pytest.mark.parametrize(
    ("manager", "concerns"),
    [
        (None, ("Nobody is known as the manager of olive, so nobody was told as such.",)),
        ("nobody", ("Nobody is known as the manager of olive, so nobody was told as such.",)),
        ("olive", ("Nobody is known as the manager of olive, so nobody was told as such.",)),
        ("", ()),
    ],
)
def test_a_manager_of_whom_nothing_is_known_is_missed_in_the_review(
    manager: str | None, concerns: tuple[str, ...]
) -> None:
    olive = managed("olive", manager)
    story = broken(rules=policy(tells=("manager",)), principal=olive, directory=PEOPLE | {"olive": olive})
    emergency = story.request.emergency
    assert emergency is not None
    assert (emergency.told, emergency.concerns) == ((), concerns)


# ------------------------------------------------------- whether there is an incident


def test_an_incident_that_is_not_open_is_shown_to_the_reviewer_and_opens_nothing_where_it_has_to_be() -> None:
    strict = policy(open_incident=True)
    for state, said in (
        (IncidentState.OVER, "INC-142 is over."),
        (IncidentState.MISSING, "There is no incident INC-142."),
    ):
        emergency = broken(incident_state=state).request.emergency
        assert emergency is not None
        assert emergency.concerns == (said,)
        assert tried(strict, incident_state=state) == "no-open-incident"
    for state in (IncidentState.OPEN, IncidentState.UNASKED):
        emergency = broken(rules=strict, incident_state=state).request.emergency
        assert emergency is not None
        assert emergency.concerns == ()


def test_a_keeper_of_incidents_who_is_away_stops_nobody_and_is_told_of() -> None:
    strict = policy(open_incident=True)
    emergency = broken(rules=strict, incident_state=IncidentState.UNTOLD).request.emergency
    assert emergency is not None
    assert emergency.concerns == ("Nobody could tell whether INC-142 is open.",)


# ------------------------------------------------------- in whatever order

acts = st.lists(
    st.tuples(
        st.sampled_from(["break", "release", "revoke", "expire", "fail", "review", "reject", "self-review"]),
        st.sampled_from([0, 1, 14, 15, 31, 60, 1440]),
    ),
    max_size=30,
)


@given(acts, st.integers(0, 2))
def test_never_two_open_never_more_owed_than_allowed_never_reviewed_by_oneself(
    presses: Sequence[tuple[str, int]], allowed: int
) -> None:
    now, stories = NOW, list[Story]()
    rules = policy(most_unreviewed=allowed)
    for verb, minutes in presses:
        now += minutes * MINUTE
        owed_before = [s for s in stories if owes_review(s)]
        if verb == "break":
            asked = command(history=tuple(stories), on_duty=fresh(now), grant_id=f"G-{len(stories)}")
            decision = break_glass.break_glass(rules, asked, f"R-{len(stories)}", now)
            if not isinstance(decision, Refusal):
                assert len(owed_before) <= allowed
                assert all(s.request.emergency and now < s.request.emergency.review_due for s in owed_before)
                stories.append(told(decision))
        elif stories:
            stories[-1] = step(stories[-1], verb, now)
        assert sum(s.grant is not None and s.grant.live(now) for s in stories) <= 1
        for story in stories:
            assert story.grant is not None
            assert story.grant.expiry - story.grant.not_before <= EMERGENCY.longest
            emergency = story.request.emergency
            assert emergency is not None
            assert emergency.reviewed_by != "olive"
            assert (emergency.verdict is None) == (emergency.reviewed_at is None)


def step(story: Story, verb: str, now: datetime) -> Story:
    decision: Decision = {
        "release": lambda: access.decide(story, access.Release("olive"), now),
        "revoke": lambda: access.decide(story, access.Revoke("grace", PEOPLE), now),
        "expire": lambda: access.decide(story, access.Expire(), now),
        "fail": lambda: access.decide(story, access.FailGrant("away"), now),
        "review": lambda: glass_review.decide(story, Review("sam", Verdict.JUSTIFIED, PEOPLE), now),
        "reject": lambda: glass_review.decide(
            story, Review("otto", Verdict.NOT_JUSTIFIED, PEOPLE, "no"), now
        ),
        "self-review": lambda: glass_review.decide(story, Review("olive", Verdict.JUSTIFIED, PEOPLE), now),
    }[verb]()
    return story if isinstance(decision, Refusal) else after(story, decision)
