"""The DataRow rewriter against a slow and obvious one, and the mask methods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.errors import scrub
from proxy.sql.guard import ColumnVerdict, StatementVerdict
from proxy.sql.mask import FieldDescription, plan_columns
from proxy.sql.masked import MaskSet
from proxy.sql.methods import Replacement, email, hasher, last4, pseudonym
from proxy.sql.rows import (
    COMPILED,
    BrokenRow,
    MaskPlan,
    rewrite_data_rows,
    rewrite_in_c,
    rewrite_in_python,
)
from tests.proxy.sql.door import data_row, split_rows
from workflows.model import StatementClass

KEY = b"a key of the resource"
values = st.one_of(st.none(), st.binary(max_size=40))
replacements = st.sampled_from(
    [b"***", None, b"", b"\0" * 300, last4, email, hasher(KEY), pseudonym(KEY, 25, False), lambda value: None]
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[list[bytes | None]], MaskPlan]:
    width = draw(st.integers(0, 6))
    rows = draw(st.lists(st.lists(values, min_size=width, max_size=width), max_size=5))
    indexes = sorted(draw(st.sets(st.integers(0, width - 1)))) if width else []
    chosen = tuple((i, draw(replacements)) for i in indexes)
    whatever = frozenset(i for i, r in chosen if not callable(r) and draw(st.booleans()))
    return rows, MaskPlan(width, chosen, whatever)


def slow(row: list[bytes | None], plan: MaskPlan) -> list[bytes | None]:
    changed = list(row)
    for index, replacement in plan.replacements:
        value = row[index]
        if value is None and index not in plan.whatever:
            continue
        changed[index] = replacement(value or b"") if callable(replacement) else replacement
    return changed


@given(runs())
def test_rewriting_equals_masking_value_by_value(run: tuple[list[list[bytes | None]], MaskPlan]) -> None:
    rows, plan = run
    chunk = b"".join(data_row(row) for row in rows)
    assert split_rows(rewrite_data_rows(chunk, plan)) == [slow(row, plan) for row in rows]
    assert rewrite_data_rows(memoryview(chunk), plan) == rewrite_data_rows(chunk, plan)


@given(runs(), st.data())
def test_bytes_that_are_no_whole_rows_are_refused_never_passed_on(
    run: tuple[list[list[bytes | None]], MaskPlan], data: st.DataObject
) -> None:
    rows, plan = run
    chunk = b"".join(data_row(row) for row in rows)
    ends = {len(b"".join(data_row(row) for row in rows[:i])) for i in range(len(rows) + 1)}
    inside = [cut for cut in range(1, len(chunk)) if cut not in ends]
    if inside:
        with pytest.raises(BrokenRow):
            rewrite_data_rows(chunk[: data.draw(st.sampled_from(inside))], plan)


def both_ways(chunk: bytes, plan: MaskPlan) -> tuple[bytes | None, bytes | None]:
    """What the compiled and the plain rewriter make of some bytes; None where they refuse them."""
    made: list[bytes | None] = []
    for way in (rewrite_in_c, rewrite_in_python):
        try:
            made.append(way(chunk, plan))
        except (ValueError, IndexError):
            made.append(None)
    return made[0], made[1]


def test_the_rewriter_that_runs_is_the_compiled_one() -> None:
    assert COMPILED


@given(runs(), st.data())
def test_compiled_and_plain_make_the_same_bytes_of_whole_and_of_broken_rows(
    run: tuple[list[list[bytes | None]], MaskPlan], data: st.DataObject
) -> None:
    rows, plan = run
    chunk = bytearray(b"".join(data_row(row) for row in rows))
    compiled, plain = both_ways(bytes(chunk), plan)
    assert compiled == plain is not None
    if chunk:
        for place in data.draw(st.lists(st.integers(0, len(chunk) - 1), max_size=4)):
            chunk[place] = data.draw(st.sampled_from([0, 1, 4, 7, 68, 127, 128, 255]))
        compiled, plain = both_ways(bytes(chunk[: data.draw(st.integers(0, len(chunk)))]), plan)
        assert compiled == plain


@given(st.binary(max_size=60), st.integers(0, 3))
def test_compiled_and_plain_refuse_the_same_bytes(tail: bytes, width: int) -> None:
    plan = MaskPlan(width, tuple((i, b"***") for i in range(width)), frozenset({0}))
    for chunk in (tail, data_row([None] * width) + tail, b"D\0\0\0\x20\0" + bytes([width]) + tail):
        compiled, plain = both_ways(chunk, plan)
        assert compiled == plain


def test_a_mask_that_fails_ends_the_rows_in_either_way() -> None:
    def failing(value: bytes) -> bytes:
        raise KeyError(value)

    plan = MaskPlan(1, ((0, failing),))
    for way in (rewrite_in_c, rewrite_in_python):
        with pytest.raises(KeyError):
            way(data_row([b"a"]), plan)


@given(st.binary(max_size=80))
def test_any_bytes_either_are_rows_or_are_refused(chunk: bytes) -> None:
    try:
        shown = rewrite_data_rows(chunk, MaskPlan(1, ((0, b"***"),)))
    except BrokenRow:
        return
    assert all(row in ([b"***"], [None]) for row in split_rows(shown))


def test_a_row_of_another_width_than_described_is_refused() -> None:
    with pytest.raises(BrokenRow):
        rewrite_data_rows(data_row([b"a", b"b"]), MaskPlan(1, ((0, b"***"),)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"+1917364825", b"***4825"), (b"1234567", b"***"), (b"", b"***"), ("ééééabcd".encode(), b"***abcd")],
)
def test_last4_shows_four_of_at_least_eight_characters(value: bytes, shown: bytes) -> None:
    assert last4(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"ada@example.com", b"a***@***"), (b"ada", b"***"), (b"a@b", b"***"), (b"@b", b"***")],
)
def test_email_shows_the_first_letter_of_an_address_only(value: bytes, shown: bytes) -> None:
    assert email(value) == shown


def _statement(columns: tuple[ColumnVerdict, ...] | None) -> StatementVerdict:
    return StatementVerdict("select_stmt", StatementClass.READ, frozenset(), True, columns)


def _users(masks: MaskSet) -> tuple[int, dict[str, tuple[int, int]]]:
    (users,) = masks.catalog.find("public", "users")
    return users.oid, {c.name: (c.number, c.type_oid) for c in users.columns}


def _plan(masks: MaskSet, column: str, verdict: ColumnVerdict | None = None, **changes: int) -> MaskPlan:
    oid, columns = _users(masks)
    number, kind = columns[column]
    described = FieldDescription(column, changes.get("oid", oid), changes.get("attnum", number), kind)
    statement = StatementVerdict(
        "select_stmt", StatementClass.READ, frozenset(), True, verdict and (verdict,)
    )
    return plan_columns([described], statement, masks, b"key")


def _only(plan: MaskPlan) -> Replacement:
    ((_, replacement),) = plan.replacements
    return replacement


def test_the_hash_is_stable_for_a_key_and_differs_between_keys(masks: MaskSet) -> None:
    oid, columns = _users(masks)
    described = FieldDescription("ssn", oid, *columns["ssn"])
    one, same, other = (_only(plan_columns([described], None, masks, key)) for key in (b"k", b"k", b"l"))
    assert callable(one)
    assert callable(same)
    assert callable(other)
    assert one(b"859") == same(b"859") != other(b"859")
    assert len(one(b"859") or b"") == 16


def test_a_masked_number_becomes_null_and_a_masked_text_its_methods_text(masks: MaskSet) -> None:
    assert _only(_plan(masks, "salary", ColumnVerdict(False, True))) is None
    assert _only(_plan(masks, "email", ColumnVerdict(False, True))) == b"***"
    assert _only(_plan(masks, "phone", ColumnVerdict(False, True))) is last4


def test_the_origin_masks_even_where_lineage_said_clear(masks: MaskSet) -> None:
    assert not _plan(masks, "email", ColumnVerdict(True)).idle


def test_lineage_masks_even_where_there_is_no_origin(masks: MaskSet) -> None:
    assert not _plan(masks, "name", ColumnVerdict(False), oid=0, attnum=0).idle


def test_a_column_without_origin_and_without_a_verdict_is_masked(masks: MaskSet) -> None:
    assert not _plan(masks, "name", None, oid=0, attnum=0).idle


def test_an_origin_that_the_catalog_does_not_know_is_masked(masks: MaskSet) -> None:
    assert not _plan(masks, "name", ColumnVerdict(True), oid=999_999).idle
    assert not _plan(masks, "name", ColumnVerdict(True), attnum=99).idle


def test_a_whole_row_of_a_table_with_masks_is_masked(masks: MaskSet) -> None:
    assert not _plan(masks, "name", None, attnum=0).idle


def test_a_computed_value_is_masked_in_full_and_does_not_stay_null(masks: MaskSet) -> None:
    _, columns = _users(masks)
    described = FieldDescription("x", 0, 0, columns["phone"][1])
    statement = _statement((ColumnVerdict(False, False),))
    plan = plan_columns([described], statement, masks, b"key")
    assert split_rows(rewrite_data_rows(data_row([None]), plan)) == [[b"***"]]
    assert split_rows(rewrite_data_rows(data_row([b"4"]), plan)) == [[b"***"]]


def test_a_result_of_another_width_than_the_verdict_is_masked_whole(masks: MaskSet) -> None:
    oid, columns = _users(masks)
    fields = [FieldDescription("name", oid, *columns["name"])] * 2
    statement = StatementVerdict(
        "select_stmt", StatementClass.READ, frozenset(), True, (ColumnVerdict(True),)
    )
    assert len(plan_columns(fields, statement, masks, b"key").replacements) == 2


def test_an_error_keeps_its_names_and_loses_its_values() -> None:
    fields = {
        "S": "ERROR",
        "C": "23505",
        "M": "duplicate key",
        "D": "Key (email)=(ada@x) already exists.",
        "n": "u",
    }
    told = scrub({**fields, "t": "users", "R": "_bt_check_unique"})
    assert "ada@x" not in str(told)
    assert told["C"] == "23505"
    assert '"u" of "users"' in told["M"]


def test_a_triggers_own_words_are_withheld_whatever_sqlstate_they_claim() -> None:
    told = scrub(
        {"S": "ERROR", "C": "42501", "M": "ada@x", "H": "ada@x", "n": "ada@x", "R": "exec_stmt_raise"}
    )
    assert "ada@x" not in str(told)


def test_a_syntax_error_is_told_as_it_is() -> None:
    fields = {
        "S": "ERROR",
        "C": "42703",
        "M": 'column "emial" does not exist',
        "H": 'Perhaps "email".',
        "P": "8",
    }
    assert scrub(fields) == fields


def test_a_syntax_error_inside_a_function_may_quote_a_value_that_it_put_together() -> None:
    fields = {
        "S": "ERROR",
        "C": "42601",
        "M": 'syntax error at or near "ada@x"',
        "W": "PL/pgSQL function keep() line 1 at EXECUTE",
        "q": "INSERT INTO trail VALUES (ada@x)",
    }
    assert "ada@x" not in str(scrub(fields))
