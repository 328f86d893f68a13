"""The class of a statement: read, write, destructive, admin or unknown; the worst wherever it hides wins.

The whole tree is walked, so a DELETE in a WITH query, an EXPLAIN ANALYZE, a PREPARE or a function with side
effects counts as what it does. What is on no list here is unknown, which is treated as the most dangerous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.sql import functions
from proxy.sql.parse import Parsed
from proxy.sql.tree import Message, kind, named, strings, walk, words
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
            prepare_stmt discard_stmt copy_stmt check_point_stmt
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
            vacuum_stmt cluster_stmt reindex_stmt alter_system_stmt create_role_stmt alter_role_stmt
            alter_role_set_stmt create_table_space_stmt createdb_stmt alter_database_stmt
            alter_database_set_stmt alter_database_refresh_coll_stmt create_extension_stmt
            create_publication_stmt create_subscription_stmt create_foreign_table_stmt create_fdw_stmt
            create_foreign_server_stmt create_user_mapping_stmt import_foreign_schema_stmt
            alter_default_privileges_stmt load_stmt sec_label_stmt create_event_trig_stmt
            create_plang_stmt create_am_stmt
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


def _settings(statement: Message) -> StatementClass:
    if statement.name.lower() in _ADMIN_SETTINGS:
        return D if statement.name.lower() in ("role", "session_authorization") else A
    return R


def _bounded(statement: Message) -> StatementClass:
    return W if bounds(statement.where_clause) else D


def _copy(statement: Message) -> StatementClass:
    if statement.is_program or statement.filename:
        return D
    return W if statement.is_from else R


def _select(statement: Message) -> StatementClass:
    return W if statement.HasField("into_clause") or statement.locking_clause else R


def _function(call: Message) -> StatementClass:
    name = strings(call.funcname)[-1]
    if functions.DESTRUCTIVE_PATTERN.match(name):
        return D
    if functions.ADMIN_PATTERN.match(name):
        return A
    if name == "set_config":
        constant = (
            call.args[0].a_const.sval.sval.lower()
            if call.args and kind(call.args[0]) == "a_const"
            else "role"
        )
        return D if constant in ("role", "session_authorization") else A if constant in _ADMIN_SETTINGS else R
    return W if name in functions.WRITES else R


_BY_MESSAGE: dict[str, Callable[[Message], StatementClass]] = {
    "VariableSetStmt": _settings,
    "UpdateStmt": _bounded,
    "DeleteStmt": _bounded,
    "CopyStmt": _copy,
    "SelectStmt": _select,
    "FuncCall": _function,
    "InsertStmt": lambda _: W,
    "MergeStmt": lambda _: W,
    "CreateTableAsStmt": lambda _: W,
}


def classify(
    statements: Iterable[Parsed], is_unlisted: Callable[[tuple[str, ...]], bool] = lambda _: False
) -> StatementClass:
    """The worst class among the statements. `is_unlisted` says whether a function is outside the known
    ones."""
    return worst_of(classify_one(s, is_unlisted) for s in statements)


def classify_one(statement: Parsed, is_unlisted: Callable[[tuple[str, ...]], bool]) -> StatementClass:
    """The class of one statement.

    What EXECUTE and FETCH run was classed when it was prepared or declared. A function that is not
    PostgreSQL's own may do anything: destructive.
    """
    found = [_of_kind(statement.kind)]
    for message in walk(statement.tree):
        name = named(message)
        if name == "Node" and kind(message).endswith("_stmt"):
            found.append(_of_kind(kind(message)))  # EXPLAIN, PREPARE, DECLARE hold other statements
        elif name in _BY_MESSAGE:
            found.append(_BY_MESSAGE[name](message))
            if name == "FuncCall" and is_unlisted(strings(message.funcname)):
                found.append(D)
    if statement.kind == "variable_set_stmt":
        found.append(_settings(statement.tree))
    return worst_of(found)


def _of_kind(name: str) -> StatementClass:
    # The setting decides, see _settings.
    return R if name == "variable_set_stmt" else _BY_KIND.get(name, U)


def bounds(where: Message) -> bool:
    """Whether a WHERE clause can leave rows out: it mentions a column and is no tautology with constants."""
    name = kind(where)
    if name == "":
        return False
    if name == "bool_expr":
        parts = [bounds(argument) for argument in where.bool_expr.args]
        operator = where.bool_expr.boolop
        return all(parts) if operator == _OR else any(parts)
    if name == "a_expr" and _unplaced(where.a_expr.lexpr) == _unplaced(where.a_expr.rexpr):
        return False
    if name == "current_of_expr":
        return True
    return any(named(m) in ("ColumnRef", "SubLink") for m in walk(where))


_OR = 2  # pg_query BoolExprType OR_EXPR


def _unplaced(node: Message) -> tuple[str, ...]:
    """The shape of an expression and its names, without its constants and its places in the text."""
    if not kind(node):
        return ()
    return tuple(m.sval if named(m) == "String" else named(m) for m in walk(node) if named(m) != "Integer")
