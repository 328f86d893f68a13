"""`access kubeconfig` and `access kube-token`: Kubernetes clusters through the gate, with kubectl as it is.

The kubeconfig holds no secret: it has kubectl run `access kube-token`, an exec credential plugin
(client-authentication.k8s.io), each time that it needs one.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
import yaml

from cli import saved
from cli.client import Api
from cli.entering import Resource, RoleOption, held
from cli.say import say_plain, whisper

_API = "client.authentication.k8s.io"
_VERSIONS = ("v1", "v1beta1")
Write = Annotated[bool, typer.Option("--write", help="Keep it in a file of its own.")]


def kubeconfig(resource: Resource, role: RoleOption = "", write: Write = False) -> None:
    """Print a kubeconfig for a cluster that you hold a grant on, for kubectl and its like."""
    api = Api.mine()
    story = held(api, resource, role, "kubeconfig", kind="kubernetes")
    gate = api.get("/api/v1/http/gate", resource=story["resource"])
    text = yaml.safe_dump(_config(api.get("/api/v1/gate")["host"], gate, story), sort_keys=False)
    if not write:
        say_plain(text.rstrip())
        return
    place = saved.write_file(f"kubeconfig_{story['resource']}", text)
    whisper("Have kubectl read it:")
    say_plain(f"export KUBECONFIG={place}")


def kube_token(resource: Resource, role: RoleOption = "") -> None:
    """Print a credential for kubectl, which runs this itself: see `access kubeconfig`."""
    api = Api.mine()
    story = held(api, resource, role, "kube-token", kind="kubernetes")
    issued = api.post("/api/v1/tokens")
    credential = {
        "apiVersion": f"{_API}/{_version()}",
        "kind": "ExecCredential",
        "status": {
            "expirationTimestamp": issued["expires_at"],
            "token": f"{story['role']}~{issued['token']}",
        },
    }
    say_plain(json.dumps(credential))


def _version() -> str:
    """The version that kubectl asks for, in the environment."""
    try:
        asked = json.loads(os.environ.get("KUBERNETES_EXEC_INFO", "{}"))["apiVersion"].partition("/")[2]
    except (ValueError, KeyError, AttributeError, TypeError):
        asked = ""
    return asked if asked in _VERSIONS else _VERSIONS[0]


def _config(host: str, gate: Any, story: Any) -> dict[str, Any]:
    """One cluster, one user, one context. The cluster is named inside TLS, so that it needs no DNS entry."""
    name = f"{story['resource']}-{story['role']}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": f"https://{_host(host)}:{gate['port']}",
                    "tls-server-name": urlsplit(gate["address"]).hostname,
                    "certificate-authority-data": base64.b64encode(gate["ca"].encode()).decode(),
                },
            }
        ],
        "users": [{"name": name, "user": {"exec": _plugin(story)}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _plugin(story: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{_API}/v1",
        "command": str(Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute()),
        "env": [{"name": name, "value": value} for name, value in saved.environment().items()],
        "args": ["kube-token", story["resource"], "--role", story["role"]],
        "interactiveMode": "Never",
        "installHint": "Install Portcullis' command line, and log in: access login",
    }


def _host(name: str) -> str:
    return f"[{name}]" if ":" in name else name
