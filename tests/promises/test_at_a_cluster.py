"""Promises 1, 2, 4, 6 and 7 at a cluster. What would go round the grant, or could be read in two ways,
reaches nothing; what a yes was for is what arrives; the gate's token is nowhere; what is not recorded does
not go on.

Each attack is sent byte for byte over TLS, as no client library would. What counts is what the API server
sees.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.proxy.kubernetes.cluster_kit import TOKEN as CLUSTER_TOKEN
from tests.proxy.kubernetes.conftest import DOMAIN, TOKEN
from tests.proxy.kubernetes.conftest import certificates as certificates
from tests.proxy.kubernetes.conftest import cluster as cluster
from tests.proxy.kubernetes.conftest import open_kube as open_kube
from workflows.model import Action, ApiMatch, Guardrail, Quorum

if TYPE_CHECKING:
    from tests.proxy.kubernetes.conftest import Kube, OpenKube

NO_SECRETS = Guardrail("no-secrets", Action.REFUSE, api=ApiMatch(resources=("secrets",)))
NO_DELETE = Guardrail("no-delete", Action.REFUSE, api=ApiMatch(verbs=("delete",)))
NO_SHELL = Guardrail("no-shell", Action.REFUSE, api=ApiMatch(resources=("pods/exec",)))
WEBSOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
ATTACKS = {
    # Somebody else's name.
    "impersonation": ("GET /api/v1/pods", "Impersonate-User: root\r\n"),
    "impersonation of a group": ("GET /api/v1/pods", "Impersonate-Group: system:masters\r\n"),
    "impersonation in lower case": ("GET /api/v1/pods", "impersonate-user: root\r\n"),
    "impersonation with a line": ("GET /api/v1/pods", "Impersonate_User: root\r\n"),
    "impersonation of an extra": ("GET /api/v1/pods", "Impersonate-Extra-scopes: all\r\n"),
    "impersonation of a uid": ("GET /api/v1/pods", "Impersonate-Uid: 0\r\n"),
    "impersonation with a dot": ("GET /api/v1/pods", "Impersonate.User: root\r\n"),
    "impersonation of a parent": ("GET /api/v1/pods", "Impersonate-Extra-Parent%2fx: all\r\n"),
    "impersonation hidden by Connection": (
        "GET /api/v1/pods",
        "Impersonate-Uid: 0\r\nConnection: impersonate-uid\r\n",
    ),
    "impersonation in discovery": ("GET /apis", "Impersonate-User: root\r\n"),
    # Another place than the one that is judged.
    "dots": ("GET /api/v1/namespaces/p/pods/../secrets", ""),
    "encoded dots": ("GET /api/v1/namespaces/p/pods/%2e%2e/secrets", ""),
    "encoded slash": ("GET /api/v1/namespaces/p%2fsecrets", ""),
    "encoded slash in a name": ("GET /api/v1/namespaces/p/pods/x%2F..%2F..%2Fsecrets", ""),
    "encoded twice": ("GET /api/v1/namespaces/p/%73ecrets%252fdb", ""),
    "encoded letters": ("GET /api/v1/namespaces/p/%73ecrets", ""),
    "empty parts": ("GET //api/v1/namespaces/p/secrets", ""),
    "empty part inside": ("GET /api/v1//namespaces/p/secrets", ""),
    "backslash": ("GET /api/v1/namespaces/p\\secrets", ""),
    "capital": ("GET /api/v1/namespaces/p/Secrets", ""),
    "semicolon": ("GET /api/v1/namespaces/p/secrets;v=1", ""),
    "nul": ("GET /api/v1/namespaces/p/secrets%00", ""),
    "whole address": ("GET https://127.0.0.1/api/v1/secrets", ""),
    "old proxy path": ("GET /api/v1/proxy/nodes/n", ""),
    "another host's name": ("GET /api/v1/secrets", "Host: other\r\n"),
    "rewritten path": ("GET /api/v1/secrets", "X-Original-URL: /apis\r\n"),
    # The same thing by another verb, method, form.
    "watch path": ("GET /api/v1/watch/secrets", ""),
    "watch parameter": ("GET /api/v1/secrets?watch=yes", ""),
    "watch twice": ("GET /api/v1/secrets?watch=0&watch=1", ""),
    "head": ("HEAD /api/v1/namespaces/p/secrets/db", ""),
    "deletecollection": ("DELETE /api/v1/namespaces/p/pods", ""),
    "eviction": ("POST /api/v1/namespaces/p/pods/web-1/eviction", "Content-Length: 0\r\n"),
    "eviction of policy": ("POST /apis/policy/v1/namespaces/p/pods/web-1/eviction", "Content-Length: 0\r\n"),
    "finalize": ("PUT /api/v1/namespaces/p/finalize", "Content-Length: 0\r\n"),
    "method override": ("GET /api/v1/namespaces/p/secrets", "X-HTTP-Method-Override: DELETE\r\n"),
    "aggregated group": ("GET /apis/shop.example/v1/namespaces/p/secrets", ""),
    "older group": ("DELETE /apis/extensions/v1beta1/namespaces/p/deployments/web", ""),
    # A shell without its guardrail.
    "exec by GET": ("GET /api/v1/namespaces/p/pods/w/exec?command=id", WEBSOCKET),
    "exec by POST": ("POST /api/v1/namespaces/p/pods/w/exec?command=id", "Content-Length: 0\r\n"),
    "exec over SPDY": (
        "POST /api/v1/namespaces/p/pods/w/exec?command=id",
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n",
    ),
    "exec through the node": ("POST /api/v1/nodes/n/proxy/exec/p/w/c?command=id", "Content-Length: 0\r\n"),
    "attach over SPDY": (
        "GET /api/v1/namespaces/p/pods/w/attach",
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n",
    ),
    "attach in base 64": (
        "GET /api/v1/namespaces/p/pods/w/attach",
        f"{WEBSOCKET}Sec-WebSocket-Protocol: v4.base64.channel.k8s.io\r\n",
    ),
    "attach without a protocol": ("GET /api/v1/namespaces/p/pods/w/attach", WEBSOCKET),
    "a watch over WebSocket": ("GET /api/v1/pods?watch=1", WEBSOCKET),
    # Credentials of one's own.
    "a token": ("POST /api/v1/namespaces/p/serviceaccounts/s/token", "Content-Length: 0\r\n"),
    "a certificate": (
        "POST /apis/certificates.k8s.io/v1/certificatesigningrequests",
        "Content-Length: 0\r\n",
    ),
    "a token by a Secret": (
        "POST /api/v1/namespaces/p/configmaps/../secrets",
        "Content-Length: 0\r\n",
    ),
    "approval of a certificate": (
        "PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/mine/approval",
        "Content-Length: 0\r\n",
    ),
    # Streams that nobody would hear.
    "exec with a body behind it": (
        "GET /api/v1/namespaces/p/pods/w/attach?stdin=1",
        f"{WEBSOCKET}Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nContent-Length: 5\r\n",
    ),
    "exec in both protocols": (
        "GET /api/v1/namespaces/p/pods/w/attach",
        "Connection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n",
    ),
    "an old protocol over SPDY": (
        "POST /api/v1/namespaces/p/pods/w/attach",
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: channel.k8s.io\r\n",
    ),
    "a console of an aggregated API": (
        "GET /apis/subresources.kubevirt.io/v1/namespaces/p/virtualmachineinstances/v/console",
        WEBSOCKET,
    ),
    "a port without the right": (
        "POST /api/v1/namespaces/p/pods/w/portforward",
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n",
    ),
    "the cluster behind a service": (
        "GET /api/v1/namespaces/default/services/https:kubernetes:443/proxy/api",
        "",
    ),
    # What nobody knows.
    "logs of the server": ("GET /logs/kube-apiserver.log", ""),
    "profiles of the server": ("GET /debug/pprof/heap", ""),
    "a method that is none": ("OPTIONS /api/v1/pods", ""),
    "a trace": ("TRACE /api/v1/pods", ""),
    "a tunnel": ("CONNECT 127.0.0.1:6443", ""),
}


async def send(kube: Kube, first: str, fields: str, body: bytes = b"") -> bytes:
    """The whole answer to one request; of an upgrade its head."""
    context = ssl.create_default_context(cafile=str(kube.ca))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", kube.port, ssl=context, server_hostname=f"prod-cluster.{DOMAIN}"
    )
    host = "" if "Host:" in fields else f"Host: 127.0.0.1:{kube.port}\r\n"
    head = f"{first} HTTP/1.1\r\n{host}Authorization: Bearer {TOKEN}\r\n{fields}Connection: close\r\n\r\n"
    if "Connection: Upgrade" in fields:
        head = head.replace("Connection: close\r\n", "")
    writer.write(head.encode() + body)
    async with asyncio.timeout(20):
        answer = await (reader.readuntil(b"\r\n\r\n") if "Connection: Upgrade" in fields else reader.read())
    writer.close()
    return answer


@pytest.fixture
async def guarded(open_kube: OpenKube) -> Kube:
    from broker.policy_file.cluster_schema import OWN_LOGIN

    return await open_kube(
        guardrails=(NO_SECRETS, NO_DELETE, NO_SHELL, OWN_LOGIN), connect=("pods/exec", "pods/attach")
    )


async def test_no_attack_reaches_the_cluster(guarded: Kube) -> None:
    for name, (first, fields) in ATTACKS.items():
        answer = await send(guarded, first, fields)
        status = int(answer.split(b" ", 2)[1])
        assert 400 <= status < 500 or status == 501, (name, answer)
        assert guarded.cluster.seen == [], name


async def test_what_is_said_in_a_websockets_protocol_is_no_credential(open_kube: OpenKube) -> None:
    kube = await open_kube()
    token = "base64url.bearer.authorization.k8s.io.cm9vdA"
    fields = f"{WEBSOCKET}Sec-WebSocket-Protocol: v5.channel.k8s.io, {token}\r\n"
    answer = await send(kube, "GET /api/v1/namespaces/p/pods/w/exec?command=true&stdout=1", fields)
    assert answer.startswith(b"HTTP/1.1 101 ")
    (seen,) = kube.cluster.seen
    assert seen.headers["sec-websocket-protocol"] == ["v5.channel.k8s.io"]
    assert seen.headers["impersonate-user"] == ["ada"]
    assert len(seen.headers["authorization"]) == 1
    assert TOKEN not in str(seen.headers)


async def test_everything_that_is_refused_is_recorded(guarded: Kube) -> None:
    attempts = [ATTACKS[name] for name in ("impersonation", "deletecollection", "exec by GET", "a token")]
    for first, fields in attempts:
        await send(guarded, first, fields)
    guarded.finish()
    refused = [it for it in (await guarded.recording()).statements if it.outcome == "refused"]
    assert len(refused) == len(attempts)


# ------------------------------------------------------------------ promise 4

ORDERS = "POST /apis/shop.example/v1/namespaces/p/orders"
HOLD_WRITES = Guardrail("ask-first", Action.HOLD, quorum=(Quorum("dba"),), api=ApiMatch(verbs=("create",)))


async def order(kube: Kube, body: bytes) -> bytes:
    return await send(
        kube, ORDERS, f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n", body
    )


async def test_a_yes_is_for_the_bytes_that_were_shown_and_for_once(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(HOLD_WRITES,))
    kube.cluster.answers_anything = True
    small, large = b'{"kind":"Order","pieces":1}', b'{"kind":"Order","pieces":9}'
    reviews = kube.authority.reviews
    first = asyncio.create_task(order(kube, small))
    asked = await reviews.asked()
    assert hashlib.sha256(small).hexdigest() in asked.statement.text
    assert small.decode() in asked.statement.text
    second = asyncio.create_task(order(kube, large))
    other = await reviews.asked(2)
    assert other.statement.digest != asked.statement.digest
    reviews.approve(asked.id)
    assert (await first).startswith(b"HTTP/1.1 200 ")
    assert [seen.body for seen in kube.cluster.seen] == [small]
    third = asyncio.create_task(order(kube, small))
    again = await reviews.asked(3)
    reviews.deny(other.id)
    reviews.deny(again.id)
    for answer in (await second, await third):
        assert answer.startswith(b"HTTP/1.1 403 ")
    assert [seen.body for seen in kube.cluster.seen] == [small]


# ------------------------------------------------------------- promises 2 and 7


async def test_the_gates_token_is_in_no_answer_and_no_recording(open_kube: OpenKube) -> None:
    kube = await open_kube(guardrails=(NO_DELETE,))
    kube.cluster.answers_anything = True
    said = [await send(kube, *ATTACKS[name]) for name in ("impersonation", "deletecollection")]
    said.append(await order(kube, b"{}"))
    said.append(await send(kube, "GET /api/v1/pods?limit=1", "Authorization: Bearer planted\r\n"))
    kube.finish()
    (closing,) = await kube.closed()
    said.append(kube.gate.recorder.path(closing.session).read_bytes())
    assert b"create orders.shop.example" in said[-1], "the search sees"
    for text in said:
        assert CLUSTER_TOKEN.encode() not in text
        assert TOKEN.encode() not in text


async def test_a_session_that_cannot_be_recorded_ends_and_none_begins(open_kube: OpenKube) -> None:
    kube = await open_kube()
    kube.cluster.answers_anything = True
    assert (await send(kube, "GET /api/v1/pods", "")).startswith(b"HTTP/1.1 200 ")
    shutil.rmtree(kube.gate.recorder.path("x").parent)
    await send(kube, "GET /api/v1/pods", "")  # what was to be written about it could not be
    assert [closing.reason for closing in await kube.closed()] == ["error"]
    reached = len(kube.cluster.seen)
    answer = await send(kube, "GET /api/v1/pods", "")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"recorded" in answer
    assert len(kube.cluster.seen) == reached


async def test_5_no_head_tells_how_long_a_secret_is(open_kube: OpenKube) -> None:
    kube = await open_kube()
    kube.cluster.answers_anything = True
    for target, told in (("secrets/db", False), ("configmaps/kube-root-ca.crt", True)):
        answer = await send(kube, f"HEAD /api/v1/namespaces/shop/{target}", "")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert (b"content-length" in answer.lower()) is told, target
