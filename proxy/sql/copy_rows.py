"""The rows of COPY in PostgreSQL's three formats, taken apart and put together again with values replaced.

https://www.postgresql.org/docs/current/sql-copy.html, "File Formats". In text and CSV a row ends with a line
feed, and what is not replaced stays byte for byte as it came.
"""

from __future__ import annotations

import re
from functools import partial
from struct import Struct, pack

from proxy.sql.copies import CopyFormat
from proxy.sql.methods import Function, Replacement, email, last4
from proxy.sql.rows import COMPILED, BrokenRow, MaskPlan, rewrite_data_rows

if COMPILED:
    from proxy.sql import _rows

_BY_LETTER = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_BY_VALUE = {value: b"\\" + letter for letter, value in _BY_LETTER.items()}
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class TextRows:
    """Rows of the text or the CSV format."""

    def __init__(self, form: CopyFormat, plan: MaskPlan) -> None:
        self._form = form
        self._csv = form.name == "csv"
        self._plan = plan
        self._header = form.header
        self._row = _row_pattern(form, plan)
        self._any = _row_pattern(form, MaskPlan(plan.width))
        d, q, e = (re.escape(byte) for byte in (form.delimiter, form.quote, form.escape))
        self._special = re.compile(rb"[\b\f\n\r\t\v\\" + d + rb"]")
        self._needs_quotes = re.compile(rb"[\r\n" + d + q + rb"]")
        self._in_quotes = re.compile(rb"[" + q + e + rb"]")
        self._quoted = re.compile(e + rb"([" + q + e + rb"])")
        self._changes = tuple(self._change(index, change) for index, change in plan.replacements)
        # A NULL of one's own looks like a value in the text format: it is taken for one.
        self._null = form.null if self._csv or form.null == b"\\N" else None

    def messages(self, chunk: bytes) -> bytes | None:
        """A run of CopyData messages, rewritten the compiled way; None where each is not one row."""
        if self._header or not COMPILED:
            return None
        form = self._form
        marks = (form.delimiter, form.quote, form.escape, self._null)
        try:
            return _rows.rewrite_copy(chunk, self._plan.width, self._changes, last4, email, self._csv, *marks)
        except ValueError:
            return None

    def _change(self, index: int, change: Replacement) -> tuple[int, bytes | Function, Function, bool]:
        """A column for the compiled way: what it writes itself, and whom it calls for the rest."""
        whatever = index in self._plan.whatever
        by_value = partial(self._replaced, change=change, whatever=whatever)
        if not callable(change):
            return index, self._written(change), by_value, whatever
        form = self._form
        needs_marks = form.forced or bool(re.search(rb"[@*]", form.delimiter + form.quote + form.null))
        return index, by_value if needs_marks else change, by_value, whatever

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """The whole rows in `data`, rewritten, and what is left of it."""
        out: list[bytes] = []
        place = kept = 0
        if self._header and data:
            names = self._any.match(data)
            if names is None:
                return b"", data
            place = names.end()
            self._header = False
        match, replacements, whatever = self._row.match, self._plan.replacements, self._plan.whatever
        while (found := match(data, place)) is not None:
            for group, (index, change) in enumerate(replacements, 1):
                start, end = found.span(group)
                new = self._replaced(data[start:end], change, index in whatever)
                if new is not None:
                    out.append(data[kept:start])
                    out.append(new)
                    kept = end
            place = found.end()
        out.append(data[kept:place])
        return b"".join(out), data[place:]

    def _replaced(self, field: bytes, change: Replacement, whatever: bool) -> bytes | None:
        """What stands instead of a field; None for the field as it came."""
        value = self._value(field)
        if value is None and not whatever:
            return None
        if not callable(change):
            return self._written(change)
        new = change(value or b"")
        return None if new == value else self._written(new)

    def _value(self, field: bytes) -> bytes | None:
        form = self._form
        if self._csv:
            if field.startswith(form.quote):
                return self._quoted.sub(rb"\1", field[1:-1])
            return None if field == form.null else field
        if field == self._null:
            return None
        if b"\\" not in field:
            return field
        return _ESCAPED.sub(lambda found: _BY_LETTER.get(found[1], found[1]), field)

    def _written(self, value: bytes | None) -> bytes:
        form = self._form
        if value is None:
            return form.null
        if not self._csv:
            return self._special.sub(lambda found: _BY_VALUE.get(found[0], b"\\" + found[0]), value)
        # Not by whether the value had quotes: that would tell about it.
        if form.forced or value in (form.null, b"\\.") or self._needs_quotes.search(value):
            quoted = self._in_quotes.sub(lambda found: form.escape + found[0], value)
            return form.quote + quoted + form.quote
        return value


def _row_pattern(form: CopyFormat, plan: MaskPlan) -> re.Pattern[bytes]:
    """Matches one row of the plan's width, a group for each field that is to be replaced.

    No part can give back what it took, so a row that does not fit is found out in linear time.
    """
    d, q, e = (re.escape(byte) for byte in (form.delimiter, form.quote, form.escape))
    if form.name == "csv":
        inside = rb"[^" + q + rb"]|" + q + q if q == e else rb"[^" + q + e + rb"]|" + e + rb"[\s\S]"
        field = q + rb"(?:" + inside + rb")*+" + q + rb"|[^\r\n" + d + q + rb"]*+"
    else:
        inside = rb"[^\\\n" + d + rb"]*+"
        field = inside + rb"(?:\\[^\n]" + inside + rb")*+"
    changed = {index for index, _ in plan.replacements}
    parts: list[bytes] = []
    run = 0  # fields that stay, since the last one that changes
    for index in range(plan.width):
        last = index == plan.width - 1
        if index in changed or last:
            if run:
                parts.append(rb"(?:(?:%b)%b){%d}" % (field, d, run))
            parts.append((rb"(%b)" if index in changed else rb"(?:%b)") % field)
            parts.append(rb"\n" if last else d)
            run = 0
        else:
            run += 1
    return re.compile(b"".join(parts) or rb"\n")


_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_COUNT = Struct(">h").unpack_from
_LENGTH = Struct(">i").unpack_from


class BinaryRows:
    """Rows of the binary format: the file's header, rows that are DataRows but for their head, an end."""

    def __init__(self, plan: MaskPlan) -> None:
        self._plan = plan
        self._begun = False
        self._over = False

    def messages(self, chunk: bytes) -> bytes | None:
        """A run of CopyData messages, rewritten the compiled way; None where each is not one row."""
        if not self._begun or self._over or not COMPILED:
            return None
        plan = self._plan
        try:
            return _rows.rewrite_binary_copy(
                chunk, plan.width, plan.replacements, plan.whatever, last4, email
            )
        except ValueError:
            return None

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """The whole rows in `data`, rewritten, and what is left of it. Raises BrokenRow."""
        out: list[bytes] = []
        place = 0
        if not self._begun:
            place = _header(data)
            if not place:
                return b"", data
            self._begun = True
            out.append(data[:place])
        while len(data) - place >= 2:
            if self._over:
                break
            if data[place : place + 2] == b"\xff\xff":
                self._over = True
                out.append(data[place : place + 2])
                place += 2
                break
            end = self._end(data, place)
            if end > len(data):
                break
            row = data[place:end]
            out.append(rewrite_data_rows(b"D" + pack(">I", len(row) + 4) + row, self._plan)[5:])
            place = end
        if self._over and place < len(data):
            raise BrokenRow("a binary COPY went on behind its end")
        return b"".join(out), data[place:]

    def _end(self, data: bytes, place: int) -> int:
        """Where the row from `place` ends; beyond `data` when it is not whole."""
        (columns,) = _COUNT(data, place)
        if columns != self._plan.width:
            raise BrokenRow("a row of COPY does not have the columns that its statement promised")
        place += 2
        for _ in range(columns):
            if place + 4 > len(data):
                return len(data) + 1
            (size,) = _LENGTH(data, place)
            if size < -1:
                raise BrokenRow("a value of COPY has no length")
            place += 4 + max(size, 0)
        return place


def _header(data: bytes) -> int:
    """The size of the header; 0 when it is not whole. Raises BrokenRow for one that says more than ours."""
    if len(data) < 19:
        return 0
    if not data.startswith(_SIGNATURE) or data[11:15] != b"\0\0\0\0":
        raise BrokenRow("a binary COPY began with something else than its header")
    (extension,) = _LENGTH(data, 15)
    if extension < 0:
        raise BrokenRow("a binary COPY has a header of no length")
    return 19 + extension if len(data) >= 19 + extension else 0
