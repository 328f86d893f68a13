"""The whole house on real parts: log in, ask, approve, enter through the gate, be cut."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from broker.identity.tokens import TokenKind
from cli.dev_idp import DevIdp, start_dev_idp
from cli.embedded_postgres import free_port
from cli.house import House
from workflows.model import Principal

sys.path.insert(0, str(Path(__file__).parent))
from house_kit import Browser, csrf_of, settings_for

pytestmark = pytest.mark.timeout(240)  # many processes, on machines that may be busy
PEOPLE = [
    Principal(name, name.title(), f"{name}@example.com") for name in ("ada", "bob", "grace", "sam", "eve")
]


@pytest.fixture
def idp() -> Iterator[DevIdp]:
    running = start_dev_idp(PEOPLE)
    yield running
    running.stop()


def oidc(idp: DevIdp) -> dict[str, Any]:
    return {
        "oidc_issuer": idp.issuer,
        "oidc_client_id": idp.client_id,
        "oidc_client_secret": idp.client_secret,
    }


@pytest.fixture(params=[1, 2], ids=["one-process", "two-workers"])
async def house(
    request: pytest.FixtureRequest, shop: Any, tmp_path: Path, idp: DevIdp
) -> AsyncIterator[House]:
    async with House(settings_for(tmp_path, shop, **oidc(idp)), workers=request.param) as running:
        yield running


async def token_of(house: House, person: str) -> dict[str, str]:
    """The header of somebody logged in over the API."""
    assert house.broker
    from broker.identity.tokens import TokenKind

    issued = await house.broker.tokens.issue(TokenKind.LOGIN, person, via="cli")
    return {"Authorization": f"Bearer {issued.token}"}


async def granted(house: House) -> Any:
    """Ada's grant, approved by Grace and held by a gate."""
    async with httpx2.AsyncClient(base_url=house.public_url, timeout=20) as http:
        ada, grace = await token_of(house, "ada"), await token_of(house, "grace")
        line = {"line": "request prod-db 1h because INC-142"}
        asked = (await http.post("/api/v1/lines", json=line, headers=ada)).json()
        key = asked["stories"][0]["id"]
        await http.post(f"/api/v1/requests/{key}/approve", json={}, headers=grace)
        for _ in range(200):
            story = (await http.get(f"/api/v1/requests/{key}", headers=ada)).json()
            if story["grant"]["state"] == "active":
                return story
            await asyncio.sleep(0.05)
    pytest.fail(f"no gate took hold of the grant: {story}")


async def entry_token(house: House, person: str) -> str:
    async with httpx2.AsyncClient(base_url=house.public_url, timeout=20) as http:
        answer = await http.post("/api/v1/tokens", json={}, headers=await token_of(house, person))
        return str(answer.json()["token"])


def connect(house: House, password: str, user: str = "ada") -> psycopg.Connection:
    assert house.gate
    ca = house.settings.data_dir / "gate" / "ca.pem"
    return psycopg.connect(
        host=house.gate.host,
        port=house.gate.port,
        dbname="prod-db",
        user=user,
        password=password,
        sslmode="verify-full",
        sslrootcert=str(ca),
        autocommit=True,
        connect_timeout=10,
    )


async def test_the_story_runs_from_the_request_to_the_cut(house: House) -> None:
    story = await granted(house)
    connection = await asyncio.to_thread(connect, house, await entry_token(house, "ada"))
    with connection:
        found = await asyncio.to_thread(lambda: connection.execute("select count(*) from users").fetchone())
        assert found is not None
        assert found[0] > 0
        email = await asyncio.to_thread(lambda: connection.execute("select email from users").fetchone())
        assert email is not None
        assert "*" in email[0], "masked on the wire"
        running = asyncio.create_task(asyncio.to_thread(connection.execute, "select pg_sleep(30)"))
        await asyncio.sleep(0.3)
        async with httpx2.AsyncClient(base_url=house.public_url, timeout=20) as http:
            began = time.monotonic()
            await http.post(
                f"/api/v1/requests/{story['id']}/revoke", json={}, headers=await token_of(house, "grace")
            )
            with pytest.raises(psycopg.OperationalError):
                await running
            assert time.monotonic() - began < 1.5
            sessions = await _closed_sessions(http, await token_of(house, "ada"))
            assert sessions[0]["close_reason"] == "cut"
            if house.workers is None:
                counted = (await http.get("/metrics")).text
                assert "portcullis_gate_cuts_total 1.0" in counted
                assert "portcullis_gate_open 0.0" in counted
            replay = await http.get(
                f"/api/v1/sessions/{sessions[0]['id']}/recording", headers=await token_of(house, "grace")
            )
            assert "select count(*) from users" in [it["text"] for it in replay.json()["statements"]]
    with pytest.raises(psycopg.OperationalError, match="no live grant"):
        await asyncio.to_thread(connect, house, await entry_token(house, "ada"))


async def _closed_sessions(http: httpx2.AsyncClient, headers: dict[str, str]) -> Any:
    for _ in range(100):
        sessions = (await http.get("/api/v1/sessions", headers=headers)).json()
        if sessions and sessions[0]["closed_at"]:
            return sessions
        await asyncio.sleep(0.05)
    pytest.fail(f"the session was not closed: {sessions}")


async def test_anothers_password_opens_nothing(house: House) -> None:
    await granted(house)
    with pytest.raises(psycopg.OperationalError, match="Login failed"):
        await asyncio.to_thread(connect, house, await entry_token(house, "bob"), "ada")
    with pytest.raises(psycopg.OperationalError, match="no live grant"):
        await asyncio.to_thread(connect, house, await entry_token(house, "bob"), "bob")


async def test_readiness_names_every_part(house: House) -> None:
    async with httpx2.AsyncClient(base_url=house.public_url) as http:
        answer = await http.get("/readyz")
    assert answer.json()["checks"] == {"database": "ok", "chat": "ok", "gate": "ok"}


async def test_a_page_is_reached_by_way_of_the_identity_provider(house: House) -> None:
    story = await granted(house)
    browser, page = Browser(), f"/enter/{story['grant']['id']}"
    shown = await browser.go(house.public_url + page)
    assert "Who are you?" in shown.text
    entered = await browser.press(sub="ada")
    assert browser.address == house.public_url + page
    assert "access psql prod-db" in entered.text
    assert "PGPASSWORD" not in entered.text
    revealed = await browser.press(csrf=csrf_of(entered.text))
    assert "PGPASSWORD=pce_" in revealed.text
    password = revealed.text.split("PGPASSWORD=")[1].split()[0]
    connection = await asyncio.to_thread(connect, house, password, "ada/readonly")
    connection.close()


async def test_the_page_of_a_grant_is_its_holders_alone(house: House) -> None:
    story = await granted(house)
    for person in ("bob", "grace", "sam"):
        shown = await Browser().log_in(house.public_url, person, f"/enter/{story['grant']['id']}")
        assert shown.status_code == 404
        assert "no such grant of yours" in shown.text


async def test_a_form_from_elsewhere_reveals_nothing(house: House) -> None:
    story = await granted(house)
    browser = Browser()
    shown = await browser.log_in(house.public_url, "ada", f"/enter/{story['grant']['id']}")
    other = Browser()
    theirs = await other.log_in(house.public_url, "bob")
    for csrf in ("", "0" * 64, csrf_of(theirs.text)):
        refused = await browser.press(csrf=csrf)
        assert refused.status_code == 403
        assert "PGPASSWORD" not in refused.text
    cross = await browser.http.post(
        browser.address, data={"csrf": csrf_of(shown.text)}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert cross.status_code == 403


async def test_somebody_whom_only_the_provider_knows_is_not_let_in(house: House) -> None:
    browser = Browser()
    shown = await browser.log_in(house.public_url, "eve")
    assert shown.status_code == 403
    assert "not here" in shown.text
    assert "Log in" in (await browser.go(house.public_url + "/")).text


async def test_a_callback_in_another_browser_is_refused(house: House) -> None:
    victim, thief = Browser(), Browser()
    await thief.go(house.public_url + "/login")
    answer = await thief.http.post(thief.address, data={"sub": "ada"})
    stolen = answer.headers["location"]
    shown = await victim.go(stolen)
    assert shown.status_code == 403
    assert "not begun in this browser" in shown.text
    assert not [c for c in victim.http.cookies.jar if c.name == "portcullis"]


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(house: House) -> None:
    browser = Browser()
    await browser.go(house.public_url + "/login")
    answer = await browser.http.post(browser.address, data={"sub": "ada"})
    back = await browser.http.get(answer.headers["location"])
    cookie = next(c for c in back.headers.get_list("set-cookie") if c.startswith("portcullis="))
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "domain" not in cookie.lower()


async def test_logging_out_ends_the_web_session(house: House) -> None:
    browser = Browser()
    shown = await browser.log_in(house.public_url, "ada")
    cookies = dict(browser.http.cookies)
    browser.address = house.public_url + "/logout"
    await browser.press(csrf=csrf_of(shown.text))
    replayed = await httpx2.AsyncClient(cookies=cookies).get(house.public_url + "/")
    assert "Log out" not in replayed.text
    assert "Log in" in replayed.text


# ------------------------------------------------------------- workers


async def test_a_worker_that_is_killed_is_started_again(shop: Any, tmp_path: Path, idp: DevIdp) -> None:
    async with House(settings_for(tmp_path, shop, **oidc(idp)), workers=2) as house:
        await granted(house)
        assert house.workers
        before = house.workers.pids
        os.kill(before[0], signal.SIGKILL)
        for _ in range(200):
            await asyncio.sleep(0.05)
            if house.workers.pids.get(0) not in (None, before[0]):
                break
        else:
            pytest.fail("the worker did not come back")
        assert house.workers.pids[1] == before[1], "the other one was left alone"
        pids = house.workers.pids
        password = await entry_token(house, "ada")
        for _ in range(100):
            try:
                connection = await asyncio.to_thread(connect, house, password)
                break
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)
        connection.close()
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_cancel_finds_its_session_at_whichever_worker(shop: Any, tmp_path: Path, idp: DevIdp) -> None:
    async with House(settings_for(tmp_path, shop, **oidc(idp)), workers=2) as house:
        await granted(house)
        password = await entry_token(house, "ada")
        for _ in range(6):
            connection = await asyncio.to_thread(connect, house, password)
            running = asyncio.create_task(asyncio.to_thread(connection.execute, "select pg_sleep(30)"))
            await asyncio.sleep(0.2)
            for _ in range(20):
                await asyncio.to_thread(connection.cancel)
                if running.done():
                    break
                await asyncio.sleep(0.1)
            with pytest.raises(psycopg.errors.QueryCanceled):
                await asyncio.wait_for(running, 5)
            connection.close()


async def test_a_gate_alone_serves_under_a_broker_elsewhere(shop: Any, tmp_path: Path, idp: DevIdp) -> None:
    broker = settings_for(tmp_path, shop, gates_port=free_port(), **oidc(idp))
    async with House(broker, only=frozenset({"broker"})) as keeper:
        login = await keeper.broker.tokens.issue(TokenKind.LOGIN, "sam", via="cli")  # type: ignore[union-attr]
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {login.token}"}) as sam:
            added = await sam.post(f"{keeper.public_url}/api/v1/gates/add", json={"name": "far"})
        token = added.json()["token"]
        gate = settings_for(tmp_path, shop, gate_join=token, broker_url=keeper.public_url)
        async with House(gate, only=frozenset({"proxy"}), workers=2) as far:
            await granted(keeper)
            password = await entry_token(keeper, "ada")
            connection = await asyncio.to_thread(connect, far, password)
            assert (await asyncio.to_thread(connection.execute, "select 1")).fetchone() == (1,)
            connection.close()


async def test_a_gate_alone_says_what_it_lacks(shop: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PORTCULLIS_BROKER_URL"):
        async with House(settings_for(tmp_path, shop), only=frozenset({"proxy"})):
            pass


async def test_a_port_that_is_taken_is_told_and_leaves_nothing_behind(
    shop: Any, tmp_path: Path, idp: DevIdp
) -> None:
    async with House(settings_for(tmp_path / "one", shop, **oidc(idp))) as house:
        taken = int(house.public_url.rpartition(":")[2])
        second = settings_for(tmp_path / "two", shop).model_copy(update={"http_port": taken})
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with House(second):
                pass
