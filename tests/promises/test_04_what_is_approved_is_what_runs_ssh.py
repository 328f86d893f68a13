"""Promise 4. What is approved is what runs, over SSH: this line, in this session, once."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import asyncssh
import pytest

from tests.proxy.conftest import gate_identity
from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse, open_ssh, ssh_host, web
from workflows.model import Action, Guardrail, Quorum, ReviewState, StatementClass

ASK = Guardrail("ask", Action.HOLD, frozenset({StatementClass.WRITE}), quorum=(Quorum("dba"),))


async def opened(open_ssh: OpenSshHouse, **host: object) -> SshHouse:
    web = await open_ssh()
    web.grant = web.authority.host_grant(guardrails=(ASK,), **host)
    return web


@pytest.mark.parametrize(
    "change", ["{} ", " {}", "{}\n", "{};", "{} #", "{}\u200b", "{}\u0301", "{}2", "'{}'", "{}; reboot"]
)
async def test_a_yes_for_any_other_line_gives_no_run(open_ssh: OpenSshHouse, change: str) -> None:
    """The broker's row is changed under the waiting line, as by somebody who got into its database."""
    web = await opened(open_ssh)
    line = f"touch {web.folder}/made"
    process = await web.start(line)
    review = (await web.authority.reviews.asked()).id
    it = web.authority.reviews.all[review]
    other = hashlib.sha256(change.format(line).encode()).hexdigest()
    web.authority.reviews.all[review] = replace(it, statement=replace(it.statement, digest=other))
    web.authority.reviews.approve(review)
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 126
    assert not (web.folder / "made").exists()
    assert web.authority.reviews.runs == []


async def test_the_same_line_twice_needs_two_approvals(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    line = f"mkdir {web.folder}/made"
    async with asyncio.timeout(20), await web.connect() as client:
        for number in (1, 2):
            run = asyncio.create_task(client.run(line))
            review = await web.authority.reviews.asked(number)
            assert review.statement.text == line
            web.authority.reviews.approve(review.id)
            assert (await run).exit_status == number - 1  # there is such a folder the second time
    assert len(web.authority.reviews.runs) == 2


async def test_a_yes_for_one_channel_lets_no_other_run(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    async with asyncio.timeout(20), await web.connect() as client:
        mine = asyncio.create_task(client.run(f"touch {web.folder}/mine"))
        first = await web.authority.reviews.asked(1)
        other = asyncio.create_task(client.run(f"touch {web.folder}/other"))
        await web.authority.reviews.asked(2)
        web.authority.reviews.approve(first.id)
        assert (await mine).exit_status == 0
        assert not other.done()
        assert not (web.folder / "other").exists()
        other.cancel()


async def test_a_yes_does_not_outlive_the_connection_it_was_asked_on(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    line = f"touch {web.folder}/made"
    process = await web.start(line)
    review = (await web.authority.reviews.asked()).id
    process.kill()
    await process.wait()
    await web.authority.reviews.state(review, ReviewState.WITHDRAWN)
    again = await web.start(line)
    second = await web.authority.reviews.asked(2)
    assert second.id != review
    web.authority.reviews.deny(second.id)
    async with asyncio.timeout(10):
        await again.communicate()
    assert not (web.folder / "made").exists()


async def test_what_is_sent_while_it_waits_is_input_and_no_part_of_the_line(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    process = await web.start(f"tee {web.folder}/made")
    assert process.stdin is not None
    process.stdin.write(b"; reboot\n")
    process.stdin.write_eof()
    review = await web.authority.reviews.asked()
    assert review.statement.text == f"tee {web.folder}/made"
    web.authority.reviews.approve(review.id)
    async with asyncio.timeout(10):
        out, _ = await process.communicate()
    assert out == b"; reboot\n"
    assert (web.folder / "made").read_bytes() == b"; reboot\n"


async def test_the_environment_of_an_approved_line_is_not_the_clients_choice(open_ssh: OpenSshHouse) -> None:
    """An environment could make another command of the same bytes."""
    web = await opened(open_ssh)
    async with asyncio.timeout(20), await web.connect() as client:
        run = asyncio.create_task(
            client.run(
                f"env; touch {web.folder}/made",
                env={"PATH": "/tmp", "LD_PRELOAD": "/tmp/x.so", "BASH_ENV": "/tmp/x", "LC_X": "y"},
            )
        )
        web.authority.reviews.approve((await web.authority.reviews.asked()).id)
        said = str((await run).stdout)
    assert not any(name in said for name in ("LD_PRELOAD", "BASH_ENV", "LC_X", "PATH=/tmp\n"))
