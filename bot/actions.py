"""What the buttons do. A button carries a request id and a version; everything else is read again here."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bot import forms, texts
from bot.commands import run_line
from bot.desk import Body, Desk, Moment
from bot.home import publish_home
from bot.markup import code, plain
from bot.slack import TROUBLE, error_of
from workflows.model import GrantState, Refusal, RequestState, Story
from workflows.quorum import has_a_say, may_not_decide

_POINTER = re.compile(r"(R-[0-9A-Z]{6,12}):([0-9]{1,6})")
_BUTTON = re.compile(_POINTER.pattern + r"(?::[0-9]{1,7})?")
"""A button may carry a number behind its pointer: seconds of more time."""
_WEEK = 7 * 86400
KILLED = "Killed from Slack."
TAMPERED = Refusal(
    "tampered-button",
    "This button does not belong to this card, so nothing was done.",
    "Use the card itself.",
)
SLOW = Refusal("slow", "Slack's time for opening a form ran out.", "Press again.")


Result = Story | Refusal


async def _extend_by(moment: Moment, request_id: str) -> Result:
    """The span stands behind the pointer; the rules hold it against the policy."""
    span = timedelta(seconds=min(int(value_of(moment.body).rpartition(":")[2]), _WEEK))
    return await moment.service.extend(request_id, moment.actor, span, via="slack", dedupe=moment.key)


async def _kill(moment: Moment, request_id: str) -> Result:
    service = moment.service
    return await service.revoke(request_id, moment.actor, via="slack", reason=KILLED, dedupe=moment.key)


_AT_ONCE: dict[str, Callable[[Moment, str], Awaitable[Result]]] = {
    "approve": lambda m, r: m.service.approve(r, m.actor, via="slack", dedupe=m.key),
    "cancel": lambda m, r: m.service.cancel(r, m.actor, via="slack", dedupe=m.key),
    "release": lambda m, r: m.service.release(r, m.actor, via="slack", dedupe=m.key),
    "claim": lambda m, r: m.service.claim(r, m.actor, via="slack", dedupe=m.key),
    "nudge": lambda m, r: m.service.nudge(r, m.actor, via="slack", dedupe=m.key),
    "extension_approve": lambda m, r: m.service.approve_extension(r, m.actor, via="slack", dedupe=m.key),
    "extend": _extend_by,
    "kill": _kill,
}
_ANSWERED = frozenset({"nudge", "extend"})
"""Whoever pressed these is told what came of it, since a card shows it late or elsewhere."""


async def decide(desk: Desk, body: Body, verb: str) -> None:
    """What a button does at once."""
    found = await pressed(desk, body)
    if found is None:
        return
    moment, request_id = found
    result = await _AT_ONCE[verb](moment, request_id)
    if isinstance(result, Refusal):
        await moment.refuse(result, request_id, audited=True)
    elif verb in _ANSWERED or _on_a_list(body):
        await moment.say(texts.moved(result, verb))
    await _home_again(moment)


async def ask_why(desk: Desk, body: Body, callback: str) -> None:
    """Deny or revoke: the reason is asked for first, of those who may."""
    found = await pressed(desk, body)
    if found is None:
        return
    moment, request_id = found
    story = await moment.service.story(request_id)
    refusal = _may_not(moment, story, callback)
    if refusal is not None or story is None:
        await moment.refuse(refusal or TAMPERED, request_id)
        return
    pointer = f"{request_id}:{story.version}"
    await open_view(
        moment, forms.reason_form(callback, pointer, channel_of(body), what(moment, story)), story
    )


async def open_view(moment: Moment, view: forms.View, story: Story | None = None) -> None:
    """Open a form, or tell that Slack's time for it was over."""
    try:
        await moment.desk.client.views_open(trigger_id=moment.body["trigger_id"], view=view)
    except TROUBLE as trouble:
        refusal = Refusal(SLOW.code, f"{SLOW.why} ({error_of(trouble)})", SLOW.way_out)
        await moment.refuse(refusal, story.request.id if story else "")


def what(moment: Moment, story: Story) -> str:
    """Which request a form is about, in one line."""
    request = story.request
    whose = request.holder if request.emergency else request.requester
    person = moment.service.principal(whose)
    who = plain(person.name if person else whose, 80)
    return f"{who}: {code(request.resource)} as {code(request.role)} · {request.id}"


def channel_of(body: Body) -> str:
    return str((body.get("channel") or {}).get("id") or "")


def _may_not(moment: Moment, story: Story | None, callback: str) -> Refusal | None:
    """A first look, to spare people a form that would be refused; the service decides at the end."""
    if story is None:
        return TAMPERED
    service, request = moment.service, story.request
    if callback == forms.DENY:
        if request.state is not RequestState.PENDING:
            by = f" by {request.closed_by}" if request.closed_by else ""
            return Refusal("already-decided", f"{request.id} is already {request.state}{by}.")
        return may_not_decide(request, moment.actor, service.config.directory.everyone())
    if callback == forms.DENY_EXTENSION:
        return may_not_decide(request, moment.actor, service.config.directory.everyone())
    if story.grant is None or story.grant.state is GrantState.ENDED:
        return Refusal("no-grant", f"{request.id} has no grant that could be revoked.")
    if service.is_admin(moment.actor) or has_a_say(request, moment.person):
        return None
    return may_not_decide(request, moment.actor, service.config.directory.everyone())


async def why_given(desk: Desk, body: Body, callback: str) -> None:
    """The form of a denial or revocation was sent."""
    found = await sent(desk, body)
    if found is None:
        return
    moment, request_id = found
    reason = " ".join(forms.read(body["view"])["reason"].split())
    service = moment.service
    call = {
        forms.DENY: service.deny,
        forms.REVOKE: service.revoke,
        forms.DENY_EXTENSION: service.deny_extension,
    }[callback]
    result = await call(request_id, moment.actor, via="slack", reason=reason, dedupe=moment.key)
    if isinstance(result, Refusal):
        await moment.refuse(result, request_id, audited=True)


async def sent(desk: Desk, body: Body) -> tuple[Moment, str] | None:
    """Who sent a form, and the request that it is about; None where that was refused or came before."""
    pointer, _, channel = str(body["view"].get("private_metadata") or "").partition(" ")
    match = _POINTER.fullmatch(pointer)
    moment = await desk.receive(body, about=match[1] if match else "", channel=channel)
    if moment is None:
        return None
    if match is None:
        await moment.refuse(TAMPERED)
        return None
    return moment, match[1]


async def run_mended(desk: Desk, body: Body) -> None:
    """Do what the line of the button says."""
    moment = await desk.receive(body)
    if moment is not None:
        await run_line(moment, value_of(body), replace=True)
        await _home_again(moment)


async def pressed(desk: Desk, body: Body) -> tuple[Moment, str] | None:
    """Who pressed, and the request that the button points at; None where that was refused or came before."""
    match = _BUTTON.fullmatch(value_of(body))
    moment = await desk.receive(body, about=match[1] if match else "")
    if moment is None:
        return None
    if match is None or not await belongs(desk, body, match[1], int(match[2])):
        await moment.refuse(TAMPERED, match[1] if match else "")
        return None
    return moment, match[1]


async def belongs(desk: Desk, body: Body, request_id: str, version: int) -> bool:
    """Whether such a button can have stood there: on this request's card, of a version that there was."""
    container = body.get("container") or {}
    channel, ts = str(container.get("channel_id") or ""), str(container.get("message_ts") or "")
    at = await desk.ledger.request_at(channel, ts) if ts else None
    story = await desk.service.story(request_id)
    return at in (None, request_id) and story is not None and version <= story.version


def value_of(body: Body) -> str:
    """What the pressed button carries."""
    return str((body.get("actions") or [{}])[0].get("value") or "")


def _on_a_list(body: Body) -> bool:
    """Whether the button stood in an answer of ours, which nobody else sees and no courier updates."""
    return bool((body.get("container") or {}).get("is_ephemeral"))


async def _home_again(moment: Moment) -> None:
    if (moment.body.get("view") or {}).get("type") == "home":
        await publish_home(moment)
