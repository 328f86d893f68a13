"""Statements whose effect would go on when the session is cut and its grant is over."""

from __future__ import annotations

import pytest

from proxy.sql.guard import read
from proxy.sql.masked import MaskSet, resolve


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "PREPARE TRANSACTION 'later'",
        "BEGIN; DELETE FROM orders; PREPARE TRANSACTION 'later'",
        "prepare/**/transaction $$later$$",
        "END; PREPARE TRANSACTION 'later'; SELECT 1",
    ],
)
def test_a_transaction_is_not_prepared_to_be_committed_by_nobody_knows_whom(
    masks: MaskSet, text: str, masked: bool
) -> None:
    verdict = read(text, masks if masked else resolve(masks.catalog, ()))
    assert not verdict.allowed
    assert "outlive" in verdict.reason


@pytest.mark.parametrize("text", ["BEGIN", "COMMIT", "SAVEPOINT a", "PREPARE transaction AS SELECT 1"])
def test_other_transactions_and_a_statement_of_that_name_are_as_before(masks: MaskSet, text: str) -> None:
    assert read(text, masks).allowed
