"""Random queries against a real PostgreSQL: what the guard lets through shows no piece of a masked value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.proxy.sql.door import Door, leaks

COLUMNS = [
    *["u.email", "email", "u.name", "u.phone", "u.ssn", "u.nickname", "u.initials", "c.mail", "n.name"],
    *["o.note", "u.salary::text", "(u).email", "u::text", "'x'"],
]
WRAPS = [
    *["lower({})", "upper({})", "left({}, 6)", "reverse({})", "({})::text", "coalesce({}, '')", "md5({})"],
    *["concat({}, '!')", "({} || '.')", "nullif({}, 'q')", "quote_literal({})", "substr({}, 2, 9)"],
    *["(SELECT {})", "(ARRAY[{}])[1]", "CASE WHEN u.id = 1 THEN {} ELSE 'n' END", "to_json({})::text"],
    *["replace({}, 'a', 'b')", "split_part({}, '@', 1)", "string_agg({}, ',')", "first_value({}) OVER ()"],
    *["greatest({}, '')", "(SELECT max(z) FROM (SELECT {} AS z) y)", "format('%s', {})", "max({})"],
    *["xmlelement(name e, {})::text", "row_to_json(ROW({}))::text", "encode({}::bytea, 'hex')"],
    *["repeat({}, 2)", '({} COLLATE "C")'],
]

texts = st.recursive(
    st.sampled_from(COLUMNS),
    lambda inner: st.one_of(
        st.builds(str.format, st.sampled_from(WRAPS), inner),
        st.builds("concat({}, {})".format, inner, inner),
        st.builds("CASE WHEN {} = {} THEN {} END".format, inner, inner, inner),
    ),
    max_leaves=4,
)
FROM = "users u JOIN contacts c ON c.id = u.id LEFT JOIN orders o ON o.user_id = u.id CROSS JOIN names n"
conditions = st.one_of(
    st.just("true"),
    st.builds("{} = {}".format, texts, texts),
    st.builds("{} IS NULL".format, texts),
    st.builds("{} IN ('a', {})".format, texts, texts),
    st.builds("{} LIKE 'z%'".format, texts),
)


@st.composite
def selects(draw: st.DrawFn) -> str:
    outputs = ", ".join(f"{draw(texts)} AS k{i}" for i in range(draw(st.integers(1, 3))))
    query = f"SELECT {outputs} FROM {FROM} WHERE {draw(conditions)}"
    return draw(
        st.sampled_from(
            [
                query,
                f"SELECT k0 || '' FROM ({query}) s",
                f"WITH w AS ({query}) SELECT lower(k0), w FROM w",
                f"WITH RECURSIVE r(a, d) AS (SELECT k0, 1 FROM ({query}) s "
                "UNION ALL SELECT a || '', d + 1 FROM r WHERE d < 2) SELECT * FROM r",
                f"SELECT name FROM names UNION ALL SELECT k0 FROM ({query}) s",
                f"SELECT x.k0 FROM names, LATERAL ({query}) x",
                f"SELECT (SELECT string_agg(k0, '') FROM ({query}) s)",
                f"SELECT to_json(s) FROM ({query}) s",
                f"SELECT n2.name, s.* FROM names n2 JOIN ({query}) s ON n2.name = s.k0",
                f"INSERT INTO notes (body) SELECT k0 FROM ({query}) s RETURNING body",
                f"PREPARE p AS {query}",
            ]
        )
    )


@pytest.fixture(scope="module")
def door(sample: str) -> Iterator[Door]:
    open_door = Door(sample)
    yield open_door
    open_door.close()


@settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(selects())
@example(f"SELECT left(email, 6) AS k0 FROM {FROM}")
def test_a_random_query_that_is_let_through_shows_no_piece_of_a_masked_value(door: Door, query: str) -> None:
    door.seen.clear()
    door.wire.exec_(b"BEGIN")
    try:
        verdict = door.send(query)
        if verdict.allowed and query.startswith("PREPARE"):
            door.send("EXECUTE p")
    finally:
        door.wire.exec_(b"ROLLBACK")
        door.wire.exec_(b"DEALLOCATE ALL")
        door.names.known.clear()
    assert leaks(door.seen) == set()
    assume(verdict.allowed)
