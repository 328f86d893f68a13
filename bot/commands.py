"""`/access …`: a line through the grammar to the service, and the answer to its writer alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from zoneinfo import ZoneInfo

from bot import allowances, link_texts, texts
from bot.desk import Moment, refusal_text, team_of
from bot.faces import faces_of
from bot.markup import Blocks, code, plain
from broker.identity.links import Links
from broker.locks import Locks
from broker.reviews import Reviews
from broker.runs import NO_READER
from broker.service import Service
from broker.store import stories
from workflows import break_glass
from workflows.grammar import (
    AllowLine,
    Approve,
    Cancel,
    Claim,
    Command,
    Context,
    Deny,
    Drill,
    Extend,
    Help,
    Link,
    LockLine,
    Mistake,
    Nudge,
    Release,
    Request,
    Review,
    Revoke,
    Run,
    Status,
    Target,
    TargetKind,
    Unlink,
    UnlockLine,
    Who,
    Why,
    context_for,
    parse,
)
from workflows.model import GrantState, Principal, Refusal, RequestState, StatementReview, Story
from workflows.policy import Emergency, Policy, decided_by

NOT_LINKED = Refusal("no-such-person", "Their Slack account is not linked to anybody known here.")
WHICH = "Say which"
"""How the refusal begins where a command without a target fits several."""


def context_of(moment: Moment) -> Context:
    """What this person's lines are read against, now."""
    service = moment.service
    zone = ZoneInfo(service.timezone(moment.actor))
    return context_for(service.policy, moment.person, service.clock.now(), zone)


def rules_of(service: Service, person: Principal) -> list[tuple[str, Emergency]]:
    """The resources whose glass this person might break, each with the first rule for it."""
    found = []
    for name in service.policy.resources:
        rules = break_glass.emergencies(service.policy, person, name)
        found += [(name, rules[0])] if rules else []
    return found


async def run_line(moment: Moment, line: str, *, replace: bool = False) -> None:
    """Do what the line says and answer its writer. An emergency goes by its form (urgent_actions.py)."""
    answer = parse(line, context_of(moment))
    if isinstance(answer, Mistake):
        said, blocks = texts.mistake(answer)
        await moment.say(said, blocks, replace=replace)
        return
    said, blocks = await _RUN[type(answer)](moment, answer)
    await moment.say(said, blocks or None, replace=replace)


Answer = tuple[str, Blocks]


async def _request(moment: Moment, command: Request) -> Answer:
    result = await submit(moment, command)
    if isinstance(result, Refusal):
        return texts.mistake(Mistake(str(result), None, command))
    return texts.asked(result, await faces_of(moment.service, result, "")), []


async def submit(moment: Moment, command: Request) -> Story | Refusal:
    """Ask what was typed or filled in."""
    whom = ""
    if command.beneficiary is not None:
        person = await person_meant(moment, command.beneficiary)
        if isinstance(person, Refusal):
            return person
        whom = person.id
    return await moment.service.submit(moment.actor, command.wish(whom), via="slack", dedupe=moment.key)


async def person_meant(moment: Moment, target: Target) -> Principal | Refusal:
    """Whom a mention, or a typed `@name`, means."""
    if target.kind is TargetKind.SLACK_USER:
        return await moment.service.principal_of_slack(team_of(moment.body), target.value) or NOT_LINKED
    return moment.service.person_named(target.value)


async def _status(moment: Moment, _: Status) -> Answer:
    return "Your access", await status_blocks(moment)


async def status_blocks(moment: Moment) -> Blocks:
    """What this person has and asked for, and what waits for their decision."""
    own = await moment.service.stories_of(moment.actor)
    blocks = texts.listed("Yours", texts.mine(own), "Nothing. Ask with `/access`.")
    waiting = await moment.service.waiting_for(moment.actor)
    allowed = await allowances.rows(moment)
    blocks += texts.listed("Yeses in advance", allowed, "") if allowed else []
    if waiting:
        names = {p.id: p.name for p in moment.service.config.directory.everyone().values()}
        blocks += texts.listed("Waiting for you", texts.waiting(waiting, names), "")
    return blocks


async def _who(moment: Moment, command: Who) -> Answer:
    found = await moment.service.who(command.resource, moment.actor)
    if isinstance(found, Refusal):
        return refusal_text(found), []
    names = {p.id: p.name for p in moment.service.config.directory.everyone().values()}
    rows = [(texts.line_of(s, plain(names.get(s.request.holder, s.request.holder), 80)), None) for s in found]
    title = f"Who has {code(command.resource)} now"
    return title, texts.listed(title, rows, "Nobody.")


async def _run(moment: Moment, command: Run) -> Answer:
    """One without its statement opens the form before it comes here (run_actions.py)."""
    result = await submit_run(moment, command)
    return (refusal_text(result) if isinstance(result, Refusal) else texts.submitted(result)), []


async def submit_run(moment: Moment, command: Run) -> StatementReview | Refusal:
    """Put one statement before its quorum."""
    if moment.desk.runs is None:
        return NO_READER
    return await moment.desk.runs.submit(
        moment.actor,
        command.resource,
        command.text,
        via="slack",
        role=command.role,
        reason=command.reason,
        dedupe=moment.key,
    )


def _about_statement(result: StatementReview | Refusal) -> Answer:
    said = refusal_text(result) if isinstance(result, Refusal) else f"{result.id} is {result.state.value}."
    return said, []


async def _approve(moment: Moment, command: Approve) -> Answer:
    if command.id.startswith("V-"):
        reviews = Reviews(moment.service)
        return _about_statement(
            await reviews.approve(command.id, moment.actor, via="slack", reason=command.reason)
        )
    result = await moment.service.approve_what_waits(
        command.id, moment.actor, via="slack", reason=command.reason, dedupe=moment.key
    )
    return _moved(result, "approve")


async def _deny(moment: Moment, command: Deny) -> Answer:
    if command.id.startswith("V-"):
        reviews = Reviews(moment.service)
        return _about_statement(
            await reviews.deny(command.id, moment.actor, via="slack", reason=command.reason)
        )
    result = await moment.service.deny_what_waits(
        command.id, moment.actor, via="slack", reason=command.reason, dedupe=moment.key
    )
    return _moved(result, "deny")


async def _cancel(moment: Moment, command: Cancel) -> Answer:
    key = command.id
    if key.startswith("V-"):
        return _about_statement(await Reviews(moment.service).take_back(key, moment.actor, via="slack"))
    if not key:
        own = await moment.service.stories_of(moment.actor)
        pending = [s for s in own if s.request.state is RequestState.PENDING]
        if len(pending) != 1:
            return _which("cancel", pending)
        key = pending[0].request.id
    return _moved(await moment.service.cancel(key, moment.actor, via="slack", dedupe=moment.key), "cancel")


async def _release(moment: Moment, command: Release) -> Answer:
    key = await _held(moment, command.target, "release")
    if not isinstance(key, str):
        return key
    return _moved(await moment.service.release(key, moment.actor, via="slack", dedupe=moment.key), "release")


async def _held(moment: Moment, target: Target | None, verb: str) -> str | Answer:
    """The one live story of the writer's that a target means, or the answer where it is not one."""
    if target is not None and target.kind is TargetKind.ID:
        return target.value
    own = [s for s in await moment.service.stories_of(moment.actor) if _live(s)]
    live = [s for s in own if target is None or s.request.resource == target.value]
    return live[0].request.id if len(live) == 1 else _which(verb, live)


async def _extend(moment: Moment, command: Extend) -> Answer:
    key = await _held(moment, command.target, "extend")
    if not isinstance(key, str):
        return key
    result = await moment.service.extend(
        key, moment.actor, command.span, via="slack", reason=command.reason, dedupe=moment.key
    )
    return _moved(result, "extend")


async def _nudge(moment: Moment, command: Nudge) -> Answer:
    key = command.id
    if not key:
        own = await moment.service.stories_of(moment.actor)
        pending = [s for s in own if s.request.state is RequestState.PENDING]
        if len(pending) != 1:
            return _which("nudge", pending)
        key = pending[0].request.id
    return _moved(await moment.service.nudge(key, moment.actor, via="slack", dedupe=moment.key), "nudge")


async def _claim(moment: Moment, command: Claim) -> Answer:
    result = await moment.service.claim(command.id, moment.actor, via="slack", dedupe=moment.key)
    return _moved(result, "claim")


async def _drill(moment: Moment, command: Drill) -> Answer:
    result = await moment.service.drill(moment.actor, command.resource, via="slack", dedupe=moment.key)
    return _moved(result, "drill")


async def _review(moment: Moment, command: Review) -> Answer:
    result = await moment.service.review_break_glass(
        command.id, moment.actor, command.verdict, via="slack", note=command.note, dedupe=moment.key
    )
    return _moved(result, "review")


async def _revoke(moment: Moment, command: Revoke) -> Answer:
    """End every live grant that the target means and that this person may end; a line for each."""
    if command.target.kind is TargetKind.ID and command.target.value.startswith("A-"):
        ended = await moment.service.end_allowance(command.target.value, moment.actor, via="slack")
        return allowances.said(ended, "end")
    keys = await _meant(moment, command.target)
    if isinstance(keys, Refusal):
        return refusal_text(keys), []
    if not keys:
        return f"There is nothing to revoke for {code(str(command.target))}.", []
    lines = []
    for key in keys:
        result = await moment.service.revoke(
            key, moment.actor, via="slack", reason=command.reason, dedupe=f"{moment.key}/{key}"
        )
        lines.append(_moved(result, "revoke")[0])
    return "\n".join(lines), []


async def _allow(moment: Moment, command: AllowLine) -> Answer:
    if command.target is None:
        return "Yeses in advance", texts.listed("Yeses in advance", await allowances.rows(moment), "None.")
    whom = await person_meant(moment, command.target)
    if isinstance(whom, Refusal):
        return refusal_text(whom), []
    result = await moment.service.allow(
        moment.actor,
        whom.id,
        command.resource,
        via="slack",
        role=command.role,
        longest=command.longest,
        within=command.within,
        reason=command.reason,
        repeated=command.repeated,
        dedupe=moment.key,
    )
    return allowances.said(result, "allow")


async def _meant(moment: Moment, target: Target) -> list[str] | Refusal:
    """The requests whose grants `revoke` is to end."""
    service = moment.service
    if target.kind is TargetKind.ID:
        return [target.value]
    if target.kind is TargetKind.RESOURCE:
        found = await service.who(target.value, moment.actor)
        return found if isinstance(found, Refusal) else [story.request.id for story in found]
    principal = target.value
    if target.kind is TargetKind.SLACK_USER:
        person = await service.principal_of_slack(team_of(moment.body), target.value)
        principal = person.id if person else ""
    if not principal:
        return []
    async with service.store.read() as tx:
        live = await stories.live(tx, service.clock.now(), principal=principal)
    return [story.request.id for story in live if service.may_see(story, moment.actor)]


async def _why(moment: Moment, command: Why) -> Answer:
    service = moment.service
    story = await service.story_for(command.id, moment.actor)
    if isinstance(story, Refusal):
        return refusal_text(story), []
    decided = _decided_by(service.policy, story)
    told = service.explain(story.request.holder, story.request.resource)
    told = told if service.reads_all(moment.actor) else ()
    return texts.why(story, decided, told), []


def _decided_by(policy: Policy, story: Story) -> str:
    """How the request's rule has such requests decided, as it is today."""
    if (rule := policy.rule(story.request.rule)) is not None:
        return decided_by(rule)
    if story.request.emergency is not None:
        return f"taken in an emergency, to be reviewed by {' or '.join(story.request.emergency.reviewers)}"
    return "no longer in the policy"


async def _link(moment: Moment, _: Link) -> Answer:
    """Whoever is not linked never gets here: any line of theirs is answered with the way to link."""
    link = await moment.service.slack_link(moment.actor)
    return link_texts.state(moment.person, link), []


async def _unlink(moment: Moment, command: Unlink) -> Answer:
    principal = moment.actor
    if command.target is not None and command.target.kind is TargetKind.SLACK_USER:
        person = await moment.service.principal_of_slack(team_of(moment.body), command.target.value)
        principal = person.id if person else ""
    elif command.target is not None:
        principal = command.target.value
    gone = await Links(moment.service).unlink(principal, actor=moment.actor, via="slack")
    if isinstance(gone, Refusal):
        return refusal_text(gone), []
    return f"🔗 {plain(gone.principal, 80)} is no longer linked to a Slack account.", []


async def _lock(moment: Moment, command: LockLine) -> Answer:
    locks = Locks(moment.service)
    if command.kind is None:
        there = await locks.listed(moment.actor)
        if isinstance(there, Refusal):
            return refusal_text(there), []
        lines = [f"🔒 {code(one.id)} {plain(str(one), 120)}: {plain(one.reason, 200)}" for one in there]
        return "\n".join(lines) or "Nothing is locked.", []
    target = await _locked(moment, command.target)
    if isinstance(target, Refusal):
        return refusal_text(target), []
    made = await locks.make(command.kind, target, moment.actor, via="slack", reason=command.reason)
    if isinstance(made, Refusal):
        return refusal_text(made), []
    cut = f"{made.sessions} sessions are cut, {made.logins} logins and passwords ended."
    back = code(f"/access unlock {made.lock.id}")
    return f"🔒 *{plain(str(made.lock), 120)} is locked.* {cut} Take it away: {back}", []


async def _unlock(moment: Moment, command: UnlockLine) -> Answer:
    target = await _locked(moment, command.target)
    ended = (
        target
        if isinstance(target, Refusal)
        else await Locks(moment.service).end(target, moment.actor, via="slack")
    )
    if isinstance(ended, Refusal):
        return refusal_text(ended), []
    return "\n".join(f"🔓 {plain(str(one), 120)} is unlocked." for one in ended), []


async def _locked(moment: Moment, target: Target | None) -> str | Refusal:
    """What a lock is on, by its own name."""
    if target is None or target.kind in (TargetKind.ID, TargetKind.RESOURCE):
        return target.value if target else ""
    person = await person_meant(moment, target)
    return person if isinstance(person, Refusal) else person.id


async def _help(_: Moment, command: Help) -> Answer:
    return texts.help_(command.topic)


def _moved(result: Story | Refusal, verb: str) -> Answer:
    return (refusal_text(result) if isinstance(result, Refusal) else texts.moved(result, verb)), []


def _which(verb: str, found: list[Story]) -> Answer:
    if not found:
        return f"You have nothing to {verb}.", []
    lines = [f"{code(f'/access {verb} {story.request.id}')} {texts.line_of(story)}" for story in found[:10]]
    return "\n".join([f"{WHICH}:", *lines]), []


def _live(story: Story) -> bool:
    return story.grant is not None and story.grant.state is not GrantState.ENDED


_RUN: dict[type[Command], Callable[[Moment, Any], Awaitable[Answer]]] = {
    Request: _request,
    Run: _run,
    Approve: _approve,
    Deny: _deny,
    Cancel: _cancel,
    Release: _release,
    Revoke: _revoke,
    Extend: _extend,
    Nudge: _nudge,
    Claim: _claim,
    Review: _review,
    Drill: _drill,
    AllowLine: _allow,
    Status: _status,
    Who: _who,
    Why: _why,
    Link: _link,
    Unlink: _unlink,
    LockLine: _lock,
    UnlockLine: _unlock,
    Help: _help,
}
