"""The guardrails' part of the scored corpus: what must be held or refused, and what must not be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import yaml

from proxy.sql.guard import read
from proxy.sql.guardrails import Allow, judge
from proxy.sql.masked import MaskSet, resolve
from workflows.model import Action, Guardrail, Quorum, StatementClass

CORPUS: dict[str, list[str]] = yaml.safe_load(
    Path(__file__).with_name("corpus").joinpath("guardrails.yaml").read_text()
)
DANGER = frozenset({StatementClass.DESTRUCTIVE, StatementClass.ADMIN, StatementClass.UNKNOWN})
RAILS = (Guardrail("ask-first", Action.HOLD, DANGER, quorum=(Quorum("dba"),), hold_for=timedelta(minutes=5)),)


@pytest.fixture
def unmasked(masks: MaskSet) -> MaskSet:
    return resolve(masks.catalog, ())


def _passes(text: str, masks: MaskSet) -> bool:
    verdict = read(text, masks)
    return verdict.allowed and isinstance(judge(verdict, RAILS), Allow)


@pytest.mark.parametrize("group", ["unbounded", "dangerous"])
def test_nothing_dangerous_of_the_corpus_runs_unheld(
    record_property: Callable[[str, object], None], group: str, unmasked: MaskSet
) -> None:
    passed = [text for text in CORPUS[group] if _passes(text, unmasked)]
    total = len(CORPUS[group])
    record_property("score", f"{total - len(passed)} of {total} held or refused ({group})")
    assert passed == []


@pytest.mark.parametrize("group", ["bounded", "harmless"])
def test_nothing_honest_of_the_corpus_is_held(
    record_property: Callable[[str, object], None], group: str, unmasked: MaskSet
) -> None:
    stopped = [text for text in CORPUS[group] if not _passes(text, unmasked)]
    total = len(CORPUS[group])
    record_property("score", f"{total - len(stopped)} of {total} honest statements pass ({group})")
    assert stopped == []


def _untouched(connection: psycopg.Connection[tuple[int]], text: str) -> int:
    """How many of the rows of stock are as they were after `text`, which is then rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMP TABLE before ON COMMIT DROP AS SELECT * FROM stock")
        connection.pgconn.exec_(text.encode()) if ";" in text else connection.execute(text.encode())
        connection.execute("DEALLOCATE ALL")
        row = connection.execute(
            "SELECT count(*) FROM (TABLE before INTERSECT TABLE stock) AS same"
        ).fetchone()
        assert row is not None
        return row[0]


@pytest.mark.parametrize("text", CORPUS["unbounded"])
def test_each_unbounded_statement_of_the_corpus_really_leaves_no_row_alone(text: str, sample: str) -> None:
    with psycopg.connect(sample, autocommit=True) as connection:
        assert _untouched(connection, text) == 0


@pytest.mark.parametrize("text", CORPUS["bounded"])
def test_each_bounded_statement_of_the_corpus_runs(text: str, sample: str) -> None:
    with psycopg.connect(sample, autocommit=True) as connection:
        assert _untouched(connection, text) >= 0
