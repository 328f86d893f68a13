"""Clusters in access.yaml: what is wrong is said with its place and a mend; a good one has its meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import ClusterTarget, ConfigError, Mint, SecretRef
from broker.policy_file.holder import load
from workflows.model import Action, ApiMatch, ClusterTerms, Quorum

GOOD = """\
people:
  grace: {name: Grace Hopper, groups: [sre]}
groups:
  sre: {title: Approvers}
resources:
  prod-cluster:
    kind: kubernetes
    address: 10.0.0.1:6443
    token: env:PROD_TOKEN
    mint: {namespace: portcullis, service_account: gate}
    roles:
      edit:
        groups: [shop-edit]
        connect: [pods/exec]
        guardrails:
          - name: ask
            action: hold
            verbs: [patch]
            groups: [apps]
            resources: [deployments]
            approval: [{group: sre}]
      look: {groups: [shop-view], user: viewer, secrets: clear}
    guardrails:
      - {name: no-system, action: refuse, namespaces: ["kube-*"]}
"""


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "access.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_good_cluster_has_its_meaning(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(GOOD)
    config = load(path)
    token, mint = SecretRef("env:PROD_TOKEN", tmp_path), Mint("portcullis", "gate")
    assert config.targets["prod-cluster"] == ClusterTarget("10.0.0.1", 6443, "", token, mint)
    cluster = config.policy.resources["prod-cluster"]
    assert cluster.kind == "kubernetes"
    edit, look = cluster.role("edit"), cluster.role("look")
    assert edit is not None
    assert look is not None
    assert edit.terms.cluster == ClusterTerms(("shop-edit",), "", ("pods/exec",), "mask")
    assert look.terms.cluster == ClusterTerms(("shop-view",), "viewer", (), "clear")
    ask, system, own = edit.terms.guardrails
    assert (ask.action, ask.quorum) == (Action.HOLD, (Quorum("sre"),))
    assert ask.api == ApiMatch(("patch",), ("apps",), ("deployments",))
    assert system.api == ApiMatch(namespaces=("kube-*",))
    assert own.name == "own-login"
    assert [rail.name for rail in look.terms.guardrails] == ["no-system", "own-login"]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (
            "connect: [pods/exec]",
            "conect: [pods/exec]",
            "14:9: “conect” is not known here — did you mean “connect”?",
        ),
        (
            "connect: [pods/exec]",
            "connect: [Pods exec]",
            "a resource is written pods, pods/exec, */scale or *",
        ),
        ("prod-cluster:", "Prod.Cluster:", "cannot stand before the gate's domain"),
        ("verbs: [patch]", "verbs: [patch, exec]", "“exec” does not fit here"),
        ("verbs: [patch]", "kinds: [patch]", "requests to a cluster have verbs, not kinds"),
        ("verbs: [patch]", "paths: [/metrics]", "both can never fit"),
        ("verbs: [patch]", "paths: [metrics]", "a path begins with /"),
        ("token: env:PROD_TOKEN", "token: eyJhbGciOi", "a secret never stands in this file"),
        ("groups: [shop-edit]", "groups: []", "at least one is needed here"),
        ("secrets: clear", "secrets: show", "“show” does not fit here"),
        ("service_account: gate", "service_account: Gate_", "this is no name of a Kubernetes object"),
        ("    token: env", "    ca: missing.pem\n    token: env", "cannot be read"),
        ("approval: [{group: sre}]", "approval: [{group: sree}]", "did you mean “sre”?"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_its_mend(
    tmp_path: Path, right: str, wrong: str, told: str
) -> None:
    assert right in GOOD
    found = problems(tmp_path, GOOD.replace(right, wrong))
    assert any(told in problem for problem in found), found
