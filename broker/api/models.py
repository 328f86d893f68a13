"""What the API takes and gives, as JSON. Instants are ISO 8601 in UTC, spans are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from broker.store.sessions import SessionRecord
from workflows.model import Approval, BreakGlass, Extension, Grant, Principal, Resource, Story

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=500)]
Line = Annotated[str, StringConstraints(max_length=1500)]
LONGEST = 30 * 24 * 3600


def whole(value: object) -> object:
    """JSON knows one kind of number: 60.0 is the whole number 60."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Seconds = Annotated[int, Field(ge=60, le=LONGEST), BeforeValidator(whole)]


class In(BaseModel):
    """Strict: a field that is not known, or of another type, is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LineIn(In):
    line: Line = Field(description="What one would type in chat: `request prod-db 1h because INC-142`.")


class RequestIn(In):
    resource: Name
    role: Annotated[str, StringConstraints(max_length=200)] = ""
    seconds: Seconds | None = Field(None, description="Nothing means the rule's usual span.")
    reason: Text = ""
    starts_at: Annotated[AwareDatetime | None, Field(strict=False)] = Field(
        None, description="When the access is to begin; nothing means at once."
    )
    beneficiary: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", description="The principal whom it is for; nothing means oneself."
    )


class DecisionIn(In):
    reason: Text = ""


class EmptyIn(In):
    pass


class ApprovalOut(BaseModel):
    approver: str
    yes: bool
    at: datetime
    reason: str
    proof: str = Field("", description="What proved the approver beyond the login, as a passkey.")

    @staticmethod
    def of(it: Approval) -> ApprovalOut:
        return ApprovalOut(approver=it.approver, yes=it.yes, at=it.at, reason=it.reason, proof=it.proof)


class QuorumOut(BaseModel):
    group: str
    needed: int
    also: list[str] = Field([], description="Groups that may fill the same seats by now.")


class GrantOut(BaseModel):
    id: str
    state: Literal["minting", "active", "ended"]
    not_before: datetime
    expiry: datetime
    end_reason: str
    ended_by: str
    ended_at: datetime | None
    end_note: str

    @staticmethod
    def of(grant: Grant) -> GrantOut:
        return GrantOut(
            id=grant.id,
            state=grant.state.value,
            not_before=grant.not_before,
            expiry=grant.expiry,
            end_reason=grant.end_reason.value if grant.end_reason else "",
            ended_by=grant.ended_by,
            ended_at=grant.ended_at,
            end_note=grant.end_note,
        )


class EmergencyOut(BaseModel):
    """Access that was taken first; a review is owed until there is a `verdict`."""

    incident: str
    rule: str
    eligible_by: str = Field(description="What let the person do it.")
    concerns: list[str] = Field(description="What a reviewer should look at.")
    skipped: list[str] = Field(description="Who would have decided.")
    reviewers: list[str] = Field(description="The groups whose members review.")
    review_due: datetime
    verdict: Literal["", "justified", "not justified"]
    reviewed_by: str
    reviewed_at: datetime | None
    review_note: str
    drill: bool = Field(False, description="A rehearsal: nothing is open.")
    findings: list[str] = Field([], description="What a drill found.")

    @staticmethod
    def of(it: BreakGlass) -> EmergencyOut:
        return EmergencyOut(
            incident=it.incident,
            rule=it.rule,
            eligible_by=it.eligible_by,
            concerns=list(it.concerns),
            skipped=list(it.skipped),
            reviewers=list(it.reviewers),
            review_due=it.review_due,
            verdict=it.verdict.value if it.verdict else "",
            reviewed_by=it.reviewed_by,
            reviewed_at=it.reviewed_at,
            review_note=it.review_note,
            drill=it.drill,
            findings=list(it.findings),
        )


class ExtensionOut(BaseModel):
    asked_at: datetime
    seconds: int
    reason: str
    state: Literal["pending", "granted", "denied"]
    approvals: list[ApprovalOut]

    @staticmethod
    def of(it: Extension) -> ExtensionOut:
        return ExtensionOut(
            asked_at=it.asked_at,
            seconds=int(it.span.total_seconds()),
            reason=it.reason,
            state=it.state.value,
            approvals=[ApprovalOut.of(a) for a in it.approvals],
        )


class CommentOut(BaseModel):
    by: str
    at: datetime
    text: str


class StoryOut(BaseModel):
    """An access request and the grant that it led to. `version` counts its transitions."""

    id: str
    state: Literal["pending", "approved", "denied", "cancelled", "lapsed"]
    requester: str
    beneficiary: str = Field("", description="Whom it is for, where that is not the requester.")
    resource: str
    role: str
    seconds: int
    reason: str
    rule: str
    quorum: list[QuorumOut]
    approvals: list[ApprovalOut]
    created_at: datetime
    lapses_at: datetime
    closed_by: str
    closed_at: datetime | None
    close_reason: str
    version: int
    grant: GrantOut | None
    starts_at: datetime | None = Field(None, description="When the access is to begin; null: at once.")
    claimed_by: str = Field("", description="Who said “looking”.")
    emergency: EmergencyOut | None = None
    extensions: list[ExtensionOut] = []
    comments: list[CommentOut] = []
    step_up: bool = Field(False, description="Whether each yes needs a passkey.")

    @staticmethod
    def of(story: Story) -> StoryOut:
        it = story.request
        return StoryOut(
            id=it.id,
            state=it.state.value,
            requester=it.requester,
            beneficiary=it.beneficiary,
            resource=it.resource,
            role=it.role,
            seconds=int(it.duration.total_seconds()),
            reason=it.reason,
            rule=it.rule,
            quorum=[QuorumOut(group=q.group, needed=q.needed, also=list(q.also)) for q in it.quorum],
            approvals=[ApprovalOut.of(a) for a in it.approvals],
            created_at=it.created_at,
            lapses_at=it.lapses_at,
            closed_by=it.closed_by,
            closed_at=it.closed_at,
            close_reason=it.close_reason,
            version=story.version,
            grant=GrantOut.of(story.grant) if story.grant else None,
            starts_at=it.starts_at,
            claimed_by=it.claimed_by,
            emergency=EmergencyOut.of(it.emergency) if it.emergency else None,
            extensions=[ExtensionOut.of(e) for e in it.extensions],
            comments=[CommentOut(by=c.by, at=c.at, text=c.text) for c in it.comments],
            step_up=it.step_up,
        )


class PrincipalOut(BaseModel):
    id: str
    name: str
    email: str
    groups: list[str]
    admin: bool

    @staticmethod
    def of(person: Principal, *, admin: bool) -> PrincipalOut:
        return PrincipalOut(
            id=person.id, name=person.name, email=person.email, groups=sorted(person.groups), admin=admin
        )


class SlackOut(BaseModel):
    """The Slack account that acts for somebody. `how` it became theirs: `policy` (the file says so), `login`
    (they confirmed it) or `email` (the same address).
    """

    user: str
    how: Literal["policy", "login", "email"]
    team: str = ""
    since: datetime | None = None


class AccountOut(BaseModel):
    """The account that somebody logs in with. `groups_until` is when its groups stop counting; null: it tells
    none.
    """

    provider: str
    since: datetime
    groups_until: datetime | None = None


class MeOut(BaseModel):
    """Who I am, what I may do now, and what is owed to me or by me."""

    principal: PrincipalOut
    grants: list[StoryOut] = Field(description="My stories whose grant is live.")
    waiting_for_me: list[StoryOut] = Field(description="Requests that I may decide now.")
    extensions_for_me: list[StoryOut] = Field(description="Wishes for more time that I may decide now.")
    reviews_for_me: list[StoryOut] = Field(description="Emergencies that I may review.")
    requests: list[StoryOut] = Field(description="My stories, newest first.")
    slack: SlackOut | None = Field(None, description="My Slack account; null: none is linked to me.")
    account: AccountOut | None = Field(None, description="Where I log in; null: I never did since.")


class RoleOut(BaseModel):
    name: str
    title: str


class ResourceOut(BaseModel):
    name: str
    kind: str
    title: str
    aliases: list[str]
    roles: list[RoleOut]

    @staticmethod
    def of(resource: Resource, roles: list[str]) -> ResourceOut:
        return ResourceOut(
            name=resource.name,
            kind=resource.kind,
            title=resource.title,
            aliases=list(resource.aliases),
            roles=[RoleOut(name=r.name, title=r.title) for r in resource.roles if r.name in roles],
        )


class SessionOut(BaseModel):
    """One connection under a grant. `close_reason` is client, target, cut, error or lost; "" while open."""

    id: str
    request_id: str
    grant_id: str
    principal: str
    resource: str
    role: str
    gate: str
    protocol: str
    client: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str
    detail: str
    statements: int
    refused: int
    rows: int
    killed_by: str = Field("", description="Who ended this one session, its grant staying.")

    @staticmethod
    def of(record: SessionRecord) -> SessionOut:
        return SessionOut(**{name: getattr(record, name) for name in SessionOut.model_fields})


class StatementOut(BaseModel):
    """`at` is seconds since the session opened, `took` and `waited` seconds. Values stand as they were
    recorded: masked where the gate masks. `length` (bytes) is of a text too long to be kept whole.
    """

    n: int
    at: float
    text: str
    outcome: str
    took: float
    tag: str
    rows: int
    parameters: list[str | None]
    sqlstate: str
    message: str
    statement_class: str
    length: int
    review: str
    decision: str
    decided_by: str
    waited: float


class RecordingOut(BaseModel):
    """A recording whose chain was verified. `whole` is false while the session is open or cut short."""

    session: SessionOut
    whole: bool
    statements: list[StatementOut]
    lines: list[str] = Field(description="The same, told for people.")
    casts: list[str] = Field([], description="An asciicast for each terminal in it.")


class LineOut(BaseModel):
    """What came of a line. `mended` is a whole line that would be understood, where this one was not."""

    verb: str
    understood: bool
    text: str
    mended: str | None = None
    stories: list[StoryOut] = []


class EntryTokenOut(BaseModel):
    """A password for the gate, shown this once. It lets its person log in until `expires_at`."""

    token: str
    user: str
    expires_at: datetime


class CertificateIn(In):
    grant: Name = Field(description="The grant that it opens under, by its id.")
    public_key: Annotated[str, StringConstraints(max_length=1000)] = Field(
        description="A key on the curve P-256, PEM. The private key stays with its owner."
    )


class CertificateOut(BaseModel):
    """A client certificate for the gate, PEM. It lets its person log in until `expires_at`."""

    certificate: str
    user: str
    expires_at: datetime


class GateOut(BaseModel):
    host: str
    port: int
    ca: str = Field(description="The certificate authority of the gate, PEM.")
    login: Literal["scram", "password"] = Field(
        description="How a token is proved at the gate: by SCRAM-SHA-256, or as a password inside TLS."
    )
    certificates: bool = Field(description="Whether it asks for client certificates.")


class ExplanationOut(BaseModel):
    principal: str
    resource: str
    lines: list[str]
