"""The forms for submitted statements: what to run, and how many rows a yes is good for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.forms import Filled, View, field_block, modal, notice, option, reason_input, text_input
from bot.markup import Block, Blocks, context, section
from workflows.lines import Offer
from workflows.run_lines import Run

RUN, BUDGET = "run_statement", "review_budget"
MAX_TEXT = 3000
"""Slack's own bound for a text field; longer ones come by the command line."""


def run_form(offers: Sequence[Offer], draft: Run, channel: str) -> View:
    """The form for one statement, with `draft` filled in."""
    places = [(offer.name, role.name) for offer in offers for role in offer.roles][:100]
    if not places:
        return notice("Run a statement", "No rule opens anything to you. Ask whoever keeps the policy.")
    chosen = next((p for p in places if p[0] == draft.resource and draft.role in ("", p[1])), places[0])
    where: Block = {
        "type": "static_select",
        "action_id": "run_where",
        "options": [_place(*place) for place in places],
        "initial_option": _place(*chosen),
    }
    text = text_input("run_text", draft.text, MAX_TEXT, "UPDATE orders SET … WHERE id = 7", lines=True)
    blocks: Blocks = [
        field_block("run_where", "Where, and as what", where),
        field_block("run_text", "Statement", text),
        reason_input(draft.reason, False),
        context("Exactly this runs, once, when those who must have agreed. Masked columns stay masked."),
    ]
    return modal(RUN, "Run a statement", blocks, submit="Submit") | {"private_metadata": channel}


def read_run_form(filled: Filled) -> Run:
    """What was filled in; the statement as it was typed."""
    resource, _, role = filled["run_where"].partition(" ")
    return Run(resource, role, filled["run_text"], " ".join(filled["reason"].split()))


def budget_form(pointer: str, channel: str, what: str, estimate: int | None) -> View:
    """A yes for at most so many rows."""
    element: Block = {
        "type": "number_input",
        "action_id": "budget",
        "is_decimal_allowed": False,
        "min_value": "0",
        "max_value": "1000000000000",
    }
    if estimate is not None:
        element["initial_value"] = str(estimate)
    blocks: Blocks = [
        section(what),
        field_block("budget", "At most so many rows", element),
        context("If it affects more, everything it did is rolled back."),
    ]
    view = modal(BUDGET, "Approve with a bound", blocks, submit="Approve")
    return view | {"private_metadata": f"{pointer} {channel}"}


def _place(resource: str, role: str) -> Block:
    return option(f"{resource} · {role}", f"{resource} {role}")
