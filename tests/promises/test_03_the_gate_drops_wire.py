"""Promise 3. The gate drops: whatever a session is doing, it ends within a second of its grant's end.

What was open is rolled back. The gate holds the deadline itself; a lost broker can only shorten access.
"""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from proxy.authority import GrantEnded, ReviewDecided
from proxy.postgres import codec
from tests.proxy.conftest import (
    HOLD_WRITES,
    House,
    OpenHouse,
    Server,
    gate_identity,
    house,
    open_house,
    server,
)
from tests.proxy.wire_client import RawClient
from workflows.model import EndReason, Mask, ReviewState


async def nothing_runs(house: House) -> None:
    """Wait until the minted login has no backend left at the target."""
    while True:
        rows = await asyncio.to_thread(
            house.server.ask, "select count(*) from pg_stat_activity where usename = 'minted'"
        )
        if rows == [(0,)]:
            return
        await asyncio.sleep(0.02)


@asynccontextmanager
async def within_a_second(house: House) -> AsyncIterator[None]:
    """What is done inside must leave neither client nor backend a second later."""
    began = time.monotonic()
    yield
    async with asyncio.timeout(5):
        await nothing_runs(house)
    assert time.monotonic() - began < 1.0


def revoke(house: House, reason: EndReason = EndReason.REVOKED) -> None:
    house.authority.end(next(iter(house.authority.grants)), reason, "by Grace")


async def test_an_idle_session_hears_why_and_how_to_ask_again(house: House) -> None:
    wire = await RawClient.enter(house)
    async with within_a_second(house):
        revoke(house)
        said = await wire.until_cut()
    assert said[b"S"] == b"FATAL"
    assert said[b"C"] == b"57P01"
    assert said[b"M"] == b"access ended: the grant was revoked (by Grace)"
    assert said[b"H"].startswith(b"Ask again: /access request prod-db 1h")
    closing = (await house.closed())[0]
    assert closing.reason == "cut"


async def test_in_the_middle_of_a_query(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select pg_sleep(60)"))
    await asyncio.sleep(0.2)
    async with within_a_second(house):
        revoke(house, EndReason.RELEASED)
        assert b"released" in (await wire.until_cut())[b"M"]
    (statement,) = (await house.recording()).statements
    assert statement.outcome == "unfinished"


async def test_in_the_middle_of_a_query_that_only_computes(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select count(*) from generate_series(1, 1000000000)"))
    await asyncio.sleep(0.2)
    async with within_a_second(house):
        revoke(house)
        assert await wire.until_cut()


async def test_in_an_open_transaction_which_is_rolled_back(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"begin; insert into notes (body) values ('half done')"))
    await wire.until_ready()
    async with within_a_second(house):
        revoke(house)
        await wire.until_cut()
    assert house.server.ask("select count(*) from notes where body = 'half done'") == [(0,)]


async def test_in_the_middle_of_copy_in_which_is_rolled_back(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"copy notes (body) from stdin"))
    await wire.receive()
    wire.send(codec.message(b"d", b"half copied\n") * 1000)
    await asyncio.sleep(0.1)
    async with within_a_second(house):
        revoke(house)
        await wire.until_cut()
    assert house.server.ask("select count(*) from notes where body = 'half copied'") == [(0,)]


async def test_in_the_middle_of_copy_out(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"copy (select repeat('x', 500), generate_series(1, 100000000)) to stdout"))
    for _ in range(100):
        await wire.receive()
    async with within_a_second(house):
        revoke(house)
        assert (await wire.until_cut())[b"C"] == b"57P01"


async def test_in_the_middle_of_a_copy_that_is_being_masked(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), masks=(Mask("public.users", "email"),))
    wire = await RawClient.enter(house)
    text = b"copy (select email, repeat('x', 900) from users, generate_series(1, 10000000) n) to stdout"
    wire.send(codec.query(text))
    seen = b""
    for _ in range(100):
        seen += (await wire.receive())[1]
    async with within_a_second(house):
        revoke(house)
        said = await wire.until_cut()
    assert said.get(b"C", b"57P01") == b"57P01"
    assert b"***" in seen
    assert b"secret" not in seen


def _bound(text: str, rows: int) -> bytes:
    bind = codec.bind(codec.Bind(b"p", b"", (), (), ()))
    execute = codec.message(b"E", b"p\0" + struct.pack("!I", rows))
    return codec.parse(b"", text.encode()) + bind + execute


async def test_in_the_middle_of_a_portal(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(_bound("select generate_series(1, 100000000)", 10) + codec.message(b"H"))
    while (await wire.receive())[0] != b"s":
        pass
    async with within_a_second(house):
        revoke(house)
        assert (await wire.until_cut())[b"C"] == b"57P01"
    (statement,) = (await house.recording()).statements
    assert (statement.outcome, statement.rows) == ("suspended", 0)


async def test_in_a_pipeline_without_its_sync_which_is_rolled_back(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(_bound("insert into notes (body) values ('unsynced')", 0) + codec.message(b"H"))
    while (await wire.receive())[0] != b"C":
        pass
    async with within_a_second(house):
        revoke(house)
        assert await wire.until_cut()
    assert house.server.ask("select count(*) from notes where body = 'unsynced'") == [(0,)]


@pytest.mark.parametrize("text", ["insert into notes (body) values ('held')", "commit"])
async def test_while_something_is_held_which_then_never_runs(
    open_house: OpenHouse, server: Server, text: str
) -> None:
    """Not even when the approval comes all the same."""
    house = await open_house()
    terms = {"hold_commit": HOLD_WRITES} if text == "commit" else {"guardrails": (HOLD_WRITES,)}
    house.authority.grant(server.upstream(), **terms)
    reviews = house.authority.reviews
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"begin"))
    if text == "commit":
        wire.send(codec.query(b"insert into notes (body) values ('held')"))
    wire.send(codec.query(text.encode()))
    review = await reviews.asked()
    async with within_a_second(house):
        revoke(house)
        assert (await wire.until_cut())[b"C"] == b"57P01"
    await reviews.state(review.id, ReviewState.WITHDRAWN)
    house.authority._tell(ReviewDecided(review.id, review.session_id, ReviewState.APPROVED, "grace", ""))
    await asyncio.sleep(0.1)
    assert house.server.ask("select count(*) from notes where body = 'held'") == [(0,)]


async def test_a_client_that_does_not_read(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select repeat('x', 1000), generate_series(1, 100000000)"))
    await asyncio.sleep(0.5)
    async with within_a_second(house):
        revoke(house)
    assert len(house.gate.registry) == 0


async def test_a_client_in_the_middle_of_a_message(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(b"Q\0\0\1\0select")
    async with within_a_second(house):
        revoke(house)
        assert (await wire.until_cut())[b"C"] == b"57P01"


async def test_in_the_middle_of_one_huge_value(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select repeat('x', 300000000)"))
    await asyncio.sleep(0.8)
    async with within_a_second(house):
        revoke(house)


async def test_at_the_expiry_by_the_gates_own_clock(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), seconds=1.0)
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select pg_sleep(60)"))
    began = time.monotonic()
    said = await wire.until_cut()
    assert time.monotonic() - began < 2.0
    assert b"expired" in said[b"M"]


async def test_every_session_of_the_grant_and_no_other(house: House) -> None:
    first = [await RawClient.enter(house) for _ in range(3)]
    old = next(iter(house.authority.grants))
    # The other grant is admitted next, since the first of the grants wins.
    house.authority.grants = {"G-other": house.authority.grants[old], **house.authority.grants}
    other = await RawClient.enter(house)
    house.authority.end(old)
    for wire in first:
        assert await wire.until_cut()
    other.send(codec.query(b"select 1"))
    assert await other.until_ready() == [b"T", b"D", b"C", b"Z"]
    other.close()


async def test_one_session_that_is_killed_and_no_other_of_its_grant(house: House) -> None:
    first, second = await RawClient.enter(house), await RawClient.enter(house)
    doomed = next(iter(house.authority.sessions))
    first.send(codec.query(b"begin; create table gone (n int); select pg_sleep(30)"))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    house.authority.kill(doomed)
    said = await first.until_cut()
    assert time.monotonic() - began < 1.0
    assert (said[b"S"], said[b"C"]) == (b"FATAL", b"57P01")
    assert said[b"M"] == b"access ended: this session was killed by grace: wrong table"
    assert b"The grant itself stands" in said[b"H"]
    second.send(codec.query(b"select to_regclass('gone') is null"))
    assert await second.until_ready() == [b"T", b"D", b"C", b"Z"]
    closing = (await house.closed())[0]
    assert (closing.session, closing.reason) == (doomed, "cut")
    third = await RawClient.enter(house)  # under the same grant
    for wire in (second, third):
        wire.close()


async def test_a_session_that_is_killed_while_it_is_being_admitted(house: House) -> None:
    admit = house.authority.admit

    async def slow(knock: object) -> object:
        answer = await admit(knock)  # type: ignore[arg-type]
        house.authority.kill(answer.session)  # type: ignore[union-attr]
        await asyncio.sleep(0.2)
        return answer

    house.authority.admit = slow  # type: ignore[assignment, method-assign]
    with pytest.raises(psycopg.OperationalError, match="killed by grace"):
        await house.connect()
    await nothing_runs(house)


async def test_a_kill_of_a_session_that_is_not_here_does_nothing(house: House) -> None:
    wire = await RawClient.enter(house)
    house.authority.kill("S-ELSEWHERE")
    house.authority.kill("")
    wire.send(codec.query(b"select 1"))
    assert await wire.until_ready() == [b"T", b"D", b"C", b"Z"]
    wire.close()


async def test_a_grant_that_ends_while_its_session_is_being_admitted(house: House) -> None:
    admit = house.authority.admit

    async def slow(knock: object) -> object:
        answer = await admit(knock)  # type: ignore[arg-type]
        revoke(house)
        await asyncio.sleep(0.2)
        return answer

    house.authority.admit = slow  # type: ignore[assignment, method-assign]
    with pytest.raises(psycopg.OperationalError, match="access ended"):
        await house.connect()
    await nothing_runs(house)


async def test_without_renewal_the_lease_ends_the_session(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.lease = 1.0
    house.authority.grant(server.upstream())
    wire = await RawClient.enter(house)
    await asyncio.sleep(1.5)
    wire.send(codec.query(b"select 1"))
    await wire.until_ready()  # renewed all the while
    house.authority.lose()
    began = time.monotonic()
    said = await wire.until_cut()
    assert b"lost the broker" in said[b"M"]
    assert time.monotonic() - began < 1.7
    await nothing_runs(house)


async def test_a_revocation_that_was_missed_is_found_at_the_next_renewal(house: House) -> None:
    wire = await RawClient.enter(house)
    house.authority.grants.clear()  # no notice is sent
    async with within_a_second(house):
        assert b"no longer allows" in (await wire.until_cut())[b"M"]


async def test_a_renewal_that_overtakes_the_notice_says_why_as_well(house: House) -> None:
    wire = await RawClient.enter(house)
    (grant,) = house.authority.grants
    house.authority.grants.clear()  # no notice is sent
    house.authority.ends = (GrantEnded(grant, EndReason.REVOKED, "by grace"),)
    async with within_a_second(house):
        assert b"the grant was revoked (by grace)" in (await wire.until_cut())[b"M"]


async def test_the_gate_follows_the_broker_again_after_losing_it(house: House) -> None:
    wire = await RawClient.enter(house)
    house.authority.lose()
    await asyncio.sleep(0.3)
    house.authority.away = False
    async with asyncio.timeout(5):
        while len(house.authority._followers) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    async with within_a_second(house):
        revoke(house)
        assert b"revoked" in (await wire.until_cut())[b"M"]


async def test_a_machine_that_slept_past_the_expiry_cuts_when_it_wakes(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), seconds=100)
    wire = await RawClient.enter(house)
    house.authority.lose()  # nobody renews; only the gate's own clock speaks
    session = house.gate.registry.all()[0]
    began = house.gate.clock.monotonic()

    class Later:
        def monotonic(self) -> float:
            return began + 200

        def now(self) -> object:
            return house.gate.clock.now()

    session.clock = Later()  # type: ignore[assignment]
    assert b"expired" in (await wire.until_cut())[b"M"]


async def test_a_client_that_goes_away_leaves_nothing_running(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select pg_sleep(60)"))
    await asyncio.sleep(0.2)
    async with within_a_second(house):
        wire.close()
    assert (await house.closed())[0].reason == "client"


async def test_a_target_that_ends_the_session_says_so_to_the_client(house: House) -> None:
    wire = await RawClient.enter(house)
    house.server.ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'minted'")
    assert (await wire.until_cut())[b"C"] == b"57P01"
    closing = (await house.closed())[0]
    assert closing.reason == "target"
    assert "terminating connection" in closing.detail


async def test_a_gate_that_stops_closes_its_sessions_and_their_recordings(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select 1"))
    await wire.until_ready()
    await house.gate.stop()
    assert b"shutting down" in (await wire.until_cut())[b"M"]
    recording = await house.recording()
    assert recording.footer is not None
    assert [s.text for s in recording.statements] == ["select 1"]
