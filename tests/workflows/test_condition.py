"""Conditions of guardrails: what is wrong with one is found when the policy is read."""

from __future__ import annotations

import pytest

from workflows.condition import LONGEST, Broken, check, holds

FACTS = {
    "statement": {
        "class": "write", "classes": ["read", "write"], "kind": "update", "kinds": ["update"],
        "tables": ["public.users"], "bounded": True, "opaque": False,
    },
    "principal": "ada", "resource": "prod-db", "role": "support",
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "statement.class == 'write'",
        "statement.bounded == false",
        "'delete' in statement.kinds && role != 'dba'",
        "statement.tables.exists(t, t.startsWith('hr.') || t.matches('^audit[.]'))",
        "size(statement.tables) > 3 || statement.opaque",
        "principal in ['ada', 'grace'] && resource == 'prod-db'",
    ],
)
def test_a_condition_over_the_statement_and_who_sends_it_is_good(text: str) -> None:
    check(text)
    assert isinstance(holds(text, FACTS), bool)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("statement.class ==", "mismatched input"),
        ("statement.cls == 'write'", "has no “cls”"),
        ("role == 'x' && statement.cls == 'write'", "has no “cls”"),
        ("time > 5", "time"),
        ("role", "not true or false"),
        ("!statement.bounded", "overload"),
        ("statement.kind + 1 == 2", "string . int"),
        ("sleep(5)", "no function “sleep”"),
        ("", "no CEL|Syntax|mismatched"),
        ("(" * 1900, "no CEL|Syntax|recursion"),
        ("true || " * LONGEST, "longer than"),
    ],
)
def test_a_broken_condition_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(Broken, match=why):
        check(text)
    assert holds(text, FACTS) in (None, True, False)


def test_a_condition_that_cannot_be_evaluated_is_neither_true_nor_false() -> None:
    assert holds("statement.tables[7] == 'x'", FACTS) is None
    assert holds("statement.class", FACTS) is None
