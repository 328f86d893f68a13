"""The shorter way of a channel's bytes (proxy/ssh/fast.py) beside asyncssh's own: it does the same."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from typing import Any

import asyncssh
import pytest
from asyncssh.encryption import GCMEncryption
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.ssh import algorithms
from proxy.ssh.fast import Fast, FastClientConnection, FastServerConnection


class _Echo(asyncssh.SSHServerSession[bytes]):
    """Says back what it hears, and at the end how much it was and its hash on standard error."""

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.chan = chan
        self.hash = hashlib.sha256()

    def exec_requested(self, command: str) -> bool:
        return True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.hash.update(data)
        self.chan.write(data)

    def eof_received(self) -> bool:
        self.chan.write_stderr(self.hash.digest())
        self.chan.exit(0)
        return True


class _Open(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> _Echo:
        return _Echo()


KEY = asyncssh.generate_private_key("ssh-ed25519")
_KINDS: dict[bool, tuple[type, type]] = {
    True: (FastServerConnection, FastClientConnection),
    False: (asyncssh.SSHServerConnection, asyncssh.SSHClientConnection),
}


async def pair(server_fast: bool, client_fast: bool, **more: Any) -> tuple[asyncio.Server, Any]:
    """A server on loopback, and a client that is connected to it."""
    loop = asyncio.get_running_loop()
    common = {**algorithms.ON_BOTH_SIDES, **more}
    served = asyncssh.SSHServerConnectionOptions(
        loop=loop, server_factory=_Open, server_host_keys=[KEY], encoding=None, line_editor=False, **common
    )
    server = await loop.create_server(lambda: _KINDS[server_fast][0](loop, served), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = await asyncssh.SSHClientConnectionOptions.construct(
        None, host="127.0.0.1", port=port, username="x", known_hosts=None, client_keys=None,
        agent_path=None, **common,
    )  # fmt: skip
    asked.waiter = loop.create_future()
    _, client = await loop.create_connection(
        lambda: _KINDS[client_fast][1](loop, asked, wait="auth"), "127.0.0.1", port
    )
    await asked.waiter
    return server, client


@pytest.mark.parametrize(("server_fast", "client_fast"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("cipher", algorithms.CIPHERS)
async def test_bytes_pass_unchanged_between_either_kind_also_while_keys_change(
    server_fast: bool, client_fast: bool, cipher: str
) -> None:
    server, client = await pair(server_fast, client_fast, encryption_algs=[cipher], rekey_bytes=300_000)
    sent = os.urandom(2_000_000)
    async with asyncio.timeout(30), client:
        done = await client.run("echo", input=sent, encoding=None)
    assert done.stdout == sent
    assert done.stderr == hashlib.sha256(sent).digest()
    server.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=12), st.integers(1, 40_000))
def test_however_they_are_sent_and_cut_they_arrive_in_their_order(sizes: list[int], cut: int) -> None:
    async def story() -> None:
        server, client = await pair(True, True)
        received, whole = client.data_received, b"".join(bytes((n % 251,)) * n for n in sizes)

        def in_pieces(data: bytes, datatype: int | None = None) -> None:
            for at in range(0, len(data), cut):
                received(data[at : at + cut], datatype)

        client.data_received = in_pieces
        async with asyncio.timeout(20), client:
            process = await client.create_process("echo", encoding=None)
            for n in sizes:
                process.stdin.write(bytes((n % 251,)) * n)
            process.stdin.write_eof()
            assert await process.stdout.read() == whole
            assert await process.stderr.read() == hashlib.sha256(whole).digest()
        server.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "attack", ["a bit of the data", "a bit of the tag", "a bit of the length", "a packet twice"]
)
async def test_a_packet_that_was_changed_on_its_way_ends_the_connection(attack: str) -> None:
    server, client = await pair(True, True)
    seen: list[bytes] = []
    write = client._transport.write

    def change(data: bytes) -> None:
        if len(data) > 5000 and not seen:
            changed = bytearray(data)
            changed[
                {"a bit of the data": 100, "a bit of the tag": -1, "a bit of the length": 3}.get(attack, 0)
            ] ^= 0 if attack == "a packet twice" else 1
            seen.append(bytes(changed))
            write(bytes(changed) * (2 if attack == "a packet twice" else 1))
            return
        write(data)

    client._transport = _Changed(client._transport, change)
    async with asyncio.timeout(10):
        process = await client.create_process("echo", encoding=None)
        process.stdin.write(os.urandom(10_000))
        process.stdin.write(os.urandom(10_000))
        await client.wait_closed()
        got = await _rest(process.stdout)
    assert len(got) <= (10_000 if attack == "a packet twice" else 0)
    server.close()


async def _rest(stream: Any) -> bytes:
    """What comes until the connection is said to be broken."""
    got = b""
    try:
        while piece := await stream.read(1000):
            got += piece
    except asyncssh.Error:
        return got
    raise AssertionError("the stream ended as if nothing had been wrong")


class _Changed:
    """A transport whose writes go through something else."""

    def __init__(self, transport: Any, write: Any) -> None:
        self._transport = transport
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_a_packet_that_is_not_quite_as_it_should_be_is_asyncsshs_to_refuse() -> None:
    for forged in _forgeries():
        server, client = await pair(True, True)
        process = await client.create_process("echo", encoding=None)
        process.stdin.write(b"x")
        assert await process.stdout.read(1) == b"x"
        channel = process.channel
        client.send_packet(94, *forged(channel))
        async with asyncio.timeout(10):
            await client.wait_closed()
        server.close()


def _forgeries() -> Iterator[Any]:
    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4) + data

    yield lambda chan: ((77).to_bytes(4), string(b"x"))
    yield lambda chan: (chan._send_chan.to_bytes(4), string(bytes(30_000)) * 1 + b"more")
    yield lambda chan: (chan._send_chan.to_bytes(4), (9).to_bytes(4) + b"x")
    yield lambda chan: (chan._send_chan.to_bytes(4),)


async def test_it_is_the_shorter_way_that_is_taken() -> None:
    """Else the tests above would say nothing."""
    taken = []
    original = Fast._take_data

    def count(self: Any) -> bool:
        taken.append(type(self))
        return original(self)

    Fast._take_data = count  # type: ignore[method-assign]
    try:
        server, client = await pair(True, True)
        assert isinstance(client._recv_encryption, GCMEncryption)
        async with asyncio.timeout(10), client:
            await client.run("echo", input=bytes(500_000), encoding=None)
        server.close()
    finally:
        Fast._take_data = original  # type: ignore[method-assign]
    assert {FastServerConnection, FastClientConnection} <= set(taken)
