"""What only a real API server serves: a port-forward, which is SPDY inside a WebSocket."""

from __future__ import annotations

import asyncio
import re
import time

from tests.proxy.kubernetes.conftest import OpenKube
from tests.proxy.kubernetes.conftest import certificates as certificates
from tests.proxy.kubernetes.conftest import cluster as cluster
from tests.proxy.kubernetes.conftest import open_kube as open_kube
from workflows.model import EndReason


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def test_a_port_is_forwarded_until_the_cut(open_kube: OpenKube) -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    kube = await open_kube(grant=False, connect=("pods/portforward",))
    grant = kube.authority.cluster_grant(connect=("pods/portforward",))
    process = await kube.start("port-forward", "pod/web-1", f":{port}")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
        found = re.search(rb":(\d+) ->", line)
        assert found is not None, line
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        writer.write(b"through the gate\n")
        assert await reader.readline() == b"THROUGH THE GATE\n"
    kube.authority.end(grant, EndReason.REVOKED)
    began = time.monotonic()
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    assert time.monotonic() - began < 1
    writer.close()
    server.close()
    run = next(it for it in (await kube.recording()).statements if "pods/portforward" in it.text)
    assert run.verdict == "admin"


async def test_a_role_without_it_forwards_nothing(open_kube: OpenKube) -> None:
    kube = await open_kube(connect=("pods/exec",))
    process = await kube.start("port-forward", "pod/web-1", ":1")
    assert process.stderr is not None
    async with asyncio.timeout(60):
        err = await process.stderr.read()
    assert b"opens a connection into the cluster" in err
    assert not [it for it in kube.cluster.seen if "portforward" in it.target]
