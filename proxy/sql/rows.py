"""Rewriting DataRow messages: the one function that touches result bytes.

DataRow (https://www.postgresql.org/docs/current/protocol-message-formats.html): Byte1('D'), Int32 length
including itself, Int16 number of columns, then for each column Int32 length (-1 for NULL) and that many
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from proxy.sql.methods import Replacement, email, last4

try:
    from proxy.sql import _rows
except ImportError:  # built without a C compiler: the same in Python, several times slower
    COMPILED = False
else:
    COMPILED = True
    """Whether rows are rewritten by the compiled kernel."""

_HEAD = Struct(">cIH")
# One length field.
_LENGTH = Struct(">i")
_NULL = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """How the rows under one RowDescription change: number of columns, and (index, replacement) ascending.

    NULL stays NULL in those columns but for the ones in `whatever`, where it is replaced like a value.
    """

    width: int
    replacements: tuple[tuple[int, Replacement], ...] = ()
    whatever: frozenset[int] = frozenset()

    @property
    def idle(self) -> bool:
        """Whether rows go through as they are."""
        return not self.replacements


class BrokenRow(ValueError):
    """The bytes are no run of complete DataRows that fit the plan. The session must end: nothing is sent."""


def rewrite_data_rows(chunk: bytes | memoryview, plan: MaskPlan) -> bytes:
    """Mask a run of complete DataRow messages. See MaskPlan for NULL. Raises BrokenRow."""
    try:
        return _rewrite(chunk, plan)
    except (IndexError, ValueError) as error:
        raise BrokenRow("a row does not have the shape its description promised") from error


def rewrite_in_c(chunk: bytes | memoryview, plan: MaskPlan) -> bytes:
    """The compiled way (_rows.c). Raises ValueError."""
    return _rows.rewrite(chunk, plan.width, plan.replacements, plan.whatever, last4, email)


def rewrite_in_python(chunk: bytes | memoryview, plan: MaskPlan) -> bytes:
    """The plain way, and what the compiled one is tested against. Raises ValueError, IndexError."""
    data = bytes(chunk)
    out: list[bytes] = []
    position = 0
    while position < len(data):
        position = _row(data, position, plan, out)
    return b"".join(out)


_rewrite = rewrite_in_c if COMPILED else rewrite_in_python


def _row(data: bytes, start: int, plan: MaskPlan, out: list[bytes]) -> int:
    """Append one rewritten row to `out` and return where it ended in `data`."""
    if len(data) < start + 7:
        raise ValueError
    tag, length, columns = _HEAD.unpack_from(data, start)
    end: int = start + 1 + length
    if tag != b"D" or columns != plan.width or end > len(data) or length < 6:
        raise ValueError
    pieces: list[bytes] = []
    column = 0
    kept = place = start + 7  # data[kept:place] is unchanged and not yet in pieces
    unpack = _LENGTH.unpack_from
    for index, replacement in plan.replacements:
        while column < index:
            size = unpack(data, _within(place, end))[0]
            place += 4 + max(size, 0)
            column += 1
        size = unpack(data, _within(place, end))[0]
        value_end = place + 4 + max(size, 0)
        if value_end > end:
            raise ValueError
        if size >= 0 or index in plan.whatever:
            pieces.append(data[kept:place])
            pieces.append(_replaced(replacement, data[place + 4 : value_end]))
            kept = value_end
        place = value_end
        column += 1
    pieces.append(data[kept:end])
    body = b"".join(pieces)
    out.append(_HEAD.pack(b"D", len(body) + 6, columns))
    out.append(body)
    return end


def _within(place: int, end: int) -> int:
    if place + 4 > end:
        raise ValueError
    return place


def _replaced(replacement: Replacement, value: bytes) -> bytes:
    new = replacement(value) if callable(replacement) else replacement
    return _NULL if new is None else _LENGTH.pack(len(new)) + new
