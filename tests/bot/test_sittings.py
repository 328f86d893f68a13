"""What is done in an emergency is told in its thread while it is done; a session can be killed there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sandbox import Message, text_of
from bot.shown import Sitting
from bot.sittings import MOST_LINES, Told
from broker.recordings import RecordedStatement
from broker.store import sessions
from proxy.recording import Statement
from tests.bot.world import World, urgent_config
from tests.recordings_kit import Written, recorded

SESSION = "S-7K3F9Q2X1ABC"


async def emergency(world: World) -> Message:
    """Ada is in by breaking the glass; the card in the approvers' channel."""
    card = await world.breaks()
    await world.gate_holds()
    return await world.grace.sees_change(card, "🟢")


async def enters(world: World, session: str = SESSION) -> Written:
    await world.session(session)
    return recorded(world.recordings, session, started=world.clock.now(), closed=False)


def told(world: World, card: Message) -> list[str]:
    """The messages of the thread that tell statements, oldest first."""
    return [t for m in world.grace.messages("#dba", thread=card) if "📜" in (t := text_of(m))]


async def test_statements_are_told_in_the_thread_as_they_are_recorded(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        written.add("select 1", Statement(0, 2.0, "update users set name = $1", "ok", tag="UPDATE 3", rows=3))
        await world.passes(seconds=6)
        said = text_of(await world.grace.sees("📜", thread=card))
        assert "· `select 1` → SELECT 1" in said
        assert "✏️ `update users set name = $1` → UPDATE 3" in said
        assert f"/sessions/{SESSION}|Replay {SESSION}>" in said
        written.add(
            Statement(0, 3.0, "drop table users", "refused", sqlstate="42501", message="the rule no-drop")
        )
        written.close("client")
        await world.session(SESSION, statements=3, refused=1, rows=4)
        await world.passes(seconds=6)
        assert "⛔ `drop table users` → refused" in text_of(await world.grace.sees("drop table", thread=card))
        await world.at_rest()
        assert len(told(world, card)) == 2
        # The administrators' channel hears the same.
        await world.olive.sees("drop table users", channel="#security")


async def test_no_value_that_was_read_and_no_text_of_an_error_is_told(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        written.add(
            Statement(0, 1.0, "select $1", "ok", tag="SELECT 1", rows=1, parameters=["a-parameter"]),
            Statement(0, 2.0, "insert", "error", sqlstate="23505", message="Key (email)=(ada@x.org) exists"),
        )
        await world.passes(seconds=6)
        said = text_of(await world.grace.sees("📜", thread=card))
        assert "error 23505" in said
        assert "a-parameter" not in said
        assert "ada@x.org" not in said


async def test_text_of_a_statement_cannot_mention_or_link_or_hide(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        written.add("select '<!channel> <https://evil|click> ` @here' \u202e -- \n drop")
        await world.passes(seconds=6)
        said = (await world.grace.sees("📜", thread=card)).text
        assert "<!channel>" not in said
        assert "<https://evil" not in said
        assert "&lt;!channel&gt;" in said
        assert "\u202e" not in said
        line = next(line for line in said.splitlines() if "select" in line)
        assert line.count("`") == 2
        assert "drop`" in line, "on the same line, in the code"


async def test_a_flood_of_statements_is_one_message_a_look_in_which_changes_stand_out(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        written.add(*(f"select {n}" for n in range(300)))
        written.add(Statement(0, 1.5, "delete from users", "ok", tag="DELETE 50", rows=50))
        written.add(*(f"select {n}" for n in range(300)))
        await world.passes(seconds=6)
        said = text_of(await world.grace.sees("📜", thread=card))
        await world.until(lambda: _is(len(told(world, card)) == 1))
        assert "✏️ `delete from users` → DELETE 50" in said
        assert len([line for line in said.splitlines() if "→" in line]) == MOST_LINES
        assert f"and {601 - MOST_LINES} more" in said


async def _is(fact: bool) -> bool:
    return fact


async def test_a_message_whose_answer_was_lost_is_not_posted_twice(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        await world.passes(seconds=6)
        await world.grace.sees("Open now", thread=card)
        await world.at_rest()
        written.add("select once")
        world.sandbox.faults.lose_reply("chat.postMessage", times=2)
        await world.passes(seconds=6)
        await world.grace.sees("select once", thread=card)
        written.add("select later")
        await asyncio.sleep(0)
        for _ in range(4):
            await world.passes(seconds=20)
        await world.grace.sees("select later", thread=card)
        await world.at_rest()
        everything = "\n".join(told(world, card))
        assert everything.count("select once") == 1
        assert everything.count("select later") == 1


async def test_a_bot_that_starts_again_goes_on_where_the_last_one_was(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        written.add("select before")
        await world.passes(seconds=6)
        await world.grace.sees("select before", thread=card)
        await world.at_rest()
        await world.bot.stop()
        written.add("select while away")
        async with world.another_bot():
            await world.passes(seconds=6)
            await world.grace.sees("select while away", thread=card)
            await world.at_rest()
        everything = "\n".join(told(world, card))
        assert everything.count("select before") == 1
        assert everything.count("select while away") == 1


async def test_what_happened_while_slack_was_away_is_one_message_when_it_is_back(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        await world.passes(seconds=6)
        await world.grace.sees("Open now", thread=card)
        world.sandbox.faults.go_away()
        for n in range(5):
            written.add(f"select {n}")
            await world.passes(minutes=1)
        world.sandbox.faults.come_back()
        await world.passes(minutes=2)
        await world.grace.sees("select 4", thread=card)
        await world.at_rest()
        everything = "\n".join(told(world, card))
        assert [everything.count(f"`select {n}`") for n in range(5)] == [1] * 5
        assert len(told(world, card)) <= 2


async def test_the_open_sessions_stand_in_the_thread_and_each_can_be_killed(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        await enters(world)
        other = "S-OTHER0000001"
        await enters(world, other)
        await world.passes(seconds=6)
        shown = await world.grace.sees("2 sessions", thread=card)
        assert world.grace.buttons(shown) == ["Kill session", "Kill session"]
        value = next(b["accessory"]["value"] for b in shown.blocks if SESSION in str(b.get("accessory")))
        await world.linus.clicks(shown, "kill_session", value=value, force=True)
        shown = await world.grace.sees_change(shown, "Killed by <@U0LINUS>")
        assert world.grace.buttons(shown) == ["Kill session"]
        async with world.store.read() as tx:
            killed, spared = await sessions.find(tx, SESSION), await sessions.find(tx, other)
        assert killed
        assert spared
        assert (killed.killed_by, spared.killed_by) == ("linus", "")
        grant = (await world.story()).grant
        assert grant
        assert grant.live(world.clock.now()), "the access itself stays"
        await world.session(SESSION, statements=1, refused=0, rows=0)
        await world.passes(seconds=6)
        shown = await world.grace.sees_change(shown, "1 session")
        assert SESSION not in text_of(shown)
        await world.grace.sees("closed (killed by <@U0LINUS>)", thread=card)
        await world.session(other, statements=0, refused=0, rows=0)
        await world.passes(seconds=6)
        shown = await world.grace.sees_change(shown, "No session is open.")
        assert world.grace.buttons(shown) == []


@pytest.mark.parametrize("who", ["mallory", "guest", "robot", "stranger", "gone"])
async def test_nobody_else_kills_a_session(worlds: Any, who: str) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        await enters(world)
        await world.passes(seconds=6)
        shown = await world.grace.sees("Open now", thread=card)
        await world.sandbox.as_user(who).clicks(shown, "kill_session", force=True)
        await world.until(lambda: _refused(world))
        async with world.store.read() as tx:
            found = await sessions.find(tx, SESSION)
        assert found
        assert found.killed_by == ""


async def _refused(world: World) -> bool:
    return bool(await world.refused())


@pytest.mark.parametrize(
    "value",
    [
        "{request}:1 S-NOTHERE00000",
        "R-000000:1 {session}",
        "{request}:999 {session}",
        "{session}",
        "",
        "x" * 300,
    ],
)
async def test_a_button_that_was_changed_kills_nothing(worlds: Any, value: str) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        await enters(world)
        await world.passes(seconds=6)
        shown = await world.grace.sees("Open now", thread=card)
        request = (await world.story()).request.id
        changed = value.format(request=request, session=SESSION)
        await world.grace.clicks(shown, "kill_session", value=changed, force=True)
        await world.until(lambda: _refused(world))
        async with world.store.read() as tx:
            found = await sessions.find(tx, SESSION)
        assert found
        assert found.killed_by == ""


async def test_a_button_pressed_after_the_session_says_that_it_is_over(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        await enters(world)
        await world.passes(seconds=6)
        shown = await world.grace.sees("Open now", thread=card)
        await world.session(SESSION, statements=0, refused=0, rows=0)
        await world.grace.clicks(shown, "kill_session", force=True)
        await world.grace.sees("is over already", ephemeral=True)


async def test_a_recording_that_was_changed_is_not_told(worlds: Any) -> None:
    async with worlds(config=urgent_config(), rate_limits=False) as world:
        card = await emergency(world)
        written = await enters(world)
        written.add("select 1")
        written.path.write_bytes(written.path.read_bytes().replace(b"select 1", b"select 9"))
        await world.passes(seconds=6)
        await world.grace.sees("Open now", thread=card)
        await world.at_rest()
        assert told(world, card) == []


def _statement(n: int, text: str, tag: str, outcome: str) -> RecordedStatement:
    return RecordedStatement(n, float(n), text, outcome, 0.001, tag, 0)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=500),
            st.sampled_from(["SELECT 1", "DELETE 9", ""]),
            st.sampled_from(["ok", "refused"]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_a_message_is_short_and_counts_everything(them: list[tuple[str, str, str]]) -> None:
    sitting = Sitting(SESSION, "postgres", datetime(2026, 11, 24, tzinfo=UTC))
    batch = Told()
    for n, (text, tag, outcome) in enumerate(them, 1):
        batch.add(sitting, _statement(n, text, tag, outcome))
    assert batch.ranges == {SESSION: (1, len(them))}
    said = batch.text("https://access.example")
    assert len(said) < 4000
    lines = [line for line in said.splitlines() if " → " in line]
    more = len(them) - len(lines)
    assert (f"and {more} more" in said) == (more > 0)
    refused = min(sum(outcome == "refused" for *_, outcome in them), MOST_LINES)
    assert sum("⛔" in line.split("`")[0] for line in lines) == refused or len(said) > 2000
