"""Promise 5, masked means masked, held by the reading of SQL alone (the wire is attacked elsewhere).

The corpus of ways round masking is in tests/proxy/sql/corpus and is run there against a real PostgreSQL; here
stands what must hold for every statement that can be written.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sql.catalog import Catalog
from proxy.sql.guard import StatementVerdict, read
from proxy.sql.mask import FieldDescription, plan_columns
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.rows import MaskPlan
from workflows.model import Mask

USERS, ORDERS = 100, 200
CATALOG = Catalog.build(
    [(USERS, "public", "users", "r"), (ORDERS, "public", "orders", "r")],
    [
        (USERS, 1, "id", 23, "int4", "N"),
        (USERS, 2, "email", 25, "text", "S"),
        (USERS, 3, "name", 25, "text", "S"),
        (ORDERS, 1, "id", 23, "int4", "N"),
        (ORDERS, 2, "note", 25, "text", "S"),
    ],
)
MASKS = resolve(CATALOG, [Mask("public.users", "email")])
fields = st.builds(
    FieldDescription,
    name=st.sampled_from(["email", "name", "x"]),
    table_oid=st.sampled_from([0, USERS, ORDERS, 999]),
    attnum=st.sampled_from([-1, 0, 1, 2, 3, 9]),
    type_oid=st.sampled_from([23, 25, 114, 17]),
    format=st.sampled_from([0, 1]),
)
STATEMENTS = [
    "SELECT email, name FROM users",
    "SELECT lower(email) AS name FROM users",
    "SELECT u FROM users u",
    "SELECT name FROM users UNION ALL SELECT email FROM users",
    "UPDATE users SET name = 'x' RETURNING email",
    "WITH w AS (SELECT email AS x FROM users) SELECT x || '' FROM w",
]


def _statement(text: str, masks: MaskSet = MASKS) -> StatementVerdict:
    verdict = read(text, masks)
    assert verdict.allowed
    return verdict.statements[0]


def _masked(plan: MaskPlan) -> set[int]:
    return {index for index, _ in plan.replacements}


@given(st.lists(fields, max_size=5), st.one_of(st.none(), st.sampled_from(STATEMENTS).map(_statement)))
def test_no_column_of_masked_or_unproved_origin_is_ever_shown(
    described: list[FieldDescription], statement: StatementVerdict | None
) -> None:
    masked = _masked(plan_columns(described, statement, MASKS, b"key"))
    for index, field in enumerate(described):
        whole_row = field.table_oid == USERS and field.attnum == 0
        unknown = field.table_oid == 999 or (field.table_oid in (USERS, ORDERS) and field.attnum == 9)
        if (field.table_oid, field.attnum) == (USERS, 2) or whole_row or unknown:
            assert index in masked
        if statement is None and field.table_oid == 0:
            assert index in masked


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_masked_column_is_masked_under_any_name_and_in_any_wrapping(text: str) -> None:
    columns = _statement(text).columns
    assert columns is not None
    described = [FieldDescription("anything", 0, 0, 25) for _ in columns]
    masked = _masked(plan_columns(described, _statement(text), MASKS, b"key"))
    assert 0 in masked


@pytest.mark.parametrize(
    "text",
    [
        "SELECT query_to_xml('SELECT email FROM users', true, false, '')",
        "SELECT * FROM dblink('x', 'SELECT email FROM users') AS t(e text)",
        "SELECT most_common_vals FROM pg_stats",
        "DO 'BEGIN END'",
        "INSERT INTO orders (note) SELECT email FROM users",
        "CREATE TABLE copy AS SELECT email FROM users",
        "COPY users TO STDOUT (ENCODING 'LATIN1')",
        "SELECT id FROM users WHERE email LIKE 'a%'",
        "SELECT id FROM users ORDER BY email",
        "SELECT email::int FROM users",
    ],
)
def test_what_cannot_be_masked_is_refused_with_a_reason(text: str) -> None:
    verdict = read(text, MASKS)
    assert verdict.action == "refuse"
    assert verdict.reason


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_a_text_that_cannot_be_read_does_not_run(text: str) -> None:
    verdict = read(f"SELECT email FROM users WHERE {text}", MASKS)
    if verdict.allowed:
        assert all(s.touches_masked for s in verdict.statements[:1])
        assert verdict.scrub_errors


def test_what_no_mask_covers_stays_clear() -> None:
    statement = _statement("SELECT id, note, upper(note) FROM orders")
    described = [FieldDescription("id", ORDERS, 1, 23), FieldDescription("note", ORDERS, 2, 25)]
    plan = plan_columns([*described, FieldDescription("upper", 0, 0, 25)], statement, MASKS, b"key")
    assert plan.idle
