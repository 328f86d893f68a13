"""access.yaml: what is wrong is said with its place and a suggestion; a good file has its meaning."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config import ConfigError, SecretRef
from broker.policy_file import marks
from broker.policy_file.holder import ConfigHolder, load
from workflows.model import Mask, Quorum

GOOD = """\
people:
  ada: {name: Ada, email: ada@example.com, slack: U0ADA, groups: [engineers], timezone: Europe/London}
  grace: {name: Grace Hopper, email: grace@example.com, slack: U0GRACE, groups: [dba]}
  olga: {name: Olga, groups: [dba], active: false}
groups:
  engineers: {title: Engineers}
  dba: {title: Approvers, channel: C0DBA, mention: S0DBA}
admins: [dba]
slack: {team: T0HOME}
resources:
  prod-db:
    kind: postgres
    aliases: [shop]
    address: "[::1]:5433"
    database: shop
    admin: {user: keeper, password: env:PROD_DB}
    masks: [{column: public.users.email, method: email}]
    roles:
      readonly: {memberships: [app_readonly], masks: [{column: public.users.phone, method: last4}]}
      clear: {memberships: [app_readonly], masks: []}
      plain: {memberships: [app_readonly]}
rules:
  - name: read
    who: [engineers]
    resources: [prod-db]
    roles: [readonly]
    longest: 1h30
    approval: [{group: dba}]
    lapses_after: 90m
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "access.yaml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text))
    return [str(problem).removeprefix(f"{folder}/access.yaml:") for problem in caught.value.problems]


def test_a_good_file_has_its_meaning(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    rule = config.policy.rules[0]
    assert rule.longest == rule.lapse_after == timedelta(minutes=90)
    assert rule.usual == timedelta(hours=1)
    assert rule.quorum == (Quorum("dba", 1),)
    assert config.directory.of_slack("T0HOME", "U0ADA") == config.directory.principal("ada")
    assert config.directory.of_slack("T0OTHER", "U0ADA") is None
    assert config.directory.of_email("ADA@example.com") == config.directory.principal("ada")
    assert config.directory.of_email("") is None
    target = config.targets["prod-db"]
    assert (target.host, target.port, target.tls) == ("::1", 5433, "verify-full")
    assert len(config.policy.digest) == 64


def test_a_role_adds_masks_to_its_resource_or_takes_them_all_off(tmp_path: Path) -> None:
    resource = load(write(tmp_path, GOOD)).policy.resources["prod-db"]
    email, phone = Mask("public.users", "email", "email"), Mask("public.users", "phone", "last4")
    masks = {role.name: role.terms.masks for role in resource.roles}
    assert masks == {"readonly": (email, phone), "clear": (), "plain": (email,)}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "groups: [engineers], t",
            "grups: [engineers], t",
            "2:58: “grups” is not known here — did you mean “groups”?",
        ),
        (
            "who: [engineers]",
            "who: [enginers]",
            "24:11: there is no group “enginers” — did you mean “engineers”?",
        ),
        (
            "resources: [prod-db]",
            "resources: [prod]",
            "25:17: there is no resource “prod” — did you mean “prod-db”?",
        ),
        (
            "roles: [readonly]",
            "roles: [readnly]",
            "26:13: there is no role of prod-db “readnly” — did you mean “readonly”?",
        ),
        ("[{group: dba}]", "[{group: dbas}]", "28:24: there is no group “dbas” — did you mean “dba”?"),
        (
            "[{group: dba}]",
            "[{group: dba, needed: 2}]",
            "28:16: 2 of dba can never agree: it has 1 active people",
        ),
        (
            "longest: 1h30",
            "longest: soon",
            "27:14: this is not a span of time; write it like 90m, 4h, 1h30 or 2d",
        ),
        (
            "method: email",
            "method: emial",
            "17:50: “emial” does not fit here — one of: full, null, last4, email, hash or pseudonym",
        ),
        ("env:PROD_DB", "hunter2", "16:37: a secret never stands in this file; write env:NAME or file:PATH"),
        ("admins: [dba]", "admins: [dbas]", "8:10: there is no group “dbas” — did you mean “dba”?"),
        (
            "timezone: Europe/London",
            "timezone: London",
            "2:89: this is not an IANA time zone; write it like Europe/London",
        ),
        ("    approval: [{group: dba}]\n", "", "23:5: “approval” is missing"),
        ("longest: 1h30", "longest: 1h30\n    usual: 2h", "28:12: is longer than the longest, 1h30m"),
        (
            "kind: postgres",
            "kind: postgress",
            "12:11: “postgress” does not fit here — one of: postgres, ssh, http or kubernetes",
        ),
        ("slack: U0GRACE", "slack: U0ADA", "3:64: ada has this slack already — one person, one entry"),
        ("aliases: [shop]", "aliases: [prod-db]", "13:15: “prod-db” is taken already"),
        (
            "database: shop",
            "database: shop\n    database: shop",
            "16:5: “database” is given twice — remove one of them",
        ),
        (
            "database: shop",
            "database: shop\n    ca: ./none.pem",
            "16:9: cannot be read: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in GOOD
    assert said in problems(tmp_path, GOOD.replace(old, new, 1))


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("who: [engineers]", "who: [x, y]").replace("admins: [dba]", "admins: [z]")
    assert [line.partition(":")[0] for line in problems(tmp_path, text)] == ["8", "24", "24"]


def test_text_that_is_not_yaml_is_one_problem_with_its_place(tmp_path: Path) -> None:
    assert problems(tmp_path, "people:\n\tada: {}\n")[0].startswith("2:1: this is not YAML")
    assert "indent with spaces" in problems(tmp_path, "people:\n\tada: {}\n")[0]


def test_a_missing_file_is_a_problem_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nothing.yaml")


@given(st.text(alphabet="ab:- \n{}[]&*!'\"#|>\t", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    marks.read("f", text)


def test_a_reload_takes_a_good_file_and_keeps_the_old_one_for_a_bad_one(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    holder = ConfigHolder(path)
    first = holder()
    assert not holder.changed()
    path.write_text(GOOD.replace("who: [engineers]", "who: [nobody]"))
    assert holder.changed()
    assert holder.reload()[0].line == 24
    assert holder() is first
    assert not holder.changed()
    path.write_text(GOOD.replace("longest: 1h30", "longest: 3h"))
    assert holder.reload() == []
    assert holder().policy.rules[0].longest == timedelta(hours=3)


def test_a_secret_is_read_where_the_file_says_and_its_absence_names_the_place_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pw").write_text("s3cret\n")
    monkeypatch.setenv("PW", "s4cret")
    monkeypatch.delenv("NO_PW", raising=False)
    assert SecretRef("file:pw", tmp_path).read() == "s3cret"
    assert SecretRef("env:PW").read() == "s4cret"
    for gone in ("env:NO_PW", "file:no-pw"):
        with pytest.raises(LookupError, match=r"(?i)no.pw"):
            SecretRef(gone, tmp_path).read()
