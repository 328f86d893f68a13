"""The scored corpus: ways round masking, run against a real PostgreSQL, and honest statements that must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.sql.guard import read
from proxy.sql.masked import MaskSet
from tests.proxy.sql.door import Door, leaks
from tests.proxy.sql.live import reset

CORPUS = Path(__file__).with_name("corpus")
ATTACKS: dict[str, list[Any]] = yaml.safe_load((CORPUS / "attacks.yaml").read_text())
HONEST: dict[str, list[str]] = yaml.safe_load((CORPUS / "honest.yaml").read_text())


def _texts(attack: Any) -> list[str]:
    return attack if isinstance(attack, list) else [attack]


def test_no_attack_of_the_corpus_brings_a_piece_of_a_masked_value_to_the_client(sample: str) -> None:
    leaked, refused = [], 0
    for attack in ATTACKS["leaks"]:
        door = Door(sample)
        try:
            verdicts = [door.send(text) for text in _texts(attack)]
        finally:
            door.close()
        refused += any(not v.allowed for v in verdicts)
        if found := leaks(door.seen):
            leaked.append((attack, found))
        if door.wrote:
            reset(sample)
    total = len(ATTACKS["leaks"])
    print(
        f"\nscore: {total - len(leaked)} of {total} attacks showed nothing ({refused} refused, the rest masked)"
    )
    assert total >= 150
    assert leaked == []


def test_the_harness_sees_a_leak_when_nothing_is_masked(sample: str) -> None:
    door = Door(sample)
    door.seen = [b"", *(row for (row,) in door.connection.execute("SELECT upper(email)::bytea FROM users"))]
    door.close()
    assert leaks(door.seen)


def test_every_statement_that_tells_about_a_masked_value_without_showing_it_is_refused(
    masks: MaskSet,
) -> None:
    allowed = [attack for attack in ATTACKS["refused"] if read(attack, masks).allowed]
    total = len(ATTACKS["refused"])
    print(f"\nscore: {total - len(allowed)} of {total} oracles refused")
    assert allowed == []


@pytest.mark.parametrize("group", sorted(HONEST))
def test_honest_statements_pass_and_show_what_no_mask_covers(group: str, masks: MaskSet) -> None:
    wronged = []
    for text in HONEST[group]:
        verdict = read(text, masks)
        if not verdict.allowed:
            wronged.append((text, verdict.reason))
        elif group != "touching" and any(
            c for s in verdict.statements for c in s.columns or () if not c.clear
        ):
            wronged.append((text, "masked"))
    print(
        f"\nscore: {len(HONEST[group]) - len(wronged)} of {len(HONEST[group])} honest statements pass ({group})"
    )
    assert wronged == []
