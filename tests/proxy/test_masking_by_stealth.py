"""What reaches a client beside results: values that functions, triggers and types let slip on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from structlog.testing import capture_logs

from proxy.postgres import codec
from proxy.postgres.reading import CHECK_AMID
from proxy.postgres.session import Session
from tests.proxy.wire_client import RawClient

if TYPE_CHECKING:
    from tests.proxy.conftest import House

SECRET = b"secret.example"
_MADE = """
create function tell(int) returns int language plpgsql as
  $$ begin raise notice 'mail %', (select email from users where id = $1); return $1; end $$;
create domain told as int check (tell(value) > 0);
create table tellers (n told);
create function owner_of(notes) returns text language sql as 'select email from users limit 1';
create function publish() returns trigger language plpgsql as
  $$ begin perform pg_notify('changes', row_to_json(new)::text); return new; end $$;
create trigger publish after update on users for each row execute function publish();
create view peek as select name as shown from users;
grant all on tellers, peek to app_read;
"""
_GONE = """
drop view peek;
drop trigger publish on users; drop function publish(); drop function owner_of(notes); drop table tellers;
drop domain told; drop function tell(int)
"""


@pytest.fixture(autouse=True)
def made(server: Any) -> Iterator[None]:
    server.ask(_MADE)
    yield
    server.ask(_GONE)


async def heard(wire: RawClient) -> list[tuple[bytes, bytes]]:
    """The messages up to ReadyForQuery."""
    found = []
    while not found or found[-1][0] != b"Z":
        found.append(await wire.receive())
    return found


def oid_of(house: House, name: str) -> int:
    ((oid,),) = house.server.ask(f"select '{name}'::regtype::oid::int")
    assert isinstance(oid, int)
    return oid


@pytest.mark.parametrize("name", ["told", "told[]", "tellers", "tellers[]"])
async def test_a_parameters_type_that_runs_code_is_refused(masked: House, name: str) -> None:
    wire = await RawClient.enter(masked)
    value = {"told": b"1", "told[]": b"{1}", "tellers": b"(1)", "tellers[]": b'{"(1)"}'}[name]
    wire.send(
        codec.parse(b"", b"select $1", [oid_of(masked, name)])
        + codec.bind(codec.Bind(b"", b"", (), (value,), ()))
        + codec.message(b"E", b"\0\0\0\0\0")
        + codec.message(b"S")
    )
    said = await heard(wire)
    assert [kind for kind, _ in said] == [b"E", b"Z"]
    assert b"not PostgreSQL's own" in said[0][1]
    assert not any(SECRET in body for _, body in said)
    wire.send(codec.parse(b"", b"select $1", [25]) + codec.message(b"S"))
    assert [kind for kind, _ in await heard(wire)] == [b"1", b"Z"]
    wire.close()


@pytest.mark.parametrize(
    "text",
    [
        "select told(1)",
        "select (1).tell",
        "select 1::told",
        "select '(1)'::tellers",
        "select n.owner_of from notes n",
        "insert into tellers values (1)",
    ],
)
async def test_no_call_in_disguise_shows_a_value(masked: House, text: str) -> None:
    masked.server.ask("insert into notes (body) values ('x')")
    wire = await RawClient.enter(masked)
    wire.send(codec.query(text.encode()))
    said = await heard(wire)
    assert not any(SECRET in body for _, body in said)
    wire.close()


async def test_what_a_trigger_publishes_of_a_masked_row_reaches_no_listener(masked: House) -> None:
    wire = await RawClient.enter(masked)
    wire.send(codec.query(b"listen changes") + codec.query(b"update users set age = age where id = 49"))
    said = [*await heard(wire), *await heard(wire)]
    assert any(b"trigger publish on public.users" in body for kind, body in said if kind == b"E")
    masked.server.ask("update users set age = age where id = 49")
    said.append(await wire.receive())
    masked.server.ask("update users set age = age where id = 50")
    said.append(await wire.receive())
    wire.send(codec.query(b"notify changes"))
    said += await heard(wire)
    payloads = [body[4:].split(b"\0")[:2] for kind, body in said if kind == b"A"]
    assert payloads == [[b"changes", b"***"], [b"changes", b"***"], [b"changes", b""]]
    assert not any(SECRET in body for _, body in said)
    wire.close()


async def test_a_session_without_masks_hears_what_is_said(house: House) -> None:
    async with await house.connect() as db:
        await db.execute("listen changes")
        house.server.ask("update users set age = age where id = 50")
        async for notice in db.notifies(timeout=5, stop_after=1):
            assert SECRET.decode() in notice.payload


async def test_the_planners_preferences_are_closed_and_others_are_not(masked: House) -> None:
    async with await masked.connect() as db:
        await db.execute("set work_mem = '8MB'")
        for text in ("set enable_seqscan = off", "select set_config('random_page_cost', '1', false)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="decides how rows are sorted"):
                await db.execute(text)  # type: ignore[arg-type]


async def test_the_gate_says_once_what_may_tell_masked_values_beside_statements(masked: House) -> None:
    with capture_logs() as said:
        for _ in range(2):
            async with await masked.connect():
                pass
    found = [it["how"] for it in said if "beside the statements" in it["event"]]
    assert found == [("publish on public.users may carry them where no mask is",)]


async def test_a_pipeline_that_never_rests_is_read_by_the_new_catalog_in_the_end(masked: House) -> None:
    def run(text: bytes) -> bytes:
        bound = codec.bind(codec.Bind(b"", b"", (), (), ()))
        return codec.parse(b"", text) + bound + codec.message(b"E", b"\0\0\0\0\0") + codec.message(b"H")

    wire = await RawClient.enter(masked)
    wire.send(run(b"select 1"))
    assert [(await wire.receive())[0] for _ in range(4)] == [b"1", b"2", b"D", b"C"]
    masked.server.ask("create or replace view peek as select email as shown from users")
    (session,) = masked.gate.registry.all()
    assert isinstance(session, Session)
    assert session.reading is not None
    session.reading.checked -= CHECK_AMID  # as if that time had passed
    wire.send(run(b"select shown from peek where shown = 'user7@secret.example'"))
    said = [await wire.receive() for _ in range(4)]
    assert [kind for kind, _ in said] == [b"1", b"2", b"D", b"C"]
    assert said[2][1].endswith(b"***")
    wire.close()


@pytest.mark.parametrize("first", ["declare c cursor for select name from users where id < 3", "select 1"])
async def test_fetch_from_a_portal_shows_no_value_whatever_cursor_had_its_name(
    masked: House, first: str
) -> None:
    wire = await RawClient.enter(masked)
    for text in ("begin", first, "commit", "begin"):
        wire.send(codec.query(text.encode()))
        await heard(wire)
    wire.send(
        codec.parse(b"", b"select upper(email) from users where id < 3")
        + codec.bind(codec.Bind(b"c", b"", (), (), ()))
        + codec.parse(b"", b"fetch all from c")
        + codec.bind(codec.Bind(b"", b"", (), (), ()))
        + codec.message(b"E", b"\0\0\0\0\0")
        + codec.message(b"S")
    )
    said = await heard(wire)
    assert [body[6:] for kind, body in said if kind == b"D"] == [b"***"] * 2
    assert not any(SECRET in body.lower() for _, body in said)
    wire.send(codec.query(b"rollback"))
    await heard(wire)
    wire.close()


async def test_fetch_from_a_portal_of_clear_columns_shows_them(masked: House) -> None:
    wire = await RawClient.enter(masked)
    wire.send(codec.query(b"begin"))
    await heard(wire)
    wire.send(
        codec.parse(b"", b"select id + 0 from users where id = 3")
        + codec.bind(codec.Bind(b"c", b"", (), (), ()))
        + codec.message(b"H")
    )
    assert [(await wire.receive())[0] for _ in range(2)] == [b"1", b"2"]
    wire.send(codec.message(b"S"))
    await heard(wire)
    wire.send(codec.query(b"fetch c"))
    assert [body[-1:] for kind, body in await heard(wire) if kind == b"D"] == [b"3"]
    wire.close()
