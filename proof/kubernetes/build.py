"""Builds, once, the API server, the kubelet's streaming side and the server's resolver, from Go modules."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSION = "1.36.3"
HELM = "v4.2.4"
_OF_HELM = (
    "api",
    "apimachinery",
    "client-go",
    "cli-runtime",
    "apiserver",
    "kubectl",
    "apiextensions-apiserver",
)
_OURS = ("kubelet", "resolver", "client")
HERE = Path(__file__).parent
_STAGED = re.compile(r"^\s*(k8s\.io/[a-z-]+) v0\.0\.0$", re.M)


@dataclass(frozen=True)
class Programs:
    apiserver: Path
    kubelet: Path
    resolver: Path
    client: Path
    helm: Path | None = None


def build(cache: Path, *, helm: bool = False) -> Programs:
    """The programs in `cache`, built where they are missing; that takes minutes, and 3 GB of Go's cache."""
    assert shutil.which("go"), "Go is missing (1.26 or later)"
    cache.mkdir(parents=True, exist_ok=True)
    minor = VERSION.split(".")[1]
    version = "k8s.io/component-base/version."
    flags = f"-s -w -X {version}gitVersion=v{VERSION} -X {version}gitMajor=1 -X {version}gitMinor={minor}"
    apiserver = cache / f"kube-apiserver-{VERSION}"
    if not apiserver.exists():
        server = "k8s.io/kubernetes/cmd/kube-apiserver"
        _go(_module(cache / "module"), "build", "-ldflags", flags, "-o", str(apiserver), server)
    kubelet, resolver, client = (_ours(cache, name) for name in _OURS)
    return Programs(apiserver, kubelet, resolver, client, _helm(cache) if helm else None)


def _ours(cache: Path, name: str) -> Path:
    """A program of this folder; another one wherever its text changes."""
    digest = hashlib.sha256((HERE / name / "main.go").read_bytes()).hexdigest()[:8]
    place = cache / f"{name}-{VERSION}-{digest}"
    if not place.exists():
        _go(_module(cache / "module"), "build", "-o", str(place), f"./{name}")
    return place


def _helm(cache: Path) -> Path:
    place = cache / f"helm-{HELM}"
    if not place.exists():
        module = cache / "helm"
        module.mkdir(exist_ok=True)
        released = f"v0.{VERSION.split('.', 1)[1]}"
        lines = ["module portcullis.test/helm", "", "go 1.26.0", "", f"require helm.sh/helm/v4 {HELM}"]
        lines += [f"require k8s.io/{name} {released}" for name in _OF_HELM]  # as built already for the server
        (module / "go.mod").write_text("\n".join(lines) + "\n")
        (module / "tools.go").write_text('package tools\n\nimport _ "helm.sh/helm/v4/pkg/cmd"\n')
        _go(module, "build", "-ldflags", "-s -w", "-o", str(place), "helm.sh/helm/v4/cmd/helm")
    return place


def _module(place: Path) -> Path:
    """A module that needs Kubernetes and, in place of its own staging folders, what was released of them."""
    place.mkdir(exist_ok=True)
    for name in _OURS:
        shutil.copytree(HERE / name, place / name, dirs_exist_ok=True)
    (place / "go.mod").write_text("module portcullis.test/kubernetes\n\ngo 1.26.0\n")
    told = subprocess.run(
        ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{VERSION}"],
        cwd=place, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    theirs = Path(json.loads(told)["GoMod"]).read_text()
    released = f"v0.{VERSION.split('.', 1)[1]}"
    lines = [f"require k8s.io/kubernetes v{VERSION}", ""]
    lines += [f"replace {name} => {name} {released}" for name in sorted(set(_STAGED.findall(theirs)))]
    lines += [f"require {name} {released}" for name in ("k8s.io/apiserver", "k8s.io/cri-streaming")]
    with (place / "go.mod").open("a") as file:
        file.write("\n" + "\n".join(lines) + "\n")
    (place / "tools.go").write_text('package tools\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n')
    return place


def _go(module: Path, *words: str) -> None:
    env = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false", "CGO_ENABLED": "0"}
    subprocess.run(["nice", "-n", "10", "go", *words], cwd=module, check=True, env=env)
