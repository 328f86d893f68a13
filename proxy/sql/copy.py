"""Masking what COPY ... TO STDOUT sends: the payload of its CopyData messages.

The columns are known from the statement, there being no RowDescription; the CopyOutResponse says how many
there are. PostgreSQL sends a row a message; a stream of rows cut anywhere is read as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct, error
from typing import Protocol

from proxy.sql.copies import CopyFormat
from proxy.sql.copy_rows import BinaryRows, TextRows
from proxy.sql.detect import hider, refuser
from proxy.sql.guard import ColumnVerdict, StatementVerdict
from proxy.sql.mask import FieldDescription, replacement_of
from proxy.sql.masked import MaskSet
from proxy.sql.methods import Replacement
from proxy.sql.rows import BrokenRow, MaskPlan

_HEAD = Struct(">cI")
MOST = 1 << 30
"""Bytes of one row that are waited for."""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """How the rows of one COPY are written, and how they change. `masked` names the columns for people."""

    form: CopyFormat
    plan: MaskPlan
    masked: tuple[str, ...] = ()


def plan_copy(
    statement: StatementVerdict, width: int, masks: MaskSet, key: bytes, detect: tuple[str, ...] = ()
) -> CopyPlan | None:
    """How the rows of a COPY of `width` columns, which the guard allowed, change; None where they do not.

    Raises ValueError where the gate does not know it.
    """
    columns: tuple[ColumnVerdict, ...] = (ColumnVerdict(True),) * width
    if statement.touches_masked:
        if statement.columns is None or len(statement.columns) != width:
            raise ValueError("this COPY does not send the columns that its statement promised")
        columns = statement.columns
    if statement.copies is None:
        if detect or not all(column.clear for column in columns):
            raise ValueError("the rows of this COPY cannot be rewritten")
        return None
    binary = statement.copies.name == "binary"
    if binary and detect:
        raise ValueError("a binary COPY cannot be searched")
    replacements: list[tuple[int, Replacement]] = []
    for index, column in enumerate(columns):
        if not column.clear:
            replacements.append((index, _masked(column, masks, key, binary)))
        elif detect:
            replacements.append((index, _searched(detect)))
    whatever = frozenset(i for i, column in enumerate(columns) if not (column.clear or column.plain))
    plan = MaskPlan(width, tuple(replacements), whatever)
    named = dict.fromkeys(_name(column, masks) for column in columns if not column.clear)
    return None if plan.idle else CopyPlan(statement.copies, plan, tuple(named))


def _masked(verdict: ColumnVerdict, masks: MaskSet, key: bytes, binary: bool) -> Replacement:
    """A computed value becomes NULL: its type, which would say whether stars fit, is not known."""
    if not verdict.plain or verdict.origin is None:
        return None
    oid, number = verdict.origin
    relation = masks.catalog.relations.get(oid)
    column = next((c for c in relation.columns if c.number == number), None) if relation else None
    if column is None:
        return None
    described = FieldDescription(column.name, oid, number, column.type_oid, format=int(binary))
    return replacement_of(masks.columns.get(verdict.origin, "full"), described, masks, key)


def _name(verdict: ColumnVerdict, masks: MaskSet) -> str:
    oid, number = verdict.origin or (0, 0)
    relation = masks.catalog.relations.get(oid)
    names = [c.name for c in relation.columns if c.number == number] if relation else []
    return f"{relation.name}.{names[0]}" if relation and names else "a value computed from masked columns"


def _searched(detect: tuple[str, ...]) -> Callable[[bytes], bytes | None]:
    hide, check = hider(detect), refuser(detect)

    def searched(value: bytes) -> bytes | None:
        # A number stays a number or is NULL, so that the copy can be read in again.
        return check(value) if value.strip(b"-0123456789.") == b"" else hide(value)

    return searched


class _Rows(Protocol):
    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """The whole rows in `data`, rewritten, and what is left. Raises BrokenRow."""

    def messages(self, chunk: bytes) -> bytes | None:
        """A run of messages at once, where each is one row; else None."""


class CopyStream:
    """The CopyData messages of one COPY in their order. A row in pieces waits until it is whole."""

    def __init__(self, plan: CopyPlan, most: int = MOST) -> None:
        self._rows: _Rows = (
            BinaryRows(plan.plan) if plan.form.name == "binary" else TextRows(plan.form, plan.plan)
        )
        self._most = most
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0

    def rewrite(self, chunk: bytes) -> bytes:
        """A run of whole CopyData messages, rewritten. Raises BrokenRow: nothing more may be sent then."""
        if not self._parts and (at_once := self._rows.messages(chunk)) is not None:
            return at_once
        try:
            return self._one_by_one(chunk)
        except (IndexError, ValueError, error) as broken:
            raise BrokenRow(str(broken)) from broken

    def _one_by_one(self, chunk: bytes) -> bytes:
        out: list[bytes] = []
        place, size = 0, len(chunk)
        while place < size:
            kind, length = _HEAD.unpack_from(chunk, place)
            end = place + 1 + length
            if kind != b"d" or length < 4 or end > size:
                raise BrokenRow("COPY sent something else than whole messages")
            out += self._message(chunk[place + 5 : end])
            place = end
        return b"".join(out)

    def finish(self) -> bytes:
        """The COPY is through: what waited, as a message. Raises BrokenRow where that is no whole row."""
        rows, rest = self._rows.take(b"".join(self._parts))
        if rest:
            raise BrokenRow("COPY ended in the middle of a row")
        return _HEAD.pack(b"d", len(rows) + 4) + rows if rows else b""

    def _message(self, payload: bytes) -> tuple[bytes, ...]:
        if self._parts or self._need:
            self._parts.append(payload)
            self._have += len(payload)
            if self._have < self._need:
                return ()
            payload = b"".join(self._parts)
            self._parts.clear()
        rows, rest = self._rows.take(payload)
        self._have, self._need = len(rest), 0
        if rest:
            if self._have > self._most:
                raise BrokenRow("a row of COPY is longer than this gate takes")
            self._parts.append(rest)
            self._need = 2 * self._have  # look again when there is as much again, so that it stays linear
        return (_HEAD.pack(b"d", len(rows) + 4), rows) if rows else ()
