"""Promise 2. No secret leaves, over SSH: the gate's login at a host is in nothing that anybody gets."""

# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

from dataclasses import replace

import asyncssh
import pytest

from tests.promises.searching import leaks
from tests.proxy.conftest import gate_identity
from tests.proxy.ssh.conftest import OpenSshHouse, SshHouse, open_ssh, ssh_host, web


def secrets(web: SshHouse) -> dict[str, bytes]:
    """The private key as the gate holds it, its bare bytes, and the certificate that goes with it."""
    upstream = web.authority.upstream
    lines = [line for line in upstream.key.splitlines() if "-----" not in line]
    found = {"key": "".join(lines), "line of the key": lines[1]}
    if upstream.certificate:
        found["certificate"] = upstream.certificate.split()[1][-200:]
    return {name: secret.encode() for name, secret in found.items()}


async def test_neither_output_nor_recording_nor_trace_has_it(web: SshHouse) -> None:
    done = await web.ssh("env; cat /proc/self/environ; cat /proc/self/cmdline", options=("-vvv",))
    recording = web.gate.recorder.path((await web.closed())[0].session).read_bytes()
    places = [("output", done.out.encode()), ("trace", done.err.encode()), ("recording", recording)]
    assert leaks(secrets(web), places) == []
    assert "PRIVATE KEY" not in repr(web.authority.upstream)


@pytest.mark.parametrize("wrong", ["key", "certificate", "host key", "port"])
async def test_a_host_that_is_not_entered_tells_nothing_of_it(web: SshHouse, wrong: str) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    changes: dict[str, dict[str, object]] = {
        "key": {"key": other.export_private_key().decode(), "certificate": ""},
        "certificate": {"certificate": ""},
        "host key": {"host_keys": (other.export_public_key().decode().strip(),)},
        "port": {"port": 1},
    }
    web.authority.upstream = replace(web.host.upstream(), **changes[wrong])  # type: ignore[arg-type]
    web.authority.grants.clear()
    web.grant = web.authority.host_grant()
    done = await web.ssh("echo in", options=("-vvv",))
    assert done.code == 255
    assert "could not enter web-1" in done.err
    recording = web.gate.recorder.path((await web.closed())[0].session).read_bytes()
    places = [("trace", done.err.encode()), ("recording", recording)]
    port = str(web.authority.upstream.port).encode()
    assert leaks(secrets(web), places) == []
    assert port not in done.err.split("could not enter")[1].encode() or wrong == "port"
