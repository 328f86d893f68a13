"""The modals: built from what somebody may ask for, and read back. Pure.

A block's id changes when its choices do, so that Slack does not keep a choice that is gone; the reason's
never does, so that what was typed is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bot.markup import MAX_REASON, Block, Blocks, context, section, words
from workflows.lines import Offer, Request, RoleOffer, Target, TargetKind
from workflows.policy import spell
from workflows.words import TICKET

ASK, DENY, REVOKE, NOTICE = "ask", "deny", "revoke", "notice"
DENY_STATEMENT, DENY_EXTENSION = "deny_statement", "deny_extension"
_MOST_OPTIONS = 100
_SPANS = [timedelta(minutes=m) for m in (15, 30, 60, 120, 240, 480, 1440, 4320, 10080)]

_MOST_SPANS = 5

_EXAMPLE = "INC-142 checkout is slow"

View = dict[str, Any]


def loading(title: str = "Request access") -> View:
    return modal(NOTICE, title, [section("⏳ Loading…")])


def notice(title: str, text: str) -> View:
    return modal(NOTICE, title, [section(text)])


def ask_form(
    offers: Sequence[Offer],
    draft: Request,
    titles: Mapping[str, str],
    preview: str,
    *,
    for_others: bool = False,
) -> View:
    """The form for a request with `draft` filled in. `titles` are what resources are called; `for_others`
    asks whom it is for.
    """
    if not offers:
        return notice("Request access", "No rule opens anything to you. Ask whoever keeps the policy.")
    offer = next((o for o in offers if o.name == draft.resource), None)
    blocks: Blocks = [_resource_input(offer, titles)]
    required = True
    if offer is not None:
        role = offer.role(draft.role) or offer.roles[0]
        required = role.reason_required
        blocks += [_role_input(offer, role), *_span_inputs(offer, role, draft.duration)]
    if for_others:
        blocks.append(_whom_input(draft.beneficiary))
    ticket, why = apart_from_ticket(draft.reason)
    blocks += [_ticket_input(ticket), reason_input(why, required, hint="checkout is slow")]
    if preview:
        blocks.append(context(preview))
    return modal(ASK, "Request access", blocks, submit="Ask")


_REASON_FORMS = {
    DENY: ("Deny the request", "Deny"),
    REVOKE: ("Revoke the access", "Revoke"),
    DENY_STATEMENT: ("Deny the statement", "Deny"),
    DENY_EXTENSION: ("No more time", "Say no"),
}


def reason_form(callback: str, pointer: str, channel: str, what: str) -> View:
    """Ask why: `callback` (of _REASON_FORMS) says for what; `pointer` names the request or the review."""
    title, submit = _REASON_FORMS[callback]
    blocks = [section(what), reason_input("", callback != REVOKE)]
    view = modal(callback, title, blocks, submit=submit)
    return view | {"private_metadata": f"{pointer} {channel}"}


def options(
    offers: Sequence[Offer], titles: Mapping[str, str], typed: str, recent: Sequence[str] = ()
) -> list[Block]:
    """What the search of resources offers for what was typed; those in `recent` first."""
    key = typed.casefold().strip()
    found = [o for o in offers if any(key in text.casefold() for text in (_label(o, titles), *o.aliases))]
    first = {name: place for place, name in reversed(list(enumerate(recent)))}
    found.sort(key=lambda offer: first.get(offer.name, len(recent)))
    return [_resource_option(offer, titles) for offer in found[:_MOST_OPTIONS]]


@dataclass(frozen=True, slots=True)
class Filled:
    """What stands in a form: the text of each field, and the id of the block it stands in."""

    values: Mapping[str, str]
    blocks: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    def block(self, *names: str) -> str:
        """The block to show an error at: the first of these fields that the form has."""
        return next((self.blocks[name] for name in names if name in self.blocks), "reason")


def read(view: Mapping[str, Any]) -> Filled:
    """The fields of a view as they were when it was submitted or changed."""
    values, blocks = {}, {}
    for block_id, fields in ((view.get("state") or {}).get("values") or {}).items():
        for action_id, field in fields.items():
            option = field.get("selected_option") or {}
            chosen = field.get("value") or option.get("value") or field.get("selected_user")
            values[action_id] = str(chosen or "")
            blocks[action_id] = block_id
    return Filled(values, blocks)


def apart_from_ticket(reason: str) -> tuple[str, str]:
    """The ticket at the beginning of a reason, and the rest; without a rest all of it is the reason."""
    head, _, tail = reason.strip().partition(" ")
    return (head, tail.strip()) if tail.strip() and TICKET.fullmatch(head) else ("", reason)


def draft_of(filled: Filled) -> Request:
    """What a form that is still being filled in asks for so far."""
    span = filled["span"]
    return Request(
        filled["resource"],
        filled["role"],
        timedelta(seconds=int(span)) if span.isdigit() else None,
        f"{filled['ticket'].strip()} {filled['reason']}".strip(),
        beneficiary=Target(TargetKind.SLACK_USER, filled["whom"]) if filled["whom"] else None,
    )


# ------------------------------------------------------------------ the fields


def _resource_input(chosen: Offer | None, titles: Mapping[str, str]) -> Block:
    element: Block = {
        "type": "external_select",
        "action_id": "resource",
        "placeholder": words("Search"),
        "min_query_length": 0,
    }
    if chosen is not None:
        element["initial_option"] = _resource_option(chosen, titles)
    return field_block("resource", "What", element, dispatch=True)


def _resource_option(offer: Offer, titles: Mapping[str, str]) -> Block:
    return option(_label(offer, titles), offer.name)


def _label(offer: Offer, titles: Mapping[str, str]) -> str:
    title = titles.get(offer.name, "")
    return f"{title} ({offer.name})" if title else offer.name


def _role_input(offer: Offer, role: RoleOffer) -> Block:
    element = {
        "type": "static_select",
        "action_id": "role",
        "options": [option(r.name, r.name) for r in offer.roles[:_MOST_OPTIONS]],
        "initial_option": option(role.name, role.name),
    }
    return field_block(f"role:{offer.name}"[:255], "As", element, dispatch=True)


def _ticket_input(ticket: str) -> Block:
    return field_block("ticket", "Ticket", text_input("ticket", ticket, 20, "INC-142"), optional=True)


def _whom_input(chosen: Target | None) -> Block:
    element: Block = {
        "type": "users_select",
        "action_id": "whom",
        "placeholder": words("Myself"),
    }
    if chosen is not None and chosen.kind is TargetKind.SLACK_USER:
        element["initial_user"] = chosen.value
    return field_block("whom", "For somebody else", element, optional=True, dispatch=True)


def _span_inputs(offer: Offer, role: RoleOffer, wanted: timedelta | None) -> Blocks:
    """Usual spans, each at one press, and a line to type any other into."""
    listed = wanted if wanted is not None and timedelta(minutes=1) <= wanted <= role.longest else role.usual
    spans = list(dict.fromkeys([listed, role.usual, role.longest]))
    spans += [span for span in _SPANS if span <= role.longest and span not in spans]
    element = {
        "type": "radio_buttons",
        "action_id": "span",
        "options": [span_option(span) for span in sorted(spans[:_MOST_SPANS])],
        "initial_option": span_option(listed),
    }
    typed = text_input("typed", "", 40, "45m, until 18:00, 2h from tomorrow 9:00")
    return [
        field_block(f"span:{offer.name}:{role.name}"[:255], "How long", element),
        field_block("typed", "Or type how long, and from when", typed, optional=True),
    ]


def reason_input(reason: str, required: bool, *, label: str = "Why", hint: str = _EXAMPLE) -> Block:
    """The field for a reason, a note or a question; its action id is always `reason`."""
    element = text_input("reason", reason, MAX_REASON, hint, lines=True)
    return field_block("reason", label, element, optional=not required)


def text_input(action_id: str, value: str, most: int, hint: str = "", *, lines: bool = False) -> Block:
    """What text is typed into, of at most `most` characters; `lines` where it may have several lines."""
    element: Block = {"type": "plain_text_input", "action_id": action_id, "max_length": most}
    if lines:
        element["multiline"] = True
    if hint:
        element["placeholder"] = words(hint)
    if value:
        element["initial_value"] = value[:most]
    return element


def span_option(span: timedelta) -> Block:
    """A choice of a span; its value is whole seconds."""
    return option(spell(span), str(int(span.total_seconds())))


def option(text: str, value: str) -> Block:
    """A choice in a select or of radio buttons."""
    return {"text": words(text[:75]), "value": value[:150]}


def field_block(
    block_id: str, label: str, element: Block, *, optional: bool = False, dispatch: bool = False
) -> Block:
    """An input with a label."""
    block = {
        "type": "input",
        "block_id": block_id,
        "label": words(label),
        "element": element,
        "optional": optional,
    }
    return block | ({"dispatch_action": True} if dispatch else {})


def modal(callback: str, title: str, blocks: Blocks, submit: str = "") -> View:
    """A modal; `callback` names what its submission does."""
    view = {
        "type": "modal",
        "callback_id": callback,
        "title": words(title),
        "close": words("Close"),
        "blocks": blocks,
    }
    return view | ({"submit": words(submit)} if submit else {})
