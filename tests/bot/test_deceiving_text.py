"""Text that wants to look like something else to whoever decides about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from bot.markup import plain, quotation
from bot.review_cards import review_card, statement_block
from bot.shown import Faces
from workflows.model import Quorum, Statement, StatementClass, StatementReview
from workflows.visible import visible

ORDER = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
BREAKS = "\u2028\u2029\u0085\x0b\x0c"


def shown(text: str) -> str:
    """What stands on the card for a statement."""
    return str(statement_block(text)["elements"][0]["elements"][0]["text"])


@pytest.mark.parametrize("line_break", BREAKS)
def test_what_only_looks_like_a_new_line_does_not_take_a_condition_out_of_a_comment(line_break: str) -> None:
    text = f"DELETE FROM users --{line_break}WHERE id = 1"
    assert shown(text).splitlines() == [f"DELETE FROM users --\\u{ord(line_break):04x}WHERE id = 1"]


def test_a_carriage_return_that_ends_a_comment_is_a_new_line_on_the_card() -> None:
    """PostgreSQL ends a comment there, and a screen may show nothing at all."""
    assert shown("-- only looking\rDELETE FROM users").splitlines() == [
        "-- only looking\\r",
        "DELETE FROM users",
    ]
    assert shown("SELECT 1\r\nFROM t").splitlines() == ["SELECT 1", "FROM t"]


@pytest.mark.parametrize(
    "char", [*ORDER, "\u200b", "\ufeff", "\u00a0", "\u00ad", "\x08", "\x1b", "\x7f", "\U000e0041"]
)
def test_what_reorders_or_hides_is_seen_in_a_statement(char: str) -> None:
    assert char not in shown(f"SELECT '{char}' FROM t")
    assert f"{ord(char):04x}" in shown(f"SELECT '{char}' FROM t")


@pytest.mark.parametrize("char", [*ORDER, *BREAKS, "\x00", "\x08", "\x1b", "\x9b"])
def test_no_reason_or_name_reorders_or_overwrites_what_stands_beside_it(char: str) -> None:
    text = f"INC-1{char} approved by security"
    assert char not in plain(text)
    assert char not in str(quotation(text))


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("Größe prüfen 👩‍💻", "بسبب عطل", "של לקוח", "क्षमा", "日本語の理由", "naïve café ✅️"):
        assert plain(text) == text
        assert quotation(text)["elements"][0]["elements"][0]["text"] == text
        assert visible(f"SELECT '{text}'\n\t-- x") in (
            f"SELECT '{text}'\n\t-- x",
            f"SELECT '{text}'\n\t-- x".replace("\u200d", "\\u200d"),
        )


def review_of(text: str) -> StatementReview:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    return StatementReview(
        id="V-1", requester="ada", resource="prod-db", role="readwrite", grant_id="G-1", session_id="S-1",
        statement=Statement(text, "d" * 64, StatementClass.DESTRUCTIVE), rule="held",
        quorum=(Quorum("dba", 1),), created_at=now, lapses_at=now,
    )  # fmt: skip


@pytest.mark.parametrize("padding", [" " * 2400, "\n" * 2400, "/*" + "x" * 2400 + "*/", "\u00a0" * 500])
def test_what_the_card_cannot_show_whole_cannot_be_approved_on_the_card(padding: str) -> None:
    """A harmless beginning must not fetch a yes for what stands behind the edge."""
    card = review_card(review_of(f"SELECT 1{padding};DELETE FROM users"), Faces(), "dba", "review:0")
    labels = re.findall(r"'text': '([^']*)', 'emoji'", str(card.blocks))
    assert labels == ["Deny…"]
    assert "access statements show V-1" in str(card.blocks)
    card = review_card(review_of("DELETE FROM users"), Faces(), "dba", "review:0")
    assert "Approve, once" in str(card.blocks)
