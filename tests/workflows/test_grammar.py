"""One grammar for every surface: what it understands, and what it answers where it does not."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.grammar import (
    MAX_REASON,
    VERBS,
    Approve,
    Cancel,
    Context,
    Deny,
    Help,
    Mistake,
    Offer,
    Release,
    Request,
    Revoke,
    RoleOffer,
    Status,
    Target,
    TargetKind,
    Who,
    Why,
    context_for,
    from_slack,
    is_plain_name,
    parse,
    spell,
)
from workflows.model import Principal, Resource, Role
from workflows.policy import Policy, Rule
from workflows.words import tidy

HOUR = timedelta(hours=1)
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
READONLY = RoleOffer("readonly", 4 * HOUR, HOUR)
READWRITE = RoleOffer("readwrite", 2 * HOUR, HOUR)
OFFERS = (
    Offer("prod-db", (READONLY, READWRITE), ("shop",)),
    Offer("billing-db", (RoleOffer("readonly", 8 * HOUR, HOUR, reason_required=False),)),
)
HERE = Context(OFFERS, NOON, ZoneInfo("Europe/London"))
VIENNA = Context(OFFERS, NOON, ZoneInfo("Europe/Vienna"))
WANTED = Request("prod-db", "", HOUR, "INC-142")


def understood(line: str, context: Context = HERE) -> Request:
    answer = parse(line, context)
    assert isinstance(answer, Request), answer
    return answer


def mistaken(line: str, context: Context = HERE) -> Mistake:
    answer = parse(line, context)
    assert isinstance(answer, Mistake), answer
    return answer


# ------------------------------------------------------------------ asking


@pytest.mark.parametrize(
    "line",
    [
        "request prod-db 1h because INC-142",
        "request 1h prod-db for INC-142",
        "request INC-142 prod-db 60m",
        "request because INC-142 prod-db 1h",
        "request prod-db because INC-142 1h",
        'request "INC-142" 1h prod-db',
        "request access to prod-db for 1 hour because INC-142",
        "request prod-db for 1h for INC-142",
        "REQUEST Prod-DB 1H BECAUSE INC-142",
        "request shop 1h inc-142",
        "request prod-db 1h because “INC-142”",
        "request prod—db 1h —reason INC-142",
        "request\u00a0prod\u2011db\u20091h because\u00a0INC-142",
        "req prod-db until 13:00 because INC-142",
        "request prod-db until 1pm INC-142",
        "request prod-db until 1 pm INC-142",
    ],
)
def test_a_request_is_read_in_loose_order_and_as_phones_type_it(line: str) -> None:
    assert understood(line) == WANTED


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90m", 90), ("1h30", 90), ("1h30m", 90), ("1.5h", 90), ("1,5h", 90), ("90 minutes", 90),
        ("2 hrs", 120), ("45min", 45), ("3hours", 180), ("until 13:30", 90), ("until 15.00", 180),
    ],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(text: str, minutes: int) -> None:
    assert understood(f"request prod-db {text} because x").duration == timedelta(minutes=minutes)


def test_days_are_read_and_held_against_the_rule() -> None:
    assert mistaken("request prod-db 2d because x").mended == "request prod-db 4h because x"


def test_until_is_in_the_askers_own_time_zone() -> None:
    assert understood("request prod-db until 15:00 because x", VIENNA).duration == 2 * HOUR
    assert understood("request prod-db until 15:00 because x", HERE).duration == 3 * HOUR


def test_a_time_of_day_that_has_passed_is_tomorrows() -> None:
    assert "at most 4h" in mistaken("request prod-db until 11:00 because x").why
    late = Context(OFFERS, datetime(2026, 11, 24, 23, 0, tzinfo=UTC), UTC)
    assert understood("request prod-db until 01:00 because x", late).duration == 2 * HOUR


def test_end_of_day_is_six_and_then_midnight() -> None:
    at_four = Context(OFFERS, datetime(2026, 11, 24, 16, 0, tzinfo=UTC), UTC)
    assert understood("request prod-db eod because x", at_four).duration == 2 * HOUR
    at_nine = Context(OFFERS, datetime(2026, 11, 24, 21, 0, tzinfo=UTC), UTC)
    assert understood("request prod-db eod because x", at_nine).duration == 3 * HOUR


def test_until_counts_the_hour_that_a_clock_change_takes_away() -> None:
    night = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # 01:30 in Vienna; at 2:00 it becomes 3:00
    spring = Context(OFFERS, night, ZoneInfo("Europe/Vienna"))
    assert understood("request prod-db until 04:00 because x", spring).duration == timedelta(minutes=90)


def test_a_role_is_named_with_as_or_alone() -> None:
    for line in ("request prod-db as readwrite 1h INC-1", "request readwrite prod-db 1h INC-1"):
        assert understood(line).role == "readwrite"


def test_a_reason_after_for_stops_before_the_next_part() -> None:
    assert understood("request prod-db for debugging the checkout 2h") == Request(
        "prod-db", "", 2 * HOUR, "debugging the checkout"
    )
    assert understood("request prod-db for the checkout because INC-1").reason == "the checkout INC-1"


def test_because_takes_the_rest_of_the_line() -> None:
    assert understood("request prod-db because it was slow for 2h").reason == "it was slow for 2h"


def test_no_duration_means_the_usual_one() -> None:
    assert understood("request prod-db because x").duration is None


def test_a_reason_shows_as_it_was_written_and_nothing_in_it_hides() -> None:
    line = "request prod-db 1h because \u202egnp.exe\u202c it\u200bs\x00 fine\nreally"
    assert understood(line).reason == "gnp.exe its fine really"


def test_slack_escapes_are_undone_and_mentions_keep_their_id() -> None:
    text = from_slack(
        "revoke &lt;x&gt; <@U123|ada> <https://x.test/a|x.test> <#C1|general> <!subteam^S1|@dba>"
    )
    assert text == "revoke <x> <@U123|ada> https://x.test/a #general @dba"
    assert parse("revoke <@U123|ada lovelace>", HERE) == Revoke(Target(TargetKind.SLACK_USER, "U123"))
    assert understood("request prod-db because <@U1|ada> asked").reason == "@ada asked"


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ("request prdo-db 1h because x", "request prod-db 1h because x"),
        ("requst prod-db 1h because x", "request prod-db 1h because x"),
        ("prod-db 1h because x", "request prod-db 1h because x"),
        ("request prod-db 90 because x", "request prod-db 1h30m because x"),
        ("request prod-db 9h because x", "request prod-db 4h because x"),
        ("request prod-db 0m because x", "request prod-db 1h because x"),
        ("request prod-db as readwrit 1h because x", "request prod-db as readwrite 1h because x"),
        ("request prod-db readwrit 1h because x", "request prod-db as readwrite 1h because x"),
        ("request prod-db 1h checkout is slow", "request prod-db 1h because checkout is slow"),
        ("request prod-db 1h 2h because x", "request prod-db 1h because x"),
        ("request prdo-db as readwrit 99h slow", "request prod-db as readwrite 2h because slow"),
        ("requst billng-db", "request billing-db"),
        ("revoke prod-bd because left", "revoke prod-db because left"),
        ("who prod-db please", "who prod-db"),
        ("status now", "status"),
    ],
)
def test_a_mistake_is_answered_with_the_whole_line_mended(line: str, mended: str) -> None:
    assert mistaken(line).mended == mended


def test_a_missing_reason_is_asked_for_and_never_made_up() -> None:
    mistake = mistaken("request prod-db 1h")
    assert "reason" in mistake.why
    assert mistake.mended is None
    assert mistake.draft == Request("prod-db", "", HOUR, "")


def test_a_resource_that_wants_no_reason_takes_none() -> None:
    assert understood("request billing-db 1h") == Request("billing-db", "", HOUR, "")


def test_a_name_that_may_not_be_asked_for_reads_as_one_that_does_not_exist() -> None:
    resources = {n: Resource(n, "postgres", roles=(Role("readonly", ()),)) for n in ("prod-db", "vault-db")}
    quick = Rule("r", frozenset({"eng"}), frozenset({"prod-db"}), ("readonly",), HOUR, HOUR, (), HOUR)
    closed = Rule("s", frozenset({"sec"}), frozenset({"vault-db"}), ("readonly",), HOUR, HOUR, (), HOUR)
    policy = Policy(resources=resources, rules=(quick, closed))
    context = context_for(policy, Principal("ada", "Ada", "", frozenset({"eng"})), NOON, UTC)
    hidden = mistaken("request vault-db 1h because x", context)
    unknown = mistaken("request vxxlt-db 1h because x", context)
    assert hidden.why.replace("vault-db", "vxxlt-db") == unknown.why
    near = mistaken("request vaultdb 1h because x", context)
    assert "vault-db" not in near.why + str(near.mended)


def test_an_administrator_is_told_of_every_resource_when_looking_but_not_when_asking() -> None:
    policy = Policy(resources={"vault-db": Resource("vault-db", "postgres")}, admins=frozenset({"sec"}))
    context = context_for(policy, Principal("sam", "Sam", "", frozenset({"sec"})), NOON, UTC)
    assert mistaken("who valut-db", context).mended == "who vault-db"
    assert "vault-db" not in mistaken("request valut-db because x", context).why


def test_a_reason_too_long_is_cut_in_the_mended_line() -> None:
    mistake = mistaken("request prod-db 1h because " + "x" * (MAX_REASON + 1))
    assert mistake.mended is not None
    assert understood(mistake.mended).reason == "x" * MAX_REASON


# ------------------------------------------------------------------ the smaller verbs


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", Help()),
        ("help request", Help("request")),
        ("status", Status()),
        ("who shop", Who("prod-db")),
        ("who elsewhere-db", Who("elsewhere-db")),
        ("release", Release()),
        ("release G-7K3F9Q", Release(Target(TargetKind.ID, "G-7K3F9Q"))),
        ("release prod-db", Release(Target(TargetKind.RESOURCE, "prod-db"))),
        ("revoke g-7k3f9q because left", Revoke(Target(TargetKind.ID, "G-7K3F9Q"), "left")),
        ("revoke @ada", Revoke(Target(TargetKind.PERSON, "ada"))),
        ("revoke <@U123|ada> left us", Revoke(Target(TargetKind.SLACK_USER, "U123"), "left us")),
        ("cancel", Cancel()),
        ("cancel R-7K3F9Q", Cancel("R-7K3F9Q")),
        ("why R-7K3F9Q", Why("R-7K3F9Q")),
        ("approve R-7K3F9Q", Approve("R-7K3F9Q")),
        ("deny R-7K3F9Q because not today", Deny("R-7K3F9Q", "not today")),
    ],
)
def test_the_smaller_verbs_are_read(line: str, command: object) -> None:
    assert parse(line, HERE) == command


def test_a_name_that_reads_as_something_else_is_no_plain_name() -> None:
    assert all(is_plain_name(name) for name in ("prod-db", "shop", "billing_2", "k8s.prod"))
    assert not any(
        is_plain_name(n) for n in ("2d", "until", "for", "status", "R-7K3F9Q", "a b", "@x", "7", "“x”")
    )


# ------------------------------------------------------------------ properties

spans = st.integers(60, 4 * 3600).map(lambda seconds: timedelta(seconds=seconds))
reasons = st.text(max_size=120).map(tidy).filter(lambda text: "<@" not in text)
ids = st.from_regex(r"[RG]-[0-9A-HJKMNP-TV-Z]{6}", fullmatch=True)
things = st.one_of(
    ids.map(lambda i: Target(TargetKind.ID, i)),
    st.sampled_from(["prod-db", "billing-db"]).map(lambda n: Target(TargetKind.RESOURCE, n)),
)
targets = st.one_of(
    things,
    st.from_regex(r"[a-z][a-z.]{1,8}", fullmatch=True).map(lambda n: Target(TargetKind.PERSON, n)),
    st.from_regex(r"U[A-Z0-9]{8}", fullmatch=True).map(lambda n: Target(TargetKind.SLACK_USER, n)),
)
requests = st.builds(
    Request,
    st.just("prod-db"),
    st.sampled_from(["", "readonly"]),
    st.none() | spans,
    reasons.filter(bool),
)
commands = st.one_of(
    requests,
    st.builds(Approve, ids, reasons),
    st.builds(Deny, ids, reasons),
    st.builds(Cancel, st.just("") | ids),
    st.builds(Release, st.none() | things),
    st.builds(Revoke, targets, reasons),
    st.builds(Who, st.sampled_from(["prod-db", "billing-db"])),
    st.builds(Why, ids),
    st.builds(Help, st.sampled_from(["", *VERBS])),
    st.just(Status()),
)


@given(commands)
def test_a_command_spelled_reads_as_itself(command: Request) -> None:
    assert parse(spell(command), HERE) == command


parts = st.tuples(
    st.sampled_from(["prod-db", "shop", "PROD-DB"]),
    st.sampled_from(["as readwrite", "readwrite", "role readwrite"]),
    st.sampled_from(["90m", "1h30", "1h30m", "for 90m", "90 minutes", "until 13:30"]),
    st.sampled_from(['because "INC-7 it is slow"', '"INC-7 it is slow"', "“INC-7 it is slow”"]),
)


@given(parts, st.sampled_from(list(permutations(range(4)))))
def test_any_order_of_the_parts_asks_for_the_same(said: tuple[str, ...], order: tuple[int, ...]) -> None:
    line = "request " + " ".join(said[index] for index in order)
    assert understood(line) == Request("prod-db", "readwrite", timedelta(minutes=90), "INC-7 it is slow")


@given(st.permutations(["prod-db", "1h", "because INC-142"]))
def test_a_ticket_may_stand_anywhere(order: list[str]) -> None:
    assert understood("request " + " ".join(order)) == WANTED


scraps = st.lists(
    st.sampled_from(
        ["request", "requst", "prod-db", "prodd-db", "shop", "as", "readonly", "readwrit", "for", "because",
         "until", "18:00", "25:99", "1h", "9999999999999999999h", "90", "2", "hours", "eod", "INC-1", "inc-2",
         '"', "'", "\\", "<@U1|ada>", "@ada", "revoke", "who", "release", "R-7K3F9Q", "--reason", "x", "…"]
    )
).map(" ".join)  # fmt: skip


@given(st.one_of(st.text(), scraps, st.tuples(scraps, st.text()).map(" ".join)))
def test_any_text_is_answered_and_every_mended_line_is_understood(line: str) -> None:
    answer = parse(line, HERE)
    if isinstance(answer, Mistake):
        assert answer.why
        assert answer.mended is None or not isinstance(parse(answer.mended, HERE), Mistake)
    else:
        assert parse(spell(answer), HERE) == answer


@given(st.text())
def test_any_text_from_slack_is_unescaped(text: str) -> None:
    assert isinstance(from_slack(text), str)


@given(scraps)
def test_no_answer_names_a_resource_that_was_not_offered(line: str) -> None:
    answer = parse(line, Context((), NOON, UTC))
    assert "prod-db" in line or "prod-db" not in str(answer)


# ------------------------------------------------------------ slips in keywords


@pytest.mark.parametrize("slip", ["becuase", "becasue", "beacuse", "becuse", "becausee", "Becuase", "becuas"])
def test_a_slip_in_because_is_mended_and_is_no_part_of_the_reason(slip: str) -> None:
    wanted = "request prod-db 1h because INC-142 checkout is slow"
    assert mistaken(f"request prod-db 1h {slip} INC-142 checkout is slow").mended == wanted
    assert parse(f"deny R-7K3F9Q {slip} not now", HERE) == Deny("R-7K3F9Q", "not now")
    assert parse(f"approve R-7K3F9Q {slip} it burns", HERE) == Approve("R-7K3F9Q", "it burns")


@pytest.mark.parametrize("slip", ["untill", "unitl", "untl", "Unil"])
def test_a_slip_in_until_is_mended(slip: str) -> None:
    assert mistaken(f"request prod-db {slip} 15:00 because x").mended == "request prod-db 3h because x"


@pytest.mark.parametrize("line", ["realease prod-db", "relase prod-db", "releas prod-db"])
def test_a_slip_in_a_verb_is_mended(line: str) -> None:
    assert mistaken(line).mended == "release prod-db"


@pytest.mark.parametrize("word", ["became", "season", "unit", "unlit", "cause", "base"])
def test_a_word_that_only_looks_like_a_keyword_stays_in_the_reason(word: str) -> None:
    answer = mistaken(f"request prod-db 1h {word} tests fail")
    assert answer.mended == f"request prod-db 1h because {word} tests fail"


def test_a_slip_inside_a_reason_stays_as_it_was_typed() -> None:
    assert understood("request prod-db because slow becuase of INC-1").reason == "slow becuase of INC-1"


# ------------------------------------------------------------------ for whom, and from when


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("request prod-db 1h for @ada because INC-142", Target(TargetKind.PERSON, "ada")),
        ("request for <@U0ADA|ada> prod-db 1h INC-142", Target(TargetKind.SLACK_USER, "U0ADA")),
        ("request prod-db for 1h for @ada for INC-142", Target(TargetKind.PERSON, "ada")),
    ],
)
def test_it_may_be_for_somebody_else(line: str, target: Target) -> None:
    asked = understood(line)
    assert (asked.beneficiary, asked.duration, asked.reason) == (target, HOUR, "INC-142")
    assert understood(spell(asked)) == asked


def test_it_is_for_one_person() -> None:
    assert "one person" in mistaken("request prod-db 1h for @ada for @bob because INC-142").why


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("from 18:00", datetime(2026, 11, 24, 17, 0, tzinfo=UTC)),
        ("at 6pm", datetime(2026, 11, 24, 17, 0, tzinfo=UTC)),
        ("from 9:00", datetime(2026, 11, 25, 8, 0, tzinfo=UTC)),
        ("at tomorrow 9:00", datetime(2026, 11, 25, 8, 0, tzinfo=UTC)),
        ("starting tomorrow 9 am", datetime(2026, 11, 25, 8, 0, tzinfo=UTC)),
        ("from friday 14:00", datetime(2026, 11, 27, 13, 0, tzinfo=UTC)),
        ("from tuesday 9:00", datetime(2026, 12, 1, 8, 0, tzinfo=UTC)),
        ("from 2026-11-25T09:00Z", datetime(2026, 11, 25, 9, 0, tzinfo=UTC)),
        ("from 2026-11-25T09:00", datetime(2026, 11, 25, 8, 0, tzinfo=UTC)),
    ],
)
def test_it_may_begin_later_by_the_writers_own_clock(words: str, at: datetime) -> None:
    for line in (f"request prod-db 1h {words} because INC-142", f"request {words} prod-db 1h INC-142"):
        asked = understood(line, VIENNA)
        assert (asked.starts_at, asked.duration) == (at, HOUR)
        assert understood(spell(asked), VIENNA) == asked


def test_until_counts_from_the_beginning() -> None:
    asked = understood("request prod-db from 18:00 until 20:00 because INC-142", VIENNA)
    assert asked.duration == 2 * HOUR
    asked = understood("request prod-db until 11:00 from tomorrow 9:00 because INC-142", VIENNA)
    assert asked.duration == 2 * HOUR


def test_what_is_no_time_is_no_beginning() -> None:
    assert understood("request prod-db 1h because errors come from the replica").starts_at is None
    assert "do not understand" in mistaken("request prod-db 1h at dawn because INC-142").why


def test_it_begins_within_a_month() -> None:
    answer = mistaken("request prod-db 1h from 2027-11-25T09:00Z because INC-142")
    assert "within 30d" in answer.why
    assert answer.mended == "request prod-db 1h because INC-142"
