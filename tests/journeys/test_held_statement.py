"""A DELETE that nothing narrows: held on the wire, decided in Slack, run once or not at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any

from bot.sandbox import text_of

House = Any  # tests/journeys/conftest.py, which tests cannot import
APPROVALS = "#dba-approvals"
DELETE = "DELETE FROM orders"


async def writer(house: House) -> None:
    """Ada may read and write, by the yes of both approvers."""
    ada, grace, linus = house.be("ada"), house.be("grace"), house.be("linus")
    assert (await ada.commands("/access request prod-db readwrite 30m because INC-143")).acked
    card = await grace.sees("INC-143", channel=APPROVALS)
    await grace.clicks(card, "approve")
    card = await grace.sees_change(card, "1 of 2")
    await linus.clicks(card, "approve")
    await grace.sees_change(card, "has `prod-db`")


def orders(house: House) -> int:
    return int(house.shop.query("select count(*) from orders")[0][0])


async def held(house: House) -> asyncio.Task[subprocess.CompletedProcess[str]]:
    return asyncio.create_task(house.psql(DELETE, timeout=60))


async def test_what_is_approved_runs_once_and_says_how_it_went(house: House) -> None:
    await writer(house)
    before = orders(house)
    assert before > 0
    running = await held(house)
    grace = house.be("grace")
    card = await grace.sees("wants to run this", channel=APPROVALS)
    for words in (DELETE, "orders", "No condition bounds it", "ask-first"):
        assert words in text_of(card)
    assert orders(house) == before
    assert not running.done()
    await grace.clicks(card, "review_approve")
    done = await running
    assert done.returncode == 0, done.stderr
    assert f"DELETE {before}" in done.stdout
    assert "held by the rule ask-first" in done.stderr
    assert orders(house) == 0
    await grace.sees_change(card, "Ran on")

    again = await held(house)
    card = await grace.sees("wants to run this", channel=APPROVALS)
    await grace.clicks(card, "review_deny")
    await grace.sees_modal("Deny the statement")
    await grace.submits({"reason": "once was enough"})
    refused = await again
    assert refused.returncode != 0
    assert "once was enough" in refused.stderr


async def test_a_client_that_goes_away_takes_its_statement_along(house: House) -> None:
    await writer(house)
    before = orders(house)
    env = await house.env()
    command = ("psql", "-X", "-c", DELETE)
    client = await asyncio.create_subprocess_exec(*command, env=env | {"PATH": os.environ["PATH"]})
    grace = house.be("grace")
    card = await grace.sees("wants to run this", channel=APPROVALS)
    client.kill()
    await client.wait()
    card = await grace.sees_change(card, "No longer wanted")
    assert grace.buttons(card) == []
    assert orders(house) == before


async def test_the_command_that_changes_the_own_password_is_refused(house: House) -> None:
    await writer(house)
    tried = await house.psql("ALTER ROLE current_user PASSWORD 'mine'")
    assert tried.returncode != 0
    assert "ALTER ROLE is closed" in tried.stderr
