"""Slack's mark-up: text of people made harmless, dates in the reader's own zone, and small blocks.

Source: docs.slack.dev/messaging/formatting-message-text and docs.slack.dev/reference/block-kit.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from workflows.policy import spell

Block = dict[str, Any]
Blocks = list[Block]

_DECEIVING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What reorders text for its reader, overwrites it or breaks its line."""

MAX_REASON = 500
MAX_TEXT = 3000
MAX_VALUE = 2000


def plain(text: str, limit: int = MAX_REASON) -> str:
    """A person's text on one line, at most `limit` characters of it, with `& < >` escaped.

    Escaped, no mention, link or channel can be smuggled in; back-ticks and the like only decorate.
    """
    line = _one_line(text)
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(text: str) -> str:
    return " ".join(_DECEIVING.sub(" ", text).split())


def code(text: str) -> str:
    """The text as code; a back-tick in it would end the code, so it becomes an apostrophe."""
    return f"`{plain(text, 200).replace('`', '’')}`"


def date(at: datetime, *, ago: bool = True) -> str:
    """An instant as each reader's own clock shows it, and how far it is, without any edit."""
    form = "{date_short_pretty} {time}" + (" ({ago})" if ago else "")
    return f"<!date^{int(at.timestamp())}^{form}|{fallback_date(at)}>"


def about(span: timedelta) -> str:
    """A span as one says it: under a minute, 7m, 2h."""
    if span < timedelta(minutes=1):
        return "a minute"
    return spell(timedelta(minutes=round(span.total_seconds() / 60)))


def fallback_date(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%-d %b %H:%M UTC")


def section(text: str, accessory: Block | None = None) -> Block:
    block: Block = {"type": "section", "text": {"type": "mrkdwn", "text": text[:MAX_TEXT]}}
    return block | ({"accessory": accessory} if accessory else {})


def alert(text: str, level: str) -> Block:
    """A coloured line; `level` is default, info, warning, error or success."""
    return {"type": "alert", "level": level, "text": {"type": "mrkdwn", "text": text[:MAX_TEXT]}}


def uncoloured(block: Block) -> Block:
    """The block, or the plain section in place of a coloured line."""
    return section(block["text"]["text"]) if block["type"] == "alert" else block


def fields(*pairs: tuple[str, str]) -> Block:
    return {
        "type": "section",
        "fields": [{"type": "mrkdwn", "text": f"*{name}*\n{value}"[:2000]} for name, value in pairs],
    }


def quotation(text: str) -> Block:
    """A person's text as a quotation in which nothing is mark-up: what was typed is what is seen."""
    line = _one_line(text)
    line = line if len(line) <= MAX_REASON else line[: MAX_REASON - 1].rstrip() + "…"
    quote = {"type": "rich_text_quote", "elements": [{"type": "text", "text": line or "…"}]}
    return {"type": "rich_text", "elements": [quote]}


def context(*lines: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": line[:MAX_TEXT]} for line in lines]}


def actions(block_id: str, *elements: Block) -> Block:
    return {"type": "actions", "block_id": block_id, "elements": list(elements)}


def button(
    action_id: str,
    label: str,
    value: str = "",
    *,
    style: str = "",
    url: str = "",
    confirm: tuple[str, str, str] | None = None,
) -> Block:
    """A button. `confirm` is a question before it: title, text and the label of yes."""
    made: Block = {
        "type": "button",
        "action_id": action_id,
        "text": {"type": "plain_text", "text": label[:75], "emoji": True},
    }
    extra = {"value": value, "style": style, "url": url}
    made |= {name: given for name, given in extra.items() if given}
    if confirm:
        title, question, yes = confirm
        made["confirm"] = {
            "title": words(title),
            "text": {"type": "mrkdwn", "text": question},
            "confirm": words(yes),
            "deny": words("Not now"),
        }
    return made


def words(text: str) -> Block:
    """A plain text object."""
    return {"type": "plain_text", "text": text, "emoji": True}
