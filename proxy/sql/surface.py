"""What a statement mentions, wherever: tables, functions, operators. A walk without any understanding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pg_query import pg_query_pb2

from proxy.sql.names import output_name
from proxy.sql.tree import Message, named, strings, walk

OPERATOR_FIELD = {"A_Expr": "name", "SortBy": "use_op", "SubLink": "oper_name"}


@dataclass(frozen=True, slots=True)
class Surface:
    """The mentions of one statement.

    `tables` are RangeVar messages, `calls` FuncCall messages, `operators` names with their schema if given,
    and `with_names` the names of its WITH queries: such a name is no table where the query is in sight.
    `nodes` is every message with its type's name, parents first. `creates` is the name of a table that the
    statement itself makes (SELECT INTO, CREATE TABLE AS), else "".

    PostgreSQL also calls a function that is written like a column, `(x).f` or `t.f`: `calls` and `nodes` hold
    such a one as a FuncCall where `may_call` says so of the name, and whether it stands as a table's column.
    Where `t` is a function in FROM its row may be a plain value, `FROM lower('x') AS t`, as `(x)` may.
    """

    tables: tuple[Message, ...]
    calls: tuple[Message, ...]
    operators: frozenset[tuple[str, ...]]
    with_names: frozenset[str]
    creates: str = ""
    nodes: tuple[tuple[str, Message], ...] = ()


def surface(tree: Message, may_call: Callable[[str, bool], bool] = lambda _name, _of_row: False) -> Surface:
    """Collect the mentions."""
    tables: list[Message] = []
    calls: list[Message] = []
    operators: set[tuple[str, ...]] = set()
    with_names: set[str] = set()
    creates = ""
    nodes = tuple((named(message), message) for message in walk(tree))
    nodes += tuple(_called(nodes, may_call))
    for name, message in nodes:
        if name == "RangeVar":
            tables.append(message)
        elif name == "FuncCall":
            calls.append(message)
        elif name == "CommonTableExpr":
            with_names.add(message.ctename)
        elif name == "IntoClause":
            creates = message.rel.relname
        elif name in OPERATOR_FIELD:
            operators.add(strings(getattr(message, OPERATOR_FIELD[name])))
    return Surface(
        tuple(tables), tuple(calls), frozenset(operators - {()}), frozenset(with_names), creates, nodes
    )


def _called(
    nodes: Iterable[tuple[str, Message]], may_call: Callable[[str, bool], bool]
) -> Iterable[tuple[str, Message]]:
    results = _results(nodes)
    for name, message in nodes:
        steps: tuple[str, ...] = ()
        of_row = False
        if name == "A_Indirection":
            steps = strings(message.indirection)
        elif name == "ColumnRef":
            parts = strings(message.fields)
            steps = parts[1:][-1:]
            columns = results.get(parts[-2]) if steps else None
            of_row = columns is None or parts[-1] in columns
        for step in steps:
            if may_call(step, of_row):
                written = pg_query_pb2.String(sval=step)
                node = pg_query_pb2.Node(string=written)
                yield "FuncCall", pg_query_pb2.FuncCall(funcname=[node])


def _results(nodes: Iterable[tuple[str, Message]]) -> dict[str, frozenset[str]]:
    """The names of functions in FROM, each with the columns that the statement itself gives them."""
    found: dict[str, frozenset[str]] = {}
    for name, message in nodes:
        if name != "RangeFunction" or not message.functions:
            continue
        alias = message.alias.aliasname or output_name(message.functions[0].list.items[0])
        columns = {
            *strings(message.alias.colnames),
            *(node.column_def.colname for node in message.coldeflist),
        }
        found[alias] = found.get(alias, frozenset(columns)) & columns
    return found
