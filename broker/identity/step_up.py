"""Step-up: a decision is shown on a page of ours, a passkey signs what was shown, and only then is it made.

What is signed is the SHA-256 of everything on the page: who decides, what, about which version, and the very
statement. It is computed again from the database when the answer comes; where it differs, nothing is done.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from broker.codec import encode
from broker.identity.kept import Keep, Kind
from broker.identity.passkeys import Ceremony, Passkeys
from broker.identity.step_up_offers import Wanted
from broker.identity.web import WebSession
from broker.reviews import Reviews
from broker.service import Service
from workflows import extension
from workflows.access import Wish
from workflows.model import Approval, Principal, Refusal, RequestState, ReviewState, StatementReview, Story
from workflows.policy import spell
from workflows.step_up import Proof

OVER = Refusal(
    "page-over",
    "This page is not good (any more): it is for one decision, for ten minutes, and for whoever tried it.",
    "Press Approve again, or type the command again, for a new one.",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands on the page. `text` is a statement, `digest` its SHA-256; `version` is its matter's."""

    title: str
    yes: str
    rows: tuple[tuple[str, str], ...]
    version: int
    text: str = ""
    digest: str = ""


Decided = Story | StatementReview


class StepUps:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._reviews = Reviews(service)
        self._keep = Keep(service.store, service.clock, service.chance)
        self.passkeys = Passkeys(service)

    async def look(self, secret: str, person: Principal) -> tuple[Wanted, Shown] | Refusal:
        """What would be decided, as it is now, for whoever tried to decide it."""
        kept = await self._keep.look(Kind.STEP_UP, secret)
        if kept is None or kept.principal != person.id:
            return OVER
        wanted = msgspec.json.decode(kept.payload, type=Wanted)
        shown = await self._shown(wanted, person)
        return shown if isinstance(shown, Refusal) else (wanted, shown)

    async def begin(self, secret: str, session: WebSession, person: Principal) -> Ceremony | Refusal:
        """Ask a passkey to sign what is shown."""
        found = await self.look(secret, person)
        if isinstance(found, Refusal):
            return found
        return await self.passkeys.begin(person, session, _about(secret, person, *found))

    async def decide(
        self, secret: str, challenge: str, answer: str, session: WebSession, person: Principal
    ) -> Decided | Refusal:
        """Make the decision that a passkey of this person's signed; once, and only if it is the same."""
        found = await self.look(secret, person)
        if isinstance(found, Refusal):
            return found
        wanted, shown = found
        about = _about(secret, person, wanted, shown)
        key = await self.passkeys.prove(person, session, challenge, about, answer)
        if isinstance(key, Refusal):
            return key
        if await self._keep.take(Kind.STEP_UP, secret) is None:
            return OVER
        return await self._make(wanted, person, Proof(f"passkey {key.id}", shown.version))

    async def _make(self, it: Wanted, person: Principal, proof: Proof) -> Decided | Refusal:
        """Through the same doors as everybody; who may decide, and the version, are looked at again there."""
        service, span = self._service, _span(it)
        match it.verb:
            case "approve":
                return await service.approve(it.key, person.id, via=it.via, reason=it.reason, proof=proof)
            case "less":
                return await service.approve_for_less(
                    it.key, person.id, via=it.via, duration=span, role=it.role, reason=it.reason, proof=proof
                )
            case "extension":
                return await service.approve_extension(
                    it.key, person.id, via=it.via, reason=it.reason, proof=proof
                )
            case "statement":
                return await self._reviews.approve(
                    it.key, person.id, via=it.via, row_budget=it.row_budget, reason=it.reason, proof=proof
                )
            case "break-glass":
                wish = Wish(it.resource, it.role, span, it.reason)
                return await service.break_glass(
                    person.id, wish, it.incident, via=it.via, request_id=it.key, proof=proof
                )

    # ------------------------------------------------------- what is shown

    async def _shown(self, it: Wanted, person: Principal) -> Shown | Refusal:
        if it.verb == "statement":
            review = await self._reviews.find_for(it.key, person.id)
            return review if isinstance(review, Refusal) else self._statement(it, review)
        if it.verb == "break-glass" and not it.key:
            return _emergency(it, None)
        story = await self._service.story_for(it.key, person.id)
        if isinstance(story, Refusal):
            return story
        if it.verb == "extension":
            return self._extension(it, story)
        if story.request.state is not RequestState.PENDING:
            return _decided(story.request.id, story.request.state)
        return _emergency(it, story) if it.verb == "break-glass" else self._request(it, story)

    def _request(self, it: Wanted, story: Story) -> Shown:
        request, span = story.request, _span(it)
        role, time = request.role, spell(request.duration)
        if it.role and it.role != role:
            role = f"{it.role} (asked: {role})"
        if span is not None and span != request.duration:
            time = f"{spell(span)} (asked: {time})"
        begins = request.starts_at.strftime("%-d %b %Y %H:%M UTC") if request.starts_at else "at once"
        return Shown(
            f"Give access to {request.resource}?",
            "Approve with my passkey",
            (
                ("Request", request.id),
                ("Who", self._name(request.requester)),
                *((("For", self._name(request.holder)),) if request.beneficiary else ()),
                ("What", f"{request.resource} as {role}"),
                ("How long", f"{time}, {begins}"),
                ("Because", request.reason),
                ("Rule", request.rule),
                *(("Said", f"{said.by}: {said.text}") for said in request.comments[-3:]),
                *_also(it, request.approvals),
            ),
            story.version,
        )

    def _extension(self, it: Wanted, story: Story) -> Shown | Refusal:
        request, waits = story.request, extension.waiting(story, self._service.clock.now())
        if waits is None or story.grant is None:
            return Refusal("nothing-waits", f"No extension of {request.id} waits for a decision.")
        return Shown(
            f"Give more time on {request.resource}?",
            "Allow with my passkey",
            (
                ("Request", request.id),
                ("Who", self._name(request.holder)),
                ("What", f"{request.resource} as {request.role}"),
                ("More", f"{spell(waits.span)}, beyond {story.grant.expiry:%-d %b %Y %H:%M} UTC"),
                ("Because", waits.reason or request.reason),
                *_also(it, waits.approvals),
            ),
            story.version,
        )

    def _statement(self, it: Wanted, review: StatementReview) -> Shown | Refusal:
        if review.state is not ReviewState.PENDING:
            return _decided(review.id, review.state)
        statement = review.statement
        rows = "not known" if statement.estimate is None else f"about {statement.estimate}"
        budgets = [budget for budget in (it.row_budget, review.row_budget) if budget is not None]
        if budgets:
            rows += f"; rolled back beyond {min(budgets)}"
        return Shown(
            f"Let this run on {review.resource}?",
            "Let it run, with my passkey",
            (
                ("Statement", review.id),
                ("Who", self._name(review.requester)),
                ("Where", f"{review.resource} as {review.role}"),
                ("Touches", f"{', '.join(statement.tables) or 'no table'} · {statement.statement_class}"),
                ("Rows", rows),
                ("Because", review.reason),
                ("Rule", review.rule),
                *((("Within", review.transaction),) if review.transaction else ()),
                *_also(it, review.approvals),
            ),
            review.version,
            statement.text,
            statement.digest,
        )

    def _name(self, principal: str) -> str:
        person = self._service.principal(principal)
        return f"{person.name} ({principal})" if person and person.name else principal


def _emergency(it: Wanted, story: Story | None) -> Shown:
    span = _span(it)
    resource = story.request.resource if story else it.resource
    return Shown(
        f"Break the glass of {resource}?",
        "Break the glass, with my passkey",
        (
            *((("Request", story.request.id),) if story else ()),
            ("What", resource + (f" as {it.role}" if it.role else "")),
            ("How long", spell(span) if span else "as long as the rule allows"),
            ("Incident", it.incident),
            ("Because", it.reason or (story.request.reason if story else "")),
            ("After", "everybody who would have decided is told at once, and a review is owed"),
        ),
        story.version if story else 0,
    )


def _also(it: Wanted, approvals: tuple[Approval, ...]) -> tuple[tuple[str, str], ...]:
    """Who has said yes before, and what is said with this yes."""
    said = " and ".join(approval.approver for approval in approvals)
    return (*((("Said yes", said),) if said else ()), *((("Your note", it.reason),) if it.reason else ()))


def _decided(key: str, state: str) -> Refusal:
    return Refusal("already-decided", f"{key} is already {state}.")


def _span(it: Wanted) -> timedelta | None:
    return timedelta(seconds=it.seconds) if it.seconds is not None else None


def _about(secret: str, person: Principal, wanted: Wanted, shown: Shown) -> str:
    """The digest of a decision: of the page it stands on, who makes it, and everything that is shown."""
    page = hashlib.sha256(secret.encode()).hexdigest()
    content = [page, person.id, msgspec.to_builtins(wanted), msgspec.to_builtins(shown)]
    return hashlib.sha256(encode(content).encode()).hexdigest()
