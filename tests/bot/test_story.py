"""The whole story in Slack: ask, decide, hold, end; over HTTP and over Socket Mode."""

from __future__ import annotations

from bot.sandbox import text_of
from workflows.model import RequestState


async def test_ask_approve_hold_expire(world) -> None:
    card = await world.ask()
    assert "INC-142" in text_of(card)
    assert world.grace.buttons(card) == ["Approve", "Approve for less…", "Deny…", "Ask…", "I'm looking"]
    await world.ada.sees("asked Database approvers", ephemeral=True)
    await world.ada.sees("You ask for", channel="@portcullis")

    delivery = await world.grace.clicks(card, "approve")
    assert delivery.acked
    card = await world.grace.sees_change(card, "opening the gate")
    assert "has" not in text_of(card).split("Access")[0]

    await world.gate_holds()
    card = await world.grace.sees_change(card, "until")
    assert world.grace.buttons(card) == ["Revoke…"]
    mine = await world.ada.sees("access psql prod-db", channel="@portcullis")
    assert world.ada.buttons(mine) == ["Show a one-time login", "+15m", "+1h", "Release"]

    await world.passes(hours=1)
    card = await world.grace.sees_change(card, "time was up")
    assert world.grace.buttons(card) == []
    await world.grace.sees("said yes", thread=card)
    await world.grace.sees("time was up", thread=card)


async def test_deny_asks_for_a_reason_and_the_requester_reads_it(world) -> None:
    card = await world.ask()
    await world.grace.clicks(card, "deny")
    await world.grace.sees_modal("Deny the request")
    await world.grace.submits({"reason": "use the replica"})
    card = await world.grace.sees_change(card, "Denied by")
    await world.ada.sees("use the replica", channel="@portcullis")
    assert (await world.story()).request.state is RequestState.DENIED


async def test_cancel_by_the_requester(world) -> None:
    card = await world.ask()
    mine = await world.ada.sees("You ask for", channel="@portcullis")
    await world.ada.clicks(mine, "cancel")
    await world.grace.sees_change(card, "Taken back")


async def test_a_request_nobody_decides_lapses_and_is_asked_again_with_one_press(world) -> None:
    card = await world.ask()
    await world.passes(hours=8)
    await world.grace.sees_change(card, "nobody decided in time")
    mine = await world.ada.sees("Nothing was opened", channel="@portcullis")
    await world.ada.clicks(mine, "Ask again")
    await world.until(lambda: _count(world, 2))


async def test_release_by_the_holder_and_revoke_by_an_approver(world) -> None:
    card = await world.ask()
    await world.grace.clicks(card, "approve")
    await world.gate_holds()
    mine = await world.ada.sees("access psql prod-db", channel="@portcullis")
    await world.ada.clicks(mine, "Release")
    await world.grace.sees_change(card, "Given back by")

    await world.ask("request prod-db 30m because INC-143")
    second = await world.grace.sees("INC-143", channel="#dba")
    await world.linus.clicks(second, "approve")
    second = await world.grace.sees_change(second, "opening the gate")
    await world.grace.clicks(second, "revoke")
    await world.grace.sees_modal("Revoke the access")
    await world.grace.submits({"reason": "wrong database"})
    second = await world.grace.sees_change(second, "Revoked by")
    assert "wrong database" in text_of(second)


async def _count(world, number: int) -> bool:
    return len(await world.stories()) == number
