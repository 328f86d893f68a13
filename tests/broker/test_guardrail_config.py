"""Guardrails in access.yaml: their meaning, and every mistake's place and mend."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from broker.config import ConfigError
from broker.policy_file.guardrails import OWN_LOGIN
from broker.policy_file.holder import load
from workflows.model import Action, Guardrail, Quorum, StatementClass, Terms

FILE = """\
people:
  grace: {{name: Grace, groups: [dba]}}
groups:
  dba: {{title: Approvers}}
resources:
  prod-db:
    kind: postgres
    address: localhost:5432
    database: shop
    admin: {{user: keeper, password: env:PROD_DB}}
    trusted_functions: [audit.mask, similarity]
    detect: [email, card]
    guardrails:
      - name: ask
        action: hold
        classes: [destructive]
        approval: [{{group: dba}}]
        hold_for: 5m
        dry_run: true
      - {{name: modest, action: allow, row_limit: 100, timeout: 30s}}
    roles:
      readonly:
        memberships: [app]
        detect: [iban, email]
        guardrails:
          - {}
      plain: {{memberships: [app], detect: []}}
"""
RAIL = (
    "{name: own, action: refuse, tables: [hr.*], columns: [a.b.c], kinds: [drop], bounded: false, "
    "message: No.}"
)


def terms(folder: Path, role: str) -> Terms:
    (folder / "access.yaml").write_text(FILE.format(RAIL))
    found = load(folder / "access.yaml").policy.resources["prod-db"].role(role)
    assert found is not None
    return found.terms


def test_a_roles_guardrails_come_before_those_of_its_resource(tmp_path: Path) -> None:
    own = Guardrail(
        "own", Action.REFUSE, tables=("hr.*",), columns=("a.b.c",), kinds=frozenset({"drop"}), bounded=False,
        message="No.",
    )  # fmt: skip
    ask = Guardrail(
        "ask", Action.HOLD, frozenset({StatementClass.DESTRUCTIVE}), quorum=(Quorum("dba"),),
        hold_for=timedelta(minutes=5), dry_run=True,
    )  # fmt: skip
    modest = Guardrail(
        "modest", Action.ALLOW, row_limit=100, timeout=timedelta(seconds=30), when=f"!{OWN_LOGIN.when}"
    )
    assert terms(tmp_path, "readonly").guardrails == (own, ask, modest, OWN_LOGIN)
    assert terms(tmp_path, "plain").guardrails == (ask, modest, OWN_LOGIN)


def test_a_role_adds_to_what_is_detected_or_takes_all_of_it_off(tmp_path: Path) -> None:
    assert terms(tmp_path, "readonly").detect == ("email", "card", "iban")
    assert terms(tmp_path, "plain").detect == ()
    assert terms(tmp_path, "plain").trusted_functions == {"audit.mask", "similarity"}


@pytest.mark.parametrize(
    ("rail", "said"),
    [
        ("{name: a, action: hold}", "26:13: nobody is asked"),
        ("{name: a, action: hold, approval: [{group: dbs}]}", "26:56: there is no group “dbs” — known"),
        ("{name: a, action: hold, approval: [{group: dba, needed: 2}]}", "can never agree: it has 1 active"),
        ("{name: ask, action: refuse}", "26:20: “ask” is taken already — by the guardrails of prod-db"),
        ("{name: a, action: stop}", "one of: allow, refuse or hold"),
        ("{name: a, action: refuse, classes: [reads]}", "“reads” does not fit here"),
        ("{name: a, action: refuse, kinds: [truncat]}", "26:47: there is no kind of statement “truncat”"),
        ("{name: a, action: refuse, tables: [users]}", "this is written schema.table"),
        ("{name: a, action: refuse, columns: [public.users]}", "this is written schema.table.column"),
        ("{name: a, action: allow, columns: [a.b.c]}", "cannot tell that no other column is meant"),
        ("{name: a, action: refuse, when: statement.cls == 1}", "26:45: this condition cannot be used"),
        ("{name: a, action: refuse, when: role}", "this condition is not true or false"),
        ("{name: a, action: refuse, when: 'role =='}", "mismatched input"),
        ("{name: a, action: refuse, row_limit: 5}", "“row_limit” has no meaning for what is refused"),
        ("{name: a, action: allow, hold_for: 5m}", "“hold_for” belongs to a guardrail that holds"),
        ("{name: a, action: refuse, tabels: [a.b]}", "“tabels” is not known here — did you mean “tables”?"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_guardrail_is_told_with_its_place_and_its_mend(
    rail: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "access.yaml").write_text(FILE.format(rail))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "access.yaml")
    assert said in str(caught.value)


def with_commit(folder: Path, hold_commit: str) -> Path:
    text = FILE.format(RAIL).replace(
        "plain: {memberships: [app],", f"plain: {{memberships: [app], hold_commit: {hold_commit},"
    )
    (folder / "access.yaml").write_text(text)
    return folder / "access.yaml"


def test_a_role_says_who_agrees_to_a_commit(tmp_path: Path) -> None:
    file = with_commit(tmp_path, "{approval: [{group: dba}], hold_for: 5m, message: Four eyes.}")
    roles = load(file).policy.resources["prod-db"].roles
    held = {role.name: role.terms.hold_commit for role in roles}
    assert held["readonly"] is None
    assert held["plain"] == Guardrail(
        "hold-commit",
        Action.HOLD,
        quorum=(Quorum("dba"),),
        hold_for=timedelta(minutes=5),
        message="Four eyes.",
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("true", "27:"),
        ("{}", "“approval” is missing"),
        ("{approval: []}", "27:"),
        ("{approval: [{group: dbs}]}", "there is no group “dbs” — known"),
        ("{approval: [{group: dba, needed: 2}]}", "can never agree: it has 1 active"),
        (
            "{approval: [{group: dba}], hold_fro: 5m}",
            "“hold_fro” is not known here — did you mean “hold_for”?",
        ),
        ("{approval: [{group: dba}], hold_for: soon}", "this is not a span of time"),
    ],
)
def test_a_mistake_about_commits_is_told_with_its_place(value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(with_commit(tmp_path, value))
    assert said in str(caught.value)
    assert ":27:" in str(caught.value)
