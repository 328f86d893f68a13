"""The Block Kit validator: Slack's limits, each at its edge, and what slack_sdk's own models do not check."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models import blocks as sdk

from bot.sandbox.block_kit_rules import check_message, check_options, check_view

Block = dict[str, Any]


def plain(text: str) -> Block:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text}


def button(**more: Any) -> Block:
    return {"type": "button", "text": plain("Go"), "action_id": "go", **more}


def actions(*elements: Block) -> Block:
    return {"type": "actions", "elements": list(elements)}


def options(count: int, **more: Any) -> list[Block]:
    return [{"text": plain(str(n)), "value": str(n), **more} for n in range(count)]


def select(count: int) -> Block:
    return {"type": "static_select", "action_id": "s", "options": options(count)}


def table(rows: int) -> Block:
    return {"type": "table", "rows": [[{"type": "raw_text", "text": "x"}]] * rows}


FITS_AND_BREAKS = {
    "50 blocks": ([{"type": "divider"}] * 50, [{"type": "divider"}] * 51),
    "section text 3000": (
        [{"type": "section", "text": mrkdwn("x" * 3000)}],
        [{"type": "section", "text": mrkdwn("x" * 3001)}],
    ),
    "field 2000": (
        [{"type": "section", "fields": [mrkdwn("x" * 2000)]}],
        [{"type": "section", "fields": [mrkdwn("x" * 2001)]}],
    ),
    "10 fields": (
        [{"type": "section", "fields": [mrkdwn("x")] * 10}],
        [{"type": "section", "fields": [mrkdwn("x")] * 11}],
    ),
    "header 150": (
        [{"type": "header", "text": plain("x" * 150)}],
        [{"type": "header", "text": plain("x" * 151)}],
    ),
    "header is plain": ([{"type": "header", "text": plain("x")}], [{"type": "header", "text": mrkdwn("x")}]),
    "button text 75": ([actions(button(text=plain("x" * 75)))], [actions(button(text=plain("x" * 76)))]),
    "button value 2000": ([actions(button(value="x" * 2000))], [actions(button(value="x" * 2001))]),
    "button style": ([actions(button(style="danger"))], [actions(button(style="loud"))]),
    "action_id 255": ([actions(button(action_id="x" * 255))], [actions(button(action_id="x" * 256))]),
    "25 elements": (
        [actions(*(button(action_id=str(n)) for n in range(25)))],
        [actions(*(button(action_id=str(n)) for n in range(26)))],
    ),
    "unique action_ids": (
        [actions(button(), button(action_id="other"))],
        [actions(button(), button())],
    ),
    "unique block_ids": (
        [{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "b"}],
        [{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}],
    ),
    "100 options": ([actions(select(100))], [actions(select(101))]),
    "context 10": (
        [{"type": "context", "elements": [mrkdwn("x")] * 10}],
        [{"type": "context", "elements": [mrkdwn("x")] * 11}],
    ),
    "empty text": ([{"type": "section", "text": mrkdwn("x")}], [{"type": "section", "text": mrkdwn("")}]),
    "section needs words": ([{"type": "section", "text": mrkdwn("x")}], [{"type": "section"}]),
    "known keys": ([{"type": "divider"}], [{"type": "divider", "colour": "red"}]),
    "one table": ([table(2)], [table(2), table(2)]),
    "100 rows": ([table(100)], [table(101)]),
    "alert level": (
        [{"type": "alert", "text": mrkdwn("x"), "level": "warning"}],
        [{"type": "alert", "text": mrkdwn("x"), "level": "panic"}],
    ),
    "confirm title 100": (
        [actions(button(confirm={"title": plain("x" * 100), "text": mrkdwn("x")}))],
        [actions(button(confirm={"title": plain("x" * 101), "text": mrkdwn("x")}))],
    ),
    "date": (
        [actions({"type": "datepicker", "action_id": "d", "initial_date": "2026-11-24"})],
        [actions({"type": "datepicker", "action_id": "d", "initial_date": "24.11.2026"})],
    ),
    "initial option is an option": (
        [actions({**select(3), "initial_option": options(1)[0]})],
        [actions({**select(3), "initial_option": {"text": plain("x"), "value": "x"}})],
    ),
    "visible_to_user_ids": (
        [actions(button(visible_to_user_ids=["U1"]))],
        [actions(button(visible_to_user_ids=[]))],
    ),
    "inputs are no actions": (
        [actions(select(1))],
        [actions({"type": "plain_text_input", "action_id": "t"})],
    ),
}


@pytest.mark.parametrize("name", FITS_AND_BREAKS)
def test_each_limit_holds_at_its_edge(name):
    fits, breaks = FITS_AND_BREAKS[name]
    assert check_message(fits) == []
    assert check_message(breaks) != []


def a_modal(**more: Any) -> Block:
    return {"type": "modal", "title": plain("Title"), "blocks": [{"type": "divider"}], **more}


A_INPUT = {
    "type": "input",
    "label": plain("Why"),
    "element": {"type": "plain_text_input", "action_id": "why"},
}


@pytest.mark.parametrize(
    "view",
    [
        a_modal(title=plain("x" * 25)),
        a_modal(submit=plain("x" * 25)),
        a_modal(private_metadata="x" * 3001),
        a_modal(callback_id="x" * 256),
        a_modal(blocks=[{"type": "divider"}] * 101),
        a_modal(blocks=[A_INPUT]),
        a_modal(blocks=[table(2)]),
        a_modal(type="home"),
    ],
    ids=["title", "submit", "metadata", "callback", "blocks", "input without submit", "table", "type"],
)
def test_a_modal_over_a_limit_is_refused(view):
    assert check_view(view, "modal") != []


def test_a_modal_within_the_limits_is_taken():
    view = a_modal(title=plain("x" * 24), submit=plain("Ask"), blocks=[A_INPUT] + [{"type": "divider"}] * 99)
    assert check_view(view, "modal") == []


def test_a_home_tab_takes_inputs_without_a_submit_button():
    assert check_view({"type": "home", "blocks": [A_INPUT]}, "home") == []


def test_a_complaint_points_at_the_very_place():
    problems = check_message([{"type": "divider"}, actions(button(text=plain("x" * 76)))])
    assert problems == [
        "[ERROR] must be less than 76 characters [json-pointer:/blocks/1/elements/0/text/text]"
    ]


def test_too_many_options_of_a_suggestion_are_refused():
    assert check_options({"options": options(100)}) == []
    assert check_options({"options": options(101)}) != []


def test_what_slack_sdk_builds_is_taken():
    built = [
        sdk.HeaderBlock(text="Request"),
        sdk.SectionBlock(
            text=sdk.MarkdownTextObject(text="*hi*"),
            accessory=sdk.ButtonElement(text="Go", action_id="go", value="1", style="primary"),
        ),
        sdk.DividerBlock(),
        sdk.ContextBlock(elements=[sdk.MarkdownTextObject(text="rule")]),
        sdk.ActionsBlock(
            elements=[
                sdk.DatePickerElement(action_id="d", initial_date="2026-11-24"),
                sdk.OverflowMenuElement(action_id="o", options=[sdk.Option(text="a", value="a")]),
            ]
        ),
        sdk.AlertBlock(text=sdk.MarkdownTextObject(text="careful"), level="warning"),
        sdk.RichTextBlock(
            elements=[sdk.RichTextSectionElement(elements=[sdk.RichTextElementParts.Text(text="x")])]
        ),
    ]
    assert check_message([block.to_dict() for block in built]) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "text", "elements", "element", "accessory", "rows", "options", "value"])
            | st.text(max_size=6),
            inner
            | st.sampled_from(["section", "actions", "input", "table", "button", "rich_text", "mrkdwn"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_no_json_at_all_breaks_the_validator(value):
    assert isinstance(check_message(value), list)
    assert isinstance(check_view(value, "modal"), list)
    assert isinstance(check_options(value), list)
