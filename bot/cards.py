"""What a story looks like in Slack: a story and some names in, blocks and fall-back text out. Pure.

A card shows the story it is given and nothing else; the word “has” stands on it only where the gate holds
the grant. Readers: the approvers' channels, and the requester's direct messages.
"""

from __future__ import annotations

from dataclasses import replace

from bot import card_buttons as buttons
from bot.markup import (
    Block,
    Blocks,
    actions,
    alert,
    code,
    context,
    date,
    fields,
    plain,
    quotation,
    section,
)
from bot.shown import EVENT_TYPE, Card, Done, Faces, begins_later, count, metadata, pointer, replay
from workflows.glass_review import owes_review
from workflows.model import (
    AccessRequest,
    EndReason,
    Extension,
    ExtensionState,
    Grant,
    GrantState,
    RequestState,
    Story,
)
from workflows.policy import spell
from workflows.quorum import apart_of

__all__ = ["EVENT_TYPE", "Card", "Done", "Faces", "begins_later", "count", "metadata", "pointer"]


def approver_card(story: Story, faces: Faces, group: str, place: str) -> Card:
    """The card in the channel of `group`, and in the direct messages of who was passed over."""
    request, grant = story.request, story.grant
    blocks = _head(story, faces)
    if request.state is RequestState.PENDING:
        blocks.append(section(f"{faces.group(group, ping=True)} decides: {_quorum(request, faces)}"))
        blocks += _short(faces)
        lapse = f"Lapses {date(request.lapses_at)} if nobody decides"
        blocks.append(_foot(story, f"{_looking(request, faces)}{lapse}"))
        blocks.append(actions(f"decide:{request.id}", *buttons.deciding(story)))
        return Card(_fallback(story, faces), blocks, metadata(story, place))
    blocks += _what_was_done(grant, faces) if grant else []
    extension = extension_waiting(story)
    if extension is not None:
        blocks.append(section(_wants_more(extension, story, faces)))
        blocks.append(actions(f"more:{request.id}", *buttons.deciding_more(story, extension)))
    asked = f"Asked {date(request.created_at)}"
    blocks.append(_foot(story, _decided(request, faces) if grant else asked))
    pressed = _approvers_end(story)
    if pressed:
        blocks.append(actions(f"live:{request.id}", *pressed))
    return Card(_fallback(story, faces), blocks, metadata(story, place))


def onlooker_card(story: Story, faces: Faces, group: str, place: str) -> Card:
    """The same for somebody who hears of it and has no say: no buttons."""
    card = approver_card(story, faces, group, place)
    return replace(card, blocks=[block for block in card.blocks if block["type"] != "actions"])


def _approvers_end(story: Story) -> Blocks:
    found = []
    if story.grant is not None and story.grant.state is not GrantState.ENDED:
        found.append(buttons.ending_it(story))
    elif owes_review(story):
        found.append(buttons.reviewing(story))
    return found


def requester_card(story: Story, faces: Faces, place: str) -> Card:
    """The card in the requester's direct messages: the way in, and the way out. Where it is for somebody else
    the place `for` is theirs, with the way in; whoever asked only follows it.
    """
    request, grant = story.request, story.grant
    reader = request.holder if place == FOR else request.requester
    holds = reader == request.holder
    blocks = _head(story, faces, reader)
    if request.state is RequestState.PENDING:
        blocks.append(section(_quorum(request, faces)))
        blocks += _short(faces)
        lapse = f"Lapses {date(request.lapses_at)} if nobody decides"
        blocks.append(_foot(story, f"{_looking(request, faces)}{lapse}"))
        blocks.append(actions(f"mine:{request.id}", *buttons.waiting(story, faces, reader)))
    elif grant is not None and grant.state is GrantState.ACTIVE and holds and not _is_drill(request):
        client = request.terms.client
        blocks.append(section(f"*How to enter*\n```access {client} {plain(request.resource, 100)}```"))
        if (extension := extension_waiting(story)) is not None:
            blocks.append(section(_wants_more(extension, story, faces, own=True)))
        blocks.append(_foot(story, _decided(request, faces)))
        blocks.append(actions(f"mine:{request.id}", *buttons.holding(story, faces)))
    else:
        blocks += _what_was_done(grant, faces) if grant else []
        blocks.append(_foot(story, _decided(request, faces) if grant else "Nothing was opened"))
        over = grant is None or grant.state is GrantState.ENDED
        if over and request.emergency is None and (holds or request.beneficiary):
            blocks.append(actions(f"again:{request.id}", buttons.again(request, reader, faces)))
    return Card(_fallback(story, faces), blocks, metadata(story, place))


def ending_card(story: Story, faces: Faces, place: str) -> Card:
    """What the holder is told shortly before the end, and what came of it since."""
    request, grant = story.request, story.grant
    what = code(request.resource)
    blocks: Blocks
    if grant is None or grant.state is GrantState.ENDED:
        text = f"⚪ Your access to {what} has ended."
        blocks = [section(text)]
        if request.emergency is None:
            blocks.append(actions(f"again:{request.id}", buttons.again(request, request.holder, faces)))
    elif not request.warned:
        text = f"⏱️ Your access to {what} now ends {date(grant.expiry)}."
        blocks = [section(text)]
    else:
        text = f"⏳ *Your access to {what} ends {date(grant.expiry)}*"
        blocks = [section(f"{text}\nThen open sessions are cut, in the middle of what they do.")]
        if (extension := extension_waiting(story)) is not None:
            blocks.append(section(_wants_more(extension, story, faces, own=True)))
        row = [*buttons.more_time(story, faces), buttons.release(story)]
        blocks.append(actions(f"ending:{request.id}", *row))
    blocks.append(_foot(story, f"As {plain(request.role, 60)}"))
    return Card(text, blocks, metadata(story, place))


FOR = "for"
"""The place of the card in the direct messages of whom access was asked for by somebody else."""


def extension_waiting(story: Story) -> Extension | None:
    """The wish for more time that waits, while the grant is live."""
    last = story.request.extensions[-1] if story.request.extensions else None
    live = story.grant is not None and story.grant.state is not GrantState.ENDED
    return last if live and last is not None and last.state is ExtensionState.PENDING else None


# ------------------------------------------------------------------ the lines


def _head(story: Story, faces: Faces, reader: str = "") -> Blocks:
    """What is so, why it came to be so where somebody said why, and what was asked for which reason."""
    request, grant = story.request, story.grant
    line = headline(story, faces, reader)
    first = alert(line, _level(story)) if request.emergency else section(line)
    blocks: Blocks = [{"type": "divider"}, first]
    closing = grant.end_note if grant is not None else request.close_reason
    if closing.strip():
        blocks.append(quotation(closing))
    blocks.append(_what(request, faces))
    if request.owner:
        blocks.append(context(f"🤖 An agent of {faces.person(request.owner)}. Its purpose, as it says:"))
    if request.reason.strip():
        blocks.append(quotation(request.reason))
    if request.emergency is not None:
        blocks.append(section(_about_emergency(story, faces)))
    return blocks


def _level(story: Story) -> str:
    """An emergency is red until it is over, and yellow until it was reviewed."""
    if story.request.emergency is not None and story.request.emergency.drill:
        return "info"
    if story.grant is None or story.grant.state is not GrantState.ENDED:
        return "error"
    return "warning" if owes_review(story) else "default"


def headline(story: Story, faces: Faces, reader: str = "") -> str:
    """The one line that says what is so, to `reader` (a principal), or to those who decide."""
    request, grant = story.request, story.grant
    what = code(request.resource)
    asked = reader == request.requester
    asker = "You" if asked else faces.person(request.requester)
    whom = "you" if reader == request.holder else faces.person(request.holder)
    wanted = f"{what} for {whom}" if request.beneficiary else what
    if request.state is RequestState.PENDING:
        return f"⏳ *{asker} {'ask' if asked else 'asks'} for {wanted}*"
    if grant is None:
        return f"*{closing_line(request, faces)}*\n{asker} asked for {wanted}."
    own = reader == request.holder
    who = "You" if own else faces.person(request.holder)
    if request.emergency and request.emergency.drill:
        return _drill_line(story, faces, who)
    alarm = f"🚨 *Emergency {plain(request.emergency.incident, 60)}* · " if request.emergency else ""
    if grant.state is GrantState.MINTING:
        if begins_later(story):
            return f"📅 *Approved – {what} opens for {'you' if own else who}* {date(grant.not_before)}"
        approved = "Opening" if alarm else "Approved – opening"
        return f"{alarm}🔧 *{approved} the gate to {what}* for {'you' if own else who}…"
    if grant.state is GrantState.ACTIVE:
        return f"{alarm}🟢 *{who} {'have' if own else 'has'} {what}* until {date(grant.expiry)}"
    ended = f"{alarm}*{end_line(grant, faces)}*"
    return f"{ended}\n{who} had {what}." if grant.held_by else ended


def _drill_line(story: Story, faces: Faces, who: str) -> str:
    """A drill never says that anybody has anything."""
    grant, what = story.grant, code(story.request.resource)
    assert grant is not None
    head = "🧪 *DRILL – nothing is open, nobody has to act* · "
    if grant.state is GrantState.ENDED:
        held = (
            "the gate held it and let it fall" if grant.held_by else "⚠️ the gate never said that it held it"
        )
        early = f", ended by {faces.person(grant.ended_by)}" if grant.ended_by else ""
        return f"{head}{who} rehearsed breaking the glass of {what}: {held}{early}"
    return f"{head}{who} {'rehearse' if who == 'You' else 'rehearses'} breaking the glass of {what}"


def _about_drill(story: Story, faces: Faces) -> str:
    emergency = story.request.emergency
    assert emergency is not None
    lines = [f"In earnest it would be taken as {plain(emergency.eligible_by, 200)}."]
    if told := list(dict.fromkeys((*emergency.skipped[:10], *emergency.told))):
        named = ", ".join(faces.person(name) for name in told)
        lines.append(f"Told of it, as in earnest: {named}.")
    lines += [f"• {plain(finding, 300)}" for finding in emergency.findings[:10]]
    lines += [f"⚠️ {plain(concern, 300)}" for concern in emergency.concerns[:5]]
    return "\n".join(lines)


def _about_emergency(story: Story, faces: Faces) -> str:
    """By what right, who was passed over, and what is owed."""
    emergency = story.request.emergency
    assert emergency is not None
    if emergency.drill:
        return _about_drill(story, faces)
    lines = [f"*Nobody approved this.* Taken as {plain(emergency.eligible_by, 200)}."]
    if emergency.skipped:
        named = ", ".join(faces.person(name) for name in emergency.skipped[:10])
        more = f" and {len(emergency.skipped) - 10} more" if len(emergency.skipped) > 10 else ""
        lines.append(f"Passed over: {named}{more}.")
    if emergency.told:
        lines.append(f"Told besides: {', '.join(faces.person(name) for name in emergency.told[:10])}.")
    lines += [f"⚠️ {plain(concern, 300)}" for concern in emergency.concerns[:5]]
    if emergency.verdict is not None:
        by = faces.person(emergency.reviewed_by)
        note = f" – {plain(emergency.review_note)}" if emergency.review_note else ""
        lines.append(f"📋 Found *{emergency.verdict}* by {by}{note}")
    elif owes_review(story):
        who = faces.groups_of(emergency.reviewers)
        lines.append(f"📋 A review by {who} is owed {date(emergency.review_due)}.")
    return "\n".join(lines)


def closing_line(request: AccessRequest, faces: Faces) -> str:
    """How a request that led to nothing ended."""
    by = faces.person(request.closed_by) if request.closed_by else ""
    lines = {
        RequestState.DENIED: f"⛔ Denied by {by}",
        RequestState.CANCELLED: f"↩️ {_taken_back(request)} by {by}",
        RequestState.LAPSED: "⌛ Lapsed: nobody decided in time",
    }
    return lines.get(request.state, "")


def _is_drill(request: AccessRequest) -> bool:
    return request.emergency is not None and request.emergency.drill


def _taken_back(request: AccessRequest) -> str:
    return "Refused" if request.closed_by == request.beneficiary else "Taken back"


def end_line(grant: Grant, faces: Faces) -> str:
    """How a grant ended."""
    by = faces.person(grant.ended_by) if grant.ended_by else ""
    when = date(grant.ended_at, ago=False) if grant.ended_at else ""
    lines = {
        EndReason.EXPIRED: f"⚪ Ended: time was up {when}",
        EndReason.RELEASED: f"⚪ Given back by {by} {when}",
        EndReason.REVOKED: f"🛑 Revoked by {by} {when}",
        EndReason.FAILED: "⚠️ Failed: the gate could not be opened; nobody got in",
    }
    return lines[grant.end_reason] if grant.end_reason else ""


def _what(request: AccessRequest, faces: Faces) -> Block:
    waits = ", from the approval on" if request.state is RequestState.PENDING else ""
    title = f"{plain(faces.resource, 100)} ({code(request.resource)})" if faces.resource else ""
    if request.state is RequestState.PENDING and request.starts_at is not None:
        waits = f", from {date(request.starts_at)}"
    return fields(
        ("Access", f"{title or code(request.resource)} as {code(request.role)}"),
        ("How long", f"{spell(request.duration)}{waits}"),
    )


def _quorum(request: AccessRequest, faces: Faces) -> str:
    """ "1 of 2 Database approvers said yes — @grace ✅": what is there and what is still missing."""
    lacking = {quorum.group: quorum.needed for quorum in faces.missing}
    seats = [
        f"{q.needed - lacking.get(q.group, 0)} of {q.needed} {faces.groups_of((q.group, *q.also))}"
        for q in request.quorum
    ]
    yes = [faces.person(approval.approver) for approval in request.approvals if approval.yes]
    said = f" — {', '.join(yes)} ✅" if yes else ""
    how = ", each with a passkey" if request.step_up else ""
    how += f", nobody of the same {plain(shared, 120)}" if (shared := apart_of(request.quorum)) else ""
    return f"{' and '.join(seats)} said yes{how}{said}"


def _short(faces: Faces) -> Blocks:
    """Where a seat cannot be filled by anybody, that is said: nothing is granted by waiting."""
    names = ", ".join(faces.group(quorum.group) for quorum in faces.short)
    if not names:
        return []
    return [section(f"⚠️ Too few people of {names} can decide this. The administrators are told.")]


def _looking(request: AccessRequest, faces: Faces) -> str:
    if not request.claimed_by or request.claimed_at is None:
        return ""
    return f"👀 {faces.person(request.claimed_by)} is looking, since {date(request.claimed_at)} · "


def _wants_more(extension: Extension, story: Story, faces: Faces, *, own: bool = False) -> str:
    who = "You ask" if own else f"{faces.person(story.request.holder)} asks"
    yes = [faces.person(approval.approver) for approval in extension.approvals if approval.yes]
    said = f" — {', '.join(yes)} ✅" if yes else ""
    why = f"\n>{plain(extension.reason)}" if extension.reason.strip() else ""
    return f"⏱️ *{who} for {spell(extension.span)} more*; it waits for a decision{said}{why}"


def _decided(request: AccessRequest, faces: Faces) -> str:
    yes = [faces.person(approval.approver) for approval in request.approvals if approval.yes]
    if request.emergency is not None:
        return f"Taken {date(request.emergency.at)}"
    return f"Approved by {' and '.join(yes)}" if yes else "No approval was needed"


def _what_was_done(grant: Grant, faces: Faces) -> Blocks:
    over = grant.state is GrantState.ENDED and grant.held_by and grant.terms.max_sessions
    return [section(_done(faces.done, faces.public_url))] if over and faces.done is not None else []


def _done(done: Done, public_url: str) -> str:
    if not done.sessions:
        return "It was not used."
    parts = [count(done.sessions, "session"), count(done.statements, "statement"), count(done.rows, "row")]
    if done.refused:
        parts.append(f"{done.refused} refused")
    waiting = " (still counting)" if done.open else ""
    shown = "".join(f"\n▶️ {replay(session, public_url)}" for session in done.ids[:3])
    return f"What was done: {', '.join(parts)}{waiting}.{shown}"


def _foot(story: Story, line: str) -> Block:
    rule = f" · rule {plain(story.request.rule, 80)}" if story.request.rule else ""
    return context(f"{line} · {story.request.id}{rule}")


def _fallback(story: Story, faces: Faces) -> str:
    """The same in one plain sentence; notifications show this."""
    request, grant = story.request, story.grant
    who, what = faces.name(request.requester), plain(request.resource, 100)
    whom = f" for {faces.name(request.beneficiary)}" if request.beneficiary else ""
    if request.state is RequestState.PENDING:
        reason = plain(request.reason, 140)
        role = plain(request.role, 60)
        return f"{who} asks{whom} for {what} as {role} for {spell(request.duration)}: {reason}"
    if grant is None:
        return f"{request.id}: {request.state.value} – {who} asked{whom} for {what}"
    who = faces.name(request.holder)
    if _is_drill(request):
        return f"🧪 DRILL {request.id}: {who} rehearses breaking the glass of {what}; nothing is open"
    alarm = "🚨 EMERGENCY " if request.emergency else ""
    if grant.state is GrantState.MINTING:
        if begins_later(story):
            return f"{request.id}: approved, {what} opens for {who} later"
        how = "" if request.emergency else "approved, "
        return f"{alarm}{request.id}: {how}opening the gate to {what} for {who}"
    if grant.state is GrantState.ACTIVE:
        return f"{alarm}{request.id}: {who} has {what} as {plain(request.role, 60)}"
    end = grant.end_reason.value if grant.end_reason else "ended"
    return f"{alarm}{request.id}: {end} – {who} no longer has {what}"
