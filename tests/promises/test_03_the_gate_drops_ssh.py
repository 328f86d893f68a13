"""Promise 3. The gate drops, over SSH: whatever is open, in its middle, within a second."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

import asyncssh
import pytest

from proxy.ssh.session import Session
from tests.proxy.conftest import gate_identity
from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse, open_ssh, ssh_host, web
from workflows.model import Action, EndReason, Guardrail, Quorum, ReviewState

WHY = "the grant was revoked"


async def dropped(web: SshHouse, process: asyncio.subprocess.Process) -> str:
    """Revoke, and see the gate close the connection within a second, and the client out: what it said.

    The second is the gate's, and longer where more wants to run than there are cores. The client is a process
    of its own, which gets its turn later still.
    """
    second = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    (session,) = web.gate.registry.all()
    assert isinstance(session, Session)
    web.authority.end(web.grant, EndReason.REVOKED)
    leaving = asyncio.create_task(process.communicate())
    async with asyncio.timeout(second):
        await session.near.wait_closed()
    assert not web.gate.registry.all()
    async with asyncio.timeout(30):
        _, err = await leaving
    assert process.returncode != 0
    return err.decode()


async def moving(web: SshHouse, size: int = 1 << 20) -> None:
    """Until so many bytes have passed."""

    def passed() -> bool:
        return any(it.bytes_in + it.bytes_out > size for it in web.gate.registry.all())

    await web.until(passed, "bytes to pass", 60)


async def test_a_tunnel_does_not_outlive_its_grant(open_ssh: OpenSshHouse) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        await reader.read()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    web = await open_ssh()
    web.grant = web.authority.host_grant(forward=(f"127.0.0.1:{port}",), listen=("127.0.0.1:*",))
    async with await web.connect() as client:
        reader, writer = await client.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.read(5) == b"hello"
        listener = await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        place = listener.get_port()
        web.authority.end(web.grant, EndReason.REVOKED)
        async with asyncio.timeout(1):
            await client.wait_closed()
            await gone.wait()
    await web.until(lambda: not _open(place), "the host to listen no more", 2)
    server.close()


def _open(port: int) -> bool:
    listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True)
    if listening.returncode == 0:
        return bool(listening.stdout.strip())
    with open("/proc/net/tcp") as table:
        return any(f":{port:04X} " in line and " 0A " in line for line in table)


async def test_in_the_middle_of_sftps_get_and_put(web: SshHouse) -> None:
    large = web.folder / "large"
    with large.open("wb") as file:
        file.truncate(20 << 30)  # no machine is through with it in a second
    for line in (f"get {large} /dev/null", f"put {large} /dev/null"):
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *web.command("sftp"), "-b", "-", "127.0.0.1", stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        await moving(web)
        assert WHY in await dropped(web, process)
        web.grant = web.authority.host_grant()


async def test_every_channel_of_a_connection_that_several_share(web: SshHouse) -> None:
    control, own = web.folder / "control", os.getpid()  # no other run's sleep is taken for one of these
    master = await web.start("-N", options=("-M", "-S", str(control)))
    await web.until(control.exists, "the master to be up")
    pipe = asyncio.subprocess.PIPE
    shared = [
        await asyncio.create_subprocess_exec(
            "ssh", "-S", str(control), "-F", "none", "127.0.0.1", f"echo in; sleep 63.{n}{own}",
            stdin=pipe, stdout=pipe, stderr=pipe,
        )
        for n in range(3)
    ]  # fmt: skip
    for process in shared:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"in\n"
    await dropped(web, master)
    async with asyncio.timeout(30):
        for process in shared:
            await process.communicate()

    def alive() -> bool:
        return subprocess.run(["pgrep", "-f", rf"sleep 63\.[0-9]{own}$"], capture_output=True).returncode == 0

    await web.until(lambda: not alive(), "the commands to end at the host", 10)


async def test_in_the_middle_of_a_new_key_exchange(web: SshHouse) -> None:
    process = await web.start("cat /dev/zero", options=("-o", "RekeyLimit=64K"))
    assert process.stdout is not None
    await process.stdout.readexactly(1 << 20)
    await dropped(web, process)


async def test_a_line_that_waits_for_a_yes_never_runs(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    rail = Guardrail("ask", Action.HOLD, quorum=(Quorum("dba"),))
    web.grant = web.authority.host_grant(guardrails=(rail,))
    process = await web.start(f"touch {web.folder}/made")
    review = (await web.authority.reviews.asked()).id
    assert WHY in await dropped(web, process)
    await web.authority.reviews.state(review, ReviewState.WITHDRAWN)
    with pytest.raises(AssertionError):  # no yes is taken any more
        web.authority.reviews.approve(review)
    assert not (web.folder / "made").exists()


async def test_at_the_expiry_by_the_gates_own_clock_with_the_broker_dead(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.authority.lease = 60
    web.grant = web.authority.host_grant(seconds=1.5)
    until = time.monotonic() + 1.5
    process = await web.start("cat /dev/zero")
    await moving(web)
    web.authority.lose()
    async with asyncio.timeout(10):
        await process.communicate()
    assert time.monotonic() - until < 1


async def test_a_client_that_answers_nothing_any_more(web: SshHouse) -> None:
    """Stopped by a signal: it takes no word of the cut, and is out all the same."""
    process = await web.start("cat /dev/zero")
    await moving(web)
    process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        web.authority.end(web.grant, EndReason.REVOKED)
        await web.until(lambda: not web.gate.registry.all(), "the session to be over", 1)
        assert time.monotonic() - began < 1
        assert (await web.closed())[0].reason == "cut"
    finally:
        process.send_signal(signal.SIGCONT)
        await process.communicate()


async def test_one_session_that_is_killed_and_no_other_of_its_grant(web: SshHouse) -> None:
    async with await web.connect() as one, await web.connect() as other:
        first = web.gate.registry.all()[0].admission.session
        web.authority.kill(first)
        async with asyncio.timeout(1):
            done, _ = await asyncio.wait(
                [asyncio.ensure_future(it.wait_closed()) for it in (one, other)],
                return_when=asyncio.FIRST_COMPLETED,
            )
        assert len(done) == 1
        (left,) = web.gate.registry.all()
        assert left.admission.session != first
