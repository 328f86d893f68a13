"""The thread of a story: one line for each thing that happened, in order, derived from the state. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bot.cards import closing_line, end_line
from bot.markup import date, plain
from bot.shown import Faces, Sitting, because, count
from workflows.model import Extension, ExtensionState, RequestState, Story
from workflows.policy import spell


@dataclass(frozen=True, slots=True)
class Note:
    """One line in the thread for one transition. `key` names the transition within its story. `owner` tells
    that the requester's own thread shows it too; `by` is who wrote it, where it is a comment.
    """

    key: str
    text: str
    owner: bool = False
    by: str = ""


def notes(story: Story, faces: Faces) -> list[Note]:
    """What the thread must hold for a story that is where it is now, in order."""
    return [
        *_emergency(story, faces),
        *_waiting(story, faces),
        *_decision(story, faces),
        *_open(story, faces),
        *_sittings(story, faces),
        *_end(story, faces),
    ]


def _emergency(story: Story, faces: Faces) -> list[Note]:
    request, emergency = story.request, story.request.emergency
    if emergency is None:
        return []
    who, incident = faces.person(request.holder), plain(emergency.incident, 60)
    if emergency.drill:
        people = count(len(emergency.skipped), "person", "people")
        return [Note("broken", f"🧪 A drill by {who}. {people} who would decide were told. Nothing is open.")]
    told = f"🚨 {who} took access in emergency {incident}, {plain(emergency.eligible_by, 200)}."
    concerns = "".join(f"\n⚠️ {plain(concern, 300)}" for concern in emergency.concerns)
    skipped = count(len(emergency.skipped), "approver")
    return [Note("broken", f"{told}{concerns}\n{skipped} did not decide this and were told.")]


def _waiting(story: Story, faces: Faces) -> list[Note]:
    request = story.request
    found = [
        Note(f"c{index}", f"💬 {faces.person(comment.by)}: {plain(comment.text)}", True, comment.by)
        for index, comment in enumerate(request.comments)
    ]
    if request.claimed_at is not None and request.claimed_by:
        key = f"look{int(request.claimed_at.timestamp())}"
        found.append(Note(key, f"👀 {faces.person(request.claimed_by)} is looking at it.", True))
    return found


def _decision(story: Story, faces: Faces) -> list[Note]:
    request = story.request
    found = [
        Note(f"yes{index}", f"✅ {faces.person(approval.approver)} said yes.{because(approval.reason)}")
        for index, approval in enumerate(request.approvals)
        if approval.yes
    ]
    if request.state is RequestState.DENIED:
        found.append(Note("denied", f"{closing_line(request, faces)}{because(request.close_reason)}", True))
    elif request.state in (RequestState.CANCELLED, RequestState.LAPSED):
        lapsed = request.state is RequestState.LAPSED
        found.append(Note(request.state.value, closing_line(request, faces), lapsed))
    return found


def _open(story: Story, faces: Faces) -> list[Note]:
    request, grant = story.request, story.grant
    found = []
    if grant is not None and grant.held_by and _is_drill(story):
        found.append(Note("active", "🧪 The gate holds the drill's grant, and lets nobody in.", True))
    elif grant is not None and grant.held_by:
        text = f"🟢 The gate is open for {faces.person(request.holder)}."
        found.append(Note("active", text, True))
    for index, extension in enumerate(request.extensions):
        found += _extension(index, extension, story, faces)
    return found


def _extension(index: int, extension: Extension, story: Story, faces: Faces) -> list[Note]:
    who, span = faces.person(story.request.holder), spell(extension.span)
    found = [Note(f"x{index}", f"⏱️ {who} wants {span} more.{because(extension.reason)}")]
    for nth, approval in enumerate(extension.approvals):
        word = "✅ %s said yes to more time." if approval.yes else "⛔ %s said no to more time."
        text = f"{word % faces.person(approval.approver)}{because(approval.reason)}"
        found.append(Note(f"x{index}.{nth}", text, not approval.yes))
    if extension.state is ExtensionState.GRANTED:
        freely = "" if extension.approvals else ", as the rule gives without asking"
        found.append(Note(f"x{index}.on", f"⏱️ {span} more{freely}.", True))
    return found


def _sittings(story: Story, faces: Faces) -> list[Note]:
    """In an emergency every session is told as it opens and closes."""
    found = []
    for sitting in faces.sittings if story.request.emergency else ():
        name = sitting.id[-10:]
        opened = f"🔌 Session {plain(sitting.id, 40)} ({plain(sitting.protocol, 20)}) opened"
        found.append(Note(f"s{name}", f"{opened} {date(sitting.opened_at, ago=False)}; it is recorded."))
        if sitting.closed_at is not None:
            found.append(Note(f"e{name}", _closed(sitting, faces)))
    return found


def _closed(sitting: Sitting, faces: Faces) -> str:
    did = f"{count(sitting.statements, 'statement')}, {count(sitting.rows, 'row')}"
    refused = f", {sitting.refused} refused" if sitting.refused else ""
    how = f"killed by {faces.person(sitting.killed_by)}" if sitting.killed_by else plain(sitting.how, 40)
    return f"🔌 Session {plain(sitting.id, 40)} closed ({how}): {did}{refused}."


def _is_drill(story: Story) -> bool:
    return story.request.emergency is not None and story.request.emergency.drill


def _end(story: Story, faces: Faces) -> list[Note]:
    request, grant, emergency = story.request, story.grant, story.request.emergency
    found = []
    if grant is not None and grant.end_reason is not None:
        if _is_drill(story):
            held = "held it" if grant.held_by else "never said that it held it"
            return [Note("ended", f"🧪 The drill is over: the gate {held}. It is in the trail.", True)]
        told = bool(request.beneficiary) or grant.ended_by != request.requester
        found.append(Note("ended", f"{end_line(grant, faces)}{because(grant.end_note)}", told))
    if emergency and emergency.verdict is not None:
        by = faces.person(emergency.reviewed_by)
        said = f"📋 {by} found it {emergency.verdict}.{because(emergency.review_note)}"
        found.append(Note("reviewed", said, True))
    return found
