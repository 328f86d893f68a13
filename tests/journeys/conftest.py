"""The whole house for a story: sandbox, bot, broker and gate in this process, before a real PostgreSQL.

Time is real but can be moved forward, so that an hour's grant can be near its end.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bot.app import create_bot
from bot.sandbox import App, Driver, Message, Sandbox, create_sandbox
from bot.sandbox.serving import serving
from broker.api.app import create_api
from broker.api.parts import GateAddress, Parts
from broker.gates.gates import Gates
from broker.identity.kept import Keep
from broker.identity.tokens import TokenKind
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.keeper import Broker, create_broker
from broker.policy_file.holder import load
from broker.run_worker import RunWorker
from broker.settings import Settings
from cli.recordings import Shelf
from cli.runs import GateClient, GateReader
from cli.sample.workspace import workspace_of
from proxy.gate import Gate, GateSettings
from proxy.tls import end_point, self_made, server_context

ROOT = Path(__file__).parents[2]
APPROVALS = "#dba-approvals"


class MovableClock:
    """The system's clock, and as much ahead of it as a test says."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()


def made_logins(shop: Any) -> set[str]:
    found = shop.query("select rolname from pg_roles where rolname like 'pc\\_%' and rolcanlogin")
    return {str(name) for (name,) in found}


@dataclass
class House:
    """`psql` runs the real psql through the gate; `entry(person)` is that person's password there."""

    sandbox: Sandbox
    broker: Broker
    gate: Gate
    gate_ca: Path
    clock: MovableClock
    shop: Any
    run_psql: Callable[..., subprocess.CompletedProcess[str]]
    others: set[str]

    def be(self, name: str) -> Driver:
        return self.sandbox.as_user(name)

    async def entry(self, person: str) -> str:
        return (await self.broker.tokens.issue(TokenKind.ENTRY, person, via="cli")).token

    async def env(self, person: str = "ada", token: str = "") -> dict[str, str]:
        return {
            "PGHOST": "localhost",
            "PGPORT": str(self.gate.port),
            "PGUSER": person,
            "PGDATABASE": "prod-db",
            "PGPASSWORD": token or await self.entry(person),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.gate_ca),
        }

    async def psql(
        self, sql: str, *options: str, person: str = "ada", token: str = "", timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        env = await self.env(person, token)
        return await asyncio.to_thread(self.run_psql, env, sql, "-At", *options, timeout=timeout)

    def logins(self) -> set[str]:
        """The logins at the target that were made for grants of this house; the cluster serves others."""
        return made_logins(self.shop) - self.others

    @asynccontextmanager
    async def api(self, folder: Path) -> AsyncIterator[str]:
        """The broker's API, served; its address."""
        async with serving(create_api(_parts(self, folder))) as url:
            yield url

    async def granted(self, line: str = "/access request prod-db 1h because INC-142") -> Message:
        """Ada asks, Grace approves; the card once it says that Ada has it."""
        ada, grace = self.be("ada"), self.be("grace")
        assert (await ada.commands(line)).acked
        card = await grace.sees("INC-142", channel=APPROVALS)
        await grace.clicks(card, "approve")
        return await grace.sees_change(card, "has `prod-db`")


def write_policy(path: Path, shop: Any) -> None:
    """The sample's access.yaml, with this test's database as the target."""
    policy = yaml.safe_load((files("cli.sample") / "access.yaml").read_text(encoding="utf-8"))
    target = policy["resources"]["prod-db"]
    target["address"] = f"127.0.0.1:{shop.server.port}"
    target["database"] = shop.name
    target["ca"] = str(shop.server.ca)
    target["admin"]["password"] = f"file:{path.parent / 'admin.secret'}"
    (path.parent / "admin.secret").write_text(shop.admin_password)
    path.write_text(yaml.safe_dump(policy))


@asynccontextmanager
async def open_house(
    folder: Path, shop: Any, run_psql: Callable[..., subprocess.CompletedProcess[str]], *, mode: str
) -> AsyncIterator[House]:
    """A house in `folder`; `mode` is http or sockets. Opened again there, it goes on where it was."""
    policy = folder / "access.yaml"
    if not policy.exists():
        write_policy(policy, shop)
    clock = MovableClock()
    async with AsyncExitStack() as stack:
        manifest = yaml.safe_load((ROOT / "app-manifest.yaml").read_text(encoding="utf-8"))
        workspace = workspace_of(load(policy), App(manifest=manifest), clock.now())
        sandbox = create_sandbox(workspace, state_file=folder / "slack.json")
        await stack.enter_async_context(sandbox)
        settings = Settings(
            policy=policy,
            data_dir=folder / "broker",
            slack_bot_token=workspace.app.bot_token,
            slack_signing_secret=workspace.app.signing_secret if mode == "http" else "",
            slack_app_token=workspace.app.app_token if mode == "sockets" else "",
            slack_api_url=sandbox.api_url,
            public_url="http://127.0.0.1:1",
            sweep_seconds=0.5,
            lease_seconds=5,
        )
        broker = await create_broker(settings, clock=clock)
        stack.push_async_callback(broker.stop)
        identity = self_made(folder / "gate-tls", ["localhost", "127.0.0.1"], datetime.now(UTC))
        gate = Gate(
            broker.authority,
            GateSettings(
                name="gate-1",
                recordings=folder / "recordings",
                tls=server_context(identity.certificate, identity.key),
                end_point=end_point(identity.certificate),
                renew_every=1.0,
            ),
        )
        (folder / "recordings").mkdir(exist_ok=True)
        await gate.start()
        stack.push_async_callback(gate.stop)
        broker.runs.reader = GateReader()
        door = GateClient(GateAddress("localhost", gate.port, identity.ca.read_text()))
        runner = asyncio.create_task(RunWorker(broker.runs, broker.tokens, broker.outbox, door).run())
        stack.callback(runner.cancel)
        bot = create_bot(
            broker.service,
            settings,
            outbox=broker.outbox,
            runs=broker.runs,
            recordings=Shelf(folder / "recordings"),
            sweep_seconds=1.0,
        )
        if mode == "http":
            sandbox.request_url = await stack.enter_async_context(serving(bot.asgi)) + "/slack/events"
        await bot.start()
        stack.push_async_callback(bot.stop)
        while bot.troubles():  # until Socket Mode is connected  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield House(sandbox, broker, gate, identity.ca, clock, shop, run_psql, others=made_logins(shop))


@pytest.fixture(params=["http", "sockets"])
async def house(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    shop: Any,
    run_psql: Callable[..., subprocess.CompletedProcess[str]],
) -> AsyncIterator[House]:
    """Each story runs over signed HTTP and over Socket Mode."""
    async with open_house(tmp_path, shop, run_psql, mode=request.param) as opened:
        yield opened
    drop_logins(opened)


def drop_logins(house: House) -> None:
    """Logins belong to the server, which the next test shares."""
    for login in house.logins():
        house.shop.query(f'DROP OWNED BY "{login}"')
        house.shop.query(f'DROP ROLE "{login}"')


@pytest.fixture
async def urgent_house(
    tmp_path: Path, shop: Any, run_psql: Callable[..., subprocess.CompletedProcess[str]]
) -> AsyncIterator[House]:
    """The same over HTTP, where whoever is on call (Olive) may break the glass."""
    write_policy(tmp_path / "access.yaml", shop)
    policy = yaml.safe_load((tmp_path / "access.yaml").read_text())
    policy["schedules"] = {"primary": {"source": "static", "people": ["olive"]}}
    policy["break_glass"] = [
        {
            "name": "oncall-breaks-prod",
            "resources": ["prod-db"],
            "role": "readonly",
            "on_call": ["primary"],
            "longest": "30m",
            "cool_down": "1s",
            "reviewers": ["dba", "security"],
        }
    ]
    (tmp_path / "access.yaml").write_text(yaml.safe_dump(policy))
    async with open_house(tmp_path, shop, run_psql, mode="http") as opened:
        yield opened
    drop_logins(opened)


@pytest.fixture(scope="session")
def write_sample_policy() -> Callable[[Path, Any], None]:
    return write_policy


@dataclass
class AgentHouse:
    """A house with the agent release-bot of Ada's, and the API; `token` is a file, its workload's token."""

    house: House
    broker_url: str
    token: Path


@pytest.fixture
async def agent_house(
    tmp_path: Path, shop: Any, run_psql: Callable[..., subprocess.CompletedProcess[str]]
) -> AsyncIterator[AgentHouse]:
    """The issuer of the workload's token is a server of its own that publishes its keys."""
    key = RSAKey.generate_key(2048, {"kid": "k1"})
    issuer = ""

    async def published(request: Request) -> JSONResponse:
        if request.url.path == "/jwks":
            return JSONResponse({"keys": [key.as_dict(private=False)]})
        return JSONResponse({"issuer": issuer, "jwks_uri": f"{issuer}/jwks"})

    async with AsyncExitStack() as stack:
        app = Starlette(routes=[Route("/{rest:path}", published)])
        issuer = await stack.enter_async_context(serving(app))
        policy = tmp_path / "access.yaml"
        write_policy(policy, shop)
        _with_agent(policy, issuer)
        house = await stack.enter_async_context(open_house(tmp_path, shop, run_psql, mode="http"))
        url = await stack.enter_async_context(house.api(tmp_path))
        now = int(time.time())
        claims = {"iss": issuer, "aud": "portcullis", "sub": "job:release", "iat": now, "exp": now + 3600}
        token = tmp_path / "workload.jwt"
        token.write_text(jwt.encode({"alg": "RS256", "kid": "k1"}, claims, key))
        yield AgentHouse(house, url, token)
    drop_logins(house)


def _with_agent(policy: Path, issuer: str) -> None:
    """The agent, and a guardrail on the role that it may have."""
    it = yaml.safe_load(policy.read_text())
    it["agents"] = {
        "release-bot": {
            "name": "Release bot",
            "owner": "ada",
            "groups": ["engineers"],
            "issuer": issuer,
            "audience": "portcullis",
            "claims": {"sub": "job:release"},
        }
    }
    rail = {
        "name": "read-only",
        "action": "refuse",
        "classes": ["write", "destructive"],
        "message": "Reading only",
    }
    it["resources"]["prod-db"]["roles"]["readonly"]["guardrails"] = [rail]
    policy.write_text(yaml.safe_dump(it))


def _parts(house: House, folder: Path) -> Parts:
    broker = house.broker
    keep = Keep(broker.store, broker.clock, broker.chance)
    return Parts(
        service=broker.service,
        tokens=broker.tokens,
        keep=keep,
        web=WebSessions(keep),
        clock=broker.clock,
        chance=broker.chance,
        public_url="http://127.0.0.1:1",
        door=broker.authority,
        gate=GateAddress("localhost", house.gate.port, house.gate_ca.read_text()),
        certificates=broker.authority.certificates,
        recordings=Shelf(folder / "recordings"),
        workloads=Workloads(broker.clock),
        gates=Gates(broker.service, broker.seal),
        runs=broker.runs,
    )
