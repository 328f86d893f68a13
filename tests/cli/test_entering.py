"""Ways in: each kind of resource has its own command, and another one says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli import entering
from cli.cluster import _plugin
from cli.emergency import _way_in
from cli.ssh import Entry, _block
from cli.trouble import Trouble

KINDS = {"prod-db": "postgres", "web-1": "ssh", "grafana": "http", "prod": "kubernetes"}


class Known:
    """A broker that knows one resource of each kind, and holds a grant on each."""

    def get(self, path: str, **_query: str) -> Any:
        if path.endswith("/resources"):
            return [{"name": name, "kind": kind, "aliases": [f"the-{name}"]} for name, kind in KINDS.items()]
        return {"grants": [{"resource": name, "role": "reader"} for name in KINDS]}


@pytest.mark.parametrize("name", KINDS)
def test_only_a_resource_of_the_kind_is_entered(name: str) -> None:
    api: Any = Known()
    for kind in KINDS.values():
        if kind == KINDS[name]:
            assert entering.held(api, f"the-{name}", "", kind=kind)["resource"] == name
            continue
        with pytest.raises(Trouble) as raised:
            entering.held(api, name, "", kind=kind)
        assert raised.value.way_out == f"Enter it with: {entering.way_in(KINDS[name], name)}"


TAKEN = {
    "story": {"resource": "it", "role": "reader"},
    "entry": {"user": "ada", "token": "pce_token"},
    "gate": {"host": "gate.example", "port": 6543, "ca": "PEM"},
    "ssh": {"host": "gate.example", "port": 2222, "known_hosts": "@cert-authority …"},
    "address": "https://it.gate.example:8443",
}


@pytest.mark.parametrize(
    ("kind", "line", "password"),
    [
        ("postgres", "psql 'host=gate.example port=6543 dbname=it user=ada/reader", "pce_token"),
        ("ssh", "ssh -p 2222 -o UserKnownHostsFile=", "pce_token"),
        ("http", "curl --cacert ", "pce_token"),
        ("kubernetes", "read -rs TOKEN; kubectl --server https://gate.example:8443", "reader~pce_token"),
    ],
)
def test_a_sealed_code_gives_the_line_for_its_kind_of_resource(
    kind: str, line: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path / "my home"))
    shown, token = _way_in({**TAKEN, "kind": kind})
    assert shown.startswith(line)
    assert "pce_token" not in shown, "a line that is pasted stays in the shell's history"
    assert token == password


def test_what_runs_access_by_itself_finds_the_login_without_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh and kubectl run it later, from another shell."""
    monkeypatch.setenv("PORTCULLIS_HOME", str(tmp_path / "my home"))
    monkeypatch.setenv("PORTCULLIS_BROKER", "https://access.example")
    place = Path("file")
    entry = Entry("gate.example", 2222, "ada+web-1", "deploy", "web-1", place, place, place)
    assert f"env 'PORTCULLIS_HOME={tmp_path}/my home' PORTCULLIS_BROKER=https://access.example" in _block(
        entry
    )
    plugin = _plugin({"resource": "prod", "role": "edit"})
    assert {"name": "PORTCULLIS_HOME", "value": f"{tmp_path}/my home"} in plugin["env"]
    monkeypatch.delenv("PORTCULLIS_HOME")
    monkeypatch.delenv("PORTCULLIS_BROKER")
    assert "PORTCULLIS" not in _block(entry)
    assert _plugin({"resource": "prod", "role": "edit"})["env"] == []
