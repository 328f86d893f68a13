"""Promise 7. Unrecorded means refused, over SSH."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import asyncio
import shutil

import asyncssh
import pytest

from tests.promises.test_07_unrecorded_means_refused import full_disk
from tests.proxy.conftest import gate_identity
from tests.proxy.ssh.conftest import TOKEN, OpenSshHouse, SshHouse, open_ssh, ssh_host, web

STOPPED = "nothing goes on unrecorded"


async def refused_now(web: SshHouse, known_hosts: str) -> None:
    """`known_hosts` was written while something could be."""
    assert web.gate.ssh is not None
    with pytest.raises(asyncssh.DisconnectError, match="cannot be recorded"):
        await asyncssh.connect(
            "127.0.0.1", web.gate.ssh.port, username="ada+web-1", password=TOKEN, client_keys=None,
            agent_path=None, config=None, known_hosts=known_hosts,
        )  # fmt: skip


async def test_when_the_disk_is_full_a_shell_ends_and_new_ones_are_refused(web: SshHouse) -> None:
    known = str(web.known_hosts())
    process = await web.start("-tt")
    await web.until(lambda: any(it.bytes_out for it in web.gate.registry.all()), "the shell")
    with full_disk(100):
        assert process.stdin is not None
        process.stdin.write(b"echo in\n")
        async with asyncio.timeout(5):
            _, err = await process.communicate()
        assert STOPPED in err.decode()
        await refused_now(web, known)
    assert (await web.ssh("echo in")).out == "in\n"


async def test_when_the_disk_is_full_a_transfer_ends(web: SshHouse) -> None:
    large = web.folder / "large"
    with large.open("wb") as file:
        file.truncate(20 << 30)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *web.command("sftp"), "-b", "-", "127.0.0.1", stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    process.stdin.write(f"put {large} /dev/null\n".encode())
    await web.until(lambda: any(it.bytes_in > 1 << 20 for it in web.gate.registry.all()), "bytes to pass")
    with full_disk(100):
        async with asyncio.timeout(10):
            _, err = await process.communicate()
    assert STOPPED in err.decode()
    assert (await web.closed())[0].reason == "error"


async def test_when_the_disk_is_full_a_tunnel_ends(open_ssh: OpenSshHouse) -> None:
    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
        except OSError:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    web = await open_ssh()
    web.grant = web.authority.host_grant(forward=(f"127.0.0.1:{port}",))
    process = await web.start(options=("-W", f"127.0.0.1:{port}"))
    assert process.stdout is not None
    await process.stdout.readexactly(1 << 20)
    with full_disk(100):
        async with asyncio.timeout(10):
            _, err = await process.communicate()
    assert STOPPED in err.decode()
    server.close()


async def test_when_the_directory_is_removed_sessions_end(web: SshHouse) -> None:
    process = await web.start("while echo in; do sleep 0.05; done")
    await web.until(lambda: any(it.bytes_out for it in web.gate.registry.all()), "the command")
    shutil.rmtree(web.gate.recorder.path("x").parent)
    async with asyncio.timeout(5):
        _, err = await process.communicate()
    assert STOPPED in err.decode()
    await refused_now(web, str(web.known_hosts()))
