"""The sample shop: the same everywhere, and open to nobody but its own roles."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from cli.sample.shop import create_shop

# The fixtures' types live in tests/conftest.py, which tests cannot import.


def test_it_has_rows_that_look_real_and_are_the_same_everywhere(shop: Any) -> None:
    assert shop.query("select count(*), count(distinct email) from users") == [(500, 500)]
    assert shop.query("select name, email from users where id = 2") == [
        ("Björn Abe", "bjorn.abe@example.com")
    ]
    assert shop.query("select count(*), sum(total)::text from orders") == [(5000, "565579.26")]
    assert shop.query("select count(*) from products") == [(40,)]


def test_making_it_again_keeps_its_rows_and_sets_the_password(postgres: Any) -> None:
    asyncio.run(create_shop(postgres.server, postgres.admin_password))


def test_the_administrator_is_no_superuser_but_can_hand_out_the_two_roles(shop: Any) -> None:
    flags = "select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'portcullis_admin'"
    assert shop.query(flags) == [(False, True, False)]
    with shop.connect(shop.admin, shop.admin_password) as connection:
        connection.execute(f"create role {shop.name} login in role app_readonly")
        connection.execute(f"drop role {shop.name}")


def test_a_login_without_one_of_its_roles_cannot_connect(shop: Any) -> None:
    shop.query(f"create role {shop.name} login password 'x'")
    try:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            shop.connect(shop.name, "x")
    finally:
        shop.query(f"drop role {shop.name}")


def test_redis_is_real_and_empty(redis_url: str) -> None:
    import redis

    client = redis.Redis.from_url(redis_url)
    assert client.dbsize() == 0
    client.set("a", "1")
