"""The words of Portcullis as frozen values.

Every other package speaks in these. Instants are aware UTC datetimes, spans are timedeltas, ids are opaque
strings (`R-…` an access request, `G-…` a grant, `S-…` a session). Nothing here does I/O, reads a clock or
draws a random number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from workflows.http import HttpTerms, RequestMatch


class PrincipalKind(StrEnum):
    PERSON = "person"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or an agent as the identity provider knows it at this moment. One that is `locked` is not
    `active` either, for as long as the lock is on. `relations` are what they share with others, as (relation,
    value): ("team", "checkout"). An empty value says that they have none. `owner` is the person an agent
    belongs to.
    """

    id: str
    name: str
    email: str
    groups: frozenset[str] = frozenset()
    kind: PrincipalKind = PrincipalKind.PERSON
    active: bool = True
    locked: bool = False
    relations: frozenset[tuple[str, str]] = frozenset()
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A set of principals that a rule names. `channel` and `mention` are where chat reaches it."""

    name: str
    title: str = ""
    channel: str = ""
    mention: str = ""


@dataclass(frozen=True, slots=True)
class Mask:
    """A column whose clear value never leaves the gate.

    `table` is `schema.table`; `method` is one of full, null, last4, email, hash, pseudonym.
    """

    table: str
    column: str
    method: str = "full"


class StatementClass(StrEnum):
    """What a statement can do, from harmless to unread; the worst part of a statement gives its class."""

    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"
    ADMIN = "admin"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What a guardrail does with a statement that it fits."""

    ALLOW = "allow"
    REFUSE = "refuse"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Relation:
    """What people may share that makes them too near to decide for each other, by its name: a team, a
    manager. Members of one of `groups` share that group; without groups it is said of each person.
    """

    name: str
    groups: tuple[str, ...] = ()

    def shared(self, one: Principal, other: Principal) -> bool:
        """Whether these two share it. Where it is not known of one of them, it counts as shared."""
        both = self._values(one) & self._values(other)
        return not (both <= {""} and self.known_of(one) and self.known_of(other))

    def known_of(self, person: Principal) -> bool:
        """Whether it can be told what this person shares: by the groups it always can."""
        return bool(self.groups or self._values(person))

    def _values(self, person: Principal) -> frozenset[str]:
        said = {value for name, value in person.relations if name == self.name}
        return frozenset(said) | (person.groups & frozenset(self.groups))


@dataclass(frozen=True, slots=True)
class Quorum:
    """`needed` distinct people of `group` must say yes. `also` are groups that may fill the same seats since
    nobody of `group` answered in time. Who shares one of `apart` with somebody whose matter it is fills none.
    """

    group: str
    needed: int = 1
    also: tuple[str, ...] = ()
    apart: tuple[Relation, ...] = ()

    def open_to(self, principal: Principal) -> bool:
        return self.group in principal.groups or not principal.groups.isdisjoint(self.also)


@dataclass(frozen=True, slots=True)
class ApiMatch:
    """Which requests to a Kubernetes API server a guardrail is about, in RBAC's words; what is empty fits
    any.

    `verbs` are get, list, watch, create, update, patch, delete, deletecollection and connect, which is exec,
    attach, port-forward and proxy. `groups` are API groups, the core's being the empty text. `resources` are
    like `pods`, `pods/exec`, `*/scale` or `*`. `paths` are for requests that are for no resource. In all of
    them but `verbs` a `*` stands for anything.
    """

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One rule about statements; of a role's guardrails the first that fits a statement applies.

    Empty `classes`, `tables`, `columns` or `kinds` fit any. `tables` are `schema.table`, `columns`
    `schema.table.column`, where `*` stands for any part; `kinds` are like select, delete, drop. `bounded`
    asks whether a condition bounds what is changed, `when` is a condition (workflows/condition.py). A held
    statement waits for `quorum` for at most `hold_for`. `row_limit` bounds the rows a statement may affect
    or return, `timeout` how long it may run. `dry_run` lets a held statement be counted in a transaction that
    is rolled back. `message` is told to whoever meets the rule. `commands` are patterns over the words of
    one command of a shell line, where `*` is anything. `step_up` has a yes need a passkey. `request` is there
    for HTTP services only, `api` for requests to a Kubernetes API server.
    """

    name: str
    action: Action
    classes: frozenset[StatementClass] = frozenset()
    tables: tuple[str, ...] = ()
    quorum: tuple[Quorum, ...] = ()
    hold_for: timedelta = timedelta(minutes=15)
    row_limit: int | None = None
    message: str = ""
    columns: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    bounded: bool | None = None
    when: str = ""
    timeout: timedelta | None = None
    dry_run: bool = False
    step_up: bool = False
    commands: tuple[str, ...] = ()
    request: RequestMatch | None = None
    api: ApiMatch | None = None


@dataclass(frozen=True, slots=True)
class FileRule:
    """What may be done with the files of a host that fit one of `paths`; of several rules the first that fits
    applies. `**` is any part of a path, `*` any part of a name. `allow` holds list, read, write, delete.
    """

    paths: tuple[str, ...]
    allow: frozenset[str]


@dataclass(frozen=True, slots=True)
class HostTerms:
    """What a session on an SSH host may be, beside the guardrails on its commands.

    `user` is whom it logs in as. `shell` is refuse, record or lines (only whole lines, each judged as a
    command). `environment` are the names that a client may set, `*` being any part. No rule of `files` that
    fits means no. `forward` are the places it may reach from the host, as `host:port` or a socket's path,
    `listen` those where the host may take connections for the client; `subsystems` are those besides sftp.
    """

    user: str
    shell: str = "refuse"
    environment: tuple[str, ...] = ()
    files: tuple[FileRule, ...] = ()
    forward: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    subsystems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterTerms:
    """What a session at a Kubernetes API server may be, beside the guardrails on its requests.

    It acts as `user`, or as the principal where that is empty, in the cluster's `groups`. `connect` are the
    ways into the cluster that are open at all, like `pods/exec`, where `*` is anything. `secrets` tells
    whether the data of Secrets is shown: mask or clear.
    """

    groups: tuple[str, ...]
    user: str = ""
    connect: tuple[str, ...] = ()
    secrets: str = "mask"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the gate enforces for a grant.

    `detect` names what is masked wherever it stands inside the text of a column without a mask: email, card,
    iban, phone, national_id. `trusted_functions` are the target's own functions that read no masked column
    and change nothing. `hold_commit` has a transaction that wrote something wait at its COMMIT; of this
    guardrail name, quorum, hold_for and message count. `hold_all` has every statement wait, also one that
    the guardrails allow: for a grant that serves one submitted statement. `host` is there for SSH hosts only,
    `http` for HTTP services, `cluster` for Kubernetes.
    """

    masks: tuple[Mask, ...] = ()
    max_sessions: int = 20
    guardrails: tuple[Guardrail, ...] = ()
    detect: tuple[str, ...] = ()
    trusted_functions: frozenset[str] = frozenset()
    hold_commit: Guardrail | None = None
    hold_all: Guardrail | None = None
    host: HostTerms | None = None
    http: HttpTerms | None = None
    cluster: ClusterTerms | None = None

    @property
    def client(self) -> str:
        """The command of ours by which one enters: `access psql`, `access ssh`, `access http`, `access
        kubeconfig`.
        """
        if self.cluster:
            return "kubeconfig"
        return "ssh" if self.host else "http" if self.http else "psql"

    def steps_up(self, rule: str) -> bool:
        """Whether a yes to what this rule holds needs a passkey; several guardrails that hold one text are
        named with a comma between them.
        """
        names, extra = rule.split(", "), (self.hold_commit, self.hold_all)
        rails = (*self.guardrails, *(rail for rail in extra if rail))
        return any(rail.step_up for rail in rails if rail.name in names)


@dataclass(frozen=True, slots=True)
class Role:
    """What one may do on a resource. `memberships` are the target's own roles that a login is given. `within`
    are the roles of which this one is a part, so that an approver may give it in their place.
    """

    name: str
    memberships: tuple[str, ...]
    terms: Terms = Terms()
    title: str = ""
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """A target behind the gate, without any secret or address."""

    name: str
    kind: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()

    def role(self, name: str) -> Role | None:
        return next((role for role in self.roles if role.name == name), None)


@dataclass(frozen=True, slots=True)
class Approval:
    """One approver's yes or no. `proof` is what proved the person beyond their login, in words."""

    approver: str
    yes: bool
    at: datetime
    reason: str = ""
    proof: str = ""


class Verdict(StrEnum):
    """What a review after the fact found."""

    JUSTIFIED = "justified"
    NOT_JUSTIFIED = "not justified"


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """An emergency: access was taken first, and a review is owed.

    `eligible_by` is what let the person do it, in words; `concerns` is what a reviewer should look at.
    `skipped` are the principals who would have decided. `reviewers` are groups; `reminded` counts reminders.
    A `drill` rehearses it: its grant lets nobody in, and no review is owed; `findings` is what it found. Who
    shares one of `apart` with whoever did it does not review it. `told` are principals who hear of it without
    a say, like a manager.
    """

    incident: str
    rule: str
    eligible_by: str
    at: datetime
    review_due: datetime
    reviewers: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()
    reminded: int = 0
    verdict: Verdict | None = None
    reviewed_by: str = ""
    reviewed_at: datetime | None = None
    review_note: str = ""
    drill: bool = False
    findings: tuple[str, ...] = ()
    apart: tuple[Relation, ...] = ()
    told: tuple[str, ...] = ()


class ExtensionState(StrEnum):
    PENDING = "pending"
    GRANTED = "granted"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Extension:
    """A wish for more time on a live grant. Nobody's decision by the end of the grant is a no."""

    asked_at: datetime
    span: timedelta
    reason: str = ""
    state: ExtensionState = ExtensionState.PENDING
    approvals: tuple[Approval, ...] = ()
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote about a request, kept with it."""

    by: str
    at: datetime
    text: str


class RequestState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CANCELLED = "cancelled"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A principal's wish for a role on a resource, with the rule and the quorum that decide it.

    `lapses_at` is when a request nobody decided ends by itself. `closed_by` is who denied or cancelled it.
    `steps` counts the steps of its rule's ladder that were taken; `claimed_by` is who said “looking”.
    `warned` tells that the holder was told of the coming end. `starts_at` is when the access is to begin;
    None: at once. `statement` is the review (V-…) whose one statement the grant is for, and for nothing else.
    `beneficiary` is whom the access is for, where that is not whoever asked.
    `step_up` has every yes need a passkey. `owner` is the person an agent that asked belongs to.
    """

    id: str
    requester: str
    resource: str
    role: str
    duration: timedelta
    reason: str
    rule: str
    quorum: tuple[Quorum, ...]
    terms: Terms
    created_at: datetime
    lapses_at: datetime
    state: RequestState = RequestState.PENDING
    approvals: tuple[Approval, ...] = ()
    closed_by: str = ""
    closed_at: datetime | None = None
    close_reason: str = ""
    emergency: BreakGlass | None = None
    extensions: tuple[Extension, ...] = ()
    steps: int = 0
    claimed_by: str = ""
    claimed_at: datetime | None = None
    nudged_at: datetime | None = None
    comments: tuple[Comment, ...] = ()
    warned: bool = False
    starts_at: datetime | None = None
    statement: str = ""
    step_up: bool = False
    beneficiary: str = ""
    owner: str = ""

    @property
    def holder(self) -> str:
        """Who gets the grant."""
        return self.beneficiary or self.requester

    @property
    def parties(self) -> frozenset[str]:
        """Those whose matter it is, who therefore never decide it."""
        return frozenset({self.requester, self.holder, self.owner}) - {""}


class GrantState(StrEnum):
    MINTING = "minting"
    """Approved; the login is being made and no gate has confirmed that it holds the grant."""
    ACTIVE = "active"
    ENDED = "ended"


class EndReason(StrEnum):
    EXPIRED = "expired"
    RELEASED = "released"
    REVOKED = "revoked"
    FAILED = "failed"
    """The login could not be made, so nothing was ever open."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A principal's right to a role on a resource from `not_before` until `expiry`, on `terms`."""

    id: str
    request_id: str
    principal: str
    resource: str
    role: str
    terms: Terms
    not_before: datetime
    expiry: datetime
    state: GrantState = GrantState.MINTING
    held_by: str = ""
    end_reason: EndReason | None = None
    ended_by: str = ""
    ended_at: datetime | None = None
    end_note: str = ""

    def live(self, now: datetime) -> bool:
        """Whether the gate may let its holder in at `now`."""
        return self.state is not GrantState.ENDED and self.not_before <= now < self.expiry


@dataclass(frozen=True, slots=True)
class Story:
    """One access request with the grant it led to: the unit that is decided, stored and shown.

    `version` counts its transitions; a card that shows version n shows the database at n.
    """

    request: AccessRequest
    grant: Grant | None = None
    version: int = 0


class ReviewState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    RUNNING = "running"
    """Spent: the gate has taken the one run that was approved."""
    FINISHED = "finished"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    """Whoever sent it cancelled, went away, or lost the grant."""
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Statement:
    """One command, on the wire or submitted in chat, as its reader understood it.

    `digest` is the SHA-256 (hexadecimal) of the very bytes. `bounded` tells whether a condition bounds what
    it touches; None where that cannot be said. `estimate` is how many rows it will touch: counted in a
    rolled-back run where `counted`, else the planner's guess.
    """

    text: str
    digest: str
    statement_class: StatementClass
    tables: tuple[str, ...] = ()
    bounded: bool | None = None
    estimate: int | None = None
    counted: bool = False


@dataclass(frozen=True, slots=True)
class StatementReview:
    """A held or submitted statement that awaits a decision, under `rule` of the terms of `grant_id`.

    One that was `submitted`, in chat or by command, has neither `grant_id` nor `session_id` until it runs.
    `transaction` tells what it stands in, for the approver. `row_budget` is how many rows it may affect;
    more, and it is rolled back. `step_up` has every yes need a passkey. `owner` is whose agent sent it.
    """

    id: str
    requester: str
    resource: str
    role: str
    grant_id: str
    session_id: str
    statement: Statement
    rule: str
    quorum: tuple[Quorum, ...]
    created_at: datetime
    lapses_at: datetime
    transaction: str = ""
    reason: str = ""
    state: ReviewState = ReviewState.PENDING
    approvals: tuple[Approval, ...] = ()
    row_budget: int | None = None
    closed_by: str = ""
    closed_at: datetime | None = None
    close_reason: str = ""
    outcome: str = ""
    version: int = 0
    submitted: bool = False
    step_up: bool = False
    owner: str = ""

    @property
    def parties(self) -> frozenset[str]:
        """Those whose matter it is, who therefore never decide it."""
        return frozenset({self.requester, self.owner}) - {""}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done, and the way out. `code` is stable, the texts are for people. `link` is a
    page of ours where it goes on.

    Nothing private stands in them: a person who may not see a resource is not told that it exists.
    """

    code: str
    why: str
    way_out: str = ""
    link: str = ""

    def __str__(self) -> str:
        return f"{self.why} {self.way_out}".strip()
