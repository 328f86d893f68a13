"""`step_up` and the keys about linking in access.yaml: what they mean, and where a mistake in them stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import ConfigError, SlackSettings
from broker.policy_file.holder import load
from tests.broker.test_host_config import GOOD

FILE = """\
people:
  grace: {name: Grace, groups: [dba]}
  linus: {name: Linus, groups: [dba]}
groups:
  dba: {title: Approvers}
slack: {team: T0HOME}
resources:
  prod-db:
    kind: postgres
    address: localhost:5432
    database: shop
    admin: {user: keeper, password: env:PROD_DB}
    roles:
      readonly:
        memberships: [app]
        hold_commit: {name: commits, approval: [{group: dba}], step_up: true}
        guardrails:
          - {name: ask, action: hold, approval: [{group: dba}], step_up: true}
rules:
  - name: read
    who: [dba]
    resources: [prod-db]
    roles: [readonly]
    longest: 1h
    approval: [{group: dba}]
    step_up: true
break_glass:
  - {name: night, resources: [prod-db], role: readonly, who: [dba], reviewers: [dba], step_up: true}
"""


def test_a_rule_a_guardrail_and_an_emergency_can_want_a_passkey(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(FILE)
    policy = load(tmp_path / "access.yaml").policy
    role = policy.resources["prod-db"].role("readonly")
    assert role is not None
    assert policy.rules[0].step_up
    assert policy.emergencies[0].step_up
    assert role.terms.steps_up("ask")
    assert role.terms.steps_up("commits")
    (tmp_path / "access.yaml").write_text(FILE.replace(", step_up: true", "").replace("step_up: true", ""))
    policy = load(tmp_path / "access.yaml").policy
    assert not policy.rules[0].step_up
    assert not policy.emergencies[0].step_up


def test_a_guardrail_of_a_host_can_want_one_too(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(GOOD.replace("kinds: [privilege]", "step_up: true"))
    role = load(tmp_path / "access.yaml").policy.resources["web-1"].role("deploy")
    assert role is not None
    assert role.terms.steps_up("ask")


def test_matching_by_address_is_off_until_it_is_turned_on(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(FILE)
    assert load(tmp_path / "access.yaml").slack == SlackSettings("T0HOME")
    on = FILE.replace("{team: T0HOME}", "{team: T0HOME, match_email: true, other_email: true}")
    (tmp_path / "access.yaml").write_text(on)
    assert load(tmp_path / "access.yaml").slack == SlackSettings("T0HOME", True, True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    step_up: true\n", "    step_up: maybe\n", "26:14: here belongs true or false"),
        (
            "    step_up: true\n",
            "    stepup: true\n",
            "26:5: “stepup” is not known here — did you mean “step_up”?",
        ),
        (
            "    approval: [{group: dba}]\n    step_up",
            "    approval: none\n    step_up",
            "26:14: “step_up” belongs to a rule that somebody decides"
            " — say who does: approval: [{group: …, needed: 1}]",
        ),
        (
            "action: hold, approval: [{group: dba}], step_up",
            "action: refuse, step_up",
            "“step_up” belongs to a guardrail that holds — action: hold",
        ),
        ("{team: T0HOME}", "{team: T0HOME, match_mail: true}", "6:23: “match_mail” is not known here"),
    ],
)
def test_a_mistake_is_said_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    (tmp_path / "access.yaml").write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "access.yaml")
    assert any(said in str(problem) for problem in caught.value.problems), caught.value
