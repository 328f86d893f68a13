"""Emergencies, more time, and the waiting, in structured form; and a way in when everything else is away."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from broker.api.auth import Once, P, Person
from broker.api.models import (
    DecisionIn,
    EmptyIn,
    EntryTokenOut,
    GateOut,
    In,
    Name,
    Seconds,
    StoryOut,
    Text,
    whole,
)
from broker.api.problems import documented, refused
from broker.api.requests import Key, told
from broker.api.ssh import SshGateOut, ssh_address
from broker.identity import offline_codes
from broker.identity.tokens import TokenKind
from workflows.access import Wish
from workflows.model import Refusal, Verdict

router = APIRouter(prefix="/api/v1", tags=["urgent"], responses=documented(400, 401, 403, 404, 409, 422))

RoleName = Annotated[str, StringConstraints(max_length=200)]


class BreakGlassIn(In):
    resource: Name
    role: RoleName = ""
    seconds: Seconds | None = Field(None, description="Nothing means as long as the rule allows.")
    incident: Text
    reason: Text

    @property
    def wish(self) -> Wish:
        span = timedelta(seconds=self.seconds) if self.seconds is not None else None
        return Wish(self.resource, self.role, span, self.reason)


class DrillIn(In):
    resource: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", description="Nothing means the only one whose glass I may break."
    )
    code: Annotated[str, StringConstraints(max_length=100)] = Field(
        "", description="A sealed code of mine to be tried; it is not spent."
    )


class EscalateIn(In):
    incident: Text
    reason: Text = Field("", description="Nothing means the request's own.")


class CodeIn(BreakGlassIn):
    code: Annotated[str, StringConstraints(max_length=100)]


class TakenOut(BaseModel):
    """What a sealed code opened, the password for the gate that goes with it, shown this once, and where the
    gate is.
    """

    story: StoryOut
    entry: EntryTokenOut
    gate: GateOut
    kind: str = Field("", description="What kind of resource it is.")
    ssh: SshGateOut | None = Field(None, description="Where the gate listens for SSH, for a host.")
    address: str = Field("", description="Where it is reached, for an HTTP service or a cluster.")


class ReviewIn(In):
    verdict: Literal["justified", "not justified"]
    note: Text = ""


class ExtendIn(In):
    seconds: Seconds
    reason: Text = ""


class LessIn(In):
    """Less than was asked: nothing in a field leaves it as it is."""

    seconds: Seconds | None = None
    role: RoleName = ""
    reason: Text = ""


class CommentIn(In):
    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class CodesIn(In):
    principal: Name
    count: Annotated[int, Field(ge=1, le=offline_codes.MOST_AT_ONCE), BeforeValidator(whole)] = 1


class CodesOut(BaseModel):
    """Sealed codes, shown this once: print them, seal them, and keep them where the network is not."""

    principal: str
    codes: list[str]
    expires_at: datetime


class WithdrawIn(In):
    principal: Name


class WithdrawnOut(BaseModel):
    count: int = Field(description="How many codes were good until now.")


# ------------------------------------------------------------- the emergency


@router.post("/break-glass", status_code=201)
async def break_glass(said: BreakGlassIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Take access at once, in an emergency. Everybody who would have decided is told; a review is owed."""
    service = parts.service
    return told(await service.break_glass(person.id, said.wish, said.incident, via="api", dedupe=once))


@router.post("/drills", status_code=201)
async def drill(said: DrillIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Rehearse an emergency: who may is decided as in earnest and everybody is told and paged, marked as a
    drill; the gate holds a grant that lets nobody in.
    """
    return told(await parts.service.drill(person.id, said.resource, via="api", code=said.code, dedupe=once))


@router.get("/me/drills")
async def drills(person: Person, parts: P) -> list[StoryOut]:
    """My drills, the newest first."""
    return [StoryOut.of(story) for story in await parts.service.drills_of(person.id)]


@router.post("/requests/{key}/break-glass")
async def escalate(key: Key, said: EscalateIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Turn one's own waiting request into an emergency."""
    wish = Wish("", reason=said.reason)
    return told(
        await parts.service.break_glass(
            person.id, wish, said.incident, via="api", request_id=key, dedupe=once
        )
    )


@router.post("/break-glass/offline", status_code=201)
async def break_glass_offline(said: CodeIn, parts: P, once: Once = None) -> TakenOut:
    """The same with a sealed code and without a login, for when chat, the identity provider and the on-call
    schedule are away. The code is spent by what it opens.
    """
    story = told(
        await parts.service.break_glass_with_code(said.code, said.wish, said.incident, via="api", dedupe=once)
    )
    entry = await parts.tokens.issue(TokenKind.ENTRY, story.requester, via="api", label="offline code")
    opened = parts.service.policy.find(story.resource)
    kind = opened.kind if opened else ""
    return TakenOut(
        story=story,
        entry=EntryTokenOut(token=entry.token, user=story.requester, expires_at=entry.expires_at),
        gate=GateOut(**asdict(parts.gate)),
        kind=kind,
        ssh=ssh_address(parts) if kind == "ssh" else None,
        address=parts.gate.address_of(opened) if opened and kind in {"http", "kubernetes"} else "",
    )


@router.post("/requests/{key}/review")
async def review(key: Key, said: ReviewIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Say whether an emergency was one. `not justified` ends it where it is still open, and says why."""
    return told(
        await parts.service.review_break_glass(
            key, person.id, Verdict(said.verdict), via="api", note=said.note, dedupe=once
        )
    )


@router.get("/reviews")
async def reviews(person: Person, parts: P) -> list[StoryOut]:
    """Emergencies that I may review, the most urgent first; for administrators all that are owed."""
    return [StoryOut.of(story) for story in await parts.service.reviews_owed(person.id)]


@router.post("/offline-codes", status_code=201)
async def make_codes(said: CodesIn, person: Person, parts: P) -> CodesOut:
    """Make sealed codes for somebody, as an administrator."""
    _admin(parts, person.id)
    if parts.service.principal(said.principal) is None:
        raise refused(Refusal("unknown-person", f"“{said.principal}” is not known here."))
    now = parts.clock.now()
    made = await offline_codes.make(
        parts.service.store, parts.chance, now, principal=said.principal, actor=person.id, via="api",
        count=said.count,
    )  # fmt: skip
    return CodesOut(principal=said.principal, codes=made, expires_at=now + offline_codes.LIFETIME)


@router.post("/offline-codes/withdraw")
async def withdraw_codes(said: WithdrawIn, person: Person, parts: P) -> WithdrawnOut:
    """End every sealed code of somebody, as an administrator or as oneself."""
    if said.principal != person.id:
        _admin(parts, person.id)
    now = parts.clock.now()
    count = await offline_codes.withdraw(
        parts.service.store, now, actor=person.id, via="api", principal=said.principal
    )
    return WithdrawnOut(count=count)


def _admin(parts: P, actor: str) -> None:
    if not parts.service.is_admin(actor):
        raise refused(Refusal("not-an-admin", "Only administrators keep sealed codes."))


# -------------------------------------------------------- more and less time


@router.post("/requests/{key}/extend")
async def extend(key: Key, said: ExtendIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Ask for more time on one's own live grant. The grant's expiry tells whether it was given at once."""
    span = timedelta(seconds=said.seconds)
    return told(await parts.service.extend(key, person.id, span, via="api", reason=said.reason, dedupe=once))


@router.post("/requests/{key}/extension/approve")
async def approve_extension(
    key: Key, said: DecisionIn, person: Person, parts: P, once: Once = None
) -> StoryOut:
    """Say yes to the extension that waits."""
    return told(
        await parts.service.approve_extension(key, person.id, via="api", reason=said.reason, dedupe=once)
    )


@router.post("/requests/{key}/extension/deny")
async def deny_extension(key: Key, said: DecisionIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Say no to it."""
    return told(
        await parts.service.deny_extension(key, person.id, via="api", reason=said.reason, dedupe=once)
    )


@router.post("/requests/{key}/approve-less")
async def approve_less(key: Key, said: LessIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Say yes to a shorter time or a narrower role than was asked."""
    span = timedelta(seconds=said.seconds) if said.seconds is not None else None
    return told(
        await parts.service.approve_for_less(
            key, person.id, via="api", duration=span, role=said.role, reason=said.reason, dedupe=once
        )
    )


# ----------------------------------------------------------------- the waiting


@router.post("/requests/{key}/nudge")
async def nudge(key: Key, _said: EmptyIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Ask the approvers of one's own request once more."""
    return told(await parts.service.nudge(key, person.id, via="api", dedupe=once))


@router.post("/requests/{key}/claim")
async def claim(key: Key, _said: EmptyIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Say “looking”, as an approver: the ladder waits."""
    return told(await parts.service.claim(key, person.id, via="api", dedupe=once))


@router.post("/requests/{key}/comments")
async def comment(key: Key, said: CommentIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Write something about a request that stays with it."""
    return told(await parts.service.comment(key, person.id, said.text, via="api", dedupe=once))
