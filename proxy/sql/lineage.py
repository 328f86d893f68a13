"""Which output columns of a statement derive from masked columns, by PostgreSQL's scoping rules.

Every node kind that is not known here or in expressions.py refuses the statement as soon as something masked
flows through it. Whatever reaches a place other than the output (a table, the order of rows, a message) is
refused too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from proxy.sql import changes
from proxy.sql.catalog import Catalog, Relation
from proxy.sql.expressions import Expressions
from proxy.sql.names import output_name
from proxy.sql.scope import (
    CLEAR,
    COMPARABLE,
    Columns,
    Item,
    Origin,
    Refused,
    Scope,
    Taint,
    alternatives,
    merge,
)
from proxy.sql.tree import Message, inner, kind, named, strings, walk


class Lineage:
    """Follows masked columns through one statement. Raises Refused where that cannot be done."""

    def __init__(
        self, catalog: Catalog, masked: Container[Origin], computed: Container[Origin] = frozenset()
    ) -> None:
        self.catalog = catalog
        self.masked = masked
        self.computed = computed  # masked columns of views that hold more than one base column's value
        self.cut_off = False  # only some of the rows are asked for: then the server sorts rather than hashes
        self.expressions = Expressions(self)
        self.value = self.expressions.value
        self.clear = self.expressions.clear
        self.condition = self.expressions.condition

    # --- names --------------------------------------------------------------------------------------------

    def is_foreign_function(self, parts: tuple[str, ...]) -> bool:
        """Whether the name may be a function outside pg_catalog: it may do anything with its arguments."""
        return self.catalog.is_foreign_function(parts)

    def is_foreign_operator(self, parts: tuple[str, ...]) -> bool:
        """The same for operators; those of trusted extensions compute from their operands only."""
        return self.catalog.is_foreign_operator(parts)

    def is_relation(self, parts: tuple[str, ...]) -> bool:
        """Whether a type's name is that of a relation's rows."""
        return bool(self.catalog.find("", parts[-1]))

    def relation(self, ref: Message) -> list[tuple[str, Taint]]:
        """The columns of a table by name. Where the name may mean several, each column is what it may be in
        any."""
        found = self.catalog.find(ref.schemaname, ref.relname)
        if not found:
            raise unknown_relation(ref)
        candidates = [self._columns(relation) for relation in found]
        if len(candidates) == 1 or not any(t for columns in candidates for _, t in columns):
            return candidates[0]
        if len({tuple(name for name, _ in columns) for columns in candidates}) > 1:
            raise Refused(
                f'several schemas have a table "{ref.relname}", and one of them has masked columns',
                f"Write its schema: {found[0].full_name}.",
            )
        return [
            (same[0][0], alternatives([t for _, t in same if t] or [CLEAR]))
            for same in zip(*candidates, strict=True)
        ]

    def _columns(self, relation: Relation) -> list[tuple[str, Taint]]:
        return [(c.name, self._taint((relation.oid, c.number))) for c in relation.columns]

    def _taint(self, origin: Origin) -> Taint:
        if origin not in self.masked:
            return CLEAR
        return Taint(frozenset({origin}), "mixed" if origin in self.computed else "plain")

    # --- queries ------------------------------------------------------------------------------------------

    def query(self, node: Message, outer: Scope | None) -> Columns:
        """The output columns of a SELECT, or of the RETURNING of a statement that changes data."""
        name = named(node)
        if name == "SelectStmt":
            return self._select(node, outer)
        if name == "InsertStmt":
            return changes.insert(self, node, outer)
        if name == "UpdateStmt":
            return changes.update(self, node, outer)
        if name == "DeleteStmt":
            return changes.delete(self, node, outer)
        if name == "MergeStmt":
            return changes.merge(self, node, outer)
        raise Refused(f"the gate cannot follow masked columns through {name}")

    def _select(self, select: Message, outer: Scope | None) -> Columns:
        before = self.cut_off
        # Rows that are sorted by something else are computed all the same.
        self.cut_off = (before or bool(kind(select.limit_count))) and not _is_sorted(select)
        columns = self._selected(select, outer)
        self.cut_off = before
        return columns

    def _selected(self, select: Message, outer: Scope | None) -> Columns:
        scope = Scope(outer, self.with_queries(select, outer))
        if select.HasField("larg"):
            columns = self._set_operation(select, scope)
        elif select.values_lists:
            columns = self._values(select, scope)
        else:
            columns = self._plain_select(select, scope)
        self._order(select.sort_clause, columns, scope)
        self.clear(select.limit_count, scope, "LIMIT")
        self.clear(select.limit_offset, scope, "OFFSET")
        if select.HasField("into_clause"):
            self.store(columns)
        return columns

    def store(self, columns: Columns) -> None:
        """Require that no masked column is among those that are written somewhere."""
        for name, taint in columns or ():
            if taint:
                raise Refused(f'a masked column (as "{name}") may not be copied into a table', changes.STORE)

    def _plain_select(self, select: Message, scope: Scope) -> Columns:
        self.from_clause(select.from_clause, scope)
        self.condition(select.where_clause, scope)
        columns = self.targets(select.target_list, scope)
        for node in select.group_clause:
            taints = [taint for taint in self._by_position_or_name(node, columns, scope) if taint]
            if any(taint.shape not in COMPARABLE for taint in taints):
                raise Refused(
                    "rows may be grouped by a masked column itself, not by what is computed from it"
                )
            if taints and (self.cut_off or kind(node) == "grouping_set"):
                raise sorted_by("GROUP BY with LIMIT, a cursor or several groupings")
        self.condition(select.having_clause, scope)
        for window in select.window_clause:
            self.expressions.window(window.window_def, scope)
        self._distinct(select.distinct_clause, columns, scope)
        return columns

    def _distinct(self, clause: Sequence[Message], columns: Columns, scope: Scope) -> None:
        named_keys = [node for node in clause if kind(node)]
        for node in named_keys:
            if any(self._by_position_or_name(node, columns, scope)):
                raise sorted_by("DISTINCT ON")
        if clause and not named_keys:
            self._require_plain(taint for _, taint in columns or ())
            if self.cut_off and any(taint for _, taint in columns or ()):
                raise sorted_by("DISTINCT with LIMIT or a cursor")

    def _require_plain(self, taints: Iterable[Taint]) -> None:
        if any(t and t.shape not in COMPARABLE for t in taints):
            raise Refused("DISTINCT may see a masked column itself, not something computed from it")

    def _by_position_or_name(self, node: Message, columns: Columns, scope: Scope) -> list[Taint]:
        """What a GROUP BY, ORDER BY or DISTINCT ON key means: an output column by number or name, an
        expression."""
        if kind(node) == "a_const" and node.a_const.HasField("ival"):
            position = node.a_const.ival.ival
            if columns is None:
                return [CLEAR]
            return [columns[position - 1][1]] if 0 < position <= len(columns) else [CLEAR]
        if kind(node) == "grouping_set":
            return [
                t
                for part in node.grouping_set.content
                for t in self._by_position_or_name(part, columns, scope)
            ]
        if kind(node) == "row_expr":
            return [self.value(part, scope) for part in node.row_expr.args]
        name = strings(node.column_ref.fields) if kind(node) == "column_ref" else ()
        outputs = [t for column, t in columns or () if len(name) == 1 and column == name[0]]
        try:
            return [*outputs, self.value(node, scope)]
        except Refused:
            if outputs:
                return outputs
            raise

    def _order(self, clause: Sequence[Message], columns: Columns, scope: Scope) -> None:
        for sort in clause:
            if any(self._by_position_or_name(sort.sort_by.node, columns, scope)):
                raise Refused(
                    "rows may not be ordered by a masked column: their order tells its value",
                    "Order by another column, or sort on your side.",
                )

    def _set_operation(self, select: Message, scope: Scope) -> Columns:
        left, right = self._select(select.larg, scope), self._select(select.rarg, scope)
        if left is None or right is None:
            self._no_masked(left, right)
            return None
        if len(left) != len(right):
            raise Refused("the two sides of a set operation differ in columns", sqlstate="42601")
        columns = tuple((name, _union(a, b)) for (name, a), (_, b) in zip(left, right, strict=True))
        union_all = select.DESCRIPTOR.fields_by_name["op"].enum_type.values_by_name["SETOP_UNION"].number
        if not (select.op == union_all and select.all) and any(t for _, t in columns):
            raise Refused(
                "UNION, INTERSECT and EXCEPT compare masked values with others",
                "Use UNION ALL, or leave it out.",
            )
        return columns

    def _no_masked(self, *several: Columns) -> None:
        if any(t for columns in several for _, t in columns or ()):
            raise Refused("the gate cannot count the columns of the result, and one of them is masked")

    def _values(self, select: Message, scope: Scope) -> Columns:
        rows = [[self.value(item, scope) for item in row.list.items] for row in select.values_lists]
        width = max(len(row) for row in rows)
        return tuple((f"column{i + 1}", merge(r[i] for r in rows if i < len(r))) for i in range(width))

    def targets(self, targets: Sequence[Message], scope: Scope) -> Columns:
        columns: list[tuple[str, Taint]] = []
        countable = True
        for target in targets:
            value = target.res_target.val
            expanded = self._star(value, scope)
            if expanded is None:
                columns.append((target.res_target.name or output_name(value), self.value(value, scope)))
            else:
                columns += expanded[0]
                countable = countable and expanded[1]
        if countable:
            return tuple(columns)
        self._no_masked(tuple(columns))
        return None

    def _star(self, value: Message, scope: Scope) -> tuple[list[tuple[str, Taint]], bool] | None:
        """The expansion of `*`, `u.*` or `(x).*`, and whether its number of columns is known; None for
        others."""
        if kind(value) == "column_ref" and kind(value.column_ref.fields[-1]) == "a_star":
            parts = strings(value.column_ref.fields)
            if not parts:
                return scope.star, scope.countable
            item = scope.item(parts[-1], parts[-2] if len(parts) > 1 else "")
            return item.columns, not item.open
        if kind(value) == "a_indirection" and kind(value.a_indirection.indirection[-1]) == "a_star":
            if self.value(value.a_indirection.arg, scope):
                raise Refused("the gate cannot follow a masked row through (...).*", "Name the columns.")
            return [], False
        return None

    # --- WITH ---------------------------------------------------------------------------------------------

    def with_queries(self, statement: Message, outer: Scope | None) -> dict[str, Columns]:
        ctes = dict(outer.ctes) if outer else {}
        if not statement.HasField("with_clause"):
            return ctes
        for node in statement.with_clause.ctes:
            cte = node.common_table_expr
            if cte.HasField("search_clause") or cte.HasField("cycle_clause"):
                raise Refused("the gate cannot follow masked columns through SEARCH or CYCLE")
            names = strings(cte.aliascolnames)
            query = inner(cte.ctequery)
            if statement.with_clause.recursive:
                _no_forward_reference(statement.with_clause, cte)
            if statement.with_clause.recursive and named(query) == "SelectStmt" and query.HasField("larg"):
                ctes[cte.ctename] = self._recursive(query, cte.ctename, names, outer, ctes)
            else:
                ctes[cte.ctename] = _renamed(self.query(query, Scope(outer, ctes)), names)
        return ctes

    def _recursive(
        self, query: Message, name: str, names: tuple[str, ...], outer: Scope | None, ctes: dict[str, Columns]
    ) -> Columns:
        """A recursive query: what flows in grows until nothing changes."""
        inside = Scope(outer, {**ctes, **self.with_queries(query, Scope(outer, ctes))})
        columns = _renamed(self._select(query.larg, inside), names)
        while True:
            inside = Scope(outer, {**inside.ctes, name: columns})
            grown = _renamed(self._set_operation(query, inside), names)
            if grown is None or columns is None:
                self._no_masked(grown, columns)
                return None
            grown = tuple((n, _union(a, b)) for (n, a), (_, b) in zip(grown, columns, strict=True))
            if grown == columns:
                self._order(query.sort_clause, grown, inside)
                self.clear(query.limit_count, inside, "LIMIT")
                self.clear(query.limit_offset, inside, "OFFSET")
                return grown
            columns = grown

    # --- FROM ---------------------------------------------------------------------------------------------

    def from_clause(self, clause: Sequence[Message], scope: Scope) -> None:
        for node in clause:
            scope.add(*self._from_item(node, scope))

    def _from_item(self, node: Message, scope: Scope) -> tuple[list[Item], list[tuple[str, Taint]]]:
        name = kind(node)
        if name == "join_expr":
            return self._join(node.join_expr, scope)
        if name == "range_var":
            item = self._table(node.range_var, scope)
        elif name == "range_subselect":
            item = self._subselect(node.range_subselect, scope)
        elif name == "range_table_sample":
            sample = node.range_table_sample
            for argument in (*sample.args, sample.repeatable):
                self.clear(argument, scope, "TABLESAMPLE")
            return self._from_item(sample.relation, scope)
        elif name in ("range_function", "range_table_func", "json_table"):
            item = self._function(node, scope)
        else:
            raise Refused(f"the gate cannot follow masked columns through {name} in FROM")
        return [item], item.columns

    def _table(self, ref: Message, scope: Scope) -> Item:
        name = ref.alias.aliasname or ref.relname
        schemas: frozenset[str] = frozenset()
        if not ref.schemaname and ref.relname in scope.ctes:
            columns = scope.ctes[ref.relname]
        else:
            columns = tuple(self.relation(ref))
            schemas = self.schemas(ref)
        renamed = _renamed(columns, strings(ref.alias.colnames))
        return Item(name, list(renamed or ()), open=renamed is None, schemas=schemas)

    def schemas(self, ref: Message) -> frozenset[str]:
        """The schemas that a table may stand in, as a column's full name has them; none under an alias."""
        if ref.alias.aliasname:
            return frozenset()
        found = {relation.schema for relation in self.catalog.find(ref.schemaname, ref.relname)}
        return frozenset({*found, ref.schemaname} - {""})

    def _subselect(self, sub: Message, scope: Scope) -> Item:
        # Only LATERAL sees what stands before it in the same FROM.
        outer = scope if sub.lateral else Scope(scope.outer, scope.ctes)
        columns = _renamed(self.query(inner(sub.subquery), outer), strings(sub.alias.colnames))
        return Item(sub.alias.aliasname, list(columns or ()), open=columns is None)

    def _function(self, node: Message, scope: Scope) -> Item:
        if (options := self._options(node, scope)) is not None:
            return options
        if merge(self.expressions._children(inner(node), scope)):
            raise Refused(
                "a masked column may not feed a function in FROM: the number of rows tells its value"
            )
        alias = inner(node).alias
        name = alias.aliasname
        if not name and kind(node) == "range_function":
            call = inner(node).functions[0].list.items[0]
            name = output_name(call)
        columns = [(column, CLEAR) for column in strings(alias.colnames)]
        return Item(name, columns or [(name, CLEAR)], open=True)

    def _options(self, node: Message, scope: Scope) -> Item | None:
        """pg_options_to_table over a masked column, as pg_dump asks for it: the options' names are clear."""
        if kind(node) != "range_function" or len(node.range_function.functions) != 1:
            return None
        call = node.range_function.functions[0].list.items[0]
        if kind(call) != "func_call" or strings(call.func_call.funcname)[-1] != "pg_options_to_table":
            return None
        taint = merge(self.value(argument, scope) for argument in call.func_call.args)
        alias = node.range_function.alias
        if not taint or alias.colnames:
            return None
        columns = [("option_name", CLEAR), ("option_value", replace(taint, shape="mixed"))]
        return Item(alias.aliasname or "pg_options_to_table", columns)

    def _join(self, join: Message, scope: Scope) -> tuple[list[Item], list[tuple[str, Taint]]]:
        left_items, left = self._from_item(join.larg, scope)
        beside = Scope(scope.outer, scope.ctes, [*scope.items, *left_items], [*scope.star, *left])
        right_items, right = self._from_item(join.rarg, beside)
        items = [*left_items, *right_items]
        shared = list(strings(join.using_clause))
        if join.is_natural:
            if any(item.open for item in items) and any(item.row() for item in items):
                raise Refused("the gate cannot tell which columns a NATURAL JOIN joins", "Use JOIN ... ON.")
            right_names = {name for name, _ in right}
            shared = [name for name, _ in left if name in right_names]
        star = [(name, self._joined(name, left, right)) for name in shared]
        star += [(name, taint) for name, taint in (*left, *right) if name not in shared]
        if kind(join.quals):
            inside = Scope(scope.outer, scope.ctes, [*scope.items, *items], [*scope.star, *star])
            self.condition(join.quals, inside)
        if join.HasField("join_using_alias"):
            items.append(Item(join.join_using_alias.aliasname, star[: len(shared)]))
        if not join.HasField("alias"):
            return items, star
        is_open = any(item.open for item in items)
        columns = list(_renamed(tuple(star), strings(join.alias.colnames)) or ())
        return [Item(join.alias.aliasname, columns, is_open)], columns

    def _joined(
        self, name: str, left: Sequence[tuple[str, Taint]], right: Sequence[tuple[str, Taint]]
    ) -> Taint:
        """A column merged by USING or NATURAL: masked on both sides or on none."""
        ours = [t for n, t in left if n == name] or [CLEAR]
        theirs = [t for n, t in right if n == name] or [CLEAR]
        both = [*ours, *theirs]
        if any(both) and not all(t and t.shape in COMPARABLE for t in both):
            raise Refused(f'joining on "{name}" compares a masked column with one that is not')
        return alternatives(both)


def _is_sorted(select: Message) -> bool:
    """Whether rows are put in an order that a row decides: ORDER BY a constant is none."""
    outputs = [target.res_target for target in select.target_list]
    for sort in select.sort_clause:
        key = sort.sort_by.node
        if kind(key) == "a_const":
            at = key.a_const.ival.ival
            key = outputs[at - 1].val if 0 < at <= len(outputs) else key
        elif kind(key) == "column_ref":
            name = strings(key.column_ref.fields)
            key = next((output.val for output in outputs if (output.name,) == name), key)
        if any(named(m) == "ColumnRef" or (named(m) == "FuncCall" and m.agg_star) for m in walk(key)):
            return True
    return False


def sorted_by(what: str) -> Refused:
    """The error for what the server sorts by a masked column."""
    return Refused(
        f"a masked column may not be used in {what}: the server sorts by it, and the order tells its value",
        "GROUP BY and DISTINCT may use it without them, or with ORDER BY something that has no mask.",
    )


def unknown_relation(ref: Message) -> Refused:
    """The error for a table that the picture of the catalog does not have (the gate refreshes, then asks
    again)."""
    name = f"{ref.schemaname}.{ref.relname}" if ref.schemaname else ref.relname
    return Refused(f'relation "{name}" does not exist as far as the gate knows', sqlstate="42P01")


def _union(one: Taint, other: Taint) -> Taint:
    """A column that holds values of two queries: beside clear ones, a masked value is no plain one any
    more."""
    return alternatives((one, other)) if one and other else merge((one, other))


def _no_forward_reference(clause: Message, cte: Message) -> None:
    """WITH RECURSIVE lets a query use a later one's name, which would be read as a table's here."""
    names = [node.common_table_expr.ctename for node in clause.ctes]
    later = set(names[names.index(cte.ctename) + 1 :])
    for message in walk(cte.ctequery):
        if named(message) == "RangeVar" and not message.schemaname and message.relname in later:
            raise Refused(
                f'the WITH query "{cte.ctename}" uses a later one',
                "Put the WITH queries in the order of their use.",
            )


def _renamed(columns: Columns, names: tuple[str, ...]) -> Columns:
    if columns is None:
        return None
    return tuple((names[i] if i < len(names) else name, taint) for i, (name, taint) in enumerate(columns))
