"""Promise 1, by way of Slack: nobody gets a grant but through the quorum that the policy names, decided by
people who may decide at the moment of the press. The requester never counts.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pytest

from bot.app import NotConfigured, create_bot
from bot.sandbox.delivery import Delivery, sign
from broker.settings import Settings
from tests.bot.world import World, make_world, sample_config, serving, settings_for
from workflows.model import RequestState


def forged(
    world: World, delivery: Delivery, secret: str | None = None, **changes: str
) -> tuple[bytes, dict[str, str]]:
    """The delivery's payload with parts of its text changed, signed anew with `secret` (or the right one)."""
    payload = parse_qs(delivery.body.decode())["payload"][0]
    for old, new in changes.items():
        payload = payload.replace(old, new)
    payload = payload.replace(json.loads(payload)["trigger_id"], f"forged.{time.monotonic_ns()}")
    body = urlencode({"payload": payload}).encode()
    now = int(time.time())
    secret = secret or world.sandbox.workspace.app.signing_secret
    return body, {"X-Slack-Request-Timestamp": str(now), "X-Slack-Signature": sign(secret, now, body)}


async def test_every_press_of_everybody_who_may_not_leaves_the_request_as_it_was(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        card = await world.ask()
        before = await world.story()
        for who in ("ada", "mallory", "guest", "stranger", "robot", "gone", "unlinked", "olive"):
            user = world.sandbox.as_user(who)
            for button in ("approve", "deny", "release", "revoke"):
                await user.clicks(card, button, force=True)
        refusals = 8 * 4

        async def all_refused() -> bool:
            return len(await world.refused()) >= refusals

        await world.until(all_refused, 20)
        assert await world.story() == before


async def test_a_command_cannot_do_what_a_button_may_not(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        await world.ask()
        story = await world.story()
        for line in (f"approve {story.request.id}", f"deny {story.request.id}"):
            await world.ada.commands(f"/access {line}")
            await world.ada.sees("your own request", ephemeral=True)
            await world.mallory.commands(f"/access {line}")
            await world.mallory.sees("not an approver", ephemeral=True)
        assert await world.story() == story


async def test_a_signature_by_another_secret_an_empty_one_and_none_are_refused(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        card = await world.ask()
        pressed = await world.mallory.clicks(card, "approve")
        for secret in ("guess", world.sandbox.workspace.app.bot_token):
            body, headers = forged(world, pressed, secret, U0MALLORY="U0GRACE")
            assert (await world.sandbox.replay(pressed, body=body, headers=headers)).status == 401
        body, headers = forged(world, pressed, U0MALLORY="U0GRACE")
        for signature in ("", "v0=", "v0=" + "0" * 64, headers["X-Slack-Signature"].upper()):
            bad = headers | {"X-Slack-Signature": signature}
            assert (await world.sandbox.replay(pressed, body=body, headers=bad)).status == 401
        assert (await world.story()).request.approvals == ()


async def test_an_old_and_a_future_timestamp_are_refused_though_well_signed(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        card = await world.ask()
        pressed = await world.mallory.clicks(card, "approve")
        body, _ = forged(world, pressed, U0MALLORY="U0GRACE")
        secret = world.sandbox.workspace.app.signing_secret
        for shift in (-301, -86400, 301):
            then = int(time.time()) + shift
            headers = {
                "X-Slack-Request-Timestamp": str(then),
                "X-Slack-Signature": sign(secret, then, body),
            }
            assert (await world.sandbox.replay(pressed, body=body, headers=headers)).status == 401
        assert (await world.story()).request.approvals == ()


async def test_a_refused_press_replayed_once_the_person_is_an_approver_stays_refused(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        card = await world.ask()
        pressed = await world.mallory.clicks(card, "approve")
        await world.mallory.sees("not an approver", ephemeral=True)
        world.regroup("mallory", "dba")
        await world.sandbox.replay(pressed)
        await asyncio.sleep(0.2)
        assert (await world.story()).request.approvals == ()
        await world.mallory.clicks(card, "approve")
        await world.grace.sees_change(card, "opening the gate")


async def test_approvers_are_resolved_at_the_press_and_not_when_it_was_asked(tmp_path: Path) -> None:
    async with make_world(tmp_path, config=sample_config(needed=2)) as world:
        card = await world.ask()
        await world.grace.clicks(card, "approve")
        card = await world.grace.sees_change(card, "1 of 2")
        world.regroup("grace")
        world.regroup("linus")
        await world.linus.clicks(card, "approve")
        await world.linus.sees("not an approver", ephemeral=True)
        world.regroup("linus", "dba")
        await world.linus.clicks(card, "approve")
        await world.grace.sees_change(card, "1 of 2")
        story = await world.story()
        assert story.grant is None, "the yes of somebody who is no approver any more does not count"
        world.regroup("olive", "dba")
        await world.olive.clicks(card, "approve", force=True)
        await world.grace.sees_change(card, "opening the gate")


async def test_a_requester_who_joins_the_approvers_still_does_not_count(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        card = await world.ask()
        world.regroup("ada", "dba", "engineers")
        await world.ada.clicks(card, "approve")
        await world.ada.sees("your own request", ephemeral=True)
        assert (await world.story()).request.state is RequestState.PENDING


@pytest.mark.parametrize("mode", ["http", "socket"])
async def test_a_hundred_presses_at_once_make_one_grant(tmp_path: Path, mode: str) -> None:
    async with make_world(tmp_path, mode=mode) as world:
        card = await world.ask()
        people = [world.grace, world.linus]
        await asyncio.gather(*(people[n % 2].clicks(card, "approve", force=True) for n in range(100)))

        async def quiet() -> bool:
            kinds = [entry.kind for entry in await world.trail()]
            return kinds.count("refused") >= 50

        await world.until(quiet, 30)
        story = await world.story()
        assert story.version == 3
        assert [a.approver for a in story.request.approvals] in (["grace"], ["linus"])


async def test_a_hidden_resource_cannot_be_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        answers = []
        for name in ("vault-db", "vxxxt-db"):
            await world.ada.commands(f"/access request {name} 1h because x")
            told = await world.ada.sees(f"“{name}”", ephemeral=True)
            answers.append(json.dumps(told.blocks).replace(name, "…"))
        hidden, unknown = (json.loads(answer)[0]["text"] for answer in answers)
        assert hidden == unknown
        assert await world.stories() == []


async def test_the_bot_does_not_start_without_a_way_to_know_that_it_is_slack(tmp_path: Path) -> None:
    async with make_world(tmp_path) as world:
        settings = settings_for(world.sandbox, "http")
        for without in ({"slack_signing_secret": ""}, {"slack_bot_token": ""}):
            values = settings.model_dump() | without
            with pytest.raises(NotConfigured, match="SLACK_"):
                create_bot(world.service, Settings(**values))


async def test_over_socket_mode_no_http_request_is_taken_at_all(tmp_path: Path) -> None:
    async with make_world(tmp_path, mode="socket") as world:
        card = await world.ask()
        pressed = await world.mallory.clicks(card, "approve")
        async with serving(world.bot) as url:
            world.sandbox.request_url = url
            assert (await world.sandbox.replay(pressed)).status == 404
