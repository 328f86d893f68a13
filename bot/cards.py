"""What a story looks like in Slack: a story and some names in, blocks and fall-back text out. Pure.

A card shows the story it is given and nothing else; the word “has” stands on it only where the gate holds
the grant. Two readers: the approvers' channel, and the requester's direct messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bot.markup import Block, Blocks, actions, button, code, context, date, fields, plain, quotation, section
from workflows.lines import Request
from workflows.model import (
    AccessRequest,
    EndReason,
    Grant,
    GrantState,
    Group,
    Quorum,
    RequestState,
    Story,
)
from workflows.policy import spell

EVENT_TYPE = "portcullis_card"


@dataclass(frozen=True, slots=True)
class Done:
    """What was done under a grant. `open` sessions are still being counted."""

    sessions: int = 0
    open: int = 0
    statements: int = 0
    rows: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Faces:
    """How the people, groups and resources of one story are shown; everything by its id in the story.

    `missing` is what the quorum lacks at this moment. `public_url` is the broker's address for people.
    """

    slack: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    resource: str = ""
    missing: tuple[Quorum, ...] = ()
    done: Done | None = None
    public_url: str = ""

    def person(self, principal: str) -> str:
        """A mention where the person is known in Slack, else the name."""
        user = self.slack.get(principal)
        return f"<@{user}>" if user else plain(self.names.get(principal, principal), 80)

    def name(self, principal: str) -> str:
        return plain(self.names.get(principal, principal), 80)

    def group(self, name: str, *, ping: bool = False) -> str:
        group = self.groups.get(name, Group(name))
        if ping and group.mention:
            return f"<!subteam^{group.mention}>"
        return plain(group.title or name, 80)


@dataclass(frozen=True, slots=True)
class Card:
    """A message: `text` is for notifications and screen readers, `metadata` for finding it again."""

    text: str
    blocks: Blocks
    metadata: dict[str, object]


def approver_card(story: Story, faces: Faces, group: str, place: str) -> Card:
    """The card in the channel of `group`."""
    request, grant = story.request, story.grant
    blocks = _head(story, faces)
    if request.state is RequestState.PENDING:
        blocks.append(section(f"{faces.group(group, ping=True)} decides: {_quorum(request, faces)}"))
        lapse = f"Lapses {date(request.lapses_at)} if nobody decides"
        blocks += [_foot(story, lapse), actions(f"decide:{request.id}", *_decide_buttons(story))]
    elif grant is not None:
        blocks += _what_was_done(grant, faces)
        blocks.append(_foot(story, _decided(request, faces)))
        if grant.state is not GrantState.ENDED:
            revoke = button("revoke", "Revoke…", pointer(story), style="danger")
            blocks.append(actions(f"live:{request.id}", revoke))
    else:
        blocks.append(_foot(story, f"Asked {date(request.created_at)}"))
    return Card(_fallback(story, faces), blocks, metadata(story, place))


def requester_card(story: Story, faces: Faces, place: str) -> Card:
    """The card in the requester's direct messages: the way in, and the way out."""
    request, grant = story.request, story.grant
    blocks = _head(story, faces, own=True)
    if request.state is RequestState.PENDING:
        blocks.append(section(_quorum(request, faces)))
        blocks.append(_foot(story, f"Lapses {date(request.lapses_at)} if nobody decides"))
        blocks.append(actions(f"mine:{request.id}", _cancel_button(story)))
    elif grant is not None and grant.state is GrantState.ACTIVE:
        blocks.append(section(f"*How to enter*\n```access psql {plain(request.resource, 100)}```"))
        blocks.append(_foot(story, _decided(request, faces)))
        blocks.append(actions(f"mine:{request.id}", *_holder_buttons(story, faces)))
    else:
        blocks += _what_was_done(grant, faces) if grant else []
        blocks.append(_foot(story, _decided(request, faces) if grant else "Nothing was opened"))
        if not (grant and grant.state is GrantState.MINTING):
            blocks.append(actions(f"again:{request.id}", _again_button(request)))
    return Card(_fallback(story, faces), blocks, metadata(story, place))


@dataclass(frozen=True, slots=True)
class Note:
    """One line in the thread for one transition. `key` names the transition within its story."""

    key: str
    text: str


def notes(story: Story, faces: Faces) -> list[Note]:
    """What the thread must hold for a story that is where it is now, in order."""
    request, grant = story.request, story.grant
    found = [
        Note(f"yes{index}", f"✅ {faces.person(approval.approver)} said yes.{_because(approval.reason)}")
        for index, approval in enumerate(request.approvals)
        if approval.yes
    ]
    if request.state is RequestState.DENIED:
        found.append(Note("denied", f"{_closing_line(request, faces)}{_because(request.close_reason)}"))
    elif request.state in (RequestState.CANCELLED, RequestState.LAPSED):
        found.append(Note(request.state.value, _closing_line(request, faces)))
    if emergency := request.emergency:
        told = (
            f"🚨 {faces.person(request.requester)} took access in emergency {plain(emergency.incident, 60)}"
        )
        concerns = "".join(f"\n⚠️ {plain(concern, 300)}" for concern in emergency.concerns)
        found.append(Note("broken", f"{told}, {plain(emergency.eligible_by, 200)}.{concerns}"))
    if grant is not None and grant.held_by:
        found.append(Note("active", f"🟢 The gate is open for {faces.person(request.requester)}."))
    if grant is not None and grant.state is GrantState.ENDED:
        found.append(Note("ended", f"{_end_line(grant, faces)}{_because(grant.end_note)}"))
    if emergency and emergency.verdict is not None:
        by = faces.person(emergency.reviewed_by)
        found.append(
            Note("reviewed", f"📋 {by} found it {emergency.verdict}.{_because(emergency.review_note)}")
        )
    return found


def pointer(story: Story) -> str:
    """What a button carries: which request, and which version of it the presser saw. Nothing else."""
    return f"{story.request.id}:{story.version}"


def metadata(story: Story, place: str) -> dict[str, object]:
    payload = {"request": story.request.id, "place": place, "version": story.version}
    return {"event_type": EVENT_TYPE, "event_payload": payload}


# ------------------------------------------------------------------ the lines


def _head(story: Story, faces: Faces, *, own: bool = False) -> Blocks:
    """What is so, why it came to be so where somebody said why, and what was asked for which reason."""
    request, grant = story.request, story.grant
    blocks: Blocks = [{"type": "divider"}, section(_headline(story, faces, own=own))]
    closing = grant.end_note if grant is not None else request.close_reason
    if closing.strip():
        blocks.append(quotation(closing))
    blocks.append(_what(request, faces))
    if request.reason.strip():
        blocks.append(quotation(request.reason))
    return blocks


def _headline(story: Story, faces: Faces, *, own: bool = False) -> str:
    request, grant = story.request, story.grant
    who = "You" if own else faces.person(request.requester)
    what = code(request.resource)
    if request.state is RequestState.PENDING:
        return f"⏳ *{who} {'ask' if own else 'asks'} for {what}*"
    if grant is None:
        return f"*{_closing_line(request, faces)}*\n{who} asked for {what}."
    alarm = f"🚨 *Emergency {plain(request.emergency.incident, 60)}* · " if request.emergency else ""
    if grant.state is GrantState.MINTING:
        if begins_later(story):
            return f"📅 *Approved – {what} opens for {'you' if own else who}* {date(grant.not_before)}"
        approved = "Opening" if alarm else "Approved – opening"
        return f"{alarm}🔧 *{approved} the gate to {what}* for {'you' if own else who}…"
    if grant.state is GrantState.ACTIVE:
        return f"{alarm}🟢 *{who} {'have' if own else 'has'} {what}* until {date(grant.expiry)}"
    return (
        f"*{_end_line(grant, faces)}*\n{who} had {what}." if grant.held_by else f"*{_end_line(grant, faces)}*"
    )


def _closing_line(request: AccessRequest, faces: Faces) -> str:
    by = faces.person(request.closed_by) if request.closed_by else ""
    lines = {
        RequestState.DENIED: f"⛔ Denied by {by}",
        RequestState.CANCELLED: f"↩️ Taken back by {by}",
        RequestState.LAPSED: "⌛ Lapsed: nobody decided in time",
    }
    return lines.get(request.state, "")


def _end_line(grant: Grant, faces: Faces) -> str:
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
    return fields(
        ("Access", f"{title or code(request.resource)} as {code(request.role)}"),
        ("How long", f"{spell(request.duration)}{waits}"),
    )


def _quorum(request: AccessRequest, faces: Faces) -> str:
    """ "1 of 2 Database approvers said yes — @grace ✅": what is there and what is still missing."""
    lacking = {quorum.group: quorum.needed for quorum in faces.missing}
    seats = [
        f"{q.needed - lacking.get(q.group, 0)} of {q.needed} {faces.group(q.group)}" for q in request.quorum
    ]
    yes = [faces.person(approval.approver) for approval in request.approvals if approval.yes]
    said = f" — {', '.join(yes)} ✅" if yes else ""
    return f"{' and '.join(seats)} said yes{said}"


def _decided(request: AccessRequest, faces: Faces) -> str:
    yes = [faces.person(approval.approver) for approval in request.approvals if approval.yes]
    if emergency := request.emergency:
        if emergency.verdict is not None:
            return f"Found {emergency.verdict} by {faces.person(emergency.reviewed_by)}"
        return f"Nobody approved this; a review is owed by {date(emergency.review_due)}"
    return f"Approved by {' and '.join(yes)}" if yes else "No approval was needed"


def _what_was_done(grant: Grant, faces: Faces) -> Blocks:
    over = grant.state is GrantState.ENDED and grant.held_by
    return [section(_done(faces.done))] if over and faces.done is not None else []


def _done(done: Done) -> str:
    if not done.sessions:
        return "It was not used."
    parts = [_count(done.sessions, "session"), _count(done.statements, "statement"), _count(done.rows, "row")]
    if done.refused:
        parts.append(f"{done.refused} refused")
    waiting = " (still counting)" if done.open else ""
    return f"What was done: {', '.join(parts)}{waiting}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _because(reason: str) -> str:
    return f"\n>{plain(reason)}" if reason.strip() else ""


def _foot(story: Story, line: str) -> Block:
    rule = f" · rule {plain(story.request.rule, 80)}" if story.request.rule else ""
    return context(f"{line} · {story.request.id}{rule}")


def begins_later(story: Story) -> bool:
    """Whether the grant was made for a later beginning; its login is made only then."""
    grant, approved_at = story.grant, story.request.closed_at
    return grant is not None and approved_at is not None and grant.not_before > approved_at


def _fallback(story: Story, faces: Faces) -> str:
    """The same in one plain sentence; notifications show this."""
    request, grant = story.request, story.grant
    who, what = faces.name(request.requester), plain(request.resource, 100)
    if request.state is RequestState.PENDING:
        reason = plain(request.reason, 140)
        return f"{who} asks for {what} as {plain(request.role, 60)} for {spell(request.duration)}: {reason}"
    if grant is None:
        return f"{request.id}: {request.state.value} – {who} asked for {what}"
    if grant.state is GrantState.MINTING:
        if begins_later(story):
            return f"{request.id}: approved, {what} opens for {who} later"
        how = "EMERGENCY" if request.emergency else "approved"
        return f"{request.id}: {how}, opening the gate to {what} for {who}"
    if grant.state is GrantState.ACTIVE:
        return f"{request.id}: {who} has {what} as {plain(request.role, 60)}"
    end = grant.end_reason.value if grant.end_reason else "ended"
    return f"{request.id}: {end} – {who} no longer has {what}"


# ---------------------------------------------------------------- the buttons


def _decide_buttons(story: Story) -> list[Block]:
    return [
        button("approve", "Approve", pointer(story), style="primary"),
        button("deny", "Deny…", pointer(story), style="danger"),
    ]


def _cancel_button(story: Story) -> Block:
    question = ("Take it back?", "The request ends and nobody can approve it.", "Take it back")
    return button("cancel", "Cancel request", pointer(story), confirm=question)


def _holder_buttons(story: Story, faces: Faces) -> list[Block]:
    assert story.grant is not None
    question = ("Done?", "The gate drops at once and open sessions are cut.", "Release")
    found = [button("release", "Release", pointer(story), confirm=question)]
    if faces.public_url:
        url = f"{faces.public_url.rstrip('/')}/enter/{story.grant.id}"
        found.insert(0, button("enter", "Show a one-time login", url=url, style="primary"))
    return found


def _again_button(request: AccessRequest) -> Block:
    line = Request(request.resource, request.role, request.duration, " ".join(request.reason.split())).line()
    return button("mended", "Ask again", line[:2000])
