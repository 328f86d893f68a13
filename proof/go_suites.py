"""pgx's and lib/pq's own tests."""

from __future__ import annotations

from pathlib import Path

from proof.fetch import Library, call
from proof.house import House, Way
from proof.outcomes import Outcomes, from_go

PGX, PQ = "v5.12.0", "v1.12.3"


def _go_test(source: Path, env: dict[str, str], folder: Path, *options: str) -> Outcomes:
    command = ["go", "test", "-json", "-count=1", "-p=1", "-timeout=600s", *options, "./..."]
    done = call(command, cwd=source, env=env, check=False)
    (folder / "output").write_text(done.stdout + done.stderr)
    return from_go(done.stdout)


def pgx(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    source = library.go_module("github.com/jackc/pgx/v5", PGX)
    house.direct.fresh("pgx_test")
    with house.direct.connect("pgx_test") as connection:
        connection.execute("create extension hstore; create extension ltree")
        connection.execute("create domain uint64 as numeric(20,0)")
        connection.execute('drop role if exists " tricky, \' } "" \\ test user "')
        connection.execute('create role " tricky, \' } "" \\ test user " superuser')
    url = way.url("postgres", "pgx_test")
    names = ("PGX_TEST_DATABASE", "PGX_TEST_TCP_CONN_STRING", "PGX_TEST_TLS_CONN_STRING")
    return _go_test(source, way.environment(**dict.fromkeys(names, url)), folder)


def pq(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    source = library.go_module("github.com/lib/pq", PQ)
    house.direct.fresh("pqgo")
    with house.direct.connect("pqgo") as connection:
        connection.execute("drop role if exists pqgo; create role pqgo login superuser")
        connection.execute("create extension hstore")
    env = way.environment(PGUSER="pqgo", PGDATABASE="pqgo", PGPASSWORD="unused")
    env.pop("PGGSSENCMODE", None)  # lib/pq takes no environment that names what it cannot
    # It never ends on this server, with a gate or without, nor does what runs beside it.
    return _go_test(source, env, folder, "-skip", "^TestConnectionTargetSessionAttrs$")
