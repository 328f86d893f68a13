"""What a session with masks may run, statement kind by statement kind.

Kinds that are not listed are refused: they could copy, rename or compute a masked column out of sight (DO,
CALL, CREATE FUNCTION, triggers, rules, policies, foreign tables, publications, ...).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pg_query import pg_query_pb2

from proxy.sql import functions
from proxy.sql.catalog import Catalog
from proxy.sql.lineage import Lineage, unknown_relation
from proxy.sql.masked import MaskSet
from proxy.sql.parse import Parsed
from proxy.sql.reach import closure
from proxy.sql.scope import CLEAR, Columns, Refused
from proxy.sql.surface import Surface
from proxy.sql.tree import Message, inner, kind, named, strings, walk, words
from proxy.sql.writes import check_writes

QUERIES = frozenset({"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})

# They neither return nor move a column's values.
_HARMLESS = words(
    """
    transaction_stmt variable_show_stmt deallocate_stmt execute_stmt fetch_stmt close_portal_stmt
    listen_stmt unlisten_stmt notify_stmt lock_stmt vacuum_stmt truncate_stmt drop_stmt comment_stmt
    constraints_set_stmt discard_stmt check_point_stmt cluster_stmt reindex_stmt create_schema_stmt
    create_seq_stmt alter_seq_stmt create_enum_stmt alter_enum_stmt refresh_mat_view_stmt
    """
)
# Allowed on tables without masked columns.
_APART = words(
    "view_stmt create_stmt alter_table_stmt rename_stmt alter_object_schema_stmt create_stats_stmt"
)

# What a session may set: nothing that changes who it is, how its text is read or what names mean. Nor the
# planner's preferences: they would have rows come from an index, in the order of masked values.
_SETTINGS = words(
    """
    application_name datestyle intervalstyle timezone statement_timeout lock_timeout
    idle_in_transaction_session_timeout idle_session_timeout transaction_timeout extra_float_digits
    bytea_output xmloption xmlbinary default_transaction_isolation default_transaction_read_only
    default_transaction_deferrable transaction_isolation transaction_read_only transaction_deferrable
    client_min_messages synchronous_commit work_mem maintenance_work_mem temp_buffers jit
    lc_monetary lc_numeric lc_time lc_messages default_tablespace default_table_access_method
    tcp_keepalives_idle check_function_bodies quote_all_identifiers synchronize_seqscans geqo row_security
    from_collapse_limit join_collapse_limit
    max_parallel_workers_per_gather plan_cache_mode search_path client_encoding
    standard_conforming_strings transaction_snapshot constraint_exclusion escape_string_warning
    gin_fuzzy_search_limit ssl_renegotiation_limit
    """
)
# pg_dump sets `restrict_nonsystem_relation_kind` to this by way of pg_settings; harmless to any other
# setting.
_PG_DUMP = "view, foreign-table"
_ONLY = {
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    # "debug" levels print the server's inner life.
    "client_min_messages": frozenset({"error", "warning", "notice", "log"}),
}


_TEXT_SETTINGS = {name: _ONLY[name] for name in ("client_encoding", "standard_conforming_strings")}
_PREPARE_TRANSACTION = pg_query_pb2.TRANS_STMT_PREPARE
_CASCADE = pg_query_pb2.DROP_CASCADE
_INDEX, _SCHEMA = pg_query_pb2.OBJECT_INDEX, pg_query_pb2.OBJECT_SCHEMA
_TABLES = frozenset({pg_query_pb2.OBJECT_TABLE, pg_query_pb2.OBJECT_FOREIGN_TABLE})
_CHANGES = frozenset({"UpdateStmt", "InsertStmt", "DeleteStmt", "MergeStmt"})


def check_rules(parsed: Parsed, found: Surface, masks: MaskSet, trusted: frozenset[str]) -> bool:
    """Whether a statement touches a table with masked columns. Raises Refused when it may not run at all."""
    _check_kind(parsed)
    _check_calls(found, masks, trusted)
    touched = _touched(found, masks, must_exist=parsed.kind in QUERIES or parsed.kind in _WRAPPERS)
    if parsed.kind == "variable_set_stmt":
        _check_setting(parsed.tree.name, [_constant(a) for a in parsed.tree.args])
    if parsed.kind == "drop_stmt":
        _check_drop(parsed.tree, masks)
    if parsed.kind in _APART:
        _check_keys(parsed, masks)
    check_writes(found.nodes, masks, trusted)
    _check_partitions(parsed, found, masks)
    if parsed.kind == "copy_stmt" and (parsed.tree.is_program or parsed.tree.filename):
        raise Refused("COPY to or from the server's files and programs is closed", "Use COPY ... TO STDOUT.")
    return touched or parsed.kind in ("execute_stmt", "fetch_stmt")


_WRAPPERS = {
    "explain_stmt": "query",
    "prepare_stmt": "query",
    "declare_cursor_stmt": "query",
    "create_table_as_stmt": "query",
}


def _check_kind(parsed: Parsed) -> None:
    name = parsed.kind
    known = (QUERIES, _HARMLESS, _APART, _WRAPPERS, ("variable_set_stmt", "copy_stmt", "index_stmt"))
    if not any(name in group for group in known):
        words = name.removesuffix("_stmt").replace("_", " ").upper()
        raise Refused(
            f"{words} is closed in a session with masked columns",
            "Ask for a role without masks if you need it.",
        )
    if name == "rename_stmt" and not parsed.tree.HasField("relation"):
        raise Refused("only tables and their columns may be renamed in a session with masked columns")
    if name == "alter_object_schema_stmt" and not parsed.tree.HasField("relation"):
        raise Refused("only tables may be moved in a session with masked columns")
    if name == "create_schema_stmt" and parsed.tree.schema_elts:
        raise Refused("CREATE SCHEMA with elements is closed in a session with masked columns")
    if name in _WRAPPERS:
        inside = Parsed(kind(parsed.tree.query), inner(parsed.tree.query))
        if inside.kind not in QUERIES and not (name == "explain_stmt" and inside.kind in _EXPLAINED):
            raise Refused(
                f"the gate cannot tell what this {name.removesuffix('_stmt').replace('_', ' ')} returns"
            )
        if inside.kind == "execute_stmt" and _runs(parsed):
            raise Refused(
                "EXPLAIN ANALYZE may not run a prepared statement in a session with masked columns",
                "Explain its text.",
            )
        if inside.kind in _WRAPPERS:
            _check_kind(inside)


_EXPLAINED = frozenset({"execute_stmt", "create_table_as_stmt", "declare_cursor_stmt"})


def check_settings(parsed: Parsed, found: Surface, catalog: Catalog) -> None:
    """How its text is read may change in no guarded session: messages may be on their way already, read by
    the old settings. Raises Refused."""
    changed: list[tuple[str | None, list[str | None]]] = []
    if parsed.kind == "variable_set_stmt":
        changed.append((parsed.tree.name, [_constant(a) for a in parsed.tree.args]))
    for call in found.calls:
        if strings(call.funcname)[-1] == "set_config":
            values = [_constant(a) for a in call.args]
            if values[1:2] != [_PG_DUMP]:
                changed.append((values[0] if values else None, values[1:2]))
    for name, message in found.nodes:
        if name in _CHANGES and _is_of_settings(message.relation, catalog):
            changed.append((None, []))
    for setting, given in changed:
        if setting is None:
            raise Refused("settings may be changed by a constant name only", "Use SET.")
        wanted = _TEXT_SETTINGS.get(setting.lower())
        for value in given if wanted is not None else ():
            if value is None or value.lower() not in (wanted or ()):
                raise Refused(f'"{setting}" may be set to {" or ".join(sorted(wanted or ()))} only')


def _is_of_settings(ref: Message, catalog: Catalog) -> bool:
    """Whether it is pg_settings, or a view over it."""
    below = closure(catalog.below, [relation.oid for relation in catalog.find(ref.schemaname, ref.relname)])
    return ref.relname == "pg_settings" or any(
        catalog.relations[oid].name == "pg_settings" for oid in below if oid in catalog.relations
    )


def check_lasting(parsed: Parsed) -> None:
    """A prepared transaction keeps its locks and may be committed when the session is long cut. Raises
    Refused.
    """
    if parsed.kind == "transaction_stmt" and parsed.tree.kind == _PREPARE_TRANSACTION:
        raise Refused("PREPARE TRANSACTION would outlive the session and its grant", "COMMIT or ROLLBACK.")


def _check_calls(found: Surface, masks: MaskSet, trusted: frozenset[str]) -> None:
    for call in found.calls:
        parts = strings(call.funcname)
        name = parts[-1]
        if functions.denied(name):
            raise Refused(f'the function "{name}" reads by name what the gate cannot follow')
        if masks.catalog.is_foreign_function(parts) and not functions.vouched(parts, trusted):
            raise Refused(
                f'the function "{name}" is not PostgreSQL\'s own: it might read a masked column',
                "An operator can list it under trusted_functions in access.yaml.",
            )
        _check_type(parts, masks, trusted)
        if name == "set_config":
            values = [_constant(a) for a in call.args]
            if values[1:2] == [_PG_DUMP]:
                continue
            if len(values) != 3 or values[0] is None:
                raise Refused("set_config may be called with a constant name only")
            _check_setting(values[0], [values[1]])
    for name, message in found.nodes:
        _check_type(strings(message.names) if name == "TypeName" else (), masks, trusted)
    for operator in found.operators:
        if masks.catalog.is_foreign_operator(operator):
            raise Refused(
                f'the operator "{operator[-1]}" is not PostgreSQL\'s own: it might read a masked column'
            )


def _check_type(parts: tuple[str, ...], masks: MaskSet, trusted: frozenset[str]) -> None:
    """A cast to a type, which may also be written as a call of the type's name."""
    if parts and masks.catalog.is_foreign_cast(parts) and not functions.vouched(parts, trusted):
        raise Refused(
            f'the type "{parts[-1]}" runs a function that is not PostgreSQL\'s own: it might read a'
            " masked column",
            "An operator can list the type under trusted_functions in access.yaml.",
        )


def _touched(found: Surface, masks: MaskSet, must_exist: bool) -> bool:
    touched = False
    for ref in found.tables:
        if ref.relname in functions.DENIED_RELATIONS and ref.schemaname in ("", "pg_catalog"):
            raise Refused(f"{ref.relname} holds values of other tables' columns or other people's secrets")
        if ref.schemaname == "pg_toast":
            raise Refused("TOAST tables hold other tables' values")
        relations = masks.catalog.find(ref.schemaname, ref.relname)
        is_with_query = not ref.schemaname and ref.relname in found.with_names
        if not relations and must_exist and not is_with_query and ref.relname != found.creates:
            raise unknown_relation(ref)
        touched = touched or any(r.oid in masks.relations for r in relations)
    return touched


def _constant(node: Message) -> str | None:
    """The text of a constant in SET or set_config; None for anything else."""
    if kind(node) == "type_cast":
        return _constant(node.type_cast.arg)
    if kind(node) != "a_const":
        return None
    value = node.a_const.WhichOneof("val")
    if value == "sval":
        return str(node.a_const.sval.sval)
    if value == "boolval":
        return "on" if node.a_const.boolval.boolval else "off"
    return str(getattr(getattr(node.a_const, value), value, 0)) if value else None


def _check_setting(name: str, values: list[str | None]) -> None:
    name = name.lower()
    if name == "":  # RESET ALL
        return
    # SET TRANSACTION and SET SESSION CHARACTERISTICS arrive as these names; a dot marks an application's own.
    known = name in _SETTINGS or name.startswith(("transaction", "session characteristics"))
    if not (
        known
        or name == "session characteristics"
        or ("." in name and not name.startswith(("plpgsql", "auto_")))
    ):
        why = ": it decides how rows are sorted" if name.startswith("enable_") or "cost" in name else ""
        raise Refused(f'the setting "{name}" is closed in a session with masked columns{why}')
    if name == "search_path" and _names_system_schema(values):
        raise Refused(
            "search_path may not name pg_catalog, pg_temp or information_schema: names would mean something"
            " else"
        )
    if name == "work_mem" and any(_kilobytes(value) < _WORK_MEM for value in values):
        raise Refused("work_mem may not be set below 4MB here: rows would be sorted by masked values")
    for value in values:
        if name in _ONLY and (value is None or value.lower() not in _ONLY[name]):
            raise Refused(f'"{name}" may be set to {" or ".join(sorted(_ONLY[name]))} only')


def _names_system_schema(path: list[str | None]) -> bool:
    whole = ",".join(value or "" for value in path)
    parts = [part.strip().strip('"').lower() for part in whole.split(",")]
    # pg_catalog at the head is where it stands anyway.
    if "information_schema" in parts:
        return True
    return any(part.startswith("pg_") for part in parts[1:]) or parts[0].startswith(("pg_temp", "pg_toast"))


_WORK_MEM = 4096
_MEMORY = {"": 1.0, "b": 1 / 1024, "kb": 1.0, "mb": 1024.0, "gb": 1024.0**2, "tb": 1024.0**3}


def _kilobytes(value: str | None) -> float:
    """A setting of memory in kB, its own unit where it names none; -1 where it cannot be read."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value or "")
    unit = _MEMORY.get(found[2].lower()) if found else None
    return float(found[1]) * unit if found and unit is not None else -1


def outputs_of(parsed: Parsed, found: Surface, lineage: Lineage, masks: MaskSet) -> Columns:
    """The result columns of a statement that touches a masked table. None when they are not known here."""
    name = parsed.kind
    if name in QUERIES:
        return lineage.query(parsed.tree, None)
    if name in _WRAPPERS:
        inside = Parsed(kind(parsed.tree.query), inner(parsed.tree.query))
        if name == "create_table_as_stmt":
            lineage.store(lineage.query(inside.tree, None))
            return ()
        if name == "explain_stmt" and any(o.def_elem.defname == "serialize" for o in parsed.tree.options):
            raise Refused("EXPLAIN with SERIALIZE tells how long masked values are", "Leave SERIALIZE out.")
        lineage.cut_off = name == "declare_cursor_stmt"
        lineage.expressions.measured = lineage.expressions.measured or _runs(parsed)
        columns = outputs_of(inside, found, lineage, masks)
        return (("QUERY PLAN", CLEAR),) if name == "explain_stmt" else columns
    if name == "copy_stmt":  # FROM: nothing comes back
        return ()
    if name in _APART and any(r.oid in masks.relations for r in _relations_changed(parsed, masks)):
        raise Refused("a table with masked columns may not be changed, renamed or built upon in this session")
    if name == "cluster_stmt":
        raise Refused("CLUSTER on a table with masked columns may put its rows in the order of their values")
    if name == "index_stmt":
        _index(parsed.tree, masks)
    return None


def _runs(parsed: Parsed) -> bool:
    """Whether it is EXPLAIN ANALYZE, however that is switched on."""
    return parsed.kind == "explain_stmt" and any(o.def_elem.defname == "analyze" for o in parsed.tree.options)


def _relations_changed(parsed: Parsed, masks: MaskSet) -> Iterable[Message]:
    """The relations a DDL statement mentions, but for the target of a foreign key: that copies nothing."""
    keys = [m.pktable for m in walk(parsed.tree) if named(m) == "Constraint" and m.HasField("pktable")]
    for message in walk(parsed.tree):
        if named(message) == "RangeVar" and not any(message is key or message == key for key in keys):
            yield from masks.catalog.find(message.schemaname, message.relname)


def _index(statement: Message, masks: MaskSet) -> None:
    if kind(statement.where_clause) or any(kind(p.index_elem.expr) for p in statement.index_params):
        raise Refused("an index on an expression over a masked column can tell about it by failing")
    names = [p.index_elem.name for p in (*statement.index_params, *statement.index_including_params)]
    if len(names) > 1 and _masked_among(statement.relation, names, masks):
        raise Refused(
            "rows that are found by an index with a masked column in it come in the order of its values"
        )


def _masked_among(ref: Message, names: Iterable[str], masks: MaskSet) -> bool:
    wanted = set(names)
    return any(
        column.name in wanted and (relation.oid, column.number) in masks.columns
        for relation in masks.catalog.find(ref.schemaname, ref.relname)
        for column in relation.columns
    )


def _check_keys(parsed: Parsed, masks: MaskSet) -> None:
    """A foreign key to a masked column makes its own column count as masked: values that were made up could
    be joined with the real ones.
    """
    for message in walk(parsed.tree):
        if named(message) != "Constraint" or not message.HasField("pktable"):
            continue
        names = strings(message.pk_attrs)
        relations = masks.catalog.find(message.pktable.schemaname, message.pktable.relname)
        primary = any(
            (r.oid, n) in masks.columns for r in relations for o, n in masks.catalog.keys if o == r.oid
        )
        if _masked_among(message.pktable, names, masks) or (not names and primary):
            raise Refused("a foreign key may not refer to a masked column in this session")


def _check_partitions(parsed: Parsed, found: Surface, masks: MaskSet) -> None:
    """Where a masked column decides in which partition a row is, the partition tells about it."""
    catalog = masks.catalog
    parents = {
        oid
        for oid, number in catalog.partition_keys
        if (oid, number) in masks.columns or (number == 0 and oid in masks.relations)
    }
    if not parents:
        return
    partitions = closure(catalog.children, parents) - parents
    named_ones = [r for ref in found.tables for r in catalog.find(ref.schemaname, ref.relname)]
    if any(relation.oid in partitions for relation in named_ones):
        raise Refused("a partition by a masked column tells its value", "Name the partitioned table.")
    places = any(
        name == "ColumnRef" and strings(message.fields)[-1:] == ("tableoid",) for name, message in found.nodes
    )
    reached = closure(catalog.below, {relation.oid for relation in named_ones})
    if reached & parents and (places or _runs(parsed)):
        raise Refused(
            "the table is partitioned by a masked column: in which partition a row is tells its value"
        )


def _check_drop(statement: Message, masks: MaskSet) -> None:
    """With CASCADE foreign keys go, and with them the masks of columns that only repeat a masked one."""
    if statement.behavior != _CASCADE:
        return
    if statement.remove_type == _INDEX:
        raise Refused(
            "DROP INDEX with CASCADE may take foreign keys away that masks follow", "Leave CASCADE out."
        )
    tables = {oid for oid, _ in masks.columns}
    for node in statement.objects:
        parts = (node.string.sval,) if kind(node) == "string" else strings(node.list.items)
        for relation in (masks.catalog.relations[oid] for oid in tables if oid in masks.catalog.relations):
            in_schema = statement.remove_type == _SCHEMA and relation.schema == parts[-1]
            is_it = statement.remove_type in _TABLES and relation.name == parts[-1] and relation.kind in "rpf"
            if in_schema or is_it:
                raise Refused(
                    f"DROP with CASCADE of {relation.full_name} may take foreign keys away that masks follow",
                    "Leave CASCADE out.",
                )


_BY_ITS_TEXTS = functions.GROWING | {"set_config"}


def literal_matters(kind_of: str, nodes: Iterable[tuple[str, Message]]) -> bool:
    """Whether the verdict depends on the value of a constant, so that it holds for this very text only."""
    if kind_of == "variable_set_stmt":
        return True
    for name, message in nodes:
        if name == "CopyStmt" and message.options:
            return True
        if name == "SelectStmt" and any(
            kind(key) == "a_const" for key in (*message.group_clause, *message.distinct_clause)
        ):
            return True
        if name == "SortBy" and kind(message.node) == "a_const":
            return True
        if name == "GroupingSet" and any(kind(key) in ("a_const", "row_expr") for key in message.content):
            return True
        if name == "FuncCall" and strings(message.funcname)[-1] in _BY_ITS_TEXTS:
            return True
    return False
