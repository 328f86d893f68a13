"""Emergencies, reviews, less than was asked, and questions: the forms that buttons open, and what they do."""

from __future__ import annotations

import re
from datetime import timedelta

from slack_bolt.context.ack.async_ack import AsyncAck

from bot import forms, texts, urgent_forms
from bot.actions import TAMPERED, channel_of, open_view, pressed, sent, value_of, what
from bot.commands import context_of, rules_of
from bot.desk import Body, Desk, Moment, log, team_of, user_of
from bot.faces import faces_of
from bot.home import publish_home
from bot.markup import plain
from bot.shown import count, replay
from bot.slack import TROUBLE, error_of
from bot.urgent_forms import Glass
from workflows.access import Wish
from workflows.glass_review import may_not_review, owes_review
from workflows.grammar import BreakGlass, Mistake, from_slack, parse
from workflows.model import Principal, Refusal, RequestState, Story
from workflows.policy import spell
from workflows.quorum import may_not_decide
from workflows.words import STORY_ID

NO_EMERGENCY = "No rule lets you break the glass of anything. Ask the usual way: `/access`."
_WHAT = re.compile(r"(R-[0-9A-Z]{6,12}|-) ?(.*)")


# ------------------------------------------------------------- breaking it


async def open_glass(desk: Desk, body: Body, line: str = "") -> None:
    """Open the form: at once an empty one, because a trigger lives for three seconds. `line` is a whole
    break-glass line, well typed or not.
    """
    try:
        opened = await desk.client.views_open(
            trigger_id=body["trigger_id"], view=forms.loading("Break the glass")
        )
    except TROUBLE as trouble:
        # A repeated delivery brings a trigger that was used; there the form is already open.
        log.info("form_not_opened", problem=error_of(trouble))
        return
    moment = await desk.receive(body)
    view = forms.notice("Break the glass", "This is not for your account.")
    if moment is not None:
        view = await _glass_view(moment, line)
    await desk.client.views_update(view_id=opened["view"]["id"], view=view)


async def _glass_view(moment: Moment, line: str) -> forms.View:
    draft, trouble = _draft(moment, line) if line else (Glass(), "")
    if draft.request:
        story = await moment.service.story_for(draft.request, moment.actor)
        if isinstance(story, Refusal):
            return forms.notice("Break the glass", plain(str(story)))
        draft = _of_request(story, draft)
    return _form(moment.desk, moment.person, draft, str(moment.body.get("channel_id") or ""), trouble)


def _form(desk: Desk, person: Principal, draft: Glass, channel: str, trouble: str = "") -> forms.View:
    rules = rules_of(desk.service, person)
    known = {name for name, _ in rules}
    if not rules:
        return forms.notice("Break the glass", NO_EMERGENCY)
    if draft.resource and draft.resource not in known:
        trouble = f"No rule lets you break the glass of {draft.resource}."
    return urgent_forms.glass_form(rules, draft, channel, trouble)


def _draft(moment: Moment, line: str) -> tuple[Glass, str]:
    """What a typed line fills in, and what is wrong with it."""
    answer = parse(line, context_of(moment))
    trouble = ""
    if isinstance(answer, Mistake):
        trouble = answer.why
        again = parse(answer.mended, context_of(moment)) if answer.mended else answer
        answer = again if isinstance(again, BreakGlass) else answer
    if not isinstance(answer, BreakGlass):
        words = line.split()[1:]
        first = words[0] if words else ""
        name = moment.service.policy.find(first)
        request = first.upper() if STORY_ID.fullmatch(first) else ""
        reason = " ".join(words[1:] if name or request else words)
        return Glass(name.name if name else "", reason=reason, request=request), trouble
    found = moment.service.policy.find(answer.resource)
    return Glass(
        found.name if found else answer.resource,
        answer.incident,
        _without(answer.reason, answer.incident),
        answer.duration,
        answer.id,
    ), trouble


def _without(reason: str, incident: str) -> str:
    """The reason without the incident at its beginning, which has a field of its own."""
    head, _, tail = reason.partition(" ")
    return tail if incident and head.upper() == incident else reason


def _of_request(story: Story, draft: Glass) -> Glass:
    request = story.request
    incident = draft.incident or urgent_forms.ticket_in(request.reason)
    reason = draft.reason or _without(request.reason, incident)
    return Glass(request.resource, incident, reason, draft.span, request.id)


async def turn_into(desk: Desk, body: Body) -> None:
    """The button on one's own waiting request: the same form, with the request filled in."""
    found = await _story_pressed(desk, body)
    if found is None:
        return
    moment, story = found
    refusal = None
    if story.request.holder != moment.actor:
        who = story.request.holder
        refusal = Refusal("not-yours", f"Only {who}, whom it is for, can make this an emergency.")
    elif story.request.state is not RequestState.PENDING:
        refusal = Refusal("already-decided", f"{story.request.id} is already {story.request.state}.")
    if refusal:
        await moment.refuse(refusal, story.request.id)
        return
    draft = _of_request(story, Glass())
    await open_view(moment, _form(desk, moment.person, draft, channel_of(body)), story)


async def drill(desk: Desk, body: Body) -> None:
    """The button on the home tab."""
    moment = await desk.receive(body)
    if moment is None:
        return
    result = await desk.service.drill(moment.actor, value_of(body), via="slack", dedupe=moment.key)
    if isinstance(result, Refusal):
        await moment.refuse(result, audited=True)
    else:
        await moment.say(texts.moved(result, "drill"))
    await publish_home(moment)


async def glass_changed(desk: Desk, body: Body) -> None:
    """Another resource was chosen: show the bounds of its rule."""
    person = await desk.people.identify(team_of(body), user_of(body))
    if isinstance(person, Refusal):
        return
    view = body["view"]
    request, channel = _about(view)
    draft = urgent_forms.read_glass(forms.read(view), request)
    try:
        await desk.client.views_update(
            view_id=view["id"], hash=view["hash"], view=_form(desk, person, draft, channel)
        )
    except TROUBLE as trouble:
        log.info("form_not_updated", problem=error_of(trouble))


def _about(view: Body) -> tuple[str, str]:
    match = _WHAT.fullmatch(str(view.get("private_metadata") or ""))
    request, channel = (match[1], match[2]) if match else ("-", "")
    return ("" if request == "-" else request), channel


async def glass_sent(desk: Desk, body: Body, ack: AsyncAck) -> None:
    """The form was sent: what is wrong stands at its field, from what is in memory; else it is done."""
    request, channel = _about(body["view"])
    filled = forms.read(body["view"])
    draft = urgent_forms.read_glass(filled, request)
    person = await desk.service.principal_of_slack(team_of(body), user_of(body))
    errors = _wrong(desk, person, draft, filled) if person else {}
    if errors:
        await ack(response_action="errors", errors=errors)
        return
    await ack()
    moment = await desk.receive(body, about=request, channel=channel)
    if moment is None:
        return
    wish = Wish(draft.resource, "", draft.span, f"{draft.incident} {draft.reason}".strip())
    result = await desk.service.break_glass(
        moment.actor, wish, draft.incident, via="slack", request_id=request, dedupe=moment.key
    )
    if isinstance(result, Refusal):
        await moment.refuse(result, request, audited=True)


def _wrong(desk: Desk, person: Principal, draft: Glass, filled: forms.Filled) -> dict[str, str]:
    rule = dict(rules_of(desk.service, person)).get(draft.resource)
    if rule is None:
        return {filled.block("glass_resource"): "Choose one."}
    errors = {}
    if not draft.incident:
        errors[filled.block("incident")] = "An emergency has an incident: INC-142."
    if len(draft.reason) < rule.shortest_reason:
        errors[filled.block("reason")] = f"Say in {rule.shortest_reason} characters or more what is broken."
    if rule.type_name and filled["name"].strip() != draft.resource:
        errors[filled.block("name", "glass_resource")] = f"Type {draft.resource}, to show that you mean it."
    return errors


# ---------------------------------------------------------------- the review


async def open_review(desk: Desk, body: Body) -> None:
    """The form of a review, for those who may."""
    found = await _story_pressed(desk, body)
    if found is None:
        return
    moment, story = found
    emergency = story.request.emergency
    if emergency is None or not owes_review(story):
        verdict = f" It was found {emergency.verdict}." if emergency and emergency.verdict else ""
        done = Refusal("already-reviewed", f"{story.request.id} needs no review.{verdict}")
        await moment.refuse(done, story.request.id)
        return
    if refusal := may_not_review(story, moment.actor, desk.service.config.directory.everyone()):
        await moment.refuse(refusal, story.request.id)
        return
    facts = await _facts(moment, story)
    view = urgent_forms.review_form(story, channel_of(body), what(moment, story), facts)
    await open_view(moment, view, story)


async def _facts(moment: Moment, story: Story) -> list[str]:
    """What a reviewer looks at first."""
    emergency = story.request.emergency
    assert emergency is not None
    url = moment.desk.public_url
    done = (await faces_of(moment.service, story, url)).done
    why = _without(story.request.reason, emergency.incident)
    facts = [f"*{plain(emergency.incident, 60)}*: {plain(why, 300)}"]
    facts.append(f"Taken as {plain(emergency.eligible_by, 200)}.")
    facts += [f"⚠️ {plain(concern, 300)}" for concern in emergency.concerns[:5]]
    if done is not None:
        said = [count(done.sessions, "session"), count(done.statements, "statement"), count(done.rows, "row")]
        facts.append(f"What was done: {', '.join(said)}; {done.refused} refused.")
        facts += [f"▶️ {replay(session, url)}" for session in done.ids[:3]]
    return facts


async def review_sent(desk: Desk, body: Body, ack: AsyncAck) -> None:
    filled = forms.read(body["view"])
    verdict, note = urgent_forms.read_verdict(filled), " ".join(filled["reason"].split())
    if verdict is None:
        await ack(response_action="errors", errors={"verdict": "Choose one."})
        return
    if verdict.value == "not justified" and not note:
        await ack(response_action="errors", errors={"reason": "Say why it was not justified."})
        return
    await ack()
    found = await sent(desk, body)
    if found is None:
        return
    moment, request_id = found
    result = await desk.service.review_break_glass(
        request_id, moment.actor, verdict, via="slack", note=note, dedupe=moment.key
    )
    if isinstance(result, Refusal):
        await moment.refuse(result, request_id, audited=True)


# ------------------------------------------------------- less, and questions


async def open_less(desk: Desk, body: Body) -> None:
    """Approve for less: the form, for those who may decide what still waits."""
    found = await _story_pressed(desk, body)
    if found is None:
        return
    moment, story = found
    request = story.request
    refusal = may_not_decide(request, moment.actor, desk.service.config.directory.everyone())
    if refusal is None and request.state is not RequestState.PENDING:
        refusal = Refusal("already-decided", f"{request.id} is already {request.state}.")
    if refusal is not None:
        await moment.refuse(refusal, request.id)
        return
    resource = desk.service.policy.find(request.resource)
    roles = [role.name for role in resource.roles if request.role in role.within] if resource else []
    view = urgent_forms.less_form(story, roles, channel_of(body), what(moment, story))
    await open_view(moment, view, story)


async def less_sent(desk: Desk, body: Body) -> None:
    found = await sent(desk, body)
    if found is None:
        return
    moment, request_id = found
    filled, story = forms.read(body["view"]), await desk.service.story(request_id)
    seconds, role = filled["less_span"], filled["less_role"]
    if story is None or not seconds.isdigit():
        await moment.refuse(TAMPERED, request_id)
        return
    span = timedelta(seconds=int(seconds))
    result = await desk.service.approve_for_less(
        request_id,
        moment.actor,
        via="slack",
        duration=span,
        role="" if role == story.request.role else role,
        reason=_for_less(story, span, role, filled["reason"]),
        dedupe=moment.key,
    )
    if isinstance(result, Refusal):
        await moment.refuse(result, request_id, audited=True)


def _for_less(story: Story, span: timedelta, role: str, note: str) -> str:
    """What was made less, in words that stay with the approval; the request itself only shows the new."""
    request = story.request
    parts = [f"{spell(span)} instead of {spell(request.duration)}"] if span != request.duration else []
    parts += [f"{role} instead of {request.role}"] if role and role != request.role else []
    return ". ".join(filter(None, [", ".join(parts), " ".join(note.split())]))


async def open_comment(desk: Desk, body: Body) -> None:
    """Ask, or answer."""
    found = await _story_pressed(desk, body)
    if found is None:
        return
    moment, story = found
    if not desk.service.takes_part(story, moment.actor):
        who = Refusal("not-an-approver", "Only those who decide this and whoever asked can write about it.")
        await moment.refuse(who, story.request.id)
        return
    question = moment.actor not in story.request.parties
    view = urgent_forms.comment_form(story, channel_of(body), what(moment, story), question=question)
    await open_view(moment, view, story)


async def comment_sent(desk: Desk, body: Body) -> None:
    found = await sent(desk, body)
    if found is None:
        return
    moment, request_id = found
    text = " ".join(forms.read(body["view"])["reason"].split())
    result = await desk.service.comment(request_id, moment.actor, text, via="slack", dedupe=moment.key)
    if isinstance(result, Refusal):
        await moment.refuse(result, request_id, audited=True)


async def _story_pressed(desk: Desk, body: Body) -> tuple[Moment, Story] | None:
    """Who pressed, and the story that the button points at; None where that was refused or came before."""
    found = await pressed(desk, body)
    if found is None:
        return None
    moment, request_id = found
    story = await desk.service.story(request_id)
    if story is None:
        await moment.refuse(TAMPERED, request_id)
        return None
    return moment, story


def is_break_glass(text: str) -> bool:
    """Whether a command is a wish to break the glass, well typed or not in what follows."""
    first = from_slack(text).split()[:1]
    return bool(first) and first[0].casefold() in {"break-glass", "breakglass", "emergency"}
