"""Ports and sockets: nothing passes that the role does not name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse


@asynccontextmanager
async def echoing(path: str = "") -> AsyncIterator[int]:
    """A server on this machine (which is the host, too) that says back what it hears."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(b"echo " + data)
        writer.close()

    server = await (
        asyncio.start_unix_server(talk, path) if path else asyncio.start_server(talk, "127.0.0.1", 0)
    )
    try:
        yield 0 if path else server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def granted(open_ssh: OpenSshHouse, **host: object) -> SshHouse:
    web = await open_ssh()
    web.grant = web.authority.host_grant(**host)
    return web


async def test_a_connection_is_refused_unless_granted(web: SshHouse) -> None:
    async with echoing() as port:
        done = await web.ssh(options=("-W", f"127.0.0.1:{port}"), stdin=b"hello")
        assert done.code != 0
        assert "may not connect" in done.err
        assert "echo" not in done.out
    refused = (await web.recording()).statements[0]
    assert (refused.what, refused.outcome) == ("forward", "refused")


async def test_a_connection_to_a_granted_place_passes_and_is_recorded(open_ssh: OpenSshHouse) -> None:
    async with echoing() as port:
        web = await granted(open_ssh, forward=(f"127.0.0.1:{port}",))
        done = await web.ssh(options=("-W", f"127.0.0.1:{port}"), stdin=b"hello")
        assert done.out == "echo hello"
        passed = (await web.recording()).statements[0]
        assert (passed.what, passed.text) == ("forward", f"127.0.0.1:{port}")
        assert (passed.sent, passed.received) == (5, 10)


async def test_one_port_of_a_host_is_not_another(open_ssh: OpenSshHouse) -> None:
    web = await granted(open_ssh, forward=("127.0.0.1:1",))
    async with echoing() as port, await web.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError) as caught:
            await client.open_connection("127.0.0.1", port)
        assert caught.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED


async def test_dynamic_forwarding_reaches_granted_places_only(open_ssh: OpenSshHouse) -> None:
    async with echoing() as port, echoing() as other:
        web = await granted(open_ssh, forward=(f"127.0.0.1:{port}",))
        async with await web.connect() as client:
            listener = await client.forward_socks("127.0.0.1", 0)
            assert await through_socks(listener.get_port(), port) == b"echo hi"
            assert await through_socks(listener.get_port(), other) == b""


async def through_socks(proxy: int, port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    writer.write(b"\x05\x01\x00")
    await reader.readexactly(2)
    writer.write(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2))
    answer = await reader.read(10)
    if answer[1:2] != b"\0":
        writer.close()
        return b""
    writer.write(b"hi")
    said = await reader.read(64)
    writer.close()
    return said


async def test_a_socket_of_the_hosts_only_where_granted(open_ssh: OpenSshHouse, tmp_path: Path) -> None:
    place = str(tmp_path / "s")
    async with echoing(place):
        web = await granted(open_ssh, forward=(place,))
        async with await web.connect() as client:
            reader, writer = await client.open_unix_connection(place)
            writer.write(b"hi")
            assert await reader.read(64) == b"echo hi"
            with pytest.raises(asyncssh.ChannelOpenError):
                await client.open_unix_connection("/run/docker.sock")


async def test_the_host_listens_only_where_granted(open_ssh: OpenSshHouse) -> None:
    web = await granted(open_ssh, listen=("127.0.0.1:*",))
    async with echoing() as port, await web.connect() as client:
        listener = await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"back")
        assert await reader.read(64) == b"echo back"
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("0.0.0.0", 0, "127.0.0.1", port)
        writer.close()


async def test_a_socket_at_the_host_listens_only_where_granted(
    open_ssh: OpenSshHouse, tmp_path: Path
) -> None:
    """ssh -R of a socket, by the real client."""
    there, home = tmp_path / "there.sock", tmp_path / "home.sock"
    web = await granted(open_ssh, listen=(str(there),))
    async with echoing(str(home)):
        forward = ("-o", "ExitOnForwardFailure=yes", "-R")
        process = await web.start("echo in; cat", options=(*forward, f"{there}:{home}"))
        assert process.stdout is not None
        assert await process.stdout.readline() == b"in\n"
        reader, writer = await asyncio.open_unix_connection(there)
        writer.write(b"back")
        assert await reader.read(64) == b"echo back"
        writer.close()
        process.terminate()
        await process.wait()
        refused = await web.ssh("echo in", options=(*forward, f"{tmp_path}/other.sock:{home}"))
        assert (refused.code, refused.out) == (255, "")
        assert not (tmp_path / "other.sock").exists()


async def test_nothing_listens_by_default(web: SshHouse) -> None:
    async with await web.connect() as client:
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_path("/tmp/s", "/tmp/t")
