"""Identity providers in access.yaml: their shape, what is checked about them, and their values."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import AfterValidator, Field

from broker.config import GroupSource, OidcSettings, Problem, SamlSettings, SecretRef
from broker.policy_file import marks
from broker.policy_file.basics import Secret, Shape, Span
from broker.policy_file.marks import Marked
from broker.policy_file.near import near

if TYPE_CHECKING:
    from broker.policy_file.schema import FileShape


def _address(value: str) -> str:
    parts = urlsplit(value)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local)):
        return value
    raise ValueError("here belongs an https address")


def _domain(value: str) -> str:
    if "@" in value or "." not in value:
        raise ValueError("a domain is written like example.com")
    return value.casefold()


Address = Annotated[str, AfterValidator(_address)]
Domain = Annotated[str, AfterValidator(_domain)]


class GroupsShape(Shape):
    as_: dict[str, str] = Field(alias="as", min_length=1)
    """The provider's name of a group, and ours. Only what stands here gives anything."""
    claim: Annotated[str, Field(min_length=1)] = "groups"
    look_up: Literal["", "entra", "google"] = ""
    max_age: Span = timedelta(hours=12)
    account: Secret | None = None
    admin: str = ""
    url: Address | None = None


class _AnyProvider(Shape):
    title: str = ""
    domains: list[Domain] = []
    match: Annotated[str, Field(min_length=1)] = "email"
    against: Literal["email", "id"] | None = None
    """Nothing: `match: email` is compared with addresses, anything else with ids."""
    trust_email: bool = False
    groups: GroupsShape | None = None


class OidcShape(_AnyProvider):
    kind: Literal["oidc"]
    issuer: Address
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Secret | None = None
    scopes: list[str] = []
    """More than openid, email and profile."""
    subject: Literal["sub", "oid"] = "sub"
    check_every: Span | None = None
    """How often the provider is asked whether a login still stands; it takes the scope offline_access."""
    ca: str = ""


class SamlShape(_AnyProvider):
    kind: Literal["saml"]
    entity: Annotated[str, Field(min_length=1)]
    sign_in: Address
    certificates: list[str] = Field(min_length=1)
    subject: str = ""
    email: str = ""
    key: Secret | None = None
    idp_initiated: bool = False


ProviderShape = Annotated[OidcShape | SamlShape, Field(discriminator="kind")]


def check(marked: Marked, shape: FileShape, base: Path) -> Iterator[Problem]:
    yield from _people(marked, shape)
    owners: dict[str, str] = {}
    issuers: dict[str, str] = {}
    for name, provider in shape.providers.items():
        path: marks.Path = ("providers", name)
        issuer, field = _issuer(provider)
        if issuer in issuers:
            yield marked.problem((*path, field), f"{issuers[issuer]} is this provider already")
        issuers.setdefault(issuer, name)
        if not provider.domains and len(shape.providers) > 1 and not _named(shape, name):
            yield marked.problem(
                path, f"nobody says whose people {name} speaks for", "domains: [example.com]"
            )
        for index, domain in enumerate(provider.domains):
            if domain in owners:
                what = f"{owners[domain]} speaks for the people of {domain} already"
                yield marked.problem((*path, "domains", index), what, "one provider for one domain")
            owners.setdefault(domain, name)
        yield from _groups(marked, shape, (*path, "groups"), provider)
        if isinstance(provider, SamlShape):
            for index, file in enumerate(provider.certificates):
                yield from _certificate(marked, (*path, "certificates", index), base / file)
        elif provider.ca:
            yield from _certificate(marked, (*path, "ca"), base / provider.ca)


def _people(marked: Marked, shape: FileShape) -> Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    for key, person in shape.people.items():
        path: marks.Path = ("people", key)
        if person.provider and person.provider not in shape.providers:
            what = f"there is no provider “{person.provider}”"
            yield marked.problem((*path, "provider"), what, near(person.provider, shape.providers))
        if not person.subject:
            continue
        if not person.provider:
            yield marked.problem((*path, "subject"), "“subject” needs a “provider” whose account it is")
        account = (person.provider, person.subject)
        if account in seen:
            yield marked.problem((*path, "subject"), f"{seen[account]} has this account already")
        seen.setdefault(account, key)


def _groups(
    marked: Marked, shape: FileShape, path: marks.Path, provider: OidcShape | SamlShape
) -> Iterator[Problem]:
    groups = provider.groups
    if groups is None:
        return
    for theirs, ours in groups.as_.items():
        if ours not in shape.groups:
            yield marked.problem(
                (*path, "as", theirs), f"there is no group “{ours}”", near(ours, shape.groups)
            )
    if groups.look_up and isinstance(provider, SamlShape):
        yield marked.problem((*path, "look_up"), "a SAML provider tells groups as an attribute", "claim: …")
    if groups.look_up == "google" and not (groups.account and "@" in groups.admin):
        what = "Google is asked by a service account that acts for an administrator"
        yield marked.problem((*path, "look_up"), what, "account: file:…json and admin: admin@example.com")


def _certificate(marked: Marked, path: marks.Path, file: Path) -> Iterator[Problem]:
    try:
        x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        yield marked.problem(path, f"cannot be read: {error.strerror or 'not a PEM certificate'}")
    except ValueError:
        yield marked.problem(path, "this file holds no PEM certificate")


def _named(shape: FileShape, provider: str) -> bool:
    return any(person.provider == provider for person in shape.people.values())


def _issuer(provider: OidcShape | SamlShape) -> tuple[str, str]:
    return (provider.issuer, "issuer") if isinstance(provider, OidcShape) else (provider.entity, "entity")


# ------------------------------------------------------------------ values


def value(name: str, shape: OidcShape | SamlShape, base: Path) -> OidcSettings | SamlSettings:
    against = shape.against or ("email" if shape.match == "email" else "id")
    title, domains, groups = shape.title or name, frozenset(shape.domains), _source(shape, base)
    if isinstance(shape, SamlShape):
        return SamlSettings(
            name=name,
            title=title,
            domains=domains,
            match=shape.match,
            against=against,
            trust_email=True,  # a SAML provider says nothing of verified: its word is all there is
            groups=groups,
            entity=shape.entity,
            sign_in=shape.sign_in,
            certificates=tuple((base / file).read_text() for file in shape.certificates),
            subject=shape.subject,
            email=shape.email,
            key=SecretRef(shape.key, base.absolute()) if shape.key else None,
            idp_initiated=shape.idp_initiated,
        )
    scopes = ["openid", "email", "profile", *shape.scopes]
    if shape.check_every:
        scopes.append("offline_access")
    return OidcSettings(
        name=name,
        title=title,
        domains=domains,
        match=shape.match,
        against=against,
        trust_email=shape.trust_email,
        groups=groups,
        issuer=shape.issuer,
        client_id=shape.client_id,
        client_secret=SecretRef(shape.client_secret, base.absolute()) if shape.client_secret else None,
        subject=shape.subject,
        check_every=shape.check_every,
        scopes=tuple(dict.fromkeys(scopes)),
        ca=(base / shape.ca).read_text() if shape.ca else "",
    )


def _source(shape: OidcShape | SamlShape, base: Path) -> GroupSource | None:
    it = shape.groups
    if it is None:
        return None
    account = SecretRef(it.account, base.absolute()) if it.account else None
    return GroupSource(it.claim, dict(it.as_), it.look_up, it.max_age, account, it.admin, it.url or "")
