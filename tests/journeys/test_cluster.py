"""The story of a cluster: asked for in Slack, approved, entered by the real kubectl, a change held, cut."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.app import create_bot
from bot.sandbox import App, Sandbox, create_sandbox, text_of
from broker.identity.tokens import TokenKind
from broker.keeper import Broker, create_broker
from broker.policy_file.holder import load
from broker.settings import Settings
from cli.sample.workspace import workspace_of
from proxy.gate import Gate, GateSettings
from proxy.http.door import HttpSettings, http_context
from proxy.recording import read
from proxy.tls import server_context
from tests.proxy.kubernetes.cluster_kit import TOKEN, Replay
from tests.proxy.kubernetes.conftest import DOMAIN, Certificates, kubectl
from tests.proxy.kubernetes.conftest import certificates as certificates
from tests.proxy.kubernetes.conftest import cluster as cluster

APPROVALS = "#dba-approvals"
RESOURCES = """
prod-cluster:
  kind: kubernetes
  address: 127.0.0.1:{port}
  ca: {ca}
  token: file:cluster-token
  roles:
    edit:
      groups: [shop-edit]
      guardrails:
        - name: workloads
          action: hold
          verbs: [patch]
          resources: [deployments]
          approval: [{{group: dba}}]
"""
RULES = """
- name: cluster
  who: [engineers]
  resources: [prod-cluster]
  roles: [edit]
  longest: 1h
  approval: [{group: dba, needed: 1}]
"""


@dataclass
class House:
    sandbox: Sandbox
    broker: Broker
    gate: Gate
    folder: Path
    ca: Path

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """kubectl as ada, with a token as `access kube-token` prints one."""
        token = (await self.broker.tokens.issue(TokenKind.ENTRY, "ada", via="cli")).token
        assert self.gate.http is not None
        command = [
            kubectl(), f"--server=https://127.0.0.1:{self.gate.http.port}", "--kubeconfig=/dev/null",
            f"--tls-server-name=prod-cluster.{DOMAIN}", f"--certificate-authority={self.ca}",
            f"--cache-dir={self.folder / 'cache'}", f"--token=edit~{token}", "-n", "shop", *words,
        ]  # fmt: skip
        pipe = asyncio.subprocess.PIPE
        env = {"HOME": str(self.folder), "PATH": os.environ["PATH"], "KUBECTL_KUBERC": "false"}
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=env)

    async def kubectl(self, *words: str) -> tuple[int, str, str]:
        process = await self.start(*words)
        async with asyncio.timeout(90):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def house(cluster: Replay, certificates: Certificates, tmp_path: Path) -> AsyncIterator[House]:
    policy = tmp_path / "access.yaml"
    said: dict[str, Any] = yaml.safe_load((files("cli.sample") / "access.yaml").read_text(encoding="utf-8"))
    said["resources"] = yaml.safe_load(RESOURCES.format(port=cluster.port, ca=certificates.cluster.ca))
    said["rules"] = yaml.safe_load(RULES)
    said.pop("break_glass", None)  # of resources that are not here
    policy.write_text(yaml.safe_dump(said))
    (tmp_path / "cluster-token").write_text(TOKEN)
    async with AsyncExitStack() as stack:
        manifest = yaml.safe_load((Path(__file__).parents[2] / "app-manifest.yaml").read_text())
        workspace = workspace_of(load(policy), App(manifest=manifest), datetime.now(UTC))
        sandbox = await stack.enter_async_context(create_sandbox(workspace))
        settings = Settings(
            policy=policy,
            data_dir=tmp_path / "broker",
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
        it = certificates.gate
        http = HttpSettings(
            "127.0.0.1", 0, DOMAIN, http_context(it.certificate, it.key), names=("127.0.0.1",)
        )
        gate = Gate(
            broker.authority,
            GateSettings(
                name="gate-1",
                recordings=tmp_path / "recordings",
                tls=server_context(it.certificate, it.key),
                renew_every=1.0,
                http=http,
            ),
        )
        await gate.start()
        stack.push_async_callback(gate.stop)
        bot = create_bot(broker.service, settings, outbox=broker.outbox, runs=broker.runs, sweep_seconds=1.0)
        await bot.start()
        stack.push_async_callback(bot.stop)
        while bot.troubles():  # until Socket Mode is connected  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield House(sandbox, broker, gate, tmp_path, it.ca)


async def test_a_cluster_from_the_command_in_slack_to_the_cut_watch(house: House, cluster: Replay) -> None:
    ada, grace = house.sandbox.as_user("ada"), house.sandbox.as_user("grace")
    code, _, err = await house.kubectl("get", "--raw", "/api/v1/namespaces/shop/pods")
    assert code != 0  # nobody enters without a grant
    assert cluster.seen == []

    assert (await ada.commands("/access request prod-cluster 30m because INC-142")).acked
    card = await grace.sees("INC-142", channel=APPROVALS)
    await grace.clicks(card, "approve")
    await grace.sees_change(card, "has `prod-cluster`", timeout=15)
    entry = await ada.sees("access kubeconfig prod-cluster", channel="@portcullis")
    assert "pce_" not in str(entry.blocks)
    code, out, err = await house.kubectl("get", "pods")
    assert code == 0, err
    assert "web-1" in out

    # A change of a workload waits for a yes; whoever gives it sees the change.
    process = await house.start("set", "image", "deployment/web", "web=shop/web:3")
    held = await grace.sees("shop/web:3", channel=APPROVALS, timeout=30)
    assert "patch deployments.apps web in shop" in text_of(held)
    assert not [it for it in cluster.seen if it.method == "PATCH" and "dryRun" not in it.target]
    await grace.clicks(held, "review_approve")
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 0, said
    assert len([it for it in cluster.seen if it.method == "PATCH" and "dryRun" not in it.target]) == 1

    # At the revocation a watch is cut within a second.
    process = await house.start("get", "--raw", "/api/v1/namespaces/shop/pods?watch=1&resourceVersion=0")
    async with asyncio.timeout(30):
        while not cluster.open:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await grace.clicks(card, "revoke")
    await grace.sees_modal()
    began = time.monotonic()
    await grace.submits({"reason": "wrong cluster"})
    async with asyncio.timeout(30):
        await process.wait()
    assert time.monotonic() - began < 1.5
    code, _, err = await house.kubectl("get", "--raw", "/version")
    assert code != 0

    recordings = [read(path) for path in (house.folder / "recordings").glob("S*.jsonl")]
    told = {it.text.partition(" — ")[0]: it for recording in recordings for it in recording.statements}
    assert told["patch deployments.apps web in shop"].decided_by == "grace"
    assert told["watch pods in shop"].outcome == "unfinished"
