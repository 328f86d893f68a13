"""Where a request goes: its path and query, as every server behind the gate must read them.

A target that one server would take for another place than the next is refused by `check`. What is unusual but
clear enough to be passed on (an encoded slash, parameters behind a semicolon) is `odd`: guardrails do not
judge it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from proxy.http.codec import Malformed

_PATH = re.compile(rb"/(?!/)(?:[!$&-;=@A-Z\[\]^_a-z{|}~]|%[0-9A-Fa-f]{2})*")
_DOTS = re.compile(rb"(?:^|/|%2[fF]|%5[cC])(?:\.|%2[eE]){1,2}(?:/|%2[fF]|%5[cC]|;|%3[bB]|%00|$)")
_HIDDEN = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[fF])")
_QUERY = re.compile(rb"(?:[!\"$&-~]|%[0-9A-Fa-f]{2})*")
ENCODED_SLASH = "its path has an encoded slash"
_TWICE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of a path, decoded once, and the query's names and values in order. `odd` says why servers
    may read it in more than one way; empty where they may not.
    """

    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    odd: str = ""

    @property
    def path(self) -> str:
        return "/" + "/".join(self.segments)


def check(target: bytes) -> None:
    """Raises Malformed for what is no plain path and query: another form, or tricks with dots and slashes."""
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/"):
        raise Malformed("the request names a place that is no path of this host")
    if _PATH.fullmatch(path) is None:
        raise Malformed("the path has characters or escapes that no path has")
    if _HIDDEN.search(path) is not None:
        raise Malformed("the path hides a control character")
    if _DOTS.search(path) is not None:
        raise Malformed("the path leads back over dots")
    if _QUERY.fullmatch(query) is None:
        raise Malformed("the query has characters that no query has")


@lru_cache(maxsize=4096)
def read(target: bytes) -> Place:
    """The place of a target that was checked."""
    path, _, query = target.partition(b"?")
    odd = ""
    segments = []
    for part in path[1:].split(b"/"):
        text = unquote_to_bytes(part)
        try:
            segment = text.decode()
        except UnicodeDecodeError:
            segment, odd = text.decode("latin-1"), "its path is not in UTF-8"
        if "/" in segment or "\\" in segment:
            odd = ENCODED_SLASH
        elif ";" in segment:
            odd = "its path has parameters behind a semicolon"
        elif _TWICE.search(segment):
            odd = "its path is encoded twice"
        segments.append(segment)
    if any(not segment for segment in segments[:-1]):
        odd = "its path has an empty part"
    pairs, unclear = _pairs(query)
    return Place(tuple(segments), pairs, odd or unclear)


def _pairs(query: bytes) -> tuple[tuple[tuple[str, str], ...], str]:
    found: list[tuple[str, str]] = []
    odd = "servers differ about a semicolon in a query" if b";" in query else ""
    for part in query.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        try:
            found.append((_plain(name), _plain(value)))
        except UnicodeDecodeError:
            odd = "its query is not in UTF-8"
    return tuple(found), odd


def _plain(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode()
