"""Input elements and their values: from what a person chose to Slack's `state.values`, and back.

A "choice" here is plain: text for inputs and single selects (the option's value), a list for several,
an ISO date, HH:mm, a user or channel id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .errors import NotPossible
from .state import Json

_SINGLE = {
    "plain_text_input": ("value", "initial_value"),
    "email_text_input": ("value", "initial_value"),
    "url_text_input": ("value", "initial_value"),
    "number_input": ("value", "initial_value"),
    "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
    "datetimepicker": ("selected_date_time", "initial_date_time"),
    "users_select": ("selected_user", "initial_user"),
    "multi_users_select": ("selected_users", "initial_users"),
    "conversations_select": ("selected_conversation", "initial_conversation"),
    "channels_select": ("selected_channel", "initial_channel"),
    "static_select": ("selected_option", "initial_option"),
    "external_select": ("selected_option", "initial_option"),
    "radio_buttons": ("selected_option", "initial_option"),
    "checkboxes": ("selected_options", "initial_options"),
    "multi_static_select": ("selected_options", "initial_options"),
    "multi_external_select": ("selected_options", "initial_options"),
}


def elements(blocks: Sequence[Json]) -> Iterator[tuple[Json, Json]]:
    """Every (block, interactive element) of a surface, in order."""
    for block in blocks:
        if block["type"] == "input":
            yield block, block["element"]
        elif block["type"] == "actions":
            for element in block["elements"]:
                yield block, element
        elif block["type"] == "section" and block.get("accessory", {}).get("type", "image") != "image":
            yield block, block["accessory"]


def is_stateful(element: Json) -> bool:
    return element["type"] in _SINGLE


def values_of(blocks: Sequence[Json], inputs: Json) -> Json:
    """`state.values`: what was put in (`inputs`, by "block_id/action_id"), else the initial values."""
    values: Json = {}
    for block, element in elements(blocks):
        if not is_stateful(element):
            continue
        field, initial = _SINGLE[element["type"]]
        put_in = inputs.get(f"{block['block_id']}/{element['action_id']}")
        empty: Any = [] if field.endswith("s") else None
        value = put_in if put_in is not None else {field: element.get(initial, empty)}
        values.setdefault(block["block_id"], {})[element["action_id"]] = {"type": element["type"], **value}
    return values


def options_of(element: Json) -> list[Json]:
    grouped = [option for group in element.get("option_groups") or [] for option in group["options"]]
    return [*(element.get("options") or []), *grouped]


def chosen(element: Json, choice: Any, known: Sequence[Json] = ()) -> Json:
    """The state of an element after a person's choice. `known` are options that came from the app's search.

    Raises NotPossible for an option that is not on offer or a text that the input would not take.
    """
    kind = element["type"]
    if kind not in _SINGLE:
        raise NotPossible(f"an element of type {kind} holds no value")
    field = _SINGLE[kind][0]
    if field == "selected_option":
        return {field: None if choice in (None, "") else _option(element, choice, known)}
    if field == "selected_options":
        return {field: [_option(element, one, known) for one in choice or []]}
    if field == "value":
        return {field: _typed(element, choice)}
    return {field: choice}


def _option(element: Json, choice: Any, known: Sequence[Json]) -> Json:
    if isinstance(choice, dict):
        choice = choice.get("value")
    on_offer = [*options_of(element), *known]
    for option in on_offer:
        if choice in (option["value"], option["text"]["text"]):
            return option
    raise NotPossible(f"{choice!r} is not on offer; there are {[option['value'] for option in on_offer]}")


def _typed(element: Json, choice: Any) -> str | None:
    text = None if choice in (None, "") else str(choice)
    longest = element.get("max_length", 3000)
    if text is not None and len(text) > longest:
        raise NotPossible(f"the input takes at most {longest} characters")
    return text


def is_empty(value: Json) -> bool:
    return not any(item for key, item in value.items() if key != "type")


def required_and_empty(blocks: Sequence[Json], values: Json) -> list[str]:
    """Block ids of the inputs that a person must still fill in before the client lets the view go."""
    missing = []
    for block, element in elements(blocks):
        if block["type"] == "input" and not block.get("optional"):
            value = values.get(block["block_id"], {}).get(element["action_id"], {})
            if is_empty(value):
                missing.append(block["block_id"])
    return missing


def too_short(blocks: Sequence[Json], values: Json) -> list[str]:
    short = []
    for block, element in elements(blocks):
        value = values.get(block["block_id"], {}).get(element["action_id"], {}).get("value")
        if value and len(value) < element.get("min_length", 0):
            short.append(block["block_id"])
    return short
