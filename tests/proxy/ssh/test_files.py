"""Files by sftp, scp, rsync and git, with their real clients: by the rules, recorded with their hashes."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.recording import FileOperation
from proxy.ssh import scp
from proxy.ssh import sftp_wire as wire
from proxy.ssh.paths import permitted
from proxy.ssh.sftp import Done, Sftp
from workflows.model import FileRule

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse

ALL = frozenset({"list", "read", "write", "delete"})


async def limited(open_ssh: OpenSshHouse, tmp_path: Path) -> tuple[SshHouse, Path]:
    """Ada may do anything below `open`, look at `shown`, and nothing else."""
    place = Path(os.path.realpath(tmp_path / "host"))
    for name in ("open", "shown", "closed"):
        (place / name).mkdir(parents=True)
        (place / name / "text").write_text(name)
    rules = (
        FileRule((f"{place}/open/**",), ALL),
        FileRule((f"{place}/shown/**",), frozenset({"list", "read"})),
    )
    web = await open_ssh()
    web.grant = web.authority.host_grant(files=rules)
    return web, place


async def operations(web: SshHouse, index: int = 0) -> list[FileOperation]:
    return [it for it in (await web.recording(index)).happened if isinstance(it, FileOperation)]


async def sftp(web: SshHouse, *commands: str) -> tuple[int, str]:
    done = await web.run(
        *web.command("sftp"), "-b", "-", "127.0.0.1", stdin="\n".join(commands).encode() + b"\n"
    )
    return done.code, done.out + done.err


async def test_sftp_puts_and_gets_and_both_are_recorded_with_their_hashes(web: SshHouse) -> None:
    content = os.urandom(3_000_000)
    local, there, back = web.folder / "local", web.folder / "there", web.folder / "back"
    local.write_bytes(content)
    code, said = await sftp(
        web, f"put {local} {there}", f"get {there} {back}", f"rename {there} {there}2", f"rm {there}2"
    )
    assert code == 0, said
    assert back.read_bytes() == content
    digest = hashlib.sha256(content).hexdigest()
    real = os.path.realpath(there)
    told = [(it.operation, it.path, it.outcome, it.size, it.sha256) for it in await operations(web)]
    assert ("write", real, "ok", len(content), digest) in told
    assert ("read", str(there), "ok", len(content), digest) in told
    assert ("rename", real, "ok", 0, "") in told
    assert ("remove", f"{real}2", "ok", 0, "") in told


async def test_what_the_rules_do_not_name_is_refused_and_recorded(
    open_ssh: OpenSshHouse, tmp_path: Path
) -> None:
    web, place = await limited(open_ssh, tmp_path)
    mine = web.folder / "mine"
    mine.write_text("mine")
    for command in (
        f"get {place}/closed/text {web.folder}/x", f"ls {place}/closed", f"put {mine} {place}/shown/new",
        f"rm {place}/shown/text", f"rename {place}/shown/text {place}/open/text2",
        f"chmod 777 {place}/shown/text", f"mkdir {place}/shown/d",
        f"ln {place}/closed/text {place}/open/hard",
        f"put {mine} {place}/open/../shown/new",
    ):  # fmt: skip
        code, said = await sftp(web, command)
        assert code != 0, command
        assert any(word in said for word in ("may not", "ermission denied", "not found")), (command, said)
    assert sorted(it.name for it in (place / "shown").iterdir()) == ["text"]
    assert not (place / "open" / "hard").exists()
    assert not (web.folder / "x").exists()
    assert (await operations(web))[0].outcome == "refused"


async def test_what_the_rules_name_is_done(open_ssh: OpenSshHouse, tmp_path: Path) -> None:
    web, place = await limited(open_ssh, tmp_path)
    mine = web.folder / "mine"
    mine.write_text("mine")
    code, said = await sftp(
        web, f"get {place}/shown/text {web.folder}/got", f"ls -l {place}/shown",
        f"put {mine} {place}/open/new",
        f"mkdir {place}/open/d", f"chmod 600 {place}/open/new", f"ln {place}/open/new {place}/open/hard",
        f"ln -s new {place}/open/soft", f"get {place}/open/soft {web.folder}/soft",
    )  # fmt: skip
    assert code == 0, said
    assert (web.folder / "got").read_text() == "shown"
    assert (web.folder / "soft").read_text() == (place / "open" / "new").read_text() == "mine"
    assert (place / "open" / "hard").stat().st_nlink == 2


async def test_a_link_leads_nowhere_that_its_target_may_not_be_reached(
    open_ssh: OpenSshHouse, tmp_path: Path
) -> None:
    web, place = await limited(open_ssh, tmp_path)
    (place / "open" / "link").symlink_to(place / "closed")
    (place / "open" / "file").symlink_to(place / "closed" / "text")
    mine = web.folder / "mine"
    mine.write_text("mine")
    for command in (
        f"get {place}/open/link/text {web.folder}/x", f"get {place}/open/file {web.folder}/x",
        f"put {mine} {place}/open/link/new", f"put {mine} {place}/open/file", f"ls {place}/open/link/",
    ):  # fmt: skip
        code, said = await sftp(web, command)
        assert code != 0, (command, said)
    assert (place / "closed" / "text").read_text() == "closed"
    assert [it.name for it in (place / "closed").iterdir()] == ["text"]
    code, _ = await sftp(
        web, f"symlink {place}/closed/text {place}/open/own", f"get {place}/open/own {web.folder}/x"
    )
    assert code != 0
    assert not (web.folder / "x").exists()


async def test_keys_of_ones_own_are_not_put_there(web: SshHouse) -> None:
    keys = web.folder / ".ssh"
    keys.mkdir()
    mine = web.folder / "mine"
    mine.write_text("key")
    (web.folder / "way").symlink_to(keys)
    for place in (f"{keys}/authorized_keys", f"{web.folder}/way/authorized_keys", f"{keys}/../.ssh/x"):
        code, _ = await sftp(web, f"put {mine} {place}")
        assert code != 0
    assert list(keys.iterdir()) == []


async def test_no_files_where_the_role_says_nothing_of_them(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(files=())
    code, said = await sftp(web, "ls /")
    assert code != 0
    assert "may not transfer files here" in said


@pytest.mark.parametrize("options", [(), ("-O",)], ids=["by sftp", "the older way"])
async def test_scp_copies_both_ways_and_each_file_is_recorded(
    web: SshHouse, options: tuple[str, ...]
) -> None:
    content = os.urandom(500_000)
    digest = hashlib.sha256(content).hexdigest()
    (web.folder / "a").write_bytes(content)
    command = [*web.command("scp"), *options]
    there = await web.run(*command, str(web.folder / "a"), f"127.0.0.1:{web.folder}/b")
    assert there.code == 0, there.err
    back = await web.run(*command, f"127.0.0.1:{web.folder}/b", str(web.folder / "c"))
    assert back.code == 0, back.err
    assert (web.folder / "c").read_bytes() == content
    for index, operation in enumerate(("write", "read")):
        (moved,) = [it for it in await operations(web, index) if it.operation == operation]
        assert (os.path.realpath(moved.path), moved.outcome, moved.size, moved.sha256) == (
            os.path.realpath(web.folder / "b"), "ok", len(content), digest,
        )  # fmt: skip


async def test_a_folder_by_the_older_way_of_scp_is_recorded_by_file(web: SshHouse) -> None:
    source = web.folder / "source"
    (source / "inner").mkdir(parents=True)
    for name, content in (("one", b"1" * 70_000), ("inner/two", b"22"), ("inner/empty", b"")):
        (source / name).write_bytes(content)
    command = [*web.command("scp"), "-O", "-r", "-p"]
    assert (await web.run(*command, str(source), f"127.0.0.1:{web.folder}/there")).code == 0
    assert (await web.run(*command, f"127.0.0.1:{web.folder}/there", str(web.folder / "back"))).code == 0
    sizes = {"one": 70_000, "inner/two": 2, "inner/empty": 0}
    put = {it.message.removeprefix("sent as source/"): it.size for it in await operations(web, 0)}
    got = {it.path.partition("/there/")[2]: it.size for it in await operations(web, 1)}
    assert put == got == sizes


@given(st.lists(st.binary(max_size=300), max_size=6), st.binary(max_size=40), st.integers(1, 50))
def test_files_are_read_off_a_stream_of_scp_however_it_is_cut(
    contents: list[bytes], rubbish: bytes, cut: int
) -> None:
    stream = b"T1 0 2 0\nD0755 0 folder\n"
    for number, content in enumerate(contents):
        stream += b"C0644 %d name %d\n%b\0" % (len(content), number, content)
    stream += b"E\n" + rubbish
    done: list[Done] = []
    it = scp.Scp("/srv", done.append, sends=False, into=False)
    for at in range(0, len(stream), cut):
        it.pass_on(stream[at : at + cut])
    it.end()
    assert [(d.path, d.message, d.size, d.outcome) for d in done[: len(contents)]] == [
        ("/srv", f"sent as folder/name {n}", len(content), "ok") for n, content in enumerate(contents)
    ]


async def test_rsync_and_git_work_as_without_the_gate(web: SshHouse) -> None:
    shell = " ".join(web.command())
    source = web.folder / "source"
    source.mkdir()
    (source / "x").write_bytes(os.urandom(100_000))
    done = await web.run("rsync", "-a", "-e", shell, f"{source}/", f"127.0.0.1:{web.folder}/target/")
    assert done.code == 0, done.err
    assert (web.folder / "target" / "x").read_bytes() == (source / "x").read_bytes()
    repository = web.folder / "repository"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
    await asyncio.to_thread(subprocess.run, ["git", "init", "-q", repository], check=True)
    await asyncio.to_thread(
        subprocess.run, [*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True
    )
    done = await web.run(
        "git", "clone", "-q", f"127.0.0.1:{repository}", str(web.folder / "clone"), GIT_SSH_COMMAND=shell
    )
    assert done.code == 0, done.err
    assert (web.folder / "clone" / ".git").exists()


async def test_paramiko_runs_commands_and_transfers_files(web: SshHouse) -> None:
    import paramiko

    assert web.gate.ssh is not None
    port, folder = web.gate.ssh.port, web.folder

    def work() -> tuple[str, int, bytes]:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", port, "ada+web-1", password="pce_ada-token-1", look_for_keys=False, allow_agent=False
        )
        _, out, _ = client.exec_command("echo in; exit 5")
        said, code = out.read().decode(), out.channel.recv_exit_status()
        with client.open_sftp() as files:
            with files.open(f"{folder}/p", "wb") as file:
                file.write(b"x" * 200_000)
            with files.open(f"{folder}/p") as file:
                got = file.read()
        client.close()
        return said, code, got

    assert await asyncio.to_thread(work) == ("in\n", 5, b"x" * 200_000)


async def test_what_is_no_sftp_ends_the_channel(web: SshHouse) -> None:
    async with asyncio.timeout(10), await web.connect() as client:
        process = await client.create_process(subsystem="sftp", encoding=None)
        process.stdin.write(b"\xff\xff\xff\xff rubbish")
        assert b"this is not SFTP" in await process.stderr.read()


# ------------------------------------------------------------------ rules and packets


def test_the_first_rule_that_fits_a_path_decides() -> None:
    rules = (
        FileRule(("/srv/*/secret", "/srv/**/*.key"), frozenset()),
        FileRule(("/srv/**",), frozenset({"list", "read", "write"})),
    )
    assert permitted(rules, "read", "/srv/a/b")
    assert permitted(rules, "list", "/srv")
    assert not permitted(rules, "read", "/srv/a/secret")
    assert permitted(rules, "read", "/srv/a/b/secret")
    assert not permitted(rules, "read", "/srv/a/b/c.key")
    assert not permitted(rules, "read", "/srv/a/../../etc/passwd")
    assert not permitted(rules, "delete", "/srv/a/b")
    assert not permitted(rules, "read", "/srv2/a")
    assert not permitted((), "read", "/")


def test_a_folder_of_keys_is_changed_only_by_a_rule_that_names_it() -> None:
    assert not permitted((FileRule(("/**",), ALL),), "write", "/root/.ssh/authorized_keys")
    assert permitted((FileRule(("/**",), ALL),), "read", "/root/.ssh/known_hosts")
    assert permitted((FileRule(("/root/.ssh/config",), ALL),), "write", "/root/.ssh/config")


@given(st.lists(st.binary(min_size=1, max_size=300)), st.integers(1, 50))
def test_packets_are_cut_the_same_however_they_arrive(packets: list[bytes], size: int) -> None:
    stream = b"".join(wire.framed(packet) for packet in packets)
    cut = wire.Cut(bytearray())
    found = [it for at in range(0, len(stream), size) for it in cut.packets(stream[at : at + size])]
    assert found == packets


@given(st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=60)), max_size=20))
def test_no_packet_breaks_the_reader_and_no_path_goes_on_unlooked(packets: list[tuple[int, bytes]]) -> None:
    """Nothing that names a path reaches a host whose rules allow nothing."""
    sent: list[bytes] = []
    done: list[Done] = []
    channel = Sftp((), sent.append, lambda data: None, done.append)
    channel.from_client(wire.framed(b"\x01\0\0\0\x03"))
    for number, (kind, rest) in enumerate(packets):
        try:
            channel.from_client(wire.framed(bytes((kind,)) + number.to_bytes(4) + rest))
        except wire.BadPacket:
            break
    free = {wire.INIT, wire.REALPATH, wire.READ, wire.WRITE, wire.CLOSE, wire.FSTAT, wire.READDIR}
    extended = [packet for packet in sent[1:] if packet[4] == wire.EXTENDED]
    assert all(packet[4] in free for packet in sent if packet not in extended)
    assert all(any(name in packet for name in (b"@openssh.com", b"home-", b"users-")) for packet in extended)


class _Loopback:
    """A host that answers every request, in order, whose stream is cut anywhere."""

    def __init__(self) -> None:
        self.cut = wire.Cut(bytearray())
        self.said = bytearray()

    def hear(self, data: bytes) -> None:
        for packet in self.cut.packets(data):
            if packet[0] == wire.INIT:
                self.say(b"\x02\0\0\0\x03")
                continue
            fields = wire.Fields(packet)
            number = fields.number().to_bytes(4)
            if packet[0] == wire.REALPATH:
                name = wire.string(fields.string())
                self.say(bytes((wire.NAME,)) + number + (1).to_bytes(4) + name + wire.string(b"") + bytes(4))
            elif packet[0] == wire.OPEN:
                self.say(bytes((wire.HANDLE,)) + number + wire.string(b"h" + number))
            elif packet[0] == wire.READ:
                self.say(bytes((wire.DATA,)) + number + wire.string(number * 40))
            else:
                self.say(bytes((wire.STATUS,)) + number + bytes(4) + wire.string(b"") + wire.string(b""))

    def say(self, packet: bytes) -> None:
        self.said += wire.framed(packet)


_asks = st.lists(st.sampled_from(["open", "closed", "read", "remove", "unknown", "deliver"]), max_size=30)


@example(["read", "deliver", "unknown", "deliver", "open", "closed"], [50, 10])
@example(["closed", "deliver", "read", "deliver", "unknown", "remove", "deliver"], [40, 100, 1])
@given(_asks, st.lists(st.integers(1, 400), min_size=1, max_size=10))
def test_every_request_has_one_whole_answer_however_the_hosts_stream_is_cut(
    asks: list[str], cuts: list[int]
) -> None:
    """Whether bytes go on as they come, or answers of the gate's own have to stand between them."""
    host, got = _Loopback(), bytearray()
    rules = (FileRule(("/open/**",), frozenset({"read"})),)
    channel = Sftp(rules, host.hear, got.extend, lambda done: None)
    channel.from_client(wire.framed(b"\x01\0\0\0\x03"))
    sizes = itertools.cycle(cuts)

    def deliver() -> None:
        size = next(sizes)
        data = bytes(host.said[:size])
        del host.said[:size]
        channel.from_host(data)

    while host.said:  # clients ask nothing before they know the version
        deliver()
    asked = 0
    for ask in asks:
        if ask == "deliver":
            deliver()
            continue
        asked += 1
        number = asked.to_bytes(4)
        path = wire.string(b"/open/x" if ask == "open" else b"/closed/x")
        channel.from_client(wire.framed({
            "open": bytes((wire.OPEN,)) + number + path + (1).to_bytes(4) + bytes(4),
            "closed": bytes((wire.OPEN,)) + number + path + (1).to_bytes(4) + bytes(4),
            "read": bytes((wire.READ,)) + number + wire.string(b"h") + bytes(12),
            "remove": bytes((wire.REMOVE,)) + number + path,
            "unknown": bytes((99,)) + number,
        }[ask]))  # fmt: skip
    while host.said:
        deliver()
    answers = list(wire.Cut(bytearray()).packets(bytes(got)))
    assert sum(len(it) + 4 for it in answers) == len(got)
    assert answers[0][0] == wire.VERSION
    assert sorted(int.from_bytes(it[1:5]) for it in answers[1:]) == list(range(1, asked + 1))
    refused = {int.from_bytes(it[1:5]) for it in answers[1:] if it[0] == wire.STATUS}
    requests = [ask for ask in asks if ask != "deliver"]
    assert refused == {n for n, ask in enumerate(requests, 1) if ask in ("closed", "remove", "unknown")}
