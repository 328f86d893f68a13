"""Bodies of requests that rules look into: JSON and forms, read in one way only or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

from proxy.http.codec import Head

_UTF8 = re.compile(rb'\s*charset\s*=\s*("utf-?8"|utf-?8)\s*')
_INNER = re.compile(r"\[([^\[\]]*)\]|\.([^\[\].]+)")


class Unread(Exception):
    """The body cannot be read, or may be read in more than one way."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a body says, as JSON values. Of a `form` each member is the list of its values."""

    value: object
    form: bool = False


def document(head: Head, body: bytes) -> Document:
    """The body as a document. Raises Unread."""
    if any(coding.lower() != b"identity" for coding in head.all(b"content-encoding")):
        raise Unread("it is encoded")
    kinds = head.all(b"content-type")
    if len(kinds) > 1:
        raise Unread("it has two types")
    kind, _, more = (kinds[0] if kinds else b"").lower().partition(b";")
    if b"charset" in more and _UTF8.fullmatch(more) is None:
        raise Unread("it is not in UTF-8")
    kind = kind.strip()
    if kind == b"application/x-www-form-urlencoded":
        if body.lstrip()[:1] in (b"{", b"["):
            raise Unread("it may be taken for JSON")  # as by services that do not look at its type
        return Document(_form(body), form=True)
    # What calls itself otherwise may still be taken for JSON by the service.
    return Document(_json(body))


def nested(form: Document) -> Iterator[object]:
    """The members of a form as the documents that frameworks make of their names: `a[b]` and `a.b` are
    `{"a": {"b": …}}`, and `a[]` may be taken for `a`.
    """
    assert isinstance(form.value, dict)
    for name, values in form.value.items():
        first = re.split(r"[\[.]", name, maxsplit=1)[0]
        steps = [first.strip(), *(one.strip() or other for one, other in _INNER.findall(name[len(first) :]))]
        while steps:
            inner: object = values
            for step in reversed(steps):
                inner = {step: inner}
            yield inner
            last = steps.pop()
            if last and not last.isdigit():
                break


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
