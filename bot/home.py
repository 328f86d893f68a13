"""The home tab: what one has, what one asked for, what waits for one's decision; and what for emergencies."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from bot import link_texts
from bot.commands import context_of, rules_of, status_blocks
from bot.desk import Body, Desk, Moment, log, team_of, user_of
from bot.markup import Block, Blocks, actions, button, code, context, date, plain, section
from bot.people import UNLINKED
from bot.shown import pointer
from bot.slack import TROUBLE, error_of
from broker.oncall import OnCallUnavailable
from workflows.glass_review import owes_review
from workflows.lines import Request
from workflows.model import GrantState, Story
from workflows.policy import Emergency, StepKind, spell

_MOST = 8
STALE_DRILL = timedelta(days=90)
"""What was rehearsed longer ago is to be rehearsed again."""


async def publish_home(moment: Moment) -> None:
    """Show this person's home tab as the database is now."""
    ask = button("form", "Ask for access", "request", style="primary")
    rules = rules_of(moment.service, moment.person)
    row = [ask, button("glass", "Break the glass…", style="danger")] if rules else [ask]
    head = [section("*Portcullis* opens doors when the right people say so."), actions("ask", *row)]
    blocks: Blocks = [*head, *await status_blocks(moment), *await _more_time(moment), *await _owed(moment)]
    blocks += [*await _emergencies(moment, rules), *_may_ask(moment), *await _duties(moment)]
    link = await moment.service.slack_link(moment.actor)
    blocks.append(context(link_texts.state(moment.person, link), "`/access help` tells the rest."))
    user = moment.slack_user
    try:
        await moment.desk.client.views_publish(user_id=user, view={"type": "home", "blocks": blocks[:100]})
    except TROUBLE as trouble:
        log.warning("home_not_published", problem=error_of(trouble))


def _may_ask(moment: Moment) -> Blocks:
    """What this person may ask for, each with the form for it."""
    offers = context_of(moment).offers
    rows = []
    for offer in offers[:_MOST]:
        resource = moment.service.policy.resources[offer.name]
        title = f"{plain(resource.title, 100)} " if resource.title else ""
        roles = ", ".join(code(role.name) for role in offer.roles[:5])
        rows.append(section(f"{title}{code(offer.name)} as {roles}", _ask_for(offer.name)))
    more = [context(f"and {len(offers) - _MOST} more")] if len(offers) > _MOST else []
    return [section("*What you may ask for*"), *rows, *more] if rows else []


def _ask_for(name: str) -> Block:
    return button("form", "Ask…", Request(name).line())


async def _duties(moment: Moment) -> Blocks:
    """Who is on call now for what this person may see."""
    service = moment.service
    seen = {resource.name for resource in service.requestable(moment.actor)}
    steps = [step for r in service.policy.rules if r.resources & seen for step in r.ladder.steps]
    names = [step.target for step in steps if step.kind is StepKind.PAGE]
    names += [n for rule in service.policy.emergencies if rule.resources & seen for n in rule.schedules]
    lines = await asyncio.gather(*(_on_duty(moment, name) for name in list(dict.fromkeys(names))[:5]))
    return [section("\n".join(["*On call now*", *lines]))] if lines else []


async def _on_duty(moment: Moment, schedule: str) -> str:
    try:
        people = await moment.service.on_call_now(schedule)
    except OnCallUnavailable:
        return f"{code(schedule)}: it cannot be told"
    named = ", ".join(plain(person.name, 60) for person in people[:3]) or "nobody"
    return f"{code(schedule)}: {named}"


async def show_unlinked(desk: Desk, body: Body) -> bool:
    """Show the way to link to somebody whose account is nobody's yet. False for everybody else."""
    user = user_of(body)
    if await desk.people.identify(team_of(body), user) is not UNLINKED:
        return False
    try:
        await desk.client.views_publish(user_id=user, view={"type": "home", "blocks": link_texts.home()})
    except TROUBLE as trouble:
        log.warning("home_not_published", problem=error_of(trouble))
    return True


async def _more_time(moment: Moment) -> Blocks:
    """Wishes for more time that wait for this person."""
    found = await moment.service.extensions_for(moment.actor)
    rows = [section(_line(moment, story), _allow(story)) for story in found[:10]]
    return [section("*More time is asked of you*"), *rows] if rows else []


def _allow(story: Story) -> Block:
    span = story.request.extensions[-1].span
    return button("extension_approve", f"Allow {spell(span)} more", pointer(story), style="primary")


async def _owed(moment: Moment) -> Blocks:
    """Emergencies that this person is to review, and those of their own that wait for it."""
    owed = await moment.service.reviews_owed(moment.actor)
    mine = [s for s in await moment.service.stories_of(moment.actor) if owes_review(s)]
    rows = [
        section(_line(moment, s), button("review", "Review…", pointer(s))) for s in owed[:10] if s not in mine
    ]
    rows += [section(f"{_line(moment, story)} – your own; another reviews it") for story in mine[:3]]
    return [section("*Emergencies to be reviewed*"), *rows] if rows else []


def _line(moment: Moment, story: Story) -> str:
    request = story.request
    whose = request.holder if request.emergency else request.requester
    person = moment.service.principal(whose)
    who = plain(person.name if person else whose, 80)
    due = f", due {date(request.emergency.review_due)}" if request.emergency else ""
    return f"{who}: {code(request.resource)} as {code(request.role)} · {request.id}{due}"


async def _emergencies(moment: Moment, rules: list[tuple[str, Emergency]]) -> Blocks:
    """Of what this person might break the glass, on which condition, and when they last rehearsed it."""
    if not rules:
        return []
    lines = [await _eligible(moment, name, rule) for name, rule in rules[:10]]
    return [section("\n".join(["*In an emergency*", *lines])), *await _drills(moment, rules)]


async def _eligible(moment: Moment, name: str, rule: Emergency) -> str:
    what = f"{code(name)} as {code(rule.role)} for at most {spell(rule.longest)}"
    if not rule.who.isdisjoint(moment.person.groups):
        return f"{what}: you may"
    said = [await _on_call(moment, schedule) for schedule in rule.schedules]
    return f"{what}: {'; '.join(said) or 'with a sealed code'}"


async def _on_call(moment: Moment, schedule: str) -> str:
    """Who is on call, as it was told within the last minute. It is asked anew when the glass is broken."""
    try:
        people = await moment.service.on_call_now(schedule)
    except OnCallUnavailable:
        return f"nobody can tell who is on call for {code(schedule)}"
    if any(person.id == moment.actor for person in people):
        return f"you may, being on call for {code(schedule)}"
    named = " and ".join(plain(person.name, 60) for person in people[:3]) or "nobody"
    return f"while on call for {code(schedule)}, which is {named} now"


async def _drills(moment: Moment, rules: list[tuple[str, Emergency]]) -> Blocks:
    """When this person last rehearsed each emergency of theirs, what came of it, and how to do it again."""
    newest: dict[str, Story] = {}
    for story in await moment.service.drills_of(moment.actor):
        newest.setdefault(story.request.resource, story)
    rows = []
    for name, _ in rules[:10]:
        again = button("drill", "Rehearse it", name)
        rows.append(section(_drill_line(moment, name, newest.get(name)), again))
    return [section("*Drills*"), *rows]


def _drill_line(moment: Moment, name: str, story: Story | None) -> str:
    if story is None or story.grant is None:
        return f"{code(name)}: never rehearsed"
    at, grant = story.request.created_at, story.grant
    came = "the gate held it" if grant.held_by else "⚠️ the gate never held it"
    came = "going on now" if grant.state is not GrantState.ENDED else came
    old = " · ⚠️ long ago" if moment.service.clock.now() - at > STALE_DRILL else ""
    found = (
        [f"⚠️ {plain(c, 200)}" for c in story.request.emergency.concerns] if story.request.emergency else []
    )
    return "\n".join([f"{code(name)}: {date(at)}, {came}{old} · {story.request.id}", *found[:2]])
