"""Command lines held until people decide: the very line runs, once, or nothing does."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from proxy.authority import ReviewDecided
from workflows.model import Action, EndReason, Guardrail, Quorum, ReviewState, StatementClass

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse

ASK = Guardrail(
    "ask-first",
    Action.HOLD,
    frozenset({StatementClass.WRITE, StatementClass.DESTRUCTIVE, StatementClass.ADMIN}),
    quorum=(Quorum("dba"),),
    message="Changes are looked at.",
)
NO_POWER = Guardrail("no-power", Action.REFUSE, kinds=frozenset({"power"}), message="Nobody switches it off.")


async def opened(open_ssh: OpenSshHouse, **host: object) -> SshHouse:
    web = await open_ssh()
    web.grant = web.authority.host_grant(guardrails=(NO_POWER, ASK), **host)
    return web


async def asked(web: SshHouse) -> str:
    """The review that waits now."""
    return (await web.authority.reviews.asked()).id


async def test_what_the_guardrails_allow_runs_at_once(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    assert (await web.ssh("echo in")).out == "in\n"
    assert (await web.recording()).statements[0].verdict == "read"


async def test_what_they_refuse_does_not_run_and_the_rule_is_named(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    done = await web.ssh("echo in; reboot")
    assert (done.code, done.out) == (126, "")
    assert "Nobody switches it off. (guardrail no-power)" in done.err
    refused = (await web.recording()).statements[0]
    assert (refused.text, refused.outcome) == ("echo in; reboot", "refused")


async def test_a_held_line_runs_once_approved_and_its_client_hears_of_it(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    line = f"touch {web.folder}/made; echo made"
    process = await web.start(line)
    review = await asked(web)
    held = web.authority.reviews.held[review]
    assert held.statement.text == line
    assert held.statement.digest == hashlib.sha256(line.encode()).hexdigest()
    assert not (web.folder / "made").exists()
    web.authority.reviews.approve(review)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert (process.returncode, out) == (0, b"made\n")
    assert "held by the rule ask-first: Changes are looked at.; asked" in err.decode()
    assert "approved by grace" in err.decode()
    assert (web.folder / "made").exists()
    ran = (await web.recording()).statements[0]
    assert (ran.review, ran.decision, ran.decided_by, ran.tag) == (review, "approved", "grace", "exit 0")
    await web.until(lambda: web.authority.reviews.outcomes.get(review), "the outcome")
    assert web.authority.reviews.outcomes[review] == "exit 0"


@pytest.mark.parametrize("state", [ReviewState.DENIED, ReviewState.LAPSED])
async def test_a_held_line_that_is_not_approved_does_not_run(
    open_ssh: OpenSshHouse, state: ReviewState
) -> None:
    web = await opened(open_ssh)
    process = await web.start(f"touch {web.folder}/made")
    review = await asked(web)
    if state is ReviewState.DENIED:
        web.authority.reviews.deny(review, reason="not today")
    else:
        web.authority._tell(ReviewDecided(review, web.authority.reviews.all[review].session_id, state))
    async with asyncio.timeout(10):
        _, err = await process.communicate()
    assert process.returncode == 126
    assert "Nothing was run" in err.decode()
    assert not (web.folder / "made").exists()


async def test_a_client_that_leaves_takes_its_line_back(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    process = await web.start(f"touch {web.folder}/made")
    review = await asked(web)
    process.kill()
    await process.wait()
    await web.authority.reviews.state(review, ReviewState.WITHDRAWN)
    await web.closed()
    assert not (web.folder / "made").exists()


async def test_the_end_of_the_grant_refuses_what_is_held(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh)
    process = await web.start(f"touch {web.folder}/made")
    review = await asked(web)
    web.authority.end(web.grant, EndReason.REVOKED)
    async with asyncio.timeout(2):
        await process.communicate()
    await web.authority.reviews.state(review, ReviewState.WITHDRAWN)
    assert not (web.folder / "made").exists()


async def test_lines_of_a_shell_are_judged_one_by_one(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh, shell="lines")
    done = await web.ssh("-T", stdin=b"echo one; cd /\nreboot\necho two\nexit\necho three\n")
    assert done.out == "one\ntwo\n"
    assert "guardrail no-power" in done.err
    lines = [(it.text, it.outcome) for it in (await web.recording()).statements if it.what == "line"]
    assert lines == [("echo one; cd /", "ok"), ("reboot", "refused"), ("echo two", "ok")]


async def test_a_shell_of_lines_has_no_terminal_at_the_host(open_ssh: OpenSshHouse) -> None:
    web = await opened(open_ssh, shell="lines")
    async with asyncio.timeout(20), await web.connect() as client:
        process = await client.create_process(term_type="xterm")
        assert "deploy@web-1> " in await process.stdout.readuntil("> ")
        process.stdin.write("ttyx\x7f; echo $TERM.\r")
        shown = await process.stdout.readuntil("deploy@web-1> ")
        assert "not a tty" in shown
        process.stdin.write("exit\r")
        await process.wait()
        assert process.exit_status == 0
