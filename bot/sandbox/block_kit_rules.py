"""The limits of Block Kit, as tables. Source: docs.slack.dev/reference/block-kit, slack_sdk.models 3.47."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .block_kit import (
    Check,
    Report,
    Shape,
    all_of,
    anything,
    boolean,
    choice,
    integer,
    items,
    objects,
    one_of,
    pattern,
    string,
    text,
    typed,
    unique,
)
from .block_kit_rich import CELL, COLUMN, ID, RICH_TEXT, URL

MESSAGE_BLOCKS = 50
VIEW_BLOCKS = 100
MESSAGE_CHARACTERS = 13_200  # the sum over all blocks; undocumented, slackapi/bolt-js issue 2509
MESSAGE_TEXT = 40_000

_DATE = pattern(re.compile(r"\d{4}-\d\d-\d\d").fullmatch, "a date as YYYY-MM-DD")
_TIME = pattern(re.compile(r"([01]\d|2[0-3]):[0-5]\d").fullmatch, "a time as HH:mm")

CONFIRM = Shape(
    {"title": text(100, plain_only=True), "text": text(300)},
    {
        "confirm": text(30, plain_only=True),
        "deny": text(30, plain_only=True),
        "style": choice("primary", "danger"),
    },
)
_DISPATCH = Shape({}, {"trigger_actions_on": items(choice("on_enter_pressed", "on_character_entered"), 1, 2)})


def _option(label: Check, value_maximum: int, *, url: bool = False) -> Shape:
    optional: dict[str, Check] = {"description": text(75)}
    if url:
        optional["url"] = URL
    return Shape({"text": label, "value": string(value_maximum)}, optional)


_OPTION = _option(text(75, plain_only=True), 150)
_RICH_OPTION = _option(text(75), 150)
_OVERFLOW_OPTION = _option(text(75, plain_only=True), 150, url=True)
_OPTIONS = all_of(
    items(_OPTION, 1, 100), unique("value", lambda value: value if isinstance(value, list) else [])
)
_GROUPS = items(Shape({"label": text(75, plain_only=True), "options": items(_OPTION, 1, 100)}), 1, 100)


def _interactive(
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    also: Check | None = None,
    *,
    confirm: bool = True,
    placeholder: bool = True,
    focus: bool = True,
) -> Shape:
    common: dict[str, Check] = {"action_id": ID}
    if confirm:
        common["confirm"] = CONFIRM
    if placeholder:
        common["placeholder"] = text(150, plain_only=True)
    if focus:
        common["focus_on_load"] = boolean
    return Shape(required or {}, common | dict(optional or {}), also)


def _input(required: Mapping[str, Check] | None = None, **optional: Check) -> Shape:
    return _interactive(required, {"dispatch_action_config": _DISPATCH, **optional}, confirm=False)


def _initial_among_options(value: Any, at: str, report: Report) -> None:
    on_offer = objects(value.get("options"))
    for group in objects(value.get("option_groups")):
        on_offer += objects(group.get("options"))
    chosen = objects([value.get("initial_option")]) + objects(value.get("initial_options"))
    known = [option.get("value") for option in on_offer]
    if any(option.get("value") not in known for option in chosen):
        report.error("the initial option must be one of the options", at)


_BUTTON = _interactive(
    {"text": text(75, plain_only=True)},
    {
        "url": URL,
        "value": string(2000),
        "style": choice("primary", "danger"),
        "accessibility_label": string(75),
        "visible_to_user_ids": items(string(255), 1, 100),
    },
    placeholder=False,
    focus=False,
)
_STATIC = _interactive(
    {},
    {"options": _OPTIONS, "option_groups": _GROUPS, "initial_option": _OPTION},
    all_of(one_of("options", "option_groups"), _initial_among_options),
)
_STATIC_MULTI = _interactive(
    {},
    {
        "options": _OPTIONS,
        "option_groups": _GROUPS,
        "initial_options": items(_OPTION, 1, 100),
        "max_selected_items": integer(1, 100),
    },
    all_of(one_of("options", "option_groups"), _initial_among_options),
)
_CONVERSATION_FILTER = Shape(
    {},
    {
        "include": items(choice("im", "mpim", "private", "public"), 1, 4),
        "exclude_external_shared_channels": boolean,
        "exclude_bot_users": boolean,
    },
)

ELEMENTS: dict[str, Check] = {
    "button": _BUTTON,
    "static_select": _STATIC,
    "multi_static_select": _STATIC_MULTI,
    "external_select": _interactive({}, {"initial_option": _OPTION, "min_query_length": integer(0, 255)}),
    "multi_external_select": _interactive(
        {},
        {
            "initial_options": items(_OPTION, 1, 100),
            "min_query_length": integer(0, 255),
            "max_selected_items": integer(1, 100),
        },
    ),
    "users_select": _interactive({}, {"initial_user": ID}),
    "multi_users_select": _interactive(
        {}, {"initial_users": items(ID, 1, 100), "max_selected_items": integer(1, 100)}
    ),
    "conversations_select": _interactive(
        {},
        {
            "initial_conversation": ID,
            "default_to_current_conversation": boolean,
            "response_url_enabled": boolean,
            "filter": _CONVERSATION_FILTER,
        },
    ),
    "channels_select": _interactive({}, {"initial_channel": ID, "response_url_enabled": boolean}),
    "overflow": _interactive({"options": items(_OVERFLOW_OPTION, 1, 5)}, placeholder=False, focus=False),
    "radio_buttons": _interactive(
        {"options": items(_RICH_OPTION, 1, 10)},
        {"initial_option": _RICH_OPTION},
        _initial_among_options,
        placeholder=False,
    ),
    "checkboxes": _interactive(
        {"options": items(_RICH_OPTION, 1, 10)},
        {"initial_options": items(_RICH_OPTION, 1, 10)},
        _initial_among_options,
        placeholder=False,
    ),
    "datepicker": _interactive({}, {"initial_date": _DATE}),
    "timepicker": _interactive({}, {"initial_time": _TIME, "timezone": string(64)}),
    "datetimepicker": _interactive({}, {"initial_date_time": integer(0, 9_999_999_999)}, placeholder=False),
    "plain_text_input": _input(
        initial_value=string(3000),
        multiline=boolean,
        min_length=integer(0, 3000),
        max_length=integer(1, 3000),
    ),
    "email_text_input": _input(initial_value=string(3000)),
    "url_text_input": _input(initial_value=string(3000)),
    "number_input": _input(
        {"is_decimal_allowed": boolean},
        initial_value=string(64),
        min_value=string(64),
        max_value=string(64),
    ),
}
_IMAGE_ELEMENT = Shape({"alt_text": string(2000)}, {"image_url": URL, "slack_file": anything})


def _elements(*names: str) -> dict[str, Check]:
    return {name: ELEMENTS[name] for name in names}


_SELECTS = (
    "static_select",
    "external_select",
    "users_select",
    "conversations_select",
    "channels_select",
)
_PICKERS = ("datepicker", "timepicker", "radio_buttons", "checkboxes")
_MULTI = ("multi_static_select", "multi_external_select", "multi_users_select")
_TEXT_INPUTS = ("plain_text_input", "email_text_input", "url_text_input", "number_input")

_ACTION_ELEMENT = typed(_elements("button", "overflow", "datetimepicker", *_SELECTS, *_PICKERS), "element")
_ACCESSORY = typed(
    _elements("button", "overflow", *_SELECTS, *_MULTI, *_PICKERS) | {"image": _IMAGE_ELEMENT}, "element"
)
_INPUT_ELEMENT = typed(_elements("datetimepicker", *_TEXT_INPUTS, *_SELECTS, *_MULTI, *_PICKERS), "element")
_CONTEXT_ELEMENT = typed({"mrkdwn": text(3000), "plain_text": text(3000), "image": _IMAGE_ELEMENT}, "element")


def _input_dispatch(value: Any, at: str, report: Report) -> None:
    element = value.get("element")
    if isinstance(element, Mapping) and element.get("type") == "button":
        report.error("a button is not an input element", f"{at}/element")


def _parts(key: str) -> Check:
    return unique("action_id", lambda block: objects(block.get(key)))


BLOCKS: dict[str, Check] = {
    "header": Shape({"text": text(150, plain_only=True)}, {"block_id": ID}),
    "divider": Shape({}, {"block_id": ID}),
    "section": Shape(
        {},
        {
            "text": text(3000),
            "fields": items(text(2000), 1, 10),
            "accessory": _ACCESSORY,
            "expand": boolean,
            "block_id": ID,
        },
        one_of("text", "fields"),
    ),
    "context": Shape({"elements": items(_CONTEXT_ELEMENT, 1, 10)}, {"block_id": ID}),
    "actions": Shape({"elements": items(_ACTION_ELEMENT, 1, 25)}, {"block_id": ID}, _parts("elements")),
    "input": Shape(
        {"label": text(2000, plain_only=True), "element": _INPUT_ELEMENT},
        {
            "hint": text(2000, plain_only=True),
            "optional": boolean,
            "dispatch_action": boolean,
            "block_id": ID,
        },
        _input_dispatch,
    ),
    "image": Shape(
        {"alt_text": string(2000)},
        {"image_url": URL, "slack_file": anything, "title": text(2000, plain_only=True), "block_id": ID},
        one_of("image_url", "slack_file"),
    ),
    "rich_text": RICH_TEXT,
    "markdown": Shape({"text": string(12_000)}, {"block_id": ID}),
    "table": Shape(
        {"rows": items(items(CELL, 1, 20), 1, 100)},
        {"column_settings": items(COLUMN, 0, 20), "block_id": ID},
    ),
    "alert": Shape(
        {"text": text(3000)},
        {"level": choice("default", "info", "warning", "error", "success"), "block_id": ID},
    ),
}
_NOT_IN_VIEWS = {"markdown", "table"}


def _check_blocks(blocks: Any, at: str, report: Report, allowed: Mapping[str, Check], maximum: int) -> None:
    items(typed(allowed, "block"), 0, maximum)(blocks, at, report)
    if isinstance(blocks, str) or not isinstance(blocks, Sequence):
        return
    for index, block in enumerate(blocks):
        block_id = block.get("block_id") if isinstance(block, Mapping) else None
        if not isinstance(block_id, str):
            continue
        if block_id in report.block_ids:
            report.error(f"`block_id` already exists: {block_id}", f"{at}/{index}/block_id")
        report.block_ids.add(block_id)


def _characters(node: Any) -> int:
    if isinstance(node, str):
        return len(node)
    if isinstance(node, Mapping):
        return sum(
            _characters(item) for key, item in node.items() if key in _COUNTED or not isinstance(item, str)
        )
    if isinstance(node, Sequence):
        return sum(_characters(item) for item in node)
    return 0


_COUNTED = {"text", "alt_text", "value", "url"}


def check_message(blocks: Any) -> list[str]:
    """What is wrong with the blocks of a message; empty where nothing is."""
    report = Report()
    _check_blocks(blocks, "/blocks", report, BLOCKS, MESSAGE_BLOCKS)
    if not report.errors and sum(block["type"] == "table" for block in blocks) > 1:
        report.error("only one table is allowed in a message", "/blocks")
    return report.errors


def too_many_characters(blocks: Any) -> bool:
    return _characters(blocks) > MESSAGE_CHARACTERS


_VIEW_COMMON: dict[str, Check] = {
    "private_metadata": string(3000, 0),
    "callback_id": string(255, 0),
    "external_id": string(255, 0),
    "blocks": anything,
}
_TITLE = text(24, plain_only=True)
_MODAL = Shape(
    {"title": _TITLE, "blocks": anything},
    _VIEW_COMMON
    | {
        "submit": _TITLE,
        "close": _TITLE,
        "clear_on_close": boolean,
        "notify_on_close": boolean,
        "submit_disabled": boolean,
    },
)
_HOME = Shape({"blocks": anything}, _VIEW_COMMON)


def check_view(view: Any, kind: str) -> list[str]:
    """What is wrong with a view of type `modal` or `home`; empty where nothing is."""
    report = Report()
    if not isinstance(view, Mapping) or view.get("type") != kind:
        report.error(f"must be a view of type {kind}", "/view/type")
        return report.errors
    (_MODAL if kind == "modal" else _HOME)(view, "/view", report)
    allowed = {name: rule for name, rule in BLOCKS.items() if name not in _NOT_IN_VIEWS}
    blocks = view.get("blocks")
    _check_blocks(blocks, "/view/blocks", report, allowed, VIEW_BLOCKS)
    has_input = isinstance(blocks, list) and any(
        isinstance(block, Mapping) and block.get("type") == "input" for block in blocks
    )
    if kind == "modal" and has_input and "submit" not in view:
        report.error("missing required field: submit (the view has input blocks)", "/view")
    return report.errors


def check_options(answer: Any) -> list[str]:
    """What is wrong with the options an app answers to a block_suggestion."""
    report = Report()
    Shape(
        {}, {"options": items(_OPTION, 0, 100), "option_groups": _GROUPS}, one_of("options", "option_groups")
    )(answer, "", report)
    return report.errors
