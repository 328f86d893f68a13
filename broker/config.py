"""What access.yaml says, as values that the rest works with; broker/policy_file reads and checks the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path

from broker.identity.directory import Directory, StaticDirectory
from workflows.policy import Policy


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the file: where (from 1), what, and what would be right."""

    file: str
    line: int
    column: int
    what: str
    suggestion: str = ""

    def __str__(self) -> str:
        tail = f" — {self.suggestion}" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {self.what}{tail}"


class ConfigError(ValueError):
    """The file cannot be used. `problems` holds all of it, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is: `env:NAME` or `file:PATH` (relative to the policy file). Never the secret."""

    text: str
    base: Path = Path()

    def read(self) -> str:
        """The secret. Raises LookupError, which names the place and not the content."""
        kind, _, place = self.text.partition(":")
        if kind == "env":
            if value := os.environ.get(place):
                return value
            raise LookupError(f"the environment variable {place} is not set")
        try:
            return (self.base / place).read_text().rstrip("\r\n")
        except OSError as error:
            raise LookupError(f"the file {place} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class SecretGiven:
    """A secret that came another way than by the policy file."""

    secret: str = field(repr=False)

    def read(self) -> str:
        return self.secret


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """Where a PostgreSQL resource is and who makes logins there.

    `tls` is disable, require or verify-full; `ca` is a PEM text, empty for the system's store.
    """

    host: str
    port: int
    database: str
    tls: str
    ca: str
    admin_user: str
    admin_password: SecretRef


@dataclass(frozen=True, slots=True)
class SshTarget:
    """Where an SSH host is. It proves itself by one of `host_keys` or by a certificate of one of `host_cas`
    (OpenSSH lines). Without a `key` the broker's own CA, which the host trusts, makes one for each session.
    """

    host: str
    port: int
    host_keys: tuple[str, ...]
    host_cas: tuple[str, ...]
    key: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class Mint:
    """The service account whose tokens the gate enters a cluster with, one a grant."""

    namespace: str
    service_account: str


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """Where a Kubernetes API server is; `ca` is a PEM text, empty for the system's store. With `mint` the
    `token` makes tokens of that account and is the broker's alone; else sessions enter with it.
    """

    host: str
    port: int
    ca: str
    token: SecretRef
    mint: Mint | None = None


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where an HTTP service is, and what the gate tells it: who asks, signed (`identity_header`); `headers`,
    over which those of the grant's role come, with names in braces for who asks; the `credential`, which no
    person sees. Clients may send neither these nor the ones in `removed`. `authority` is the service's name
    for itself, empty for its address.
    """

    host: str
    port: int
    tls: str
    ca: str
    authority: str = ""
    identity_header: str = "Portcullis-Identity"
    credential_header: str = ""
    credential_prefix: str = ""
    credential: SecretRef | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    role_headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


Target = PostgresTarget | SshTarget | HttpTarget | ClusterTarget


@dataclass(frozen=True, slots=True)
class ScheduleSource:
    """Where it is looked up who is on call; broker/oncall has one adapter for each `source`.

    `url` is empty where the source is at its usual place. With a `turn` the static `people` take turns of
    that length from `starts` on, else all of them are on call.
    """

    source: str
    id: str = ""
    key: SecretRef | None = None
    user: str = ""
    url: str = ""
    file: Path | None = None
    people: tuple[str, ...] = ()
    turn: timedelta | None = None
    starts: datetime | None = None
    pager: str = ""
    """The pager that calls whoever is on call for it; empty: they are told in chat alone."""


@dataclass(frozen=True, slots=True)
class PagerTarget:
    """A service that pages people; broker/paging has one adapter for each `via`. `url` is empty where the
    service is at its usual place; `schedule` is whom it calls, where the key alone does not say.
    """

    via: str
    key: SecretRef
    url: str = ""
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """`team` is the workspace's id; empty: whichever the bot token belongs to.

    `match_email` takes an account for the person with the same address, without a login. `other_email` lets
    somebody link an account whose address is not theirs.
    """

    team: str = ""
    match_email: bool = False
    other_email: bool = False


@dataclass(frozen=True, slots=True)
class AgentRule:
    """Which workload is the agent `name`: tokens of `issuer` for `audience` whose claims each have one of the
    values given. `keys` is the issuer's JWKS where it is not asked for it. `login` is how long a login lasts;
    `longest` bounds its grants, where the rules do not already.
    """

    name: str
    owner: str
    issuer: str
    audience: str
    claims: tuple[tuple[str, tuple[str, ...]], ...]
    keys: str = ""
    login: timedelta = timedelta(minutes=15)
    requests_per_hour: int = 10
    longest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class GroupSource:
    """How a provider tells groups, and which of ours they are: `names` maps its names to ours.

    `look_up` is where they are asked for when the answer does not hold them: `entra` (Microsoft Graph),
    `google` (Directory API, by the service account in `account` that acts for the administrator `admin`), or
    "" (nowhere). What is known counts for `max_age`. `url` replaces the API's usual place.
    """

    claim: str = "groups"
    names: Mapping[str, str] = field(default_factory=dict)
    look_up: str = ""
    max_age: timedelta = timedelta(hours=12)
    account: SecretRef | None = None
    admin: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What every identity provider has. `domains` are the e-mail domains whose people it speaks for.

    At the first login the claim `match` finds the person: against their address (`against` is email) or their
    id. An address that the provider does not say it has verified counts only with `trust_email`.
    """

    name: str
    title: str
    domains: frozenset[str] = frozenset()
    match: str = "email"
    against: str = "email"
    trust_email: bool = False
    groups: GroupSource | None = None


@dataclass(frozen=True, slots=True)
class OidcSettings(ProviderSettings):
    issuer: str = ""
    client_id: str = ""
    client_secret: SecretRef | SecretGiven | None = None
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    check_every: timedelta | None = None
    """How long a login counts without a new word of the provider's, by a refresh token; nothing: until its
    end.
    """
    subject: str = "sub"
    """The claim that names an account for good: `sub`, or Entra's `oid`, by which Graph knows it, too."""
    ca: str = ""
    """PEM of the authority that the provider's certificate is verified by; empty: the system's."""


@dataclass(frozen=True, slots=True)
class SamlSettings(ProviderSettings):
    """`entity` is how the identity provider calls itself, `sign_in` where browsers are sent (HTTP-Redirect).

    An answer must be signed by one of `certificates` (PEM). `subject`, `email` and the groups' claim are
    names of attributes; an empty `subject` is the NameID. `key` (PEM) opens encrypted assertions.
    """

    entity: str = ""
    sign_in: str = ""
    certificates: tuple[str, ...] = ()
    subject: str = ""
    email: str = ""
    key: SecretRef | None = None
    idp_initiated: bool = False
    """Whether somebody may come in without having begun here. Then a stranger can log them in as himself."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. `targets` is keyed by resource name.

    `provisioned` lets an identity provider bring people and groups besides (SCIM); `provider_groups` are the
    groups here by their names there.
    """

    policy: Policy = field(default_factory=Policy)
    directory: Directory = field(default_factory=lambda: StaticDirectory({}))
    targets: Mapping[str, Target] = field(default_factory=dict)
    slack: SlackSettings = SlackSettings()
    timezone: str = "UTC"
    schedules: Mapping[str, ScheduleSource] = field(default_factory=dict)
    incidents: ScheduleSource | None = None
    """Where it is looked up whether an incident is open; None: nowhere."""
    agents: Mapping[str, AgentRule] = field(default_factory=dict)
    provisioned: bool = False
    provider_groups: Mapping[str, str] = field(default_factory=dict)
    pagers: Mapping[str, PagerTarget] = field(default_factory=dict)
    providers: Mapping[str, OidcSettings | SamlSettings] = field(default_factory=dict)

    def secrets(self) -> Iterator[tuple[str, SecretRef]]:
        """Every secret that the file names, with what it is for."""
        for named in (self.targets, self.schedules, self.pagers, self.providers):
            for name, it in named.items():
                values = (getattr(it, part.name) for part in fields(it))
                yield from ((name, value) for value in values if isinstance(value, SecretRef))
