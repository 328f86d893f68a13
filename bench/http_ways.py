"""The ways to a service: nginx as a reverse proxy, the gate, and proxies in Python; TLS in front."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2

from bench.gate import Counter, family
from bench.peers import process
from broker.clock import SystemChance, SystemClock
from broker.identity.tokens import TokenKind, Tokens
from broker.store.engine import Store
from cli.embedded_postgres import free_port
from proxy.tls import Identity, self_made

SMALL, LARGE = "small.json", "large.bin"
HOST = "bench.gate.localhost"
_NGINX = """
daemon off; master_process off; worker_processes 1; error_log %(home)s/error.log; pid %(home)s/pid;
events { worker_connections 12000; }
http {
    access_log %(home)s/access.log combined buffer=64k; keepalive_requests 1000000; sendfile on;
    client_body_temp_path %(home)s/body; proxy_temp_path %(home)s/proxy; fastcgi_temp_path %(home)s/f;
    uwsgi_temp_path %(home)s/u; scgi_temp_path %(home)s/s; keepalive_timeout 600;
    types { application/json json; }
    %(servers)s
}
"""
_FILES = "server { listen 127.0.0.1:%(port)s; root %(root)s; }"
_PROXY = """
    upstream target { server 127.0.0.1:%(target)s; keepalive 64; keepalive_requests 1000000; }
    server {
        listen 127.0.0.1:%(port)s ssl; ssl_certificate %(certificate)s; ssl_certificate_key %(key)s;
        location / {
            proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr; proxy_max_temp_file_size 0;
            proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k;
        }
    }
"""
_POLICY = """
people:
  ada: {name: Ada Lovelace, email: ada@example.com, groups: [engineers]}
groups:
  engineers: {title: Engineers}
resources:
  bench:
    kind: http
    address: 127.0.0.1:%(port)s
    tls: disable
    credential: {header: X-Api-Key, value: "file:key.secret"}
    record: heads
    roles:
      reader:
        max_sessions: 10000
        guardrails:
          - {name: no-admin, action: refuse, paths: ["/admin/**"]}
          - {name: no-delete, action: refuse, classes: [destructive]}
          - {name: no-force, action: refuse, query: {force: "true"}}
rules:
  - {name: bench, who: [engineers], resources: [bench], roles: [reader], longest: 12h, usual: 12h,
     approval: none, reason: optional}
"""


@dataclass(frozen=True)
class Way:
    """A way to the service. `headers` go with every request; `recorded` counts what the gate has recorded."""

    name: str
    address: str
    headers: tuple[str, ...] = ()
    pids: Callable[[], list[int]] = list
    recorded: Callable[[], int] | None = None


@dataclass
class Files:
    """The service's port, the files that it serves (the large one is of so many bytes), and the proxies'
    certificate.
    """

    port: int
    large: int
    identity: Identity
    home: Path
    extra: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def service(home: Path, large: int) -> Iterator[Files]:
    """nginx with a small file and a large one, without TLS."""
    root = home / "files"
    root.mkdir(parents=True)
    (root / SMALL).write_text('{"dashboards": [' + ", ".join(f'{{"id": {n}}}' for n in range(80)) + "]}")
    with (root / LARGE).open("wb") as file:
        file.truncate(large)
    home.chmod(0o755)
    port = free_port()
    identity = self_made(home / "tls", ["127.0.0.1", "*.gate.localhost"], datetime.now(UTC))
    with _nginx(home / "service", port, _FILES % {"port": port, "root": root}):
        yield Files(port, large, identity, home)


def direct(files: Files) -> Way:
    return Way("direct, no TLS", f"http://127.0.0.1:{files.port}")


@contextlib.contextmanager
def nginx(files: Files) -> Iterator[Way]:
    """As a careful operator sets it up: one worker, connections to the target kept, an access log."""
    port = free_port()
    place = {
        "port": port,
        "target": files.port,
        "certificate": files.identity.certificate,
        "key": files.identity.key,
    }
    with _nginx(files.home / "nginx", port, _PROXY % place) as pid:
        yield Way("nginx", f"https://127.0.0.1:{port}", pids=lambda: [pid])


@contextlib.contextmanager
def _nginx(home: Path, port: int, servers: str) -> Iterator[int]:
    home.mkdir(parents=True)
    program = shutil.which("nginx")
    if program is None:
        raise SystemExit("nginx is missing: install it (Debian: apt install nginx-light wrk).")
    (home / "conf").write_text(_NGINX % {"home": home, "servers": servers})
    with process([program, "-c", str(home / "conf"), "-p", str(home)], home / "out", port) as pid:
        yield pid


@contextlib.contextmanager
def gate(files: Files, workers: int) -> Iterator[Way]:
    """Broker and gate, with a policy, guardrails, a credential and recordings with the fields of heads."""
    home = files.home / f"gate-{workers}"
    home.mkdir(parents=True)
    (home / "key.secret").write_text("a-key-of-the-service")
    (home / "access.yaml").write_text(_POLICY % {"port": files.port})
    http, port, gate_port = free_port(), free_port(), free_port()
    env = {
        "PORTCULLIS_POLICY": str(home / "access.yaml"),
        "PORTCULLIS_DATA_DIR": str(home / "data"),
        "PORTCULLIS_HTTP_PORT": str(http),
        "PORTCULLIS_GATE_PORT": str(gate_port),
        "PORTCULLIS_GATE_HTTP_PORT": str(port),
        "PORTCULLIS_GATE_NAME": "bench",
        "PORTCULLIS_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "cli.main", "serve", "--workers", str(workers)]
    with process(command, home / "log", port, env) as pid:
        token = asyncio.run(_granted(home, http))
        name = f"gate, {workers} worker{'s' if workers > 1 else ''}"
        headers = (f"Host: {HOST}", f"Authorization: Bearer {token}")
        way = Way(
            name, f"https://127.0.0.1:{port}", headers, lambda: family(pid), Counter(home, is_request).count
        )
        _wait_for_entry(way)
        yield way


async def _granted(home: Path, http: int) -> str:
    """A token of Ada's that outlasts the bench, and the grant that it is for."""
    store = Store(f"sqlite:///{home / 'data' / 'portcullis.db'}")
    try:
        tokens = Tokens(store, SystemClock(), SystemChance())
        login = (await tokens.issue(TokenKind.LOGIN, "ada", via="cli")).token
        entry = await tokens.issue(TokenKind.ENTRY, "ada", via="cli", lifetime=timedelta(hours=12))
    finally:
        await store.close()
    headers = {"Authorization": f"Bearer {login}"}
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{http}/api/v1", headers=headers, timeout=30
    ) as api:
        (await api.post("/requests", json={"resource": "bench"})).raise_for_status()
    return entry.token


def _wait_for_entry(way: Way) -> None:
    deadline = time.monotonic() + 30
    headers = dict(line.split(": ", 1) for line in way.headers)
    while True:
        answer = httpx2.get(f"{way.address}/{SMALL}", headers=headers, verify=False)
        if answer.status_code == 200:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"The gate lets nobody in: {answer.text}")
        time.sleep(0.2)


def is_request(line: bytes) -> bool:
    """Whether a line of a recording is a request."""
    return b'{"kind":"statement"' in line


@contextlib.contextmanager
def aiohttp_proxy(files: Files) -> Iterator[Way]:
    """A plain reverse proxy of aiohttp on uvloop: no rules, no recording."""
    port = free_port()
    arguments = [str(port), str(files.port), str(files.identity.certificate), str(files.identity.key)]
    command = [sys.executable, "-m", "bench.aiohttp_proxy", *arguments]
    with process(command, files.home / "aiohttp.log", port) as pid:
        yield Way("aiohttp proxy", f"https://127.0.0.1:{port}", pids=lambda: [pid])


@contextlib.contextmanager
def mitmproxy(files: Files) -> Iterator[Way]:
    """mitmdump as a reverse proxy, from an environment of its own (uv tool run)."""
    port = free_port()
    chain = files.home / "mitm.pem"
    chain.write_bytes(files.identity.key.read_bytes() + files.identity.certificate.read_bytes())
    command = [
        "uv", "tool", "run", "--from", "mitmproxy", "mitmdump", "-q", "--mode",
        f"reverse:http://127.0.0.1:{files.port}",
        "--listen-host", "127.0.0.1", "-p", str(port),
        "--certs", f"*={chain}", "--set", "stream_large_bodies=1m",
        "--set", f"confdir={files.home / 'mitm'}",
    ]  # fmt: skip
    with process(command, files.home / "mitm.log", port) as pid:
        yield Way("mitmproxy", f"https://127.0.0.1:{port}", pids=lambda: family(pid))
