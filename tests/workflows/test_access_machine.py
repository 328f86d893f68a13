"""Every order of presses, clocks and restarts: one grant at most, and nothing that was not decided."""

import copy
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from workflows import access
from workflows.access import (
    Approve,
    Cancel,
    Command,
    ConfirmHold,
    Deny,
    Expire,
    FailGrant,
    Lapse,
    Release,
    RequestSubmitted,
    Revoke,
    Wish,
    decide,
    evolve,
)
from workflows.model import (
    GrantState,
    Principal,
    PrincipalKind,
    Quorum,
    Refusal,
    RequestState,
    Resource,
    Role,
    Story,
)
from workflows.policy import Route, Rule
from workflows.quorum import eligible, missing

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PEOPLE = ("ada", "grace", "linus", "olive", "bot")
GROUPS = ("dba", "security")
ANYONE = frozenset({"dba"})
people = st.sampled_from(PEOPLE)
quorums = st.sampled_from(
    [
        (),
        (Quorum("dba", 1),),
        (Quorum("dba", 2),),
        (Quorum("dba", 1), Quorum("security", 1)),
        (Quorum("dba", 2), Quorum("security", 1)),
    ]
)


def person(name: str, groups: frozenset[str] = frozenset(), active: bool = True) -> Principal:
    kind = PrincipalKind.AGENT if name == "bot" else PrincipalKind.PERSON
    return Principal(name, name.title(), f"{name}@example.com", groups, kind, active)


class Access(RuleBasedStateMachine):
    """Drives `decide` and `evolve` as the broker does, and remembers what it saw."""

    @initialize(quorum=quorums)
    def ask(self, quorum: tuple[Quorum, ...]) -> None:
        self.now = START
        self.directory = {name: person(name, frozenset(GROUPS)) for name in PEOPLE}
        self.transitions = 0
        self.grants: set[str] = set()
        self.ended: Story | None = None
        self.last: tuple[Command, datetime] | None = None
        role = Role("readonly", ("app_readonly",))
        route = Route(
            Resource("prod-db", "postgres", roles=(role,)),
            role,
            Rule(
                "r", frozenset({"dba"}), frozenset({"prod-db"}), ("readonly",), HOUR, HOUR, quorum, 2 * HOUR
            ),
        )
        events = access.submit(route, self.directory["ada"], Wish("prod-db", reason="x"), "R-1", "G-0", START)
        assert not isinstance(events, Refusal)
        assert isinstance(events[0], RequestSubmitted)
        self.story = access.begin(events[0])
        self.transitions = 1
        self.apply(events[1:])

    def apply(self, events: tuple[access.Event, ...]) -> None:
        for event in events:
            before = self.story
            self.story = evolve(self.story, event)
            self.transitions += 1
            if before.grant is None and self.story.grant is not None:
                self.grants.add(self.story.grant.id)
                if before.request.quorum:
                    assert not missing(self.story.request, self.directory), "granted short of the quorum"

    def do(self, command: Command) -> None:
        self.last = (command, self.now)
        before = self.story
        decision = decide(self.story, command, self.now)
        assert self.story is before, "decide changed the story"
        if not isinstance(decision, Refusal):
            self.apply(decision)
            assert decide(self.story, command, self.now) == () or isinstance(
                decide(self.story, command, self.now), Refusal
            ), "a command had an effect twice"

    # -------------------------------------------------------------- what people do

    @rule(who=people, grant=st.integers(1, 99))
    def approve(self, who: str, grant: int) -> None:
        self.do(Approve(who, dict(self.directory), f"G-{grant}"))

    @rule(first=people, second=people)
    def two_approve_at_once(self, first: str, second: str) -> None:
        """Two replicas take two presses; the database lets them in one after the other."""
        self.do(Approve(first, dict(self.directory), "G-100"))
        self.do(Approve(second, dict(self.directory), "G-101"))

    @rule(who=people)
    def deny(self, who: str) -> None:
        self.do(Deny(who, dict(self.directory), "no"))

    @rule(who=people)
    def cancel(self, who: str) -> None:
        self.do(Cancel(who))

    @rule(who=people)
    def release(self, who: str) -> None:
        self.do(Release(who))

    @rule(who=people, admin=st.booleans())
    def revoke(self, who: str, admin: bool) -> None:
        self.do(Revoke(who, dict(self.directory), "left", admin))

    # -------------------------------------------------------------- what machines do

    @rule()
    def lapse(self) -> None:
        self.do(Lapse())

    @rule()
    def expire(self) -> None:
        self.do(Expire())

    @rule()
    def hold(self) -> None:
        self.do(ConfirmHold("gate-1"))

    @rule()
    def fail(self) -> None:
        self.do(FailGrant("the target is away"))

    @rule()
    def the_same_delivery_again(self) -> None:
        if self.last is not None:
            command, _ = self.last
            decision = decide(self.story, command, self.now)
            if not isinstance(decision, Refusal):
                self.apply(decision)

    @rule(minutes=st.sampled_from([0, 1, 30, 60, 119, 120, 600]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(who=people, groups=st.sets(st.sampled_from(GROUPS)))
    def groups_change(self, who: str, groups: set[str]) -> None:
        self.directory[who] = replace(self.directory[who], groups=frozenset(groups))

    @rule(who=people, active=st.booleans())
    def somebody_leaves_or_returns(self, who: str, active: bool) -> None:
        self.directory[who] = replace(self.directory[who], active=active)

    @rule()
    def restart(self) -> None:
        self.story = pickle.loads(pickle.dumps(self.story))

    # -------------------------------------------------------------- what always holds

    @invariant()
    def one_grant_at_most(self) -> None:
        assert len(self.grants) <= 1
        if self.story.grant is not None:
            assert self.grants == {self.story.grant.id}

    @invariant()
    def the_requester_and_agents_never_decide(self) -> None:
        yes = [approval.approver for approval in self.story.request.approvals]
        assert "ada" not in yes
        assert "bot" not in yes

    @invariant()
    def nobody_counts_twice(self) -> None:
        yes = [approval.approver for approval in self.story.request.approvals if approval.yes]
        assert len(yes) == len(set(yes))

    @invariant()
    def a_grant_means_approved_and_as_many_people_as_the_quorum(self) -> None:
        request = self.story.request
        if self.story.grant is None:
            assert request.state is not RequestState.APPROVED
            return
        assert request.state is RequestState.APPROVED
        assert len(request.approvals) >= sum(quorum.needed for quorum in request.quorum)

    @invariant()
    def every_transition_is_one_version(self) -> None:
        assert self.story.version == self.transitions

    @invariant()
    def what_ended_stays_ended(self) -> None:
        if self.ended is not None:
            assert self.story == self.ended
        grant = self.story.grant
        closed = (RequestState.DENIED, RequestState.CANCELLED, RequestState.LAPSED)
        over = grant.state is GrantState.ENDED if grant else self.story.request.state in closed
        if over:
            self.ended = copy.deepcopy(self.story)

    @invariant()
    def a_grant_lasts_as_long_as_was_asked_and_never_longer(self) -> None:
        grant = self.story.grant
        if grant is not None:
            assert grant.expiry - grant.not_before == self.story.request.duration
            assert not grant.live(grant.expiry)

    @invariant()
    def a_denial_is_by_somebody_who_could(self) -> None:
        request = self.story.request
        if request.state is RequestState.DENIED:
            assert request.closed_by in PEOPLE
            assert eligible(request, person(request.closed_by, frozenset(GROUPS)), {})


Access.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAccess = Access.TestCase
