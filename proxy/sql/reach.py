"""Which tables and columns a statement mentions, and which it reaches through them.

A view reaches the tables under it, a parent its children, a child counts as its parents too. Columns are a
bound from above: a name in sight of a table that has such a column counts as that column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pg_query import pg_query_pb2

from proxy.sql.catalog import Catalog, Relation
from proxy.sql.parse import Parsed
from proxy.sql.surface import Surface
from proxy.sql.tree import Message, kind, strings, words

ObjectType: Message = pg_query_pb2.ObjectType
_QUERIES = frozenset(
    {"select", "insert", "update", "delete", "merge", "explain", "prepare", "declare_cursor"}
)
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Reach:
    """`tables` as mentioned and `reached` with what is behind them, as `schema.table`; `family` is
    `reached` without what is under views.

    `along` are tables that foreign keys take along (ON DELETE CASCADE, TRUNCATE ... CASCADE), and `wide` says
    that the statement may change tables without naming them (GRANT ... ON ALL TABLES, ALTER TYPE).

    `names` are the column names that stand anywhere in the statement, with EVERY where a whole row does;
    `through` are the columns (`schema.table.column`) that its views read.
    """

    tables: frozenset[str] = frozenset()
    reached: frozenset[str] = frozenset()
    family: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    through: frozenset[str] = frozenset()
    along: frozenset[str] = frozenset()
    wide: bool = False


def reach(parsed: Parsed, found: Surface, catalog: Catalog, kinds: Iterable[str]) -> Reach:
    """Collect them for one statement."""
    mentioned: dict[int, Relation] = {}
    unknown: set[str] = set()
    for schema, name, is_with_query in _named_tables(parsed, found):
        relations = catalog.find(schema, name) or _of_index(catalog, schema, name)
        mentioned.update((relation.oid, relation) for relation in relations)
        if not relations and not is_with_query:
            unknown.add(f"{schema}.{name}" if schema else name)
    below = closure(catalog.below, mentioned)
    family = _family(catalog, mentioned)
    reached = closure(catalog.above, below) | family
    kinds = tuple(kinds)
    along = _along(parsed, catalog, reached, kinds) - reached
    tables = unknown | {relation.full_name for relation in mentioned.values()}

    def full_names(oids: Iterable[int]) -> frozenset[str]:
        return frozenset(catalog.relations[oid].full_name for oid in oids if oid in catalog.relations)

    return Reach(
        frozenset(tables),
        full_names(reached | along) | unknown,
        full_names(family) | unknown,
        _names(found, kinds),
        frozenset(_through(catalog, below)),
        full_names(along),
        not tables and parsed.kind in _WIDE,
    )


_WIDE = words(
    """
    grant_stmt alter_table_move_all_stmt reindex_stmt vacuum_stmt cluster_stmt rename_stmt alter_owner_stmt
    alter_object_schema_stmt alter_type_stmt alter_domain_stmt alter_enum_stmt alter_collation_stmt
    create_publication_stmt alter_publication_stmt create_event_trig_stmt alter_event_trig_stmt
    """
)


def _of_index(catalog: Catalog, schema: str, name: str) -> tuple[Relation, ...]:
    """The table of an index of that name."""
    tables = {oid for its, oid in catalog.indexes.get(name, ()) if not schema or its == schema}
    return tuple(catalog.relations[oid] for oid in sorted(tables) if oid in catalog.relations)


def _along(parsed: Parsed, catalog: Catalog, start: set[int], kinds: Iterable[str]) -> set[int]:
    if parsed.kind == "truncate_stmt" and parsed.tree.behavior == pg_query_pb2.DROP_CASCADE:
        edges = [(child, parent) for child, _, parent, _ in catalog.foreign_keys]
    else:
        events = reduce(or_, (_EVENTS.get(name, 0) for name in kinds), 0)
        edges = [(child, parent) for child, parent, by in catalog.cascades if by & events]
    children: dict[int, frozenset[int]] = {}
    for child, parent in edges:
        children[parent] = children.get(parent, frozenset()) | {child}
    found = {child for parent in start for child in children.get(parent, ())}
    while (more := closure(catalog.above, closure(catalog.children, closure(children, found)))) != found:
        found = more
    return found


_EVENTS = {"delete": 8, "update": 16, "merge": 8 | 16, "insert": 16}


def _family(catalog: Catalog, start: Iterable[int]) -> set[int]:
    """Those relations with their parents and children, but not what is under views."""
    return closure(catalog.above, closure(catalog.children, start))


def closure(edges: Mapping[int, frozenset[int]], start: Iterable[int]) -> set[int]:
    """What can be come to from `start`, itself included."""
    seen = set(start)
    left = list(seen)
    while left:
        for oid in edges.get(left.pop(), ()):
            if oid not in seen:
                seen.add(oid)
                left.append(oid)
    return seen


def _through(catalog: Catalog, views: Iterable[int]) -> Iterable[str]:
    for view in views:
        for oid, number in catalog.view_reads.get(view, ()):
            relation = catalog.relations.get(oid)
            columns = relation.columns if relation is not None else ()
            name = next((c.name for c in columns if c.number == number), EVERY)
            for other in _family(catalog, (oid,)):
                if other in catalog.relations:
                    yield f"{catalog.relations[other].full_name}.{name}"


def _named_tables(parsed: Parsed, found: Surface) -> Iterable[tuple[str, str, bool]]:
    for ref in found.tables:
        yield ref.schemaname, ref.relname, not ref.schemaname and ref.relname in found.with_names
    for parts in _listed(parsed):
        yield (parts[-2] if len(parts) > 1 else ""), parts[-1], False


def _listed(parsed: Parsed) -> Iterable[tuple[str, ...]]:
    """Tables that DROP and COMMENT name by a list of words, a trigger's or a policy's table among them."""
    if parsed.kind == "drop_stmt":
        objects, what = list(parsed.tree.objects), parsed.tree.remove_type
    elif parsed.kind == "comment_stmt":
        objects, what = [parsed.tree.object], parsed.tree.objtype
    else:
        return
    for node in objects:
        if kind(node) != "list":
            continue
        parts = strings(node.list.items)
        parts = parts[:-1] if what in _OF_A_TABLE else parts
        if parts and what in _OF_A_TABLE | _TABLES:
            yield parts


def _types(text: str) -> frozenset[int]:
    return frozenset(ObjectType.Value(f"OBJECT_{name}") for name in text.split())


_TABLES = _types("TABLE VIEW MATVIEW FOREIGN_TABLE SEQUENCE INDEX")
_OF_A_TABLE = _types("TRIGGER RULE POLICY COLUMN TABCONSTRAINT")


def _names(found: Surface, kinds: Iterable[str]) -> frozenset[str]:
    if not set(kinds) <= _QUERIES:  # DDL, COPY: the whole table
        return frozenset({EVERY})
    aliases = {ref.alias.aliasname or ref.relname for ref in found.tables}
    names: set[str] = set()
    for name, message in found.nodes:
        if name == "ColumnRef":
            parts = strings(message.fields)
            starred = any(kind(field) == "a_star" for field in message.fields)
            names.add(
                EVERY if starred or not parts or (len(parts) == 1 and parts[0] in aliases) else parts[-1]
            )
        elif name == "ResTarget":
            names.add(message.name)
        elif name == "JoinExpr":
            names.update((EVERY,) if message.is_natural else strings(message.using_clause))
        elif (name == "RangeVar" and message.alias.colnames) or (
            name == "InsertStmt" and not message.cols and kind(message.select_stmt)
        ):
            names.add(EVERY)
    return frozenset(names - {""})
