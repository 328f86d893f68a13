"""Whether a subquery looks at rows around it: then it is evaluated anew for each of them.

A name is the subquery's own only where that is certain: its table's columns are known and have it. In doubt
the subquery looks out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from proxy.sql.names import output_name
from proxy.sql.tree import Message, inner, kind, named, strings

Knows = Callable[[Message], frozenset[str] | None]
# The aliases and the column names of one query's FROM.
_Level = tuple[set[str], set[str]]


def looks_out(query: Message, knows: Knows) -> bool:
    """Whether a query mentions a column that is not certainly of its own tables."""
    return _looks_out(query, (), knows)


def _looks_out(message: Message, levels: Sequence[_Level], knows: Knows) -> bool:
    name = named(message)
    if name == "ColumnRef":
        return not _own(strings(message.fields), levels)
    if name == "SelectStmt" and not message.HasField("larg"):
        return _query(message, levels, knows)
    return any(_looks_out(child, levels, knows) for child in _children(message))


def _query(query: Message, levels: Sequence[_Level], knows: Knows) -> bool:
    level: _Level = (set(), set())
    if any(_source(node, level, levels, knows) for node in query.from_clause):
        return True
    outputs = {t.res_target.name for t in query.target_list}
    keys = [*query.group_clause, *(sort.sort_by.node for sort in query.sort_clause)]
    # A key may be an output by its bare name.
    named_keys = [k for k in keys if kind(k) == "column_ref" and set(strings(k.column_ref.fields)) <= outputs]
    apart = [*query.from_clause, *query.group_clause, *query.sort_clause]
    rest = [child for child in _children(query) if not any(child == node for node in apart)]
    rest += [key for key in keys if key not in named_keys]
    return any(_looks_out(child, (*levels, level), knows) for child in rest)


def _source(node: Message, level: _Level, levels: Sequence[_Level], knows: Knows) -> bool:
    """Take one item of FROM into the level; whether it looks out itself."""
    what = kind(node)
    item: Message = inner(node) if what else None
    names, columns = level
    if what == "join_expr":
        sides = [_source(side, level, levels, knows) for side in (item.larg, item.rarg)]
        return any(sides) or item.HasField("alias") or _looks_out(item.quals, (*levels, level), knows)
    if what == "range_var":
        names.add(item.alias.aliasname or item.relname)
        columns.update((strings(item.alias.colnames) or knows(item)) or ())
        return False
    if what == "range_subselect":
        names.add(item.alias.aliasname)
        columns.update(strings(item.alias.colnames) or _outputs(inner(item.subquery)))
        return _looks_out(item.subquery, (*levels, level) if item.lateral else levels, knows)
    if what == "range_function":
        names.add(item.alias.aliasname)
        columns.update({item.alias.aliasname, *strings(item.alias.colnames)})
        return any(_looks_out(part, (*levels, level), knows) for part in item.functions)
    return True


def _outputs(query: Message) -> Iterable[str]:
    if named(query) != "SelectStmt":
        return ()
    while query.HasField("larg"):
        query = query.larg
    return [t.res_target.name or output_name(t.res_target.val) for t in query.target_list]


def _own(parts: tuple[str, ...], levels: Sequence[_Level]) -> bool:
    if not parts:  # *
        return True
    if len(parts) == 1:
        return any(parts[0] in columns or parts[0] in names for names, columns in levels)
    return any(parts[-2] in names for names, _ in levels)


def _children(message: Message) -> Iterable[Message]:
    for field, content in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            yield from content if field.is_repeated else (content,)
