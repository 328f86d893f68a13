"""A real PostgreSQL with TLS and SCRAM, an authority in memory, and gates between them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop

from broker.credentials.seal import Seal
from broker.identity.certificates import ClientCertificates
from proxy import tls
from proxy.authority import (
    Admission,
    Closing,
    GrantEnded,
    GrantMinted,
    HeldStatement,
    Knock,
    LoginLink,
    Notice,
    Progress,
    Renewal,
    ReviewTicket,
    RunPass,
    SessionKilled,
    Upstream,
)
from proxy.gate import Gate, GateSettings
from proxy.recording import Recording, read
from tests.proxy.memory_reviews import MemoryReviews
from workflows import scram
from workflows.model import Action, EndReason, Guardrail, Mask, Quorum, Refusal, StatementClass, Terms

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "a minted secret"
TOKEN = "ada-token-1"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Any]:
    """The gate's own tests run on the loop it runs on in production."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Server:
    """A PostgreSQL of the tests' own."""

    directory: Path
    port: int
    ca: str

    @property
    def admin(self) -> str:
        return f"host={self.directory} port={self.port} user=postgres dbname=shop"

    def upstream(self, **changes: object) -> Upstream:
        it = Upstream("127.0.0.1", self.port, "shop", "minted", PASSWORD, "verify-full", self.ca)
        return replace(it, **changes)  # type: ignore[arg-type]

    def ask(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []


_SAMPLE = """
create role app_read; create role minted login password 'a minted secret' in role app_read;
create table users (id int primary key, name text, email text unique, card text, age int);
insert into users select n, 'name' || n, 'user' || n || '@secret.example', '4111-0000-' || n, 20 + n % 50
  from generate_series(1, 50) n;
create table notes (id serial primary key, body text);
grant select, insert, update, delete on all tables in schema public to app_read;
grant usage on all sequences in schema public to app_read;
grant create, usage on schema public to app_read;
grant create, temporary on database shop to app_read;
"""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    assert _BINARIES, "PostgreSQL's server binaries are missing: install postgresql"
    binaries = _BINARIES[-1]
    root = Path(tempfile.mkdtemp(prefix="gate-pg-"))
    owner = {} if os.getuid() else {"user": "nobody", "group": "nogroup"}
    data = root / "data"
    identity = tls.self_made(root / "tls", ["127.0.0.1", "localhost"], datetime.now(UTC))
    if not os.getuid():
        subprocess.run(["chown", "-R", "nobody:nogroup", root], check=True)

    def run(*command: str | Path) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, **owner)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    run(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    (data / "postgresql.auto.conf").write_text(
        f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{root}'\nssl = on\n"
        f"ssl_cert_file = '{identity.certificate}'\nssl_key_file = '{identity.key}'\nfsync = off\n"
        "max_connections = 200\nshared_buffers = 32MB\n"
    )
    run(binaries / "pg_ctl", "-D", data, "-l", root / "log", "-w", "start")
    try:
        base = f"host={root} port={port} user=postgres dbname=postgres"
        with psycopg.connect(base, autocommit=True) as connection:
            connection.execute("create database shop")
        it = Server(root, port, identity.ca.read_text())
        with psycopg.connect(it.admin, autocommit=True) as connection:
            connection.execute(_SAMPLE)
        yield it
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(root, ignore_errors=True)


verifier_of = functools.cache(scram.verifier)


@dataclass
class FakeGrant:
    principal: str
    resource: str
    role: str
    terms: Terms
    until: float
    upstream: Upstream


class MemoryAuthority:
    """The authority's contract, kept in memory: tokens, grants, sessions, notices."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.tokens = {TOKEN: "ada"}
        self.grants: dict[str, FakeGrant] = {}
        self.sessions: dict[str, str] = {}
        self.closings: list[Closing] = []
        self.held: list[str] = []
        self.ends: tuple[GrantEnded, ...] = ()
        self.knocks: list[Knock] = []
        self.lease = 10.0
        self.away = False
        self.browsers = False
        self.devices: dict[str, str] = {}
        self.certificates = ClientCertificates(Seal([b"s" * 32]))
        self._serial = itertools.count(1)
        self._followers: list[asyncio.Queue[Notice | None]] = []
        self.reviews = MemoryReviews(clock, self._tell, lambda session: self.sessions.get(session, ""))

    def grant(self, upstream: Upstream, seconds: float = 3600, **terms: object) -> str:
        name = f"G-{next(self._serial)}"
        self.grants[name] = FakeGrant(
            "ada",
            "prod-db",
            "readonly",
            Terms(**terms),
            self.clock() + seconds,
            upstream,  # type: ignore[arg-type]
        )
        self._tell(GrantMinted(name, seconds))
        return name

    def end(self, grant: str, reason: EndReason = EndReason.REVOKED, detail: str = "by Grace") -> None:
        del self.grants[grant]
        self._tell(GrantEnded(grant, reason, detail))

    def kill(self, session: str, reason: str = "wrong table") -> None:
        self._tell(SessionKilled(session, "grace", reason))

    def lose(self) -> None:
        """The broker is gone: nothing answers and the notices break off."""
        self.away = True
        for queue in self._followers:
            queue.put_nowait(None)

    def _tell(self, notice: Notice) -> None:
        for queue in self._followers:
            queue.put_nowait(notice)

    def _here(self) -> None:
        if self.away:
            raise ConnectionError("the broker is away")

    # --- Authority

    async def client_ca(self) -> str:
        self._here()
        return self.certificates.ca

    async def admit(self, knock: Knock) -> Admission | Refusal:
        self._here()
        self.knocks.append(knock)
        if knock.device:
            if not (person := self.devices.get(knock.device, "gone")):
                return Refusal("login-pending", "Nobody has confirmed the login yet.", "Open the link.")
            self.tokens["confirmed"] = person
            knock = replace(knock, token="confirmed", device="")
        signature = self._proved(knock)
        if signature is None:
            return Refusal("wrong-token", "The token is not valid.", "Run: access login")
        for name, it in self.grants.items():
            if it.principal == knock.principal and it.resource == knock.resource:  # noqa: SIM102
                if knock.role in ("", it.role) and it.until > self.clock():
                    session = f"S-{next(self._serial)}"
                    self.sessions[session] = name
                    left = it.until - self.clock()
                    return Admission(
                        session,
                        name,
                        it.principal,
                        it.resource,
                        it.role,
                        it.terms,
                        left,
                        self.lease,
                        it.upstream,
                        b"k" * 32,
                        signature,
                    )
        return Refusal("no-grant", "You have no live grant.", f"/access request {knock.resource} 1h")

    async def start_login(self, knock: Knock) -> LoginLink | Refusal:
        """In memory somebody confirms by `confirm`."""
        self._here()
        if not self.browsers:
            return Refusal("no-browser-login", "Nobody can log in by a browser here.", "access token")
        device = f"D-{next(self._serial)}"
        self.devices[device] = ""
        return LoginLink(f"https://access.example/device?code={device}-CODE", f"{device}-CODE", device)

    def confirm(self, code: str, principal: str) -> None:
        self.devices[code.removesuffix("-CODE")] = principal

    def _proved(self, knock: Knock) -> bytes | None:
        """What answers a proof (nothing, a token or a certificate); None where none is right."""
        if knock.certificate:
            bearer = self.certificates.read(knock.certificate, datetime.now(UTC))
            return b"" if bearer is not None and bearer.principal == knock.principal else None
        for token in [token for token, owner in self.tokens.items() if owner == knock.principal]:
            if knock.proof is None and knock.token == token:
                return b""
            if knock.proof is not None:
                signature = scram.signature(verifier_of(token, knock.principal), knock.proof)
                if signature is not None:
                    return signature
        return None

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Renewal:
        self._here()
        alive = {s: self.grants[g].until - self.clock() for s, g in self.sessions.items() if g in self.grants}
        return Renewal({p.session: alive[p.session] for p in progress if p.session in alive}, self.ends)

    async def hold(self, gate: str, grant: str) -> None:
        self._here()
        self.held.append(grant)

    async def close(self, gate: str, closing: Closing) -> None:
        self._here()
        self.closings.append(closing)
        self.sessions.pop(closing.session, None)

    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        self._here()
        return self.reviews.ask(held)

    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal:
        self._here()
        return self.reviews.take_run(review, session, digest)

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        self._here()
        self.reviews.finish(review, outcome)

    async def withdraw_review(self, gate: str, review: str, why: str) -> None:
        self._here()
        self.reviews.withdraw(review, why)

    async def notices(self, gate: str) -> AsyncIterator[Notice]:
        self._here()
        queue: asyncio.Queue[Notice | None] = asyncio.Queue()
        self._followers.append(queue)
        for name, it in self.grants.items():
            yield GrantMinted(name, it.until - self.clock())
        while (notice := await queue.get()) is not None:
            yield notice
        raise ConnectionError("the broker went away")


class Ended:
    """What ended at a gate: its closings as the authority was told of them, and their recordings."""

    gate: Gate
    authority: MemoryAuthority

    async def closed(self, count: int = 1) -> list[Closing]:
        """The sessions' ends, once `count` of them are reported."""
        async with asyncio.timeout(10):
            while len(self.authority.closings) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.authority.closings

    async def recording(self, index: int = 0) -> Recording:
        """The verified recording of the session that ended as number `index`."""
        closing = (await self.closed(index + 1))[index]
        recording = read(self.gate.recorder.path(closing.session), closing.head)
        assert recording.entries == closing.entries
        return recording


@dataclass
class House(Ended):
    """A gate in front of the server, with the authority that commands it."""

    gate: Gate
    authority: MemoryAuthority
    server: Server
    directory: Path
    ca: Path
    background: list[subprocess.Popen[str]] = field(default_factory=list)

    def dsn(self, user: str = "ada", token: str = TOKEN, **more: str) -> str:
        options = {
            "host": "127.0.0.1",
            "port": str(self.gate.port),
            "user": user,
            "password": token,
            "dbname": "prod-db",
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca),
            "connect_timeout": "10",
            **more,
        }
        return psycopg.conninfo.make_conninfo(**options)

    async def connect(self, **more: str) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(self.dsn(**more), autocommit=True)

    async def psql(
        self, *commands: str, dsn: str = "", stdin: str = "", check: bool = True
    ) -> tuple[str, str]:
        """Run psql -At with these -c commands; returns what it wrote on stdout and stderr."""
        arguments = [part for command in commands for part in ("-c", command)]
        return await self.run("psql", "-XAt", dsn or self.dsn(), *arguments, stdin=stdin, check=check)

    async def run(self, *command: str, stdin: str = "", check: bool = True) -> tuple[str, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = await process.communicate(stdin.encode())
        assert not check or process.returncode == 0, err.decode()
        return out.decode(), err.decode()

    async def texts(self, index: int = 0) -> list[str]:
        return [statement.text for statement in (await self.recording(index)).statements]


@pytest.fixture(scope="session")
def gate_identity(tmp_path_factory: pytest.TempPathFactory) -> tls.Identity:
    return tls.self_made(tmp_path_factory.mktemp("gate-tls"), ["127.0.0.1", "localhost"], datetime.now(UTC))


OpenHouse = Callable[..., Awaitable[House]]


@pytest.fixture
async def open_house(server: Server, gate_identity: tls.Identity, tmp_path: Path) -> AsyncIterator[OpenHouse]:
    """Opens gates; each call takes GateSettings to change."""
    gates: list[Gate] = []

    async def build(**changes: object) -> House:
        settings = GateSettings(
            name="gate-1",
            recordings=tmp_path / f"recordings{len(gates)}",
            tls=tls.server_context(gate_identity.certificate, gate_identity.key),
            end_point=tls.end_point(gate_identity.certificate),
            renew_every=0.2,
        )
        settings = replace(settings, **changes)  # type: ignore[arg-type]
        authority = MemoryAuthority(asyncio.get_running_loop().time)
        gate = Gate(authority, settings)
        await gate.start()
        gates.append(gate)
        return House(gate, authority, server, tmp_path, gate_identity.ca)

    yield build
    for gate in gates:
        await gate.stop()


@pytest.fixture
async def house(open_house: OpenHouse, server: Server) -> House:
    """A gate with an hour's grant for Ada on prod-db, without masks."""
    it = await open_house()
    it.authority.grant(server.upstream())
    return it


@pytest.fixture
async def masked(open_house: OpenHouse, server: Server) -> House:
    """The same with users.email and users.card masked."""
    it = await open_house()
    masks = (Mask("public.users", "email", "full"), Mask("public.users", "card", "last4"))
    it.authority.grant(server.upstream(), masks=masks)
    return it


HOLD_WRITES = Guardrail(
    "ask-first",
    Action.HOLD,
    frozenset({StatementClass.WRITE, StatementClass.DESTRUCTIVE}),
    quorum=(Quorum("dba"),),
)


@pytest.fixture
async def holding(open_house: OpenHouse, server: Server) -> House:
    """A gate that holds writing statements for the group dba."""
    it = await open_house()
    it.authority.grant(server.upstream(), guardrails=(HOLD_WRITES,))
    return it
