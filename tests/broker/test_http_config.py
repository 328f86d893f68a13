"""HTTP services in access.yaml, and what they are told: identity and credential."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from broker.config import ConfigError, HttpTarget, SecretRef
from broker.credentials.http import IdentityTokens, upstream
from broker.credentials.seal import Seal
from broker.policy_file.holder import load
from workflows.http import FieldMask, FieldMatch, RequestMatch
from workflows.model import Grant, Principal, Terms

GOOD = """\
people:
  grace: {name: Grace Hopper, groups: [ops]}
groups:
  ops: {title: Operations}
resources:
  grafana:
    kind: http
    address: grafana.internal:3000
    host_header: grafana.internal
    credential: {prefix: "Bearer ", value: "file:key.secret"}
    headers: {X-WEBAUTH-USER: "{principal}", X-Role: "{role}"}
    remove_headers: [X-Org]
    masks: [{field: "$.users[*].email", method: email}]
    detect: [card]
    roles:
      viewer:
        headers: {x-role: Viewer}
        masks: [{field: $..phone}]
        record: bodies
        guardrails:
          - {name: ask, action: hold, methods: [DELETE], paths: ["/api/{x}/**"], approval: [{group: ops}]}
          - {name: never, action: refuse, query: {force: "true"}, body: {"$.role": [Admin, Editor]},
             headers: [X-Mode]}
      plain: {masks: [], detect: []}
"""
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ADA = Principal("ada", "Ada Lovelacé", "ada@example.com", frozenset({"b", "a"}))
GRANT = Grant("G-1", "R-1", "ada", "grafana", "viewer", Terms(), NOW, NOW + timedelta(hours=1))


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "access.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_good_service_has_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(GOOD)
    config = load(tmp_path / "access.yaml")
    target = config.targets["grafana"]
    assert isinstance(target, HttpTarget)
    assert (target.host, target.port, target.tls, target.authority) == (
        "grafana.internal",
        3000,
        "verify-full",
        "grafana.internal",
    )
    assert target.credential == SecretRef("file:key.secret", tmp_path.absolute())
    viewer = config.policy.resources["grafana"].role("viewer")
    plain = config.policy.resources["grafana"].role("plain")
    assert viewer is not None
    assert plain is not None
    assert viewer.terms.http is not None
    assert plain.terms.http is not None
    assert viewer.terms.http.masks == (FieldMask("$.users[*].email", "email"), FieldMask("$..phone"))
    assert (viewer.terms.http.record, viewer.terms.detect, viewer.terms.client) == (
        "bodies",
        ("card",),
        "http",
    )
    assert (plain.terms.http.masks, plain.terms.detect, plain.terms.http.record) == ((), (), "heads")
    ask, no = viewer.terms.guardrails
    assert ask.request == RequestMatch(frozenset({"DELETE"}), ("/api/{x}/**",))
    assert no.request == RequestMatch(
        query=(FieldMatch("force", ("true",)),),
        headers=(FieldMatch("X-Mode"),),
        body=(FieldMatch("$.role", ("Admin", "Editor")),),
    )


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("  grafana:\n", "  Grafana_1:\n", "cannot stand before the gate's domain"),
        ("$.users[*].email", "users.email", "begins with $"),
        ("[DELETE]", "[delete]", "String should match"),
        ("/api/{x}/**", "/api/../x", "a path is written"),
        ("/api/{x}/**", "/api/%2e", "a path is written"),
        ('"file:key.secret"', "abc", "a secret never stands in this file"),
        ("{principal}", "{person}", "there is no {person}"),
        ("X-Org", "Content-Length", "belongs to the connection"),
        ("X-WEBAUTH-USER", "Authorization", "is filled in by the gate already"),
        ('"$.role"', "role", "begins with $"),
        ("address: grafana.internal:3000", "address: grafana.internal:3000\n    tls: disable", "without TLS"),
        ("action: hold, methods", "action: hold, kinds: [select], methods", "not by kinds"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    found = problems(tmp_path, GOOD.replace(right, wrong, 1))
    assert any(said in one for one in found), found
    assert all(one[0].isdigit() for one in found)


def test_the_service_is_told_who_asks_and_a_client_can_say_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(GOOD)
    (tmp_path / "key.secret").write_text("the-key\n")
    target = load(tmp_path / "access.yaml").targets["grafana"]
    assert isinstance(target, HttpTarget)
    tokens = IdentityTokens(Seal([b"s" * 32]), "https://access.example")
    found = upstream(target, tokens, ADA, GRANT, "S-1", NOW)
    headers = dict(found.headers)
    assert headers["Authorization"] == "Bearer the-key"
    assert headers["X-WEBAUTH-USER"] == "ada"
    assert headers["x-role"] == "Viewer"
    assert "X-Role" not in headers
    assert found.removed == ("X-Org",)
    assert "the-key" not in repr(found)
    claims = jwt.decode(
        headers["Portcullis-Identity"], KeySet.import_key_set(tokens.key_set), algorithms=["ES256"]
    ).claims
    assert claims["iss"] == "https://access.example"
    assert (claims["sub"], claims["aud"], claims["jti"], claims["grant"]) == ("ada", "grafana", "S-1", "G-1")
    assert claims["groups"] == ["a", "b"]
    assert claims["exp"] == int(GRANT.expiry.timestamp())
    assert "d" not in tokens.key_set["keys"][0], "the private key was published"
    (tmp_path / "key.secret").unlink()
    with pytest.raises(LookupError):
        upstream(target, tokens, ADA, GRANT, "S-1", NOW)


def test_another_seals_tokens_are_not_ours() -> None:
    ours, others = (IdentityTokens(Seal([bytes([n]) * 32])) for n in (1, 2))
    token = others.sign(ADA, GRANT, "S-1", NOW)
    with pytest.raises((JoseError, ValueError)):
        jwt.decode(token, KeySet.import_key_set(ours.key_set), algorithms=["ES256"])
    assert ours.key_set == IdentityTokens(Seal([bytes([1]) * 32])).key_set
