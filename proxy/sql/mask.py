"""What a masked value is replaced by, and which result columns are masked.

Methods: full ("***"), null, last4 ("***" and the last four characters of a value of at least eight), email
("a***@***"), hash (16 hexadecimal digits of HMAC-SHA256 under a key of the resource: equal values stay
equal), pseudonym (the same look with other letters and digits, for text, integers, numeric, uuid and date).
Only text has a place for the others; there a value of any other type becomes NULL, right in both wire
formats. A value computed from masked columns is always masked in full: `left(email, 1)` under last4 or hash
would give the value away piece by piece. Nor does it stay NULL: `nullif(left(email, 1), 'a')` would tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.sql.detect import hider, json_hider, refuser
from proxy.sql.guard import ColumnVerdict, StatementVerdict
from proxy.sql.masked import MaskSet
from proxy.sql.methods import FULL, Replacement, email, hasher, last4, pseudonym
from proxy.sql.rows import MaskPlan

# text, varchar, bpchar: their binary format is their text (pg_type.dat).
_TEXT_OIDS = frozenset({25, 1043, 1042})
_TEXT_NAMES = frozenset({"citext"})
_TEXT = 25


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One field of a RowDescription, in the protocol's order and meaning; `format` 0 is text, 1 binary."""

    name: str
    table_oid: int
    attnum: int
    type_oid: int
    typlen: int = -1
    typmod: int = -1
    format: int = 0


def plan_columns(
    fields: Sequence[FieldDescription],
    statement: StatementVerdict | None,
    masks: MaskSet,
    key: bytes,
    detect: tuple[str, ...] = (),
) -> MaskPlan:
    """Decide for each result column: clear, or replaced by what.

    A column is clear only where nothing speaks against it: its origin, if it has one, is a known column
    without a mask, and lineage, where there is a verdict, proved it clear. Without a verdict (None: a
    statement the gate has not read) only a clear origin shows a value. `key` is the resource's secret for
    the hash and pseudonym methods. In clear columns of text, what the detectors `detect` find is hidden.
    """
    width = len(fields)
    verdicts = _verdicts(statement, width) if masks.active else [_CLEAR] * width
    replacements: list[tuple[int, Replacement]] = []
    whatever = set()
    for index, (described, verdict) in enumerate(zip(fields, verdicts, strict=True)):
        method = _method(described, verdict, masks) if masks.active else None
        if method is not None:
            replacements.append((index, replacement_of(method, described, masks, key)))
            if verdict is None or not (verdict.clear or verdict.plain):
                whatever.add(index)
        elif detect and (hides := _hides(described, masks, detect)) is not None:
            replacements.append((index, hides))
    return MaskPlan(width, tuple(replacements), frozenset(whatever))


_CLEAR = ColumnVerdict(True)
_UNPROVED = ColumnVerdict(False)


def _verdicts(statement: StatementVerdict | None, width: int) -> Sequence[ColumnVerdict | None]:
    if statement is not None and not statement.touches_masked:
        return [ColumnVerdict(True)] * width
    if statement is None or statement.columns is None:
        return [None] * width
    if len(statement.columns) != width:  # the tables are not what the picture of the catalog says
        return [_UNPROVED] * width
    return statement.columns


def _method(described: FieldDescription, verdict: ColumnVerdict | None, masks: MaskSet) -> str | None:
    """The mask method for a column, or None when it is clear."""
    origin = (described.table_oid, described.attnum)
    if origin in masks.columns:
        return masks.columns[origin]
    if described.table_oid and not _clear_origin(described, masks):
        return "full"
    if verdict is None:
        return None if described.table_oid else "full"
    if verdict.clear:
        return None
    if verdict.plain and verdict.origin is not None:
        return masks.columns.get(verdict.origin, "full")
    return "full"


def _clear_origin(described: FieldDescription, masks: MaskSet) -> bool:
    """Whether the origin is known, has no mask, and is a column (0 is the whole row, below 0 a system
    column)."""
    relation = masks.catalog.relations.get(described.table_oid)
    if relation is None:
        return False
    if described.attnum == 0:
        return not any(oid == relation.oid for oid, _ in masks.columns)
    return described.attnum < 0 or any(c.number == described.attnum for c in relation.columns)


def replacement_of(method: str, described: FieldDescription, masks: MaskSet, key: bytes) -> Replacement:
    """What a method does with the values of a column."""
    if method == "pseudonym":
        type_oid = _TEXT if _is_text(described, masks) else described.type_oid
        return pseudonym(key, type_oid, described.format == 1)
    if method == "null" or not _is_text(described, masks):
        return None
    if method == "last4":
        return last4
    if method == "email":
        return email
    return hasher(key) if method == "hash" else FULL


def _is_text(described: FieldDescription, masks: MaskSet) -> bool:
    if described.type_oid in _TEXT_OIDS:
        return True
    relation = masks.catalog.relations.get(described.table_oid)
    return relation is not None and any(
        c.type_oid == described.type_oid and c.type_name in _TEXT_NAMES for c in relation.columns
    )


# pg_type.dat: name, xml, text[], varchar[], bpchar[]; from FIRST_OWN on types are the database's own.
_TEXTUAL = frozenset({*_TEXT_OIDS, 19, 142})
_JSON, _JSONB = 114, 3802
_TEXT_ARRAYS = frozenset({1009, 1015, 1014, 1003})
_JSON_ARRAYS = frozenset({199, 3807})
_RECORD, _FIRST_OWN = 2249, 16_384


def _hides(described: FieldDescription, masks: MaskSet, detect: tuple[str, ...]) -> Replacement:
    """What hides the findings in a column's values; None where there can be none."""
    oid, binary = described.type_oid, described.format == 1
    if oid in _TEXTUAL or _is_text(described, masks):
        return hider(detect)
    if oid in (_JSON, _JSONB):
        return json_hider(detect, binary and oid == _JSONB)
    if oid in _TEXT_ARRAYS | _JSON_ARRAYS or oid == _RECORD or oid >= _FIRST_OWN:
        return refuser(detect) if binary else hider(detect)
    return None
