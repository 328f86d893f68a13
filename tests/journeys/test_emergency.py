"""The emergency, whole: rehearsed at the real gate, taken, seen while it goes on, killed, and reviewed."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from bot.sandbox import text_of

House = Any  # tests/journeys/conftest.py, which tests cannot import
APPROVALS = "#dba-approvals"


async def test_a_drill_is_held_by_the_gate_and_lets_nobody_in(urgent_house: House) -> None:
    house = urgent_house
    olive, grace = house.be("olive"), house.be("grace")
    assert (await olive.commands("/access drill prod-db")).acked
    card = await grace.sees("DRILL – nothing is open", channel=APPROVALS)
    await grace.sees("lets nobody in", thread=card)
    entering = await house.psql("select 1", person="olive")
    assert entering.returncode != 0
    assert "0 sessions are open" in entering.stderr, entering.stderr
    house.clock.ahead += timedelta(minutes=2)
    card = await grace.sees_change(card, "the gate held it and let it fall")
    async with asyncio.timeout(30):
        while house.logins():  # noqa: ASYNC110 - the login is dropped in its own time
            await asyncio.sleep(0.05)
    (drill,) = await house.broker.service.drills_of("olive")
    assert drill.request.emergency.findings


async def test_a_waiting_request_becomes_an_emergency_that_everybody_sees_and_one_press_ends(
    urgent_house: House,
) -> None:
    house = urgent_house
    olive, grace, sam = house.be("olive"), house.be("grace"), house.be("sam")

    # Olive asks the usual way; nobody answers, and it burns: she turns it into an emergency.
    await olive.commands("/access request prod-db 1h because INC-142 checkout is slow")
    card = await grace.sees("INC-142 checkout is slow", channel=APPROVALS)
    mine = await olive.sees("You ask for", channel="@portcullis")
    await olive.clicks(mine, "emergency")
    await olive.sees_modal("What is broken")
    await olive.submits({})
    card = await grace.sees_change(card, "has `prod-db`")
    assert "Nobody approved this" in text_of(card)
    assert card.blocks[1]["level"] == "error"
    await sam.sees("Emergency INC-142", channel="@portcullis")

    # She is in, masked as ever, and what she does is told in the thread while she does it.
    inside = asyncio.create_task(
        house.psql(
            "select pg_sleep(120)",
            "-c",
            "select email from users where id = 2",
            person="olive",
            timeout=150,
        )
    )
    told = text_of(await grace.sees("select email from users", thread=card))
    assert "→ SELECT 1" in told
    assert "@example" not in told, "the thread shows no value"
    began = time.monotonic()
    await grace.clicks(grace.now(card), "kill")
    cut = await inside
    assert time.monotonic() - began < 10  # the press, the cut within a second, psql's own end, a busy machine
    assert cut.returncode != 0
    assert "bjorn.abe" not in cut.stdout
    card = await grace.sees_change(card, "Revoked by")

    # It is owed a review; until somebody else has done it there is no further emergency.
    house.clock.ahead += timedelta(minutes=1)
    await olive.commands("/access break-glass prod-db because INC-143 checkout is down again")
    await olive.sees_modal("What is broken")
    await olive.submits({})
    await olive.sees("has not been reviewed")
    (only,) = await house.broker.service.stories_of("olive")
    await grace.clicks(grace.now(card), "review")
    await grace.sees_modal("Was it an emergency?")
    await grace.submits({"verdict": "justified", "reason": "the replica was gone"})
    await grace.sees_change(card, "Found *justified*")
    await olive.commands("/access break-glass prod-db because INC-143 checkout is down again")
    await olive.sees_modal("What is broken")
    await olive.submits({})
    await grace.sees("Emergency INC-143", channel=APPROVALS)

    # Every step of it stands in the trail.
    trail = await house.broker.service.trail_of(only.request.id, "sam")
    kinds = [entry.kind for entry in trail]
    for kind in ("request.submitted", "glass.broken", "grant.held", "grant.ended", "glass.reviewed"):
        assert kind in kinds
