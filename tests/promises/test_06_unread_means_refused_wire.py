"""Promise 6. Unread means refused: what cannot be parsed, or two readings disagree on, does not run.

Even where the policy allows every class. Attacked on the wire, in front of a real PostgreSQL.
"""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import struct

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.postgres import codec
from proxy.sql import guard, second
from proxy.sql.tree import words
from tests.proxy.conftest import House, OpenHouse, Server, gate_identity, open_house, server
from tests.proxy.wire_client import RawClient
from workflows.model import Action, Guardrail, Mask, StatementClass

EVERYTHING = Guardrail("everything", Action.ALLOW)
DANGEROUS = frozenset(StatementClass) - {StatementClass.READ, StatementClass.WRITE}
NO_DANGER = Guardrail("no-danger", Action.REFUSE, DANGEROUS)
SYNC = codec.message(b"S")
MARK = "insert into marks values ('{}')"


@pytest.fixture
async def allowed(open_house: OpenHouse, server: Server) -> House:
    """A gate whose policy allows everything."""
    server.ask("""
        drop table if exists marks; create table marks (what text);
        grant all on marks to app_read""")
    it = await open_house()
    it.authority.grant(server.upstream(), guardrails=(EVERYTHING,))
    return it


def marks(house: House) -> int:
    ((count,),) = house.server.ask("select count(*) from marks")
    assert isinstance(count, int)
    return count


async def failure(wire: RawClient) -> dict[bytes, bytes]:
    """The fields of the error that comes before ReadyForQuery."""
    fields: dict[bytes, bytes] = {}
    while True:
        kind, body = await wire.receive()
        if kind == b"E":
            fields = codec.read_report(body)
        if kind == b"Z":
            return fields


UNREADABLE = {
    "nothing the grammar knows": MARK + "; frobnicate marks",
    "an open string": MARK + " ; select 'open",
    "an open comment": MARK + " /* open",
    "an open quoted name": 'select 1 as "open; ' + MARK,
    "an open dollar quote": MARK + "; select $q$ open",
    "a control character": MARK + " -- \x01",
    "a bell in a name": 'select 1 as "\x07"; ' + MARK,
    "letters that reorder what is seen": MARK + " -- \u202e",
    "deeper than is read": MARK + "; select " + "(" * 3000 + "1" + ")" * 3000,
    "longer than is read": MARK + " -- " + "x" * (1 << 20),
    "brackets that cost a reader its time": MARK + "; select " + "date(" * 40 + "now()" + ")" * 40,
}


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("name", sorted(UNREADABLE))
async def test_what_cannot_be_read_does_not_run_though_everything_is_allowed(
    allowed: House, name: str, extended: bool
) -> None:
    text = UNREADABLE[name].format("x").encode()
    wire = await RawClient.enter(allowed)
    if extended:
        execute = codec.message(b"E", b"\0" + struct.pack("!I", 0))
        wire.send(codec.parse(b"", text) + codec.bind(codec.Bind(b"", b"", (), (), ())) + execute + SYNC)
    else:
        wire.send(codec.query(text))
    fields = await failure(wire)
    assert fields[b"C"] in (b"42501", b"42601", b"54001")
    assert marks(allowed) == 0
    wire.send(codec.query(MARK.format("honest").encode()))
    assert b"C" in await wire.until_ready()
    wire.close()
    assert marks(allowed) == 1
    outcomes = [statement.outcome for statement in (await allowed.recording()).statements]
    assert outcomes == ["refused", "ok"]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"'\xbf'"])
async def test_bytes_that_are_no_letters_do_not_run(allowed: House, bad: bytes) -> None:
    wire = await RawClient.enter(allowed)
    wire.send(codec.query(MARK.format("x").encode() + b" -- " + bad))
    assert (await failure(wire))[b"C"] == b"42501"
    assert marks(allowed) == 0
    wire.close()


async def test_a_second_string_behind_the_first_ends_the_session(allowed: House) -> None:
    """A NUL ends the text for one reader and not for another."""
    wire = await RawClient.enter(allowed)
    wire.send(codec.message(b"Q", b"select 1\0" + MARK.format("x").encode() + b"\0"))
    assert (await wire.until_cut())[b"C"] == b"08P01"
    assert marks(allowed) == 0


async def test_where_two_readings_differ_nothing_runs(
    allowed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reader sees another table, another kind, another count: each time the text is unread."""
    seen = second.glance

    def otherwise(text: str) -> tuple[second.Glance, ...]:
        found = seen(text)
        if "table" in text:
            return tuple(second.Glance(it.kind, frozenset({"another"})) for it in found)
        if "kind" in text:
            return tuple(second.Glance("select", it.tables) for it in found)
        return (*found, *found) if "count" in text else found

    monkeypatch.setattr(second, "glance", otherwise)
    async with await allowed.connect() as db:
        for difference in ("table", "kind", "count"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="two parsers"):
                await db.execute(MARK.format(difference).encode())
        await db.execute(MARK.format("alike").encode())
    assert marks(allowed) == 1


async def test_a_reader_that_breaks_lets_nothing_through(
    allowed: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str) -> object:
        raise ZeroDivisionError(text)

    monkeypatch.setattr(guard, "parse", broken)
    _, said = await allowed.psql(MARK.format("x"), check=False)
    assert "the gate failed to read the statement (ZeroDivisionError)" in said
    assert marks(allowed) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"options": "-c standard_conforming_strings=off"},
        {"client_encoding": "SJIS"},
        {"client_encoding": "GBK"},
    ],
)
async def test_a_session_that_begins_with_another_reading_of_text_does_not_begin(
    allowed: House, options: dict[str, str]
) -> None:
    with pytest.raises(psycopg.OperationalError):
        await allowed.connect(**options)


@pytest.mark.parametrize(
    "text",
    [
        "set standard_conforming_strings = off",
        "set session characteristics as transaction read only; set standard_conforming_strings to 'off'",
        "select set_config('standard_conforming_strings', 'off', false)",
        "select set_config('standard' || '_conforming_strings', 'off', false)",
        "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
        "set client_encoding = 'SJIS'",
        "set names 'BIG5'",
        "begin; set local standard_conforming_strings = off; select 'a\\'; delete from marks --'",
    ],
)
async def test_how_text_is_read_does_not_change_in_a_session(allowed: House, text: str) -> None:
    _, said = await allowed.psql(text, check=False)
    assert "ERROR" in said
    out, _ = await allowed.psql("show standard_conforming_strings", "show client_encoding")
    assert out == "on\nUTF8\n"


async def test_a_target_whose_default_is_another_reading_lets_nobody_in_by_it(allowed: House) -> None:
    """A backslash would end no string for the gate, and one for the target."""
    allowed.server.ask("alter role minted set standard_conforming_strings = off")
    try:
        with pytest.raises(psycopg.OperationalError, match="reads strings by the standard"):
            await allowed.connect()
        async with await allowed.connect(options="-c standard_conforming_strings=on") as db:
            assert await (await db.execute("show standard_conforming_strings")).fetchone() == ("on",)
    finally:
        allowed.server.ask("alter role minted reset standard_conforming_strings")


async def test_a_target_that_reads_strings_otherwise_loses_the_session(allowed: House) -> None:
    """The setting changed behind the gate's back, by a function of somebody else's."""
    allowed.server.ask("""
        create or replace function sly() returns void language plpgsql as
            $$ begin perform set_config('standard_conforming_strings', 'off', false); end $$""")
    wire = await RawClient.enter(allowed)
    wire.send(codec.query(b"select sly()"))
    fields = await wire.until_cut()
    assert b"standard_conforming_strings is now off" in fields[b"M"]
    allowed.server.ask("drop function sly()")


async def test_a_message_that_no_client_sends_ends_the_session(allowed: House) -> None:
    for odd in (b"N", b"W", b"\x01", b"p", b"R"):
        wire = await RawClient.enter(allowed)
        wire.send(codec.message(odd, MARK.format("x").encode() + b"\0"))
        assert (await wire.until_cut())[b"C"] == b"08P01"
    assert marks(allowed) == 0


# ------------------------------------------------------------------ the most dangerous one, in disguise

WORDS = st.sampled_from(
    [
        *sorted(
            words(r"""
            delete from marks truncate table drop update set what = 'x' where true with as ( ) explain
            analyze prepare p execute select 1 ; -- /* */ $$ $a$ ' " E' U&' U&" \ \' \0064 do public. only * ,
            using merge into on when matched then begin commit returning ::text copy to stdout e é
            """)
        ),
        "\n",
        "\xa0",
        "\ufeff",
        "\u2028",
        "\r",
        "\t",
        "\x0c",
        "\x0b",
    ]
)


def _inserted(text: str, pieces: list[tuple[int, str]]) -> str:
    for place, piece in pieces:
        text = text[:place] + piece + text[place:]
    return text


WHOLE = st.sampled_from(
    ["delete from marks", "truncate marks", "drop table marks", "update marks set what = ''"]
)
DISGUISED = st.one_of(
    st.lists(WORDS, min_size=1, max_size=14).map(" ".join),
    st.lists(WORDS, min_size=1, max_size=14).map("".join),
    st.builds(_inserted, WHOLE, st.lists(st.tuples(st.integers(0, 20), WORDS), max_size=4)),
)


async def test_no_disguise_gets_past_a_guardrail_that_refuses_what_is_dangerous_or_unread(
    open_house: OpenHouse, server: Server
) -> None:
    server.ask("""
        drop table if exists marks; create table marks (what text); insert into marks select 'kept' from
        generate_series(1, 3); grant all on marks to app_read""")
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(NO_DANGER,), max_sessions=1000)
    texts: list[str] = []

    @settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(DISGUISED)
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    wire = await RawClient.enter(house)
    with psycopg.connect(server.admin, autocommit=True) as admin:
        for text in texts:
            if "\0" in text:
                continue
            wire.send(codec.query(text.encode()))
            await settled(wire)
            wire.send(codec.query(b"rollback") + codec.query(b"deallocate all"))
            await wire.until_ready()
            await wire.until_ready()
            assert admin.execute("select count(*) from marks where what = 'kept'").fetchone() == (3,), text
    wire.close()


async def settled(wire: RawClient) -> None:
    """Read up to ReadyForQuery; a COPY FROM STDIN is ended."""
    while True:
        kind, _ = await wire.receive()
        if kind == b"G":
            wire.send(codec.message(b"f", b"no data\0"))
        if kind == b"Z":
            return


async def test_the_same_holds_where_columns_are_masked(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), masks=(Mask("public.users", "email"),))
    wire = await RawClient.enter(house)
    for text in UNREADABLE.values():
        hidden = text.replace(MARK, "select email from users").encode()
        wire.send(codec.query(hidden))
        said = b""
        while True:
            kind, body = await wire.receive()
            said += body
            if kind == b"Z":
                break
        assert b"secret.example" not in said
    wire.close()
