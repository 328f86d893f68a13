"""A cluster without nodes of its own: etcd, the API server, and one node whose kubelet only streams."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proof.kubernetes.build import HERE, Programs
from proxy import tls

ADMIN = "the-admins-token"


@dataclass(frozen=True)
class Cluster:
    address: str
    ca: Path
    token: str
    """Of the service account that the gate enters with."""


@contextmanager
def cluster(programs: Programs, folder: Path) -> Iterator[Cluster]:
    """The cluster with the objects of base.yaml, while the block runs."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield _start(programs, folder, started)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _start(programs: Programs, folder: Path, started: list[subprocess.Popen[bytes]]) -> Cluster:
    store, peers, secure, kubelet = (_free() for _ in range(4))
    identity = tls.self_made(folder / "tls", ["127.0.0.1"], datetime.now(UTC))
    _keys(folder)

    def start(name: str, *command: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))

    etcd = shutil.which("etcd")
    assert etcd, "etcd is missing (Debian: etcd-server)"
    start(
        "etcd", etcd, f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{store}", f"--advertise-client-urls=http://127.0.0.1:{store}",
        f"--listen-peer-urls=http://127.0.0.1:{peers}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
        f"--initial-cluster=default=http://127.0.0.1:{peers}", "--unsafe-no-fsync",
    )  # fmt: skip
    (folder / "tokens.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
    start(
        "apiserver", str(programs.apiserver), f"--etcd-servers=http://127.0.0.1:{store}",
        "--bind-address=127.0.0.1", f"--secure-port={secure}", f"--cert-dir={folder / 'certs'}",
        f"--tls-cert-file={identity.certificate}", f"--tls-private-key-file={identity.key}",
        "--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}", "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount", "--kubelet-preferred-address-types=InternalIP",
    )  # fmt: skip
    start("kubelet", str(programs.kubelet), str(kubelet), str(identity.certificate), str(identity.key))
    address = f"https://127.0.0.1:{secure}"
    _ready(address, identity.ca)
    base = (HERE / "base.yaml").read_text().replace("KUBELET_PORT", str(kubelet))

    def kubectl(*words: str, stdin: str = "") -> str:
        login = [f"--server={address}", f"--certificate-authority={identity.ca}", f"--token={ADMIN}"]
        command = ["kubectl", *login, f"--cache-dir={folder / 'cache'}", *words]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    kubectl("apply", "-f", "-", stdin=base)
    kubectl("wait", "--for=condition=Established", "crd/orders.shop.example", "--timeout=60s")
    kubectl("wait", "--for=condition=Available", "apiservice/v1.shown.example", "--timeout=60s")
    _order(kubectl)
    _status(kubectl, kubelet)
    token = kubectl("create", "token", "gate", "-n", "portcullis", "--duration=24h").strip()
    return Cluster(address, identity.ca, token)


def _order(kubectl: Callable[..., str]) -> None:
    """An object of the CRD, which the server takes a moment after it has said so."""
    order = {
        "apiVersion": "shop.example/v1",
        "kind": "Order",
        "metadata": {"name": "first", "namespace": "shop"},
    }
    told = json.dumps({**order, "spec": {"count": 1}})
    for _ in range(20):
        try:
            kubectl("apply", "--validate=false", "-f", "-", stdin=told)
        except subprocess.CalledProcessError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError("the API server does not serve the CRD; its log is in the folder")


def _status(kubectl: object, kubelet: int) -> None:
    """What the node's kubelet would report: where it is, and that the pod runs."""
    assert callable(kubectl)
    node = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
    }
    container = {
        "name": "web",
        "image": "shop/web:1",
        "imageID": "x",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-24T12:00:00Z"}},
    }
    pod = {"phase": "Running", "containerStatuses": [container]}
    for kind, name, status in (("node", "node-1", node), ("pod", "web-1", pod)):
        patch = json.dumps({"status": status})
        kubectl("patch", kind, name, "-n", "shop", "--subresource=status", "--type=merge", "-p", patch)


def _ready(address: str, ca: Path) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(ca))
    deadline = time.monotonic() + 120
    request = urllib.request.Request(f"{address}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
    while time.monotonic() < deadline:
        with (
            suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(request, context=context, timeout=5),
        ):
            return
        time.sleep(0.5)
    raise TimeoutError("the API server did not become ready; its log is in the folder")


def _keys(folder: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "sa.key").write_bytes(pem)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "sa.pub").write_bytes(public)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
