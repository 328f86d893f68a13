"""What flows through an expression, and which uses of a masked value tell too much.

`value` gives the taint of an expression's result and refuses what computes on a masked value in a way that
can fail or be timed. `condition` accepts an expression that decides whether rows appear: on masked values
only equality with a constant, with another masked column, and NULL tests; everything else (LIKE, <,
substr(...) = 'a', ORDER BY) would give the value away bit by bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from proxy.sql import functions
from proxy.sql.scope import CLEAR, COMPARABLE, Columns, Refused, Scope, Taint, merge
from proxy.sql.tree import Message, inner, kind, strings, words
from proxy.sql.values import constant as written

_LEAVES = words(
    "a_const param_ref sqlvalue_function set_to_default current_of_expr integer float boolean string "
    "bit_string grouping_func type_name"
)
_GATHERED = words("min_max_expr row_expr a_array_expr list named_arg_expr")
_TEXT_TYPES = frozenset({"text", "varchar"})
_EQUALITY = frozenset({"=", "<>", "!="})
_COMPARISONS = words("AEXPR_OP AEXPR_IN AEXPR_OP_ANY AEXPR_OP_ALL AEXPR_DISTINCT AEXPR_NOT_DISTINCT")
# Expressions visited for one statement; nested recursive queries are read several times.
_BUDGET = 200_000

_SHIELD = (
    "Compare it with = or IN and a value you already know, or leave it out of this part of the statement."
)


class Queries(Protocol):
    """What expressions need of lineage.Lineage: subqueries and names of functions and operators."""

    def query(self, node: Message, scope: Scope) -> Columns: ...

    def is_foreign_function(self, parts: tuple[str, ...]) -> bool: ...

    def is_foreign_operator(self, parts: tuple[str, ...]) -> bool: ...

    def is_relation(self, parts: tuple[str, ...]) -> bool: ...


# One side of a comparison: taint and whether the client wrote it down, for each element.
Operand = list[tuple[Taint, bool]]


def _operator(expression: Message) -> str:
    parts = strings(expression.name)
    return parts[-1] if parts else ""


class Expressions:
    """The rules over expressions; one instance a statement."""

    def __init__(self, queries: Queries) -> None:
        self.queries = queries
        self.budget = _BUDGET
        self.measured = False
        """The client will learn how much memory each step took (EXPLAIN ANALYZE)."""

    # --- values -------------------------------------------------------------------------------------------

    def value(self, node: Message, scope: Scope) -> Taint:
        """The taint of the expression's result. Raises Refused."""
        self.budget -= 1
        if self.budget < 0:
            raise Refused("the statement is too involved to follow its masked columns", sqlstate="54001")
        name = kind(node)
        if name == "" or name in _LEAVES:
            return CLEAR
        handler = getattr(self, f"_{name}", None)
        if handler is not None:
            taint: Taint = handler(inner(node), scope)
        elif name in _GATHERED:
            taint = replace(merge(self._children(inner(node), scope)), shape="mixed")
        else:
            taint = self._unknown(name, node, scope)
        if self.measured and taint and taint.shape == "mixed" and name != "column_ref":
            raise Refused(
                "EXPLAIN ANALYZE may not compute anything from a masked column: the memory that it reports"
                " tells about the value",
                "Leave ANALYZE out, or what is computed.",
            )
        return taint

    def _unknown(self, name: str, node: Message, scope: Scope) -> Taint:
        taint = merge(self._children(inner(node), scope))
        if taint:
            raise Refused(f"the gate cannot follow a masked column through {name.replace('_', ' ')}")
        return CLEAR

    def _children(self, message: Message, scope: Scope) -> list[Taint]:
        """Taints of every expression right below a message, through helper messages that are no
        expressions."""
        found: list[Taint] = []
        for field, content in message.ListFields():
            if field.type != field.TYPE_MESSAGE:
                continue
            for child in content if field.is_repeated else (content,):
                if child.DESCRIPTOR.name == "Node":
                    found.append(self.value(child, scope))
                elif child.DESCRIPTOR.name == "SelectStmt":
                    found += [taint for _, taint in self.queries.query(child, scope) or ()]
                else:
                    found += self._children(child, scope)
        return found

    def clear(self, node: Message, scope: Scope, what: str) -> None:
        """Require that nothing masked flows into the expression. `what` names the place for the message."""
        if self.value(node, scope):
            raise Refused(f"a masked column may not be used in {what}", _SHIELD)

    def _column_ref(self, ref: Message, scope: Scope) -> Taint:
        parts = strings(ref.fields)
        if len(parts) < len(ref.fields):  # a star: u.* or * inside a function call or ROW(...)
            if parts:
                return scope.item(parts[-1], parts[-2] if len(parts) > 1 else "").row()
            merged = merge(taint for _, taint in scope.star)
            return replace(merged, shape="row") if merged else CLEAR
        if len(parts) == 1:
            return scope.unqualified(parts[0])
        return scope.qualified(parts[-2], parts[-1], parts[-3] if len(parts) > 2 else "")

    def _type_cast(self, cast: Message, scope: Scope) -> Taint:
        taint = self.value(cast.arg, scope)
        if not taint:
            return CLEAR
        parts = strings(cast.type_name.names)
        harmless = parts[-1] in _TEXT_TYPES and not cast.type_name.typmods and not cast.type_name.array_bounds
        if taint.shape == "row" and self.queries.is_relation(parts):
            return taint  # u.*::users, as views write a whole row
        if not harmless:
            raise Refused(
                f"a cast of a masked column to {parts[-1]} may fail with its value in the message",
                "Cast it to text, or leave the cast out.",
            )
        return taint if taint.shape in COMPARABLE else replace(taint, shape="mixed")

    def _collate_clause(self, clause: Message, scope: Scope) -> Taint:
        return replace(self.value(clause.arg, scope), shape="mixed")

    def _a_indirection(self, node: Message, scope: Scope) -> Taint:
        for step in node.indirection:
            if kind(step) == "a_indices":
                self.clear(step.a_indices.lidx, scope, "a subscript")
                self.clear(step.a_indices.uidx, scope, "a subscript")
        field = self._field_of_row(node, scope)
        return field if field is not None else replace(self.value(node.arg, scope), shape="mixed")

    def _field_of_row(self, node: Message, scope: Scope) -> Taint | None:
        """The column behind `(u).email` where `u` names something in FROM; None when it is anything else."""
        if kind(node.arg) != "column_ref" or len(node.indirection) != 1:
            return None
        names, fields = strings(node.arg.column_ref.fields), strings(node.indirection)
        if len(names) != 1 or len(fields) != 1:
            return None
        if any(name == names[0] for level in scope.levels() for name, _ in level.star):
            return None  # a composite column of that name comes first
        return scope.qualified(names[0], fields[0])

    def _a_expr(self, expression: Message, scope: Scope) -> Taint:
        how = _enum(expression, "kind")
        left = self._operand(expression.lexpr, scope)
        rights = [self._operand(node, scope) for node in _alternatives(expression.rexpr, how)]
        taint = merge(t for operand in (left, *rights) for t, _ in operand)
        if not taint:
            return CLEAR
        operator, parts = _operator(expression), strings(expression.name)
        if self.queries.is_foreign_operator(parts):
            raise Refused(f'the gate does not know the operator "{operator}"')
        if how in _COMPARISONS and operator in _EQUALITY and all(_fair(left, right) for right in rights):
            return CLEAR  # a guess the client already holds, answered with yes or no
        total = how in ("AEXPR_OP", "AEXPR_IN", "AEXPR_NULLIF", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT")
        total = total and operator in functions.TOTAL_OPERATORS
        if not (total or how.startswith(("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"))):
            raise Refused(f'"{operator}" on a masked column can tell about its value', _SHIELD)
        self._decided_early(expression, how)
        return taint

    def _decided_early(self, expression: Message, how: str) -> None:
        """`a BETWEEN b AND c`, `a IN (b, c)` and a comparison of rows end at the part that decides."""
        left, right = expression.lexpr, expression.rexpr
        if how in ("AEXPR_OP", "AEXPR_NULLIF", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT"):
            if kind(left) == "row_expr" or kind(right) == "row_expr":
                _late([*_elements(left)[1:], *_elements(right)[1:]])
        else:
            _late([*_elements(left)[1:], *_elements(right)])

    def _coalesce_expr(self, expression: Message, scope: Scope) -> Taint:
        taints = [self.value(part, scope) for part in expression.args]
        first = next((i for i, taint in enumerate(taints) if taint and taint.shape == "mixed"), len(taints))
        _late(expression.args[first + 1 :])
        return replace(merge(taints), shape="mixed")

    def _operand(self, node: Message, scope: Scope) -> Operand:
        """The taints of one side of a comparison, element by element for a row, each evaluated once."""
        parts = node.row_expr.args if kind(node) == "row_expr" else [node]
        return [(self.value(part, scope), constant(part)) for part in parts]

    def _bool_expr(self, expression: Message, scope: Scope) -> Taint:
        # AND and OR stop early: a masked operand would decide whether the next one is evaluated, and fails.
        for argument in expression.args:
            self.condition(argument, scope)
        return CLEAR

    def _null_test(self, test: Message, scope: Scope) -> Taint:
        taint = self.value(test.arg, scope)
        if taint and taint.shape == "mixed":
            raise Refused(
                "a NULL test of something computed from a masked column can tell its value", _SHIELD
            )
        return CLEAR

    def _boolean_test(self, test: Message, scope: Scope) -> Taint:
        taint = self.value(test.arg, scope)
        if taint and taint.shape not in COMPARABLE:
            raise Refused("a test of something computed from a masked column can tell its value", _SHIELD)
        return CLEAR

    def _case_expr(self, case: Message, scope: Scope) -> Taint:
        results = [self.value(case.defresult, scope)]
        tested = self._operand(case.arg, scope) if kind(case.arg) else None
        for when in case.args:
            when = when.case_when
            if tested is None:
                self.condition(when.expr, scope)
            elif not _fair(tested, self._operand(when.expr, scope)):
                raise Refused("CASE may compare a masked column with constants only", _SHIELD)
            results.append(self.value(when.result, scope))
        return replace(merge(results), shape="mixed")

    def _multi_assign_ref(self, ref: Message, scope: Scope) -> Taint:
        return self.value(ref.source, scope)

    def _sub_link(self, link: Message, scope: Scope) -> Taint:
        how = _enum(link, "sub_link_type")
        columns = self.queries.query(inner(link.subselect), scope)
        if how == "EXISTS_SUBLINK":
            return CLEAR
        if how == "EXPR_SUBLINK" and columns is not None and len(columns) == 1:
            return columns[0][1]
        taint = merge(t for _, t in columns or ())
        if how not in ("ANY_SUBLINK", "ALL_SUBLINK"):
            return taint
        tested = self._operand(link.testexpr, scope)
        if not taint and not any(t for t, _ in tested):
            return CLEAR
        operator = strings(link.oper_name)
        equality = not operator or (
            operator[-1] in _EQUALITY and not self.queries.is_foreign_operator(operator)
        )
        if not equality or not _fair(tested, [(t, False) for _, t in columns or ()]):
            raise Refused("a masked column may be looked for in a subquery of masked columns only", _SHIELD)
        return CLEAR

    # --- functions ----------------------------------------------------------------------------------------

    def _func_call(self, call: Message, scope: Scope) -> Taint:
        parts = strings(call.funcname)
        self._aside(call, scope)
        taints = [self.value(argument, scope) for argument in call.args]
        taint = merge(taints)
        if not taint:
            return CLEAR
        name = parts[-1]
        if self.queries.is_foreign_function(parts):
            raise Refused(f'the gate does not know what the function "{name}" does with a masked column')
        if name == "count" and all(t.shape != "mixed" for t in taints if t):
            return CLEAR
        if name in functions.FOLDS and len(taints) == 1 and taints[0].shape in COMPARABLE:
            return replace(taint, shape="folded")
        if name in functions.TOTAL:
            return taint
        fixed = [constant(argument) for argument in call.args]
        if (
            (name in functions.CONST_TAIL and all(fixed[1:]))
            or (name in functions.CONST_HEAD and not taints[0])
            or (name in functions.CONST_KEYS and not any(taints[::2]) and not call.func_variadic)
            or (name in functions.GROWING and not _grows(name, call))
        ):
            return taint
        raise Refused(
            f'"{name}" on a masked column can tell about its value by failing or by its number of rows',
            _SHIELD,
        )

    def _aside(self, call: Message, scope: Scope) -> None:
        """The parts of a call beside its arguments: FILTER, ORDER BY, OVER."""
        if kind(call.agg_filter):
            self.condition(call.agg_filter, scope)
        for sort in call.agg_order:
            self.clear(sort.sort_by.node, scope, "an aggregate's ORDER BY")
        if call.HasField("over"):
            self.window(call.over, scope)

    def window(self, definition: Message, scope: Scope) -> None:
        """The rows come out sorted by PARTITION BY and ORDER BY, so neither may use a masked column."""
        for part in definition.partition_clause:
            self.clear(part, scope, "PARTITION BY, which the server sorts by")
        for sort in definition.order_clause:
            self.clear(sort.sort_by.node, scope, "a window's ORDER BY")
        self.clear(definition.start_offset, scope, "a window frame")
        self.clear(definition.end_offset, scope, "a window frame")

    # --- conditions ---------------------------------------------------------------------------------------

    def condition(self, node: Message, scope: Scope) -> None:
        """Accept an expression that decides which rows appear. Raises Refused."""
        if kind(node) and self.value(node, scope):
            raise Refused("a condition on a masked column may only test it for equality or NULL", _SHIELD)


def _enum(message: Message, field: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(values[getattr(message, field)].name)


def _alternatives(right: Message, how: str) -> list[Message]:
    """What the left side is compared with: the list of an IN or of ANY(ARRAY[...]), else one expression."""
    if how == "AEXPR_IN":
        return list(right.list.items)
    if how in ("AEXPR_OP_ANY", "AEXPR_OP_ALL") and kind(right) == "a_array_expr":
        return list(right.a_array_expr.elements)
    return [right]


def _late(parts: Iterable[Message]) -> None:
    """Parts that the server computes only where what stands before them has not decided: one that fails or
    takes its time would tell. So may a column, which a subquery computes just as late. Raises Refused.
    """
    if not all(map(constant, parts)):
        raise Refused(
            "behind something computed from a masked column only constants may stand: whether the rest is"
            " computed would tell its value",
            _SHIELD,
        )


def _grows(name: str, call: Message) -> bool:
    """Whether a masked value may decide how long the result is, beyond its own length: `replace` with a text
    longer than what it is for, and `format` with a width that is an argument (`%*s`) or a great one.
    """
    texts = [written(argument) for argument in call.args]
    if name == "format":
        return not texts or texts[0] is None or re.search(r"\*|[0-9]{4}", texts[0]) is not None
    if len(texts) != 3 or texts[1] is None or texts[2] is None:
        return True
    return not texts[1] or len(texts[2]) > len(texts[1])


def _elements(node: Message) -> list[Message]:
    """The elements of a list or a row, those of a list of rows; else the expression itself."""
    if kind(node) not in ("list", "row_expr"):
        return [node] if kind(node) else []
    items = node.list.items if kind(node) == "list" else node.row_expr.args
    return [element for item in items for element in _elements(item)]


def _fair(left: Operand, right: Operand) -> bool:
    """Whether comparing the two for equality tells no more than a guess."""
    return len(left) == len(right) and all(
        (not one and not other)
        or (bool(one) and bool(other) and {one.shape, other.shape} <= COMPARABLE)
        or (bool(one) and not other and one.shape in COMPARABLE and other_constant)
        or (bool(other) and not one and other.shape in COMPARABLE and one_constant)
        for (one, one_constant), (other, other_constant) in zip(left, right, strict=True)
    )


def constant(node: Message) -> bool:
    """A value the client wrote down: a constant, a parameter, a cast of one to a built-in type, a list of
    them."""
    name = kind(node)
    if name in ("a_const", "param_ref"):
        return True
    if name == "type_cast":
        parts = strings(node.type_cast.type_name.names)
        built_in = len(parts) == 1 or parts[0] == "pg_catalog"
        return built_in and constant(node.type_cast.arg)
    if name == "a_array_expr":
        return all(constant(element) for element in node.a_array_expr.elements)
    if name == "func_call":
        parts = strings(node.func_call.funcname)
        return parts[-1] in functions.FOLDS and all(constant(a) for a in node.func_call.args)
    return False
