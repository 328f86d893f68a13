"""What a role's guardrails decide on a text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from proxy.sql.guard import SessionNames, VerdictCache, read
from proxy.sql.guardrails import Allow, Circumstances, Hold, Judgement, Limits, Refuse, judge, worst_class
from proxy.sql.masked import MaskSet, resolve
from workflows.model import Action, Guardrail, Quorum, StatementClass

R, W, D, A, U = StatementClass
REFUSE, HOLD, ALLOW = Action.REFUSE, Action.HOLD, Action.ALLOW


@pytest.fixture
def unmasked(masks: MaskSet) -> MaskSet:
    return resolve(masks.catalog, ())


def rail(action: Action, *classes: StatementClass, name: str = "it", **more: Any) -> Guardrail:
    return Guardrail(name, action, frozenset(classes), **more)


def said(masks: MaskSet, text: str, *rails: Guardrail, where: Circumstances | None = None) -> Judgement:
    verdict = read(text, masks)
    assert verdict.allowed, verdict.reason
    return judge(verdict, rails, where)


def test_the_first_guardrail_that_fits_applies(unmasked: MaskSet) -> None:
    rails = (rail(ALLOW, D, kinds=frozenset({"truncate"})), rail(REFUSE, D, name="none-else"))
    assert said(unmasked, "TRUNCATE orders", *rails) == Allow()
    assert isinstance(said(unmasked, "DROP TABLE orders", *rails), Refuse)


def test_a_refusal_names_its_guardrail_and_tells_its_message(unmasked: MaskSet) -> None:
    judgement = said(unmasked, "TRUNCATE orders", rail(REFUSE, D, name="keep", message="Orders are kept."))
    assert judgement == Refuse("keep", "Orders are kept. (guardrail keep)")


def test_where_no_guardrail_fits_the_targets_own_rights_decide(unmasked: MaskSet) -> None:
    assert said(unmasked, "TRUNCATE orders", rail(REFUSE, A)) == Allow()
    assert said(unmasked, "TRUNCATE orders") == Allow()


@pytest.mark.parametrize("action", [REFUSE, HOLD])
@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM users", "SELECT 1 FROM contacts", "SELECT 1 FROM contacts_again", "DROP TABLE users",
        "DROP TABLE public.users, orders", "COMMENT ON TABLE users IS 'x'", "TRUNCATE orders, users",
        "DO 'BEGIN END'", "SELECT mail_of(1)", "DROP SCHEMA public CASCADE", "CREATE INDEX ON users (id)",
        "DROP TRIGGER x ON users", "EXPLAIN SELECT 1 FROM users", "PREPARE p AS SELECT 1 FROM users",
        "INSERT INTO names SELECT name FROM users", "COPY users TO STDOUT", "TABLE users",
        "ALTER TABLE users ADD x int", "GRANT SELECT ON users TO PUBLIC", "CREATE VIEW v AS TABLE users",
        "WITH users AS (SELECT 1) SELECT * FROM public.users",
    ],
)  # fmt: skip
def test_a_strict_guardrail_on_a_table_fits_wherever_the_table_may_be_touched(
    text: str, action: Action, unmasked: MaskSet
) -> None:
    strict = rail(action, tables=("public.users",), quorum=(Quorum("dba"),))
    assert isinstance(said(unmasked, text, strict), Refuse | Hold)


@pytest.mark.parametrize(
    "text", ["SELECT * FROM orders", "SELECT 1", "DELETE FROM orders WHERE id = 1", "SHOW x"]
)
def test_a_guardrail_on_a_table_does_not_fit_elsewhere(text: str, unmasked: MaskSet) -> None:
    assert said(unmasked, text, rail(REFUSE, tables=("public.users",))) == Allow()


def test_a_guardrail_on_a_parent_fits_its_partition_and_the_other_way_round(unmasked: MaskSet) -> None:
    assert isinstance(said(unmasked, "TABLE events_a", rail(REFUSE, tables=("public.events",))), Refuse)
    assert isinstance(said(unmasked, "TABLE events", rail(REFUSE, tables=("public.events_a",))), Refuse)
    assert said(unmasked, "TABLE events_b", rail(REFUSE, tables=("public.events_a",))) == Allow()


def test_a_star_stands_for_any_run_of_characters_within_a_part_of_a_name(unmasked: MaskSet) -> None:
    assert isinstance(said(unmasked, "TABLE orders", rail(REFUSE, tables=("public.ord*",))), Refuse)
    assert isinstance(said(unmasked, "TABLE orders", rail(REFUSE, tables=("*.*",))), Refuse)
    assert said(unmasked, "TABLE orders", rail(REFUSE, tables=("evil.*",))) == Allow()


def test_an_allowing_guardrail_fits_only_when_every_table_is_among_its_own(unmasked: MaskSet) -> None:
    rails = (rail(ALLOW, tables=("public.orders",)), rail(REFUSE))
    assert said(unmasked, "SELECT * FROM orders", *rails) == Allow()
    for text in (
        "SELECT * FROM orders, users",
        "SELECT 1",
        "DO 'BEGIN END'",
        "SELECT mail_of(id) FROM orders",
    ):
        assert isinstance(said(unmasked, text, *rails), Refuse), text


def test_a_strict_guardrail_sees_the_class_of_every_part(unmasked: MaskSet) -> None:
    text = "WITH d AS (DELETE FROM orders WHERE id = 1 RETURNING 1) SELECT * FROM users"
    strict = rail(REFUSE, R, tables=("public.users",))
    assert isinstance(said(unmasked, text, strict), Refuse)
    assert isinstance(said(unmasked, text + "; SELECT 1", strict), Refuse)
    assert said(unmasked, "INSERT INTO users (id) VALUES (9)", strict) == Allow()


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("SELECT salary FROM users", True), ("SELECT * FROM users", True), ("SELECT u FROM users u", True),
        ("SELECT 1 FROM users WHERE salary > 5", True), ("UPDATE users SET salary = 1 WHERE id = 1", True),
        ("SELECT a FROM users AS u (a)", True), ("SELECT 1 FROM users NATURAL JOIN names", True),
        ("SELECT name FROM users", False), ("SELECT salary FROM people, (SELECT 1 AS salary) x", False),
        ("INSERT INTO users VALUES (9)", True), ("INSERT INTO users (id) VALUES (9)", False),
        ("COPY users TO STDOUT", True), ("SELECT * FROM contacts", False),
        ("SELECT salary FROM contacts", False),
    ],
)  # fmt: skip
def test_a_guardrail_on_a_column_fits_where_the_column_may_be_meant(
    text: str, fits: bool, unmasked: MaskSet
) -> None:
    judgement = said(unmasked, text, rail(REFUSE, columns=("public.users.salary",)))
    assert isinstance(judgement, Refuse) is fits


def test_a_guardrail_on_a_column_fits_a_view_that_shows_it_by_another_name(unmasked: MaskSet) -> None:
    assert isinstance(
        said(unmasked, "SELECT mail FROM contacts", rail(REFUSE, columns=("public.users.email",))), Refuse
    )


def test_a_guardrail_asks_whether_a_change_is_bounded(unmasked: MaskSet) -> None:
    unbounded = rail(HOLD, bounded=False)
    assert isinstance(said(unmasked, "DELETE FROM orders", unbounded), Hold)
    assert said(unmasked, "DELETE FROM orders WHERE id = 1", unbounded) == Allow()
    assert said(unmasked, "SELECT 1", unbounded) == Allow()
    assert isinstance(said(unmasked, "DO 'BEGIN END'", unbounded), Hold)


def test_every_statement_of_a_text_is_judged_and_the_strictest_answer_counts(unmasked: MaskSet) -> None:
    dba, boss = Quorum("dba", 1), Quorum("boss", 2)
    rails = (
        rail(HOLD, W, name="a", quorum=(dba,), hold_for=timedelta(minutes=9)),
        rail(HOLD, D, name="b", quorum=(boss, Quorum("dba", 2)), hold_for=timedelta(minutes=5)),
        rail(REFUSE, A, name="c"),
    )
    held = said(unmasked, "SELECT 1; INSERT INTO names VALUES ('x'); TRUNCATE orders", *rails)
    assert isinstance(held, Hold)
    assert (held.rule, held.hold_for) == ("a, b", timedelta(minutes=5))
    assert held.quorum == (Quorum("dba", 2), boss)
    assert isinstance(said(unmasked, "TRUNCATE orders; VACUUM", *rails), Refuse)


def test_limits_of_all_that_applies_add_up_to_the_tightest(unmasked: MaskSet) -> None:
    rails = (
        rail(ALLOW, R, row_limit=100, timeout=timedelta(seconds=9)),
        rail(ALLOW, W, row_limit=5),
    )
    judgement = said(unmasked, "SELECT 1; INSERT INTO names VALUES ('x')", *rails)
    assert judgement == Allow(Limits(5, timedelta(seconds=9)))


def test_what_an_execute_runs_counts_as_if_it_stood_there(unmasked: MaskSet) -> None:
    names = SessionNames()
    names.note(read("PREPARE p AS DELETE FROM users", unmasked).statements[0])
    where = Circumstances(prepared=names.known)
    strict = rail(REFUSE, D, tables=("public.users",))
    assert isinstance(said(unmasked, "EXECUTE p", strict, where=where), Refuse)
    assert isinstance(said(unmasked, "EXPLAIN ANALYZE EXECUTE p", strict, where=where), Refuse)
    assert isinstance(said(unmasked, "CREATE TABLE x AS EXECUTE p", strict, where=where), Refuse)
    assert worst_class(read("EXECUTE p", unmasked), where) is D
    names.catalog_changed()
    assert isinstance(said(unmasked, "EXECUTE p", strict, where=Circumstances(prepared=names.known)), Refuse)


def test_an_execute_of_an_unknown_name_may_be_anything(unmasked: MaskSet) -> None:
    assert isinstance(said(unmasked, "EXECUTE nobody"), Refuse)
    assert said(unmasked, "PREPARE p AS SELECT 1; EXECUTE p") == Allow()


CONDITION = "statement.tables.exists(t, t.startsWith('public.us')) && role == 'support'"


def test_a_condition_sees_the_statement_and_the_role(unmasked: MaskSet) -> None:
    strict = rail(REFUSE, when=CONDITION)
    support = Circumstances(role="support")
    assert isinstance(said(unmasked, "TABLE users", strict, where=support), Refuse)
    assert said(unmasked, "TABLE users", strict, where=Circumstances(role="dba")) == Allow()
    assert said(unmasked, "TABLE orders", strict, where=support) == Allow()


def test_a_condition_that_fails_counts_against_the_statement(unmasked: MaskSet) -> None:
    broken = "statement.nothing == 1"
    assert isinstance(said(unmasked, "TABLE users", rail(REFUSE, when=broken)), Refuse)
    assert isinstance(said(unmasked, "TABLE users", rail(ALLOW, when=broken), rail(REFUSE)), Refuse)


def test_a_function_that_policy_vouches_for_counts_as_read(unmasked: MaskSet) -> None:
    from proxy.sql.guard import Settings

    trusting = Settings(trusted_functions=frozenset({"public.mail_of"}))
    assert read("SELECT public.mail_of(1)", unmasked, trusting).statement_class is R
    assert read("SELECT evil.mail_of(1)", unmasked, trusting).statement_class is D


def test_a_syntax_error_never_quotes_what_somebody_else_sent(unmasked: MaskSet) -> None:
    cache = VerdictCache(unmasked)
    assert "4711" in cache.read(b"SELECT users WHERE 1 4711").reason
    assert "4711" not in cache.read(b"SELECT users WHERE 1 5").reason


def test_a_bound_that_depends_on_a_constant_is_kept_for_that_text_only(unmasked: MaskSet) -> None:
    cache = VerdictCache(unmasked)
    assert cache.read(b"DELETE FROM stock WHERE id > 5").statement_class is W
    assert cache.read(b"DELETE FROM stock WHERE id > 0").statement_class is D
    assert cache.read(b"DELETE FROM stock WHERE name LIKE 'a%'").statement_class is W
    assert cache.read(b"DELETE FROM stock WHERE name LIKE '%'").statement_class is D
    narrow = b"DELETE FROM stock WHERE id IN (SELECT id FROM stock LIMIT %d)"
    assert cache.read(narrow % 5).statement_class is W
    assert cache.read(narrow % 50_000).statement_class is D
    assert len({id(cache.read(b"DELETE FROM stock WHERE id = %d" % n)) for n in range(5)}) == 1


ON_CARDS = {"tables": frozenset({"public.cards"})}


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM keepers WHERE id = 1", "TRUNCATE keepers CASCADE", "DROP INDEX cards_key",
        "ALTER INDEX cards_key RENAME TO x", "REINDEX INDEX public.cards_key", "TRUNCATE users CASCADE",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", "ALTER DOMAIN loud_number DROP NOT NULL",
        "ALTER SCHEMA public RENAME TO x", "CREATE PUBLICATION p FOR ALL TABLES", "VACUUM FULL",
        "MERGE INTO keepers k USING (VALUES (1)) v(id) ON k.id = v.id WHEN MATCHED THEN DELETE",
        "WITH d AS (DELETE FROM keepers WHERE id = 1 RETURNING 1) SELECT * FROM d",
    ],
)  # fmt: skip
def test_a_guardrail_on_a_table_meets_what_reaches_it_by_keys_indexes_or_all_at_once(
    unmasked: MaskSet, text: str
) -> None:
    assert isinstance(said(unmasked, text, rail(REFUSE, **ON_CARDS)), Refuse)
    assert isinstance(said(unmasked, text, rail(REFUSE, D, W, A, **ON_CARDS)), Refuse)


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM orders WHERE id = 1", "TRUNCATE notes", "TRUNCATE notes CASCADE", "DROP INDEX users_ssn",
        "UPDATE keepers SET name = 'x' WHERE id = 1", "SELECT * FROM keepers",
        "GRANT SELECT ON orders TO PUBLIC",
        "CREATE TYPE mood AS ENUM ('a')",
    ],
)  # fmt: skip
def test_a_guardrail_on_a_table_leaves_alone_what_does_not_reach_it(unmasked: MaskSet, text: str) -> None:
    assert said(unmasked, text, rail(REFUSE, **ON_CARDS)) == Allow()


def test_a_leave_for_a_table_is_none_for_those_that_its_keys_take_along(unmasked: MaskSet) -> None:
    rails = (rail(ALLOW, tables=frozenset({"public.keepers"})), rail(REFUSE, name="none-else"))
    assert said(unmasked, "SELECT * FROM keepers", *rails) == Allow()
    assert isinstance(said(unmasked, "DELETE FROM keepers WHERE id = 1", *rails), Refuse)
