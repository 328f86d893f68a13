"""`/access run`: one statement, put before its quorum in Slack, run at the gate under a grant of its own."""

from __future__ import annotations

from typing import Any

from bot.sandbox import text_of

House = Any  # tests/journeys/conftest.py, which tests cannot import
APPROVALS = "#dba-approvals"
SELECT = "SELECT id, email FROM users ORDER BY id LIMIT 3"


def orders(house: House) -> int:
    return int(house.shop.query("select count(*) from orders")[0][0])


async def test_a_statement_is_approved_in_its_thread_and_its_masked_rows_come_there(house: House) -> None:
    ada, grace = house.be("ada"), house.be("grace")
    assert (await ada.commands(f'/access run prod-db "{SELECT}" because INC-7 who is affected')).acked
    assert "asked dba" in text_of(await ada.sees("⏳", ephemeral=True))
    card = await grace.sees("wants to run this", channel=APPROVALS)
    for words in (SELECT, "users", "INC-7 who is affected", "readonly"):
        assert words in text_of(card)
    await grace.clicks(card, "review_approve")
    card = await grace.sees_change(card, "Ran on")
    assert "SELECT 3" in text_of(card)
    told = text_of(await grace.sees("3 rows", channel=APPROVALS))
    assert "a***@" in told
    for (email,) in house.shop.query("select email from users order by id limit 3"):
        assert email not in told
    assert "3 rows" in text_of(await ada.sees("3 rows"))
    story = (await house.broker.service.stories_of("ada"))[:1]
    assert story == []  # the grant of its own is none that one could enter by
    assert house.logins() == set() or await gone(house)


async def gone(house: House) -> bool:
    import asyncio

    for _ in range(100):
        if not house.logins():
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_bounded_yes_rolls_back_what_touches_more(house: House) -> None:
    ada, grace, linus = house.be("ada"), house.be("grace"), house.be("linus")
    before = orders(house)
    assert before > 1
    await ada.commands("/access run prod-db")
    await ada.sees_modal("Where, and as what")
    await ada.submits(
        {"run_where": "prod-db readwrite", "run_text": "DELETE FROM orders\nWHERE id > 0", "reason": "INC-8"}
    )
    card = await grace.sees("wants to run this", channel=APPROVALS)
    await grace.clicks(card, "review_budget")
    await grace.sees_modal("Approve with a bound")
    await grace.submits({"budget": "1"})
    card = await grace.sees_change(card, "1 of 2")
    await linus.clicks(card, "review_approve")
    card = await grace.sees_change(card, "Ran on")
    assert "1 rows" in text_of(card)
    told = text_of(await ada.sees("❌"))
    assert f"{before}" in told
    assert orders(house) == before


async def test_what_the_target_refuses_is_told_in_the_thread(house: House) -> None:
    ada, grace = house.be("ada"), house.be("grace")
    await ada.commands('/access run prod-db "DELETE FROM orders WHERE id = 1" because INC-9')
    card = await grace.sees("wants to run this", channel=APPROVALS)
    await grace.clicks(card, "review_approve")
    told = text_of(await ada.sees("❌"))
    assert "permission denied" in told
    assert "42501" in told
