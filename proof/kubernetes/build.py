"""Builds, once, the API server, the kubelet's streaming side and the server's resolver, from Go modules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSION = "1.36.3"
HERE = Path(__file__).parent
_STAGED = re.compile(r"^\s*(k8s\.io/[a-z-]+) v0\.0\.0$", re.M)


@dataclass(frozen=True)
class Programs:
    apiserver: Path
    kubelet: Path
    resolver: Path


def build(cache: Path) -> Programs:
    """The programs in `cache`, built where they are missing; that takes minutes, and 3 GB of Go's cache."""
    assert shutil.which("go"), "Go is missing (1.26 or later)"
    cache.mkdir(parents=True, exist_ok=True)
    it = Programs(*(cache / f"{name}-{VERSION}" for name in ("kube-apiserver", "kubelet", "resolver")))
    if not all(place.exists() for place in (it.apiserver, it.kubelet, it.resolver)):
        module = _module(cache / "module")
        minor = VERSION.split(".")[1]
        version = "k8s.io/component-base/version."
        flags = f"-s -w -X {version}gitVersion=v{VERSION} -X {version}gitMajor=1 -X {version}gitMinor={minor}"
        _go(
            module,
            "build",
            "-ldflags",
            flags,
            "-o",
            str(it.apiserver),
            "k8s.io/kubernetes/cmd/kube-apiserver",
        )
        _go(module, "build", "-o", str(it.kubelet), "./kubelet")
        _go(module, "build", "-o", str(it.resolver), "./resolver")
    return it


def _module(place: Path) -> Path:
    """A module that needs Kubernetes and, in place of its own staging folders, what was released of them."""
    place.mkdir(exist_ok=True)
    for name in ("kubelet", "resolver"):
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
