"""A role whose transactions wait at their COMMIT: the card tells what was written, and it is kept or not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.sandbox import text_of

House = Any  # tests/journeys/conftest.py, which tests cannot import
APPROVALS = "#dba-approvals"
SCRIPT = b"""
BEGIN;
UPDATE products SET stock = stock + 1 WHERE id <= 3;
UPDATE users SET country = 'NO' WHERE id = 1;
COMMIT;
ROLLBACK;
SELECT 'still here';
"""


@pytest.fixture(autouse=True)
def careful(tmp_path: Path, shop: Any, write_sample_policy: Callable[[Path, Any], None]) -> None:
    """The sample's policy with another role, whose commits one of dba agrees to."""
    path = tmp_path / "access.yaml"
    write_sample_policy(path, shop)
    policy = yaml.safe_load(path.read_text())
    policy["resources"]["prod-db"]["roles"]["careful"] = {
        "memberships": ["app_readwrite"],
        "hold_commit": {"approval": [{"group": "dba"}], "hold_for": "10m", "message": "Four eyes on it."},
    }
    policy["rules"][0]["roles"].append("careful")
    path.write_text(yaml.safe_dump(policy))


async def psql(house: House) -> asyncio.subprocess.Process:
    """psql with SCRIPT on its standard input, one statement after the other."""
    env = {**await house.env(), "PATH": os.environ["PATH"]}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "psql", "-XAt", env=env, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    process.stdin.write(SCRIPT)
    process.stdin.close()
    return process


def stock(house: House) -> int:
    return int(house.shop.query("select sum(stock) from products")[0][0])


async def test_what_a_transaction_wrote_is_kept_by_a_yes_and_dropped_by_a_no(house: House) -> None:
    await house.granted("/access request prod-db careful 1h because INC-142")
    grace, before = house.be("grace"), stock(house)

    running = await psql(house)
    card = await grace.sees("wants to run this", channel=APPROVALS)
    said = text_of(card)
    for words in (
        "UPDATE products",
        "UPDATE users",
        "public.products",
        "public.users",
        "exactly 4 (counted, nothing kept yet)",
        "hold-commit",
    ):
        assert words in said
    assert stock(house) == before
    await grace.clicks(card, "review_approve")
    out, told = await running.communicate()
    assert out.decode().split("\n")[-4:-1] == ["COMMIT", "ROLLBACK", "still here"], told
    assert b"held by the rule hold-commit: Four eyes on it." in told
    assert stock(house) == before + 3
    await grace.sees_change(card, "Ran on")

    running = await psql(house)
    card = await grace.sees("wants to run this", channel=APPROVALS)
    await grace.clicks(card, "review_deny")
    await grace.sees_modal("Deny the statement")
    await grace.submits({"reason": "not before the weekend"})
    out, told = await running.communicate()
    assert b"not before the weekend" in told
    assert out.decode().endswith("still here\n")
    assert stock(house) == before + 3
