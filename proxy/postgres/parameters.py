"""A statement with its bound values, for the people who decide about it.

Binary forms are those of PostgreSQL's own send functions (src/backend/utils/adt). What is not known here is
shown as its bytes: the approval is for the bytes in any case.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from proxy.postgres import codec
from proxy.postgres.holding import Words

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def shown(words: Words) -> str:
    """The text; behind it, in a comment that the gate adds, the values of a Bind."""
    text = words.text.decode("utf-8", "backslashreplace")
    if words.meaning:
        text += "\n-- which was prepared as:\n" + words.meaning.decode("utf-8", "backslashreplace")
    if not words.values:
        return text
    try:
        it = codec.read_bind(b"\0\0" + words.values)
    except codec.WireError:
        return text + "\n-- its values cannot be read"
    kinds = _kinds(words)
    lines = [
        f"-- ${index + 1} = {_value(value, it.format(index), kinds[index] if index < len(kinds) else 0)}"
        for index, value in enumerate(it.values)
    ]
    return "\n".join([text, *(["-- with these values:"] if lines else []), *lines])


def _kinds(words: Words) -> tuple[int, ...]:
    for said in (words.kinds, words.types):
        try:
            kinds = codec.read_parameter_description(said) if said else ()
        except codec.WireError:
            continue
        if kinds:
            return kinds
    return ()


def _value(value: bytes | None, form: int, kind: int) -> str:
    if value is None:
        return "NULL"
    if form == 0:
        return _quoted(value.decode("utf-8", "backslashreplace"))
    try:
        return _BINARY[kind](value)
    except (KeyError, ValueError, OverflowError, struct.error):
        return "\\x" + value.hex()


def _quoted(text: str) -> str:
    """One line, whatever the value holds, so that it cannot pass for more lines of the gate's comment."""
    plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return "'" + plain.replace("'", "''") + "'"


def _number(form: str) -> Callable[[bytes], str]:
    return lambda value: str(struct.unpack(form, value)[0])


def _text(value: bytes) -> str:
    return _quoted(value.decode())


def _instant(value: bytes) -> str:
    return str(_EPOCH + timedelta(microseconds=struct.unpack("!q", value)[0]))


def _date(value: bytes) -> str:
    return str(date(2000, 1, 1) + timedelta(days=struct.unpack("!i", value)[0]))


_BINARY: dict[int, Callable[[bytes], str]] = {
    16: lambda value: "true" if value == b"\1" else "false",
    20: _number("!q"),
    21: _number("!h"),
    23: _number("!i"),
    26: _number("!I"),
    700: _number("!f"),
    701: _number("!d"),
    25: _text,
    1042: _text,
    1043: _text,
    114: _text,
    1082: _date,
    1114: _instant,
    1184: _instant,
    2950: lambda value: str(uuid.UUID(bytes=value)),
}
