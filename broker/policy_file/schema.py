"""The shape of access.yaml. What the parts mean together is checked in build.py."""

# ruff: noqa: RUF012  (pydantic copies a default for each instance)

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from broker.policy_file.agents import AgentShape
from broker.policy_file.basics import Name, Secret, Shape, Span, Zone
from broker.policy_file.cluster_schema import ClusterShape
from broker.policy_file.guardrails import CommitShape, Function, GuardrailShape
from broker.policy_file.http_schema import HttpShape
from broker.policy_file.provider_schema import ProviderShape
from broker.policy_file.resource_schema import ResourceShape, RoleShape
from broker.policy_file.ssh_schema import HostShape
from broker.policy_file.urgency_schema import (
    EmergencyShape,
    IncidentsShape,
    PagerShape,
    QuietShape,
    ScheduleShape,
    StepShape,
)


def _column(value: str) -> str:
    parts = value.split(".")
    if len(parts) != 3 or not all(parts):
        raise ValueError("a column is written schema.table.column, like public.users.email")
    return value


def _approval(value: Any) -> Any:
    return [] if value == "none" else value


class PersonShape(Shape):
    name: str
    email: str = ""
    slack: str = ""
    groups: list[str] = []
    timezone: Zone = ""
    kind: Literal["person", "agent"] = "person"
    active: bool = True
    provider: str = ""
    """The identity provider that alone speaks for them."""
    subject: str = ""
    """Their account there, so that no first login decides it."""
    relations: dict[str, str] = {}
    """What this person shares with others: {team: checkout, manager: linus}; “none” where there is none."""


class GroupShape(Shape):
    title: str = ""
    channel: str = ""
    mention: str = ""
    provider: str = ""
    """Its name at the identity provider that brings people (SCIM), where that is another one."""


class MaskShape(Shape):
    column: Annotated[str, AfterValidator(_column)]
    method: Literal["full", "null", "last4", "email", "hash", "pseudonym"] = "full"


class DatabaseRoleShape(RoleShape):
    memberships: list[Annotated[str, Field(min_length=1, max_length=63)]] = Field(min_length=1)
    masks: list[MaskShape] | None = None
    """None: the masks of the resource. A list adds to them; an empty list takes them all off."""
    guardrails: list[GuardrailShape] = []
    hold_commit: CommitShape | None = None
    """Nothing: a COMMIT is not held."""


class AdminShape(Shape):
    user: Annotated[str, Field(min_length=1, max_length=63)]
    password: Secret


class DatabaseShape(ResourceShape):
    kind: Literal["postgres"]
    database: Annotated[str, Field(min_length=1, max_length=63)]
    tls: Literal["verify-full", "require", "disable"] = "verify-full"
    ca: str = ""
    admin: AdminShape
    masks: list[MaskShape] = []
    guardrails: list[GuardrailShape] = []
    trusted_functions: list[Function] = []
    roles: dict[Name, DatabaseRoleShape] = Field(min_length=1)


AnyResource = Annotated[DatabaseShape | HostShape | HttpShape | ClusterShape, Field(discriminator="kind")]


class QuorumShape(Shape):
    group: str
    needed: int = Field(1, ge=1, le=100)


class RuleShape(Shape):
    name: Name
    who: list[str] = Field(min_length=1)
    resources: list[str] = Field(min_length=1)
    roles: list[str] = Field(min_length=1)
    longest: Span
    usual: Span | None = None
    approval: Annotated[list[QuorumShape], BeforeValidator(_approval)]
    """There is no default: a rule that grants at once has to say `approval: none`."""
    step_up: bool = False
    """Whether each yes needs a passkey, on a page of ours."""
    lapses_after: Span = timedelta(hours=8)
    reason: Literal["required", "optional"] = "required"
    longest_total: Span | None = None
    """How long a grant may last with its extensions; nothing: no longer than `longest`."""
    extend_freely: Span | None = None
    ladder: list[StepShape] = []
    quiet_hours: QuietShape | None = None
    """Nothing: those of the whole file."""
    nudge_every: Span = timedelta(minutes=15)
    claim_holds: Span = timedelta(minutes=30)
    unattended_agents: bool = False
    """Whether a rule that grants at once does so to agents, too. Else an agent needs a person's yes."""
    for_others: list[str] = []
    """Groups whose members may ask for somebody else to whom this rule opens it."""
    apart: list[str] | None = None
    """Relations that keep an approver from deciding; nothing: those of the whole file."""


class SlackShape(Shape):
    team: str = ""
    match_email: bool = False
    """Whether the same verified e-mail address is enough to be taken for somebody. It is the weaker way."""
    other_email: bool = False
    """Whether people may link a Slack account whose e-mail address is not theirs."""


class FileShape(Shape):
    people: dict[Name, PersonShape] = {}
    groups: dict[Name, GroupShape] = {}
    admins: list[str] = []
    locks: list[str] = []
    """Groups whose members lock people, devices, resources and everything; nothing: the administrators."""
    auditors: list[str] = []
    """Groups whose members may read what administrators may, and change nothing by it."""
    relations: dict[Name, list[str]] = {}
    """What people may share: the groups whose members share it, or none, and it is said of each person."""
    apart: list[str] = []
    """The relations that keep an approver from deciding, wherever somebody decides."""
    resources: dict[Name, AnyResource] = {}
    rules: list[RuleShape] = []
    schedules: dict[Name, ScheduleShape] = {}
    incidents: IncidentsShape | None = None
    pagers: dict[Name, PagerShape] = {}
    break_glass: list[EmergencyShape] = []
    quiet_hours: QuietShape | None = None
    slack: SlackShape = SlackShape()
    providers: dict[Name, ProviderShape] = {}
    agents: dict[Name, AgentShape] = {}
    provisioned: bool = False
    """Whether an identity provider brings people and groups, besides those of this file (SCIM)."""
    timezone: Zone = "UTC"
