"""Detectors, pseudonyms and trusted functions through the gate, with real clients on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.proxy.wire_client import connect_asyncpg
from workflows.model import Action, Guardrail, Mask, StatementClass

if TYPE_CHECKING:
    from tests.proxy.conftest import OpenHouse, Server

FOUND = 'select \'to ada@example.com\', \'{"card": "4111111111111111", "n": 5}\'::jsonb, 4111111111111111'


async def test_detectors_hide_what_stands_inside_texts(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), detect=("email", "card"))
    out, _ = await house.psql(FOUND)
    assert out == 'to ***|{"n": 5, "card": "***"}|4111111111111111\n'


async def test_detectors_hide_in_binary_results_too(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), detect=("email", "card"))
    db = await connect_asyncpg(house)
    try:
        row = await db.fetchrow(FOUND)
    finally:
        await db.close()
    assert tuple(row) == ("to ***", '{"n": 5, "card": "***"}', 4111111111111111)


async def test_a_copy_that_cannot_be_searched_is_refused(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), detect=("email",))
    _, said = await house.psql("copy users to stdout (format binary)", check=False)
    assert "cannot be searched" in said


async def test_a_pseudonym_is_of_the_columns_type_and_joins(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    masks = (Mask("public.users", "email", "pseudonym"), Mask("public.users", "id", "pseudonym"))
    house.authority.grant(server.upstream(), masks=masks)
    texts = ("select id, email from users where id = 7", "select id from users where id in (7)")
    out, _ = await house.psql(*texts)
    (shown, address), (again,) = (line.split("|") for line in out.splitlines())
    assert len(shown) == 1
    assert shown.isdigit()
    assert shown == again
    assert "@" in address
    assert "secret" not in address


async def test_a_function_that_policy_trusts_is_no_danger(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    with psycopg.connect(server.admin, autocommit=True) as db:
        db.execute("create or replace function twice(n int) returns int language sql as 'select 2 * n'")
    rails = (Guardrail("no-danger", Action.REFUSE, frozenset({StatementClass.DESTRUCTIVE})),)
    house.authority.grant(server.upstream(), guardrails=rails, trusted_functions=frozenset({"twice"}))
    out, _ = await house.psql("select twice(4)")
    assert out == "8\n"
