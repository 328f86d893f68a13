"""The class of a statement: read, write, destructive, admin or unknown; the worst wherever it hides wins.

The whole tree is walked, so a DELETE in a WITH query, an EXPLAIN ANALYZE, a PREPARE or a function with side
effects counts as what it does. What is on no list here is unknown, which is treated as the most dangerous.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pg_query import pg_query_pb2

from proxy.sql import functions
from proxy.sql.bounds import Bounds
from proxy.sql.parse import Parsed
from proxy.sql.tree import Message, inner, kind, strings, words
from workflows.model import StatementClass

R, W, D, A, U = StatementClass
# The order of danger is the order of definition.
_RANK = {cls: rank for rank, cls in enumerate(StatementClass)}


def worst_of(classes: Iterable[StatementClass]) -> StatementClass:
    """The most dangerous of several; read for none."""
    return max(classes, key=_RANK.__getitem__, default=R)


_BY_KIND = {
    **dict.fromkeys(
        words(
            """
            select_stmt explain_stmt transaction_stmt variable_show_stmt declare_cursor_stmt fetch_stmt
            close_portal_stmt deallocate_stmt execute_stmt listen_stmt unlisten_stmt constraints_set_stmt
            prepare_stmt discard_stmt copy_stmt
            """
        ),
        R,
    ),
    **dict.fromkeys(
        words(
            """
            insert_stmt update_stmt delete_stmt merge_stmt lock_stmt notify_stmt create_table_as_stmt
            create_stmt index_stmt view_stmt create_seq_stmt comment_stmt refresh_mat_view_stmt
            create_schema_stmt create_enum_stmt composite_type_stmt create_domain_stmt create_stats_stmt
            create_range_stmt
            """
        ),
        W,
    ),
    **dict.fromkeys(
        words(
            """
            cluster_stmt reindex_stmt alter_system_stmt create_role_stmt alter_role_stmt
            alter_role_set_stmt create_table_space_stmt createdb_stmt alter_database_stmt
            alter_database_set_stmt alter_database_refresh_coll_stmt create_extension_stmt
            create_publication_stmt create_subscription_stmt create_foreign_table_stmt create_fdw_stmt
            create_foreign_server_stmt create_user_mapping_stmt import_foreign_schema_stmt
            alter_default_privileges_stmt load_stmt sec_label_stmt create_event_trig_stmt
            create_plang_stmt create_am_stmt check_point_stmt
            """
        ),
        A,
    ),
    **dict.fromkeys(
        words(
            """
            drop_stmt truncate_stmt dropdb_stmt drop_role_stmt drop_owned_stmt drop_table_space_stmt
            drop_subscription_stmt drop_user_mapping_stmt reassign_owned_stmt alter_table_stmt
            alter_domain_stmt alter_enum_stmt alter_seq_stmt alter_owner_stmt alter_object_schema_stmt
            alter_function_stmt alter_policy_stmt alter_type_stmt alter_collation_stmt alter_stats_stmt
            alter_operator_stmt alter_op_family_stmt alter_extension_stmt alter_extension_contents_stmt
            alter_publication_stmt alter_subscription_stmt alter_event_trig_stmt alter_fdw_stmt
            alter_foreign_server_stmt alter_user_mapping_stmt alter_object_depends_stmt
            replica_identity_stmt alter_tsconfiguration_stmt alter_tsdictionary_stmt
            alter_table_space_options_stmt alter_table_move_all_stmt rename_stmt grant_stmt
            grant_role_stmt do_stmt call_stmt create_function_stmt create_trig_stmt rule_stmt
            create_policy_stmt create_cast_stmt create_conversion_stmt create_op_class_stmt
            create_op_family_stmt create_transform_stmt define_stmt
            """
        ),
        D,
    ),
}

# SET of these changes who the session is or what its statements mean.
_ADMIN_SETTINGS = frozenset({"role", "session_authorization", "session_replication_role", "row_security"})
# What may be set to hide what is done, to load code, or to get at what is protected: a superuser's settings,
# and those of extensions that watch or run code. Any other setting with a dot is an application's own.
_SUPERUSERS = re.compile(
    r"log_|allow_|ignore_|zero_damaged|\w*preload_libraries|dynamic_library|lo_compat|track_|jit_provider"
    r"|session_pre|debug_|trace_|fsync|full_page|wal_|archive_|password_|createrole_|backtrace_|exit_on"
    r"|(pgaudit|pg_stat_\w+|auto_explain|sepgsql|anon|supautils|pg_hint_plan|credcheck|set_user|pgsodium|vault|cron"
    r"|pl(perl|perlu|python3?u?|tcl|tclu|v8|r|java|rust)|postgres_fdw|file_fdw)\."
)
_SETTLES = (pg_query_pb2.TRANS_STMT_COMMIT_PREPARED, pg_query_pb2.TRANS_STMT_ROLLBACK_PREPARED)


def _setting(name: str) -> StatementClass:
    name = name.lower()
    if name in ("role", "session_authorization"):
        return D
    return A if name in _ADMIN_SETTINGS or _SUPERUSERS.match(name) else R


def _settings(statement: Message) -> StatementClass:
    return _setting(statement.name)


def _change(statement: Message) -> StatementClass:
    """A write, but into the server's own catalog: its rows are rights, functions and settings."""
    relation = statement.relation
    own = relation.schemaname == "pg_catalog" or (
        not relation.schemaname and relation.relname.startswith("pg_")
    )
    return D if own else W


def _vacuum(statement: Message) -> StatementClass:
    return A if statement.is_vacuumcmd else W


def _copy(statement: Message) -> StatementClass:
    if statement.is_program or statement.filename:
        return D
    return W if statement.is_from else R


def _select(statement: Message) -> StatementClass:
    return W if statement.HasField("into_clause") or statement.locking_clause else R


def class_of(function: str) -> StatementClass:
    """What calling a function of PostgreSQL's own does."""
    if functions.DESTRUCTIVE_PATTERN.match(function):
        return D
    if functions.ADMIN_PATTERN.match(function):
        return A
    return W if function in functions.WRITES else R


def _function(call: Message) -> StatementClass:
    name = strings(call.funcname)[-1]
    if name == "set_config":
        constant = call.args[0].a_const.sval.sval if call.args and kind(call.args[0]) == "a_const" else "role"
        return _setting(constant)
    return class_of(name)


def _transaction(statement: Message) -> StatementClass:
    """COMMIT PREPARED and ROLLBACK PREPARED settle what another session has done."""
    return D if statement.kind in _SETTLES else R


_BY_MESSAGE: dict[str, Callable[[Message], StatementClass]] = {
    "VariableSetStmt": _settings,
    "VacuumStmt": _vacuum,
    "TransactionStmt": _transaction,
    "UpdateStmt": _change,
    "DeleteStmt": _change,
    "CopyStmt": _copy,
    "SelectStmt": _select,
    "FuncCall": _function,
    "InsertStmt": _change,
    "MergeStmt": _change,
    "CreateTableAsStmt": lambda _: W,
}


@dataclass(frozen=True, slots=True)
class Traits:
    """What one statement is.

    `classes` are those of its parts, `statement_class` the worst of them. `kinds` are the parse-tree kinds
    in it, its own first, e.g. ("explain", "delete"). `bounded`: see bounds.py; None where nothing in it has
    rows to bound. `opaque` says that it may touch tables it does not name. `literal_matters` says that
    a constant's value decided something.
    """

    statement_class: StatementClass
    classes: frozenset[StatementClass]
    kinds: tuple[str, ...]
    bounded: bool | None = None
    opaque: bool = False
    literal_matters: bool = False


_OPAQUE = words("do_stmt call_stmt drop_owned_stmt reassign_owned_stmt dropdb_stmt alter_extension_stmt")
_ROWS = frozenset({"UpdateStmt", "DeleteStmt", "MergeStmt", "InsertStmt"})


def traits(
    statement: Parsed,
    nodes: Iterable[tuple[str, Message]],
    is_unlisted: Callable[[str, Message], bool],
    knows: Callable[[Message], frozenset[str] | None],
) -> Traits:
    """The traits of one statement; `nodes` are those of its surface.

    `is_unlisted` says whether a call or an operator is neither PostgreSQL's own nor vouched for, `knows`
    gives the columns of a table.

    What EXECUTE and FETCH run was classed when it was prepared or declared. A function that is not
    PostgreSQL's own may do anything: destructive.
    """
    found = {_of_kind(statement.kind)}
    kinds = [statement.kind]
    queries: dict[str, list[Message]] = {}
    changes = []
    opaque = statement.kind in _OPAQUE or _drops_schema(statement)
    reads = False
    for name, message in nodes:
        if (inside := _KIND_OF.get(name)) is not None:
            kinds.append(inside)
            found.add(_of_kind(inside))  # EXPLAIN, PREPARE, DECLARE hold other statements
            opaque = opaque or inside in _OPAQUE
            reads = reads or _reads(name, message)
        if name in _BY_MESSAGE:
            found.add(_BY_MESSAGE[name](message))
        elif name == "CommonTableExpr":
            queries.setdefault(message.ctename, []).append(inner(message.ctequery))
        if is_unlisted(name, message) or (name == "FuncCall" and _runs_text(message)):
            found.add(D)
            opaque = True
        if name in _ROWS:
            changes.append(message)
    reader = Bounds(knows, queries)
    bounded = [b for b in map(reader.bounded, changes) if b is not None]
    if not all(bounded):
        found.add(D)
    if reads:
        found.add(R)
    elif len(found) > 1:  # VALUES of an INSERT, a call in a bare SELECT
        found.discard(R)
    return Traits(
        worst_of(found),
        frozenset(found),
        tuple(dict.fromkeys(k.removesuffix("_stmt") for k in kinds)),
        all(bounded) if bounded else None,
        opaque,
        reader.consulted,
    )


_KIND_OF = {
    field.message_type.name: field.name
    for field in pg_query_pb2.Node.DESCRIPTOR.fields  # type: ignore[attr-defined]
    if field.name.endswith("_stmt")
}
"""The parse-tree kind of each statement's message: DeleteStmt is delete_stmt."""


def _reads(name: str, message: Message) -> bool:
    """Whether it reads rows: SELECT with FROM, RETURNING, the WHERE of a change."""
    if name == "SelectStmt":
        return bool(message.from_clause)
    return name in ("UpdateStmt", "DeleteStmt", "MergeStmt") or (
        name == "InsertStmt" and bool(message.returning_list)
    )


def _drops_schema(statement: Parsed) -> bool:
    return statement.kind == "drop_stmt" and statement.tree.remove_type not in _NAMED_IN_DROP


def _runs_text(call: Message) -> bool:
    return functions.RUNS_TEXT.match(strings(call.funcname)[-1]) is not None


def _of_kind(name: str) -> StatementClass:
    # What they are is decided by their message, see _settings and _vacuum.
    return R if name in ("variable_set_stmt", "vacuum_stmt") else _BY_KIND.get(name, U)


ObjectType: Message = pg_query_pb2.ObjectType
# What DROP names besides a table: never other tables, but for schemas, types and extensions.
_NAMED_IN_DROP = frozenset(
    ObjectType.Value(f"OBJECT_{name}")
    for name in words("TABLE VIEW MATVIEW INDEX SEQUENCE FOREIGN_TABLE TRIGGER RULE POLICY STATISTIC_EXT")
)
