"""What is known about PostgreSQL's own functions and operators.

Three questions: may a session with masks call it at all (DENIED), does its result depend on its arguments
without ever raising for some of their values (TOTAL), and does calling it change anything (the class lists).
"""

import re

from proxy.sql.tree import words

# They read tables, files, other sessions or settings by a name in an argument, which lineage cannot follow.
DENIED_NAMES = words(
    """
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema
    table_to_xml table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema
    schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema database_to_xml_and_xmlschema
    ts_stat ts_rewrite pg_stat_get_activity pg_stat_get_backend_activity pg_stat_get_subscription
    pg_stat_file pg_current_logfile pg_mcv_list_items pg_stat_statements pg_export_snapshot
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_copy_logical_replication_slot pg_get_publication_tables pg_show_all_file_settings pg_hba_file_rules
    loread lowrite xpath_table crosstab connectby get_raw_page heap_page_items bt_page_items
    tuple_data_split pg_import_system_collations pg_restore_relation_stats pg_restore_attribute_stats
    pg_clear_attribute_stats satisfies_hash_partition pg_get_loaded_modules plpgsql_call_handler
    """
)
_DENIED_PATTERN = re.compile(
    r"pg_read_|pg_ls_|pg_logical_|pg_walinspect|pg_get_wal|lo_|dblink|pg_file_|binary_upgrade_|pg_replication_origin"
    r"|pg_event_trigger|fmgr_|pg_stat_get_backend|pg_get_backend_memory"
    # PostGIS, where it reads a table or its statistics by their names.
    r"|_?postgis_(stats|selectivity|join_selectivity|index_extent)|(st_)?(estimated|find)_?extent"
)

# Relations of pg_catalog that hold values of other tables' columns.
DENIED_RELATIONS = words(
    """
    pg_statistic pg_stats pg_statistic_ext_data pg_stats_ext pg_stats_ext_exprs pg_largeobject
    """
)
# System columns that show other sessions' statements: masked as if a rule had named them.
# And passwords and connection strings: no secret of the target leaves.
SYSTEM_MASKS = (
    ("pg_catalog", "pg_authid", "rolpassword"),
    ("pg_catalog", "pg_shadow", "passwd"),
    ("pg_catalog", "pg_subscription", "subconninfo"),
    ("pg_catalog", "pg_user_mapping", "umoptions"),
    ("pg_catalog", "pg_user_mappings", "umoptions"),
    ("pg_catalog", "pg_foreign_server", "srvoptions"),
    ("information_schema", "_pg_user_mappings", "umoptions"),
    ("information_schema", "user_mapping_options", "option_value"),
    ("information_schema", "_pg_foreign_servers", "srvoptions"),
    ("information_schema", "foreign_server_options", "option_value"),
    ("pg_catalog", "pg_stat_wal_receiver", "conninfo"),
    ("pg_catalog", "pg_hba_file_rules", "options"),
    ("pg_catalog", "pg_file_settings", "setting"),
    ("pg_catalog", "pg_stat_activity", "query"),
    ("public", "pg_stat_statements", "query"),
)


def denied(name: str) -> bool:
    """Whether a session with masks may not call the pg_catalog function `name`."""
    return name in DENIED_NAMES or _DENIED_PATTERN.match(name) is not None


def vouched(parts: tuple[str, ...], trusted: frozenset[str]) -> bool:
    """Whether policy vouches for a function: by its name, or by `schema.name` where it is called so."""
    return parts[-1] in trusted or ".".join(parts[-2:]) in trusted


# Results that follow from the arguments and that never raise, whatever a masked argument holds: a function
# that may raise would tell about the value by failing. Arguments after the first must be constants for
# _CONST_TAIL.
TOTAL = words(
    """
    lower upper initcap concat concat_ws length char_length character_length octet_length bit_length md5
    btrim ltrim rtrim reverse quote_ident quote_literal quote_nullable to_json to_jsonb row_to_json
    json_build_array jsonb_build_array json_agg jsonb_agg array_agg string_agg array_to_json
    array_to_string array_length cardinality array_append array_prepend array_remove min max sum avg
    bool_and bool_or every any_value stddev stddev_pop stddev_samp variance var_pop var_samp row_number
    rank first_value last_value num_nonnulls num_nulls round floor ceil ceiling trunc sign
    translate pg_typeof pg_column_size coalesce
    """
)
# They keep equality up to case, so their result may be compared like the column itself.
FOLDS = frozenset({"lower", "upper"})
CONST_TAIL = words("left right substr lpad rpad split_part lag lead nth_value to_char")
CONST_HEAD = words("date_part extract date_trunc json_object_agg jsonb_object_agg")
CONST_KEYS = words("json_build_object jsonb_build_object")

# They may make a long text of a short one, so long that it fails or takes its time: see expressions._grows.
GROWING = frozenset({"replace", "format"})

# Total comparisons and concatenation; anything else on a masked value is refused.
TOTAL_OPERATORS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">=", "||"})

# Functions that change data or state: a SELECT that calls one is a write.
WRITES = words(
    """
    nextval setval pg_notify txid_current pg_current_xact_id pg_logical_emit_message pg_advisory_lock
    pg_advisory_xact_lock pg_advisory_lock_shared pg_advisory_xact_lock_shared pg_try_advisory_lock
    pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_advisory_unlock
    pg_advisory_unlock_shared pg_advisory_unlock_all brin_summarize_new_values brin_summarize_range
    brin_desummarize_range gin_clean_pending_list pg_extension_config_dump
    """
)
# Functions that reach outside the database or run text as SQL.
DESTRUCTIVE_PATTERN = re.compile(
    r"lo_(export|import|unlink|put|create|creat|from_bytea|truncate)|lowrite|dblink|pg_file_|pg_read_|pg_ls_"
    r"|query_to_xml|cursor_to_xml|table_to_xml|schema_to_xml|database_to_xml|xpath_table|crosstab|connectby"
    r"|binary_upgrade_|pg_surgery|heap_force_"
    # PostGIS, where it changes tables by their names.
    r"|(add|drop|update)geometry|populate_geometry|postgis_extensions_upgrade|(un)?lockrow|(en|dis)ablelongtrans"
    r"|addauth|checkauth"
)
# Functions that run a text as SQL here or elsewhere.
RUNS_TEXT = re.compile(
    r"dblink|(query|cursor|table|schema|database)_to_xml|crosstab|connectby|xpath_table|ts_(stat|rewrite)$"
)
# Functions that act on the server or on other sessions.
ADMIN_PATTERN = re.compile(
    r"pg_terminate_backend|pg_cancel_backend|pg_sync_replication|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_switch_wal"
    r"|pg_create_restore_point|pg_(backup_)?(start|stop)(_backup)?$|pg_wal_replay|pg_stat_reset|pg_drop_replication"
    r"|pg_create_(logical|physical)|pg_copy_(logical|physical)|pg_replication|pg_logical_|pg_export_snapshot"
    r"|pg_nextoid|pg_stop_making|pg_hba_file|pg_ident_file|pg_show_all_file|pg_stat_file|pg_log_|pg_stat_\w*reset|pg_import_system|pg_(restore|clear)_(relation|attribute)_stats"
)

# Functions in FROM, or in a SELECT without FROM, that give back what their arguments hold.
FROM_ARGUMENTS = words(
    """
    unnest string_to_table regexp_split_to_table json_array_elements json_array_elements_text
    jsonb_array_elements jsonb_array_elements_text json_to_recordset jsonb_to_recordset
    json_populate_recordset jsonb_populate_recordset string_to_array regexp_split_to_array now lower upper
    """
)
# Aggregates of which one row remains.
ONE_ROW = words("max min count sum avg any_value bool_and bool_or every")
