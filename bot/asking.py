"""The request form: opened at once, filled when it is known who asks, kept when something is wrong in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slack_bolt.context.ack.async_ack import AsyncAck

from bot import forms
from bot.commands import NOT_LINKED, context_of, person_meant, submit
from bot.desk import Body, Desk, Moment, log, team_of, user_of
from bot.markup import MAX_REASON, about, plain
from bot.slack import TROUBLE, error_of
from broker.service import Service
from broker.statistics import usual_wait
from workflows import access
from workflows.grammar import Context, Mistake, Request, Target, TargetKind, parse
from workflows.model import Principal, Refusal
from workflows.policy import Route, for_others, route_for, spell
from workflows.words import TICKET

_RECENT = 20
"""So many of one's last requests decide what is offered first."""


async def open_form(desk: Desk, body: Body, line: str = "") -> None:
    """Open the form: first an empty one, because a trigger lives for three seconds, then the real one.

    `line` is a request line, whole or not, to fill it in with.
    """
    try:
        opened = await desk.client.views_open(trigger_id=body["trigger_id"], view=forms.loading())
    except TROUBLE as trouble:
        # A repeated delivery brings a trigger that was used; there the form is already open.
        log.info("form_not_opened", problem=error_of(trouble))
        return
    moment = await desk.receive(body)
    view = forms.notice("Request access", "This is not for your account.")
    if moment is not None:
        view = await _for(moment, line)
    await desk.client.views_update(view_id=opened["view"]["id"], view=view)


async def _for(moment: Moment, line: str) -> forms.View:
    context = context_of(moment)
    answer = parse(line, context) if line else None
    draft = answer.draft if isinstance(answer, Mistake) else answer
    if not isinstance(draft, Request):
        draft = Request(context.offers[0].name if len(context.offers) == 1 else "")
    return await _view(moment.service, moment.person, context, draft)


async def _view(service: Service, person: Principal, context: Context, draft: Request) -> forms.View:
    draft, holder = await _for_whom(service, person, draft)
    preview = await _preview(service, person, holder, draft)
    asks = draft.resource in {resource.name for resource in for_others(service.policy, person)}
    return forms.ask_form(context.offers, draft, _titles(service), preview, for_others=asks)


async def _for_whom(service: Service, person: Principal, draft: Request) -> tuple[Request, Principal | None]:
    """The draft with whom it is for as Slack's select wants it, and that person; None where nobody known."""
    target = draft.beneficiary
    if target is None:
        return draft, person
    if target.kind is not TargetKind.SLACK_USER:
        named = service.person_named(target.value)
        user = None if isinstance(named, Refusal) else await service.slack_user(named.id)
        target = Target(TargetKind.SLACK_USER, user) if user else None
        holder = None if isinstance(named, Refusal) else named
        return replace(draft, beneficiary=target), holder
    everyone = service.config.directory.everyone()
    users = await service.slack_users(everyone)
    return draft, next((p for p in everyone.values() if users.get(p.id) == target.value), None)


def _titles(service: Service) -> dict[str, str]:
    return {name: resource.title for name, resource in service.policy.resources.items()}


async def _preview(service: Service, person: Principal, holder: Principal | None, draft: Request) -> str:
    """Who would decide this, how long that usually takes, and within which bounds."""
    if not draft.resource:
        return ""
    if holder is None:
        return f"⚠️ {NOT_LINKED.why}"
    route = route_for(service.policy, person, holder, draft.resource, draft.role)
    if not isinstance(route, Route):
        return f"⚠️ {plain(route.why, 300)}" if draft.beneficiary else ""
    rule, groups = route.rule, service.policy.groups
    seats = [
        f"{q.needed} of {plain(groups[q.group].title or q.group, 80) if q.group in groups else q.group}"
        for q in rule.quorum
    ]
    decides = f"{' and '.join(seats)} must say yes" if seats else "No approval is needed"
    wait = f" · lapses after {spell(rule.lapse_after)}" if seats else ""
    found = await usual_wait(service.store, route.resource.name, route.role.name, service.clock.now())
    if seats and found is not None:
        wait = f" · usually within {about(found[0])} (median of {found[1]} in 30 days){wait}"
    return f"{decides} · at most {spell(rule.longest)}{wait} · rule {plain(rule.name, 80)}"


async def changed(desk: Desk, body: Body) -> None:
    """A resource or role was chosen: show what goes with it."""
    person = await desk.people.identify(team_of(body), user_of(body))
    if isinstance(person, Refusal):
        return
    view = body["view"]
    moment = Moment(desk, body, person, "")
    draft = forms.draft_of(forms.read(view))
    try:
        await desk.client.views_update(
            view_id=view["id"],
            hash=view["hash"],
            view=await _view(desk.service, person, context_of(moment), draft),
        )
    except TROUBLE as trouble:
        # A newer choice has overtaken this one (hash_conflict); its own update shows it.
        log.info("form_not_updated", problem=error_of(trouble))


async def offered(desk: Desk, body: Body) -> list[dict[str, Any]]:
    """The options of the resource select for what was typed: only what this person may ask for, and first
    what they asked for last.
    """
    person = await desk.service.principal_of_slack(team_of(body), user_of(body))
    if person is None or not person.active:
        return []
    context = context_of(Moment(desk, body, person, ""))
    own = await desk.service.stories_of(person.id, limit=_RECENT)
    recent = [story.request.resource for story in own]
    return forms.options(context.offers, _titles(desk.service), str(body.get("value") or ""), recent)


async def submitted(desk: Desk, body: Body, ack: AsyncAck) -> None:
    """The form was sent: what is wrong is shown at its field, from what is in memory; else it is asked."""
    person = await desk.service.principal_of_slack(team_of(body), user_of(body))
    filled = forms.read(body["view"])
    wish: Request | None = None
    if person is not None:
        wish, errors = await _checked(desk, body, person, filled)
        if errors:
            await ack(response_action="errors", errors=errors)
            return
    await ack()
    moment = await desk.receive(body)
    if moment is None or wish is None:
        return
    result = await submit(moment, wish)
    if isinstance(result, Refusal):
        await moment.refuse(result, audited=True)


async def _checked(
    desk: Desk, body: Body, person: Principal, filled: forms.Filled
) -> tuple[Request, dict[str, str]]:
    """The request that the form asks for, and what is wrong by block."""
    draft = forms.draft_of(filled)
    if not draft.resource:
        return draft, {filled.block("resource"): "Choose one."}
    span, starts_at = draft.duration, None
    if (ticket := filled["ticket"].strip()) and not TICKET.fullmatch(ticket):
        return draft, {filled.block("ticket"): "A ticket is written INC-142 or #142; the rest goes below."}
    if len(" ".join(draft.reason.split())) > MAX_REASON:
        return draft, {filled.block("reason"): f"With the ticket it is over {MAX_REASON} characters."}
    if typed := filled["typed"].strip():
        context = context_of(Moment(desk, body, person, ""))
        answer = parse(f"request {draft.resource} {typed} because x", context)
        said = answer.why if isinstance(answer, Mistake) else ""
        if not isinstance(answer, Request) or (answer.duration is None and answer.starts_at is None):
            return draft, {filled.block("typed"): said or "Say 45m, until 18:00 or 2h from 9:00."}
        span, starts_at = answer.duration or span, answer.starts_at
    wish = replace(draft, duration=span, starts_at=starts_at, reason=" ".join(draft.reason.split()))
    moment = Moment(desk, body, person, "")
    holder = await person_meant(moment, wish.beneficiary) if wish.beneficiary else person
    if isinstance(holder, Refusal):
        return wish, {filled.block("whom", "resource"): str(holder)}
    route = route_for(desk.service.policy, person, holder, wish.resource, wish.role)
    if isinstance(route, Refusal):
        field = "whom" if wish.beneficiary else "role"
        return wish, {filled.block(field, "resource"): str(route)}
    refusal = access.submit(route, person, wish.wish(holder.id), "R-0", "G-0", desk.service.clock.now())
    if isinstance(refusal, Refusal):
        where = {"no-reason": ("reason",), "too-long": ("typed", "span"), "too-short": ("typed", "span")}
        return wish, {filled.block(*where.get(refusal.code, ("resource",))): str(refusal)}
    return wish, {}
