"""The Python client through the gate: what it lists, what it runs, and that Secrets are masked for it too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes import client, config
from kubernetes.stream import stream

from proxy.kubernetes.secrets import MASK_BASE64

if TYPE_CHECKING:
    from tests.proxy.kubernetes.conftest import OpenKube


def _core(kubeconfig: Path) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))


async def test_the_python_client_lists_and_execs(open_kube: OpenKube) -> None:
    kube = await open_kube()
    core = _core(kube.config())

    def work() -> tuple[list[str], str, str]:
        names = [pod.metadata.name for pod in core.list_namespaced_pod("shop").items]
        secret = core.read_namespaced_secret("db", "shop").data["password"]
        exec_ = core.connect_get_namespaced_pod_exec
        said = stream(exec_, "web-1", "shop", command=["echo", "let in"], stdout=True, stderr=True)
        return names, secret, said

    async with asyncio.timeout(60):
        names, secret, said = await asyncio.to_thread(work)
    assert names == ["web-1"]
    assert secret == MASK_BASE64
    assert said == "let in\n"
    kube.finish()
    runs = [it.text for it in (await kube.recording()).statements]
    assert any("connect pods/exec web-1 in shop: echo 'let in'" in text for text in runs), runs
