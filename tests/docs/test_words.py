"""The glossary names what is in the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "words.md"


def test_every_word_is_where_the_glossary_says() -> None:
    places = re.findall(r"\| `([\w.]+)\.(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(places) > 15
    for module, name in places:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
