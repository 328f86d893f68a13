"""A real sshd, the real OpenSSH client, and gates between them that an authority in memory commands."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from broker.credentials.seal import Seal
from broker.credentials.ssh import CertificateError, Claim, SshAuthorities
from cli.embedded_sshd import EmbeddedSshd
from proxy import tls
from proxy.authority import Admission, Knock, Upstream
from proxy.gate import Gate, GateSettings
from proxy.ssh import identity
from proxy.ssh.door import SshSettings
from tests.proxy.conftest import Ended, MemoryAuthority
from workflows.model import FileRule, HostTerms, Refusal

TOKEN = "pce_ada-token-1"
EVERYTHING = (FileRule(("/**",), frozenset({"list", "read", "write", "delete"})),)


@dataclass(frozen=True)
class Host:
    """The host behind the gate, and the authorities that it and the gate trust."""

    sshd: EmbeddedSshd
    authorities: SshAuthorities
    home: Path

    def upstream(self, **changes: object) -> Upstream:
        terms = HostTerms(self.sshd.user, forward=("any:*",))
        now = datetime.now(UTC)
        key, certificate = self.authorities.login(
            terms, Claim("ada", "G-1"), "S-1", now, now + timedelta(hours=1)
        )
        it = Upstream(
            "127.0.0.1",
            self.sshd.port,
            "",
            self.sshd.user,
            "",
            key=key,
            certificate=certificate,
            host_keys=(self.sshd.host_key,),
        )
        return replace(it, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def ssh_host() -> Iterator[Host]:
    home = Path(tempfile.mkdtemp(prefix="gate-sshd-"))
    authorities = SshAuthorities(Seal([os.urandom(32)]))
    sshd = EmbeddedSshd(home, trusted=authorities.for_hosts)
    sshd.start()
    yield Host(sshd, authorities, home)
    sshd.stop()
    shutil.rmtree(home, ignore_errors=True)


class CertifyingAuthority(MemoryAuthority):
    """Also takes certificates, as the broker does."""

    def __init__(self, clock: Callable[[], float], authorities: SshAuthorities, upstream: Upstream) -> None:
        super().__init__(clock)
        self.tokens = {TOKEN: "ada"}
        self.authorities = authorities
        self.upstream = upstream
        self.problems: list[str] = []

    def host_grant(self, seconds: float = 3600, **host: Any) -> str:
        terms = {
            name: host.pop(name)
            for name in ("guardrails", "detect", "hold_all", "max_sessions")
            if name in host
        }
        host = {"shell": "record", "files": EVERYTHING, **host}
        grant = self.grant(self.upstream, seconds, host=HostTerms(self.upstream.user, **host), **terms)
        self.grants[grant] = replace(self.grants[grant], resource="web-1", role="deploy")
        return grant

    async def admit(self, knock: Knock) -> Admission | Refusal:
        if not knock.certificate:
            answer = await super().admit(knock)
            wrong = isinstance(answer, Refusal) and answer.code == "wrong-token"
            return replace(answer, code="login-failed") if wrong else answer  # as the broker calls it
        self._here()
        name = f"{knock.principal}+{knock.resource}" + (f"+{knock.role}" if knock.role else "")
        try:
            claim = self.authorities.read_entry(
                knock.certificate.decode(), name, knock.client, datetime.now(UTC)
            )
        except CertificateError as error:
            self.problems.append(str(error))
            return Refusal(
                "login-failed", "The certificate is not good here and now.", "Run: access ssh web-1"
            )
        if claim.grant not in self.grants:
            return Refusal("no-grant", "You have no live grant.", "/access request web-1 1h")
        self.tokens["proved"] = claim.principal
        return await super().admit(replace(knock, principal=claim.principal, token="proved", certificate=b""))


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class SshHouse(Ended):
    """A gate in front of the host; `ssh` runs the real client with Ada's certificate under `grant`."""

    gate: Gate
    authority: CertifyingAuthority
    host: Host
    folder: Path
    grant: str = ""

    def known_hosts(self) -> Path:
        place = self.folder / "known_hosts"
        assert self.gate.ssh is not None
        authority = (self.folder / "gate-authority").read_text()
        place.write_text(identity.known_hosts(authority, ["127.0.0.1"], self.gate.ssh.port) + "\n")
        return place

    def certificate(
        self,
        *,
        names: tuple[str, ...] = ("ada+web-1", "+web-1"),
        minutes: float = 30,
        source: str = "",
        grant: str = "",
        authorities: SshAuthorities | None = None,
        key: str = "ada",
    ) -> list[str]:
        """Options of ssh with a key and its certificate; made anew each time."""
        private = asyncssh.generate_private_key("ssh-ed25519")
        place = self.folder / f"key-{key}-{os.urandom(4).hex()}"
        private.write_private_key(place)
        place.chmod(0o600)
        public = private.export_public_key().decode()
        now = datetime.now(UTC)
        made = (authorities or self.authority.authorities).entry(
            public, Claim("ada", grant or self.grant), names, now, now + timedelta(minutes=minutes), source
        )
        place.with_name(f"{place.name}-cert.pub").write_text(made + "\n")
        return ["-i", str(place), "-o", f"CertificateFile={place}-cert.pub", "-o", "IdentitiesOnly=yes"]

    def options(self, user: str = "ada+web-1") -> list[str]:
        assert self.gate.ssh is not None
        settings = {
            "Port": self.gate.ssh.port,
            "User": user,
            "UserKnownHostsFile": self.known_hosts(),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "HashKnownHosts": "no",
            "ConnectTimeout": "10",
            "LogLevel": "INFO",
        }
        return ["-F", "none", *(part for k, v in settings.items() for part in ("-o", f"{k}={v}"))]

    def command(
        self, program: str = "ssh", *, user: str = "ada+web-1", proof: list[str] | None = None
    ) -> list[str]:
        return [
            program,
            *self.options(user),
            "-o",
            "BatchMode=yes",
            *(self.certificate() if proof is None else proof),
        ]

    async def ssh(
        self,
        *arguments: str,
        stdin: bytes = b"",
        user: str = "ada+web-1",
        proof: list[str] | None = None,
        options: tuple[str, ...] = (),
    ) -> Done:
        return await self.run(
            *self.command(user=user, proof=proof), *options, "127.0.0.1", *arguments, stdin=stdin
        )

    async def run(self, *command: str, stdin: bytes = b"", **env: str) -> Done:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **env}
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Done(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    async def start(self, *arguments: str, options: tuple[str, ...] = ()) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self.command(), *options, "127.0.0.1", *arguments, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def connect(self, **more: Any) -> asyncssh.SSHClientConnection:
        """asyncssh as the client, with Ada's password."""
        assert self.gate.ssh is not None
        return await asyncssh.connect(
            "127.0.0.1",
            self.gate.ssh.port,
            username="ada+web-1",
            password=TOKEN,
            client_keys=None,
            agent_path=None,
            config=None,
            known_hosts=str(self.known_hosts()),
            **more,
        )

    async def until(self, seen: Callable[[], object], what: str, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not seen():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


OpenSshHouse = Callable[..., Awaitable[SshHouse]]


@pytest.fixture
async def open_ssh(
    ssh_host: Host, gate_identity: tls.Identity, tmp_path: Path
) -> AsyncIterator[OpenSshHouse]:
    """Opens gates; each call takes GateSettings to change."""
    gates: list[Gate] = []

    async def build(**changes: object) -> SshHouse:
        made = identity.self_made(tmp_path / "gate", ["127.0.0.1"], datetime.now(UTC))
        (tmp_path / "gate-authority").write_text(made.authority)
        settings = GateSettings(
            name="gate-1",
            recordings=tmp_path / f"recordings{len(gates)}",
            tls=tls.server_context(gate_identity.certificate, gate_identity.key),
            renew_every=0.2,
            ssh=SshSettings("127.0.0.1", 0, made.key, made.certificate),
        )
        authority = CertifyingAuthority(
            asyncio.get_running_loop().time, ssh_host.authorities, ssh_host.upstream()
        )
        gate = Gate(authority, replace(settings, **changes))  # type: ignore[arg-type]
        await gate.start()
        gates.append(gate)
        return SshHouse(gate, authority, ssh_host, tmp_path)

    yield build
    for gate in gates:
        await gate.stop()


@pytest.fixture
async def web(open_ssh: OpenSshHouse) -> SshHouse:
    """A gate with an hour's grant for Ada on web-1: a recorded shell, commands, files."""
    it = await open_ssh()
    it.grant = it.authority.host_grant()
    return it
