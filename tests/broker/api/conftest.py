"""The HTTP side over a real store and service, reached through ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

import cli.recordings
from broker.api.app import create_api
from broker.api.parts import GateAddress, Parts
from broker.credentials.seal import Seal
from broker.gates.gates import Gates
from broker.identity.certificates import ClientCertificates
from broker.identity.kept import Keep
from broker.identity.tokens import TokenKind, Tokens
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.recordings import RecordedStatement, RecordingView
from broker.service import Service
from broker.store.engine import Store
from tests import tables
from workflows.gate import (
    Admission,
    Closing,
    GrantMinted,
    HeldStatement,
    Knock,
    Notice,
    Progress,
    Renewal,
    ReviewTicket,
    RunPass,
    Upstream,
)
from workflows.model import Refusal, Terms

Caller = Callable[[str], Awaitable[httpx2.AsyncClient]]


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return tables.sqlite(tmp_path / "portcullis.db")


class Shelf(cli.recordings.Shelf):
    """Recordings in a directory, and views that a test puts in their place."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory
        self.held: dict[str, RecordingView | Exception] = {}

    def read(self, session: str, head: str) -> RecordingView:
        found = self.held.get(session)
        if found is None:
            return super().read(session, head)
        if isinstance(found, Exception):
            raise found
        return found


A_RECORDING = RecordingView(
    (RecordedStatement(1, 0.5, "select 1", "ok", 0.001, "SELECT 1", 1),), ("select 1",), True
)


@dataclass
class Door:
    """What the broker says to a gate, for tests of the way there."""

    answer: Admission | Refusal = field(default_factory=lambda: Refusal("no-entry", "No.", "Ask first."))
    notices_to_come: list[Notice] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    lost: bool = False

    async def client_ca(self) -> str:
        return "-----BEGIN CERTIFICATE-----\n"

    async def admit(self, knock: Knock) -> Admission | Refusal:
        self.heard.append(knock)
        if self.lost:
            raise ConnectionError("the database is away")
        return self.answer

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Renewal:
        self.heard.append((gate, progress))
        return Renewal({it.session: 60.0 for it in progress})

    async def hold(self, gate: str, grant: str) -> None:
        self.heard.append((gate, grant))

    async def close(self, gate: str, closing: Closing) -> None:
        self.heard.append((gate, closing))

    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        self.heard.append((gate, held))
        return ReviewTicket("V-1", "dba", "https://access.example/V-1", held.hold_for)

    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal:
        self.heard.append((gate, review, session, digest))
        return RunPass(review, 7) if digest == "the digest" else Refusal("not-what-was-approved", "No.")

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        self.heard.append((gate, review, outcome))

    async def withdraw_review(self, gate: str, review: str, why: str) -> None:
        self.heard.append((gate, review, why))

    async def notices(self, gate: str) -> AsyncIterator[Notice]:
        import asyncio

        for notice in self.notices_to_come:
            yield notice
        await asyncio.Event().wait()


AN_ADMISSION = Admission(
    "S-1",
    "G-1",
    "ada",
    "prod-db",
    "readonly",
    Terms(),
    60.0,
    10.0,
    Upstream("db", 5432, "shop", "u", "pw"),
    b"k" * 32,
)
A_NOTICE = GrantMinted("G-1", 60.0)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "recordings")


@pytest.fixture
def parts(service: Service, store: Store, clock: Any, chance: Any, door: Door, shelf: Shelf) -> Parts:
    keep = Keep(store, clock, chance)

    async def reach() -> None:
        async with store.read():
            pass

    return Parts(
        service=service,
        tokens=Tokens(store, clock, chance),
        keep=keep,
        web=WebSessions(keep),
        clock=clock,
        chance=chance,
        public_url="http://broker.test",
        door=door,
        gate=GateAddress("gate.test", 6543, "-----BEGIN CERTIFICATE-----\n"),
        certificates=ClientCertificates(Seal([b"k" * 32])),
        workloads=Workloads(clock),
        gates=Gates(service, Seal([b"k" * 32])),
        recordings=shelf,
        gate_token="the gate's token",
        ready={"store": reach},
    )


@pytest.fixture
def app(parts: Parts) -> FastAPI:
    return create_api(parts)


@pytest.fixture
async def anyone(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that is not logged in."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://broker.test") as client:
        yield client


@pytest.fixture
async def call(app: FastAPI, parts: Parts) -> AsyncIterator[Caller]:
    """`await call("ada")`: a client with a login token of Ada's."""
    opened: list[httpx2.AsyncClient] = []

    async def of(person: str) -> httpx2.AsyncClient:
        issued = await parts.tokens.issue(TokenKind.LOGIN, person, via="cli")
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx2.AsyncClient(
            transport=transport,
            base_url="http://broker.test",
            headers={"Authorization": f"Bearer {issued.token}"},
        )
        opened.append(client)
        return client

    yield of
    for client in opened:
        await client.aclose()
