"""The story of a host: asked for in Slack, approved, entered by the real ssh, recorded, revoked, cut."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml

from bot.app import create_bot
from bot.sandbox import App, Message, Sandbox, create_sandbox, text_of
from broker.api.parts import GateAddress
from broker.credentials.seal import from_settings
from broker.credentials.ssh import SshAuthorities
from broker.identity.tokens import TokenKind
from broker.keeper import Broker, create_broker
from broker.policy_file.holder import load
from broker.run_worker import RunWorker
from broker.searching import Search, Searching
from broker.sessions import Sessions
from broker.settings import Settings
from broker.ssh_entries import SshEntries
from broker.watching import Shown, Watching
from cli.embedded_sshd import EmbeddedSshd
from cli.recordings import Shelf
from cli.runs import GateClient, GateReader
from cli.sample.workspace import workspace_of
from proxy.gate import Gate, GateSettings
from proxy.recording import read
from proxy.ssh import identity
from proxy.ssh.door import SshSettings
from proxy.tls import self_made, server_context
from workflows.model import Refusal

APPROVALS = "#dba-approvals"


@dataclass
class Web:
    sandbox: Sandbox
    broker: Broker
    gate: Gate
    folder: Path
    address: GateAddress

    def be(self, name: str) -> Any:
        return self.sandbox.as_user(name)

    async def command(self, person: str = "ada") -> list[str]:
        """What `access ssh web-1` does, for this person: a key, a certificate for it, and the real ssh."""
        key = self.folder / f"{person}-key"
        if not key.exists():
            made = asyncssh.generate_private_key("ssh-ed25519")
            made.write_private_key(key)
            key.chmod(0o600)
            made.write_public_key(key.with_suffix(".pub"))
        holder = self.broker.service.principal(person)
        entries = SshEntries(self.broker.service, self.broker.authority.ssh)
        assert holder is not None
        issued = await entries.certify(
            holder, "web-1", "", key.with_suffix(".pub").read_text(), "", via="api"
        )
        if not isinstance(issued, Refusal):
            Path(f"{key}-cert.pub").write_text(issued.certificate + "\n")
        known = self.folder / "known_hosts"
        known.write_text(self.address.known_hosts + "\n")
        return [
            "ssh", "-F", "none", "-p", str(self.address.ssh_port), "-i", str(key), "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
            f"{person}+web-1@localhost",
        ]  # fmt: skip

    async def ssh(self, line: str, person: str = "ada") -> tuple[int, str, str]:
        process = await self.start(line, person)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def start(self, line: str, person: str = "ada") -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        ssh = await self.command(person)
        return await asyncio.create_subprocess_exec(*ssh, line, stdout=pipe, stderr=pipe)

    async def granted(self) -> Message:
        ada, grace = self.be("ada"), self.be("grace")
        assert (await ada.commands("/access request web-1 30m because INC-142")).acked
        card = await grace.sees("INC-142", channel=APPROVALS)
        await grace.clicks(card, "approve")
        return await grace.sees_change(card, "has `web-1`")


def write_policy(path: Path, sshd: EmbeddedSshd) -> None:
    policy = yaml.safe_load((files("cli.sample") / "access.yaml").read_text(encoding="utf-8"))
    said = (files("cli.sample") / "host.yaml").read_text(encoding="utf-8")
    host, _, rules = said.format(port=sshd.port, host_key=sshd.host_key, user=sshd.user).partition(
        "# rules\n"
    )
    policy["resources"] = yaml.safe_load(host)
    policy["rules"] = yaml.safe_load(rules)
    policy.pop("break_glass", None)  # of resources that are not here
    path.write_text(yaml.safe_dump(policy))


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with AsyncExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="journey-sshd-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        data = tmp_path / "broker"
        data.mkdir(mode=0o700)
        sshd = EmbeddedSshd(home, trusted=SshAuthorities(from_settings("", data)).for_hosts)
        sshd.start()
        stack.callback(sshd.stop)
        policy = tmp_path / "access.yaml"
        write_policy(policy, sshd)
        manifest = yaml.safe_load((Path(__file__).parents[2] / "app-manifest.yaml").read_text())
        workspace = workspace_of(load(policy), App(manifest=manifest), datetime.now(UTC))
        sandbox = await stack.enter_async_context(create_sandbox(workspace))
        settings = Settings(
            policy=policy,
            data_dir=data,
            slack_bot_token=workspace.app.bot_token,
            slack_signing_secret="",
            slack_app_token=workspace.app.app_token,
            slack_api_url=sandbox.api_url,
            public_url="http://127.0.0.1:1",
            sweep_seconds=0.5,
            lease_seconds=5,
        )
        broker = await create_broker(settings)
        stack.push_async_callback(broker.stop)
        names, now = ["localhost", "127.0.0.1"], datetime.now(UTC)
        tls, ssh = self_made(tmp_path / "gate", names, now), identity.self_made(tmp_path / "gate", names, now)
        gate = Gate(
            broker.authority,
            GateSettings(
                name="gate-1",
                recordings=tmp_path / "recordings",
                tls=server_context(tls.certificate, tls.key),
                renew_every=1.0,
                ssh=SshSettings("127.0.0.1", 0, ssh.key, ssh.certificate),
            ),
        )
        await gate.start()
        stack.push_async_callback(gate.stop)
        assert gate.ssh is not None
        known = identity.known_hosts(ssh.authority, names, gate.ssh.port)
        address = GateAddress(
            "localhost", gate.port, tls.ca.read_text(), ssh_port=gate.ssh.port, known_hosts=known
        )
        broker.runs.reader = GateReader()
        worker = RunWorker(broker.runs, broker.tokens, broker.outbox, GateClient(address))
        runner = asyncio.create_task(worker.run())
        stack.callback(runner.cancel)
        bot = create_bot(broker.service, settings, outbox=broker.outbox, runs=broker.runs, sweep_seconds=1.0)
        await bot.start()
        stack.push_async_callback(bot.stop)
        while bot.troubles():  # until Socket Mode is connected  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield Web(sandbox, broker, gate, tmp_path, address)


async def eventually(what: str, seen: Callable[[], Any], timeout: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := seen()):
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        await asyncio.sleep(0.05)
    return value


async def test_from_the_command_in_slack_to_the_cut_session(web: Web) -> None:
    ada, grace = web.be("ada"), web.be("grace")
    code, out, _ = await web.ssh("echo in")
    assert (code, out) == (255, "")  # nobody enters without a grant

    card = await web.granted()
    entry = await ada.sees("access ssh web-1", channel="@portcullis")
    assert "pce_" not in str(entry.blocks)
    assert await web.ssh("echo in") == (0, "in\n", "")

    # A password does as well, for clients without certificates.
    token = (await web.broker.tokens.issue(TokenKind.ENTRY, "ada", via="cli")).token
    known = str(web.folder / "known_hosts")
    async with asyncssh.connect(
        "localhost", web.address.ssh_port, username="ada+web-1", password=token, client_keys=None,
        agent_path=None, config=None, known_hosts=known,
    ) as client:  # fmt: skip
        assert (await client.run("echo by password")).stdout == "by password\n"

    # Grace holds no grant of her own, and Ada's certificate is Ada's.
    code, out, _ = await web.ssh("echo in", person="grace")
    assert (code, out) == (255, "")

    # At the revocation the command that runs is cut within a second, and the reason is shown.
    process = await web.start("uptime; sleep 60")
    await eventually("the command to run", lambda: any(it.bytes_out for it in web.gate.registry.all()))
    await grace.clicks(card, "revoke")
    await grace.sees_modal()
    began = time.monotonic()
    await grace.submits({"reason": "wrong host"})
    async with asyncio.timeout(10):
        _, err = await process.communicate()
    assert time.monotonic() - began < 1.5  # ssh's own end included
    assert process.returncode == 255
    assert "wrong host" in err.decode()
    assert "wrong host" in text_of(await grace.sees_change(card, "Revoked by"))
    code, out, err_text = await web.ssh("echo in")
    assert (code, out) == (255, "")
    assert "no live grant" in err_text

    # All of it is recorded, and the trail holds the recordings' ends.
    recordings = [read(path) for path in (web.folder / "recordings").glob("S*.jsonl")]
    told = sorted((it.text, it.outcome) for recording in recordings for it in recording.statements)
    assert told == [("echo by password", "ok"), ("echo in", "ok"), ("uptime; sleep 60", "unfinished")]


async def test_a_terminal_is_watched_while_it_goes_on_found_by_its_words_and_killed(web: Web) -> None:
    await web.granted()
    service, shelf = web.broker.service, Shelf(web.folder / "recordings")

    async def logged_in() -> bool:
        return True

    token = (await web.broker.tokens.issue(TokenKind.ENTRY, "ada", via="cli")).token
    async with asyncssh.connect(
        "localhost", web.address.ssh_port, username="ada+web-1", password=token, client_keys=None,
        agent_path=None, config=None, known_hosts=asyncssh.import_known_hosts(web.address.known_hosts),
    ) as client:  # fmt: skip
        assert (await client.run("echo needle in the hay")).exit_status == 0
        terminal = await client.create_process("echo shown; cat", term_type="xterm")
        (session,) = web.gate.registry.all()
        key = session.admission.session
        watching = Watching(service, shelf, look_every=0.05, rights_every=0.2)
        events = await watching.one(key, "grace", logged_in, from_start=True, via="cli")
        assert not isinstance(events, Refusal)
        terminal.stdin.write("typed\n")
        shown = ""
        async with asyncio.timeout(10):
            async for event in events:
                if isinstance(event, Shown) and event.screen.event == "o":
                    shown += event.screen.text
                if "shown" in shown and "typed" in shown:
                    break
        hits = await Searching(service, shelf).search("grace", Search(like="needle"), via="cli")
        assert not isinstance(hits, Refusal)
        assert [(it.session.id, it.statement.text) for it in hits.hits] == [(key, "echo needle in the hay")]
        killed = await Sessions(service).kill(key, "grace", via="cli", reason="wrong host")
        assert not isinstance(killed, Refusal), killed
        async with asyncio.timeout(2):
            await client.wait_closed()
    assert await web.ssh("echo in") == (0, "in\n", "")  # the grant itself stands


async def test_a_dangerous_line_waits_for_a_yes_in_slack(web: Web) -> None:
    grace = web.be("grace")
    await web.granted()
    victim = web.folder / "victim"
    victim.write_text("here")
    line = f"rm -rf {victim}"
    process = await web.start(line)
    held = await grace.sees(line, channel=APPROVALS)
    assert victim.exists()
    await grace.clicks(held, "review_approve")
    async with asyncio.timeout(15):
        _, err = await process.communicate()
    assert process.returncode == 0, err
    assert not victim.exists()
    assert "approved by grace" in err.decode()


async def test_a_submitted_line_runs_once_approved_and_its_output_comes_back(web: Web) -> None:
    """Without a grant of her own: the rule's approvers say yes to this line, and to nothing else."""
    review = await web.broker.runs.submit("ada", "web-1", "kill -l 9", via="api", reason="INC-142")
    assert not isinstance(review, Refusal), review
    done = await web.broker.reviews.approve(review.id, "grace", via="api")
    assert not isinstance(done, Refusal), done

    async def result() -> Any:
        return await web.broker.runs.result(review.id, "ada")

    deadline = time.monotonic() + 15
    while isinstance(found := await result(), Refusal):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    output = found[1]
    assert output.error == ""
    assert output.tag == "exit 0"
