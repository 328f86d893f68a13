"""Bodies of requests that rules look into: JSON and forms, read in one way only or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import parse_qsl

from proxy.http.codec import Head


class Unread(Exception):
    """The body cannot be read, or may be read in more than one way."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a body says, as JSON values. Of a `form` each member is the list of its values."""

    value: object
    form: bool = False


def document(head: Head, body: bytes) -> Document:
    """The body as a document. Raises Unread."""
    if head.get(b"content-encoding") not in (None, b"identity"):
        raise Unread("it is encoded")
    kinds = head.all(b"content-type")
    if len(kinds) > 1:
        raise Unread("it has two types")
    kind, _, more = (kinds[0] if kinds else b"").lower().partition(b";")
    if b"charset" in more and b"utf-8" not in more:
        raise Unread("it is not in UTF-8")
    kind = kind.strip()
    if kind == b"application/x-www-form-urlencoded":
        return Document(_form(body), form=True)
    # What calls itself otherwise may still be taken for JSON by the service.
    return Document(_json(body))


def _json(body: bytes) -> object:
    try:
        return json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unread("it is no JSON") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of two members by one name some readers take the first, others the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def _form(body: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body)):
            found.setdefault(name, []).append(value)
    except ValueError as error:
        raise Unread("it is no form") from error
    return found
