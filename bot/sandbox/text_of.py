"""All the words on a message or a view, for searching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .state import Message, View

_WORDS = {"text", "name", "placeholder", "user_id", "fallback", "alt_text", "value"}


def _words(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, str):
        if key in _WORDS:
            yield node
    elif isinstance(node, Mapping):
        for name, item in node.items():
            if not (name == "value" and "text" in node):
                yield from _words(item, name)
    elif isinstance(node, list):
        for item in node:
            yield from _words(item, key)


def text_of(surface: Message | View) -> str:
    """The text and every text of the blocks, joined by newlines, with Slack's three entities decoded."""
    if isinstance(surface, Message):
        parts = [surface.text, *_words(surface.blocks), *_words(surface.attachments)]
    else:
        parts = [*_words(surface.payload), *surface.errors.values()]
    joined = "\n".join(part for part in parts if part)
    return joined.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
