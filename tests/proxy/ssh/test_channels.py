"""What passes through the gate: commands, shells, signals, sizes, both ways, as without it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import asyncssh
import pytest

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse


@pytest.mark.parametrize("status", [0, 1, 7, 255])
async def test_the_exit_status_is_the_commands(web: SshHouse, status: int) -> None:
    assert (await web.ssh(f"exit {status}")).code == status


async def test_both_streams_arrive_apart(web: SshHouse) -> None:
    done = await web.ssh("echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")


async def test_a_signal_that_ends_the_command_is_told(web: SshHouse) -> None:
    async with await web.connect() as client:
        ended = await client.run("kill -TERM $$")
        assert ended.exit_signal is not None
        assert ended.exit_signal[0] == "TERM"


class _Signalled(asyncssh.SSHServer):
    """A host that passes signals on to its login's commands; sshd does so for all but root."""

    def begin_auth(self, username: str) -> bool:
        return False


async def test_a_signal_from_the_client_reaches_the_command(web: SshHouse) -> None:
    got: asyncio.Queue[str] = asyncio.Queue()

    class Command(asyncssh.SSHServerSession[str]):
        def exec_requested(self, command: str) -> bool:
            return True

        def connection_made(self, chan: asyncssh.SSHServerChannel[str]) -> None:
            self.chan = chan

        def signal_received(self, signal: str) -> None:
            got.put_nowait(signal)
            self.chan.exit(3)

    class Host(_Signalled):
        def session_requested(self) -> Command:
            return Command()

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=Host, server_host_keys=[key]) as host:
        line = key.export_public_key().decode().strip()
        web.authority.upstream = web.host.upstream(port=host.get_port(), host_keys=(line,))
        web.authority.grants.clear()
        web.authority.host_grant()
        async with asyncio.timeout(10), await web.connect() as client:
            process = await client.create_process("wait")
            process.send_signal("USR1")
            assert await got.get() == "USR1"
            assert (await process.wait()).exit_status == 3


async def test_the_end_of_input_is_passed_on_and_output_still_comes(web: SshHouse) -> None:
    lines = b"".join(b"%d\n" % n for n in range(20_000, 0, -1))
    done = await web.ssh("sort -n; echo end", stdin=lines)
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["1", "2"]
    assert done.out.endswith("20000\nend\n")


async def test_megabytes_pass_unchanged_both_ways(web: SshHouse) -> None:
    sent = os.urandom(8 << 20)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *web.command(), "127.0.0.1", "cat", stdin=pipe, stdout=pipe
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate(sent)
    assert hashlib.sha256(out).digest() == hashlib.sha256(sent).digest()


async def test_a_client_that_does_not_read_holds_the_host_back(web: SshHouse) -> None:
    async with await web.connect() as client:
        process = await client.create_process("cat /dev/zero", encoding=None, window=256 << 10)
        await process.stdout.readexactly(1 << 20)
        await asyncio.sleep(0.3)
        (session,) = web.gate.registry.all()
        before = session.bytes_out
        await asyncio.sleep(0.3)
        assert session.bytes_out == before  # nothing more is taken from the host
        assert before < 12 << 20
        process.close()


async def test_the_environment_is_the_roles_choice(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(environment=("LC_*",))
    done = await web.run(
        *web.command(), "-o", "SendEnv=LC_TIME LANG", "127.0.0.1", "echo $LC_TIME/$LANG",
        LC_TIME="C.UTF-8", LANG="fr_FR",
    )  # fmt: skip
    assert done.out.startswith("C.UTF-8/")
    assert "fr_FR" not in done.out


async def test_a_terminal_has_the_clients_kind_and_size_and_follows_it(web: SshHouse) -> None:
    async with await web.connect() as client:
        process = await client.create_process(
            "echo $TERM; stty size; read x; stty size", term_type="xterm-256color", term_size=(132, 43)
        )
        assert (await process.stdout.readline()).strip() == "xterm-256color"
        assert (await process.stdout.readline()).strip() == "43 132"
        process.change_terminal_size(80, 24)
        process.stdin.write("\n")
        assert "24 80" in await process.stdout.read()


async def test_a_shell_is_refused_where_the_role_has_none(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(shell="refuse")
    done = await web.ssh(stdin=b"echo in\n")
    assert done.code == 126
    assert "deploy has no shell here" in done.err
    assert done.out == ""
    assert (await web.ssh("echo in")).out == "in\n"
    refused = (await web.recording(0)).statements[0]
    assert (refused.what, refused.outcome) == ("shell", "refused")


async def test_a_shell_runs_where_the_role_has_one(web: SshHouse) -> None:
    done = await web.ssh("-T", stdin=b"echo $((6 * 7))\nexit 4\n")
    assert done.code == 4
    assert "42" in done.out


async def test_an_agent_is_not_forwarded(web: SshHouse) -> None:
    async with await web.connect(agent_forwarding=True) as client:
        done = await client.run("echo agent=$SSH_AUTH_SOCK")
        assert done.stdout == "agent=\n"


async def test_x11_is_not_forwarded(web: SshHouse) -> None:
    async with await web.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.run("echo in", x11_forwarding=True, x11_display="localhost:0")


async def test_an_empty_command_is_no_shell(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(shell="refuse")
    async with await web.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.run(" ", stdin=asyncssh.DEVNULL)


async def test_a_subsystem_that_is_not_granted_is_refused(web: SshHouse) -> None:
    done = await web.ssh("-s", "netconf")
    assert done.code == 126
    assert "may not use the subsystem netconf" in done.err


async def test_several_channels_share_one_session(web: SshHouse) -> None:
    control = web.folder / "control"
    master = await web.start("-N", options=("-M", "-S", str(control)))
    await web.until(control.exists, "the master to be up")
    several = [
        web.run("ssh", "-S", str(control), "-F", "none", "127.0.0.1", f"echo {n}; exit {n}") for n in range(5)
    ]
    done = await asyncio.gather(*several)
    said = [(it.out, it.code, it.err) for it in done]
    assert [(it.out, it.code) for it in done] == [(f"{n}\n", n) for n in range(5)], said
    assert len(web.gate.registry.all()) == 1
    master.terminate()
    await master.wait()
    assert sorted(it.text for it in (await web.recording()).statements) == [
        f"echo {n}; exit {n}" for n in range(5)
    ]


async def test_keys_are_exchanged_anew_in_the_middle(web: SshHouse) -> None:
    done = await web.ssh("head -c 6000000 /dev/zero | tr '\\0' x", options=("-o", "RekeyLimit=1M"))
    assert done.code == 0
    assert done.out == "x" * 6_000_000


async def test_a_silent_client_is_asked_and_asks_whether_the_other_is_there(web: SshHouse) -> None:
    """Both sides' keepalives are answered, so that a long silence is no end."""
    alive = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")
    done = await web.ssh("sleep 1.6; echo there", options=alive)
    assert (done.code, done.out) == (0, "there\n")
    async with await web.connect(keepalive_interval=0.1, keepalive_count_max=1) as client:
        assert (await client.run("sleep 0.5; echo there")).stdout == "there\n"
