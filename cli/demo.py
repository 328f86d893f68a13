"""`access demo`: everything on this machine, kept in one folder.

A real PostgreSQL as the target, a real OpenID Connect provider, a server of Slack's protocol with its page
(or the real Slack, where its tokens are set), and broker, bot and gate in this process on SQLite.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
import yaml
from rich.console import Console

from bot.app import EVENTS_PATH
from bot.sandbox import App, Sandbox, create_sandbox
from broker import logs
from broker.clock import SystemClock
from broker.config import Config, ConfigError
from broker.credentials.seal import from_settings
from broker.credentials.ssh import SshAuthorities
from broker.identity.tokens import LIFETIMES, TokenKind
from broker.policy_file.holder import load
from cli.dev_idp import start_dev_idp
from cli.embedded_postgres import EmbeddedPostgres, Server, find_client, next_free
from cli.embedded_sshd import EmbeddedSshd, SshdError, find_sshd
from cli.house import House
from cli.sample.folder import DemoError, DemoFolder
from cli.sample.shop import create_shop
from cli.sample.words import Told, tell
from cli.sample.workspace import workspace_of
from cli.settings import ServeSettings
from cli.trouble import Trouble
from cli.unprivileged import PostgresError

MANIFEST = Path(__file__).parents[1] / "app-manifest.yaml"
ADMIN_SECRET = "prod-db-admin"  # noqa: S105 - the name of a file
ASKER, RESOURCE = "ada", "prod-db"
PGCLI = "uvx --with 'psycopg[binary]' pgcli"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to serve. A port that is taken is passed over for the next free one."""

    slack: int
    http: int
    gate: int
    idp: int
    ssh: int


def demo(
    data: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("var"),
    slack_port: Annotated[int, typer.Option(help="The Slack page.")] = 8090,
    http_port: Annotated[int, typer.Option(help="The broker's pages and API.")] = 8080,
    gate_port: Annotated[int, typer.Option(help="The gate, for psql.")] = 6543,
    idp_port: Annotated[int, typer.Option(help="The development identity provider.")] = 8091,
    ssh_port: Annotated[int, typer.Option(help="The gate, for ssh.")] = 2222,
) -> None:
    """Run everything on this machine: a sample database behind the gate, and a Slack look-alike."""
    began = time.monotonic()
    try:
        ports = Ports(slack_port, http_port, gate_port, idp_port, ssh_port)
        uvloop.run(_run(DemoFolder(data), ports, began))
    except (DemoError, PostgresError, SshdError, ConfigError, OSError) as error:
        raise Trouble("The demo cannot start.", str(error)) from None


async def _run(folder: DemoFolder, ports: Ports, began: float) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    console = Console(highlight=False)
    folder.lock()
    async with AsyncExitStack() as stack:
        house = await _start(stack, folder, ports)
        if not stop.is_set():
            tell(console, house.config, await _told(folder, house), time.monotonic() - began)
            await stop.wait()
        console.print("\nStopping…")
    console.print("Stopped. ./run goes on from here.")


@dataclass(frozen=True, slots=True)
class _Running:
    config: Config
    target: Server
    house: House
    slack: str
    """The page's address; empty for the real Slack."""
    host: EmbeddedSshd | None


async def _start(stack: AsyncExitStack, folder: DemoFolder, ports: Ports) -> _Running:
    logs.configure("INFO", stack.enter_context(folder.log.open("a", encoding="utf-8")))
    target = await _target(stack, folder)
    host = _host(stack, folder)
    config = load(folder.policy)
    sandbox = None if _real_slack() else await _sandbox(stack, folder, config, ports.slack)
    idp = start_dev_idp(
        config.directory.everyone().values(),
        port=next_free(ports.idp),
        client_secret=folder.secret("identity-provider"),
    )
    stack.push_async_callback(asyncio.to_thread, idp.stop)
    chosen: dict[str, Any] = {
        "policy": folder.policy,
        "data_dir": folder.broker,
        "http_port": next_free(ports.http),
        "gate_port": next_free(ports.gate),
        "gate_ssh_port": next_free(ports.ssh),
        "gate_name": "demo",
        "oidc_issuer": idp.issuer,
        "oidc_client_id": idp.client_id,
        "oidc_client_secret": idp.client_secret,
    }
    if sandbox is not None:
        app = sandbox.workspace.app
        chosen["slack_bot_token"], chosen["slack_signing_secret"] = app.bot_token, app.signing_secret
        chosen["slack_app_token"], chosen["slack_api_url"] = "", sandbox.api_url
    house = await stack.enter_async_context(House(ServeSettings(**chosen)))
    if sandbox is not None:
        sandbox.request_url = f"{house.public_url}{EVENTS_PATH}"
    return _Running(config, target, house, sandbox.base_url if sandbox else "", host)


async def _target(stack: AsyncExitStack, folder: DemoFolder) -> Server:
    """PostgreSQL with the shop in it, at the port that access.yaml names where that is free."""
    postgres = EmbeddedPostgres(folder.postgres)
    stack.push_async_callback(asyncio.to_thread, postgres.stop)
    # In this thread and no other: Linux tells a child of the death of the thread that made it.
    server = postgres.start(folder.remembered_port())
    folder.write_policy(server.port, tls=server.tls)
    await create_shop(server, folder.secret(ADMIN_SECRET))
    return server


def _host(stack: AsyncExitStack, folder: DemoFolder) -> EmbeddedSshd | None:
    """The host web-1, where there is an sshd: it trusts the broker's own authority, and nobody else."""
    if find_sshd() is None:
        return None
    folder.broker.mkdir(mode=0o700, parents=True, exist_ok=True)
    authorities = SshAuthorities(from_settings("", folder.broker))
    sshd = EmbeddedSshd(folder.path / "web-1", trusted=authorities.for_hosts)
    sshd.start(folder.remembered_host())
    stack.callback(sshd.stop)
    folder.write_host(sshd.port, sshd.host_key, sshd.user)
    return sshd


def _real_slack() -> bool:
    return bool(os.environ.get("SLACK_BOT_TOKEN"))


async def _sandbox(stack: AsyncExitStack, folder: DemoFolder, config: Config, port: int) -> Sandbox:
    """The look-alike, with the app as app-manifest.yaml describes it."""
    app = App(
        bot_token=f"xoxb-{folder.secret('slack-bot')}",
        app_token=f"xapp-{folder.secret('slack-app')}",
        signing_secret=folder.secret("slack-signing"),
        manifest=yaml.safe_load(MANIFEST.read_text(encoding="utf-8")),
    )
    sandbox = create_sandbox(
        workspace_of(config, app, SystemClock().now()), state_file=folder.slack_state, rate_limits=True
    )
    await sandbox.start(port=next_free(port))
    stack.push_async_callback(sandbox.stop)
    return sandbox


async def _told(folder: DemoFolder, running: _Running) -> Told:
    """What to print, with a password at the gate for Ada; and the file by which ./access finds this house."""
    house, target = running.house, running.target
    assert house.broker is not None
    assert house.gate is not None
    folder.write_environment(house.public_url)
    issued = await house.broker.tokens.issue(TokenKind.ENTRY, ASKER, via="cli", label="printed by the demo")
    ca = _short(house.settings.data_dir / "gate" / "ca.pem")
    way = (
        f"host=localhost port={house.gate.port} dbname={RESOURCE} user={ASKER} "
        f"sslmode=verify-full sslrootcert={ca}"
    )
    notes, client = [], "psql"
    if running.host is None:
        notes.append("sshd is not installed, so there is no host web-1 (Debian: openssh-server).")
    if not target.tls:
        notes.append(
            "The target's PostgreSQL is from a Python package without TLS: the gate reaches\n"
            "it in plain text, on this machine only. Install PostgreSQL to have it with TLS."
        )
    if find_client("psql") is None:
        client = PGCLI
        notes.append("psql is not installed, so the line below takes pgcli, which uv fetches.")
    return Told(
        slack=running.slack,
        broker=house.public_url,
        psql=f'{client} "{way}"' if shlex.quote(ca) == ca else f"{client} {shlex.quote(way)}",
        token=issued.token,
        token_minutes=round(LIFETIMES[TokenKind.ENTRY].total_seconds() / 60),
        policy=_short(folder.policy),
        target=f"PostgreSQL {folder.postgres_version()} at {target.host}:{target.port}",
        host=f"sshd at 127.0.0.1:{running.host.port}" if running.host else "",
        notes=notes,
    )


def _short(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
