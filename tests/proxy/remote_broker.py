"""A broker process of its own for test_remote.py: `python remote_broker.py DATABASE POLICY SEAL-KEY WHERE`.

WHERE is a port of 127.0.0.1 (0: any) or the path of a Unix socket. Prints where it listens, then serves.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from pathlib import Path

import uvicorn

from broker.api.app import create_api
from broker.api.parts import GateAddress, Parts
from broker.authority import LocalAuthority
from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance, SystemClock
from broker.credentials.seal import Seal
from broker.gates.gates import Gates
from broker.identity.kept import Keep
from broker.identity.tokens import Tokens
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.policy_file.holder import ConfigHolder
from broker.service import Service
from broker.store.engine import Store
from cli.recordings import Shelf

GATE_TOKEN = "the-token-of-this-gate"


async def main(database: str, policy: str, seal_key: str, where: str) -> None:
    store, clock, chance = Store(database), SystemClock(), SystemChance()
    service = Service(store, ConfigHolder(Path(policy)), clock, chance, InProcessBus())
    keep = Keep(store, clock, chance)
    authority = LocalAuthority(service, Seal([base64.b64decode(seal_key)]))
    parts = Parts(
        service=service,
        tokens=Tokens(store, clock, chance),
        keep=keep,
        web=WebSessions(keep),
        clock=clock,
        chance=chance,
        public_url="http://127.0.0.1",
        door=authority,
        gate=GateAddress("127.0.0.1", 0, ""),
        certificates=authority.certificates,
        recordings=Shelf(Path(policy).parent / "kept"),
        workloads=Workloads(clock),
        gates=Gates(service, Seal([base64.b64decode(seal_key)])),
        gate_token=GATE_TOKEN,
    )
    server = uvicorn.Server(uvicorn.Config(create_api(parts), log_config=None, lifespan="off"))
    if where.isdigit():
        listener = socket.create_server(("127.0.0.1", int(where)))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where)
    print(listener.getsockname()[1] if where.isdigit() else where, flush=True)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
