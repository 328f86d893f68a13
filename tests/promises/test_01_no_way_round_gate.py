"""Promise 1 at the gate: who is in may not make a way round it, whatever the role's own rights are."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.journeys.conftest import House, open_house, write_policy

LIMITS_ONLY = {"name": "modest", "action": "allow", "timeout": "30s"}
"""A guardrail that allows everything and means its time."""


@pytest.fixture(params=["with masks", "without masks", "without masks, with a time limit"])
async def house(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    shop: Any,
    run_psql: Callable[..., subprocess.CompletedProcess[str]],
) -> AsyncIterator[House]:
    """A house whose policy says nothing of logins."""
    policy = tmp_path / "access.yaml"
    write_policy(policy, shop)
    content = yaml.safe_load(policy.read_text())
    resource = content["resources"]["prod-db"]
    resource.pop("guardrails")
    resource["roles"] = {name: {"memberships": [f"app_{name}"]} for name in ("readonly", "readwrite")}
    if request.param != "with masks":
        resource.pop("masks")
    if request.param.endswith("limit"):
        resource["guardrails"] = [LIMITS_ONLY]
    policy.write_text(yaml.safe_dump(content))
    async with open_house(tmp_path, shop, run_psql, mode="http") as opened:
        await opened.granted()
        yield opened
    for login in opened.logins():
        shop.query(f'DROP OWNED BY "{login}"')
        shop.query(f'DROP ROLE "{login}"')


VERIFIER = f"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2E=${'x' * 43}=:{'x' * 43}="

WAYS = [
    "ALTER ROLE current_user PASSWORD 'mine'",
    "alter user CURRENT_USER with password 'mine'",
    "/* x */ ALTER ROLE session_user PASSWORD 'mine'",
    "SELECT 1; ALTER ROLE current_user PASSWORD 'mine'",
    "BEGIN; ALTER ROLE current_user PASSWORD 'mine'; COMMIT",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE ' || quote_ident(current_user) || ' PASSWORD ''mine'''; END $$",
    "CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE sql AS "
    "$$ ALTER ROLE current_user PASSWORD 'mine' $$; SELECT pg_temp.f()",
    # What psql's \password sends: a verifier made at the client, for the login's own name.
    f"ALTER USER {{login}} PASSWORD '{VERIFIER}'",
    "PREPARE p AS ALTER ROLE current_user PASSWORD 'mine'",
    "EXPLAIN ANALYZE ALTER ROLE current_user PASSWORD 'mine'",
    "CREATE PROCEDURE pg_temp.p() LANGUAGE sql AS "
    "$$ ALTER ROLE current_user PASSWORD 'mine' $$; CALL pg_temp.p()",
    "CREATE OR REPLACE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "EXECUTE 'ALTER ROLE ' || quote_ident(current_user) || ' PASSWORD ''mine'''; RETURN new; END $$",
    "SELECT query_to_xml('ALTER ROLE current_user PASSWORD ''mine''', true, false, '')",
    "SELECT * FROM ts_stat('ALTER ROLE current_user PASSWORD ''mine''')",
    "COPY (SELECT 1) TO PROGRAM 'psql'",
    "UPDATE pg_authid SET rolpassword = 'mine' WHERE rolname = current_user",
    "ALTER ROLE {login} RENAME TO mine",
    "ALTER USER {login} SUPERUSER",
    "ALTER GROUP app_readwrite ADD USER current_user",
    "ALTER ROLE ALL SET role = app_readwrite",
    "SET ROLE portcullis_admin",
    "SET LOCAL ROLE portcullis_admin",
    "SET SESSION AUTHORIZATION portcullis_admin",
    "SELECT set_config('role', 'portcullis_admin', false)",
    "SELECT set_config('session_authorization', 'portcullis_admin', false)",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p",
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
    for sql in (way.replace("{login}", login) for way in WAYS):
        tried = await house.psql(sql)
        assert tried.returncode != 0, sql
        assert "ERROR" in tried.stderr, sql
    assert credential_of(house, login) == before
    assert house.logins() == {login}
    assert (await house.psql("select 1")).stdout.strip() == "1"


async def test_no_statement_does_so_by_the_extended_protocol(house: House) -> None:
    """Drivers name, bind and describe what psql sends in one piece."""
    (login,) = house.logins()
    before = credential_of(house, login)
    env = await house.env()

    def attempts() -> list[str]:
        done = []
        for sql in (way.replace("{login}", login) for way in WAYS if "; " not in way):
            with psycopg.connect(
                host=env["PGHOST"],
                port=env["PGPORT"],
                user=env["PGUSER"],
                password=env["PGPASSWORD"],
                dbname=env["PGDATABASE"],
                sslmode="verify-full",
                sslrootcert=env["PGSSLROOTCERT"],
                autocommit=True,
            ) as connection:
                try:
                    connection.execute(sql.encode(), prepare=True)
                except psycopg.Error:
                    continue
            done.append(sql)
        return done

    assert await asyncio.to_thread(attempts) == []
    assert credential_of(house, login) == before
    assert house.logins() == {login}


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
