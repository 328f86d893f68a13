"""The buttons of cards. Pure. A button says what happens; whether it may is decided when it is pressed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from bot.markup import Block, Blocks, button
from bot.shown import Faces, pointer
from workflows.lines import Request, Target, TargetKind
from workflows.model import AccessRequest, Extension, Story
from workflows.policy import spell

SHORT, LONG = timedelta(minutes=15), timedelta(hours=1)
"""How much more time the buttons offer."""


def deciding(story: Story) -> Blocks:
    """What approvers can do with a request that waits."""
    value = pointer(story)
    return [
        button("approve", "Approve", value, style="primary"),
        button("less", "Approve for less…", value),
        button("deny", "Deny…", value, style="danger"),
        button("ask", "Ask…", value),
        button("claim", "I'm looking", value),
    ]


def deciding_more(story: Story, extension: Extension) -> Blocks:
    """What they can do with a wish for more time."""
    value = pointer(story)
    return [
        button("extension_approve", f"Allow {spell(extension.span)} more", value, style="primary"),
        button("extension_deny", "No more time…", value),
    ]


def ending_it(story: Story) -> Block:
    """An approver's way to end what is open: of an emergency at one press."""
    if story.request.emergency is None:
        return button("revoke", "Revoke…", pointer(story), style="danger")
    question = ("Kill it?", "The gate drops at once and open sessions are cut.", "Kill it now")
    if story.request.emergency.drill:
        question = ("End the drill?", "As in earnest: the gate drops what it holds.", "End it")
        return button("kill", "Kill it (drill)", pointer(story), confirm=question)
    return button("kill", "Kill it now", pointer(story), style="danger", confirm=question)


def reviewing(story: Story) -> Block:
    return button("review", "Review…", pointer(story), style="primary")


def waiting(story: Story, faces: Faces, reader: str) -> Blocks:
    """What the requester can do while nobody has decided; and whom it is for, who may refuse it."""
    value = pointer(story)
    # Of an emergency whoever holds the access answers, so it is theirs to take.
    breaks = faces.may_break and reader == story.request.holder
    urgent = [button("emergency", "Turn into an emergency…", value, style="danger")] if breaks else []
    if reader != story.request.requester:
        refusing = ("Refuse it?", "The request ends and nobody can approve it.", "Refuse it")
        return [
            button("answer", "Add a comment…", value),
            button("cancel", "I do not want it", value, confirm=refusing),
            *urgent,
        ]
    question = ("Take it back?", "The request ends and nobody can approve it.", "Take it back")
    return [
        button("nudge", "Nudge", value),
        button("answer", "Answer…" if _asked(story) else "Add a comment…", value),
        button("cancel", "Cancel request", value, confirm=question),
        *urgent,
    ]


def holding(story: Story, faces: Faces) -> Blocks:
    """What the holder can do: come in, stay longer, leave."""
    assert story.grant is not None
    found: Blocks = []
    if faces.public_url:
        url = f"{faces.public_url.rstrip('/')}/enter/{story.grant.id}"
        found.append(button("enter", "Show a one-time login", url=url, style="primary"))
    return [*found, *more_time(story, faces), release(story)]


def more_time(story: Story, faces: Faces) -> Blocks:
    """More time, as far as the rule leaves room for it."""
    short, long = (f"{pointer(story)}:{int(span.total_seconds())}" for span in (SHORT, LONG))
    found: Blocks = []
    if faces.room >= SHORT:
        found.append(button("extend_short", f"+{spell(SHORT)}", short))
    if faces.room >= LONG:
        found.append(button("extend_long", f"+{spell(LONG)}", long))
    return found


def release(story: Story) -> Block:
    question = ("Done?", "The gate drops at once and open sessions are cut.", "Release")
    return button("release", "Release", pointer(story), confirm=question)


def again(request: AccessRequest, reader: str, faces: Faces) -> Block:
    """The same once more, for whom it was: for the reader, or for somebody else."""
    whom = request.holder if reader != request.holder else ""
    user = faces.slack.get(whom)
    target = Target(TargetKind.SLACK_USER, user) if user else Target(TargetKind.PERSON, whom)
    asked = Request(request.resource, request.role, request.duration, " ".join(request.reason.split()))
    line = replace(asked, beneficiary=target if whom else None).line()
    return button("mended", "Ask again", line[:2000])


def _asked(story: Story) -> bool:
    """Whether the last word in the comments is another's."""
    comments = story.request.comments
    return bool(comments) and comments[-1].by not in story.request.parties
