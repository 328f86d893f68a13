"""Masking what COPY ... TO STDOUT sends: rows of text or CSV, one in each CopyData message.

The formats are those of https://www.postgresql.org/docs/current/sql-copy.html with PostgreSQL's own
delimiter, quote and NULL. The columns are known from the statement, there being no RowDescription; a row of
another number of fields than the statement promised is a BrokenRow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from proxy.sql.detect import hider, refuser
from proxy.sql.guard import ColumnVerdict, StatementVerdict
from proxy.sql.mask import FieldDescription, replacement_of
from proxy.sql.masked import MaskSet
from proxy.sql.methods import Replacement
from proxy.sql.rows import BrokenRow


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """`changes` has a replacement for each column, KEEP for one that stays; None: `every` is that of all. The
    first row of a `header` holds names: it goes through as it is. NULL stays NULL but for `whatever`."""

    csv: bool
    header: bool
    changes: tuple[Replacement, ...] | None
    every: Replacement = None
    whatever: frozenset[int] = frozenset()


def KEEP(value: bytes) -> bytes:
    """The replacement of a column that stays as it is."""
    return value


def plan_copy(
    statement: StatementVerdict, masks: MaskSet, key: bytes, detect: tuple[str, ...] = ()
) -> CopyPlan:
    """How the rows of a COPY that the guard allowed change. Raises ValueError where that is not known."""
    if statement.copies is None:
        raise ValueError("the rows of this COPY cannot be rewritten")
    csv, header = statement.copies.csv, statement.copies.header
    if not statement.touches_masked:
        return CopyPlan(csv, header, None, _searched(detect))
    if statement.columns is None:
        raise ValueError("the columns of this COPY are not known")
    changes = tuple(_change(verdict, masks, key, detect) for verdict in statement.columns)
    whatever = frozenset(i for i, v in enumerate(statement.columns) if not (v.clear or v.plain))
    return CopyPlan(csv, header, changes, whatever=whatever)


def _change(verdict: ColumnVerdict, masks: MaskSet, key: bytes, detect: tuple[str, ...]) -> Replacement:
    if verdict.clear:
        return _searched(detect) if detect else KEEP
    if not verdict.plain or verdict.origin is None:
        return None
    oid, number = verdict.origin
    relation = masks.catalog.relations.get(oid)
    column = next((c for c in relation.columns if c.number == number), None) if relation else None
    if column is None:
        return None
    described = FieldDescription(column.name, oid, number, column.type_oid)
    return replacement_of(masks.columns.get(verdict.origin, "full"), described, masks, key)


def _searched(detect: tuple[str, ...]) -> Replacement:
    hide, check = hider(detect), refuser(detect)

    def searched(value: bytes) -> bytes | None:
        # A number stays a number or is NULL, so that the copy can be read in again.
        return check(value) if value.strip(b"-0123456789.") == b"" else hide(value)

    return searched


def rewrite_copy(row: bytes, plan: CopyPlan) -> bytes:
    """One row with its line end, the body of one CopyData. Raises BrokenRow."""
    body = row.removesuffix(b"\n")
    fields = _csv_fields(body) if plan.csv else _text_fields(body)
    changes = plan.changes if plan.changes is not None else (plan.every,) * len(fields)
    if len(fields) != len(changes):
        raise BrokenRow("a row of COPY does not have the columns that its statement promised")
    write = _csv_field if plan.csv else _escaped
    new = [
        _replaced(field, change, index in plan.whatever, write)
        for index, (field, change) in enumerate(zip(fields, changes, strict=True))
    ]
    return (b"," if plan.csv else b"\t").join(new) + row[len(body) :]


# A field as it was sent, and its value.
_Field = tuple[bytes, bytes | None]


def _replaced(
    field: _Field, change: Replacement, whatever: bool, write: Callable[[bytes | None], bytes]
) -> bytes:
    raw, value = field
    if change is KEEP or (value is None and not whatever):
        return raw
    new = change(value or b"") if callable(change) else change
    return raw if new == value else write(new)


# ---------------------------------------------------------------------- text

_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\\": b"\\"}
_NAMES = {value: b"\\" + letter for letter, value in _ESCAPES.items()}
_ESCAPED = re.compile(rb"\\(.?)", re.S)
_SPECIAL = re.compile(rb"[\b\f\n\r\t\v\\]")


def _text_fields(body: bytes) -> list[_Field]:
    if b"\n" in body:
        raise BrokenRow("two rows of COPY came in one message")
    return [(field, _unescaped(field)) for field in body.split(b"\t")]


def _unescaped(field: bytes) -> bytes | None:
    if field == b"\\N":
        return None
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), field) if b"\\" in field else field


def _escaped(field: bytes | None) -> bytes:
    return b"\\N" if field is None else _SPECIAL.sub(lambda found: _NAMES[found[0]], field)


# ----------------------------------------------------------------------- CSV

_CSV_FIELD = re.compile(rb'(?:"((?:[^"]|"")*+)"|([^,"\r\n]*+))(,|\Z)')


def _csv_fields(body: bytes) -> list[_Field]:
    fields: list[_Field] = []
    place = 0
    while True:
        found = _CSV_FIELD.match(body, place)
        if found is None:
            raise BrokenRow("a row of COPY is not CSV")
        value = found[1].replace(b'""', b'"') if found[1] is not None else found[2] or None
        fields.append((body[place : found.start(3)], value))
        place = found.end()
        if not found[3]:
            return fields


def _csv_field(field: bytes | None) -> bytes:
    """Quoted where PostgreSQL quotes, and where an empty text would read as NULL."""
    if field is None:
        return b""
    if field in (b"", b"\\.") or re.search(rb'[,"\r\n]', field):
        return b'"' + field.replace(b'"', b'""') + b'"'
    return field
