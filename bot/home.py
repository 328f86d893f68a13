"""The home tab: what one has, what one asked for, what waits for one's decision; and what for emergencies."""

from __future__ import annotations

from bot.commands import rules_of, status_blocks
from bot.desk import Moment, log
from bot.markup import Block, Blocks, actions, button, code, context, date, plain, section
from bot.shown import pointer
from bot.slack import TROUBLE, error_of
from broker.oncall import OnCallUnavailable
from broker.store import stories
from workflows.glass_review import owes_review
from workflows.model import Story
from workflows.policy import Emergency, spell

DRILL = "DRILL-"
"""An emergency whose incident begins so is a rehearsal; it is reviewed like any other."""


async def publish_home(moment: Moment) -> None:
    """Show this person's home tab as the database is now."""
    ask = button("form", "Ask for access", "request", style="primary")
    rules = rules_of(moment.service, moment.person)
    row = [ask, button("glass", "Break the glass…", style="danger")] if rules else [ask]
    head = [section("*Portcullis* opens doors when the right people say so."), actions("ask", *row)]
    blocks: Blocks = [*head, *await status_blocks(moment), *await _more_time(moment), *await _owed(moment)]
    blocks += await _emergencies(moment, rules)
    blocks.append(context("`/access help` tells the rest."))
    user = moment.slack_user
    try:
        await moment.desk.client.views_publish(user_id=user, view={"type": "home", "blocks": blocks[:100]})
    except TROUBLE as trouble:
        log.warning("home_not_published", problem=error_of(trouble))


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
    person = moment.service.principal(request.requester)
    who = plain(person.name if person else request.requester, 80)
    due = f", due {date(request.emergency.review_due)}" if request.emergency else ""
    return f"{who}: {code(request.resource)} as {code(request.role)} · {request.id}{due}"


async def _emergencies(moment: Moment, rules: list[tuple[str, Emergency]]) -> Blocks:
    """Of what this person might break the glass, on which condition, and when they last rehearsed it."""
    if not rules:
        return []
    lines = [await _eligible(moment, name, rule) for name, rule in rules[:10]]
    return [section("\n".join(["*In an emergency*", *lines])), context(await _last_drill(moment))]


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


async def _last_drill(moment: Moment) -> str:
    async with moment.service.store.read() as tx:
        found = await stories.emergencies_of(tx, moment.actor)
    at = [
        s.request.created_at
        for s in found
        if s.request.emergency and s.request.emergency.incident.startswith(DRILL)
    ]
    last = f"Last drill: {date(max(at))}." if at else "You have never rehearsed it."
    return f"{last} Rehearse with `/access break-glass RESOURCE because {DRILL}1 rehearsal`."
