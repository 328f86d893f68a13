"""kubectl, a gate, and a cluster behind it: recorded traffic of a real API server, or the real one."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import tls
from proxy.authority import Admission, Knock, Upstream
from proxy.gate import Gate, GateSettings
from proxy.http.door import HttpSettings, http_context
from tests.proxy.conftest import Ended, MemoryAuthority
from tests.proxy.kubernetes.cluster_kit import TOKEN as CLUSTER_TOKEN
from tests.proxy.kubernetes.cluster_kit import Recorder, Replay
from workflows.model import ClusterTerms, Refusal

TOKEN = "pce_ada-token-1"
TAPES = Path(__file__).with_name("tapes")
DOMAIN = "gate.test"
REAL = "PORTCULLIS_TEST_CLUSTER"
"""Names a real API server's address; its token and CA stand behind it, parted by commas. proof/kubernetes/run
sets it, and has everything recorded anew.
"""


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class Certificates:
    """Of the gate and, by another CA, of the cluster."""

    gate: tls.Identity
    cluster: tls.Identity


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    now, names = datetime.now(UTC), ["127.0.0.1", "localhost", f"*.{DOMAIN}"]
    return Certificates(
        tls.self_made(tmp_path_factory.mktemp("gate-tls"), names, now),
        tls.self_made(tmp_path_factory.mktemp("cluster-tls"), ["127.0.0.1"], now),
    )


class ClusterAuthority(MemoryAuthority):
    """Lets ada into one cluster. A token tells whose it is."""

    def __init__(self, clock: Callable[[], float], upstream: Upstream) -> None:
        super().__init__(clock)
        self.tokens = {TOKEN: "ada"}
        self.upstream = upstream

    async def admit(self, knock: Knock) -> Admission | Refusal:
        answer = await super().admit(replace(knock, principal=self.tokens.get(knock.token, "")))
        wrong = isinstance(answer, Refusal) and answer.code == "wrong-token"
        return replace(answer, code="login-failed") if wrong else answer  # as the broker calls it

    def cluster_grant(self, seconds: float = 3600, **cluster: Any) -> str:
        terms = {
            name: cluster.pop(name)
            for name in ("guardrails", "detect", "hold_all", "max_sessions")
            if name in cluster
        }
        cluster = {"groups": ("shop-edit",), "connect": ("*",), **cluster}
        grant = self.grant(self.upstream, seconds, cluster=ClusterTerms(**cluster), **terms)
        self.grants[grant] = replace(self.grants[grant], resource="prod-cluster", role="edit")
        return grant


@dataclass
class Kube(Ended):
    """One test's gate, and the real kubectl that reaches the cluster through it."""

    gate: Gate
    authority: ClusterAuthority
    cluster: Replay
    home: Path
    ca: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def port(self) -> int:
        assert self.gate.http is not None
        return self.gate.http.port

    def config(self, token: str = TOKEN) -> Path:
        """A kubeconfig as `access kubeconfig` writes one, but with the token in it."""
        place = self.home / f"kubeconfig-{token[-1]}"
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "tls-server-name": f"prod-cluster.{DOMAIN}",
            "certificate-authority": str(self.ca),
        }
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
            "current-context": "x",
        }
        place.write_text(yaml.safe_dump(whole))
        return place

    def command(self, *words: str, token: str = TOKEN) -> list[str]:
        return [kubectl(), f"--kubeconfig={self.config(token)}", f"--cache-dir={self.home / 'cache'}", *words]

    async def kubectl(self, *words: str, stdin: bytes = b"", token: str = TOKEN) -> Done:
        process = await self.start(*words, token=token)
        async with asyncio.timeout(90):
            out, err = await process.communicate(stdin)
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def start(self, *words: str, token: str = TOKEN) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "KUBECTL_KUBERC": "false"}
        process = await asyncio.create_subprocess_exec(
            *self.command(*words, token=token), stdin=pipe, stdout=pipe, stderr=pipe, env=env
        )
        self.started.append(process)
        return process

    def finish(self) -> None:
        """End the sessions, as they end by themselves when nothing comes for a while."""
        for session in self.gate.registry.all():
            session.end("client", "the test is over")  # type: ignore[attr-defined]


def kubectl() -> str:
    program = shutil.which("kubectl")
    assert program is not None, "kubectl is missing (1.31 or newer)"
    return program


OpenKube = Callable[..., Awaitable[Kube]]


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[Replay]:
    """The API server of this test: its own tape of recorded traffic."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cluster.certificate, certificates.cluster.key)
    tape = TAPES / f"{request.node.name.removeprefix('test_')}.jsonl"
    real = os.environ.get(REAL)
    if real:
        address, token, ca = real.split(",")
        tape.unlink(missing_ok=True)
        it: Replay = Recorder(tape, context, address, token, Path(ca))
    else:
        it = Replay(tape, context)
    await it.start()
    yield it
    await it.stop()
    assert not it.unknown, "asked what was not recorded: " + "\n".join(it.unknown)


@pytest.fixture
async def open_kube(cluster: Replay, certificates: Certificates, tmp_path: Path) -> AsyncIterator[OpenKube]:
    """Opens a gate with a grant for ada; takes what is in ClusterTerms, and some of Terms."""
    opened: list[Kube] = []

    async def build(seconds: float = 3600, *, grant: bool = True, **terms: Any) -> Kube:
        it = certificates.gate
        settings = GateSettings(
            name="gate-1",
            recordings=tmp_path / "recordings",
            tls=tls.server_context(it.certificate, it.key),
            renew_every=0.2,
            http=HttpSettings(
                "127.0.0.1", 0, DOMAIN, http_context(it.certificate, it.key), names=("127.0.0.1",)
            ),
        )
        upstream = Upstream(
            "127.0.0.1",
            cluster.port,
            "",
            "",
            "",
            ca=certificates.cluster.ca.read_text(),
            headers=(("Authorization", f"Bearer {CLUSTER_TOKEN}"),),
        )
        authority = ClusterAuthority(asyncio.get_running_loop().time, upstream)
        gate = Gate(authority, settings)
        await gate.start()
        kube = Kube(gate, authority, cluster, tmp_path, it.ca)
        opened.append(kube)
        if grant:
            authority.cluster_grant(seconds, **terms)
        return kube

    yield build
    for kube in opened:
        for process in kube.started:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await kube.gate.stop()
