"""Emergencies, schedules, ladders, quiet hours in access.yaml: their meaning, and every mistake's place."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from broker.config import ConfigError
from broker.policy_file.holder import load
from workflows.policy import Emergency, QuietHours, Step, StepKind

GOOD = """\
people:
  ada: {name: Ada, groups: [engineers]}
  grace: {name: Grace, groups: [dba, security]}
  sam: {name: Sam, groups: [security]}
groups:
  engineers: {}
  dba: {}
  security: {}
timezone: Europe/Berlin
quiet_hours: {from: 22:00, until: "7:00"}
schedules:
  primary: {source: pagerduty, id: PI7DH85, key: env:PAGERDUTY_KEY}
  small: {source: static, people: [ada, grace], turn: 7d, starts: "2026-01-05T09:00+01:00"}
resources:
  prod-db:
    kind: postgres
    address: 127.0.0.1:5432
    database: shop
    admin: {user: keeper, password: env:PROD_DB}
    roles:
      readonly: {memberships: [r], within: [readwrite]}
      readwrite: {memberships: [w]}
rules:
  - name: read
    who: [engineers]
    resources: [prod-db]
    roles: [readwrite, readonly]
    longest: 2h
    longest_total: 4h
    extend_freely: 30m
    approval: [{group: dba}]
    ladder:
      - {after: 5m, do: mention}
      - {after: 15m, do: page, who: primary}
      - {after: 1h, do: widen, who: security}
break_glass:
  - name: night
    resources: [prod-db]
    role: readwrite
    on_call: [primary]
    when_away: [engineers]
    codes: true
    reviewers: [security]
"""


def read(folder: Path, text: str) -> list[str]:
    path = folder / "access.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_what_is_urgent_has_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(GOOD)
    config = load(tmp_path / "access.yaml")
    rule = config.policy.rules[0]
    assert rule.ladder.steps == (
        Step(timedelta(minutes=5), StepKind.MENTION),
        Step(timedelta(minutes=15), StepKind.PAGE, "primary", wakes=True),
        Step(timedelta(hours=1), StepKind.WIDEN, "security"),
    )
    assert rule.ladder.quiet == QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))
    assert (rule.total, rule.extend_freely) == (timedelta(hours=4), timedelta(minutes=30))
    assert config.policy.resources["prod-db"].roles[0].within == ("readwrite",)
    assert config.policy.emergencies == (
        Emergency(
            "night",
            frozenset({"prod-db"}),
            "readwrite",
            timedelta(minutes=30),
            ("security",),
            schedules=("primary",),
            when_away=frozenset({"engineers"}),
            codes=True,
        ),
    )
    assert config.schedules["small"].starts == datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


MORE = """\
relations: {manager: [], team: [engineers, dba]}
incidents: {source: incident_io, key: env:IIO}
"""
SAID = "    codes: true\n"


def test_who_hears_of_it_and_where_incidents_are_looked_up(tmp_path: Path) -> None:
    text = MORE + GOOD.replace(SAID, SAID + "    tells: [manager]\n    open_incident: true\n")
    (tmp_path / "access.yaml").write_text(text)
    config = load(tmp_path / "access.yaml")
    (rule,) = config.policy.emergencies
    assert (rule.tells, rule.open_incident) == (("manager",), True)
    assert config.incidents is not None
    assert (config.incidents.source, config.incidents.url) == ("incident_io", "")


@pytest.mark.parametrize(
    ("head", "line", "said"),
    [
        (MORE, "tells: [maneger]", "there is no relation “maneger” — did you mean “manager”?"),
        (MORE, "tells: [team]", "team follows from groups and names nobody — a relation that is said of each "
         "person"),
        ("", "open_incident: true", "nothing says where it is looked up whether an incident is open — "
         "incidents: {source: incident_io, key: env:…}"),
        ("incidents: {source: jira, key: env:J}\n", "codes: true", "“user” is missing — jira needs it"),
        ("incidents: {source: incident_io, key: sk-live}\n", "codes: true",
         "a secret never stands in this file; write env:NAME or file:PATH"),
    ],
)  # fmt: skip
def test_mistakes_in_them_are_told(tmp_path: Path, head: str, line: str, said: str) -> None:
    text = head + GOOD.replace(SAID, f"    {line}\n")
    assert any(problem.endswith(said) for problem in read(tmp_path, text)), read(tmp_path, text)


def test_without_a_word_nothing_is_urgent(tmp_path: Path) -> None:
    cut = GOOD.partition("break_glass:")[0].replace("    longest_total: 4h\n    extend_freely: 30m\n", "")
    (tmp_path / "access.yaml").write_text(cut)
    policy = load(tmp_path / "access.yaml").policy
    assert policy.emergencies == ()
    assert policy.rules[0].total == policy.rules[0].longest
    assert policy.rules[0].extend_freely == timedelta()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("on_call: [primary]", "on_call: [primry]",
         "40:15: there is no schedule “primry” — did you mean “primary”?"),
        ("role: readwrite\n    on", "role: readwrit\n    on",
         "39:11: there is no role of prod-db “readwrit” — did you mean “readwrite”?"),
        ("    on_call: [primary]\n    when_away: [engineers]\n    codes: true\n", "",
         "37:5: nobody can ever use this rule — say who, on_call or codes: true"),
        ("reviewers: [security]", "reviewers: [dba]",
         "43:16: the reviewers are 1 active people; nobody reviews their own — two at least"),
        ("codes: true", "longest: 8h", "42:14: an emergency lasts at most 4h — usually 15m to 1h"),
        ("do: mention", "do: mentoin",
         "33:25: “mentoin” does not fit here — one of: group, mention, page or widen"),
        ("who: primary", "who: security",
         "34:37: there is no schedule “security” — known here: primary, small"),
        ("do: widen, who: security", "do: widen", "35:9: “who” is missing — widen needs a group"),
        ("after: 15m", "after: 4m", "34:17: a step comes after the one above it"),
        ("after: 1h", "after: 9h", "35:17: by then the request has lapsed (8h)"),
        ("longest_total: 4h", "longest_total: 1h", "29:20: is shorter than the longest, 2h"),
        ("from: 22:00", "from: late", "10:21: a time of day is written 22:00"),
        ("id: PI7DH85, ", "", "12:12: “id” is missing — pagerduty needs it"),
        (", starts: \"2026-01-05T09:00+01:00\"", "", "13:10: “turn” and “starts” belong together"),
        ("2026-01-05T09:00+01:00", "2026-01-05T09:00",
         "13:67: an instant is written with its zone, like 2026-01-05T09:00+01:00"),
        ("key: env:PAGERDUTY_KEY", "key: u+abcdef",
         "12:50: a secret never stands in this file; write env:NAME or file:PATH"),
        ("id: PI7DH85", "id: P, url: \"http://evil.example\"",
         "12:44: this is an address that begins with https://"),
        ("within: [readwrite]", "within: [readonly]",
         "21:45: there is no other role of prod-db “readonly” — known here: readwrite"),
        ("name: night", "name: read", "37:11: another rule is called “read” already"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert said in read(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("pager", "said"),
    [
        ("{via: incident_io, key: env:K}", "45:6: “url” is that of the alert source — "
         "https://api.incident.io/v2/alert_events/http/SOURCE-ID"),
        ("{via: incident_io, key: env:K, url: https://api.incident.io}",
         "45:42: “url” is that of the alert source — https://api.incident.io/v2/alert_events/http/SOURCE-ID"),
        ("{via: grafana, key: env:K, url: https://x.grafana.net/t0ken}",
         "45:38: the integration's address is secret — key: env:NAME that holds it"),
        ("{via: rootly, key: env:K, schedule: S1}", "45:42: rootly says itself who is called — leave it out"),
    ],
)  # fmt: skip
def test_a_pager_that_cannot_work_is_told(tmp_path: Path, pager: str, said: str) -> None:
    assert read(tmp_path, f"{GOOD}pagers:\n  p: {pager}\n") == [said]


@pytest.mark.parametrize("page", ["break-glass.md", "write-the-policy.md"])
def test_what_the_pages_show_can_be_used(tmp_path: Path, page: str) -> None:
    """The examples of the pages, put into a policy, are read without a word."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / page).read_text()
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if SHOWN.search(block)]
    assert blocks
    head = GOOD.partition("rules:")[0].partition("timezone:")
    rest = head[2].partition("resources:")
    for block in blocks:
        schedules = (
            "" if "schedules:" in block else "schedules:\n  primary: {source: static, people: [ada]}\n"
        )
        (tmp_path / "access.yaml").write_text(f"{head[0]}{schedules}resources:{rest[2]}{block}")
        load(tmp_path / "access.yaml")


SHOWN = re.compile(r"^(break_glass|quiet_hours):", re.M)
