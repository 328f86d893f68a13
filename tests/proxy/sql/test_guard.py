"""Verdicts: what they say, how they are kept, and how names of a session carry them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sql.catalog import Catalog
from proxy.sql.guard import SessionNames, Settings, VerdictCache, read
from proxy.sql.masked import MaskSet, resolve
from workflows.model import Mask


def shown(text: str, masks: MaskSet) -> str:
    """One letter a column: c clear, m the mask's own method, x masked in full."""
    columns = read(text, masks).statements[0].columns
    assert columns is not None
    return "".join("c" if c.clear else "m" if c.plain else "x" for c in columns)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT id, email, lower(email), name FROM users", "cmxc"),
        ("SELECT * FROM contacts", "ccmc"),
        ("SELECT u, u.id FROM users u", "xc"),
        ("SELECT email FROM users UNION ALL SELECT email FROM users", "m"),
        ("SELECT email FROM users UNION ALL SELECT name FROM users", "x"),
        ("WITH t(a, b) AS (SELECT id, email FROM users) SELECT b, a FROM t", "mc"),
        ("SELECT count(*), count(email), max(email) FROM users", "ccx"),
        ("SELECT email = 'a', email IS NULL, email = name FROM users", "ccx"),
        ("UPDATE users SET name = 'x' WHERE id = 1 RETURNING id, email", "cm"),
        ("EXPLAIN SELECT email FROM users", "c"),
        (
            "SELECT o.id, s.e FROM orders o, LATERAL (SELECT email e FROM users u WHERE u.id = o.user_id) s",
            "cm",
        ),
    ],
)
def test_each_column_is_clear_only_where_no_masked_one_flows_in(
    text: str, expected: str, masks: MaskSet
) -> None:
    assert shown(text, masks) == expected


def test_a_refusal_says_which_rule_and_what_to_do(masks: MaskSet) -> None:
    verdict = read("COPY users TO STDOUT (ENCODING 'LATIN1')", masks)
    assert verdict.action == "refuse"
    assert verdict.sqlstate == "42501"
    assert "ENCODING" in verdict.reason
    assert "CSV" in verdict.hint


def test_an_unknown_table_asks_for_a_fresh_catalog(masks: MaskSet) -> None:
    assert read("SELECT * FROM made_since", masks).stale
    assert read("CREATE TABLE made_since (a int)", masks).changes_catalog


def test_errors_are_scrubbed_for_statements_that_touch_a_masked_table_and_at_commit(masks: MaskSet) -> None:
    assert read("SELECT id FROM users", masks).scrub_errors
    assert read("SELECT n FROM headcount", masks).scrub_errors
    assert read("COMMIT", masks).scrub_errors
    assert not read("SELECT id FROM orders", masks).scrub_errors


def test_a_mask_on_a_table_that_is_not_there_refuses_everything(catalog: Catalog) -> None:
    verdict = read("SELECT 1", resolve(catalog, [Mask("public.gone", "email")]))
    assert not verdict.allowed
    assert "public.gone" in verdict.reason


def test_a_mask_on_a_column_that_is_not_there_masks_the_whole_table(catalog: Catalog) -> None:
    assert shown("SELECT id, body FROM notes", resolve(catalog, [Mask("public.notes", "text")])) == "mm"


def test_a_name_that_several_schemas_have_must_be_qualified_when_one_is_masked(catalog: Catalog) -> None:
    masks = resolve(catalog, [Mask("evil.people", "email")])
    assert "schema" in read("SELECT * FROM people", masks).hint
    assert read("SELECT id FROM public.people", masks).allowed


def test_tables_are_told_with_their_schema(masks: MaskSet) -> None:
    tables = read("WITH t AS (SELECT 1) SELECT * FROM t, orders, nowhere.x", masks).tables
    assert tables == {"public.orders", "nowhere.x"}


def test_verdicts_are_kept_by_the_blanked_text(masks: MaskSet) -> None:
    cache = VerdictCache(masks)
    first = cache.read(b"SELECT id FROM users WHERE email = 'a' AND id = 1")
    assert cache.read(b"SELECT id FROM users WHERE email = 'b' AND id = 2") is first


@pytest.mark.parametrize(
    ("harmless", "harmful"),
    [
        (b"SELECT id, email FROM users ORDER BY 1", b"SELECT id, email FROM users ORDER BY 2"),
        (b"SELECT set_config('a.b', 'x', false)", b"SELECT set_config('role', 'x', false)"),
        (b"SET client_encoding = 'UTF8'", b"SET client_encoding = 'SJIS'"),
        (b"SET search_path = 'public'", b"SET search_path = 'pg_temp'"),
        (
            b"SELECT id, left(email, 1) FROM users GROUP BY 1",
            b"SELECT id, left(email, 1) FROM users GROUP BY 2",
        ),
    ],
)
def test_a_verdict_that_hangs_on_a_constant_is_kept_for_that_text_only(
    harmless: bytes, harmful: bytes, masks: MaskSet
) -> None:
    cache = VerdictCache(masks)
    cache.read(harmless)
    assert not cache.read(harmful).allowed
    assert not cache.read(harmful).allowed
    assert cache.read(harmless).allowed == read(harmless, masks).allowed


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60))
def test_the_cache_never_grows_beyond_its_size_and_never_changes_an_answer(
    masks: MaskSet, picks: list[int]
) -> None:
    cache = VerdictCache(masks, size=8)
    for pick in picks:
        text = f"SELECT id AS c{pick}, email FROM users ORDER BY {pick % 3}".encode()
        assert cache.read(text) == read(text, masks)
        assert len(cache._kept) <= 8


def test_execute_and_fetch_give_what_was_prepared_or_declared(masks: MaskSet) -> None:
    names = SessionNames()
    names.note(read("PREPARE p AS SELECT id, lower(email) FROM users", masks).statements[0])
    execute = read("EXECUTE p", masks).statements[0]
    resolved = names.resolve(execute)
    assert resolved.columns is not None
    assert [c.clear for c in resolved.columns] == [True, False]


def test_a_name_given_again_is_forgotten_first(masks: MaskSet) -> None:
    names = SessionNames()
    execute = read("EXECUTE p", masks).statements[0]
    names.note(read("PREPARE p AS SELECT id FROM users", masks).statements[0])
    names.note(read("DEALLOCATE p", masks).statements[0])
    assert names.resolve(execute).columns is None
    names.note(read("PREPARE p AS SELECT id FROM users", masks).statements[0])
    names.parsed("p", read("SELECT lower(email) FROM users", masks).statements[0])
    resolved = names.resolve(execute).columns
    assert resolved is not None
    assert not resolved[0].clear


def test_a_session_that_reads_backslashes_the_old_way_gets_none_through(masks: MaskSet) -> None:
    old = Settings(standard_conforming_strings=False)
    assert not read(r"SELECT 'a\' || email || '" + "'", masks, old).allowed


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_get_a_verdict(masks: MaskSet, text: bytes) -> None:
    assert read(text, masks).action in ("allow", "refuse")


@pytest.mark.parametrize(
    "text",
    [
        "SET standard_conforming_strings = off", "SET standard_conforming_strings TO 'off'",
        "SET LOCAL client_encoding = 'SJIS'", "SET NAMES 'GBK'", "SET client_encoding TO DEFAULT, 'SJIS'",
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        "SELECT set_config('standard_' || 'conforming_strings', 'off', false)",
        "SELECT set_config(name, 'off', false) FROM names", "SELECT 1 WHERE set_config($1, $2, true) = ''",
        "SELECT set_config(new_value => 'SJIS', setting_name => 'client_encoding', is_local => false)",
        "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
        "UPDATE pg_catalog.pg_settings SET setting = 'off'",
        "EXPLAIN ANALYZE SELECT set_config('client_encoding', 'SJIS', false)",
    ],
)  # fmt: skip
def test_no_guarded_session_changes_how_its_text_is_read(text: str, masks: MaskSet) -> None:
    for masked in (masks, resolve(masks.catalog, ())):
        assert not read(text, masked).allowed


@pytest.mark.parametrize(
    "text",
    [
        "SET standard_conforming_strings = on", "SET client_encoding = 'UTF8'", "SET NAMES 'utf-8'",
        "RESET client_encoding", "SELECT set_config('search_path', '', false)", "SET search_path = public",
        "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'x'",
    ],
)  # fmt: skip
def test_a_setting_that_leaves_texts_as_they_are_may_be_set(text: str, masks: MaskSet) -> None:
    for masked in (masks, resolve(masks.catalog, ())):
        assert read(text, masked).allowed
