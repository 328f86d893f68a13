"""What the masks of a grant mean in a live catalog: every column, by origin, that may hold a masked value.

A mask spreads to the column of the same name in inheritance children, partitions and parents, to the columns
of foreign keys, which repeat its values, and to the view columns that lineage derives from it. Where a view
cannot be followed, all its columns are masked.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import pg_query

from proxy.sql import functions, libpg, writes
from proxy.sql.catalog import SYSTEM_SCHEMAS, Catalog, Relation
from proxy.sql.lineage import Lineage
from proxy.sql.parse import parse
from proxy.sql.scope import Columns, Origin, Refused, Taint
from proxy.sql.tree import named, strings, walk
from workflows.model import Mask


@dataclass(frozen=True, slots=True)
class MaskSet:
    """Masks resolved against one catalog.

    `columns` maps each masked (relation oid, attnum) to its method; `relations` are those that have one,
    and the views over them.
    `computed` are those of them, in views, that hold something computed.
    `missing` are the tables that masks name and the catalog does not have: the guard then refuses everything,
    because the table may have been renamed. `active` says whether the session has masks at all. `doubts` are
    triggers, rules, indexes and partitions that may tell about masked values beside what statements ask for.
    """

    catalog: Catalog
    columns: dict[Origin, str]
    computed: frozenset[Origin]
    relations: frozenset[int]
    missing: tuple[str, ...] = ()
    active: bool = True
    doubts: tuple[str, ...] = ()


def resolve(
    catalog: Catalog, masks: Iterable[Mask], trusted_functions: frozenset[str] = frozenset()
) -> MaskSet:
    """Resolve masks. A mask on a column that its table does not have masks the whole table."""
    listed = tuple(masks)
    if not listed:
        return MaskSet(catalog, {}, frozenset(), frozenset(), active=False)
    columns: dict[Origin, str] = {}
    missing = []
    for mask in listed:
        schema, _, table = mask.table.rpartition(".")
        found = catalog.find(schema, table)
        if not found:
            missing.append(mask.table)
        for relation in found:
            columns.update(_of_column(relation, mask.column, mask.method))
    for name in functions.DENIED_RELATIONS:  # closed themselves; a view may read them
        for relation in catalog.find("pg_catalog", name):
            columns.update(dict.fromkeys(((relation.oid, c.number) for c in relation.columns), "full"))
    for schema, table, column in functions.SYSTEM_MASKS:
        for relation in catalog.find(schema, table):
            for origin, method in _of_column(relation, column, "full").items():
                columns.setdefault(origin, method)
    computed: set[Origin] = set()
    _hide_opaque_views(catalog, columns, computed, trusted_functions)
    _spread(catalog, columns, computed)
    relations = _readers(catalog, {oid for oid, _ in columns})
    doubts = tuple(sorted(_doubts(catalog, columns, trusted_functions)))
    return MaskSet(catalog, columns, frozenset(computed), relations, tuple(missing), doubts=doubts)


def _doubts(catalog: Catalog, columns: Container[Origin], trusted: frozenset[str]) -> Iterable[str]:
    """What may tell about masked values by itself, for whoever writes the policy."""
    for trigger in catalog.triggers:
        relation = catalog.relations.get(trigger.relation)
        masked = relation is not None and any((relation.oid, c.number) in columns for c in relation.columns)
        if relation is not None and masked and writes.may_carry(trigger, trusted):
            yield f"{trigger.name} on {relation.full_name} may carry them where no mask is"
    for oid, number in catalog.partition_keys:
        if (oid, number) in columns and oid in catalog.relations:
            yield f"{catalog.relations[oid].full_name} is partitioned by one: its rows come in that order"
    for name, tables in catalog.indexes.items():
        for _, oid in tables:
            numbers = [number for index, number in catalog.index_columns.get(oid, ()) if index == name]
            if len(numbers) > 1 and any((oid, number) in columns for number in numbers):
                yield f"rows found by the index {name} come in the order of one"


def _readers(catalog: Catalog, relations: set[int]) -> frozenset[int]:
    """The relations and every view over them, clear or not: an error inside the view may show a value."""
    while True:
        views = {v for v, reads in catalog.view_reads.items() if any(oid in relations for oid, _ in reads)}
        if views <= relations:
            return frozenset(relations)
        relations |= views


def _of_column(relation: Relation, name: str, method: str) -> dict[Origin, str]:
    numbers = [c.number for c in relation.columns if c.name == name]
    if numbers:
        return {(relation.oid, number): method for number in numbers}
    return {(relation.oid, c.number): "full" for c in relation.columns}


def _spread(catalog: Catalog, columns: dict[Origin, str], computed: set[Origin]) -> None:
    """Spread over inheritance and views until nothing is added. Every round adds a column, so it ends."""
    while True:
        before = len(columns)
        for child, parent in catalog.inheritance:
            _copy_by_name(catalog, columns, child, parent)
            _copy_by_name(catalog, columns, parent, child)
        for oid, number, source in catalog.generated:
            if (oid, source) in columns and (oid, number) not in columns:
                columns[oid, number] = "full"
                computed.add((oid, number))
        for child, number, parent, other in catalog.foreign_keys:
            if (parent, other) in columns:
                columns.setdefault((child, number), columns[parent, other])
        tables = {oid for oid, _ in columns}
        for view, reads in catalog.view_reads.items():
            if any(oid in tables for oid, _ in reads):
                _view(catalog, columns, computed, view)
        if len(columns) == before:
            return


def _hide_opaque_views(
    catalog: Catalog, columns: dict[Origin, str], computed: set[Origin], trusted: frozenset[str]
) -> None:
    """Mask views that call functions which may read anything: the catalog does not say what."""
    for oid, text in catalog.view_texts.items():
        if oid not in catalog.relations or not _is_opaque(catalog, text, trusted):
            continue
        for column in catalog.relations[oid].columns:
            columns[oid, column.number] = "full"
            computed.add((oid, column.number))


def _is_opaque(catalog: Catalog, text: str, trusted: frozenset[str]) -> bool:
    try:
        tree = libpg.parse(text)
    except (pg_query.PgQueryError, libpg.TooDeep):
        return True
    for message in walk(tree):
        if named(message) == "FuncCall":
            parts = strings(message.funcname)
            foreign = catalog.is_foreign_function(parts) and not functions.vouched(parts, trusted)
            if foreign or functions.denied(parts[-1]):
                return True
        elif named(message) == "TypeName":
            parts = strings(message.names)
            if parts and catalog.is_foreign_cast(parts) and not functions.vouched(parts, trusted):
                return True
    return False


def _copy_by_name(catalog: Catalog, columns: dict[Origin, str], source: int, target: int) -> None:
    if source not in catalog.relations or target not in catalog.relations:
        return
    for column in catalog.relations[source].columns:
        method = columns.get((source, column.number))
        if method is None:
            continue
        for other in catalog.relations[target].columns:
            if other.name == column.name:
                columns.setdefault((target, other.number), method)


def _view(catalog: Catalog, columns: dict[Origin, str], computed: set[Origin], oid: int) -> None:
    view = catalog.relations.get(oid)
    if view is None or view.schema in SYSTEM_SCHEMAS:
        return
    outputs = _follow(catalog, columns, computed, catalog.view_texts.get(oid, ""))
    if outputs is None or len(outputs) != len(view.columns):
        outputs = tuple((column.name, UNKNOWN) for column in view.columns)
    for column, (_, taint) in zip(view.columns, outputs, strict=True):
        if not taint:
            continue
        methods = {columns.get(origin, "full") for origin in taint.origins}
        plain = taint.shape == "plain" and len(methods) == 1
        if not plain:
            computed.add((oid, column.number))
        columns.setdefault((oid, column.number), methods.pop() if plain else "full")


# What cannot be followed may hold anything.
UNKNOWN = Taint(frozenset({(0, 0)}))


def _follow(catalog: Catalog, masked: Container[Origin], computed: Container[Origin], text: str) -> Columns:
    """Lineage of a view's text; None when it cannot be followed."""
    reading = parse(text)
    if len(reading.statements) != 1:
        return None
    tree = reading.statements[0].tree
    lineage = Lineage(catalog, masked, computed)
    try:
        return lineage.query(tree, None)
    except (Refused, RecursionError):
        return None
