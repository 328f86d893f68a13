"""Two readings of one text that must agree, or the text counts as unread."""

from __future__ import annotations

from dataclasses import dataclass

import pg_query
from google.protobuf.message import DecodeError

from proxy.sql import libpg, second
from proxy.sql.tree import Message, inner, kind, named, walk

# Statement kinds that both parsers must read alike; for all others see second.py.
COMPARED = {
    "select_stmt": "select",
    "insert_stmt": "insert",
    "update_stmt": "update",
    "delete_stmt": "delete",
    "merge_stmt": "merge",
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """One statement: its libpg_query node kind (`select_stmt`, ...) and tree."""

    kind: str
    tree: Message


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as read. `unread` says why it could not be (then there are no statements); `sqlstate` and, for
    a syntax error, `position` (in letters, from 1) go with it."""

    statements: tuple[Parsed, ...] = ()
    unread: str = ""
    sqlstate: str = ""
    position: int = 0


def parse(text: str) -> Reading:
    """Read a text that has passed the lexical gate. Never raises for any text."""
    try:
        result = libpg.parse(text)
    except pg_query.PgQueryError as error:
        return Reading(unread=error.message, sqlstate="42601", position=error.cursorpos)
    except (libpg.TooDeep, DecodeError, RecursionError):
        return Reading(unread="the statement nests deeper than the gate reads", sqlstate="54001")
    statements = tuple(Parsed(kind(raw.stmt), inner(raw.stmt)) for raw in result.stmts)
    if any(s.kind in COMPARED for s in statements):
        disagreement = _compare(text, statements)
        if disagreement:
            return Reading(unread=disagreement, sqlstate="42501")
    return Reading(statements)


def _compare(text: str, statements: tuple[Parsed, ...]) -> str:
    try:
        glances = second.glance(text)
    except second.Unreadable:
        return "a second parser cannot read the statement"
    if len(glances) != len(statements):
        return "two parsers count different numbers of statements in it"
    for ours, theirs in zip(statements, glances, strict=True):
        expected = COMPARED.get(ours.kind)
        if expected is None:
            continue
        if theirs.kind != expected:
            return "two parsers read different kinds of statement in it"
        if theirs.tables != base_tables(ours.tree):
            return "two parsers find different tables in it"
    return ""


def base_tables(tree: Message) -> frozenset[str]:
    """Names of the relations a statement mentions, without those that are its own WITH queries."""
    relations = []
    ctes = set()
    for message in walk(tree):
        name = named(message)
        if name == "RangeVar":
            relations.append(message)
        elif name == "CommonTableExpr":
            ctes.add(message.ctename)
    return frozenset(r.relname for r in relations if r.schemaname or r.relname not in ctes)
