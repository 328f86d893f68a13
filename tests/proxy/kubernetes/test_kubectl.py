"""The real kubectl through the gate, at a cluster: as whom, what passes, is held, is hidden, and the end."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import yaml

from proxy.kubernetes.secrets import MASK_BASE64
from proxy.recording import Screen
from proxy.ssh.cast import casts
from workflows.model import Action, ApiMatch, EndReason, Guardrail, Quorum, ReviewState

if TYPE_CHECKING:
    from tests.proxy.kubernetes.conftest import OpenKube

CLEAR = "correct-horse-battery"
CODED = base64.b64encode(CLEAR.encode()).decode()
GRACE = (Quorum("dba"),)


async def eventually(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not seen():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def holds(**match: tuple[str, ...]) -> Guardrail:
    return Guardrail("ask-first", Action.HOLD, quorum=GRACE, api=ApiMatch(**match))


def refuses(**match: tuple[str, ...]) -> Guardrail:
    return Guardrail("never", Action.REFUSE, api=ApiMatch(**match))


# --------------------------------------------------------------------- as whom


async def test_objects_are_listed_as_the_person_in_the_grants_groups(open_kube: OpenKube) -> None:
    kube = await open_kube()
    done = await kube.kubectl("get", "deployments")
    assert done.code == 0, done.err
    assert "web" in done.out
    for seen in kube.cluster.seen:
        assert seen.headers["impersonate-user"] == ["ada"], seen
        assert seen.headers["impersonate-group"] == ["shop-edit"], seen
    kube.finish()
    recording = await kube.recording()
    listed = [it for it in recording.statements if it.text.startswith("list deployments.apps in shop")]
    assert [(it.outcome, it.verdict, it.tag) for it in listed] == [("ok", "read", "200 OK")]


async def test_nobody_enters_without_a_token_of_theirs_or_without_a_grant(open_kube: OpenKube) -> None:
    kube = await open_kube(grant=False)
    for token in ("", "pce_wrong", "edit~pce_wrong"):
        done = await kube.kubectl("get", "pods", token=token or "x")
        assert done.code != 0
    done = await kube.kubectl("get", "pods")
    assert done.code != 0
    assert kube.cluster.seen == []


@pytest.mark.parametrize(
    "words", [["--as=root"], ["--as=ada", "--as-group=system:masters"], ["--as=ada", "--as-uid=0"]]
)
async def test_whoever_wishes_to_act_as_somebody_else_is_refused(
    open_kube: OpenKube, words: list[str]
) -> None:
    kube = await open_kube()
    done = await kube.kubectl("get", "--raw", "/api/v1/namespaces/shop/pods", *words)
    assert done.code != 0
    assert "the grant alone says whom this session acts as" in done.err
    assert kube.cluster.seen == []


async def test_what_the_cluster_forbids_its_groups_stays_forbidden(open_kube: OpenKube) -> None:
    kube = await open_kube(groups=("shop-view",))
    done = await kube.kubectl("get", "--raw", "/api/v1/namespaces/shop/secrets")
    assert done.code != 0
    assert "forbidden" in done.err.lower()


# ---------------------------------------------------------------------- writing


async def test_an_object_is_applied_changed_and_deleted(open_kube: OpenKube) -> None:
    kube = await open_kube()
    told = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    for value in ("1", "2"):
        told["data"] = {"a": value}
        done = await kube.kubectl(
            "apply",
            "--validate=false",
            "--openapi-patch=false",
            "-f",
            "-",
            stdin=yaml.safe_dump(told).encode(),
        )
        assert done.code == 0, done.err
    done = await kube.kubectl("get", "configmap", "applied", "-o", "jsonpath={.data.a}")
    assert done.out == "2", done.err
    done = await kube.kubectl("delete", "configmap", "applied")
    assert done.code == 0, done.err


async def test_a_refused_request_never_reaches_the_cluster_and_says_which_rule(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(refuses(verbs=("delete",), resources=("deployments",)),))
    done = await kube.kubectl("delete", "deployment", "web")
    assert done.code != 0
    assert "guardrail never" in done.err
    assert not [it for it in kube.cluster.seen if it.method == "DELETE"]
    kube.finish()
    refused = [it for it in (await kube.recording()).statements if it.outcome == "refused"]
    assert [it.text.partition(" — ")[0] for it in refused] == ["delete deployments.apps web in shop"]


async def test_a_held_patch_shows_its_diff_and_goes_on_once_approved(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(holds(verbs=("patch",), resources=("deployments",)),))
    process = await kube.start("set", "image", "deployment/web", "web=shop/web:2")
    asked = await kube.authority.reviews.asked()
    text = asked.statement.text
    assert text.startswith(
        "patch deployments.apps web in shop\nPATCH /apis/apps/v1/namespaces/shop/deployments/web"
    )
    assert "as ada, of shop-edit" in text
    assert "-      - image: shop/web:1" in text.replace("-        image", "-      - image"), text
    assert "shop/web:2" in text
    assert "SHA-256" in text
    written = [it for it in kube.cluster.seen if it.method == "PATCH" and "dryRun=All" not in it.target]
    assert written == []
    kube.authority.reviews.approve(asked.id)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    assert b"image updated" in out
    assert b"held by the rule ask-first, approved" in err
    written = [it for it in kube.cluster.seen if it.method == "PATCH" and "dryRun=All" not in it.target]
    assert len(written) == 1
    await kube.authority.reviews.state(asked.id, ReviewState.FINISHED)


async def test_a_denied_delete_is_told_why_and_does_nothing(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(holds(verbs=("delete",), resources=("configmaps",)),))
    process = await kube.start("delete", "--raw", "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt")
    asked = await kube.authority.reviews.asked()
    assert "kube-root-ca.crt" in asked.statement.text
    kube.authority.reviews.deny(asked.id, reason="not on a Friday")
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode != 0
    assert b"not on a Friday" in err
    assert not [it for it in kube.cluster.seen if it.method == "DELETE"]


async def test_whoever_leaves_takes_their_question_back(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(holds(verbs=("delete",), resources=("pods",)),))
    process = await kube.start("delete", "--raw", "/api/v1/namespaces/shop/pods/web-1")
    asked = await kube.authority.reviews.asked()
    process.kill()
    await kube.authority.reviews.state(asked.id, ReviewState.WITHDRAWN)
    assert not [it for it in kube.cluster.seen if it.method == "DELETE"]


# ---------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "words",
    [
        ["get", "secret", "db", "-o", "yaml"],
        ["get", "secret", "db", "-o", "json", "--show-managed-fields"],
        ["get", "secrets"],
        ["get", "secrets", "-o", "jsonpath={.items[*].data}"],
        ["get", "secrets", "-A", "-o", "json"],
        ["describe", "secret", "db"],
        ["get", "--raw", "/api/v1/secrets"],
        ["get", "--raw", "/api/v1/namespaces/shop/secrets/db?pretty=1"],
        ["patch", "secret", "db", "-p", '{"metadata":{"labels":{"seen":"1"}}}', "-o", "yaml"],
        ["annotate", "secret", "db", "--overwrite", "seen=1", "-o", "json"],
    ],
)
async def test_no_answer_has_a_secrets_data(open_kube: OpenKube, words: list[str]) -> None:
    kube = await open_kube()
    done = await kube.kubectl(*words)
    assert done.code == 0, done.err
    assert any(seen in done.out for seen in ("db", MASK_BASE64))
    for text in (done.out, done.err):
        assert CLEAR not in text
        assert CODED not in text


async def test_a_role_with_secrets_in_clear_sees_them(open_kube: OpenKube) -> None:
    kube = await open_kube(secrets="clear")
    done = await kube.kubectl("get", "secret", "db", "-o", "jsonpath={.data.password}")
    assert base64.b64decode(done.out).decode() == CLEAR


async def test_a_json_patch_cannot_copy_a_secrets_data_where_it_is_seen(open_kube: OpenKube) -> None:
    kube = await open_kube()
    steps = [{"op": "copy", "from": "/data/password", "path": "/metadata/annotations/seen"}]
    done = await kube.kubectl("patch", "secret", "db", "--type=json", "-p", json.dumps(steps))
    assert done.code != 0
    assert "may not copy, move or test" in done.err
    assert not [it for it in kube.cluster.seen if it.method == "PATCH"]


# --------------------------------------------------------------------- streams


async def test_an_exec_runs_and_is_recorded(open_kube: OpenKube) -> None:
    kube = await open_kube()
    done = await kube.kubectl(
        "exec", "-i", "web-1", "--", "sh", "-c", "cat; echo oops >&2; exit 3", stdin=b"hello\n"
    )
    assert done.code == 3, done.err
    assert done.out == "hello\n"
    assert "oops" in done.err
    kube.finish()
    recording = await kube.recording()
    run = next(it for it in recording.statements if it.text.startswith("connect pods/exec web-1 in shop"))
    assert "sh -c 'cat; echo oops >&2; exit 3'" in run.text
    assert run.verdict == "admin"
    shown = [it for it in recording.happened if isinstance(it, Screen) and it.channel == run.channel]
    assert [(it.event, it.text) for it in shown if it.event in "oe"] == [("o", "hello\n"), ("e", "oops\n")]
    assert shown[-1].event == "x"
    assert shown[-1].text.startswith("exit 3; in 6 bytes ")


async def test_a_terminal_becomes_an_asciicast(open_kube: OpenKube) -> None:
    kube = await open_kube()
    words = [
        *kube.command(
            "exec",
            "-it",
            "web-1",
            "--",
            "sh",
            "-c",
            "echo in a terminal; read word; stty -echo; read more; echo got it",
        )
    ]
    process = await asyncio.create_subprocess_exec(
        "script",
        "-qec",
        " ".join(_quoted(word) for word in words),
        "/dev/null",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"HOME": str(kube.home), "PATH": "/usr/bin:/bin", "TERM": "xterm"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(60):
        seen = await process.stdout.readuntil(b"in a terminal")
        process.stdin.write(b"seen-word\n")
        await asyncio.sleep(0.5)
        process.stdin.write(b"unseen-word\n")
        seen += await process.stdout.readuntil(b"got it")
        await process.wait()
    kube.finish()
    recording = await kube.recording()
    (cast,) = casts(recording)
    assert "in a terminal" in cast
    assert "got it" in cast
    whole = json.dumps([it.text for it in recording.happened if isinstance(it, Screen)])
    assert "unseen-word" not in whole


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


async def test_a_file_is_copied_out(open_kube: OpenKube) -> None:
    kube = await open_kube()
    source = kube.home / "in-the-pod.txt"
    source.write_text("from the pod\n" * 1000)
    target = kube.home / "copied.txt"
    done = await kube.kubectl("cp", f"web-1:{source}", str(target))
    assert done.code == 0, done.err
    assert target.read_text() == source.read_text()


async def test_an_exec_is_refused_where_the_role_does_not_have_it(open_kube: OpenKube) -> None:
    kube = await open_kube(connect=())
    done = await kube.kubectl("exec", "web-1", "--", "id")
    assert done.code != 0
    assert "opens a connection into the cluster" in done.err
    assert not [it for it in kube.cluster.seen if "/exec" in it.target]


async def test_a_denied_exec_is_told_why_although_kubectl_tries_spdy_then(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(holds(resources=("pods/exec",)),))
    process = await kube.start("exec", "web-1", "--", "id")
    asked = await kube.authority.reviews.asked()
    kube.authority.reviews.deny(asked.id, reason="not on a Friday")
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert b"not on a Friday" in err
    assert len(kube.authority.reviews.all) == 1
    assert not [it for it in kube.cluster.seen if "/exec" in it.target]


async def test_a_held_exec_waits_for_a_yes(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(holds(resources=("pods/exec",)),))
    process = await kube.start("exec", "web-1", "--", "echo", "let in")
    asked = await kube.authority.reviews.asked()
    assert "connect pods/exec web-1 in shop" in asked.statement.text
    assert "echo 'let in'" in asked.statement.text
    assert not [it for it in kube.cluster.seen if "/exec" in it.target]
    kube.authority.reviews.approve(asked.id)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert out == b"let in\n", err


# ---------------------------------------------------------------------- the end


async def test_logs_are_followed_until_the_cut(open_kube: OpenKube) -> None:
    kube = await open_kube(grant=False)
    grant = kube.authority.cluster_grant()
    process = await kube.start("logs", "-f", "web-1")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"line 1\n"
    kube.authority.end(grant, EndReason.REVOKED)
    began = time.monotonic()
    async with asyncio.timeout(30):
        await process.wait()
        await eventually(lambda: kube.cluster.open == 0)
    assert time.monotonic() - began < 1
    seen = next(it for it in (await kube.recording()).statements if "pods/log" in it.text)
    assert (seen.verdict, seen.outcome) == ("read", "unfinished")


async def test_a_watch_is_cut_within_a_second(open_kube: OpenKube) -> None:
    kube = await open_kube(grant=False)
    grant = kube.authority.cluster_grant()
    process = await kube.start("get", "--raw", "/api/v1/namespaces/shop/pods?watch=1&resourceVersion=0")
    assert process.stdout is not None
    await eventually(lambda: kube.cluster.open > 0)
    kube.authority.end(grant, EndReason.REVOKED)
    began = time.monotonic()
    async with asyncio.timeout(30):
        await process.wait()
        await eventually(lambda: kube.cluster.open == 0)
    assert time.monotonic() - began < 1
    assert (await kube.closed())[0].reason == "cut"


async def test_an_exec_is_cut_within_a_second_and_told_why(open_kube: OpenKube) -> None:
    kube = await open_kube(grant=False)
    grant = kube.authority.cluster_grant()
    process = await kube.start("exec", "web-1", "--", "sh", "-c", "echo in; exec sleep 60")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"in\n"
    kube.authority.end(grant, EndReason.REVOKED)
    began = time.monotonic()
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert time.monotonic() - began < 1
    assert process.returncode != 0
    assert b"the grant was revoked" in err
    run = (await kube.recording()).statements[-1]
    assert run.outcome == "unfinished"


async def test_the_grants_end_is_the_end_also_without_a_word_from_the_broker(open_kube: OpenKube) -> None:
    kube = await open_kube(seconds=6)
    process = await kube.start("exec", "web-1", "--", "sh", "-c", "echo in; exec sleep 60")
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert b"the grant expired" in err
    done = await kube.kubectl("get", "--raw", "/version")
    assert done.code != 0
