"""A gate that kills itself (SIGKILL) around the one run of an approved statement. Not a part of the product.

`python killable_gate.py WHERE PORT CA-FILE DIRECTORY`: WHERE is taken (the run is spent, nothing is sent yet)
or finished (the outcome was about to be told); the PostgreSQL listens at PORT. Approves every statement at
once. Prints the gate's port and the path of its CA.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from proxy import tls
from proxy.authority import Upstream
from proxy.gate import Gate, GateSettings
from tests.proxy.conftest import HOLD_WRITES, PASSWORD, MemoryAuthority


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killing(MemoryAuthority):
    """Dies where it is told to."""

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        die()


async def main(where: str, port: str, ca: str, directory: str) -> None:
    clock = asyncio.get_running_loop().time
    authority = MemoryAuthority(clock) if where == "taken" else Killing(clock)
    authority.reviews.decide = lambda review: True
    if where == "taken":
        authority.reviews.before_run = die
    upstream = Upstream(
        "127.0.0.1", int(port), "shop", "minted", PASSWORD, "verify-full", Path(ca).read_text()
    )
    authority.grant(upstream, guardrails=(HOLD_WRITES,))
    identity = tls.self_made(Path(directory) / "tls", ["127.0.0.1"], datetime.now(UTC))
    settings = GateSettings(
        name="gate-1",
        recordings=Path(directory) / "recordings",
        tls=tls.server_context(identity.certificate, identity.key),
        end_point=tls.end_point(identity.certificate),
    )
    gate = Gate(authority, settings)
    await gate.start()
    print(gate.port, identity.ca, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
