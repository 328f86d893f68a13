"""What a held statement looks like in Slack: a review and some names in, blocks and fall-back text out. Pure.

The card shows the statement, because that is what is decided on, and never a value that came of it.
"""

from __future__ import annotations

from bot.cards import EVENT_TYPE, Card, Faces
from bot.markup import (
    Block,
    Blocks,
    actions,
    button,
    code,
    context,
    date,
    fields,
    plain,
    quotation,
    section,
)
from workflows.model import ReviewState, StatementReview
from workflows.quorum import apart_of
from workflows.visible import visible

SHOWN = 2400
"""Characters of a statement on the card; Slack takes 3,000 in a block, escaped."""


def review_card(review: StatementReview, faces: Faces, group: str, place: str) -> Card:
    """The card in the channel of `group`."""
    who = f"{faces.group(group, ping=True)} decides. {_quorum(review, faces)}"
    return _card(review, faces, place, who, _buttons(review))


def own_card(review: StatementReview, faces: Faces, place: str) -> Card:
    """The card of whoever submitted it."""
    take_back = button("review_withdraw", "Take it back", pointer(review))
    return _card(review, faces, place, f"Waits for {_quorum(review, faces)}", [take_back])


def _card(review: StatementReview, faces: Faces, place: str, waits: str, buttons: Blocks) -> Card:
    blocks: Blocks = [section(headline(review, faces)), statement_block(review.statement.text)]
    blocks.append(fields(("Touches", _touches(review)), ("How many rows", _rows(review))))
    if review.owner:
        blocks.append(context(f"🤖 An agent of {faces.person(review.owner)}. Its purpose, as it says:"))
    if review.reason.strip():
        blocks.append(quotation(review.reason))
    if review.state is ReviewState.PENDING:
        blocks.append(section(waits if fits(review) else f"{waits}\n{_elsewhere(review)}"))
        blocks.append(_foot(review, f"Waits until {date(review.lapses_at)}"))
        blocks.append(actions(f"review:{review.id}", *buttons))
    else:
        blocks.append(_foot(review, _decided(review, faces)))
    payload = {"request": review.id, "place": place, "version": review.version}
    return Card(_fallback(review, faces), blocks, {"event_type": EVENT_TYPE, "event_payload": payload})


def statement_block(text: str) -> Block:
    """The statement as code in which nothing is mark-up, with what was cut off said."""
    text = visible(text)
    cut = len(text) > SHOWN
    shown = text[:SHOWN] + (f"\n… and {len(text) - SHOWN:,} characters more" if cut else "")
    return {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": shown or " "}]}
        ],
    }


def fits(review: StatementReview) -> bool:
    """Whether the card shows the statement whole. What is approved is all of it, so only then it is asked."""
    return len(visible(review.statement.text)) <= SHOWN


def pointer(review: StatementReview) -> str:
    """What a button carries: which review, and which version of it the presser saw. Nothing else."""
    return f"{review.id}:{review.version}"


def headline(review: StatementReview, faces: Faces) -> str:
    who, where = faces.person(review.requester), code(review.resource)
    by = faces.person(review.closed_by) if review.closed_by else ""
    lines = {
        ReviewState.PENDING: f"✋ *{who} wants to run this on {where}* as {code(review.role)}",
        ReviewState.APPROVED: f"🔓 *Approved; {who} may run this once on {where}*",
        ReviewState.RUNNING: f"🏃 *Running on {where}* for {who}",
        ReviewState.FINISHED: f"✅ *Ran on {where}* for {who}: {plain(review.outcome, 200) or 'done'}",
        ReviewState.DENIED: f"⛔ *Denied by {by}*: {who} wanted to run this on {where}",
        ReviewState.WITHDRAWN: f"↩️ *No longer wanted*: {who} wanted to run this on {where}",
        ReviewState.LAPSED: f"⌛ *Nobody decided in time*: {who} wanted to run this on {where}",
    }
    return lines[review.state]


def _elsewhere(review: StatementReview) -> str:
    show = code(f"access statements show {review.id}")
    return f"It is too long to be shown here whole. Read it with {show}, and approve it there."


def _touches(review: StatementReview) -> str:
    it = review.statement
    tables = ", ".join(code(name) for name in it.tables[:8]) or "no table"
    more = f" and {len(it.tables) - 8} more" if len(it.tables) > 8 else ""
    return f"{tables}{more} · {it.statement_class.value}"


def _rows(review: StatementReview) -> str:
    it = review.statement
    if it.estimate is None:
        said = "not known"
    elif it.counted:
        said = f"exactly {it.estimate:,} (counted, nothing kept yet)"
    else:
        said = f"about {it.estimate:,} (the planner's guess)"
    return f"{said}\n⚠️ No condition bounds it" if it.bounded is False else said


def _quorum(review: StatementReview, faces: Faces) -> str:
    lacking = {quorum.group: quorum.needed for quorum in faces.missing}
    seats = [
        f"{q.needed - lacking.get(q.group, 0)} of {q.needed} {faces.group(q.group)}" for q in review.quorum
    ]
    yes = [faces.person(approval.approver) for approval in review.approvals if approval.yes]
    how = ", each with a passkey" if review.step_up else ""
    how += f", nobody of the same {plain(shared, 120)}" if (shared := apart_of(review.quorum)) else ""
    return " and ".join(seats) + how + (f" — {', '.join(yes)} ✅" if yes else "")


def _decided(review: StatementReview, faces: Faces) -> str:
    yes = [faces.person(approval.approver) for approval in review.approvals if approval.yes]
    parts = [f"Approved by {' and '.join(yes)}"] if yes else []
    if review.row_budget is not None:
        parts.append(f"at most {review.row_budget:,} rows")
    if review.close_reason:
        parts.append(plain(review.close_reason))
    ran = review.state in (ReviewState.APPROVED, ReviewState.RUNNING, ReviewState.FINISHED)
    return " · ".join(parts) or ("Nobody had to be asked" if ran else "Nothing was run")


def _foot(review: StatementReview, first: str) -> Block:
    stands = f" · {plain(review.transaction, 200)}" if review.transaction else ""
    return context(f"{first} · {review.id} · rule {plain(review.rule, 80)}{stands}")


def _buttons(review: StatementReview) -> Blocks:
    deny = button("review_deny", "Deny…", pointer(review), style="danger")
    if not fits(review):
        return [deny]
    return [
        button("review_approve", "Approve, once", pointer(review), style="primary"),
        button("review_budget", "At most … rows", pointer(review)),
        deny,
    ]


def _fallback(review: StatementReview, faces: Faces) -> str:
    state = "waits for a decision" if review.state is ReviewState.PENDING else f"is {review.state.value}"
    what = review.statement.statement_class.value
    return f"{faces.name(review.requester)}: a {what} statement on {review.resource} {state} ({review.id})"
