"""Other people's programs through the gate: Ansible, libssh2, and an editor's way of working on a host."""

from __future__ import annotations

import asyncio
import re
import socket
import tempfile
from typing import TYPE_CHECKING

from proxy.recording import FileOperation
from tests.proxy.ssh.conftest import TOKEN

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse

_PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - copy: {content: "listen = 8080\\n", dest: "%(folder)s/shop.conf", mode: "0640"}
    - lineinfile: {path: "%(folder)s/shop.conf", line: "debug = no"}
    - command: cat %(folder)s/shop.conf
      register: said
    - assert: {that: said.stdout == "listen = 8080\\ndebug = no"}
"""


async def test_ansible_pings_and_plays(web: SshHouse) -> None:
    """Its modules go there by sftp, and its tasks share one connection of OpenSSH's, as it does by itself."""
    play = web.folder / "play.yml"
    play.write_text(_PLAYBOOK % {"folder": web.folder})
    config = web.folder / "ansible.cfg"
    config.write_text("")
    with tempfile.TemporaryDirectory(prefix="ansible-") as short:  # a socket's path may not be long
        done = await web.run(
            "ansible-playbook", "-i", "web-1,", str(play),
            "-e", "ansible_host=127.0.0.1 ansible_python_interpreter=/usr/bin/python3 ansible_user=ada+web-1 "
            f"ansible_port={web.gate.ssh.port if web.gate.ssh else 0}",
            ANSIBLE_SSH_ARGS=" ".join([*web.options(), *web.certificate(), "-o", "ControlMaster=auto",
                                       "-o", "ControlPersist=30s"]),
            ANSIBLE_SSH_CONTROL_PATH_DIR=short, ANSIBLE_HOME=str(web.folder / "ansible"),
            ANSIBLE_REMOTE_TMP=str(web.folder / "remote"),
            ANSIBLE_CONFIG=str(config), ANSIBLE_NOCOLOR="1",
        )  # fmt: skip
    assert done.code == 0, done.out + done.err
    assert re.search(r"web-1 +: ok=5 +changed=3 +unreachable=0 +failed=0", done.out), done.out
    assert (web.folder / "shop.conf").read_text() == "listen = 8080\ndebug = no\n"
    assert len(web.gate.registry.all()) + len(web.authority.closings) == 1


async def test_libssh2_runs_commands_and_transfers_files(web: SshHouse) -> None:
    from ssh2.session import Session
    from ssh2.sftp import LIBSSH2_FXF_CREAT, LIBSSH2_FXF_READ, LIBSSH2_FXF_WRITE

    assert web.gate.ssh is not None
    port, place = web.gate.ssh.port, str(web.folder / "there")

    def work() -> tuple[bytes, int, bytes]:
        with socket.create_connection(("127.0.0.1", port)) as wire:
            session = Session()
            session.handshake(wire)
            session.userauth_password("ada+web-1", TOKEN)
            channel = session.open_session()
            channel.execute("echo in; exit 5")
            said = b""
            while (piece := channel.read())[0] > 0:
                said += piece[1]
            channel.close()
            channel.wait_closed()
            code = channel.get_exit_status()
            sftp = session.sftp_init()
            with sftp.open(place, LIBSSH2_FXF_CREAT | LIBSSH2_FXF_WRITE, 0o600) as file:
                file.write(b"x" * 200_000)
            got = b""
            with sftp.open(place, LIBSSH2_FXF_READ, 0) as file:
                for size, piece in file:
                    got += piece[:size] if size > 0 else b""
            session.disconnect()
        return said, code, got

    assert await asyncio.to_thread(work) == (b"in\n", 5, b"x" * 200_000)
    files = [it for it in (await web.recording()).happened if isinstance(it, FileOperation)]
    assert {(it.operation, it.size) for it in files} >= {("write", 200_000), ("read", 200_000)}


_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print("listening on", server.getsockname()[1], flush=True)
client, _ = server.accept()
client.sendall(b"editor " + client.recv(100))
client.close()
"""


async def test_an_editor_works_on_the_host_by_a_script_and_a_tunnel(open_ssh: OpenSshHouse) -> None:
    """What Visual Studio Code's Remote SSH does, without the editor: `ssh -T -D PORT host bash`, a script on
    standard input that starts a server, and that server reached through the SOCKS port.
    """
    web = await open_ssh()
    web.grant = web.authority.host_grant(forward=("127.0.0.1:*", "localhost:*"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        socks = free.getsockname()[1]
    process = await web.start("bash", options=("-T", "-D", f"127.0.0.1:{socks}"))
    assert process.stdin is not None
    assert process.stdout is not None
    script = f"echo ready\npython3 -c '{_SERVER}'\n"
    process.stdin.write(script.encode())
    assert await process.stdout.readline() == b"ready\n"
    port = int((await process.stdout.readline()).split()[-1])
    reader, writer = await asyncio.open_connection("127.0.0.1", socks)
    writer.write(b"\x05\x01\x00")
    await reader.readexactly(2)
    name = b"localhost"
    writer.write(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2))
    assert (await reader.readexactly(10))[1] == 0
    writer.write(b"hello")
    assert await reader.read(100) == b"editor hello"
    writer.close()
    process.stdin.write(b"exit 0\n")
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 0
    told = [(it.what, it.text) for it in (await web.recording()).statements]
    assert sorted(told) == [("exec", "bash"), ("forward", f"localhost:{port}")]
