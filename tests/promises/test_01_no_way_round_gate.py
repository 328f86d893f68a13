"""Promise 1 at the gate: who is in may not make a way round it, whatever the role's own rights are."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.journeys.conftest import House, open_house, write_policy


@pytest.fixture(params=["with masks", "without masks"])
async def house(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    shop: Any,
    run_psql: Callable[..., subprocess.CompletedProcess[str]],
) -> AsyncIterator[House]:
    """A house whose policy says nothing of guardrails."""
    policy = tmp_path / "access.yaml"
    write_policy(policy, shop)
    content = yaml.safe_load(policy.read_text())
    resource = content["resources"]["prod-db"]
    resource.pop("guardrails")
    resource["roles"] = {name: {"memberships": [f"app_{name}"]} for name in ("readonly", "readwrite")}
    if request.param == "without masks":
        resource.pop("masks")
    policy.write_text(yaml.safe_dump(content))
    async with open_house(tmp_path, shop, run_psql, mode="http") as opened:
        await opened.granted()
        yield opened
    for login in opened.logins():
        shop.query(f'DROP OWNED BY "{login}"')
        shop.query(f'DROP ROLE "{login}"')


WAYS = [
    "ALTER ROLE current_user PASSWORD 'mine'",
    "alter user CURRENT_USER with password 'mine'",
    "/* x */ ALTER ROLE session_user PASSWORD 'mine'",
    "SELECT 1; ALTER ROLE current_user PASSWORD 'mine'",
    "BEGIN; ALTER ROLE current_user PASSWORD 'mine'; COMMIT",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE ' || quote_ident(current_user) || ' PASSWORD ''mine'''; END $$",
    "CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE sql AS "
    "$$ ALTER ROLE current_user PASSWORD 'mine' $$; SELECT pg_temp.f()",
    "ALTER ROLE current_user VALID UNTIL 'infinity'",
    "ALTER ROLE current_user SET search_path = public",
    "CREATE ROLE thief LOGIN PASSWORD 'mine'",
    "CREATE USER thief PASSWORD 'mine'",
    "GRANT app_readonly TO public_friend",
    "DROP ROLE app_readonly",
]


async def test_no_statement_gives_the_login_a_password_or_makes_another_login(house: House) -> None:
    (login,) = house.logins()
    before = credential_of(house, login)
    for sql in WAYS:
        tried = await house.psql(sql)
        assert tried.returncode != 0, sql
        assert "ERROR" in tried.stderr, sql
    assert credential_of(house, login) == before
    assert house.logins() == {login}
    assert (await house.psql("select 1")).stdout.strip() == "1"


def credential_of(house: House, login: str) -> list[tuple[object, ...]]:
    return house.shop.query(
        "select rolpassword, rolvaliduntil, setconfig from pg_authid "
        "left join pg_db_role_setting on setrole = oid where rolname = %s",
        login,
    )


@pytest.mark.parametrize(
    "options",
    ["-c role=app_readwrite", "-c session_authorization=postgres", "-c row_security=off"],
)
async def test_no_start_option_changes_who_one_is(house: House, options: str) -> None:
    env = await house.env()
    env |= {"PGOPTIONS": options}
    tried = await asyncio.to_thread(house.run_psql, env, "select current_user", "-At")
    assert tried.returncode != 0 or tried.stdout.strip() in house.logins()


async def test_a_replication_connection_is_refused(house: House) -> None:
    env = await house.env()
    env |= {"PGDATABASE": "replication=true dbname=prod-db"}
    tried = await asyncio.to_thread(house.run_psql, env, "IDENTIFY_SYSTEM", "-At")
    assert tried.returncode != 0
