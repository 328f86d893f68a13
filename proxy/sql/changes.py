"""Lineage of INSERT, UPDATE, DELETE and MERGE: what they return, and that nothing masked is stored in clear.

Each function gives the columns of RETURNING and raises Refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.sql.expressions import constant
from proxy.sql.scope import CLEAR, COMPARABLE, Columns, Item, Refused, Scope
from proxy.sql.scope import merge as combine
from proxy.sql.tree import Message, inner, kind, strings

if TYPE_CHECKING:
    from proxy.sql.lineage import Lineage

STORE = "Nothing masked may be stored where it could be read in clear."


def _target(lineage: Lineage, ref: Message) -> Item:
    return Item(ref.alias.aliasname or ref.relname, lineage.relation(ref), schemas=lineage.schemas(ref))


def _returned(lineage: Lineage, statement: Message, scope: Scope, target: Item) -> Columns:
    """RETURNING. From PostgreSQL 18 on, `old` and `new` are the target's row where nothing else is."""
    taken = {item.name for item in scope.items}
    rows = [Item(name, target.columns) for name in ("old", "new") if name not in taken]
    inside = Scope(scope.outer, scope.ctes, [*scope.items, *rows], scope.star)
    return lineage.targets(statement.returning_list, inside)


def insert(lineage: Lineage, statement: Message, outer: Scope | None) -> Columns:
    """INSERT, with ON CONFLICT."""
    scope = Scope(outer, lineage.with_queries(statement, outer))
    if kind(statement.select_stmt):
        lineage.store(lineage.query(inner(statement.select_stmt), scope))
    target = _target(lineage, statement.relation)
    if kind(statement.select_stmt):
        _stored(lineage, statement, target)
    scope.add([target], target.columns)
    if statement.HasField("on_conflict_clause"):
        clause = statement.on_conflict_clause
        # The row that was to be inserted: the client's own values.
        excluded = Item("excluded", [(name, CLEAR) for name, _ in target.columns])
        inside = Scope(scope.outer, scope.ctes, [*scope.items, excluded], scope.star)
        for element in clause.infer.index_elems:
            if kind(element.index_elem.expr):
                lineage.clear(element.index_elem.expr, scope, "ON CONFLICT")
        lineage.condition(clause.infer.where_clause, scope)
        _assign(lineage, clause.target_list, target, inside)
        lineage.condition(clause.where_clause, inside)
    return _returned(lineage, statement, scope, target)


def update(lineage: Lineage, statement: Message, outer: Scope | None) -> Columns:
    """UPDATE, with FROM."""
    scope = Scope(outer, lineage.with_queries(statement, outer))
    target = _target(lineage, statement.relation)
    scope.add([target], target.columns)
    lineage.from_clause(statement.from_clause, scope)
    _assign(lineage, statement.target_list, target, scope)
    lineage.condition(statement.where_clause, scope)
    return _returned(lineage, statement, scope, target)


def delete(lineage: Lineage, statement: Message, outer: Scope | None) -> Columns:
    """DELETE, with USING."""
    scope = Scope(outer, lineage.with_queries(statement, outer))
    target = _target(lineage, statement.relation)
    scope.add([target], target.columns)
    lineage.from_clause(statement.using_clause, scope)
    lineage.condition(statement.where_clause, scope)
    return _returned(lineage, statement, scope, target)


def merge(lineage: Lineage, statement: Message, outer: Scope | None) -> Columns:
    """MERGE: what it returns (PostgreSQL 17 has RETURNING) and stores."""
    scope = Scope(outer, lineage.with_queries(statement, outer))
    target = _target(lineage, statement.relation)
    scope.add([target], target.columns)
    lineage.from_clause([statement.source_relation], scope)
    lineage.condition(statement.join_condition, scope)
    for node in statement.merge_when_clauses:
        when = node.merge_when_clause
        lineage.condition(when.condition, scope)
        if not when.values:
            _assign(lineage, when.target_list, target, scope)
        names = [n.res_target.name for n in when.target_list] or [name for name, _ in target.columns]
        for name, value in zip(names, when.values, strict=False):
            lineage.clear(value, scope, "a value that is stored")
            if combine(target.named(name)) and not _given(value, ""):
                raise Refused(_MADE_UP.format(name), _GIVE)
    if "returning_list" not in statement.DESCRIPTOR.fields_by_name:  # PostgreSQL before 17
        return ()
    return _returned(lineage, statement, scope, target)


def _assign(lineage: Lineage, targets: Sequence[Message], table: Item, scope: Scope) -> None:
    """SET clauses: a masked value may move between rows of its own column only.

    In another masked column another method would show what its own hides.
    """
    for node in targets:
        target = node.res_target
        taint = lineage.value(target.val, scope) if kind(target.val) else CLEAR
        into = combine(table.named(target.name))
        stays = taint.origins == into.origins and taint.shape in COMPARABLE
        if taint and not (stays and kind(target.val) != "multi_assign_ref"):
            raise Refused(f'a masked column may not be copied into "{target.name}"', STORE)
        if into and not taint and not _given(target.val, target.name):
            raise Refused(_MADE_UP.format(target.name), _GIVE)


def _stored(lineage: Lineage, statement: Message, target: Item) -> None:
    """INSERT into a masked column: from values the client wrote down, see _MADE_UP."""
    names = [node.res_target.name for node in statement.cols] or [name for name, _ in target.columns]
    masked = [i for i, name in enumerate(names) if combine(target.named(name))]
    source = inner(statement.select_stmt)
    rows = [row.list.items for row in source.values_lists]
    if not rows and not source.HasField("larg") and not source.from_clause:
        rows = [[node.res_target.val for node in source.target_list]]
    for index in masked:
        if not rows or any(index < len(row) and not _given(row[index], "") for row in rows):
            raise Refused(_MADE_UP.format(names[index]), _GIVE)


# Values that a query makes up (generate_series, a table of candidates) and stores beside the real ones
# could be joined with them, and the join would tell each value. The client's own constants are guesses it
# already holds.
_MADE_UP = 'the masked column "{}" may be given constants and parameters only, not what a query computes'
_GIVE = "Send the values themselves (VALUES, parameters or COPY ... FROM STDIN)."


def _given(value: Message, column: str) -> bool:
    """A constant, DEFAULT, or in ON CONFLICT the very value that was to be inserted."""
    if kind(value) in ("", "set_to_default"):
        return True
    if kind(value) == "column_ref":
        return bool(column) and strings(value.column_ref.fields) == ("excluded", column)
    return constant(value)
