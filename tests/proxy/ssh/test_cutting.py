"""The gate drops, over SSH: within a second, whatever runs, the reason shown and nothing left running."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING

import asyncssh
import pytest

from proxy.recording import Screen
from workflows.model import EndReason

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse


def alive(mark: str) -> bool:
    return subprocess.run(["pgrep", "-f", mark], capture_output=True).returncode == 0


async def begun(web: SshHouse) -> None:
    await web.until(lambda: any(it.bytes_out for it in web.gate.registry.all()), "the command to run")


async def ended(process: asyncio.subprocess.Process) -> tuple[float, int | None, str]:
    """Seconds until the client was out, its exit status, and what it said."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        _, err = await process.communicate()
    return time.monotonic() - began, process.returncode, err.decode()


@pytest.mark.parametrize("mark", ["61.0625", "61.1250"])
async def test_a_command_is_cut_at_revocation_told_why_and_ends_at_the_host(web: SshHouse, mark: str) -> None:
    line = f"echo in; sleep {mark}" if mark == "61.0625" else f"trap '' HUP TERM; echo in; sleep {mark}; true"
    process = await web.start(line)
    await begun(web)
    web.authority.end(web.grant, EndReason.REVOKED, "by Grace: wrong host")
    seconds, code, said = await ended(process)
    assert seconds < 1
    assert code == 255
    assert "the grant was revoked (by Grace: wrong host)" in said
    assert "/access request web-1" in said
    await web.until(lambda: not alive(f"sleep {mark}"), "the command to end at the host", 2)
    cut = (await web.recording()).statements[0]
    assert (cut.text, cut.outcome) == (line, "unfinished")
    assert (await web.closed())[0].reason == "cut"


async def test_a_transfer_is_cut_in_its_middle(web: SshHouse) -> None:
    process = await web.start("cat /dev/zero")
    await begun(web)
    assert process.stdout is not None
    await process.stdout.readexactly(1 << 20)
    web.authority.end(web.grant, EndReason.REVOKED)
    began = time.monotonic()
    async with asyncio.timeout(10):
        await process.communicate()
    assert time.monotonic() - began < 1
    assert process.returncode == 255


async def test_a_client_that_reads_nothing_is_cut_too(web: SshHouse) -> None:
    async with await web.connect() as client:
        await client.create_process("cat /dev/zero", encoding=None, window=64 << 10)
        await begun(web)
        web.authority.end(web.grant, EndReason.REVOKED)
        async with asyncio.timeout(1):
            await client.wait_closed()


async def test_a_shell_with_a_terminal_is_cut_and_its_jobs_end(web: SshHouse) -> None:
    async with await web.connect() as client:
        process = await client.create_process(term_type="xterm")
        process.stdin.write("nohup sleep 62.0625 >/dev/null 2>&1 & echo begun-$!\n")
        await web.until(lambda: alive("sleep 62.0625"), "the job")
        web.authority.end(web.grant, EndReason.RELEASED)
        async with asyncio.timeout(1):
            await client.wait_closed()
    await web.until(lambda: not alive("sleep 62.0625"), "the job to end", 2)


async def test_the_end_of_the_grant_needs_no_word_of_the_broker(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(seconds=2)
    process = await web.start("echo in; sleep 60")
    await begun(web)
    web.authority.lose()
    _, code, said = await ended(process)
    assert code == 255
    assert "the grant expired" in said or "lost the broker" in said


async def test_a_broker_that_stays_away_ends_the_session_with_its_lease(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.authority.lease = 1.0
    web.grant = web.authority.host_grant()
    process = await web.start("echo in; sleep 60")
    await begun(web)
    web.authority.lose()
    seconds, _, said = await ended(process)
    assert seconds < 2
    assert "lost the broker" in said


async def test_new_channels_of_an_ended_grant_are_refused(web: SshHouse) -> None:
    client = await web.connect()
    (session,) = web.gate.registry.all()
    session.over = True  # as between the cut and the end of its connection
    with pytest.raises(asyncssh.Error):
        await client.run("echo in")
    session.over = False
    client.abort()


async def test_a_session_that_cannot_be_recorded_does_not_begin(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant()
    web.gate.recorder.open = _no_recording  # type: ignore[method-assign]
    done = await web.ssh("echo in")
    assert done.code == 255
    assert "cannot be recorded" in done.err
    assert done.out == ""


async def _no_recording(*_: object) -> None:
    from proxy.recorder import RecordingError

    raise RecordingError("The session cannot be recorded, so it may not begin.")


async def test_a_recording_that_fails_cuts_the_session(web: SshHouse) -> None:
    process = await web.start("echo in; sleep 60")
    await begun(web)
    (session,) = web.gate.registry.all()
    assert session.track is not None
    session.track.fail("the disk is full")
    seconds, code, said = await ended(process)
    assert seconds < 1
    assert code == 255
    assert "nothing goes on unrecorded" in said


async def test_what_a_terminal_shows_is_recorded_and_what_is_typed_unseen_is_not(web: SshHouse) -> None:
    async with await web.connect() as client:
        process = await client.create_process(
            "read -s -p 'Password: ' x; echo; echo got ${#x}", term_type="xterm", term_size=(90, 30)
        )
        await process.stdout.readuntil("Password: ")
        process.stdin.write("hunter2-secret\n")
        await process.stdout.read()
    recording = await web.recording()
    shown = "".join(it.text for it in recording.happened if isinstance(it, Screen) and it.event == "o")
    assert "Password: " in shown
    assert "got 14" in shown
    whole = web.gate.recorder.path((await web.closed())[0].session).read_text()
    assert "hunter2" not in whole
    assert any(isinstance(it, Screen) and (it.event, it.text) == ("r", "90x30") for it in recording.happened)


async def test_a_command_is_recorded_with_its_exit_sizes_and_hashes(web: SshHouse) -> None:
    await web.ssh("cat; exit 3", stdin=b"abc")
    recording = await web.recording()
    (it,) = recording.statements
    assert (it.text, it.what, it.tag, it.outcome, it.sent, it.received) == (
        "cat; exit 3",
        "exec",
        "exit 3",
        "ok",
        3,
        3,
    )
    said = [(e.event, e.text) for e in recording.happened if isinstance(e, Screen)]
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert said == [
        ("begin", "exec cat; exit 3"),
        ("i", "abc"),
        ("o", "abc"),
        ("x", f"exit 3; in 3 bytes {digest}; out 3 bytes {digest}"),
    ] or said == [
        ("i", "abc"),
        ("begin", "exec cat; exit 3"),
        ("o", "abc"),
        ("x", f"exit 3; in 3 bytes {digest}; out 3 bytes {digest}"),
    ]


async def test_what_is_searched_for_is_hidden_in_what_a_terminal_showed(open_ssh: OpenSshHouse) -> None:
    """Also where a program writes it in pieces, and what is typed comes back as an echo."""
    web = await open_ssh()
    web.grant = web.authority.host_grant(detect=("email", "card"))
    async with asyncio.timeout(20), await web.connect() as client:
        process = await client.create_process(
            "read x; printf ada@exam; sleep 0.1; printf 'ple.com 41111111'; sleep 0.1; echo 11111111 fine",
            term_type="xterm",
        )
        process.stdin.write("grace@example.com\n")
        assert "ada@example.com 4111111111111111 fine" in await process.stdout.read()
    recording = await web.recording()
    shown = "".join(it.text for it in recording.happened if isinstance(it, Screen) and it.event in "oei")
    assert "fine" in shown
    assert not any(word in shown for word in ("ada@example.com", "4111111111111111", "grace@example.com"))


async def test_what_is_searched_for_is_hidden_in_the_recording_only(open_ssh: OpenSshHouse) -> None:
    web = await open_ssh()
    web.grant = web.authority.host_grant(detect=("email", "card"))
    done = await web.ssh("printf 'ada@example.'; sleep 0.2; echo com 4111111111111111; echo fine")
    assert "ada@example.com 4111111111111111" in done.out
    shown = "".join(
        it.text for it in (await web.recording()).happened if isinstance(it, Screen) and it.event == "o"
    )
    assert "ada@example.com" not in shown
    assert "4111111111111111" not in shown
    assert "fine" in shown
