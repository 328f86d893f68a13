"""Identity providers in access.yaml: a good one has its meaning; what is wrong is said with its place."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from broker.config import ConfigError, GroupSource, OidcSettings, SamlSettings, SecretRef
from broker.policy_file.holder import load
from tests.saml_idp import key_pair

HEAD = """\
people:
  ada: {name: Ada, email: ada@example.com}
  una: {name: Una, email: una@elsewhere.example, provider: corp, subject: u-1}
groups: {dba: {}, engineers: {}}
providers:
"""
OKTA = """\
  okta:
    kind: oidc
    title: Okta
    issuer: https://example.okta.com
    client_id: 0oa1
    client_secret: env:OKTA_SECRET
    domains: [Example.com]
    groups: {claim: groups, as: {prod-dba: dba}, max_age: 8h}
"""
CORP = """\
  corp:
    kind: saml
    entity: https://idp.example.net
    sign_in: https://idp.example.net/sso
    certificates: [idp.pem]
    email: mail
    key: file:saml.key
"""


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "access.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "idp.pem").write_text(CERTIFICATE)
    return tmp_path


CERTIFICATE = key_pair()[1]


def test_good_providers_have_their_meaning(folder: Path) -> None:
    (folder / "access.yaml").write_text(HEAD + OKTA + CORP)
    config = load(folder / "access.yaml")
    assert config.providers["okta"] == OidcSettings(
        name="okta",
        title="Okta",
        domains=frozenset({"example.com"}),
        issuer="https://example.okta.com",
        client_id="0oa1",
        client_secret=SecretRef("env:OKTA_SECRET", folder.absolute()),
        groups=GroupSource("groups", {"prod-dba": "dba"}, max_age=timedelta(hours=8)),
    )
    corp = config.providers["corp"]
    assert isinstance(corp, SamlSettings)
    assert (corp.title, corp.entity, corp.certificates) == ("corp", "https://idp.example.net", (CERTIFICATE,))
    assert not corp.idp_initiated
    assert config.directory.account("una") == ("corp", "u-1")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: oidc", "kind: ldap", "7:11: “ldap” does not fit here — one of: oidc or saml"),
        ("    kind: oidc\n", "", "“kind” is missing — oidc or saml"),
        ("https://example.okta.com", "http://example.okta.com", "here belongs an https address"),
        ("env:OKTA_SECRET", "hunter2", "a secret never stands in this file"),
        ("[Example.com]", "[ada@example.com]", "a domain is written like example.com"),
        ("prod-dba: dba", "prod-dba: dbas", "there is no group “dbas” — did you mean “dba”?"),
        ("claim: groups", "look_up: google", "an administrator — account: file:…json and admin: admin@"),
        ("provider: corp", "provider: crop", "there is no provider “crop” — did you mean “corp”?"),
        ("provider: corp, subject", "subject", "“subject” needs a “provider”"),
        ("idp.pem", "missing.pem", "cannot be read"),
        (
            "email: mail",
            "email: mail\n    domains: [example.com]",
            "okta speaks for the people of example.com",
        ),
        ("https://idp.example.net\n", "https://example.okta.com\n", "okta is this provider already"),
        ("certificates: [idp.pem]", "certificates: []", "at least one is needed here"),
        ("issuer:", "isuer:", "“isuer” is not known here — did you mean “issuer”?"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    text = HEAD + OKTA + CORP
    assert old in text
    found = problems(folder, text.replace(old, new, 1))
    assert any(said in line for line in found), found


def test_with_several_providers_each_says_whose_people_it_speaks_for(folder: Path) -> None:
    text = (HEAD + OKTA + CORP).replace(", provider: corp, subject: u-1", "")
    assert any("nobody says whose people corp speaks for" in line for line in problems(folder, text))
