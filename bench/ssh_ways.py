"""Three ways to one sshd: directly, through another sshd (ProxyJump), and through the gate as it is."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from bench.gate import family
from bench.peers import process
from broker.clock import SystemChance, SystemClock
from broker.credentials.seal import from_settings
from broker.credentials.ssh import SshAuthorities
from broker.identity.tokens import TokenKind, Tokens
from broker.store.engine import Store
from cli.embedded_postgres import free_port
from cli.embedded_sshd import EmbeddedSshd

_POLICY = """
people:
  ada: {name: Ada Lovelace, email: ada@example.com, groups: [engineers]}
groups:
  engineers: {title: Engineers}
resources:
  target:
    kind: ssh
    address: 127.0.0.1:%(port)s
    host_key: %(host_key)s
    key: certificate
    roles:
      deploy:
        user: %(user)s
        shell: record
        files: write
        max_sessions: 10000
        guardrails:
          - {name: no-power, action: refuse, kinds: [power, raw_device, download_and_run]}
rules:
  - {name: bench, who: [engineers], resources: [target], roles: [deploy], longest: 12h, usual: 12h,
     approval: none, reason: optional}
"""
_CLIENT = """\
Host *
    IdentitiesOnly yes
    IdentityFile %(key)s
    UserKnownHostsFile %(known)s
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    LogLevel ERROR
    Ciphers %(ciphers)s
"""


@dataclass(frozen=True)
class SshWay:
    """A way to the host `target`, by a file for `ssh -F`. `pids` are the processes in between."""

    name: str
    config: Path
    pids: Callable[[], list[int]] = list
    release: Callable[[], object] | None = None
    """Gives the grant back, where there is one; nobody enters afterwards."""

    def command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-F", str(self.config), *arguments]


class Hosts:
    """The host, another sshd to jump from, and a key that both take."""

    def __init__(self, home: Path, ciphers: str) -> None:
        self.home = home
        self.ciphers = ciphers
        self.key = home / "key"
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
        subprocess.run(keygen, check=True)
        public = self.key.with_suffix(".pub").read_text()
        data = home / "data"
        data.mkdir(mode=0o700)
        trusted = SshAuthorities(from_settings("", data)).for_hosts
        self.target = EmbeddedSshd(home / "target", trusted=trusted, keys=public)
        self.jump = EmbeddedSshd(home / "jump", keys=public)

    def __enter__(self) -> Hosts:
        self.target.start()
        self.jump.start()
        known = self.home / "known_hosts"
        known.write_text("".join(f"[127.0.0.1]:{it.port} {it.host_key}\n" for it in (self.target, self.jump)))
        return self

    def __exit__(self, *_: object) -> None:
        self.target.stop()
        self.jump.stop()

    def config(self, name: str, target: str, known: Path | None = None) -> Path:
        place = self.home / f"{name}.config"
        common = _CLIENT % {
            "key": self.key,
            "known": known or self.home / "known_hosts",
            "ciphers": self.ciphers,
        }
        place.write_text(target + common)
        return place

    def direct(self) -> SshWay:
        it = self.target
        text = f"Host target\n    HostName 127.0.0.1\n    Port {it.port}\n    User {it.user}\n"
        return SshWay("direct", self.config("direct", text))

    def by_jump(self) -> SshWay:
        """ProxyJump, which runs another ssh here and one more sshd process pair in between."""
        it, jump = self.target, self.jump
        text = f"Host target\n    HostName 127.0.0.1\n    Port {it.port}\n    User {it.user}\n"
        text += "    ProxyJump between\n"
        text += f"Host between\n    HostName 127.0.0.1\n    Port {jump.port}\n    User {jump.user}\n"
        assert jump.pid is not None
        pid = jump.pid
        return SshWay("ProxyJump", self.config("jump", text), lambda: family(pid))


@contextlib.contextmanager
def gate(hosts: Hosts, workers: int, statistics: Path | None = None) -> Iterator[SshWay]:
    """Broker and gate with policy, guardrail, recording and audit on. With `statistics` the one process runs
    under cProfile and leaves its result there.
    """
    home, it = hosts.home, hosts.target
    policy = home / "access.yaml"
    policy.write_text(_POLICY % {"port": it.port, "host_key": it.host_key, "user": it.user})
    http, port, ssh = free_port(), free_port(), free_port()
    env = {
        "PORTCULLIS_POLICY": str(policy),
        "PORTCULLIS_DATA_DIR": str(home / "data"),
        "PORTCULLIS_HTTP_PORT": str(http),
        "PORTCULLIS_GATE_PORT": str(port),
        "PORTCULLIS_GATE_SSH_PORT": str(ssh),
        "PORTCULLIS_GATE_NAME": "bench",
        "PORTCULLIS_LOG_LEVEL": "WARNING",
    }
    profiler = ["-m", "cProfile", "-o", str(statistics)] if statistics else []
    command = [sys.executable, *profiler, "-m", "cli.main", "serve", "--workers", str(workers)]
    with process(command, home / "gate.log", ssh, env) as pid:
        api = httpx2.Client(base_url=f"http://127.0.0.1:{http}/api/v1", timeout=30)
        request = asyncio.run(_granted(home / "data", api))
        made = _certificate(api, hosts.key.with_suffix(".pub").read_text())
        (home / "gate-cert.pub").write_text(made["certificate"] + "\n")
        known = home / "gate_known_hosts"
        known.write_text(made["gate"]["known_hosts"] + "\n")
        text = (
            f"Host target\n    HostName {made['gate']['host']}\n    Port {ssh}\n    User {made['user']}\n"
            f"    CertificateFile {home / 'gate-cert.pub'}\n"
        )
        yield SshWay(
            f"gate, {workers} worker{'s' if workers > 1 else ''}",
            hosts.config("gate", text, known),
            lambda: family(pid),
            lambda: api.post(f"/requests/{request}/release", json={}).raise_for_status(),
        )


async def _granted(data: Path, api: httpx2.Client) -> str:
    """Ada's grant, asked for as everybody does: the request's key. `api` is logged in as Ada afterwards."""
    store = Store(f"sqlite:///{data / 'portcullis.db'}")
    try:
        login = await Tokens(store, SystemClock(), SystemChance()).issue(TokenKind.LOGIN, "ada", via="cli")
    finally:
        await store.close()
    api.headers["Authorization"] = f"Bearer {login.token}"
    asked = api.post("/requests", json={"resource": "target"})
    asked.raise_for_status()
    return str(asked.json()["id"])


def _certificate(api: httpx2.Client, public_key: str) -> dict[str, Any]:
    """Once the grant is made good, which takes a moment."""
    deadline = time.monotonic() + 30
    while True:
        made = api.post("/ssh/certificates", json={"resource": "target", "public_key": public_key})
        if made.is_success:
            answer: dict[str, Any] = made.json()
            return answer
        if time.monotonic() > deadline:
            raise RuntimeError(f"the broker certifies no key: {made.text}")
        time.sleep(0.1)
