"""The SELECTs that fill a Catalog from a live PostgreSQL (13 to 18), each in the column order
`Catalog.build` takes.

Run all of them in one REPEATABLE READ READ ONLY transaction with `search_path` set to '' (the views' texts
are then fully qualified, which is what lineage wants).
"""

# oid, schema, name, relkind
RELATIONS = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
"""

# relation oid, attnum, name, type oid, type name, type category (https://www.postgresql.org/docs/current/
# catalog-pg-type.html#CATALOG-TYPCATEGORY-TABLE)
COLUMNS = """
SELECT a.attrelid, a.attnum, a.attname, t.oid, t.typname, t.typcategory::text
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
ORDER BY a.attrelid, a.attnum
"""

# child oid, parent oid: plain inheritance and partitions alike
INHERITANCE = "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits"

# relation oid, attnum of a generated column, attnum of a column it is computed from
GENERATED = """
SELECT DISTINCT d.adrelid, d.adnum, p.refobjsubid
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
JOIN pg_catalog.pg_depend p ON p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND p.refobjid = d.adrelid AND p.refobjsubid <> d.adnum AND p.refobjsubid > 0
    AND (p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid
        OR p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.objid = d.adrelid
            AND p.objsubid = d.adnum)
"""

# view oid, relation oid, attnum (0 for the relation as a whole), for views and materialised views outside the
# system schemas; a view's rule depends on each column it reads
VIEW_READS = """
SELECT DISTINCT r.ev_class, d.refobjid, d.refobjsubid
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

# view oid, its SELECT
VIEW_TEXTS = """
SELECT v.oid, pg_catalog.pg_get_viewdef(v.oid)
FROM pg_catalog.pg_class v JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
WHERE v.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

# schema, name, the extension it belongs to or NULL: what is not PostgreSQL's own may do anything
FUNCTIONS = """
SELECT n.nspname, p.proname, e.extname
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

# schema, operator, extension or NULL
OPERATORS = """
SELECT n.nspname, o.oprname, e.extname
FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.objid =
o.oid     AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE n.nspname <> 'pg_catalog'
"""

# relation oid, attnum of a foreign key's column, relation oid, attnum of the column it refers to
FOREIGN_KEYS = """
SELECT c.conrelid, k.child, c.confrelid, k.parent
FROM pg_catalog.pg_constraint c,
    LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey)) AS k (child, parent)
WHERE c.contype = 'f'
"""

# schema, name of a type for which a cast or a check runs a function that is not PostgreSQL's own; the
# extension that the function belongs to or NULL; the type's oid. What holds such a type, an array or a row,
# counts, too. Casts to PostgreSQL's own types count where their function is written in the database.
CASTS = """
WITH RECURSIVE holds (type, holder) AS MATERIALIZED (
    SELECT d.refobjid, COALESCE(c.reltype, d.objid)
    FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_class c ON c.oid = d.objid
        AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    WHERE d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
        AND d.classid IN (
            'pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass
        )
), runs (type, extension) AS (
    SELECT x.type, e.extname
    FROM (
        SELECT casttarget AS type, castfunc AS function FROM pg_catalog.pg_cast WHERE castfunc <> 0
        UNION
        SELECT k.contypid, d.refobjid
        FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
            AND d.objid = k.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        WHERE k.contypid <> 0
    ) AS x
    JOIN pg_catalog.pg_type t ON t.oid = x.type
    JOIN pg_catalog.pg_proc p ON p.oid = x.function
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    JOIN pg_catalog.pg_namespace f ON f.oid = p.pronamespace AND f.nspname <> 'pg_catalog'
    LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        AND d.objid = p.oid AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        AND d.deptype = 'e'
    LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace OR l.lanname NOT IN ('c', 'internal')
    UNION
    SELECT h.holder, r.extension
    FROM runs r JOIN holds h ON h.type = r.type
    JOIN pg_catalog.pg_type s ON s.oid = r.type AND s.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
)
SELECT n.nspname, t.typname, r.extension, t.oid
FROM runs r JOIN pg_catalog.pg_type t ON t.oid = r.type
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
"""

# schema, name, extension or NULL of functions that can be called as if they were a column of a row (`t.f`)
ROW_FUNCTIONS = """
SELECT n.nspname, p.proname, e.extname
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0] AND t.typtype IN ('c', 'p')
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.pronargs - p.pronargdefaults <= 1
"""

# relation oid, name of a trigger or a rule of people's own making, the changes that fire it (of pg_trigger.h:
# 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE), its function's schema, name and text: it may carry the
# relation's values away
TRIGGERS = """
SELECT t.tgrelid, t.tgname, t.tgtype::int & 60, n.nspname, p.proname, p.prosrc
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal
UNION ALL
SELECT r.ev_class, r.rulename, CASE r.ev_type WHEN '2' THEN 16 WHEN '3' THEN 4 ELSE 8 END, '', '', ''
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

# child oid, parent oid of a foreign key, and the changes of the parent that reach the child (8 DELETE, 16
# UPDATE)
CASCADES = """
SELECT DISTINCT conrelid, confrelid,
    CASE WHEN confdeltype IN ('c', 'n', 'd') THEN 8 ELSE 0 END
    + CASE WHEN confupdtype IN ('c', 'n', 'd') THEN 16 ELSE 0 END
FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
"""

# relation oid, oid of what ties its columns together, attnum, how: c a check or a computation that may fail,
# x an exclusion by another operator than =, e by that one
TIES = """
SELECT c.conrelid, c.oid, k.attnum, 'c' AS how
FROM pg_catalog.pg_constraint c, LATERAL pg_catalog.unnest(c.conkey) AS k (attnum)
WHERE c.contype = 'c' AND c.conrelid <> 0
UNION ALL
SELECT c.conrelid, c.oid, k.attnum, CASE WHEN o.oprname = '=' THEN 'e' ELSE 'x' END
FROM pg_catalog.pg_constraint c,
    LATERAL ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.conexclop)) AS k (attnum, operator)
LEFT JOIN pg_catalog.pg_operator o ON o.oid = k.operator
WHERE c.contype = 'x'
UNION ALL
SELECT i.indrelid, i.indexrelid, d.refobjsubid, 'c'
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND d.objid = i.indexrelid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND d.refobjid = i.indrelid
WHERE d.refobjsubid > 0 AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
"""

# table oid, its index's schema and name, attnum of a column of it, whether it is the primary key
INDEXES = """
SELECT i.indrelid, n.nspname, c.relname, k.attnum, i.indisprimary
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'pg_toast'),
    LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) AS k (attnum)
"""

# relation oid, attnum of a column that decides in which partition a row is (0 for an expression)
PARTITION_KEYS = """
SELECT p.partrelid, k.attnum
FROM pg_catalog.pg_partitioned_table p,
    LATERAL pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) AS k (attnum)
WHERE p.partstrat <> 'h'
"""

# names of PostgreSQL's own functions and operators: a name that is neither here nor above is newer than this
OWN_NAMES = """
SELECT p.proname FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
UNION
SELECT o.oprname FROM pg_catalog.pg_operator o WHERE o.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace
"""

# the names in the session's search path, in order
SEARCH_PATH = "SELECT unnest(pg_catalog.current_schemas(true))::text"
