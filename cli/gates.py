"""The gates that a process keeps: one inside it, or several worker processes behind one port.

Workers share the port by SO_REUSEPORT: the kernel spreads connections over them. Each reaches the broker
through a Unix socket (or, elsewhere, as the gate that it is), and is started again when it dies. A cancel
request can arrive at another worker than its session's; it is handed over through a Unix datagram socket of
that worker's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import structlog

from cli.settings import ServeSettings
from proxy import tls
from proxy.http.door import HttpSettings, http_context
from proxy.ssh import identity
from proxy.ssh.door import SshSettings
from proxy.ssh.identity import HostIdentity

log = structlog.get_logger(__name__)

RESTART_AFTER = 0.5
"""Seconds before a worker that died is started again; doubled at each death in a row, up to 30."""
STEADY_AFTER = 30.0
"""Seconds after which a worker's next death is no longer in a row with the former."""
STOP_WITHIN = 10.0
"""Seconds a worker has to cut its sessions and close their recordings."""


@dataclass(frozen=True, slots=True)
class GateFiles:
    """The gate's certificate chain and key, and the CA for clients."""

    certificate: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        return tls.server_context(self.certificate, self.key)

    def end_point(self) -> bytes:
        return tls.end_point(self.certificate)


def gate_ca(settings: ServeSettings, now: datetime) -> str:
    """The CA (PEM) by which a gate elsewhere is known: `gate_ca`, or that of our own. Raises OSError,
    ValueError.
    """
    if settings.gate_ca and not (settings.gate_certificate or settings.gate_key):
        return settings.gate_ca.read_text()
    return gate_files(settings, now).ca.read_text()


def ssh_authority(settings: ServeSettings, now: datetime) -> str:
    """The same for SSH: the line of the authority. Raises OSError, ValueError."""
    if settings.gate_ssh_ca and not (settings.gate_ssh_key or settings.gate_ssh_certificate):
        return _first_two(settings.gate_ssh_ca)
    return ssh_files(settings, now).authority


def _first_two(public: Path) -> str:
    """Type and key of an OpenSSH public key, without its comment."""
    return " ".join(public.read_text().split()[:2])


def gate_files(settings: ServeSettings, now: datetime) -> GateFiles:
    """The configured files, or those of a CA of our own, made where missing. Raises OSError, ValueError."""
    given = (settings.gate_certificate, settings.gate_key, settings.gate_ca)
    certificate, key, ca = given
    if certificate and key and ca:
        return GateFiles(certificate, key, ca)
    if any(given):
        raise ValueError(
            "Set all of PORTCULLIS_GATE_CERTIFICATE, PORTCULLIS_GATE_KEY and PORTCULLIS_GATE_CA."
        )

    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # a mode is for the last part only
    made = tls.self_made(settings.data_dir / "gate", settings.gate_tls_names, now)
    return GateFiles(made.certificate, made.key, made.ca)


def ssh_files(settings: ServeSettings, now: datetime) -> HostIdentity:
    """The same for SSH: host key, certificate, and the authority's line. Raises OSError, ValueError."""
    key, certificate, ca = settings.gate_ssh_key, settings.gate_ssh_certificate, settings.gate_ssh_ca
    if key and certificate and ca:
        return HostIdentity(key, certificate, _first_two(ca))
    if key or certificate or ca:
        raise ValueError(
            "Set all of PORTCULLIS_GATE_SSH_KEY, PORTCULLIS_GATE_SSH_CERTIFICATE and PORTCULLIS_GATE_SSH_CA."
        )
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return identity.self_made(settings.data_dir / "gate", settings.gate_names, now)


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker process is told on its standard input, in one line of JSON. No secret is in argv or env.

    The broker is behind `broker_socket` (a Unix socket, with `token`), or is elsewhere and knows the gate by
    the identity in the folder `identity`; `hub` is the directory of the workers' datagram sockets for cancel
    requests. Without an `ssh_key` it does not listen for SSH, without an
    `http_domain` not for HTTP.
    """

    name: str
    worker: int
    host: str
    port: int
    certificate: str
    key: str
    recordings: str
    token: str
    broker_socket: str
    identity: str
    hub: str
    log_level: str
    login: Literal["scram", "password"]
    certificates: bool
    ssh_port: int = 0
    ssh_key: str = ""
    ssh_certificate: str = ""
    http_port: int = 0
    http_domain: str = ""
    http_names: tuple[str, ...] = ()
    http_login: str = ""

    @property
    def http(self) -> HttpSettings | None:
        if not self.http_domain:
            return None
        context = http_context(Path(self.certificate), Path(self.key))
        return HttpSettings(
            self.host, self.http_port, self.http_domain, context, tuple(self.http_names), self.http_login
        )

    @property
    def ssh(self) -> SshSettings | None:
        if not self.ssh_key:
            return None
        return SshSettings(self.host, self.ssh_port, Path(self.ssh_key), Path(self.ssh_certificate))


class Workers:
    """Worker processes `orders`, kept alive from `start` to `stop`."""

    def __init__(self, orders: list[WorkerOrder]) -> None:
        self._orders = orders
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._first: list[asyncio.Event] = [asyncio.Event() for _ in orders]
        self._stopping = False

    async def start(self) -> None:
        """Returns when every worker listens. Raises TimeoutError where one does not within 30 s."""
        self._keepers = [asyncio.create_task(self._keep(order)) for order in self._orders]
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*(event.wait() for event in self._first))
        except TimeoutError:
            await self.stop()
            raise TimeoutError("The gate's worker processes did not start; the log says why.") from None

    async def stop(self) -> None:
        """End all workers and wait for them."""
        self._stopping = True
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()  # the order to stop; it comes by itself if we die
        for process in list(self._processes.values()):
            try:
                async with asyncio.timeout(STOP_WITHIN):
                    await process.wait()
            except TimeoutError:
                log.error("a gate worker did not stop in time", pid=process.pid)
                with suppress(ProcessLookupError):
                    process.kill()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    @property
    def pids(self) -> dict[int, int]:
        """The process of each worker that is up."""
        return {worker: it.pid for worker, it in self._processes.items() if it.returncode is None}

    def troubles(self) -> list[str]:
        """Workers that are down at this moment, for /readyz."""
        return [f"gate worker {o.worker} is down" for o in self._orders if o.worker not in self.pids]

    async def _keep(self, order: WorkerOrder) -> None:
        loop, pause = asyncio.get_running_loop(), RESTART_AFTER
        while not self._stopping:
            began = loop.time()
            process = await self._run(order)
            code = await process.wait()
            if self._stopping:
                return
            log.error("a gate worker died and is started again", worker=order.worker, code=code)
            pause = RESTART_AFTER if loop.time() - began > STEADY_AFTER else min(pause * 2, 30.0)
            await asyncio.sleep(pause)

    async def _run(self, order: WorkerOrder) -> asyncio.subprocess.Process:
        """Start one worker; returns when it listens or has ended."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.gate_worker", stdin=pipe, stdout=pipe
        )
        self._processes[order.worker] = process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            await process.stdin.drain()
        if await process.stdout.readline():
            self._first[order.worker].set()
        return process


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port for workers to share: bound, never listening, so that no connection comes here."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held
