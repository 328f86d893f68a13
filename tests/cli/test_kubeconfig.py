"""`access kubeconfig`, with a whole house and the real kubectl: it holds no secret, and opens the cluster."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from cli.house import House
from cli.settings import ServeSettings
from tests.cli.running import Running, logged_in
from tests.proxy.kubernetes.cluster_kit import TOKEN, Replay
from tests.proxy.kubernetes.conftest import Certificates, kubectl
from tests.proxy.kubernetes.conftest import certificates as certificates
from workflows.access import Wish
from workflows.model import GrantState, Refusal

pytestmark = pytest.mark.timeout(240)
POLICY = """
people:
  ada: {name: Ada Lovelace, email: ada@example.com, groups: [engineers]}
groups:
  engineers: {title: Engineers}
resources:
  prod-cluster:
    kind: kubernetes
    aliases: [prod]
    address: 127.0.0.1:%s
    ca: %s
    token: file:cluster-token
    roles:
      look: {groups: [shop-view]}
rules:
  - {name: at-once, who: [engineers], resources: [prod-cluster], roles: [look], longest: 1h, approval: none}
"""


@pytest.fixture
async def server(certificates: Certificates, tmp_path: Path) -> AsyncIterator[Replay]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cluster.certificate, certificates.cluster.key)
    it = Replay(tmp_path / "no-tape", context)
    it.answers_anything = True
    await it.start()
    yield it
    await it.stop()


@pytest.fixture
async def running(server: Replay, certificates: Certificates, tmp_path: Path) -> AsyncIterator[Running]:
    (tmp_path / "access.yaml").write_text(POLICY % (server.port, certificates.cluster.ca))
    (tmp_path / "cluster-token").write_text(TOKEN)
    settings = ServeSettings(
        policy=tmp_path / "access.yaml",
        data_dir=tmp_path / "data",
        http_port=0,
        gate_port=0,
        gate_http_port=0,
        gate_name="gate",
    )
    async with House(settings, workers=1) as house:
        await logged_in(house, tmp_path, "ada")
        yield Running(house, tmp_path)


async def test_what_it_prints_opens_the_cluster_in_kubectl(running: Running, server: Replay) -> None:
    access, broker = shutil.which("access"), running.house.broker
    assert access is not None
    assert broker is not None
    code, _, err = await running.run(access, "kubeconfig", "prod")
    assert code != 0
    assert "no live grant" in err
    made = await broker.service.submit("ada", Wish("prod-cluster", "look", reason="INC-1"), via="api")
    assert not isinstance(made, Refusal)
    async with asyncio.timeout(20):
        while True:
            story = await broker.service.story(made.request.id)
            if story and story.grant and story.grant.state is GrantState.ACTIVE:
                break
            await asyncio.sleep(0.05)
    code, out, err = await running.run(access, "kubeconfig", "prod")
    assert code == 0, err
    assert "pce_" not in out
    assert "token" not in yaml.safe_load(out)["users"][0]["user"]
    place = running.folder / "kubeconfig"
    place.write_text(out)
    command = (kubectl(), f"--kubeconfig={place}", f"--cache-dir={running.folder / 'cache'}")
    code, out, err = await running.run(*command, "get", "--raw", "/api/v1/namespaces/shop/pods")
    assert code == 0, err
    assert json.loads(out) == {}
    assert {tuple(seen.headers["impersonate-user"]) for seen in server.seen} == {("ada",)}
    assert {tuple(seen.headers["impersonate-group"]) for seen in server.seen} == {("shop-view",)}
