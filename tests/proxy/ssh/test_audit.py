"""What ssh-audit says of the gate's port: no failure, and one warning that is explained.

Key exchanges that a later quantum computer could undo stay, behind ML-KEM, for clients that have no other:
OpenSSH before 9.9, and most libraries.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import SshHouse


_QUANTUM = "does not provide protection against post-quantum attacks"


async def test_ssh_audit_finds_nothing_wrong(web: SshHouse) -> None:
    assert web.gate.ssh is not None
    program = [
        sys.executable,
        "-m",
        "ssh_audit.ssh_audit",
        "-j",
        "--skip-rate-test",
        "-p",
        str(web.gate.ssh.port),
    ]
    done = await web.run(*program, "127.0.0.1")
    said = json.loads(done.out)
    notes = {
        (kind, item["algorithm"], level): text
        for kind in ("kex", "key", "enc", "mac")
        for item in said[kind]
        for level in ("fail", "warn")
        if (text := item.get("notes", {}).get(level))
    }
    later = {key for key, text in notes.items() if text == [_QUANTUM]}
    assert {kind for kind, _, _ in later} == {"kex"}
    assert set(notes) - later == set()
    assert said["kex"][0]["algorithm"] == "mlkem768x25519-sha256"
    assert said["cves"] == []
