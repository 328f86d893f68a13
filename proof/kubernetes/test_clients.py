"""Clients that need the real cluster: client-go and kubectl over SPDY, and helm."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.authority import Upstream
from proxy.recording import Screen
from tests.proxy.kubernetes.conftest import REAL, Done, Kube, OpenKube
from tests.proxy.kubernetes.conftest import certificates as certificates
from tests.proxy.kubernetes.conftest import cluster as cluster
from tests.proxy.kubernetes.conftest import open_kube as open_kube
from workflows.model import Action, ApiMatch, EndReason, Guardrail

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


def straight(kube: Kube) -> Kube:
    """The gate speaks to the API server itself: the recorder between them knows no SPDY."""
    address, token, ca = os.environ[REAL].split(",")
    host, _, port = address.removeprefix("https://").partition(":")
    headers = (("Authorization", f"Bearer {token}"),)
    kube.authority.upstream = Upstream(host, int(port), "", "", "", ca=Path(ca).read_text(), headers=headers)
    return kube


@dataclass
class Ran:
    kube: Kube
    grant: str


async def ready(open_kube: OpenKube, **terms: object) -> Ran:
    kube = straight(await open_kube(grant=False))
    return Ran(kube, kube.authority.cluster_grant(**terms))


async def run(kube: Kube, *words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
    process = await start(kube, *words, env=env)
    async with asyncio.timeout(120):
        out, err = await process.communicate(stdin)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def start(kube: Kube, *words: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    known = {
        "HOME": str(kube.home),
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kube.config()),
        **(env or {}),
    }
    process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe, env=known)
    kube.started.append(process)
    return process


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def test_client_go_lists_watches_execs_and_forwards_over_both_protocols(open_kube: OpenKube) -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    kube = (await ready(open_kube, connect=("pods/exec", "pods/portforward"))).kube
    port = str(server.sockets[0].getsockname()[1])
    done = await run(kube, os.environ["PORTCULLIS_TEST_CLIENT"], str(kube.config()), port)
    assert done.code == 0, done.out + done.err
    assert sorted(done.out.splitlines()) == [
        "exec over spdy oops 3",
        "exec over websocket oops 3",
        "forward OVER SPDY",
        "forward OVER WEBSOCKET",
        "orders first",
        "pods web-1",
        "secret masked by portcullis",
        "watch ADDED web-1",
    ]
    kube.finish()
    recording = await kube.recording()
    shown = [it for it in recording.happened if isinstance(it, Screen)]
    assert [it.text for it in shown if it.event == "o"].count("over spdy") == 1
    assert [it.text for it in shown if it.event == "i"].count("over spdy") == 1
    assert len([it for it in shown if it.event == "x" and it.text.startswith("exit 3; ")]) == 2
    server.close()


async def test_an_exec_over_spdy_is_cut_within_a_second_and_told_why(open_kube: OpenKube) -> None:
    it = await ready(open_kube, connect=("pods/exec",))
    process = await start(
        it.kube, "kubectl", "exec", "web-1", "--", "sh", "-c", "echo in; exec sleep 60", env=SPDY
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"in\n"
    began = asyncio.get_running_loop().time()
    it.kube.authority.end(it.grant, EndReason.REVOKED)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert asyncio.get_running_loop().time() - began < 1
    assert b"the grant was revoked" in err


async def test_a_file_is_copied_over_spdy(open_kube: OpenKube) -> None:
    it = await ready(open_kube, connect=("pods/exec",))
    source, target = it.kube.home / "there.txt", it.kube.home / "here.txt"
    source.write_text("from the pod\n" * 100_000)
    done = await run(it.kube, "kubectl", "cp", f"web-1:{source}", str(target), env=SPDY)
    assert done.code == 0, done.err
    assert target.read_bytes() == source.read_bytes()


async def test_a_refused_exec_over_spdy_says_which_rule(open_kube: OpenKube) -> None:
    never = Guardrail("never", Action.REFUSE, api=ApiMatch(resources=("pods/exec",)))
    kube = (await ready(open_kube, guardrails=(never,))).kube
    done = await run(kube, "kubectl", "exec", "web-1", "--", "id", env=SPDY)
    assert "guardrail never" in done.err


# ------------------------------------------------------------------- oracles


GUESS = """
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "%s"}}
"""
GUESSING = {
    "apply": ["--field-manager=x"],
    "forced": [
        "--field-manager=x",
        "--dry-run=server",
        "--force-conflicts",
        "-o=json",
        "--show-managed-fields",
    ],
}


async def test_the_api_server_tells_no_guess_whether_it_was_right(open_kube: OpenKube) -> None:
    """What the rules against guessing are for: without them these answers differ, right from wrong."""
    kube = (await ready(open_kube)).kube
    for name, words in GUESSING.items():
        told = []
        for guess in ("correct-horse-battery", "wrong"):
            stdin = (GUESS % guess).encode()
            done = await run(
                kube, "kubectl", "apply", "--server-side", "--validate=false", *words, "-f", "-", stdin=stdin
            )
            told.append((done.code, done.out, done.err))
        assert told[0] == told[1], name


# ----------------------------------------------------------------------- helm

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: tiny\nversion: 0.1.0\n",
    "values.yaml": "said: one\n",
    "templates/map.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tiny}\ndata: {said: {{ .Values.said | quote }}}\n"
    ),
}


@pytest.fixture
def chart(tmp_path: Path) -> str:
    for name, text in CHART.items():
        place = tmp_path / "tiny" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return str(tmp_path / "tiny")


def helm() -> str:
    program = os.environ["PORTCULLIS_TEST_HELM"]
    assert program, "proof/kubernetes/run --helm builds it, and else leaves these out"
    return program


async def test_helm_installs_upgrades_lists_and_uninstalls(open_kube: OpenKube, chart: str) -> None:
    kube = (await ready(open_kube, secrets="clear")).kube
    steps = [
        ("install", "mine", chart),
        ("upgrade", "mine", chart, "--set", "said=two"),
        ("list", "-q"),
        ("get", "values", "mine"),
        ("uninstall", "mine"),
    ]
    said = [await run(kube, helm(), *words) for words in steps]
    assert [it.code for it in said] == [0] * len(steps), [it.err for it in said]
    assert said[2].out.split() == ["mine"]
    assert "said: two" in said[3].out


async def test_where_secrets_are_masked_helm_is_told_so_before_it_does_anything(
    open_kube: OpenKube, chart: str
) -> None:
    kube = (await ready(open_kube)).kube
    installed = await run(kube, helm(), "install", "hidden", chart)
    assert installed.code != 0
    assert "helm keeps a release in a Secret, and could not read its own again" in installed.err
    assert "Ask for a role that has Secrets in clear" in installed.err
    assert (await run(kube, "kubectl", "get", "configmap", "tiny")).code != 0, "something was installed"


async def test_of_a_release_that_is_there_a_masked_role_sees_and_changes_nothing(
    open_kube: OpenKube, chart: str
) -> None:
    it = await ready(open_kube, secrets="clear")
    assert (await run(it.kube, helm(), "install", "there", chart, "--set", "said=a-secret-value")).code == 0
    it.kube.authority.end(it.grant)
    grant = it.kube.authority.cluster_grant()
    for words in (("list",), ("get", "values", "there"), ("upgrade", "there", chart), ("uninstall", "there")):
        done = await run(it.kube, helm(), *words)
        assert "so that helm cannot read its releases" in done.err, (words, done)
        assert done.code != 0 or (words == ("list",) and "there" not in done.out), (words, done)
        assert "a-secret-value" not in done.out + done.err
    it.kube.authority.end(grant)
    it.kube.authority.cluster_grant(secrets="clear")
    assert (await run(it.kube, helm(), "uninstall", "there")).code == 0
