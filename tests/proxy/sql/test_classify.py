"""The class of a statement, wherever its worst part hides."""

from __future__ import annotations

import psycopg
import pytest

from proxy.sql.guard import read
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.tree import words


@pytest.fixture
def unmasked(masks: MaskSet) -> MaskSet:
    return resolve(masks.catalog, ())


CLASSES = {
    "read": """
        SELECT 1 | TABLE orders | VALUES (1) | WITH a AS (SELECT 1) SELECT * FROM a | EXPLAIN SELECT 1
        SHOW ALL
        BEGIN | COMMIT | SET timezone = 'UTC' | COPY orders TO STDOUT | PREPARE p AS SELECT 1 | LISTEN x
        DECLARE c CURSOR FOR SELECT 1 | FETCH c | DISCARD ALL | SELECT lower(note) FROM orders
    """,
    "write": """
        INSERT INTO names VALUES ('x') | UPDATE orders SET note = 'x' WHERE id = 1
        DELETE FROM orders WHERE id = 1
        SELECT 1 INTO x | CREATE TABLE x AS SELECT 1 | SELECT nextval('notes_id_seq')
        COPY names FROM STDIN
        MERGE INTO orders o USING names n ON o.note = n.name WHEN NOT MATCHED THEN INSERT (id) VALUES (1)
        SELECT 1 FOR UPDATE
        WITH i AS (INSERT INTO names VALUES ('x') RETURNING 1) SELECT * FROM i | CREATE TABLE x (a int)
        EXPLAIN ANALYZE UPDATE orders SET note = 'x' WHERE id = 1
        PREPARE p AS INSERT INTO names VALUES ($1)
    """,
    "destructive": """
        DROP TABLE orders | TRUNCATE orders | DELETE FROM orders | UPDATE orders SET note = 'x'
        DELETE FROM orders WHERE true | DELETE FROM orders WHERE 1 = 1
        UPDATE orders SET id = 1 WHERE id = id
        DELETE FROM orders WHERE true OR id = 1 | DELETE FROM orders WHERE NOT false
        WITH d AS (DELETE FROM orders RETURNING 1) SELECT * FROM d | EXPLAIN ANALYZE DELETE FROM orders
        PREPARE p AS DELETE FROM orders | SELECT 1; DROP TABLE orders | ALTER TABLE orders ADD x int
        GRANT SELECT ON orders TO PUBLIC | REVOKE ALL ON orders FROM PUBLIC | DO 'BEGIN END' | CALL p()
        COPY orders TO PROGRAM 'cat' | COPY orders FROM '/etc/passwd' | SET ROLE postgres
        CREATE RULE r AS ON DELETE TO orders DO NOTHING
        SET SESSION AUTHORIZATION x | SELECT lo_export(1, '/x') | SELECT dblink('x', 'y')
        SELECT mail_of(1)
        SELECT set_config('role', 'x', false) | SELECT query_to_xml('x', true, true, '')
        SELECT pg_read_file('x')
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1' | EXPLAIN SELECT mail_of(1)
    """,
    "admin": """
        VACUUM | CREATE ROLE x | ALTER SYSTEM SET a = 1 | SELECT pg_terminate_backend(1)
        CREATE EXTENSION x
        SELECT pg_reload_conf() | CREATE DATABASE x | LOAD 'x' | SET session_replication_role = replica
    """,
    "unknown": "SELEC 1 | SELECT ( | SELECT 1 %% 2",
}
CASES = [
    (text.strip(), expected)
    for expected, block in CLASSES.items()
    for line in block.splitlines()
    for text in line.split(" | ")
    if text.strip()
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_the_worst_part_of_a_text_gives_its_class(text: str, expected: str, unmasked: MaskSet) -> None:
    assert read(text, unmasked).statement_class.value == expected


# Volatile functions that change nothing but the moment or the session's own state.
HARMLESS = words(
    """
    amvalidate bernoulli system brinhandler bthandler ginhandler gisthandler hashhandler spghandler
    heap_tableam_handler dsnowball_init dsnowball_lexize clock_timestamp timeofday random random_normal
    setseed current_query currtid2 currval lastval gen_random_uuid uuidv4 uuidv7 set_config txid_status
    lo_close lo_get lo_lseek lo_lseek64 lo_open lo_tell lo_tell64 loread pg_blocking_pids
    pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked pg_collation_actual_version
    pg_database_collation_actual_version pg_control_checkpoint pg_control_init pg_control_recovery
    pg_control_system pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn
    pg_current_wal_lsn pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn
    pg_last_xact_replay_timestamp pg_is_in_recovery pg_is_wal_replay_paused pg_get_wal_replay_pause_state
    pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_available_wal_summaries
    pg_wal_summary_contents pg_database_size pg_indexes_size pg_relation_size pg_table_size
    pg_tablespace_size pg_total_relation_size pg_get_backend_memory_contexts pg_get_process_memory_contexts
    pg_get_multixact_members pg_get_shmem_allocations pg_get_shmem_allocations_numa pg_get_aios
    pg_jit_available pg_numa_available pg_lock_status pg_notification_queue_usage pg_partition_ancestors
    pg_partition_tree pg_prepared_xact pg_sequence_last_value pg_get_sequence_data
    pg_show_replication_origin_status pg_sleep pg_sleep_for pg_sleep_until pg_stat_clear_snapshot
    pg_stat_force_next_flush pg_stat_have_stats pg_xact_commit_timestamp pg_xact_commit_timestamp_origin
    pg_xact_status pg_stat_get_recovery_prefetch pg_get_loaded_modules pg_tablespace_databases pg_basetype
    plpgsql_call_handler plpgsql_inline_handler plpgsql_validator
    """
)


def test_every_function_of_the_server_that_changes_something_counts_as_more_than_read(
    sql_server: str, unmasked: MaskSet
) -> None:
    asked = """
        SELECT DISTINCT proname FROM pg_proc
        WHERE provolatile = 'v' AND pronamespace = 'pg_catalog'::regnamespace
        AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
        AND proname NOT LIKE 'pg_stat_get_%'"""
    with psycopg.connect(sql_server) as connection:
        names = {name for (name,) in connection.execute(asked).fetchall()} - HARMLESS
    assert len(names) > 80
    assert [n for n in names if read(f"SELECT {n}()", unmasked).statement_class.value == "read"] == []


def test_without_masks_everything_that_can_be_read_is_allowed(unmasked: MaskSet) -> None:
    assert read("DROP TABLE users; SELECT email FROM users WHERE email LIKE 'a%'", unmasked).allowed
    assert not read("SELEC 1", unmasked).allowed
