"""The class of a statement, wherever its worst part hides."""

from __future__ import annotations

import pytest

from proxy.sql.guard import read
from proxy.sql.masked import MaskSet, resolve


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


def test_without_masks_everything_that_can_be_read_is_allowed(unmasked: MaskSet) -> None:
    assert read("DROP TABLE users; SELECT email FROM users WHERE email LIKE 'a%'", unmasked).allowed
    assert not read("SELEC 1", unmasked).allowed
