"""Promise 2 over HTTP: a house as `access serve` starts it, with two gates in processes of their own.

Every path of the API and every page is asked, by its person, by another, by nobody and with rubbish.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from broker import logs
from broker.identity.tokens import TokenKind
from broker.store import credentials
from cli.dev_idp import DevIdp, start_dev_idp
from cli.house import House
from tests.cli.house_kit import Browser, settings_for
from tests.promises.searching import arguments_of_processes, keys_of, leaks, open_to_others
from workflows.model import Principal

GATE_TOKEN = "gate-token-0815-" + "G" * 24


@pytest.fixture
def idp() -> Iterator[DevIdp]:
    people = [Principal(name, name.title(), f"{name}@example.com") for name in ("ada", "bob", "grace", "sam")]
    running = start_dev_idp(people)
    yield running
    running.stop()


@dataclass
class Served:
    """A house with its secrets, and all that it answered."""

    house: House
    http: httpx2.AsyncClient
    secrets: dict[str, bytes]
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    said: list[tuple[str, bytes]] = field(default_factory=list)

    async def log_in(self, person: str) -> None:
        assert self.house.broker
        token = (await self.house.broker.tokens.issue(TokenKind.LOGIN, person, via="cli")).token
        self.secrets[f"login token of {person}"] = token.encode()
        self.headers[person] = {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, person: str = "", **more: Any) -> httpx2.Response:
        headers = self.headers.get(person, {}) | more.pop("headers", {})
        answer = await self.http.request(method, path, headers=headers, **more)
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.said.append((f"{method} {path} by {person or 'nobody'}", head.encode() + answer.content))
        return answer


@pytest.fixture
async def served(tmp_path: Path, shop: Any, idp: DevIdp) -> AsyncIterator[Served]:
    settings = settings_for(
        tmp_path,
        shop,
        gate_token=GATE_TOKEN,
        oidc_issuer=idp.issuer,
        oidc_client_id=idp.client_id,
        oidc_client_secret=idp.client_secret,
    )
    async with House(settings, workers=2) as house:
        secrets = {
            "admin password": shop.admin_password.encode(),
            "gate token": GATE_TOKEN.encode(),
            "client secret": idp.client_secret.encode(),
            **keys_of(settings.data_dir),
        }
        async with httpx2.AsyncClient(base_url=house.public_url, timeout=20) as http:
            it = Served(house, http, secrets)
            for person in ("ada", "grace", "sam"):
                await it.log_in(person)
            yield it


async def granted(served: Served) -> str:
    """The id of Ada's request, which Grace approved and a gate holds."""
    line = {"line": "request prod-db 1h because INC-142"}
    asked = (await served.ask("POST", "/api/v1/lines", "ada", json=line)).json()
    key = str(asked["stories"][0]["id"])
    await served.ask("POST", f"/api/v1/requests/{key}/approve", "grace", json={})
    async with asyncio.timeout(20):
        while True:
            story = (await served.ask("GET", f"/api/v1/requests/{key}", "ada")).json()
            if story["grant"]["state"] == "active":
                break
            await asyncio.sleep(0.05)
    broker = served.house.broker
    assert broker
    async with broker.store.read() as tx:
        login = await credentials.ready(tx, story["grant"]["id"])
    assert login
    served.secrets["login of the grant"] = broker.seal.open(login.sealed, story["grant"]["id"]).encode()
    return key


async def entered(served: Served) -> str:
    """Ada's session, some of it refused; her entry token is in the one answer that is for showing it."""
    answer = await served.http.post("/api/v1/tokens", json={}, headers=served.headers["ada"])
    token = str(answer.json()["token"])
    served.secrets["entry token"] = token.encode()
    gate, ca = served.house.gate, served.house.settings.data_dir / "gate" / "ca.pem"
    assert gate

    def session(password: str) -> str:
        said = []
        try:
            with psycopg.connect(
                host=gate.host, port=gate.port, dbname="prod-db", user="ada", password=password,
                sslmode="verify-full", sslrootcert=str(ca), autocommit=True,
            ) as connection:  # fmt: skip
                for sql in (
                    "select id, email from users limit 2",
                    "select 1/0",
                    "create role x password 'y'",
                ):
                    try:
                        said.append(str(connection.execute(sql.encode()).fetchall()))
                    except psycopg.Error as error:
                        said.append(f"{error} {error.diag.message_hint}")
        except psycopg.OperationalError as error:
            said.append(str(error))
        return "\n".join(said)

    for password in (token, "wrong"):
        served.said.append(("a driver", (await asyncio.to_thread(session, password)).encode()))
    async with asyncio.timeout(15):
        while not (found := (await served.ask("GET", "/api/v1/sessions", "sam")).json()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    rows = found if isinstance(found, list) else next(v for v in found.values() if isinstance(v, list))
    return str(rows[0]["id"])


async def test_no_answer_log_or_process_shows_a_secret(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure("DEBUG", stream)
    try:
        key = await granted(served)
        session = await entered(served)
        paths = (await served.ask("GET", "/api/v1/openapi.json")).json()["paths"]
        filled = {
            path: path.format_map(dict.fromkeys(("name",), "prod-db") | {"session_id": session, "key": key})
            for path in paths
            if set(path.split("{")[1:]) <= {"name}", "name}/who", "session_id}", "session_id}/recording"}
            or "{key}" in path
        }
        assert len(filled) > 25
        for path, methods in paths.items():
            if path not in filled or path.endswith(("/notices", "/tokens", "/logout")):
                continue
            for method in methods:
                for person in ("ada", "sam", "") if method == "get" else ("",):
                    await served.ask(method.upper(), filled[path], person)
                if method == "post":
                    await served.ask("POST", filled[path], content=b'{"x": "\xff')
        for page in ("/", "/metrics", "/healthz", "/readyz", "/login", "/device", "/no-such-page"):
            await served.ask("GET", page)
        browser = Browser()
        served.said.append(("a page", (await browser.log_in(served.house.public_url, "ada")).content))
        await served.ask("POST", f"/api/v1/requests/{key}/release", "ada", json={})
        out, err = capfd.readouterr()
    finally:
        root.handlers[:], root.level = before
    files = served.house.settings.data_dir
    places = [
        *served.said,
        ("the log", stream.getvalue().encode()),
        ("what the gates' processes print", (out + err).encode()),
        *arguments_of_processes(),
        *(
            (str(path.relative_to(files)), path.read_bytes())
            for path in files.rglob("*")
            if path.is_file() and path.suffix != ".key"
        ),
    ]
    assert leaks(served.secrets, places) == []
    assert any(b"INC-142" in text for place, text in places if place.startswith("GET /api"))


async def test_everything_under_the_data_directory_is_its_owners_alone(served: Served) -> None:
    await granted(served)
    await entered(served)
    public = ("audit.pub", "gate/")  # what is there and no key: certificates
    data = served.house.settings.data_dir
    assert [it for it in open_to_others(data) if not it.startswith(public)] == []
    assert {path.stat().st_mode & 0o777 for path in data.rglob("*.key")} == {0o600}
    assert (data / "gate").stat().st_mode & 0o777 == 0o700
