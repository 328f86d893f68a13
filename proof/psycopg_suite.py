"""psycopg 3 as programs use it: its packages hold no tests."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from proof.fetch import Library
from proof.house import House, Way
from proof.outcomes import FAILED, PASSED, Outcome, Outcomes

Db = psycopg.Connection
_TESTS: dict[str, Callable[[Way, Db], object]] = {}


def _test(body: Callable[[Way, Db], object]) -> Callable[[Way, Db], object]:
    _TESTS[body.__name__.strip("_").replace("_", " ")] = body
    return body


def psycopg3(library: Library | None, house: House, way: Way, folder: Path) -> Outcomes:
    """Each test with a connection of its own; what it returns must be the same both ways."""
    house.direct.fresh("psycopg")
    found: Outcomes = {}
    for name, body in _TESTS.items():
        try:
            with way.connect("psycopg") as db:
                found[name] = Outcome(PASSED, repr(body(way, db)))
        except Exception:
            found[name] = Outcome(FAILED, traceback.format_exc(limit=-2))
    return found


def _fails(kind: type[Exception], call: Callable[[], object]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


_VALUES = [
    *(1, 2**40, -1.5, Decimal("1e-20"), True, "ünï\t'\"\\", b"\0\1\xff", None, [1, None, 3], [["a"], ["b"]]),
    *(date(1, 1, 1), datetime(2000, 1, 1, tzinfo=UTC), timedelta(days=-3, microseconds=5)),
    *(uuid.UUID(int=7), Jsonb({"a": [1, None]}), Range(1, 5), "x" * 100_000),
]


@_test
def _values_in_text_and_binary(way: Way, db: Db) -> object:
    answers = []
    for binary in (False, True):
        for value in _VALUES:
            mark = "%b" if binary else "%t"
            row = db.execute(f"select {mark}", (value,), binary=binary).fetchone()
            answers.append(str(row)[:50])
    return answers


@_test
def _a_statement_is_prepared_by_itself_and_on_demand(way: Way, db: Db) -> object:
    rows = [db.execute("select %s::int * 2", (n,)).fetchone() for n in range(12)]
    db.execute("select %s::int * 2", (1,), prepare=True)
    return rows, db.execute("select count(*) from pg_prepared_statements").fetchone()


@_test
def _a_prepared_statement_outlives_a_change_of_its_table(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int)")
    db.execute("select * from t", prepare=True)
    db.execute("alter table t add b int")
    return len(db.execute("select * from t", prepare=True).description or ())


@_test
def _a_pipeline(way: Way, db: Db) -> object:
    with db.pipeline():
        cursors = [db.execute("select %s::int", (n,)) for n in range(500)]
        return [cursor.fetchone() for cursor in cursors]


@_test
def _an_error_in_a_pipeline_aborts_what_is_behind_it(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int)")

    def three() -> None:
        with db.pipeline():
            db.execute("insert into t values (1)")
            db.execute("select 1/%s", (0,))
            db.execute("insert into t values (3)")

    return _fails(psycopg.errors.DivisionByZero, three), db.execute("select * from t").fetchall()


@_test
def _a_transaction_in_a_pipeline(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int primary key)")

    def twice() -> None:
        with db.pipeline(), db.transaction():
            db.execute("insert into t values (1)")
            db.execute("insert into t values (1)")

    return _fails(psycopg.errors.UniqueViolation, twice), db.execute("select * from t").fetchall()


@_test
def _many_rows_by_executemany(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int, b text)")
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into t values (%s, %s) returning a", [(n, "x") for n in range(2000)], returning=True
        )
        count = 1
        while cursor.nextset():
            count += 1
    return count, db.execute("select sum(a) from t").fetchone()


@_test
def _named_cursors(way: Way, db: Db) -> object:
    with db.transaction(), db.cursor("c", scrollable=True, row_factory=dict_row) as cursor:
        cursor.execute("select n from generate_series(1, 1000) n")
        first = cursor.fetchmany(7)
        cursor.scroll(100)
        again = cursor.fetchone()
        cursor.scroll(-50)
        return first, again, cursor.fetchone(), len(cursor.fetchall())


@_test
def _rows_one_by_one_and_in_chunks(way: Way, db: Db) -> object:
    sums = []
    for size in (1, 100) if psycopg.pq.version() >= 170000 else (1,):
        with db.cursor() as cursor:
            sums.append(sum(n for (n,) in cursor.stream("select generate_series(1, 20000)", size=size)))
    with db.cursor() as cursor:
        for row in cursor.stream("select generate_series(1, 20000)"):
            if row == (5,):
                break
    return sums, db.execute("select 1").fetchone()


@_test
def _copy_in_text_binary_and_rows(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int, b text)")
    with db.cursor() as cursor:
        with cursor.copy("copy t from stdin") as copy:
            for n in range(10_000):
                copy.write_row((n, f"value\t{n}\n"))
        with cursor.copy("copy t from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((-1, None))
        with cursor.copy("copy t to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        with cursor.copy("copy (select * from t where a < 3 order by a) to stdout csv") as copy:
            text = b"".join(copy)
    return len(rows), rows[-1], text


@_test
def _copy_that_ends_badly(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int)")
    ends = []

    def copy_in(text: str, error: Exception | None = None) -> None:
        with db.cursor() as cursor, cursor.copy("copy t from stdin") as copy:
            copy.write(text)
            if error is not None:
                raise error

    ends.append(_fails(psycopg.errors.InvalidTextRepresentation, lambda: copy_in("x\n")))
    ends.append(_fails(RuntimeError, lambda: copy_in("1\n", RuntimeError("given up"))))
    return ends, db.execute("select count(*) from t").fetchone()


@_test
def _notifications(way: Way, db: Db) -> object:
    db.execute("listen news")
    with way.connect("psycopg") as other:
        other.execute("notify news, 'one'; notify news, 'two'")
        own = other.info.backend_pid
    heard = [(it.channel, it.payload, it.pid == own) for it in db.notifies(timeout=5, stop_after=2)]
    db.execute("notify news, 'mine'")
    mine = [it.pid == db.info.backend_pid for it in db.notifies(timeout=5, stop_after=1)]
    return heard, mine


@_test
def _cancel(way: Way, db: Db) -> object:
    ends = []
    for cancel in (db.cancel, lambda: db.cancel_safe(timeout=5)):
        threading.Timer(0.3, cancel).start()
        begun = time.monotonic()
        ends.append(_fails(psycopg.errors.QueryCanceled, lambda: db.execute("select pg_sleep(20)")))
        assert time.monotonic() - begun < 5
    return ends, db.execute("select 1").fetchone()


@_test
def _two_phases(way: Way, db: Db) -> object:
    db.execute("create table if not exists tpc (a int)")
    db.autocommit = False
    it = db.xid(1, "psycopg", "proof")
    db.tpc_begin(it)
    db.execute("insert into tpc values (1)")
    db.tpc_prepare()
    db.tpc_rollback()
    return db.execute("select count(*) from tpc").fetchone()


@_test
def _every_field_of_an_error(way: Way, db: Db) -> object:
    db.execute("create temp table u (a int constraint positive check (a > 0), b int not null)")
    try:
        db.execute("insert into u values (-1, 1)")
    except psycopg.errors.CheckViolation as error:
        it = error.diag
        fields = (it.severity, it.sqlstate, it.message_primary, it.message_detail, it.table_name)
        return fields, it.constraint_name, it.source_function, it.severity_nonlocalized
    return None


@_test
def _notices_of_every_level(way: Way, db: Db) -> object:
    heard: list[object] = []
    db.add_notice_handler(lambda it: heard.append((it.severity, it.message_primary, it.message_hint)))
    db.execute("set client_min_messages = debug1")
    for level in ("debug", "log", "info", "notice", "warning"):
        db.execute(f"do $$ begin raise {level} 'said' using hint = 'so'; end $$")
    return heard


@_test
def _savepoints(way: Way, db: Db) -> object:
    db.execute("create temp table t (a int)")
    with db.transaction():
        db.execute("insert into t values (1)")
        with db.transaction(force_rollback=True):
            db.execute("insert into t values (2)")
        _fails(psycopg.errors.DivisionByZero, lambda: _broken(db))
    return db.execute("select * from t").fetchall(), db.info.transaction_status


def _broken(db: Db) -> None:
    with db.transaction():
        db.execute("select 1/0")


@_test
def _what_the_connection_knows_of_itself(way: Way, db: Db) -> object:
    names = "server_version server_encoding client_encoding TimeZone DateStyle integer_datetimes is_superuser"
    names += " session_authorization in_hot_standby default_transaction_read_only standard_conforming_strings"
    own = db.execute("select pg_backend_pid()").fetchone() == (db.info.backend_pid,)
    return own, db.info.dbname, db.info.user, {name: db.info.parameter_status(name) for name in names.split()}


@_test
def _settings_that_change_are_reported(way: Way, db: Db) -> object:
    db.execute("set timezone = 'Asia/Tokyo'; set application_name = 'renamed'; set client_encoding = latin1")
    names = ("TimeZone", "application_name", "client_encoding")
    return [db.info.parameter_status(name) for name in names], db.execute("select 'ä'").fetchone()


@_test
def _many_results_of_one_query(way: Way, db: Db) -> object:
    cursor = db.execute("select 1; select 2, 3; create temp table t (); select 4 where false")
    found = [(cursor.statusmessage, cursor.rowcount)]
    while cursor.nextset():
        found.append((cursor.statusmessage, cursor.rowcount))
    return found


@_test
def _a_wide_row_and_a_long_one(way: Way, db: Db) -> object:
    wide = db.execute("select " + ", ".join(str(n) for n in range(1600))).fetchone()
    long = db.execute("select repeat('x', 30000000)").fetchone()
    sent = db.execute("select length(%s::text)", ("y" * 20_000_000,)).fetchone()
    return len(wide or ()), len(long[0]) if long else 0, sent


@_test
def _sixty_thousand_parameters(way: Way, db: Db) -> object:
    marks = ", ".join(["%s"] * 60_000)
    return db.execute(f"select count(*) from unnest(array[{marks}]::int[])", [1] * 60_000).fetchone()


@_test
def _functions_with_cursors_and_records(way: Way, db: Db) -> object:
    db.execute(
        "create or replace function pg_temp.cursors() returns setof refcursor language plpgsql as $$ "
        "declare a refcursor := 'one'; begin open a for select 1; return next a; end $$"
    )
    with db.transaction():
        return db.execute("select pg_temp.cursors()").fetchall(), db.execute('fetch all in "one"').fetchall()


@_test
def _async_and_many_at_once(way: Way, db: Db) -> object:
    async def one(n: int) -> object:
        link = await psycopg.AsyncConnection.connect(way.url(database="psycopg"), autocommit=True)
        async with link:
            return await (await link.execute("select %s::int, pg_sleep(0.01) is null", (n,))).fetchone()

    async def all_of_them() -> list[object]:
        return list(await asyncio.gather(*(one(n) for n in range(30))))

    return asyncio.run(all_of_them())


@_test
def _a_wrong_password(way: Way, db: Db) -> object:
    wrong = Way(way.name, {**way.env, "PGPASSWORD": "wrong"})
    _fails(psycopg.OperationalError, wrong.connect)
    return "refused"


@_test
def _a_backend_that_is_terminated(way: Way, db: Db) -> object:
    said = _fails(
        psycopg.errors.AdminShutdown, lambda: db.execute("select pg_terminate_backend(pg_backend_pid())")
    )
    return said, db.closed
