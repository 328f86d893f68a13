"""A frozen picture of the target's catalog: what names mean, taken by the gate from the live database.

The picture is used as a bound, not as the server's own name resolution: an unqualified name stands for every
relation of that name in any schema, so a changed search_path cannot make the gate look at another table than
the server does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.sql.tree import words

# Extensions whose functions and operators compute from their arguments only. What is not listed here may read
# tables or files on its own (dblink, tablefunc's crosstab(text), xml2, pageinspect, ...).
TRUSTED_EXTENSIONS = words(
    """
    btree_gin btree_gist citext cube earthdistance fuzzystrmatch hstore intarray isn ltree pg_trgm
    pgcrypto postgis seg unaccent uuid-ossp vector
    """
)

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its attnum, name, and type (oid, name, pg_type.typcategory)."""

    number: int
    name: str
    type_oid: int
    type_name: str
    category: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A table (r, p, f), view (v) or materialised view (m)."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...] = ()

    @property
    def full_name(self) -> str:
        """`schema.name`, as masks write it."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger or a rule of people's own making on a relation. `events` are the changes that fire it
    (4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE); `function` is (schema, name), empty for a rule;
    `text` its source.
    """

    relation: int
    name: str
    events: int
    function: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """One picture. `version` changes whenever anything in it does; verdicts are kept under it."""

    version: str
    relations: Mapping[int, Relation]
    by_name: Mapping[str, tuple[Relation, ...]]
    inheritance: frozenset[tuple[int, int]]
    generated: frozenset[tuple[int, int, int]]
    view_reads: Mapping[int, frozenset[tuple[int, int]]]
    view_texts: Mapping[int, str]
    functions: Mapping[str, bool]
    operators: Mapping[str, bool]
    search_path: tuple[str, ...]
    below: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """What a relation's rows come from: a view's tables, a parent's children."""
    children: Mapping[int, frozenset[int]] = field(default_factory=dict)
    above: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """The parents of a child or partition."""
    own: frozenset[str] = frozenset()
    """The names of PostgreSQL's own functions and operators; empty where they were not asked for."""
    foreign_keys: frozenset[tuple[int, int, int, int]] = frozenset()
    """A column's relation and attnum, and those of the column whose values it repeats."""
    casts: Mapping[str, bool] = field(default_factory=dict)
    """Types that run functions of the database's own in a cast, and whether those are trusted."""
    cast_types: frozenset[int] = frozenset()
    """The oids of those that are not trusted."""
    row_functions: frozenset[str] = frozenset()
    """Functions, not trusted ones, that may stand as a column of a row: `t.f`."""
    triggers: frozenset[Trigger] = frozenset()
    cascades: frozenset[tuple[int, int, int]] = frozenset()
    """A relation, one that its foreign key refers to, and which changes of that one reach it."""
    ties: frozenset[tuple[int, int, int, str]] = frozenset()
    """A relation, what ties columns of it, a column, and how; see catalog_queries.TIES."""
    indexes: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict)
    """The name of an index: the schemas it stands in, each with its table."""
    index_columns: Mapping[int, frozenset[tuple[str, int]]] = field(default_factory=dict)
    """A table: the columns of its indexes."""
    keys: frozenset[tuple[int, int]] = frozenset()
    """The columns of primary keys."""
    partition_keys: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def build(
        cls,
        relations: Iterable[tuple[int, str, str, str]],
        columns: Iterable[tuple[int, int, str, int, str, str]],
        inheritance: Iterable[tuple[int, int]] = (),
        generated: Iterable[tuple[int, int, int]] = (),
        view_reads: Iterable[tuple[int, int, int]] = (),
        view_texts: Iterable[tuple[int, str]] = (),
        functions: Iterable[tuple[str, str, str | None]] = (),
        operators: Iterable[tuple[str, str, str | None]] = (),
        search_path: Iterable[str] = ("pg_catalog", "public"),
        own: Iterable[str] = (),
        foreign_keys: Iterable[tuple[int, int, int, int]] = (),
        casts: Iterable[tuple[str, str, str | None, int]] = (),
        row_functions: Iterable[tuple[str, str, str | None]] = (),
        triggers: Iterable[tuple[int, str, int, str, str, str]] = (),
        cascades: Iterable[tuple[int, int, int]] = (),
        ties: Iterable[tuple[int, int, int, str]] = (),
        indexes: Iterable[tuple[int, str, str, int, bool]] = (),
        partition_keys: Iterable[tuple[int, int]] = (),
    ) -> Catalog:
        """Assemble the rows of the queries of the same names in catalog_queries.py."""
        of_relation: dict[int, list[Column]] = {}
        for oid, number, name, type_oid, type_name, category in columns:
            of_relation.setdefault(oid, []).append(Column(number, name, type_oid, type_name, category))
        by_oid = {
            oid: Relation(oid, schema, name, kind, tuple(of_relation.get(oid, ())))
            for oid, schema, name, kind in relations
        }
        by_name: dict[str, list[Relation]] = {}
        for relation in by_oid.values():
            by_name.setdefault(relation.name, []).append(relation)
        reads: dict[int, set[tuple[int, int]]] = {}
        for view, oid, number in view_reads:
            reads.setdefault(view, set()).add((oid, number))
        parts = (
            by_oid,
            {name: tuple(found) for name, found in by_name.items()},
            frozenset((child, parent) for child, parent in inheritance),
            frozenset((oid, number, source) for oid, number, source in generated),
            {view: frozenset(found) for view, found in reads.items()},
            dict(view_texts),
            _trust(functions),
            _trust(operators),
            tuple(search_path),
        )
        below = {view: {oid for oid, _ in found} for view, found in reads.items()}
        children: dict[int, set[int]] = {}
        above: dict[int, set[int]] = {}
        for child, parent in parts[2]:
            below.setdefault(parent, set()).add(child)
            children.setdefault(parent, set()).add(child)
            above.setdefault(child, set()).add(parent)
        listed = sorted(casts, key=lambda row: row[3])
        keys, trusted_casts = frozenset(foreign_keys), _trust(row[:3] for row in listed)
        oids = frozenset(oid for _, name, _, oid in listed if not trusted_casts[name])
        of_rows = frozenset(name for name, trusted in _trust(row_functions).items() if not trusted)
        on = frozenset(Trigger(a, b, c, (d, e) if e else (), f) for a, b, c, d, e, f in triggers)
        rest = (frozenset(cascades), frozenset(ties))
        by_index: dict[str, set[tuple[str, int]]] = {}
        listed_indexes = sorted(set(indexes))
        of_table: dict[int, set[tuple[str, int]]] = {}
        for table, schema, index, number, _ in listed_indexes:
            by_index.setdefault(index, set()).add((schema, table))
            of_table.setdefault(table, set()).add((index, number))
        primary = frozenset((table, number) for table, _, _, number, is_key in listed_indexes if is_key)
        by_name_of = {name: frozenset(found) for name, found in by_index.items()}
        by_table = {table: frozenset(found) for table, found in of_table.items()}
        by_partition = frozenset(partition_keys)
        more = (sorted(keys), trusted_casts, sorted(oids), sorted(of_rows), sorted(map(repr, on)))
        version = _digest((*parts, *more, *map(sorted, rest), listed_indexes, sorted(by_partition)))
        edges = (_frozen(below), _frozen(children), _frozen(above))
        return cls(
            version, *parts, *edges, frozenset(own), keys, trusted_casts, oids, of_rows, on,
            *rest, by_name_of, by_table, primary, by_partition,
        )  # fmt: skip

    def find(self, schema: str, name: str) -> tuple[Relation, ...]:
        """Every relation the name may stand for; with a schema at most one."""
        found = self.by_name.get(name, ())
        if schema == "pg_temp":
            return tuple(r for r in found if r.schema.startswith("pg_temp_"))
        if schema:
            return tuple(r for r in found if r.schema == schema)
        # pg_catalog stands first in every search path that the guard lets a session set.
        system = tuple(r for r in found if r.schema == "pg_catalog")
        return system or tuple(r for r in found if r.schema != "information_schema") or found

    def is_new(self, parts: tuple[str, ...]) -> bool:
        """Whether a function's or an operator's name means nothing in this picture: it may have been made
        since. (So does a type's or a column's name that is written like a call.)
        """
        known = parts[-1] in self.own or parts[-1] in self.functions or parts[-1] in self.operators
        return bool(self.own) and len(parts) == 1 and not known

    def is_foreign_function(self, parts: tuple[str, ...]) -> bool:
        """Whether a function name may mean one outside pg_catalog and outside the trusted extensions."""
        if len(parts) > 1:
            return parts[-2] != "pg_catalog" and not self.functions.get(parts[-1], False)
        return not self.functions.get(parts[-1], True)

    def is_foreign_cast(self, parts: tuple[str, ...]) -> bool:
        """Whether a cast to a type of this name may run a function outside pg_catalog that is not trusted."""
        return not self.casts.get(parts[-1], True)

    def is_foreign_operator(self, parts: tuple[str, ...]) -> bool:
        """The same for operators."""
        return parts[0] != "pg_catalog" and not self.operators.get(parts[-1], True)


def _frozen(sets: dict[int, set[int]]) -> dict[int, frozenset[int]]:
    return {key: frozenset(found) for key, found in sets.items()}


def _trust(rows: Iterable[tuple[str, str, str | None]]) -> dict[str, bool]:
    """Name → whether every function (operator) of that name outside pg_catalog is a trusted extension's."""
    trusted: dict[str, bool] = {}
    for _schema, name, extension in rows:
        trusted[name] = trusted.get(name, True) and extension in TRUSTED_EXTENSIONS
    return trusted


def _digest(parts: tuple[object, ...]) -> str:
    """A stable digest of the picture: same rows, same version."""
    by_oid, _names, inheritance, generated, reads, *rest = parts
    assert isinstance(by_oid, dict)
    assert isinstance(inheritance, frozenset)
    assert isinstance(generated, frozenset)
    assert isinstance(reads, dict)
    stable = (
        sorted((oid, repr(relation)) for oid, relation in by_oid.items()),
        sorted(inheritance),
        sorted(generated),
        sorted((view, sorted(found)) for view, found in reads.items()),
        [sorted(part.items()) if isinstance(part, dict) else part for part in rest],
    )
    return hashlib.sha256(repr(stable).encode()).hexdigest()[:32]
