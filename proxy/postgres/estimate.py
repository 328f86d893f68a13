"""How many rows a held statement will touch: the planner's guess, or a count from a run that is rolled back.

Asked over the session's own connection, in the transaction that the statement stands in, so that it is about
what will really run. Sources: PostgreSQL documentation, EXPLAIN and "Extended Query".
"""

from __future__ import annotations

import json
import struct
from typing import Any

from proxy.postgres import codec, flushed
from proxy.postgres.target import Answer

_PATIENCE = 2000
"""Milliseconds that the target may take for a question of the gate's own."""
_CHANGES = frozenset({"insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})
_PLANNED = _CHANGES | {"select_stmt", "create_table_as_stmt"}
_OPEN = ord("T")


def can_explain(kinds: tuple[str, ...]) -> bool:
    return len(kinds) == 1 and kinds[0] in _PLANNED


def can_count(kinds: tuple[str, ...]) -> bool:
    return len(kinds) == 1 and kinds[0] in _CHANGES


def explain_query(text: bytes, status: int) -> bytes:
    """A Query that asks for the plan and leaves nothing behind. The text is one statement that was read."""
    return _aside(b"EXPLAIN (FORMAT JSON) " + text, status, b" READ ONLY")


def count_query(text: bytes, status: int) -> bytes:
    """A Query that runs the statement and rolls it back."""
    return _aside(text, status, b"")


def _aside(text: bytes, status: int, mode: bytes) -> bytes:
    """The line end closes a comment that the text may end with."""
    limit = b"; ".join((*_TIMEOUTS, b""))
    if status == _OPEN:
        return codec.query(b"SAVEPOINT portcullis; " + limit + text + b"\n; " + _BACK)
    return codec.query(b"BEGIN" + mode + b"; " + limit + text + b"\n; ROLLBACK")


_TIMEOUTS = (b"SET LOCAL statement_timeout = %d" % _PATIENCE, b"SET LOCAL lock_timeout = %d" % _PATIENCE)
_BACK_STEPS = (b"ROLLBACK TO SAVEPOINT portcullis", b"RELEASE SAVEPOINT portcullis")
_BACK = b"; ".join(_BACK_STEPS)


def undo_query(status: int) -> bytes:
    """A Query that puts the transaction back as it was, after a question that failed."""
    return codec.query(_BACK if status == _OPEN else b"ROLLBACK")


def explain_messages(text: bytes, types: bytes, values: bytes) -> bytes:
    """The same question as Parse, Bind, Execute, Close and Flush, with the client's own values."""
    query = b"EXPLAIN (FORMAT JSON) " + text
    return flushed.question(query, types or b"\0\0", _without_result_formats(values)) + flushed.END


def count_messages(text: bytes, types: bytes, values: bytes, status: int) -> bytes:
    """Messages up to a Sync that run a bound statement in a transaction, or behind a savepoint, of the gate's
    own; `undo_messages` have to follow. No Query: that would take the client's unnamed statement away.
    """
    begin = (b"SAVEPOINT portcullis",) if status == _OPEN else (b"BEGIN",)
    return (
        b"".join(map(flushed.question, (*begin, *_TIMEOUTS)))
        + flushed.question(text, types or b"\0\0", _without_result_formats(values))
        + codec.message(b"S")
    )


def undo_messages(status: int) -> bytes:
    """Messages up to a Sync that put the transaction back as it was before `count_messages`."""
    texts = _BACK_STEPS if status == _OPEN else (b"ROLLBACK",)
    return flushed.CLOSE + b"".join(map(flushed.question, texts)) + codec.message(b"S")


class Counting(Answer):
    """The answer to a dry run: its tags count, the rows that it returns are let go."""

    def take(self, kind: bytes, body: bytes) -> bool:
        return False if kind in b"TD" else super().take(kind, body)


def _without_result_formats(values: bytes) -> bytes:
    it = codec.read_bind(b"\0\0" + values)
    return codec.bind(codec.Bind(b"", b"", it.formats, it.values, ()))[7:]


def planned_rows(answer: Answer) -> int | None:
    """The rows that the plan's changing node, or its top, is guessed to touch; None when it says nothing."""
    try:
        cell = next(row[0] for rows in answer.rows for row in rows if row and row[0])
        return _rows_of(json.loads(cell)[0]["Plan"])
    except (StopIteration, ValueError, LookupError, TypeError, struct.error):
        return None


def _rows_of(plan: dict[str, Any]) -> int:
    """ModifyTable itself returns no rows; what feeds it is what it changes."""
    if plan["Node Type"] == "ModifyTable":
        feeding = [part for part in plan.get("Plans", ()) if part.get("Parent Relationship") != "InitPlan"]
        return sum(int(part["Plan Rows"]) for part in feeding)
    return int(plan["Plan Rows"])


def counted_rows(answer: Answer) -> int | None:
    """The rows that the statement changed, by its command tag; None when it failed."""
    tags = [tag for tag in answer.tags if tag.split(b" ")[0] in (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")]
    return codec.command_rows(tags[-1]) if tags and not answer.failure else None
