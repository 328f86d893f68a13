"""What a yes in advance looks like. Pure."""

from __future__ import annotations

from datetime import datetime

from bot.markup import Block, Blocks, actions, button, code, context, date, plain, quotation, section
from bot.shown import EVENT_TYPE, Card, Faces, count
from workflows.allowance import Allowance
from workflows.policy import spell


def allowance_card(one: Allowance, faces: Faces, place: str, now: datetime, *, own: bool = False) -> Card:
    """The card in the approvers' channels, and with `own` in the messages of whom it is for."""
    who, whom = faces.person(one.approver), "you" if own else faces.person(one.principal)
    what = code(one.resource)
    if one.ended_by:
        head = f"↩️ *Taken back by {faces.person(one.ended_by)}*: {who} allowed {whom} {what} in advance"
    elif not one.live(now):
        over = "used" if one.used and not one.repeated else "over"
        head = f"⚪ *A yes in advance is {over}*: {who} allowed {whom} {what}"
    else:
        head = f"🎟️ *{who} says yes in advance to {what} for {whom}*"
    blocks: Blocks = [section(f"{head}\n{terms(one)}"), quotation(one.reason), context(_foot(one))]
    if one.live(now):
        blocks.append(actions(f"allowance:{one.id}", take_back(one)))
    text = f"{faces.name(one.approver)} says yes in advance to {plain(one.resource, 100)} for "
    payload = {"request": one.id, "place": place, "version": one.version}
    return Card(
        f"{text}{faces.name(one.principal)} ({one.id})",
        blocks,
        {"event_type": EVENT_TYPE, "event_payload": payload},
    )


def terms(one: Allowance) -> str:
    often = "as often as asked" if one.repeated else "once"
    return f"As {code(one.role)}, at most {spell(one.longest)} at a time, {often}, until {date(one.until)}"


def take_back(one: Allowance) -> Block:
    question = ("Take it back?", "Nothing is granted by it any more. What was granted stays.", "Take it back")
    return button("allowance_end", "Take it back", one.id, confirm=question)


def line_of(one: Allowance, faces: Faces) -> str:
    """One line of a list."""
    who, whom = faces.name(one.approver), faces.name(one.principal)
    return f"{code(one.resource)} for {whom}, says {who}: {terms(one)} · {one.id}"


def _foot(one: Allowance) -> str:
    used = f"Given to {', '.join(one.used[-5:])}" if one.used else "Not used yet"
    more = f" ({count(len(one.used), 'request')})" if len(one.used) > 5 else ""
    return f"{used}{more} · what else the rule wants is still asked for · {one.id}"
