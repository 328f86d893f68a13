"""COPY ... TO STDOUT through the gate by the clients people use: what is masked is so in every format."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import psycopg
import pytest

from proxy.postgres import codec
from proxy.postgres.target_end import TargetEnd
from tests.proxy.wire_client import RawClient, connect_asyncpg
from workflows.model import Mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.proxy.conftest import House, OpenHouse, Server

SECRET = "secret.example"
FIRST = "1\tname1\t***\t***00-1\t21"


async def test_psql_copies_a_table_with_what_is_masked_masked(masked: House, tmp_path: Path) -> None:
    out, said = await masked.psql("copy users to stdout")
    assert FIRST in out.splitlines()
    assert SECRET not in out
    assert "WARNING:  this COPY holds masked values: users.email, users.card" in said
    file = tmp_path / "users.csv"
    await masked.psql(f"\\copy (select id, email, age from users order by id) to '{file}' csv header")
    title, *rows = file.read_text().splitlines()
    assert title == "id,email,age"
    assert "1,***,21" in rows


@pytest.mark.parametrize(
    "options",
    ["", "(format csv)", "(format csv, header, force_quote *)", "(delimiter '@')", "(format binary)",
     "(format csv, quote '@', escape '.')", "(null 'nothing')"],
)  # fmt: skip
@pytest.mark.parametrize("what", ["users", "users (card, email)", "(select upper(email), u from users u)"])
async def test_no_format_shows_a_clear_value(masked: House, what: str, options: str) -> None:
    text = f"copy {what} to stdout {options}".encode()
    async with await masked.connect() as db, db.cursor() as cursor, cursor.copy(text) as copy:
        whole = b"".join([bytes(data) async for data in copy])
    assert len(whole) >= 100
    assert SECRET.encode() not in whole.lower()
    assert b"4111" not in whole
    assert (await masked.recording()).statements[-1].rows == 50


async def test_psycopg_reads_rows_of_both_formats(masked: House) -> None:
    async with await masked.connect() as db, db.cursor() as cursor:
        async with cursor.copy("copy (select id, email, age from users order by id) to stdout") as copy:
            rows = [row async for row in copy.rows()]
            assert ("1", "***", "21") in rows
        async with cursor.copy("copy users (id, email, card) to stdout (format binary)") as copy:
            copy.set_types(["int4", "text", "text"])
            rows = [row async for row in copy.rows()]
            assert (1, "***", "***00-1") in rows
        await cursor.execute("select 1")
        assert await cursor.fetchone() == (1,)


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
async def test_asyncpg_copies_a_query_and_a_table(masked: House, form: str) -> None:
    db = await connect_asyncpg(masked)
    try:
        for copy in (
            lambda out: db.copy_from_query(
                "select id, email from users where id < $1", 10, output=out, format=form
            ),
            lambda out: db.copy_from_table("users", output=out, format=form),
        ):
            out = io.BytesIO()
            assert (await copy(out)).startswith("COPY")
            assert b"***" in out.getvalue()
            assert SECRET.encode() not in out.getvalue()
    finally:
        await db.close()


async def test_a_dump_holds_masked_values_and_says_so(masked: House) -> None:
    # It shows a server's warnings with -v only.
    dump = ("pg_dump", "-v", "--no-owner", "--no-privileges", "-t", "users", masked.dsn())
    out, said = await masked.run(*dump)
    assert FIRST in out.splitlines()
    assert SECRET not in out
    assert "this COPY holds masked values: users.email, users.card" in said
    assert "does not bring the real values back" in said


async def test_several_copies_in_one_text_are_masked_each_by_its_own(masked: House) -> None:
    wire = await RawClient.enter(masked)
    texts = b"copy notes to stdout; copy users (id, email) to stdout; copy users (email, id) to stdout csv"
    wire.send(codec.query(texts))
    said, kind = b"", b""
    while kind != b"Z":
        kind, body = await wire.receive()
        said += body
    assert b"7\t***\n" in said
    assert b"***,7\n" in said
    assert SECRET.encode() not in said
    wire.close()


async def test_a_copy_in_single_bytes_is_masked(masked: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's answer cut at every byte comes out the same."""
    whole = TargetEnd.data_received

    def bytewise(self: TargetEnd, chunk: bytes) -> None:
        for n in range(len(chunk)):
            whole(self, chunk[n : n + 1])

    async with await masked.connect() as db, db.cursor() as cursor:
        monkeypatch.setattr(TargetEnd, "data_received", bytewise)
        async with cursor.copy("copy users to stdout csv") as copy:
            rows = [bytes(row) async for row in copy]
    assert b"1,name1,***,***00-1,21\n" in rows
    assert len(rows) == 50


async def test_a_value_larger_than_what_goes_on_in_pieces_is_masked(
    masked: House, server: Server, borrow: Callable[[str, str], None]
) -> None:
    borrow("large", "select n as id, repeat('secret.example', 40000) as email from generate_series(1, 3) n")
    (grant,) = masked.authority.grants.values()
    masked.authority.grants.clear()
    masked.authority.grant(grant.upstream, masks=(Mask("public.large", "email"),))
    out, _ = await masked.psql("copy large to stdout")
    assert out == "1\t***\n2\t***\n3\t***\n"
    out, _ = await masked.psql("copy large (id) to stdout")
    assert out == "1\n2\n3\n"


@pytest.fixture
def borrow(server: Server) -> Callable[[str, str], None]:
    """Makes a table that app_read may read, under a name of this test's own."""

    def make(name: str, query: str) -> None:
        server.ask(
            f"drop table if exists {name}; create table {name} as {query}; grant select on {name} to app_read"
        )

    return make


async def test_a_copy_that_fails_in_the_middle_leaves_the_session_in_order(masked: House) -> None:
    async with await masked.connect() as db, db.cursor() as cursor:
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with cursor.copy(
                "copy (select email, 1 / (id - 40) from users order by id) to stdout"
            ) as copy:
                [row async for row in copy]
        async with cursor.copy("copy (select email, id from users order by id) to stdout csv") as copy:
            assert bytes(await copy.read()) == b"***,1\n"
            [row async for row in copy]
        await cursor.execute("select 1")
        assert await cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("copy users to stdout (encoding 'LATIN1')", "with this ENCODING"),
        ("copy users to stdout (null 'a\\', delimiter ',')", "apart"),
        ("copy (select id from users where email like 'user1%') to stdout", "masked column"),
        ("copy users to program 'cat'", "programs"),
    ],
)
async def test_what_cannot_be_rewritten_is_refused_with_the_reason(
    masked: House, text: str, why: str
) -> None:
    out, said = await masked.psql(text, "select 1", check=False)
    assert why in said
    assert out == "1\n"


async def test_a_view_that_turns_over_in_the_meantime_is_masked_by_the_new_one(
    masked: House, server: Server
) -> None:
    """Rows of COPY have no origin that would tell: the catalog is looked at before each."""
    server.ask("create or replace view copied as select id, name as x from users")
    server.ask("grant select on copied to app_read")
    async with await masked.connect() as db, db.cursor() as cursor:
        async with cursor.copy("copy (select id, x from copied order by id) to stdout") as copy:
            assert bytes(await copy.read()) == b"1\tname1\n"
            [row async for row in copy]
        server.ask("create or replace view copied as select id, email as x from users")
        async with cursor.copy(
            "copy (select id, x, (select 1 from users limit 1) from copied order by id) to stdout"
        ) as copy:
            assert bytes(await copy.read()) == b"1\t***\t1\n"
            [row async for row in copy]
    server.ask("drop view copied")


async def test_a_prepared_statement_that_only_runs_again_sees_a_changed_view(
    masked: House, server: Server
) -> None:
    """Bind and Execute alone: nothing is read, so the catalog's age has to be noticed there."""
    server.ask("create or replace view turning as select id, name as x from users")
    server.ask("grant select on turning to app_read")
    db = await connect_asyncpg(masked)
    try:
        ask = await db.prepare("select x from turning where id = $1")
        assert await ask.fetchval(1) == "name1"
        server.ask("create or replace view turning as select id, email as x from users")
        masked.gate.registry.all()[0].reading.checked -= 60  # type: ignore[attr-defined]
        assert await ask.fetchval(1) == "***"
    finally:
        await db.close()
    server.ask("drop view turning")


async def test_a_copy_is_cut_in_the_middle_of_a_row(masked: House) -> None:
    wire = await RawClient.enter(masked)
    text = b"copy (select email, repeat('x', 900) from users, generate_series(1, 400000) n) to stdout"
    wire.send(codec.query(text))
    for _ in range(50):
        await wire.receive()
    (session,) = masked.gate.registry.all()
    asked = asyncio.get_running_loop().time()
    masked.authority.end(next(iter(masked.authority.grants)))
    fields = await wire.until_cut()
    assert asyncio.get_running_loop().time() - asked < 1
    assert session.over
    assert fields.get(b"C", b"57P01") == b"57P01"


async def test_detectors_search_the_rows_of_a_copy(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), detect=("email",))
    out, _ = await house.psql("copy (select id, email, 'and to ' || email from users order by id) to stdout")
    assert out.splitlines()[0] == "1\t***\tand to ***"
    out, _ = await house.psql("copy (select id, email from users order by id) to stdout csv")
    assert out.splitlines()[0] == "1,***"
