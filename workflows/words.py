"""From a typed line to words: what keyboards and Slack do to a line is undone here.

Phones turn quotes and dashes typographic and put in spaces that do not break; Slack escapes `& < >` and
writes people as `<@U123|name>`. Characters that draw nothing or turn the reading direction are dropped, so
that a reason looks to the approver as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from rapidfuzz.distance import DamerauLevenshtein

MENTION = re.compile(r"<@([UW][A-Z0-9]+)(?:\|([^>]*))?>")
TICKET = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,9}-[0-9]{1,7}|#[0-9]{1,9}")
STORY_ID = re.compile(r"[RGrg]-[0-9A-Za-z]{6,12}")
ALLOWANCE_ID = re.compile(r"[Aa]-[0-9A-Za-z]{6,12}")
REVIEW_ID = re.compile(r"[Vv]-[0-9A-Za-z]{6,12}")

_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»＂", '"') | dict.fromkeys("‘’‚‛´", "'"))
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))
_WORD = re.compile(r'"((?:\\.|[^"\\])*)(?:"|\\?$)' + r"|'([^']*)'(?=\s|$)|(<@[^>]*>|\S+)")
_SLACK_LINK = re.compile(r"<(?!@)([#!]?)([^|>]*)(?:\|([^>]*))?>")
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Word:
    """One word or quoted text of a line; `rest` is the line from its beginning on, as it was typed."""

    text: str
    rest: str
    quoted: bool = False

    @property
    def key(self) -> str:
        """The word as it is compared: small letters, plain dashes. A quoted text is no keyword."""
        return "" if self.quoted else self.text.translate(_DASHES).casefold()


def is_slip_for(word: str, keyword: str) -> bool:
    """Whether a word is a slip of the fingers for a keyword, and not that keyword: `becuase`, `untill`.

    One letter may be too many, too few, wrong or in its neighbour's place; a second one too, where the word
    has no letter that the keyword lacks (so `became` is no slip).
    """
    if word == keyword or word[:1] != keyword[:1] or abs(len(word) - len(keyword)) > 1 or len(word) < 4:
        return False
    far = DamerauLevenshtein.distance(word, keyword, score_cutoff=2)
    return far == 1 or (far == 2 and set(word) <= set(keyword))


def tidy(line: str) -> str:
    """The line with plain quotes and single spaces, and nothing in it that does not show."""
    kept = []
    for char in line.translate(_QUOTES):
        category = unicodedata.category(char)
        if category in ("Cc", "Zl", "Zp", "Zs"):
            kept.append(" ")
        elif (category != "Cf" or char == _JOINER) and category != "Cs":
            kept.append(char)
    return " ".join("".join(kept).split())


def split(line: str) -> list[Word]:
    """The words of a tidied line. A quote that is never closed runs to the end."""
    words = []
    for match in _WORD.finditer(line):
        double, single, bare = match.groups()
        if bare is not None:
            words.append(Word(bare, line[match.start() :]))
        else:
            text = re.sub(r"\\(.)", r"\1", double) if double is not None else single
            words.append(Word(text.strip(), line[match.start() :], quoted=True))
    return words


def quote(text: str) -> str:
    """The text so that `split` reads it as one quoted text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def from_slack(text: str) -> str:
    """The text of a slash command as its writer typed it, but for mentions, which keep their id."""

    def plain(match: re.Match[str]) -> str:
        sign, target, label = match.groups()
        if sign == "#":
            return f"#{label or target}"
        if sign == "!":
            return f"@{label or target.split('^')[0]}".replace("@@", "@")
        return target

    unlinked = _SLACK_LINK.sub(plain, text)
    return unlinked.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def without_mentions(text: str) -> str:
    """The text with Slack's mentions written as people read them."""
    return MENTION.sub(lambda match: f"@{match[2] or match[1]}", text)
