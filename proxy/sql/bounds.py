"""Whether something the client wrote down narrows what an UPDATE, DELETE or MERGE touches.

A statement is bounded when a chain of comparisons ties its target to a constant, a parameter (by equality),
the time, or a query that is itself narrow: `id = 5`, `s.id = t.id AND s.batch = $1`. It is not bounded by a
condition that says only which rows not (`<>`, NOT, IS NOT NULL), that compares a table with itself or with
another table whole, or that holds for nearly every value (`id > 0`, `LIKE '%'`). In doubt it is not bounded:
then it is held or refused where the policy asks for that, and whoever sent it can write it plainer. A range
of constants is otherwise taken at its word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.sql.free import looks_out
from proxy.sql.functions import FROM_ARGUMENTS, ONE_ROW
from proxy.sql.tree import Message, inner, kind, named, strings, walk
from proxy.sql.values import constant, covers_all, holds_nothing, is_written, shows_all, starts_at_nothing

MOST_ROWS = 10_000
"""A LIMIT up to this counts as a bound."""

CONST = "="
"""The node that stands for what the client wrote down. No table can have this name without quotes, and one
that has it is given another."""

Knows = Callable[[Message], frozenset[str] | None]
"""The column names of a RangeVar's table; None when they are not known."""


@dataclass(slots=True)
class Bounds:
    """Reads the statements of one text. `consulted` says that a constant's value decided something."""

    knows: Knows
    ctes: Mapping[str, Sequence[Message]]
    consulted: bool = False
    _busy: list[str] = field(default_factory=list)

    def bounded(self, statement: Message) -> bool | None:
        """None for a statement that has no rows to bound: an INSERT, a MERGE that only adds."""
        name = named(statement)
        if name == "InsertStmt":
            return self._insert(statement)
        if name == "MergeStmt":
            if not _changes(statement):
                return None
            others, where = [statement.source_relation], statement.join_condition
        else:
            others = list(statement.from_clause if name == "UpdateStmt" else statement.using_clause)
            where = statement.where_clause
        level = _Level(self)
        target = level.table(statement.relation)
        for node in others:
            level.source(node)
        level.condition(where)
        return level.tied(target)

    def _insert(self, statement: Message) -> bool | None:
        """ON CONFLICT DO UPDATE changes as many rows as it is given."""
        updates = statement.on_conflict_clause.target_list
        if not updates or not kind(statement.select_stmt):
            return None
        return self.narrow(inner(statement.select_stmt), ()) or False

    def narrow(self, query: Message, outer: Iterable[str]) -> bool:
        """Whether a query gives few rows, whatever the tables hold; `outer` are the names around it."""
        if named(query) != "SelectStmt":  # a data-modifying WITH query: as many as it touches
            return named(query) in ("UpdateStmt", "DeleteStmt") and self.bounded(query) is True
        if query.HasField("larg"):
            return self.narrow(query.larg, outer) and self.narrow(query.rarg, outer)
        if query.values_lists:
            return not any(named(m) in ("ColumnRef", "SubLink", "FuncCall") for m in walk(query))
        if (self._few(query) or _one_row(query)) and not (
            _mentions(query, outer) or looks_out(query, self.known)
        ):
            return True
        level = _Level(self)
        for node in query.from_clause:
            level.source(node)
        level.condition(query.where_clause)
        if not query.from_clause:
            return _written_down(query) and not any(named(m) == "ColumnRef" for m in walk(query))
        reaches_out = level.unknown_columns(query) or _mentions(query, set(outer) - set(level.names))
        return not reaches_out and all(level.tied(name) for name in level.names)

    def known(self, ref: Message) -> frozenset[str] | None:
        """The columns of a table; None where they are not known, as those of a WITH query."""
        return None if not ref.schemaname and ref.relname in self.ctes else self.knows(ref)

    def _few(self, query: Message) -> bool:
        limit = query.limit_count
        if query.limit_option == _WITH_TIES:
            return False
        if kind(limit) == "param_ref":
            return True
        if kind(limit) != "a_const" or limit.a_const.WhichOneof("val") != "ival":
            return False
        self.consulted = True
        return bool(limit.a_const.ival.ival <= MOST_ROWS)

    def with_query(self, name: str) -> bool:
        """Whether every WITH query of this name is narrow."""
        if name in self._busy or any(_calls_itself(name, query) for query in self.ctes[name]):
            return False
        self._busy.append(name)
        try:
            return all(self.narrow(query, ()) for query in self.ctes[name])
        finally:
            self._busy.pop()


class _Level:
    """The tables in sight of one condition, and which of them are tied to which."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.names: list[str] = []
        self._columns: dict[str, frozenset[str] | None] = {}
        self._links: dict[str, set[str]] = {CONST: set()}
        # Sources that give as many rows as they like: a comparison with them says nothing.
        self._loose: set[str] = set()

    # ---- sources

    def add(self, name: str, columns: frozenset[str] | None = None) -> str:
        while name in self._links or not name:
            name += "'"
        self.names.append(name)
        self._columns[name] = columns
        self._links[name] = set()
        return name

    def table(self, ref: Message) -> str:
        return self.add(
            ref.alias.aliasname or ref.relname, None if ref.alias.colnames else self.bounds.known(ref)
        )

    def source(self, node: Message) -> None:
        what = kind(node)
        item: Message = inner(node) if what else None
        if what == "range_var":
            name = self.table(item)
            if (
                not item.schemaname
                and item.relname in self.bounds.ctes
                and self.bounds.with_query(item.relname)
            ):
                self.link(name, CONST)
        elif what == "range_subselect":
            name = self.add(item.alias.aliasname)
            if self.bounds.narrow(inner(item.subquery), () if not item.lateral else self.names):
                self.link(name, CONST)
        elif what == "range_function":
            name = self.add(item.alias.aliasname)
            if _written_down(item) and not any(named(m) in ("ColumnRef", "SubLink") for m in walk(item)):
                self.link(name, CONST)
            else:
                self._loose.add(name)
        elif what == "join_expr":
            self.source(item.larg)
            self.source(item.rarg)
            if item.jointype == _INNER and kind(item.quals):
                self.condition(item.quals)
        else:  # TABLESAMPLE, XMLTABLE, JSON_TABLE: nothing is known of how much they give
            self._loose.add(self.add("?"))

    # ---- links

    def link(self, one: str, other: str) -> None:
        self._links[one].add(other)
        self._links[other].add(one)

    def tied(self, name: str) -> bool:
        seen, left = {name}, [name]
        while left:
            for other in self._links[left.pop()]:
                if other == CONST:
                    return True
                if other not in seen and other not in self._loose:
                    seen.add(other)
                    left.append(other)
        return False

    def owner(self, ref: Message) -> str | None:
        """The source of a column; None when that is not certain."""
        parts = strings(ref.fields)
        if len(parts) > 1:
            return parts[-2] if parts[-2] in self._columns else None
        if len(self.names) == 1 and self._columns[self.names[0]] is None:
            return self.names[0]
        having = [n for n, known in self._columns.items() if known is None or (parts and parts[-1] in known)]
        return having[0] if len(having) == 1 and self._columns[having[0]] is not None else None

    def unknown_columns(self, query: Message) -> bool:
        """Whether an unqualified column might belong to a query further out."""
        return any(
            len(strings(m.fields)) == 1 and self.owner(m) is None
            for m in walk(query)
            if named(m) == "ColumnRef"
        )

    # ---- conditions

    def condition(self, where: Message) -> None:
        what = kind(where)
        if what == "bool_expr":
            self._boolean(where.bool_expr)
        elif what == "a_expr":
            self._comparison(where.a_expr)
        elif what == "null_test" and where.null_test.nulltesttype == _IS_NULL:
            self._compare(where.null_test.arg, None)
        elif what == "boolean_test" and where.boolean_test.booltesttype in _IS_TRUE_OR_FALSE:
            self._compare(where.boolean_test.arg, None)
        elif what == "sub_link":
            self._sub_link(where.sub_link)
        elif what == "column_ref":
            self._compare(where, None)
        elif what == "current_of_expr":
            self.link(self.names[0], CONST)

    def _boolean(self, expression: Message) -> None:
        if expression.boolop == _AND:
            for argument in expression.args:
                self.condition(argument)
        elif expression.boolop == _NOT:
            if kind(expression.args[0]) == "column_ref":
                self.condition(expression.args[0])
        elif not self._opposed(expression):
            # An OR ties what each of its branches ties.
            branches = []
            for argument in expression.args:
                branch = _Level(self.bounds)
                branch.names, branch._columns = list(self.names), dict(self._columns)
                branch._links = {name: set(others) for name, others in self._links.items()}
                branch.condition(argument)
                branches.append({name for name in self.names if name in branch._links and branch.tied(name)})
            for name in set.intersection(*branches):
                self.link(name, CONST)

    def _opposed(self, either: Message) -> bool:
        """`x < 5 OR x >= 5`, `x OR NOT x`: together the branches leave nothing out."""
        seen: dict[tuple[str, ...], set[str]] = {}
        for message in walk(either):
            if named(message) == "A_Expr" and (sides := _SIDES.get(strings(message.name)[-1])):
                for node, side in zip((message.lexpr, message.rexpr), sides, strict=True):
                    for ref in _columns(node):
                        seen.setdefault(strings(ref.fields)[-1:], set()).add(side)
            elif named(message) in ("BoolExpr", "BooleanTest", "NullTest"):
                bare = message.args if named(message) == "BoolExpr" else [message.arg]
                for node in bare:
                    if kind(node) == "column_ref":
                        seen.setdefault(strings(node.column_ref.fields)[-1:], set()).add(_how(message))
        return any({"upper", "lower"} <= sides or {"is", "not"} <= sides for sides in seen.values())

    def _comparison(self, expression: Message) -> None:
        operator = strings(expression.name)[-1]
        if expression.kind in _NEVER or operator not in _NARROWING:
            return
        if expression.kind == _OP_ALL and operator != "=":
            return
        left, right = expression.lexpr, expression.rexpr
        if operator in _SIDES or expression.kind in _PATTERNS or operator in ("~", "~*", "~~", "~~*"):
            self.bounds.consulted = True
            if _open(left) or _open(right):
                return
            if starts_at_nothing(operator, right) or starts_at_nothing(_TURNED.get(operator, ""), left):
                return
            # A range up to what a query or another table says may be as wide as can be.
            if shows_all(right) or not (is_written(left) or is_written(right)):
                return
        if covers_all(right) or operator in _CONTAINS:
            self.bounds.consulted = True
            if operator not in _CONTAINS or holds_nothing(right) or not _pinned(left):
                return
        self._compare(left, right)

    def _compare(self, left: Message, right: Message | None) -> None:
        """Tie the sides of a comparison; right None stands for a constant."""
        for one, other in ((left, right), (right, left)):
            if one is None or (owners := self._owners(one)) is None:
                continue
            ties = {CONST} if other is None or self._constant(other) else self._owners(other)
            if ties is None or ties & owners:
                continue
            for owner in owners:
                for tie in ties if len(ties) == 1 else ():
                    self.link(owner, tie)

    def _owners(self, node: Message) -> set[str] | None:
        """The sources of an expression whose value pins a column down; None for any other."""
        refs = _pinned(node)
        if any(named(m) == "FuncCall" for m in walk(node)):
            self.bounds.consulted = True  # which part of a date decides
        if not refs:
            return None
        owners = {self.owner(ref) for ref in refs}
        return {owner for owner in owners if owner} if None not in owners else None

    def _constant(self, node: Message) -> bool:
        """Whether an expression depends on no row of the tables in sight."""
        links = [m for m in walk(node) if named(m) == "SubLink"]
        inside = [id(m) for link in links for m in walk(link)]
        if any(named(m) == "ColumnRef" and id(m) not in inside for m in walk(node)) and not links:
            return False
        if not links:
            return True
        return kind(node) == "sub_link" and self.bounds.narrow(inner(node.sub_link.subselect), self.names)

    def _sub_link(self, link: Message) -> None:
        how = link.sub_link_type
        query = inner(link.subselect)
        if how == _ANY and strings(link.oper_name) in ((), ("=",)):
            owners = self._owners(link.testexpr)
            if owners and self.bounds.narrow(query, self.names):
                for owner in owners:
                    self.link(owner, CONST)
        elif how == _EXISTS and named(query) == "SelectStmt" and query.from_clause:
            self._exists(query)

    def _exists(self, query: Message) -> None:
        """The inner tables stand beside ours: what ties them and joins them to ours ties ours."""
        inside = _Level(self.bounds)
        for node in query.from_clause:
            inside.source(node)
        if set(inside.names) & set(self.names):
            return
        merged = _Level(self.bounds)
        merged.names = [*self.names, *inside.names]
        merged._columns = {**self._columns, **inside._columns}
        merged._links = {name: set(others) for name, others in {**self._links, **inside._links}.items()}
        merged._links[CONST] = self._links[CONST] | inside._links[CONST]
        merged.condition(query.where_clause)
        for name in self.names:
            if merged.tied(name):
                self.link(name, CONST)


# pg_query's numbers of enum members (libpg_query's protobuf).
_AND, _OR, _NOT = 1, 2, 3
_INNER = 1
_IS_NULL = 1
_IS_TRUE_OR_FALSE = (1, 3)
_TRUE = (1, 4)  # IS TRUE, IS NOT FALSE
_EXISTS, _ANY = 1, 3
_WITH_TIES = 3  # as many rows as are equal to the last
_OP_ALL = 3
_NEVER = (4, 6, 12, 14)  # IS DISTINCT FROM, NULLIF, NOT BETWEEN, NOT BETWEEN SYMMETRIC
_PATTERNS = (8, 9, 10, 11, 13)  # LIKE, ILIKE, SIMILAR TO, BETWEEN, BETWEEN SYMMETRIC
_SIDES = {
    "<": ("upper", "lower"),
    "<=": ("upper", "lower"),
    ">": ("lower", "upper"),
    ">=": ("lower", "upper"),
}
_CONTAINS = frozenset({"@>", "&&", "@@", "^@", "?"})
_NARROWING = frozenset({"=", *_SIDES, "~", "~*", "~~", "~~*", "BETWEEN", "BETWEEN SYMMETRIC", *_CONTAINS})
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

# System columns that are alike in all rows, or nearly.
_ALIKE = frozenset({"tableoid", "xmin", "xmax", "cmin", "cmax"})
# Functions after which the value still says which row is meant.
_PINNING = frozenset(
    {"lower", "upper", "btrim", "date_trunc", "date", "date_part", "extract", "coalesce", "timezone"}
)
# Parts of a date that are alike for all of them.
_AGES = frozenset({"century", "millennium", "decade", "era"})


def _pinned(node: Message) -> list[Message]:
    """The columns that an expression pins down: the column itself, cast, folded, shifted by a constant, or a
    field of it. Empty for what could be equal whatever the column holds (`id * 0`)."""
    what = kind(node)
    if what == "column_ref":
        parts = strings(node.column_ref.fields)
        return [node.column_ref] if parts and parts[-1] not in _ALIKE else []
    if what == "type_cast":
        return _pinned(node.type_cast.arg)
    if what == "row_expr":
        return [ref for argument in node.row_expr.args for ref in _pinned(argument)[:1]]
    if what in ("func_call", "coalesce_expr"):
        call = inner(node)
        name = "coalesce" if what == "coalesce_expr" else strings(call.funcname)[-1]
        refs = [a for a in call.args if _columns(a)]
        if any(constant(argument) in _AGES for argument in call.args):
            return []
        return _pinned(refs[0]) if name in _PINNING and len(refs) == 1 else []
    if what == "a_expr" and strings(node.a_expr.name)[-1] in ("+", "-", "->", "->>", "#>>", "#>"):
        sides = [side for side in (node.a_expr.lexpr, node.a_expr.rexpr) if kind(side) and _columns(side)]
        return _pinned(sides[0]) if len(sides) == 1 else []
    return []


def _open(node: Message) -> bool:
    """Whether a parameter decides: a range or a pattern then is as wide as whoever sends it likes."""
    return any(named(m) == "ParamRef" for m in walk(node))


def _how(message: Message) -> str:
    """Which of its values a boolean column is asked for."""
    if named(message) == "NullTest":
        return "null"
    negative = message.boolop == _NOT if named(message) == "BoolExpr" else message.booltesttype not in _TRUE
    return "not" if negative else "is"


def _calls_itself(name: str, query: Message) -> bool:
    return any(named(m) == "RangeVar" and m.relname == name and not m.schemaname for m in walk(query))


def _columns(node: Message) -> list[Message]:
    return [m for m in walk(node) if named(m) == "ColumnRef"]


def _mentions(query: Message, names: Iterable[str]) -> bool:
    around = set(names)
    return any(
        len(parts) > 1 and parts[-2] in around
        for m in walk(query)
        if named(m) == "ColumnRef" and (parts := strings(m.fields))
    )


def _one_row(query: Message) -> bool:
    """An aggregate over everything: one row."""
    if query.group_clause or not query.target_list:
        return False
    return all(
        kind(t.res_target.val) == "func_call"
        and strings(t.res_target.val.func_call.funcname)[-1] in ONE_ROW
        and not t.res_target.val.func_call.HasField("over")
        for t in query.target_list
    )


def _written_down(message: Message) -> bool:
    """Whether the rows of a function, or of a SELECT without FROM, are the client's own values."""
    return all(strings(m.funcname)[-1] in FROM_ARGUMENTS for m in walk(message) if named(m) == "FuncCall")


def _changes(merge: Message) -> bool:
    return any(w.merge_when_clause.command_type in _UPDATE_OR_DELETE for w in merge.merge_when_clauses)


_UPDATE_OR_DELETE = (3, 5)
