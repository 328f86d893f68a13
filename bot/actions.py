"""What the buttons do. A button carries a request id and a version; everything else is read again here."""

from __future__ import annotations

import re

from bot import forms, texts
from bot.commands import run_line
from bot.desk import Body, Desk, Moment
from bot.home import publish_home
from bot.markup import code, plain
from bot.slack import TROUBLE, error_of
from workflows.model import GrantState, Refusal, RequestState, Story
from workflows.quorum import may_not_decide

_POINTER = re.compile(r"(R-[0-9A-Z]{6,12}):([0-9]{1,6})")
TAMPERED = Refusal(
    "tampered-button",
    "This button does not belong to this card, so nothing was done.",
    "Use the card itself.",
)
SLOW = Refusal("slow", "Slack's time for opening a form ran out.", "Press again.")


async def decide(desk: Desk, body: Body, verb: str) -> None:
    """Approve, cancel or release: at once."""
    found = await _pressed(desk, body)
    if found is None:
        return
    moment, request_id = found
    call = {
        "approve": moment.service.approve,
        "cancel": moment.service.cancel,
        "release": moment.service.release,
    }[verb]
    result = await call(request_id, moment.actor, via="slack", dedupe=moment.key)
    if isinstance(result, Refusal):
        await moment.refuse(result, request_id, audited=True)
    elif _on_a_list(body):
        await moment.say(texts.moved(result, verb))
    await _home_again(moment)


async def ask_why(desk: Desk, body: Body, callback: str) -> None:
    """Deny or revoke: the reason is asked for first, of those who may."""
    found = await _pressed(desk, body)
    if found is None:
        return
    moment, request_id = found
    story = await moment.service.story(request_id)
    refusal = _may_not(moment, story, callback)
    if refusal is not None or story is None:
        await moment.refuse(refusal or TAMPERED, request_id)
        return
    request = story.request
    person = moment.service.principal(request.requester)
    who = plain(person.name if person else request.requester, 80)
    what = f"{who}: {code(request.resource)} as {code(request.role)} · {request.id}"
    channel = str((body.get("channel") or {}).get("id") or "")
    view = forms.reason_form(callback, f"{request_id}:{story.version}", channel, what)
    try:
        await desk.client.views_open(trigger_id=body["trigger_id"], view=view)
    except TROUBLE as trouble:
        await moment.refuse(Refusal(SLOW.code, f"{SLOW.why} ({error_of(trouble)})", SLOW.way_out), request_id)


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
    if story.grant is None or story.grant.state is GrantState.ENDED:
        return Refusal("no-grant", f"{request.id} has no grant that could be revoked.")
    if service.is_admin(moment.actor):
        return None
    return may_not_decide(request, moment.actor, service.config.directory.everyone())


async def why_given(desk: Desk, body: Body, callback: str) -> None:
    """The form of a denial or revocation was sent."""
    pointer, _, channel = str(body["view"].get("private_metadata") or "").partition(" ")
    match = _POINTER.fullmatch(pointer)
    moment = await desk.receive(body, about=match[1] if match else "", channel=channel)
    if moment is None:
        return
    if match is None:
        await moment.refuse(TAMPERED)
        return
    reason = " ".join(forms.read(body["view"])["reason"].split())
    call = {forms.DENY: moment.service.deny, forms.REVOKE: moment.service.revoke}[callback]
    result = await call(match[1], moment.actor, via="slack", reason=reason, dedupe=moment.key)
    if isinstance(result, Refusal):
        await moment.refuse(result, match[1], audited=True)


async def run_mended(desk: Desk, body: Body) -> None:
    """The button holds a line; pressing it is typing the line."""
    moment = await desk.receive(body)
    if moment is not None:
        await run_line(moment, _value(body), replace=True)
        await _home_again(moment)


async def _pressed(desk: Desk, body: Body) -> tuple[Moment, str] | None:
    """Who pressed, and the request that the button points at; None where that was refused or came before."""
    match = _POINTER.fullmatch(_value(body))
    moment = await desk.receive(body, about=match[1] if match else "")
    if moment is None:
        return None
    if match is None or not await _belongs(desk, body, match[1], int(match[2])):
        await moment.refuse(TAMPERED, match[1] if match else "")
        return None
    return moment, match[1]


async def _belongs(desk: Desk, body: Body, request_id: str, version: int) -> bool:
    """Whether such a button can have stood there: on this request's card, of a version that there was."""
    container = body.get("container") or {}
    channel, ts = str(container.get("channel_id") or ""), str(container.get("message_ts") or "")
    at = await desk.ledger.request_at(channel, ts) if ts else None
    story = await desk.service.story(request_id)
    return at in (None, request_id) and story is not None and version <= story.version


def _value(body: Body) -> str:
    pressed = (body.get("actions") or [{}])[0]
    return str(pressed.get("value") or "")


def _on_a_list(body: Body) -> bool:
    """Whether the button stood in an answer of ours, which nobody else sees and no courier updates."""
    return bool((body.get("container") or {}).get("is_ephemeral"))


async def _home_again(moment: Moment) -> None:
    if (moment.body.get("view") or {}).get("type") == "home":
        await publish_home(moment)
