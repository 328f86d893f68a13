"""Who comes in at the PostgreSQL door, and what those hear who do not."""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import TYPE_CHECKING

import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.wire_client import last_word, message

if TYPE_CHECKING:
    from tests.proxy.conftest import House, OpenHouse, Server


async def refusal(house: House, **more: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        await house.connect(**more)
    return str(caught.value)


async def test_a_client_without_tls_is_told_to_use_it_and_sends_no_token(house: House) -> None:
    said = await refusal(house, sslmode="disable")
    assert "TLS only" in said
    assert "sslmode=require" in said
    assert house.authority.knocks == []


async def test_a_wrong_token_is_refused_with_the_way_out(house: House) -> None:
    said = await refusal(house, token="guess")
    assert "The token is not valid" in said
    assert "access login" in said


async def test_somebody_elses_token_is_refused(house: House) -> None:
    assert "not valid" in await refusal(house, user="grace")


async def test_without_a_grant_the_client_is_told_how_to_ask(house: House) -> None:
    said = await refusal(house, dbname="other-db")
    assert "no live grant" in said
    assert "/access request other-db 1h" in said


async def test_the_user_name_may_name_the_role(house: House) -> None:
    async with await house.connect(user="ada/readonly"):
        pass
    assert "no live grant" in await refusal(house, user="ada/admin")
    assert [knock.role for knock in house.authority.knocks] == ["readonly", "admin"]


async def test_replication_is_refused(house: House) -> None:
    assert "replication" in (await refusal(house, replication="database")).lower()


@pytest.mark.parametrize(
    "options",
    [
        "-c session_replication_role=replica",
        "-c standard_conforming_strings=off",
        "--client-encoding=SJIS",
        "-O",
    ],
)
async def test_a_startup_option_that_changes_how_statements_are_read_is_refused(
    masked: House, options: str
) -> None:
    said = await refusal(masked, options=options)
    assert "gate" in said


async def test_harmless_startup_options_go_on_to_the_target(house: House) -> None:
    async with await house.connect(options="-c statement_timeout=1234ms", application_name="my app") as db:
        cursor = await db.execute("show statement_timeout")
        assert await cursor.fetchone() == ("1234ms",)
        cursor = await db.execute("show application_name")
        assert await cursor.fetchone() == ("my app",)


async def test_when_the_broker_is_away_nobody_enters(house: House) -> None:
    house.authority.away = True
    assert "broker cannot be reached" in await refusal(house)


async def test_a_target_that_is_down_is_named_without_its_address(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(port=1))
    said = await refusal(house)
    assert "target cannot be reached" in said
    assert "minted" not in said
    closing = (await house.closed())[0]
    assert closing.reason == "error"


async def test_a_target_whose_certificate_is_not_trusted_is_not_entered(
    open_house: OpenHouse, server: Server, gate_identity: object
) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(ca=house.ca.read_text()))
    assert "TLS was not accepted" in await refusal(house)


async def test_a_target_login_with_a_wrong_secret_shows_no_secret(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(password="not this one"))
    said = await refusal(house)
    assert "could not enter the target" in said
    assert "not this one" not in said


async def test_a_grant_admits_only_so_many_sessions(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), max_sessions=1)
    async with await house.connect():
        assert "sessions open" in await refusal(house)
    await house.closed(2)
    async with await house.connect():
        pass


async def test_no_encrypted_gss_but_a_plain_no(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
    writer.write(codec.untagged(codec.GSSENC_REQUEST))
    assert await reader.readexactly(1) == b"N"
    writer.close()


async def test_bytes_ahead_of_the_tls_handshake_end_the_connection(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
    writer.write(codec.untagged(codec.SSL_REQUEST) + codec.startup({"user": "ada"}))
    assert b"ahead of the TLS handshake" in await reader.read()
    writer.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", struct.pack("!II", 8, 7 << 16), b"\0\0\0\0"])
async def test_what_is_not_postgresql_is_turned_away(house: House, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
    writer.write(garbage)
    async with asyncio.timeout(5):
        assert (await reader.read())[:1] in (b"E", b"")
    writer.close()


async def test_the_gate_tells_the_broker_that_it_holds_a_grant(house: House) -> None:
    late = house.authority.grant(house.server.upstream())
    async with asyncio.timeout(5):
        while late not in house.authority.held:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_direct_tls_by_alpn_is_understood(house: House) -> None:
    context = ssl.create_default_context(cafile=str(house.ca))
    context.set_alpn_protocols(["postgresql"])
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port, ssl=context)
    writer.write(codec.startup({"user": "ada", "database": "prod-db"}))
    writer.write(await last_word(reader, writer))
    assert (await message(reader))[1][:4] == b"\0\0\0\x0c"
    assert await message(reader) == (b"R", b"\0\0\0\0")
    writer.close()


async def test_direct_tls_without_alpn_is_refused_as_the_server_does(house: House) -> None:
    context = ssl.create_default_context(cafile=str(house.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port, ssl=context)
    assert b"ALPN" in await reader.read()
    writer.close()


async def test_a_cancel_for_another_worker_is_passed_to_it(open_house: OpenHouse, server: Server) -> None:
    first = await open_house(worker=3)

    async def elsewhere(pid: int, proof: bytes) -> None:
        assert first.gate.cancel(pid, b"\0\0\0\0") is None  # a wrong key does nothing
        passing = first.gate.cancel(pid, proof)
        assert passing is not None
        await passing
        passed.set()

    passed = asyncio.Event()
    second = await open_house(worker=5, cancel_elsewhere=elsewhere)
    first.authority.grant(server.upstream())
    async with await first.connect() as db:
        running = asyncio.create_task(db.execute("select pg_sleep(30)"))
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", second.gate.port)
        ((secret, _),) = first.gate._door._keys[db.pgconn.backend_pid]  # type: ignore[attr-defined]
        writer.write(codec.cancel_request(db.pgconn.backend_pid, secret))
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert passed.is_set(), "the connection was closed before the cancel had been passed on"
        writer.close()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running


async def test_logs_and_recordings_hold_no_secret(
    house: House, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    await house.psql("select 1")
    await refusal(house, password="wrong-token-77")
    await house.closed()
    said = "".join(capfd.readouterr())
    files = "".join(path.read_text() for path in house.directory.rglob("*.jsonl"))
    for secret in ("ada-token-1", "wrong-token-77", server.upstream().password):
        assert secret not in said + files
