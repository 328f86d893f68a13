"""The house put together: broker, bot, HTTP and gates of one process, or those of them that are asked for."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import REGISTRY
from sqlalchemy import text
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.app import EVENTS_PATH, Bot, NotConfigured, create_bot
from broker.api.app import create_api, create_gates_door
from broker.api.parts import GateAddress, Parts
from broker.clock import SystemClock
from broker.gates.gates import Gates
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.keeper import Broker, create_broker
from broker.run_worker import RunWorker
from broker.ssh_entries import SshEntries
from cli.gate_metrics import GateCollector
from cli.gates import (
    GateFiles,
    WorkerOrder,
    Workers,
    gate_ca,
    gate_files,
    reserve,
    ssh_authority,
    ssh_files,
)
from cli.recordings import Shelf
from cli.runs import GateClient, GateReader
from cli.servers import GatesDoor, Server
from cli.settings import ALL_PARTS, ServeSettings
from proxy.authority import Authority
from proxy.gate import Gate, GateSettings
from proxy.identity import GateIdentity, NotJoined
from proxy.remote import RemoteAuthority
from proxy.ssh.door import SshSettings
from proxy.ssh.identity import HostIdentity, known_hosts

log = structlog.get_logger(__name__)


class House:
    """Start it, and it serves until it is stopped: `async with House(settings) as house`.

    `only` names the parts: broker (truth, time, API and pages), bot (Slack), proxy (the gate). With more than
    one of `workers` the gate runs in processes of their own. After the start `public_url`, `gate` (host, port
    and CA) and `broker` say what there is; a house of the proxy alone has no broker and no URL.

    Raises what broker.keeper.create_broker raises; OSError where an address is taken; ValueError or
    bot.app.NotConfigured for settings that do not suffice.
    """

    def __init__(
        self, settings: ServeSettings, *, only: frozenset[str] = ALL_PARTS, workers: int = 1
    ) -> None:
        if unknown := only - ALL_PARTS:
            raise ValueError(f"There is no part {', '.join(sorted(unknown))}; there are: broker, bot, proxy.")
        if not 1 <= workers <= 128:
            raise ValueError("There can be 1 to 128 workers.")
        self.settings = settings
        self.only = only
        self.public_url = ""
        self.gate: GateAddress | None = None
        self.broker: Broker | None = None
        self.bot: Bot | None = None
        self.workers: Workers | None = None
        self._count = workers
        self._ssh: HostIdentity | None = None
        self._identity: GateIdentity | None = None
        self._token = secrets.token_urlsafe(32)  # between this broker and its own gate processes
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> House:
        await self.start()
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the parts in their order. Where one fails, what was started is stopped again."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop in reverse: gates first, so that sessions are cut and reported while the broker hears."""
        await self._stack.aclose()

    async def _start(self) -> None:
        now, gates = SystemClock().now(), "proxy" in self.only
        files = gate_files(self.settings, now) if gates else None
        held, port = self._port(self.settings.gate_port)
        ssh_port, known = 0, ""
        if self.settings.gate_ssh_port is not None:
            self._ssh = ssh_files(self.settings, now) if gates else None
            authority = self._ssh.authority if self._ssh else ssh_authority(self.settings, now)
            _, ssh_port = self._port(self.settings.gate_ssh_port)
            known = known_hosts(authority, self.settings.gate_names, ssh_port)
        http_port = 0
        if self.settings.gate_http_port is not None:
            _, http_port = self._port(self.settings.gate_http_port)
        it, ca = self.settings, files.ca.read_text() if files else gate_ca(self.settings, now)
        self.gate = GateAddress(
            it.gate_reached_at,
            port,
            ca,
            it.gate_login,
            it.gate_certificates,
            ssh_port,
            known,
            http_port,
            it.gate_http_domain if it.gate_http_port is not None else "",
        )
        run = Path(tempfile.mkdtemp(prefix="portcullis-"))  # short: a Unix socket's path has 107 bytes
        self._stack.callback(shutil.rmtree, run, ignore_errors=True)
        if self.only & {"broker", "bot"}:
            await self._start_broker(run / "broker.sock")
        if files is not None:
            if self.broker is None:
                self._identity = await self._join()
                self.settings = it.model_copy(update={"gate_name": self._identity.kept.gate})
            await self._start_gates(files, held, run)
        if self.broker is not None:
            await self._start_runs(self.broker, self.gate)

    def _port(self, port: int) -> tuple[socket.socket | None, int]:
        """Where a gate of this house listens, held for it; of a gate elsewhere, what is said of it."""
        if "proxy" not in self.only:
            return None, port
        held = reserve(self.settings.gate_host, port)
        self._stack.callback(held.close)
        return held, held.getsockname()[1]

    # ----------------------------------------------------- broker and bot

    async def _start_broker(self, door: Path) -> None:
        listener = _listen(self.settings.http_host, self.settings.http_port)
        self._stack.callback(listener.close)
        self.public_url = self.settings.public_url.rstrip("/") or _address(listener)
        self.settings = self.settings.model_copy(update={"public_url": self.public_url})
        self.broker = await create_broker(self.settings)
        self.broker.runs.reader = GateReader()
        self._stack.push_async_callback(self.broker.stop)
        await self._start_bot()
        parts = await self._parts(self.broker)
        app: ASGIApp = create_api(parts)
        listeners = [listener]
        if self._count > 1:
            inside = socket.socket(socket.AF_UNIX)
            inside.bind(str(door))
            listeners.append(inside)
        server = Server(_front(app, self.bot), listeners)
        await server.start()
        self._stack.push_async_callback(server.stop)
        await self._start_gates_door(parts)

    async def _start_gates_door(self, parts: Parts) -> None:
        if self.settings.gates_port is None:
            return
        listener = _listen(self.settings.gates_host, self.settings.gates_port)
        self._stack.callback(listener.close)
        door = GatesDoor(create_gates_door(parts), listener, parts.gates, parts.clock)
        await door.start()
        self._stack.push_async_callback(door.stop)

    async def _start_runs(self, broker: Broker, gate: GateAddress) -> None:
        """Submitted statements go through the gate as everybody's do."""
        worker = RunWorker(broker.runs, broker.tokens, broker.outbox, GateClient(gate))
        task = asyncio.create_task(worker.run(), name="runs")

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(stop)

    async def _start_bot(self) -> None:
        assert self.broker is not None
        if "bot" not in self.only:
            return
        try:
            self.bot = create_bot(
                self.broker.service,
                self.settings,
                outbox=self.broker.outbox,
                runs=self.broker.runs,
                recordings=Shelf(self.settings.recordings),
            )
        except NotConfigured as error:
            if self.only != ALL_PARTS:
                raise
            log.warning("no chat", why=str(error))
            return
        await self.bot.start()
        self._stack.push_async_callback(self.bot.stop)

    async def _parts(self, broker: Broker) -> Parts:
        assert self.gate is not None
        broker.authority.browsers = bool(broker.logins.providers.every())
        if not broker.authority.browsers:
            why = "neither access.yaml nor PORTCULLIS_OIDC_ISSUER names one: nobody can log in"
            log.warning("no identity provider", why=why)
        return Parts(
            service=broker.service,
            tokens=broker.tokens,
            keep=broker.keep,
            web=WebSessions(broker.keep),
            clock=broker.clock,
            chance=broker.chance,
            public_url=self.public_url,
            door=broker.authority,
            gate=self.gate,
            certificates=broker.authority.certificates,
            recordings=Shelf(self.settings.recordings),
            workloads=self._workloads(broker),
            gates=Gates(broker.service, broker.seal),
            runs=broker.runs,
            ssh=SshEntries(broker.service, broker.authority.ssh),
            identity_keys=broker.authority.identities.key_set,
            logins=broker.logins,
            gates_door=self.settings.gates_reached_at,
            gate_token=self._token,
            ready={"database": self._database, "chat": self._chat, "gate": self._gates},
        )

    def _workloads(self, broker: Broker) -> Workloads:
        workloads = Workloads(broker.clock)
        self._stack.push_async_callback(workloads.aclose)
        return workloads

    async def _database(self) -> None:
        assert self.broker is not None
        async with self.broker.store.read() as tx:
            await tx.execute(text("select 1"))

    async def _chat(self) -> None:
        if self.bot is not None and (troubles := self.bot.troubles()):
            raise RuntimeError("; ".join(troubles))

    async def _gates(self) -> None:
        if self.workers is not None and (troubles := self.workers.troubles()):
            raise RuntimeError("; ".join(troubles))

    # --------------------------------------------------------------- gates

    async def _start_gates(self, files: GateFiles, held: socket.socket | None, run: Path) -> None:
        assert self.gate is not None
        if self._count > 1:
            self.workers = Workers([self._order(files, worker, run) for worker in range(self._count)])
            await self.workers.start()
            self._stack.push_async_callback(self.workers.stop)
            return
        order = self._order(files, 0, run)
        settings = GateSettings(
            name=self.settings.gate_name,
            recordings=self.settings.recordings,
            tls=files.context(),
            end_point=files.end_point(),
            login=self.settings.gate_login,
            certificates=self.settings.gate_certificates,
            host=self.settings.gate_host,
            port=self.gate.port,
            reuse_port=True,  # the port is held by a socket of ours that never listens
            ssh=self._ssh_settings(),
            http=order.http,
        )
        authority = await self._authority()
        ship = partial(authority.ship, settings.name) if isinstance(authority, RemoteAuthority) else None
        gate = Gate(authority, settings, ship=ship)
        await gate.start()
        self._stack.push_async_callback(gate.stop)
        collector = GateCollector(gate)
        REGISTRY.register(collector)
        self._stack.callback(REGISTRY.unregister, collector)

    def _ssh_settings(self) -> SshSettings | None:
        if self._ssh is None or self.gate is None:
            return None
        it = self._ssh
        return SshSettings(self.settings.gate_host, self.gate.ssh_port, it.key, it.certificate)

    async def _authority(self) -> Authority:
        if self.broker is not None:
            return self.broker.authority
        assert self._identity is not None
        return await self._stack.enter_async_context(RemoteAuthority(identity=self._identity))

    async def _join(self) -> GateIdentity:
        """Who this gate is to a broker elsewhere: as it was, renewed, or newly joined. Raises ValueError."""
        it = self.settings
        identity = GateIdentity(it.data_dir / "gate")
        try:
            trouble = await identity.begin(it.broker_url, it.gate_join.get_secret_value())
        except NotJoined as error:
            raise ValueError(str(error)) from None
        if trouble:
            log.warning("the gate's certificate was not renewed", why=trouble)
        keeping = asyncio.create_task(identity.keep(log.error), name="gate identity")
        self._stack.callback(keeping.cancel)
        return identity

    def _order(self, files: GateFiles, worker: int, run: Path) -> WorkerOrder:
        assert self.gate is not None
        it = self.settings
        return WorkerOrder(
            name=it.gate_name,
            worker=worker,
            host=it.gate_host,
            port=self.gate.port,
            certificate=str(files.certificate),
            key=str(files.key),
            recordings=str(it.recordings),
            token=self._token if self._identity is None else "",
            broker_socket=str(run / "broker.sock") if self._identity is None else "",
            identity=str(self._identity.folder) if self._identity is not None else "",
            hub=str(run),
            log_level=it.log_level,
            login=it.gate_login,
            certificates=it.gate_certificates,
            ssh_port=self.gate.ssh_port,
            ssh_key=str(self._ssh.key) if self._ssh else "",
            ssh_certificate=str(self._ssh.certificate) if self._ssh else "",
            http_port=self.gate.http_port,
            http_domain=self.gate.http_domain,
            http_names=it.gate_names,
            http_login=self.public_url or it.public_url.rstrip("/"),
        )


def _front(api: ASGIApp, bot: Bot | None) -> ASGIApp:
    """Slack's deliveries go to the bot, everything else to the API."""
    if bot is None:
        return api

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        chosen = bot.asgi if scope.get("path") == EVENTS_PATH else api
        await chosen(scope, receive, send)

    return front


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
