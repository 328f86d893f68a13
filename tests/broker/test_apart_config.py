"""Relations and separation in access.yaml: their meaning, and every mistake's place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.config import ConfigError
from broker.policy_file.holder import load
from workflows.model import Relation

GOOD = """\
people:
  ada: {name: Ada, groups: [engineers, checkout], relations: {manager: grace}}
  grace: {name: Grace, groups: [dba], relations: {manager: none}}
  sam: {name: Sam, groups: [dba, security], relations: {manager: grace}}
  past: {name: Past, groups: [], active: false}
groups:
  engineers: {}
  checkout: {}
  search: {}
  dba: {}
  security: {}
relations:
  team: [checkout, search]
  manager: []
apart: [team]
resources:
  prod-db:
    kind: postgres
    address: 127.0.0.1:5432
    database: shop
    admin: {user: keeper, password: env:PROD_DB}
    guardrails:
      - {name: ask, action: hold, classes: [destructive], approval: [{group: dba}]}
    roles:
      readonly:
        memberships: [r]
        hold_commit: {approval: [{group: dba}]}
rules:
  - name: read
    who: [engineers]
    resources: [prod-db]
    roles: [readonly]
    longest: 2h
    approval: [{group: dba}]
  - name: strict
    who: [engineers]
    resources: [prod-db]
    roles: [readonly]
    longest: 2h
    approval: [{group: dba}, {group: security}]
    apart: [team, manager]
  - name: free
    who: [engineers]
    resources: [prod-db]
    roles: [readonly]
    longest: 2h
    approval: [{group: dba}]
    apart: []
break_glass:
  - name: night
    resources: [prod-db]
    role: readonly
    who: [engineers]
    reviewers: [dba]
"""
TEAM, MANAGER = Relation("team", ("checkout", "search")), Relation("manager")


def test_every_decision_is_kept_apart_as_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(GOOD)
    config = load(tmp_path / "access.yaml")
    read, strict, free = config.policy.rules
    assert [q.apart for q in read.quorum] == [(TEAM,)]
    assert [q.apart for q in strict.quorum] == [(TEAM, MANAGER), (TEAM, MANAGER)]
    assert [q.apart for q in free.quorum] == [()]
    terms = config.policy.resources["prod-db"].roles[0].terms
    assert [q.apart for rail in terms.guardrails for q in rail.quorum] == [(TEAM,)]
    assert terms.hold_commit is not None
    assert [q.apart for q in terms.hold_commit.quorum] == [(TEAM,)]
    assert config.policy.emergencies[0].apart == (TEAM,)
    known = config.directory.everyone()
    assert known["ada"].relations == {("manager", "grace")}
    assert known["grace"].relations == {("manager", "")}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("apart: [team]\n", "apart: [teams]\n",
         "15:9: there is no relation “teams” — did you mean “team”?"),
        ("apart: [team, manager]", "apart: [boss]",
         "41:13: there is no relation “boss” — known here: team, manager"),
        ("[checkout, search]\n", "[checkout, serch]\n",
         "13:20: there is no group “serch” — did you mean “search”?"),
        ("relations: {manager: none}", "relations: {manger: none, manager: none}",
         "3:51: there is no relation “manger” — did you mean “manager”?"),
        ("relations: {manager: none}", "relations: {team: search, manager: none}",
         "3:51: team follows from the groups: checkout, search — leave it out"),
        (", relations: {manager: none}", "",
         "3:10: “manager” is missing, which keeps approvers apart"
         " — relations: {manager: …}, or manager: none"),
        ("manager: none", "manager: no", "3:60: here belongs a text; put it in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert GOOD.count(old) >= 1
    path = tmp_path / "access.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert said in [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_what_the_page_shows_can_be_used(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "write-the-policy.md").read_text()
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if "\napart:" in block]
    resources = "resources:" + GOOD.partition("resources:")[2].partition("rules:")[0]
    (tmp_path / "access.yaml").write_text(f"{block}{resources.replace('readonly', 'readwrite')}")
    config = load(tmp_path / "access.yaml")
    assert [q.apart for q in config.policy.rules[0].quorum] == [(TEAM, MANAGER)]
