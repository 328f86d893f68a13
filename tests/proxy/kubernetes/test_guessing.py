"""Whoever may write a Secret and not read it cannot guess it, nor have the cluster make a login of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from broker.policy_file.cluster_schema import OWN_LOGIN

if TYPE_CHECKING:
    from tests.proxy.kubernetes.conftest import Done, Kube, OpenKube

RIGHT, WRONG = "correct-horse-battery", "another-guess"


def secret(name: str, **also: Any) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **also}).encode()


async def both(kube: Kube, name: str, *words: str) -> tuple[Done, Done]:
    """What comes of the right guess, and of a wrong one."""
    told = [secret(name, stringData={"password": guess}) for guess in (RIGHT, WRONG)]
    right, wrong = [await kube.kubectl(*words, "-f", "-", stdin=it) for it in told]
    return right, wrong


async def test_an_immutable_secret_takes_no_guess(open_kube: OpenKube) -> None:
    kube = await open_kube()
    fixed = secret("fixed", immutable=True, stringData={"password": RIGHT})
    done = await kube.kubectl("create", "--validate=false", "-f", "-", stdin=fixed)
    assert done.code == 0, done.err
    said = []
    for guess in (RIGHT, WRONG):
        patch = json.dumps({"stringData": {"password": guess}})
        said.append(await kube.kubectl("patch", "secret", "fixed", "--type=merge", "-p", patch))
    assert said[0] == said[1]
    assert "this Secret is immutable" in said[0].err
    assert not [it for it in kube.cluster.seen if it.method == "PATCH"]
    await kube.kubectl("delete", "secret", "fixed")


async def test_a_server_side_apply_tells_no_conflict(open_kube: OpenKube) -> None:
    kube = await open_kube()
    right, wrong = await both(
        kube, "db", "apply", "--server-side", "--field-manager=x", "--validate=false", "--dry-run=server"
    )
    assert right == wrong
    assert "would tell what is masked unless it forces" in right.err


async def test_a_forced_rehearsal_answers_all_guesses_alike(open_kube: OpenKube) -> None:
    kube = await open_kube()
    right, wrong = await both(
        kube, "db", "apply", "--server-side", "--field-manager=x", "--validate=false", "--dry-run=server",
        "--force-conflicts", "-o=json", "--show-managed-fields",
    )  # fmt: skip
    assert right.code == 0, right.err
    assert right == wrong


async def test_no_secret_becomes_a_login_of_ones_own(open_kube: OpenKube) -> None:
    kube = await open_kube(secrets="clear", guardrails=(OWN_LOGIN,))
    for kind in ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"):
        done = await kube.kubectl("create", "--validate=false", "-f", "-", stdin=secret("mine", type=kind))
        assert done.code != 0
        assert "own-login" in done.err, done.err
    assert not [it for it in kube.cluster.seen if it.method == "POST"]
