"""`access http`, against a whole house with two workers and a real service: what it prints works in curl."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.house import House
from cli.settings import ServeSettings
from tests.cli.running import Running, logged_in
from tests.proxy.http.conftest import Service
from workflows.access import Wish
from workflows.model import GrantState, Refusal

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]
POLICY = """
people:
  ada: {name: Ada Lovelace, email: ada@example.com, groups: [engineers]}
  bob: {name: Bob, email: bob@example.com, groups: [engineers]}
groups:
  engineers: {title: Engineers}
resources:
  Dashboards:
    kind: http
    aliases: [grafana]
    address: 127.0.0.1:%s
    tls: disable
    headers: {X-WEBAUTH-USER: "{principal}"}
    roles:
      viewer: {}
rules:
  - {name: at-once, who: [engineers], resources: [Dashboards], roles: [viewer], longest: 1h, approval: none}
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    service = Service()
    await service.start()
    (tmp_path / "access.yaml").write_text(POLICY % service.port)
    settings = ServeSettings(
        policy=tmp_path / "access.yaml",
        data_dir=tmp_path / "data",
        http_port=0,
        gate_port=0,
        gate_http_port=0,
        gate_name="gate",
    )
    try:
        async with House(settings, workers=2) as house:
            assert house.broker is not None
            for person in ("ada", "bob"):
                await logged_in(house, tmp_path, person)
            yield Running(house, tmp_path)
    finally:
        await service.stop()


async def test_what_it_prints_opens_the_service_in_curl(running: Running) -> None:
    broker = running.house.broker
    assert broker is not None
    made = await broker.service.submit("ada", Wish("Dashboards", "viewer", reason="INC-1"), via="api")
    assert not isinstance(made, Refusal)
    async with asyncio.timeout(20):
        while True:
            story = await broker.service.story(made.request.id)
            if story and story.grant and story.grant.state is GrantState.ACTIVE:
                break
            await asyncio.sleep(0.05)
    code, out, err = await running.access("http", "grafana")
    assert code == 0, err
    assert "In a browser" in err
    line = shlex.split(out)
    assert line[-1].startswith("https://grafana.gate.localhost:")
    for _ in range(4):  # whichever worker it comes to
        code, said, err = await running.run(line[0], "-sS", *line[1:])
        assert code == 0, err
        assert ["x-webauth-user", "ada"] in json.loads(said)["headers"]
    code, token, err = await running.access("token", "grafana")
    assert code == 0, err
    assert token.startswith("pce_")
    code, _, err = await running.access("http", "grafana", person="bob")
    assert code != 0
    assert "no live grant" in err
