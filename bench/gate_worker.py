"""One gate process for the bench: `python -m bench.gate_worker SETUP.json RECORDINGS NUMBER [PROFILE]`.

With PROFILE it runs under cProfile and leaves its statistics there.
"""

from __future__ import annotations

import asyncio
import cProfile
import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import uvloop

from proxy.authority import Admission, Closing, GrantMinted, Knock, Notice, Progress, Upstream
from proxy.gate import Gate, GateSettings
from proxy.tls import server_context
from workflows.model import Mask, Refusal, Terms

HOUR = 3600.0


class OneGrant:
    """An authority with one grant that lasts: what the broker answers is not what this bench measures."""

    def __init__(self, upstream: Upstream, token: str) -> None:
        self._upstream = upstream
        self._token = token
        self._numbers = itertools.count(1)
        self._terms = Terms(masks=(Mask("public.users", "email", "email"),), max_sessions=200)

    async def admit(self, knock: Knock) -> Admission | Refusal:
        if knock.token != self._token:
            return Refusal("wrong-token", "The token is not valid.")
        session = f"S-{next(self._numbers):08}"
        return Admission(
            session,
            "G-BENCH",
            knock.principal,
            knock.resource,
            "readonly",
            self._terms,
            HOUR,
            10.0,
            self._upstream,
        )

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Mapping[str, float]:
        return {item.session: HOUR for item in progress}

    async def hold(self, gate: str, grant: str) -> None: ...

    async def close(self, gate: str, closing: Closing) -> None: ...

    async def notices(self, gate: str) -> AsyncIterator[Notice]:
        yield GrantMinted("G-BENCH", HOUR)
        await asyncio.Event().wait()


async def main(setup_file: str, recordings: str, number: str) -> None:
    from bench.gate import TOKEN

    setup = json.loads(Path(setup_file).read_text())
    folder = Path(recordings)
    folder.mkdir()
    settings = GateSettings(
        name=f"bench-{number}",
        recordings=folder,
        tls=server_context(Path(setup["certificate"]), Path(setup["key"])),
        port=setup["port"],
        reuse_port=True,
        worker=int(number),
    )
    gate = Gate(OneGrant(Upstream(**setup["target"]), TOKEN), settings)
    await gate.start()
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    await gate.stop()


if __name__ == "__main__":
    if len(sys.argv) > 4:
        cProfile.run("uvloop.run(main(*sys.argv[1:4]))", sys.argv[4])
    else:
        uvloop.run(main(*sys.argv[1:]))
