"""The rules of rich text and tables. Source: docs.slack.dev/reference/block-kit/blocks/rich-text-block."""

from __future__ import annotations

import re

from .block_kit import Shape, all_of, anything, boolean, choice, integer, items, pattern, string, typed

ID = string(255)
URL = all_of(string(3000), pattern(re.compile(r"[a-z][a-z0-9+.-]*:\S+", re.I).fullmatch, "a URL"))

_STYLE = Shape({}, dict.fromkeys(("bold", "italic", "strike", "code", "underline", "highlight"), boolean))
_RICH_PART = typed(
    {
        "text": Shape({"text": string(12_000)}, {"style": _STYLE}),
        "link": Shape({"url": URL}, {"text": string(3000), "style": _STYLE, "unsafe": boolean}),
        "user": Shape({"user_id": ID}, {"style": _STYLE}),
        "usergroup": Shape({"usergroup_id": ID}, {"style": _STYLE}),
        "channel": Shape({"channel_id": ID}, {"style": _STYLE}),
        "broadcast": Shape({"range": choice("here", "channel", "everyone")}, {"style": _STYLE}),
        "emoji": Shape({"name": string(100)}, {"unicode": string(64), "style": _STYLE}),
        "date": Shape(
            {"timestamp": integer(0, 9_999_999_999), "format": string(255)},
            {"fallback": string(255), "url": URL, "style": _STYLE},
        ),
        "color": Shape({"value": string(32)}),
    },
    "rich text",
)
_RICH_SECTION = Shape({"elements": items(_RICH_PART, 0, 1000)})
_RICH_ELEMENT = typed(
    {
        "rich_text_section": _RICH_SECTION,
        "rich_text_list": Shape(
            {
                "elements": items(typed({"rich_text_section": _RICH_SECTION}, "list item"), 1, 1000),
                "style": choice("bullet", "ordered"),
            },
            {"indent": integer(0, 8), "offset": integer(0, 1000), "border": integer(0, 1)},
        ),
        "rich_text_preformatted": Shape(
            {"elements": items(_RICH_PART, 0, 1000)}, {"border": integer(0, 1), "language": string(64)}
        ),
        "rich_text_quote": Shape({"elements": items(_RICH_PART, 0, 1000)}, {"border": integer(0, 1)}),
    },
    "rich text element",
)
RICH_TEXT = Shape({"elements": items(_RICH_ELEMENT, 0, 100)}, {"block_id": ID})
CELL = typed(
    {
        "raw_text": Shape({"text": string(3000, 0)}),
        "raw_number": Shape({"value": anything}, {"text": string(255)}),
        "rich_text": RICH_TEXT,
    },
    "table cell",
)
COLUMN = Shape({}, {"align": choice("left", "center", "right"), "is_wrapped": boolean})
