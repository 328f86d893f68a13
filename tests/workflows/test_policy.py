"""Who may ask for what; and that what one may not ask for cannot be told from what does not exist."""

from datetime import timedelta

import pytest

from workflows.model import Group, Principal, Quorum, Refusal, Resource, Role
from workflows.policy import Policy, Route, Rule, explain, requestable, route, spell

HOUR = timedelta(hours=1)
READONLY, READWRITE = Role("readonly", ("app_ro",)), Role("readwrite", ("app_rw",))
PROD = Resource("prod-db", "postgres", "Shop", ("shop",), (READONLY, READWRITE))
VAULT = Resource("vault-db", "postgres", "Vault", ("safe",), (READONLY,))


def rule(name: str, who: str, resource: str, roles: tuple[str, ...], longest: timedelta = HOUR) -> Rule:
    quorum = (Quorum("dba"),)
    return Rule(name, frozenset({who}), frozenset({resource}), roles, longest, HOUR, quorum, 8 * HOUR)


POLICY = Policy(
    groups={"dba": Group("dba")},
    resources={"prod-db": PROD, "vault-db": VAULT},
    rules=(
        rule("read", "engineers", "prod-db", ("readonly",), 4 * HOUR),
        rule("write", "engineers", "prod-db", ("readwrite", "readonly"), 2 * HOUR),
        rule("vault", "security", "vault-db", ("readonly",)),
    ),
)
ADA = Principal("ada", "Ada", "", frozenset({"engineers"}))


def test_the_first_rule_that_fits_is_the_one_that_applies() -> None:
    found = route(POLICY, ADA, "prod-db", "readonly")
    assert isinstance(found, Route)
    assert found.rule.name == "read"


def test_a_later_rule_is_found_for_a_role_the_first_does_not_name() -> None:
    found = route(POLICY, ADA, "shop", "readwrite")
    assert isinstance(found, Route)
    assert (found.rule.name, found.resource.name) == ("write", "prod-db")


def test_no_role_means_the_first_of_the_first_rule() -> None:
    found = route(POLICY, ADA, "prod-db")
    assert isinstance(found, Route)
    assert found.role is READONLY


@pytest.mark.parametrize("hidden", ["vault-db", "safe"])
def test_a_hidden_resource_is_refused_in_the_words_for_one_that_does_not_exist(hidden: str) -> None:
    refused, unknown = route(POLICY, ADA, hidden), route(POLICY, ADA, "no-such")
    assert isinstance(refused, Refusal)
    assert isinstance(unknown, Refusal)
    assert refused.code == unknown.code
    assert str(refused).replace(hidden, "no-such") == str(unknown)
    assert str(route(POLICY, ADA, hidden, "readonly")).replace(hidden, "no-such") == str(unknown)


def test_a_role_outside_the_rules_is_refused_with_the_roles_there_are() -> None:
    refused = route(POLICY, ADA, "prod-db", "admin")
    assert isinstance(refused, Refusal)
    assert refused.code == "no-such-role"
    assert "readonly, readwrite" in refused.way_out


def test_somebody_inactive_may_ask_for_nothing() -> None:
    gone = Principal("ada", "Ada", "", frozenset({"engineers"}), active=False)
    refused = route(POLICY, gone, "prod-db")
    assert isinstance(refused, Refusal)
    assert refused.code == "inactive"
    assert requestable(POLICY, gone) == ()


def test_only_what_may_be_asked_for_is_offered() -> None:
    assert [resource.name for resource in requestable(POLICY, ADA)] == ["prod-db"]


def test_explain_tells_rule_by_rule() -> None:
    lines = explain(POLICY, ADA, "vault-db")
    assert lines[1] == "rule vault: no (ada is in none of security)."
    assert "through engineers" in explain(POLICY, ADA, "prod-db")[1]


@pytest.mark.parametrize(
    ("span", "text"),
    [(HOUR, "1h"), (timedelta(minutes=90), "1h30m"), (timedelta(days=2), "2d"), (timedelta(0), "0s")],
)
def test_a_span_is_spelled_shortly(span: timedelta, text: str) -> None:
    assert spell(span) == text
