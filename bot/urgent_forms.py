"""The modals for emergencies, for approving less, and for questions: built, and read back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from bot.forms import Filled, View, field_block, modal, option, reason_input, span_option, text_input
from bot.markup import Block, Blocks, alert, code, context, plain, section, words
from bot.shown import pointer
from workflows.model import Story, Verdict
from workflows.policy import Emergency, spell
from workflows.words import TICKET

BREAK, REVIEW, LESS, COMMENT = "break_glass", "review_glass", "approve_less", "comment"
_SPANS = [timedelta(minutes=m) for m in (5, 10, 15, 30, 60, 120, 240, 480, 1440, 4320, 10080)]
_MOST_OPTIONS = 100


@dataclass(frozen=True, slots=True)
class Glass:
    """What stands, or is to stand, in the form for an emergency. `request` is the request it is made of."""

    resource: str = ""
    incident: str = ""
    reason: str = ""
    span: timedelta | None = None
    request: str = ""


def glass_form(rules: Sequence[tuple[str, Emergency]], draft: Glass, channel: str, trouble: str = "") -> View:
    """The last thing between somebody and the glass. `rules` are the resources they may, with the rule for
    each; `trouble` is why a typed line was not enough.
    """
    chosen = next(((name, rule) for name, rule in rules if name == draft.resource), None)
    one = chosen or (rules[0] if len(rules) == 1 else None)
    blocks: Blocks = [
        alert("🚨 *Access at once, without approval.* Everybody who would decide is told.", "error")
    ]
    blocks += [section(f"🤔 {plain(trouble, 500)}")] if trouble else []
    blocks.append(_resource(rules, one, bool(draft.request and chosen)))
    if one is not None:
        blocks += _bounds(*one, draft.span)
    blocks.append(_incident(draft.incident))
    least = one[1].shortest_reason if one else 1
    blocks.append(reason_input(draft.reason, True, label="What is broken", hint="checkout is down"))
    if one is not None and one[1].type_name:
        blocks.append(_typed_name(one[0]))
    blocks.append(context(f"The reason has {least} characters or more. It is read in the review."))
    view = modal(BREAK, "Break the glass", blocks, submit="Break the glass")
    return view | {"private_metadata": f"{draft.request or '-'} {channel}"}


def read_glass(filled: Filled, request: str) -> Glass:
    """What was filled in."""
    span = filled["glass_span"]
    return Glass(
        filled["glass_resource"],
        filled["incident"].strip(),
        " ".join(filled["reason"].split()),
        timedelta(seconds=int(span)) if span.isdigit() else None,
        request,
    )


def ticket_in(reason: str) -> str:
    """The first ticket that a text names; empty where it names none."""
    return next((word.upper() for word in reason.split() if TICKET.fullmatch(word)), "")


def _resource(
    rules: Sequence[tuple[str, Emergency]], one: tuple[str, Emergency] | None, fixed: bool
) -> Block:
    names = [one[0]] if fixed and one else [name for name, _ in rules]
    element: Block = {
        "type": "static_select",
        "action_id": "glass_resource",
        "placeholder": words("Choose"),
        "options": [option(name, name) for name in names[:_MOST_OPTIONS]],
    }
    if one is not None:
        element["initial_option"] = option(one[0], one[0])
    return field_block("glass_resource", "Of what", element, dispatch=True)


def _bounds(name: str, rule: Emergency, wanted: timedelta | None) -> Blocks:
    """How long, and what goes with it."""
    spans = sorted({span for span in _SPANS if span <= rule.longest} | {rule.longest})
    usual = wanted if wanted in spans else rule.longest
    element = {
        "type": "static_select",
        "action_id": "glass_span",
        "options": [span_option(span) for span in spans],
        "initial_option": span_option(usual),
    }
    reviewers = " or ".join(code(group) for group in rule.reviewers)
    about = f"As {code(rule.role)} · reviewed by {reviewers} within {spell(rule.review_within)}"
    return [
        field_block(f"glass_span:{name}"[:255], "How long", element),
        context(f"{about} · rule {plain(rule.name, 80)}"),
    ]


def _incident(incident: str) -> Block:
    return field_block("incident", "Incident", text_input("incident", incident, 60, "INC-142"))


def _typed_name(name: str) -> Block:
    return field_block(f"name:{name}"[:255], f"Type {name} to go on"[:2000], text_input("name", "", 200))


# ------------------------------------------------------------------ the others


def review_form(story: Story, channel: str, what: str, facts: Sequence[str]) -> View:
    """After an emergency: what there is to know, and whether it was one."""
    choices = [option("Justified", "justified"), option("Not justified", "not justified")]
    element = {"type": "radio_buttons", "action_id": "verdict", "options": choices}
    blocks: Blocks = [
        section("\n".join([what, *facts])),
        field_block("verdict", "Was it an emergency?", element),
        reason_input("", False, label="Note", hint="Wanted where it was not justified"),
    ]
    view = modal(REVIEW, "Review the emergency", blocks, submit="Conclude")
    return view | {"private_metadata": f"{pointer(story)} {channel}"}


def read_verdict(filled: Filled) -> Verdict | None:
    return next((verdict for verdict in Verdict if verdict.value == filled["verdict"]), None)


def less_form(story: Story, roles: Sequence[str], channel: str, what: str) -> View:
    """Say yes to less: a shorter time, a narrower role of `roles`, or both; never to more."""
    request = story.request
    spans = [span for span in _SPANS if span < request.duration]
    times = [*(span_option(span) for span in spans), span_option(request.duration)]
    shorter = times[-2] if spans else times[-1]
    kinds = [option(f"{request.role} (as asked)", request.role), *(option(name, name) for name in roles)]
    blocks: Blocks = [
        section(what),
        _select("less_span", "How long", times[-_MOST_OPTIONS:], shorter),
        _select("less_role", "As", kinds[:_MOST_OPTIONS], kinds[0]),
        reason_input("", False),
    ]
    view = modal(LESS, "Approve for less", blocks, submit="Approve")
    return view | {"private_metadata": f"{pointer(story)} {channel}"}


def comment_form(story: Story, channel: str, what: str, *, question: bool) -> View:
    """A question to the requester, or the requester's answer; both are kept with the request."""
    lines = [f">{plain(comment.text)}" for comment in story.request.comments[-3:]]
    title = "Ask a question" if question else "Answer"
    blocks: Blocks = [
        section("\n".join([what, *lines])),
        reason_input("", True, label="Question" if question else "Answer", hint="Kept with the request"),
    ]
    view = modal(COMMENT, title, blocks, submit="Send")
    return view | {"private_metadata": f"{pointer(story)} {channel}"}


def _select(action: str, label: str, options: Sequence[Block], initial: Block) -> Block:
    element = {
        "type": "static_select",
        "action_id": action,
        "options": list(options),
        "initial_option": initial,
    }
    return field_block(action, label, element)
