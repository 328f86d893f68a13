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
from proxy.sql.tree import Message, inner, kind, named, strings, walk, words
from proxy.sql.values import (
    between_shows_all,
    constant,
    covers_all,
    holds_nothing,
    is_written,
    shows_all,
    starts_at_nothing,
    truths,
)

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
        return not (reaches_out or _multiplies(query)) and all(level.tied(name) for name in level.names)

    def known(self, ref: Message) -> frozenset[str] | None:
        """The columns of a table; None where they are not known, as those of a WITH query."""
        return None if not ref.schemaname and ref.relname in self.ctes else self.knows(ref)

    def _few(self, query: Message) -> bool:
        limit = query.limit_count
        if query.limit_option == _WITH_TIES:
            return False
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
        # Columns of which an OR leaves nothing out.
        self._free: frozenset[str] = frozenset()

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
            if kind(where.null_test.arg) == "column_ref":  # a field of a document may be missing in all
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
        else:
            # An OR ties what each of its branches ties.
            branches = []
            opposed = self._free | self._opposed(expression)
            for argument in expression.args:
                branch = _Level(self.bounds)
                branch._free = opposed
                branch.names, branch._columns = list(self.names), dict(self._columns)
                branch._links = {name: set(others) for name, others in self._links.items()}
                branch.condition(argument)
                branches.append({name for name in self.names if name in branch._links and branch.tied(name)})
            for name in set.intersection(*branches):
                self.link(name, CONST)

    def _opposed(self, either: Message) -> frozenset[str]:
        """The columns of `x < 5 OR x >= 5`, `x OR NOT x`, of which they leave nothing out together."""
        seen: dict[str, set[str]] = {}
        for message in walk(either):
            if named(message) == "A_Expr" and (sides := _SIDES.get(strings(message.name)[-1])):
                for node, side in zip((message.lexpr, message.rexpr), sides, strict=True):
                    for ref in _columns(node):
                        seen.setdefault("".join(strings(ref.fields)[-1:]), set()).add(side)
            elif named(message) == "A_Expr" and strings(message.name)[-1] == "=":
                for node, other in ((message.lexpr, message.rexpr), (message.rexpr, message.lexpr)):
                    if kind(node) != "column_ref" or (found := truths(other)) is None:
                        continue
                    self.bounds.consulted = True
                    name = "".join(strings(node.column_ref.fields)[-1:])
                    seen.setdefault(name, set()).update("is" if truth else "not" for truth in found)
            elif named(message) in ("BoolExpr", "BooleanTest", "NullTest"):
                bare = message.args if named(message) == "BoolExpr" else [message.arg]
                for node in bare:
                    if kind(node) == "column_ref":
                        name = "".join(strings(node.column_ref.fields)[-1:])
                        seen.setdefault(name, set()).add(_how(message))
        return frozenset(
            name for name, how in seen.items() if {"upper", "lower"} <= how or {"is", "not"} <= how
        )

    def _comparison(self, expression: Message) -> None:
        operator = strings(expression.name)[-1]
        if expression.kind in _NEVER or operator not in _NARROWING:
            return
        if expression.kind == _OP_ALL and operator != "=":
            return
        if expression.kind == _OP_ANY and operator in _SIDES:
            return
        left, right = expression.lexpr, expression.rexpr
        if not self._dated(expression, operator):
            return
        if operator in _SIDES or expression.kind in _PATTERNS or operator in ("~", "~*", "~~", "~~*"):
            self.bounds.consulted = True
            if _open(left) or _open(right):
                return
            if starts_at_nothing(operator, right) or starts_at_nothing(_TURNED.get(operator, ""), left):
                return
            # A range up to what a query or another table says may be as wide as can be.
            if shows_all(operator, right) or not (is_written(left) or is_written(right)):
                return
            if expression.kind in _BETWEEN and between_shows_all(right):
                return
        if operator in _CONTAINS:
            self.bounds.consulted = True
            if holds_nothing(operator, right) or not _pinned(left):
                return
        elif kind(right) in ("list", "a_array_expr") or expression.kind in (_OP_ANY, _OP_ALL):
            if any(named(m) == "A_Const" and m.WhichOneof("val") == "sval" for m in walk(right)):
                self.bounds.consulted = True
            if covers_all(left, right):
                return
        self._compare(left, right)

    def _dated(self, expression: Message, operator: str) -> bool:
        """Whether a part of a date, if one is compared, says which rows are meant: a year does, and a month
        that is equal to one; every date has an hour below 24.
        """
        for side, other in (
            (expression.lexpr, expression.rexpr),
            (expression.rexpr, expression.lexpr),
        ):
            part = _part_of_date(side)
            if part is None:
                continue
            self.bounds.consulted = True
            if part not in _YEARS and (operator != "=" or expression.kind != _OP or part not in _DAYS):
                return False
            if part in ("year", "isoyear") and operator != "=":
                edges = list(other.list.items) if kind(other) == "list" else [other]
                years = [int(value) for edge in edges if (value := constant(edge) or "").isdigit()]
                if len(years) != len(edges) or not any(1970 < year < 2900 for year in years):
                    return False
        return True

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
        refs = [ref for ref in _pinned(node) if "".join(strings(ref.fields)[-1:]) not in self._free]
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
        elif how == _EXISTS and named(query) == "SelectStmt" and query.from_clause and not _collapses(query):
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
_OP, _OP_ANY, _OP_ALL = 1, 2, 3
_BETWEEN = (11, 13)  # BETWEEN, BETWEEN SYMMETRIC
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
# Parts that say which rows are meant in a range, and those that do where they are equal to one constant.
_YEARS = frozenset({"year", "isoyear", "epoch", "julian"})
_DAYS = frozenset({"month", "week", "day", "doy", "dow", "isodow", "quarter"})
# Types that keep a value as it is.
_KEEPING = words(
    """
    text varchar citext name int2 int4 int8 numeric float4 float8 oid uuid date timestamp timestamptz json
    jsonb tid inet
    """
)
_FIELDS = frozenset({"->", "->>", "#>>", "#>"})
# Functions in a SELECT list that give back one value for a row, or for many.
_SINGLE = ONE_ROW | words(
    """
    lower upper btrim ltrim rtrim concat left right substr substring length replace split_part date_trunc
    date date_part extract coalesce timezone now to_char row_number rank dense_rank array_agg string_agg
    first_value last_value lag lead abs round
    """
)


def _pinned(node: Message) -> list[Message]:
    """The columns that an expression pins down: the column itself, cast, folded, shifted by a constant, or a
    field of it. Empty for what could be equal whatever the column holds (`id * 0`)."""
    what = kind(node)
    if what == "column_ref":
        parts = strings(node.column_ref.fields)
        return [node.column_ref] if parts and parts[-1] not in _ALIKE else []
    if what == "type_cast":
        to = node.type_cast.type_name
        keeps = strings(to.names)[-1:] and strings(to.names)[-1] in _KEEPING
        return _pinned(node.type_cast.arg) if keeps and not (to.typmods or to.array_bounds) else []
    if what == "row_expr":
        return [ref for argument in node.row_expr.args for ref in _pinned(argument)[:1]]
    if what in ("func_call", "coalesce_expr"):
        call = inner(node)
        name = "coalesce" if what == "coalesce_expr" else strings(call.funcname)[-1]
        refs = [a for a in call.args if _columns(a)]
        if any(constant(argument) in _AGES for argument in call.args):
            return []
        if name == "coalesce" and any(_is_field(argument) for argument in call.args):
            return []  # a field of a document may be missing in all of them
        return _pinned(refs[0]) if name in _PINNING and len(refs) == 1 else []
    if what == "a_expr" and strings(node.a_expr.name)[-1] in ("+", "-", *_FIELDS):
        sides = [side for side in (node.a_expr.lexpr, node.a_expr.rexpr) if kind(side) and _columns(side)]
        return _pinned(sides[0]) if len(sides) == 1 else []
    return []


def _is_field(node: Message) -> bool:
    return any(named(m) == "A_Expr" and strings(m.name)[-1] in _FIELDS for m in walk(node))


def _part_of_date(node: Message) -> str | None:
    """Which part `extract` or `date_part` takes of a date; None for anything else."""
    for message in walk(node):
        if named(message) == "FuncCall" and strings(message.funcname)[-1] in ("extract", "date_part"):
            return (constant(message.args[0]) or "").lower() if message.args else ""
    return None


def _collapses(query: Message) -> bool:
    """Whether there may be one row where nothing was found: `SELECT count(*)`, GROUP BY ()."""
    if query.group_clause or kind(query.having_clause):
        return True
    return any(named(m) == "FuncCall" for target in query.target_list for m in walk(target))


def _multiplies(query: Message) -> bool:
    """Whether one row of its tables may become many: a function in the SELECT list may give back a set."""
    return any(
        named(m) == "FuncCall" and strings(m.funcname)[-1] not in _SINGLE
        for target in query.target_list
        for m in walk(target)
    )


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
