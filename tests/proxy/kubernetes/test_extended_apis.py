"""What a cluster has beside its own kinds, a CRD and an aggregated API; and beside exec, attach and debug."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kubernetes import client, config, watch

from proxy.recording import Screen
from workflows.model import Action, ApiMatch, Guardrail, Quorum

if TYPE_CHECKING:
    from tests.proxy.kubernetes.conftest import OpenKube

ORDERS = "/apis/shop.example/v1/namespaces/shop/orders"
THINGS = "/apis/shown.example/v1/namespaces/shop/things"


def rail(action: Action, name: str, **match: tuple[str, ...]) -> Guardrail:
    quorum = (Quorum("dba"),) if action is Action.HOLD else ()
    return Guardrail(name, action, quorum=quorum, api=ApiMatch(**match))


async def test_objects_of_a_crd_are_seen_changed_and_guarded_like_others(open_kube: OpenKube) -> None:
    never = rail(Action.REFUSE, "never", verbs=("delete",), groups=("shop.example",))
    kube = await open_kube(guardrails=(never,))
    done = await kube.kubectl("get", "orders", "-o", "jsonpath={.items[*].metadata.name}")
    assert done.out == "first", done.err
    done = await kube.kubectl("patch", "order", "first", "--type=merge", "-p", '{"spec":{"count":2}}')
    assert done.code == 0, done.err
    done = await kube.kubectl("delete", "order", "first")
    assert done.code != 0
    assert "guardrail never" in done.err
    assert not [it for it in kube.cluster.seen if it.method == "DELETE"]
    kube.finish()
    texts = [it.text for it in (await kube.recording()).statements]
    assert any(text.startswith("patch orders.shop.example first in shop — PATCH") for text in texts), texts


async def test_a_held_change_of_a_crds_object_shows_what_is_sent(open_kube: OpenKube) -> None:
    """Whether an object of another group is only rehearsed nobody knows from its path."""
    kube = await open_kube(guardrails=(rail(Action.HOLD, "ask", resources=("orders",), verbs=("patch",)),))
    process = await kube.start("patch", "order", "first", "--type=merge", "-p", '{"spec":{"count":3}}')
    asked = await kube.authority.reviews.asked()
    assert asked.statement.text.endswith('{"spec":{"count":3}}')
    kube.authority.reviews.approve(asked.id)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 0, err


async def test_an_aggregated_api_is_judged_like_the_servers_own(open_kube: OpenKube) -> None:
    never = rail(Action.REFUSE, "never", groups=("*.example",), verbs=("delete", "deletecollection"))
    kube = await open_kube(guardrails=(never,))
    done = await kube.kubectl("get", "things", "-o", "name")
    assert done.out.strip() == "thing.shown.example/one", done.err
    done = await kube.kubectl("delete", "--raw", THINGS)
    assert done.code != 0
    assert "guardrail never" in done.err
    assert not [it for it in kube.cluster.seen if it.method == "DELETE"]


async def test_making_an_aggregated_api_is_a_matter_of_administration(open_kube: OpenKube) -> None:
    from workflows.model import StatementClass

    admin = Guardrail("no-admin", Action.REFUSE, classes=frozenset({StatementClass.ADMIN}))
    kube = await open_kube(guardrails=(admin,))
    target = "/apis/apiregistration.k8s.io/v1/apiservices/v1.shown.example"
    done = await kube.kubectl("delete", "--raw", target)
    assert "guardrail no-admin" in done.err
    assert not [it for it in kube.cluster.seen if it.method == "DELETE"]


async def test_attach_carries_both_ways_and_is_recorded(open_kube: OpenKube) -> None:
    kube = await open_kube()
    done = await kube.kubectl("attach", "-i", "web-1", stdin=b"let me in\n")
    assert done.code == 0, done.err
    assert "LET ME IN" in done.out
    kube.finish()
    recording = await kube.recording()
    run = next(it for it in recording.statements if it.text.startswith("connect pods/attach web-1 in shop"))
    shown = "".join(
        it.text for it in recording.happened
        if isinstance(it, Screen) and it.channel == run.channel and it.event == "o"
    )  # fmt: skip
    assert "LET ME IN" in shown


async def test_a_debug_container_waits_for_a_yes_with_its_image_on_the_card(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(rail(Action.HOLD, "shells", resources=("pods/ephemeralcontainers",)),))
    process = await kube.start("debug", "web-1", "--image=shop/tools:1", "--target=web", "--container=look")
    asked = await kube.authority.reviews.asked()
    text = asked.statement.text
    assert text.startswith("patch pods/ephemeralcontainers web-1 in shop"), text
    assert "shop/tools:1" in text
    assert "+" in text, "the change is a diff"
    kube.authority.reviews.deny(asked.id, reason="not today")
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert b"not today" in err
    changed = [it for it in kube.cluster.seen if it.method == "PATCH" and "dryRun=All" not in it.target]
    assert changed == []


async def test_the_python_client_watches_and_reads_a_crd(open_kube: OpenKube) -> None:
    kube = await open_kube()
    api = config.new_client_from_config(str(kube.config()))

    def work() -> tuple[list[str], list[str]]:
        listed: Any = client.CustomObjectsApi(api).list_namespaced_custom_object(
            "shop.example", "v1", "shop", "orders"
        )
        events = watch.Watch().stream(
            client.CoreV1Api(api).list_namespaced_pod, "shop", timeout_seconds=2, resource_version="0"
        )
        seen = [f"{it['type']} {it['object'].metadata.name}" for it in events]
        return [it["metadata"]["name"] for it in listed["items"]], seen

    async with asyncio.timeout(60):
        names, seen = await asyncio.to_thread(work)
    assert names == ["first"]
    assert seen[0] == "ADDED web-1"


async def test_questions_about_oneself_are_reads(open_kube: OpenKube) -> None:
    from workflows.model import StatementClass

    writes = frozenset({StatementClass.WRITE, StatementClass.DESTRUCTIVE, StatementClass.ADMIN})
    kube = await open_kube(guardrails=(Guardrail("read-only", Action.REFUSE, classes=writes),))
    done = await kube.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert done.out == "ada", done.err
    done = await kube.kubectl("create", "configmap", "x", "--validate=false")
    assert "guardrail read-only" in done.err
