"""The API keeps its description, whatever is sent: schemathesis with all its checks, on a live server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings

from broker.api.app import create_api, openapi
from broker.api.parts import GateAddress, Parts
from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance, SystemClock
from broker.config import OidcSettings
from broker.credentials.seal import Seal
from broker.gates.gates import Gates
from broker.identity.bindings import Bindings
from broker.identity.certificates import ClientCertificates
from broker.identity.kept import Keep
from broker.identity.logins import Logins
from broker.identity.people import People
from broker.identity.providers import Providers
from broker.identity.tokens import TokenKind, Tokens
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.service import Service
from broker.store.engine import Store
from tests import tables
from workflows.access import Wish
from workflows.model import Story

# Every check is on; what a case may answer with is said in the description alone.
schemathesis.checks.load_all_checks()


@dataclass
class Live:
    """A served API in a thread, and a way to run coroutines in its loop."""

    url: str
    run: Callable[[Any], Any]
    tokens: Tokens
    request_id: str

    def login(self, person: str) -> str:
        issued = self.run(self.tokens.issue(TokenKind.LOGIN, person, via="cli"))
        return str(issued.token)


class Empty:
    def read(self, session: str, head: str) -> Any:
        raise LookupError(session)

    har = read


async def _parts(directory: Path, config: Any) -> Parts:
    store, clock, chance = Store(tables.sqlite(directory / "portcullis.db")), SystemClock(), SystemChance()
    service = Service(store, lambda: config, clock, chance, InProcessBus())
    keep = Keep(store, clock, chance)
    return Parts(
        service=service,
        tokens=Tokens(store, clock, chance),
        keep=keep,
        web=WebSessions(keep),
        clock=clock,
        chance=chance,
        public_url="http://127.0.0.1",
        door=cast(Any, None),
        gate=GateAddress("127.0.0.1", 6543, "-----BEGIN CERTIFICATE-----\n"),
        certificates=ClientCertificates(Seal([b"k" * 32])),
        recordings=Empty(),
        workloads=Workloads(clock),
        gates=Gates(service, Seal([b"k" * 32])),
        # Never asked here: only the browser's part of a login goes to the provider.
        logins=_logins(store, config, keep, clock, chance),
    )


def _logins(store: Store, config: Any, keep: Keep, clock: Any, chance: Any) -> Logins:
    away = OidcSettings("login", "The provider", issuer="http://127.0.0.1:9", client_id="c")
    people = People(store, lambda: config, clock, away)
    providers = Providers(people, clock, chance, keep, "http://127.0.0.1")
    return Logins(providers, Bindings(store, people, clock), keep, Tokens(store, clock, chance), chance)


@pytest.fixture
def live(tmp_path: Path, config: Any) -> Iterator[Live]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    parts = run(_parts(tmp_path, config))
    story = run(parts.service.submit("ada", Wish("prod-db", reason="INC-142"), via="api"))
    assert isinstance(story, Story)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_api(parts), log_config=None, lifespan="off"))
    serving = asyncio.run_coroutine_threadsafe(server.serve([listener]), loop)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield Live(url, run, parts.tokens, story.request.id)
    server.should_exit = True
    serving.result(30)
    run(parts.service.store.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


schema = schemathesis.openapi.from_dict(openapi())


@schema.parametrize()
@settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_the_api_keeps_its_description(case: Any, live: Live) -> None:
    person = "sam" if "audit" in case.path or "explain" in case.path else "ada"
    if case.path.endswith("/sessions/watch"):
        person = "zoe"  # who sees nothing: for others a watch has no end
    case.call_and_validate(base_url=live.url, headers={"Authorization": f"Bearer {live.login(person)}"})
