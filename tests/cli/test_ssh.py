"""`access ssh` and its like, against a whole house and a real sshd, in one process and with two workers."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.credentials.seal import from_settings
from broker.credentials.ssh import SshAuthorities
from cli.embedded_sshd import EmbeddedSshd
from cli.house import House
from cli.settings import ServeSettings
from tests.cli.running import Running, logged_in
from workflows.access import Wish
from workflows.model import Refusal

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]
POLICY = """
people:
  ada: {{name: Ada Lovelace, email: ada@example.com, groups: [engineers]}}
  bob: {{name: Bob, email: bob@example.com, groups: [engineers]}}
groups:
  engineers: {{title: Engineers}}
resources:
  web-1:
    kind: ssh
    aliases: [web]
    address: 127.0.0.1:{port}
    host_key: {host_key}
    roles:
      deploy: {{user: {user}, shell: record, files: write}}
rules:
  - {{name: at-once, who: [engineers], resources: [web-1], roles: [deploy], longest: 1h, approval: none}}
"""


@pytest.fixture(params=[1, 2], ids=["one-process", "two-workers"])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    home = Path(tempfile.mkdtemp(prefix="cli-sshd-"))
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    sshd = EmbeddedSshd(home, trusted=SshAuthorities(from_settings("", data)).for_hosts)
    sshd.start()
    policy = tmp_path / "access.yaml"
    policy.write_text(POLICY.format(port=sshd.port, host_key=sshd.host_key, user=sshd.user))
    settings = ServeSettings(
        policy=policy, data_dir=data, http_port=0, gate_port=0, gate_ssh_port=0, gate_name="gate"
    )
    try:
        async with House(settings, workers=request.param) as house:
            for person in ("ada", "bob"):
                await logged_in(house, tmp_path, person)
            yield Running(house, tmp_path)
    finally:
        sshd.stop()
        shutil.rmtree(home, ignore_errors=True)


async def test_ssh_by_the_command_line(running: Running) -> None:
    code, out, err = await running.access("ssh", "web-1", "--", "echo in")
    assert (code != 0, out) == (True, "")
    assert "no live grant" in err

    assert running.house.broker is not None
    asked = await running.house.broker.service.submit("ada", Wish("web-1", reason="INC-142"), via="cli")
    assert not isinstance(asked, Refusal), asked
    for _ in range(100):  # until the grant is made good
        code, out, err = await running.access("ssh", "web", "--", "echo in; exit 7")
        if code == 7:
            break
        assert "not ready" in err or "no live grant" in err, err
    assert (code, out) == (7, "in\n")

    # What ssh-config writes makes plain ssh and scp work, with a fresh certificate each time.
    code, config, err = await running.access("ssh-config", "web-1")
    assert code == 0, err
    access = f"{sys.executable} -m cli.main"
    place = running.folder / "ssh_config"
    place.write_text(re.sub(r'(exec ".*?)\S+ ssh-certificate', rf"\1{access} ssh-certificate", config))
    (running.folder / "ada" / "ssh_web-1+deploy-cert.pub").unlink()
    assert (await running.run("ssh", "-F", str(place), "web-1", "echo plain"))[:2] == (0, "plain\n")
    (running.folder / "sent").write_text("content")
    done = await running.run(
        "scp", "-F", str(place), str(running.folder / "sent"), f"web-1:{running.folder}/got"
    )
    assert done[0] == 0, done
    assert (running.folder / "got").read_text() == "content"

    code, out, err = await running.access("token", "web-1")
    assert (code, out[:4]) == (0, "pce_")
    assert "ada+web-1+deploy@" in err

    # Bob's files are Bob's; the authority is what hosts trust.
    assert "no live grant" in (await running.access("ssh", "web-1", person="bob"))[2]
    code, out, _ = await running.access("ssh-ca")
    assert running.house.broker.authority.ssh.for_hosts in out
    assert "AuthorizedKeysFile none" in out
    for name in ("ssh_key", "ssh_web-1+deploy-cert.pub", "ssh_known_hosts"):
        assert (running.folder / "ada" / name).stat().st_mode & 0o077 == 0
