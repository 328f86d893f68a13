"""The scored corpus: ways round masking against a real PostgreSQL, and honest statements that must pass."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.sql.guard import read
from proxy.sql.masked import MaskSet
from proxy.sql.tree import words
from tests.proxy.sql.door import Door, leaks
from tests.proxy.sql.live import reset

CORPUS = Path(__file__).with_name("corpus")
ATTACKS: dict[str, list[Any]] = yaml.safe_load((CORPUS / "attacks.yaml").read_text())
HONEST: dict[str, list[str]] = yaml.safe_load((CORPUS / "honest.yaml").read_text())

# psql's own commands; what they ask the server differs from release to release.
PSQL_COMMANDS = (
    *words(r"\d \d+ \dt+ \dv+ \dm \di+ \ds \l+ \du+ \dn+ \df+ \dT+ \do \dx+ \dp \ddp \dC \db+ \dD \dF \dg"),
    *words(r"\dL \dO \dRp+ \dy \dA+ \dconfig \da \dc \dd \des \det \deu \dew \dS \dP+ \dRs \dX"),
    *(r"\d+ users", r"\d+ contacts", r"\d+ events", r"\d notes_id_seq", r"\sf mail_of", r"\sv contacts"),
)


PARTS = 4
"""The attacks that run at the server are several tests, so that workers share them."""


def _texts(attack: Any) -> list[str]:
    return attack if isinstance(attack, list) else [attack]


@pytest.mark.parametrize("part", range(PARTS))
def test_no_attack_of_the_corpus_brings_a_piece_of_a_masked_value_to_the_client(
    record_property: Callable[[str, object], None], part: int, sample: str, masks: MaskSet
) -> None:
    leaked, refused = [], 0
    reset(sample)
    for attack in ATTACKS["leaks"][part::PARTS]:
        door = Door(sample, masks)
        try:
            verdicts = [door.send(text) for text in _texts(attack)]
        finally:
            door.close()
        refused += any(not v.allowed for v in verdicts)
        if found := leaks(door.seen):
            leaked.append((attack, found))
        if door.wrote:
            reset(sample)
    total = len(ATTACKS["leaks"][part::PARTS])
    record_property(
        "score", f"{total - len(leaked)} of {total} attacks showed nothing; {refused} of them refused"
    )
    assert total >= 690 // PARTS
    assert leaked == []


@pytest.mark.parametrize("text", ATTACKS["newer"])
def test_what_only_newer_servers_know_is_refused_or_masked_whole(text: str, masks: MaskSet) -> None:
    verdict = read(text, masks)
    columns = [column for statement in verdict.statements for column in statement.columns or ()]
    assert not verdict.allowed or (columns and not any(column.clear for column in columns[:1]))


def test_the_harness_sees_a_leak_when_nothing_is_masked(sample: str) -> None:
    door = Door(sample)
    rows = door.connection.execute("SELECT upper(email)::bytea FROM users").fetchall()
    door.close()
    assert leaks([row for (row,) in rows])


def test_every_statement_that_tells_about_a_masked_value_without_showing_it_is_refused(
    record_property: Callable[[str, object], None],
    masks: MaskSet,
) -> None:
    allowed = [attack for attack in ATTACKS["refused"] if read(attack, masks).allowed]
    total = len(ATTACKS["refused"])
    record_property("score", f"{total - len(allowed)} of {total} oracles refused")
    assert allowed == []


@pytest.mark.parametrize("group", sorted(HONEST))
def test_honest_statements_pass_and_show_what_no_mask_covers(
    record_property: Callable[[str, object], None], group: str, masks: MaskSet
) -> None:
    wronged = []
    for text in HONEST[group]:
        verdict = read(text, masks)
        if not verdict.allowed:
            wronged.append((text, verdict.reason))
        elif group != "touching" and any(not c.clear for s in verdict.statements for c in s.columns or ()):
            wronged.append((text, "masked"))
    total = len(HONEST[group])
    record_property("score", f"{total - len(wronged)} of {total} honest statements pass ({group})")
    assert wronged == []


def test_what_psql_asks_for_its_own_commands_passes(
    record_property: Callable[[str, object], None], sample: str, masks: MaskSet
) -> None:
    psql = shutil.which("psql")
    assert psql is not None, "this test needs psql"
    asked = set()
    for command in PSQL_COMMANDS:
        line = [psql, "-X", "-E", "-d", sample, "-c", command]
        run = subprocess.run(line, capture_output=True, text=True)
        asked |= set(re.findall(r"\*{9} QUERY \*{10}\n(.*?)\n\*{24}", run.stdout, re.S))
    refused = [(text, verdict.reason) for text in asked if not (verdict := read(text, masks)).allowed]
    record_property("score", f"{len(asked) - len(refused)} of {len(asked)} of psql's own queries pass")
    assert len(asked) > 40
    assert refused == []
