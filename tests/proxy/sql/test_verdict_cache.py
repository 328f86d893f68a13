"""The verdict cache: what one text was allowed must not be lent to another that only looks like it.

For each kind of text whose literals cannot be found without a real lexer there is an attack: a harmless text
is read first, then a harmful one to which a simpler cache would give the same key.
"""

from __future__ import annotations

import re
from itertools import permutations

import pytest

from proxy.postgres.picture import Picture, Pictures
from proxy.postgres.reading import Reading
from proxy.sql.guard import Verdict, VerdictCache, read
from proxy.sql.guardrails import Allow, judge
from proxy.sql.masked import MaskSet, resolve
from tests.proxy.sql.live import MASKS
from workflows.model import Action, Guardrail, StatementClass, Terms

_NUMBER = r"|(?<![\w.$])[0-9]+(?:\.[0-9]+)?(?![\w.$])"
NAIVE = re.compile("'(?:[^']|'')*'" + _NUMBER)
"""Strings by the standard, and numbers; nothing else is known."""
ESCAPING = re.compile(r"'(?:[^'\\]|\\.|'')*'" + _NUMBER)
"""The same where a backslash escapes."""

# Written with NAME where one reads the name, and the other the masked address.
HIDING = {
    "a backslash": (r"SELECT '\', NAME, '\' FROM users", ESCAPING),
    "an escape string": (r"SELECT E'\'', NAME, E'\'' FROM users", NAIVE),
    "a string with unicode escapes": (r"SELECT U&'\0027', NAME, U&'\0027' FROM users", ESCAPING),
    "a national string": (r"SELECT N'\', NAME, N'\' FROM users", ESCAPING),
    "a dollar quote": ("SELECT $$'$$, NAME, $$'$$ FROM users", NAIVE),
    "a tagged dollar quote": ("SELECT $a$'$a$, NAME, $a$'$a$ FROM users", NAIVE),
    "a line comment": ("SELECT 1 --'\n, NAME --'\nFROM users", NAIVE),
    "a comment": ("SELECT 1 /*'*/, NAME /*'*/ FROM users", NAIVE),
    "a nested comment": ("SELECT 1 /* /*'*/ */, NAME /*'*/ FROM users", NAIVE),
    "a quoted name": ("""SELECT 1 AS "'", NAME AS "'" FROM users""", NAIVE),
}


def shows(verdict: Verdict) -> bool:
    """Whether a column that is computed from a masked one would come out."""
    columns = [column for statement in verdict.statements for column in statement.columns or ()]
    return verdict.allowed and all(column.clear for column in columns)


@pytest.mark.parametrize("name", sorted(HIDING))
def test_what_hides_literals_lends_no_verdict(name: str, masks: MaskSet) -> None:
    text, simpler = HIDING[name]
    harmless, harmful = text.replace("NAME", "name"), text.replace("NAME", "lower(email)")
    if "\\0027" not in text:
        assert simpler.sub("''", harmless) == simpler.sub("''", harmful), "the attack would deceive nobody"
    for first, second in permutations((harmless, harmful)):
        cache, reading = VerdictCache(masks), _reading(masks)
        for one in (first, second, first):
            assert cache.read(one.encode()) == read(one, masks)
            assert reading.verdict(one.encode()) == read(one, masks)
    assert shows(read(harmless, masks))
    assert not shows(read(harmful, masks))


def _reading(masks: MaskSet, *rails: Guardrail) -> Reading:
    """As a session has it, with its own shorter key in front of the cache."""
    picture = Picture("stamp", masks.catalog)
    return Reading(Pictures(), picture, Terms(masks=() if rails else MASKS, guardrails=rails), b"k" * 32, 0.0)


# Rules that look at a constant's value: blanked, these pairs are one text.
VALUED = [

    ("UPDATE stock SET name = 'x' WHERE id < 5", "UPDATE stock SET name = 'x' WHERE id < 2147483647"),
    ("DELETE FROM stock WHERE id >= 500", "DELETE FROM stock WHERE id >= 0"),
    ("DELETE FROM stock WHERE name LIKE 'a%'", "DELETE FROM stock WHERE name LIKE '%'"),
    ("DELETE FROM stock WHERE added < '2024-01-01'", "DELETE FROM stock WHERE added < '9999-01-01'"),
    ("DELETE FROM stock WHERE id BETWEEN 5 AND 6", "DELETE FROM stock WHERE id BETWEEN 0 AND 9999999"),
    (
        "DELETE FROM stock WHERE id IN (SELECT id FROM stock LIMIT 10)",
        "DELETE FROM stock WHERE id IN (SELECT id FROM stock LIMIT 99999999)",
    ),
    ("DELETE FROM stock WHERE tags @> '{\"colour\": \"red\"}'", "DELETE FROM stock WHERE tags @> '{}'"),
    ("SELECT set_config('app.x', '1', false)", "SELECT set_config('role', '1', false)"),
    (
        "SELECT set_config('timezone', 'UTC', false)",
        "SELECT set_config('standard_conforming_strings', 'off', false)",
    ),
    ("SELECT set_config('app.x', 'none', false)", "SELECT set_config('log_statement', 'none', false)"),
    (
        "DELETE FROM stock WHERE date_trunc('day', added) = '2024-01-01'",
        "DELETE FROM stock WHERE date_trunc('century', added) = '2001-01-01'",
    ),
    ("SET timezone = 'UTC'", "SET timezone = 'CET'"),
    ("SET client_encoding = 'UTF8'", "SET client_encoding = 'SJIS'"),
]  # fmt: skip
KEYED = "SELECT id, left(email, 1) FROM users"
DANGEROUS = frozenset(StatementClass) - {StatementClass.READ, StatementClass.WRITE}
DANGER = Guardrail("no-danger", Action.REFUSE, DANGEROUS)


@pytest.mark.parametrize(("harmless", "harmful"), VALUED)
def test_a_rule_that_reads_a_constant_lends_no_verdict(harmless: str, harmful: str, masks: MaskSet) -> None:
    plain = resolve(masks.catalog, ())
    assert NAIVE.sub("''", harmless).replace("CET", "UTC") == NAIVE.sub("''", harmful)
    for first, second in permutations((harmless, harmful)):
        cache, reading = VerdictCache(plain), _reading(plain, DANGER)
        for one in (first, second, first):
            fresh = read(one, plain)
            assert cache.read(one.encode()) == fresh
            passes = fresh.allowed and isinstance(judge(fresh, (DANGER,)), Allow)
            assert (reading.verdict(one.encode()).action == "allow") == passes
    assert read(harmless, plain).allowed


@pytest.mark.parametrize(
    ("harmless", "harmful"),
    [
        ("SELECT id, lower(email) FROM users ORDER BY 1", "SELECT id, lower(email) FROM users ORDER BY 2"),
        (f"{KEYED} GROUP BY 1, 1", f"{KEYED} GROUP BY 1, 2"),
        (f"{KEYED} GROUP BY ROLLUP (1)", f"{KEYED} GROUP BY ROLLUP (2)"),
        (KEYED.replace("id,", "DISTINCT ON (1) id,"), KEYED.replace("id,", "DISTINCT ON (2) id,")),
        ("SELECT replace(phone, 'ab', 'c') FROM users", "SELECT replace(phone, 'a', 'bcd') FROM users"),
        ("SELECT format('%s', salary, 'x') FROM users", "SELECT format('%*s', salary, 'x') FROM users"),
        (
            "SELECT min(id), 1 FROM users GROUP BY email ORDER BY 1 LIMIT 5",
            "SELECT min(id), 1 FROM users GROUP BY email ORDER BY 2 LIMIT 5",
        ),
        ("SET search_path = 'public'", "SET search_path = 'public, pg_temp'"),
        ("COPY users TO STDOUT (FORMAT 'text')", "COPY users TO STDOUT (FORMAT 'csv')"),
        ("COPY users TO STDOUT (NULL 'a')", "COPY users TO STDOUT (NULL 'b')"),
    ],
)  # fmt: skip
def test_a_constant_that_decides_about_a_mask_lends_no_verdict(
    harmless: str, harmful: str, masks: MaskSet
) -> None:
    for first, second in permutations((harmless, harmful)):
        cache, reading = VerdictCache(masks), _reading(masks)
        for one in (first, second, first):
            assert cache.read(one.encode()) == read(one, masks)
            assert reading.verdict(one.encode()) == read(one, masks)
    assert read(harmless, masks).allowed
    assert read(harmful, masks) != read(harmless, masks)


def test_a_cache_without_these_rules_would_have_lent_them() -> None:
    """The attacks are attacks: by a key that blanks all it can, each pair is one text."""
    for text, simpler in HIDING.values():
        if "\\0027" not in text:
            assert "lower(email)" not in simpler.sub("''", text.replace("NAME", "lower(email)"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("active IN ('t', 't')", "active IN ('t', 'f')"),
        ("active = ANY ('{t,t}')", "active = ANY ('{t,f}')"),
        ("active = 't' OR active = 't'", "active = 't' OR active = 'f'"),
        ("name ~ 'x'", "name ~ 'x*'"),
        ("name LIKE ANY ('{a}')", "name LIKE ANY ('{%}')"),
        ("extract('year' FROM added) = 1", "extract('hour' FROM added) = 1"),
        ("date_part('year', added) < 2001", "date_part('year', added) < 9999"),
        ("added > now() - '1 day'::interval", "added > now() - '900 years'::interval"),
        ("added > CURRENT_DATE - 3", "added > CURRENT_DATE - 300000"),
        ("tags @> '{\"a\": 1}'", "tags @> '{ }'"),
        ("id BETWEEN SYMMETRIC 9 AND 3", "id BETWEEN SYMMETRIC 9999999 AND 0"),
        ("id IN (SELECT id FROM stock LIMIT 5)", "id IN (SELECT id FROM stock LIMIT 50000)"),
        ("ctid < '(5,0)'", "ctid < '(4294967295,0)'"),
    ],
)
def test_a_bounded_text_lends_no_verdict_to_one_of_its_shape_that_is_not(
    first: str, second: str, masks: MaskSet
) -> None:
    unmasked = resolve(masks.catalog, ())
    first, second = (f"DELETE FROM stock WHERE {where}" for where in (first, second))
    for one, other in permutations((first, second)):
        cache = VerdictCache(unmasked)
        for text in (one, other, one):
            assert cache.read(text.encode()) == read(text, unmasked)
    bounded = [read(text, unmasked).statements[0].traits.bounded for text in (first, second)]
    assert bounded == [True, False]
