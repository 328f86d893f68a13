"""The urgent verbs: read in a loose order, mended where there is a slip, and never raising."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.grammar import (
    AllowLine,
    BreakGlass,
    Claim,
    Context,
    Drill,
    Extend,
    Mistake,
    Nudge,
    Offer,
    Review,
    Revoke,
    RoleOffer,
    Target,
    TargetKind,
    parse,
    spell,
)
from workflows.model import Verdict

HALF = timedelta(minutes=30)
OFFERS = (Offer("prod-db", (RoleOffer("readonly", timedelta(hours=4), timedelta(hours=1)),), ("shop",)),)
CONTEXT = Context(OFFERS, datetime(2026, 11, 24, 3, 0, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (
            "break-glass prod-db because INC-142 checkout is down",
            BreakGlass("prod-db", reason="INC-142 checkout is down"),
        ),
        (
            "breakglass shop as readwrite for 30m because INC-142 down",
            BreakGlass("prod-db", "readwrite", HALF, "INC-142 down"),
        ),
        ("BREAK-GLASS prod-db 30 min INC-142 down", BreakGlass("prod-db", "", HALF, "INC-142 down")),
        ("break-glass r-7k3f9q because INC-1 now", BreakGlass(reason="INC-1 now", id="R-7K3F9Q")),
        ("break-glass R-7K3F9Q", BreakGlass(id="R-7K3F9Q")),
        ("break-glass hidden-db because INC-1 now", BreakGlass("hidden-db", reason="INC-1 now")),
        ("extend 30m", Extend(HALF)),
        ("extend by 30m because not done", Extend(HALF, None, "not done")),
        ("extend shop 30m", Extend(HALF, Target(TargetKind.RESOURCE, "prod-db"))),
        ("extend g-7k3f9q 30m", Extend(HALF, Target(TargetKind.ID, "G-7K3F9Q"))),
        ("nudge", Nudge()),
        ("nudge R-7K3F9Q", Nudge("R-7K3F9Q")),
        ("looking R-7K3F9Q", Claim("R-7K3F9Q")),
        ("review R-7K3F9Q justified", Review("R-7K3F9Q", Verdict.JUSTIFIED)),
        ("review R-7K3F9Q ok because INC-1", Review("R-7K3F9Q", Verdict.JUSTIFIED, "INC-1")),
        (
            "review R-7K3F9Q not justified because no incident",
            Review("R-7K3F9Q", Verdict.NOT_JUSTIFIED, "no incident"),
        ),
    ],
)
def test_a_line_is_understood(line: str, command: object) -> None:
    assert parse(line, CONTEXT) == command


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ("break-glas prod-db because INC-1 down", "break-glass prod-db because INC-1 down"),
        ("break-glass prd-db because INC-1 down", "break-glass prod-db because INC-1 down"),
        ("break-glass prod-db 5s because INC-1 down", "break-glass prod-db 1m because INC-1 down"),
        ("extend prod-bd 30m", "extend prod-db 30m"),
        ("extend", "extend 30m"),
        ("extend prod-db", "extend prod-db 30m"),
        ("nudge prod-db", "nudge"),
        ("claim R-7K3F9Q now", "claim R-7K3F9Q"),
    ],
)
def test_a_slip_is_mended(line: str, mended: str) -> None:
    answer = parse(line, CONTEXT)
    assert isinstance(answer, Mistake)
    assert answer.mended == mended
    assert not isinstance(parse(mended, CONTEXT), Mistake)


@pytest.mark.parametrize(
    "line",
    [
        "break-glass",
        "break-glass prod-db",
        "break-glass prod-db because it is down",
        "break-glass because INC-1",
        "extend as admin 30m",
        "claim",
        "review R-7K3F9Q",
        "review R-7K3F9Q not justified",
        "review",
    ],
)
def test_what_is_not_enough_is_told_and_not_guessed(line: str) -> None:
    answer = parse(line, CONTEXT)
    assert isinstance(answer, Mistake)
    assert answer.why


def test_the_incident_is_the_first_ticket_of_the_reason() -> None:
    assert BreakGlass("prod-db", reason="checkout down inc-142 INC-7").incident == "INC-142"
    assert BreakGlass("prod-db", reason="checkout is down").incident == ""


ids = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=6, max_size=6)
reasons = st.text("abc INC-142'\"\\.,é", max_size=40).map(lambda text: " ".join(("INC-1 x " + text).split()))
spans = st.integers(1, 500).map(lambda minutes: timedelta(minutes=minutes))
targets = (
    st.none()
    | ids.map(lambda i: Target(TargetKind.ID, f"G-{i}"))
    | st.just(Target(TargetKind.RESOURCE, "prod-db"))
)
commands = st.one_of(
    st.builds(
        BreakGlass,
        st.just("prod-db"),
        st.sampled_from(["", "readonly"]),
        st.none() | spans,
        reasons,
        st.just(""),
    ),
    st.builds(Extend, spans, targets, st.just("") | reasons),
    st.builds(Nudge, st.just("") | ids.map(lambda i: f"R-{i}")),
    st.builds(Claim, ids.map(lambda i: f"R-{i}")),
    st.builds(Review, ids.map(lambda i: f"R-{i}"), st.sampled_from(Verdict), reasons),
)


@given(commands)
def test_the_line_of_a_command_reads_as_that_command(command: BreakGlass) -> None:
    assert parse(spell(command), CONTEXT) == command


@given(
    st.sampled_from(["break-glass", "extend", "nudge", "claim", "review"]),
    st.lists(
        st.sampled_from(
            [
                "prod-db",
                "shop",
                "R-7K3F9Q",
                "30m",
                "for",
                "as",
                "because",
                "INC-1",
                "not",
                "justified",
                '"',
                "'a",
                "<@U1>",
                "5",
            ]
        )
        | st.text(max_size=8),
        max_size=7,
    ),
)
def test_no_line_raises_and_a_mended_line_is_good(verb: str, words: list[str]) -> None:
    answer = parse(" ".join([verb, *words]), CONTEXT)
    if isinstance(answer, Mistake) and answer.mended is not None:
        assert not isinstance(parse(answer.mended, CONTEXT), Mistake)


def test_a_slip_in_because_is_no_part_of_an_emergencys_reason() -> None:
    answer = parse("break-glass prod-db becuase INC-142 checkout is down", CONTEXT)
    assert isinstance(answer, BreakGlass)
    assert answer.reason == "INC-142 checkout is down"


# ------------------------------------------------------------- a yes in advance, a drill

ADA = Target(TargetKind.PERSON, "ada")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("allow", AllowLine()),
        (
            "allow @ada prod-db 2h within 5d because release duty",
            AllowLine(ADA, "prod-db", "", 4 * HALF, timedelta(days=5), False, "release duty"),
        ),
        (
            "allow shop to @ada as readonly repeatedly within 2 days for 30 min becuase INC-1",
            AllowLine(ADA, "prod-db", "readonly", HALF, timedelta(days=2), True, "INC-1"),
        ),
        (
            "allow <@U0ADA|ada> prod-db once because x",
            AllowLine(Target(TargetKind.SLACK_USER, "U0ADA"), "prod-db", reason="x"),
        ),
        ("allow @ada hidden-db because x", AllowLine(ADA, "hidden-db", reason="x")),
        ("revoke a-7k3f9q", Revoke(Target(TargetKind.ID, "A-7K3F9Q"))),
        ("drill", Drill()),
        ("drill shop", Drill("prod-db")),
        ("rehearse hidden-db", Drill("hidden-db")),
    ],
)
def test_yeses_in_advance_and_drills(line: str, command: object) -> None:
    said = parse(line, CONTEXT)
    assert said == command
    assert not isinstance(said, Mistake)
    assert parse(spell(said), CONTEXT) == said


@pytest.mark.parametrize(
    ("line", "why", "mended"),
    [
        ("allow prod-db 2h because x", "Allow whom?", None),
        ("allow @ada 2h because x", "Allow what?", None),
        ("allow @ada prod-db 2h", "Say why", None),
        ("allow @ada prd-db because x", "no resource “prd-db”", "allow @ada prod-db because x"),
        (
            "allow @ada prod-db within 90d because x",
            "at most 30d",
            "allow @ada prod-db within 30d because x",
        ),
        ("allow @ada prod-db nonsense because x", "“nonsense”", None),
        ("drill prd-db", "no resource “prd-db”", "drill prod-db"),
        ("drill prod-db now", "takes one resource", "drill prod-db"),
    ],
)
def test_their_mistakes_are_told_and_mended(line: str, why: str, mended: str | None) -> None:
    said = parse(line, CONTEXT)
    assert isinstance(said, Mistake), said
    assert why in said.why
    assert said.mended == mended


@given(st.text(max_size=80))
def test_no_text_raises_behind_allow(text: str) -> None:
    parse(f"allow {text}", CONTEXT)
    parse(f"allow @ada prod-db {text}", CONTEXT)
