"""A typed line, carried out: the same grammar as in chat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter

from broker.api import told
from broker.api.auth import Once, P, Person, Way
from broker.api.models import LineIn, LineOut, StoryOut
from broker.api.parts import Parts
from broker.api.problems import documented, refused
from broker.identity.links import Links
from broker.locks import Locks
from broker.reviews import Reviews
from broker.runs import NO_READER
from broker.service import Via
from workflows import grammar
from workflows.allowance import Allowance
from workflows.model import Principal, Refusal, RequestState, StatementReview, Story

router = APIRouter(prefix="/api/v1", tags=["lines"], responses=documented(400, 401, 403, 404, 409, 422))

_NOTHING_MINE = Refusal("no-grant", "You hold no grant there.", "See yours with: status.")


@router.post("/lines")
async def run_line(
    said: LineIn,
    person: Person,
    parts: P,
    via: Way,
    once: Once = None,
) -> LineOut:
    """Do what a line says, as chat does. A line that is not understood changes nothing and is mended."""
    return await Lines(parts, person, via, once).run(said.line)


class Lines:
    """One person's line. Answers, or raises the problem that stands in its way."""

    def __init__(self, parts: Parts, person: Principal, via: Via, once: str | None) -> None:
        self._parts = parts
        self._service = parts.service
        self._me = person
        self._via: Via = via
        self._once = once

    async def run(self, line: str) -> LineOut:
        context = grammar.context_for(
            self._service.policy,
            self._me,
            self._parts.clock.now(),
            _zone(self._service.timezone(self._me.id)),
        )
        command = grammar.parse(line, context)
        if isinstance(command, grammar.Mistake):
            return LineOut(verb="", understood=False, text=command.why, mended=command.mended)
        verb = type(command).__name__.lower()
        does: Callable[[Any], Awaitable[LineOut]] = getattr(self, f"_{verb}")
        return await does(command)

    # ------------------------------------------------------- what changes

    async def _request(self, it: grammar.Request) -> LineOut:
        whom = self._person(it.beneficiary) if it.beneficiary else ""
        story = await self._service.submit(self._me.id, it.wish(whom), via=self._via, dedupe=self._once)
        return self._about("request", story)

    async def _run(self, it: grammar.Run) -> LineOut:
        if self._parts.runs is None:
            raise refused(NO_READER)
        made = await self._parts.runs.submit(
            self._me.id,
            it.resource,
            it.text,
            via=self._via,
            role=it.role,
            reason=it.reason,
            dedupe=self._once,
        )
        return self._about_statement("run", made)

    async def _approve(self, it: grammar.Approve) -> LineOut:
        if it.id.startswith("V-"):
            reviews = Reviews(self._service)
            found = await reviews.approve(it.id, self._me.id, via=self._via, reason=it.reason)
            return self._about_statement("approve", found)
        story = await self._service.approve_what_waits(
            it.id, self._me.id, via=self._via, reason=it.reason, dedupe=self._once
        )
        return self._about("approve", story)

    async def _deny(self, it: grammar.Deny) -> LineOut:
        if it.id.startswith("V-"):
            reviews = Reviews(self._service)
            found = await reviews.deny(it.id, self._me.id, via=self._via, reason=it.reason)
            return self._about_statement("deny", found)
        story = await self._service.deny_what_waits(
            it.id, self._me.id, via=self._via, reason=it.reason, dedupe=self._once
        )
        return self._about("deny", story)

    async def _cancel(self, it: grammar.Cancel) -> LineOut:
        if it.id.startswith("V-"):
            found = await Reviews(self._service).take_back(it.id, self._me.id, via=self._via)
            return self._about_statement("cancel", found)
        key = it.id or await self._waiting("cancel")
        return self._about(
            "cancel", await self._service.cancel(key, self._me.id, via=self._via, dedupe=self._once)
        )

    async def _release(self, it: grammar.Release) -> LineOut:
        key = await self._held(it.target, "release")
        return self._about(
            "release", await self._service.release(key, self._me.id, via=self._via, dedupe=self._once)
        )

    async def _allowline(self, it: grammar.AllowLine) -> LineOut:
        if it.target is None:
            there = await self._service.allowances_for(self._me.id)
            lines = [told.allowance(one) for one in there]
            return self._answer("allow", "\n".join(lines) or "Nothing is allowed in advance.", [])
        made = await self._service.allow(
            self._me.id,
            self._person(it.target),
            it.resource,
            via=self._via,
            role=it.role,
            longest=it.longest,
            within=it.within,
            reason=it.reason,
            repeated=it.repeated,
            dedupe=self._once,
        )
        return self._about_allowance("allow", made)

    def _about_allowance(self, verb: str, outcome: Allowance | Refusal) -> LineOut:
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        return self._answer(verb, told.allowance(outcome), [])

    async def _revoke(self, it: grammar.Revoke) -> LineOut:
        if it.target.kind is grammar.TargetKind.ID and it.target.value.startswith("A-"):
            back = await self._service.end_allowance(it.target.value, self._me.id, via=self._via)
            return self._about_allowance("revoke", back)
        if it.target.kind is grammar.TargetKind.ID:
            keys = [it.target.value]
        else:
            keys = [s.grant.id for s in await self._live_at(it.target) if s.grant]
            if not keys:
                raise refused(Refusal("no-grant", f"No grant is live for {it.target}.", "See: who RESOURCE."))
        outcomes = [
            await self._service.revoke(
                key, self._me.id, via=self._via, reason=it.reason, dedupe=self._once and f"{self._once} {key}"
            )
            for key in keys
        ]
        ended = [outcome for outcome in outcomes if isinstance(outcome, Story)]
        if not ended and isinstance(outcomes[0], Refusal):
            raise refused(outcomes[0])
        said = [o.why if isinstance(o, Refusal) else self._line(o) for o in outcomes]
        return self._answer("revoke", "\n".join(said), ended)

    # ----------------------------------------------------- what is urgent

    async def _breakglass(self, it: grammar.BreakGlass) -> LineOut:
        story = await self._service.break_glass(
            self._me.id, it.wish, it.incident, via=self._via, request_id=it.id, dedupe=self._once
        )
        return self._about("break-glass", story)

    async def _drill(self, it: grammar.Drill) -> LineOut:
        story = await self._service.drill(self._me.id, it.resource, via=self._via, dedupe=self._once)
        answer = self._about("drill", story)
        answer.text += "\nEverybody is told that it is a drill; nothing is open. It is over in a minute."
        return answer

    async def _extend(self, it: grammar.Extend) -> LineOut:
        key = await self._held(it.target, "extend")
        story = await self._service.extend(
            key, self._me.id, it.span, via=self._via, reason=it.reason, dedupe=self._once
        )
        answer = self._about("extend", story)
        if await self._service.extension_waits(key):
            answer.text += "\nThe approvers decide on the extension; what is open stays open until then."
        return answer

    async def _nudge(self, it: grammar.Nudge) -> LineOut:
        key = it.id or await self._waiting("nudge")
        return self._about(
            "nudge", await self._service.nudge(key, self._me.id, via=self._via, dedupe=self._once)
        )

    async def _claim(self, it: grammar.Claim) -> LineOut:
        return self._about(
            "claim", await self._service.claim(it.id, self._me.id, via=self._via, dedupe=self._once)
        )

    async def _review(self, it: grammar.Review) -> LineOut:
        story = await self._service.review_break_glass(
            it.id, self._me.id, it.verdict, via=self._via, note=it.note, dedupe=self._once
        )
        return self._about("review", story)

    # ------------------------------------------------------ what is shown

    async def _status(self, _it: grammar.Status) -> LineOut:
        mine = await self._service.stories_of(self._me.id)
        now = self._parts.clock.now()
        open_ones = [
            s
            for s in mine
            if (s.grant and s.grant.live(now)) or (not s.grant and s.request.state is RequestState.PENDING)
        ]
        waiting = [
            *await self._service.waiting_for(self._me.id),
            *await self._service.extensions_for(self._me.id),
            *await self._service.reviews_owed(self._me.id),
        ]
        text = self._list("Yours:", open_ones, "You hold no grant and wait for none.")
        if waiting:
            text += "\n" + self._list("Waiting for you:", waiting, "")
        return self._answer("status", text, [*open_ones, *waiting])

    async def _who(self, it: grammar.Who) -> LineOut:
        live = await self._service.who(it.resource, self._me.id)
        if isinstance(live, Refusal):
            raise refused(live)
        return self._answer(
            "who", self._list(f"On {it.resource} now:", live, f"Nobody is on {it.resource}."), live
        )

    async def _why(self, it: grammar.Why) -> LineOut:
        story = await self._service.story_for(it.id, self._me.id)
        if isinstance(story, Refusal):
            raise refused(story)
        request = story.request
        lines = [self._line(story), f"under rule {request.rule}, asked because: {request.reason or '—'}"]
        lines += [
            f"{'yes' if a.yes else 'no'} from {a.approver} at {told.clock(a.at)}"
            + (f" ({a.reason})" if a.reason else "")
            for a in request.approvals
        ]
        if request.holder == self._me.id or self._service.reads_all(self._me.id):
            lines += self._service.explain(request.holder, request.resource)
        return self._answer("why", "\n".join(lines), [story])

    async def _link(self, _it: grammar.Link) -> LineOut:
        user = await self._service.slack_user(self._me.id)
        text = f"Your Slack account is {user}." if user else "No Slack account is linked to you."
        way = "Another: take the link away first (unlink)." if user else "Type /access link in Slack."
        return self._answer("link", f"{text} {way}", [])

    async def _unlink(self, it: grammar.Unlink) -> LineOut:
        whose = it.target.value if it.target else self._me.id
        gone = await Links(self._service).unlink(whose, actor=self._me.id, via=self._via)
        if isinstance(gone, Refusal):
            raise refused(gone)
        return self._answer(
            "unlink", f"{gone.principal} is no longer linked to the Slack account {gone.slack_user}.", []
        )

    async def _lockline(self, it: grammar.LockLine) -> LineOut:
        locks = Locks(self._service)
        if it.kind is None:
            there = await locks.listed(self._me.id)
            if isinstance(there, Refusal):
                raise refused(there)
            return self._answer(
                "lock", "\n".join(told.lock(one) for one in there) or "Nothing is locked.", []
            )
        target = it.target.value if it.target else ""
        if it.target and it.target.kind is grammar.TargetKind.PERSON:
            target = self._person(it.target)
        made = await locks.make(it.kind, target, self._me.id, via=self._via, reason=it.reason)
        if isinstance(made, Refusal):
            raise refused(made)
        return self._answer("lock", told.locked(made), [])

    async def _unlockline(self, it: grammar.UnlockLine) -> LineOut:
        target = it.target.value
        if it.target.kind is grammar.TargetKind.PERSON:
            target = self._person(it.target)
        ended = await Locks(self._service).end(target, self._me.id, via=self._via)
        if isinstance(ended, Refusal):
            raise refused(ended)
        said = "\n".join(f"{one} is unlocked ({one.id})." for one in ended)
        return self._answer("unlock", said, [])

    async def _help(self, it: grammar.Help) -> LineOut:
        verbs = [grammar.VERBS[it.topic]] if it.topic else list(grammar.VERBS.values())
        return self._answer("help", "\n".join(f"{verb.usage}\n    {verb.about}" for verb in verbs), [])

    # --------------------------------------------------------- the inside

    def _person(self, target: grammar.Target) -> str:
        """The principal that `@name` names: an id, the part of an address before its @, or the address."""
        found = self._service.person_named(target.value)
        if isinstance(found, Refusal):
            raise refused(found)
        return found.id

    async def _waiting(self, verb: str) -> str:
        """The caller's only request that waits."""
        mine = await self._service.stories_of(self._me.id)
        return _only(
            [s.request.id for s in mine if s.request.state is RequestState.PENDING],
            Refusal("no-such-request", "You have no request that waits.", "See yours with: status."),
            verb,
        )

    async def _held(self, target: grammar.Target | None, verb: str) -> str:
        """The one of the caller's grants that a target means; the only one where there is no target."""
        if target is not None and target.kind is grammar.TargetKind.ID:
            return target.value
        live = await self._live_of(self._me.id)
        wanted = [s.grant.id for s in live if s.grant and target in (None, _resource(s.request.resource))]
        return _only(wanted, _NOTHING_MINE, verb)

    async def _live_of(self, principal: str) -> list[Story]:
        now = self._parts.clock.now()
        mine = await self._service.stories_of(principal)
        return [s for s in mine if s.grant and s.grant.live(now)]

    async def _live_at(self, target: grammar.Target) -> list[Story]:
        """Live grants on a resource, or of a person, among those that the caller may see."""
        if target.kind is grammar.TargetKind.RESOURCE:
            live = await self._service.who(target.value, self._me.id)
            if isinstance(live, Refusal):
                raise refused(live)
            return live
        found: list[Story] = []
        for resource in self._service.policy.resources:
            live = await self._service.who(resource, self._me.id)
            found += [] if isinstance(live, Refusal) else live
        return [s for s in found if s.request.holder == target.value]

    def _about(self, verb: str, outcome: Story | Refusal) -> LineOut:
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        return self._answer(verb, self._line(outcome), [outcome])

    def _about_statement(self, verb: str, found: StatementReview | Refusal) -> LineOut:
        if isinstance(found, Refusal):
            raise refused(found)
        return self._answer(verb, f"{found.id} is {found.state.value}.", [])

    def _line(self, story: Story) -> str:
        return told.headline(story, self._parts.clock.now())

    def _list(self, head: str, stories: list[Story], otherwise: str) -> str:
        return "\n".join([head, *(f"  {self._line(s)}" for s in stories)]) if stories else otherwise

    def _answer(self, verb: str, text: str, stories: list[Story]) -> LineOut:
        return LineOut(verb=verb, understood=True, text=text, stories=[StoryOut.of(s) for s in stories])


def _only(keys: list[str], none: Refusal, verb: str) -> str:
    if not keys:
        raise refused(none)
    if len(keys) > 1:
        raise refused(
            Refusal("which-one", f"Which one? You have {len(keys)}.", f"Say: {verb} {' | '.join(keys)}.")
        )
    return keys[0]


def _resource(name: str) -> grammar.Target:
    return grammar.Target(grammar.TargetKind.RESOURCE, name)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
