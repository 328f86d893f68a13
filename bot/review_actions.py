"""The buttons on the card of a held statement. They carry a review id and a version, no more."""

from __future__ import annotations

import re
from collections.abc import Callable

from bot import forms, run_forms
from bot.actions import SLOW, TAMPERED
from bot.desk import Body, Desk, Moment
from bot.markup import code
from bot.slack import TROUBLE, error_of
from broker.reviews import NO_REVIEW, Reviews
from workflows.model import Refusal, ReviewState, StatementReview
from workflows.quorum import may_not_decide

_POINTER = re.compile(r"(V-[0-9A-Z]{6,12}):([0-9]{1,6})")


async def approve(desk: Desk, body: Body) -> None:
    """Yes to these very bytes, once."""
    if (found := await _pressed(desk, body)) is None:
        return
    moment, review = found
    result = await Reviews(desk.service).approve(review.id, moment.actor, via="slack")
    if isinstance(result, Refusal):
        await moment.refuse(result, review.id, audited=True)


async def withdraw(desk: Desk, body: Body) -> None:
    """Whoever submitted it takes it back."""
    if (found := await _pressed(desk, body)) is None:
        return
    moment, review = found
    result = await Reviews(desk.service).take_back(review.id, moment.actor, via="slack")
    if isinstance(result, Refusal):
        await moment.refuse(result, review.id, audited=True)


async def ask_budget(desk: Desk, body: Body) -> None:
    """Yes, for at most so many rows: how many is asked for first, of those who may."""
    await _open(
        desk,
        body,
        lambda review, pointer, channel, what: run_forms.budget_form(
            pointer, channel, what, review.statement.estimate
        ),
    )


async def budget_given(desk: Desk, body: Body) -> None:
    """The form of a bounded yes was sent."""
    if (found := await _sent(desk, body)) is None:
        return
    moment, review_id = found
    typed = forms.read(body["view"])["budget"].strip()
    if not typed.isdigit():
        await moment.refuse(
            Refusal("bad-budget", "A row budget is a whole number.", "Press again."), review_id
        )
        return
    result = await Reviews(desk.service).approve(review_id, moment.actor, via="slack", row_budget=int(typed))
    if isinstance(result, Refusal):
        await moment.refuse(result, review_id, audited=True)


async def ask_why(desk: Desk, body: Body) -> None:
    """Deny: the reason is asked for first, of those who may."""
    await _open(
        desk,
        body,
        lambda _review, pointer, channel, what: forms.reason_form(
            forms.DENY_STATEMENT, pointer, channel, what
        ),
    )


async def _open(desk: Desk, body: Body, form: Callable[[StatementReview, str, str, str], forms.View]) -> None:
    if (found := await _pressed(desk, body)) is None:
        return
    moment, review = found
    everyone = desk.service.config.directory.everyone()
    refusal = may_not_decide(review, moment.actor, everyone)
    if refusal is None and review.state is not ReviewState.PENDING:
        refusal = Refusal("already-decided", f"{review.id} is already {review.state}.")
    if refusal is not None:
        await moment.refuse(refusal, review.id)
        return
    channel = str((body.get("channel") or {}).get("id") or "")
    what = f"A {review.statement.statement_class.value} statement on {code(review.resource)} · {review.id}"
    view = form(review, f"{review.id}:{review.version}", channel, what)
    try:
        await desk.client.views_open(trigger_id=body["trigger_id"], view=view)
    except TROUBLE as trouble:
        slow = Refusal(SLOW.code, f"{SLOW.why} ({error_of(trouble)})", SLOW.way_out)
        await moment.refuse(slow, review.id)


async def why_given(desk: Desk, body: Body) -> None:
    """The form of a denial was sent."""
    if (found := await _sent(desk, body)) is None:
        return
    moment, review_id = found
    reason = " ".join(forms.read(body["view"])["reason"].split())
    result = await Reviews(desk.service).deny(review_id, moment.actor, via="slack", reason=reason)
    if isinstance(result, Refusal):
        await moment.refuse(result, review_id, audited=True)


async def _sent(desk: Desk, body: Body) -> tuple[Moment, str] | None:
    """Who sent a form, and the review that it is about; None where that was refused or came before."""
    pointer, _, channel = str(body["view"].get("private_metadata") or "").partition(" ")
    match = _POINTER.fullmatch(pointer)
    moment = await desk.receive(body, about=match[1] if match else "", channel=channel)
    if moment is None:
        return None
    if match is None:
        await moment.refuse(TAMPERED)
        return None
    return moment, match[1]


async def _pressed(desk: Desk, body: Body) -> tuple[Moment, StatementReview] | None:
    """Who pressed, and the review that the button stands on; None where that was refused or came before."""
    pressed = (body.get("actions") or [{}])[0]
    match = _POINTER.fullmatch(str(pressed.get("value") or ""))
    moment = await desk.receive(body, about=match[1] if match else "")
    if moment is None:
        return None
    review = await Reviews(desk.service).find(match[1]) if match else None
    if match is None or review is None:
        await moment.refuse(TAMPERED if match is None else NO_REVIEW, match[1] if match else "")
        return None
    container = body.get("container") or {}
    at = await desk.ledger.request_at(
        str(container.get("channel_id") or ""), str(container.get("message_ts") or "")
    )
    if at not in (None, review.id) or int(match[2]) > review.version:
        await moment.refuse(TAMPERED, review.id)
        return None
    return moment, review
