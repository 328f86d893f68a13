"""Watching sessions while they go on: as recorded, for whom, until when, and at no cost to the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker import watching
from broker.audit import all_entries
from broker.authority import LocalAuthority
from broker.identity.tokens import Tokens
from broker.watching import Beat, Event, Joined, Left, Over, Said, Watching
from cli.recordings import Shelf
from proxy.recording import Statement
from tests.broker.test_authority import (  # noqa: F401  (fixtures are imported by name)
    authority,
    current,
    enter,
    grant_to,
    tokens,
)
from tests.recordings_kit import Written, recorded
from workflows.gate import Admission, Closing
from workflows.model import Refusal

# ruff: noqa: F811


class Scene:
    """Ada's open session on prod-db, and whoever watches."""

    def __init__(self, authority: LocalAuthority, tokens: Tokens, directory: Path) -> None:
        self.authority, self.tokens, self.directory = authority, tokens, directory
        self.watching = Watching(authority.service, Shelf(directory), look_every=0.01, rights_every=0.03)
        self.logged_in = True

    async def still(self) -> bool:
        return self.logged_in

    async def open(self, *statements: Statement | str, person: str = "ada") -> Written:
        if not await self.authority.service.stories_of(person):
            await grant_to(self.authority, person)
        admission: Admission = await enter(self.authority, self.tokens)
        now = self.authority.service.clock.now()
        return recorded(self.directory, admission.session, statements, started=now, closed=False)

    async def one(self, who: str, written: Written, *, from_start: bool = False) -> Any:
        return await self.watching.one(written.path.stem, who, self.still, from_start=from_start, via="cli")

    async def end(self, written: Written) -> None:
        written.close()
        end = Closing(written.path.stem, "client", "", written.count + 2, written.head, written.count, 0, 0)
        await self.authority.close("g1", end)


@pytest.fixture
def scene(authority: LocalAuthority, tokens: Tokens, tmp_path: Path) -> Scene:
    return Scene(authority, tokens, tmp_path / "recordings")


async def following(events: AsyncIterator[Event], kind: type[Any]) -> Any:
    """The next event of a kind."""
    async with asyncio.timeout(5):
        async for event in events:
            if isinstance(event, kind):
                return event
            assert isinstance(event, Beat | Joined | Said | Left), event
    raise AssertionError("the watch ended")


async def rest(events: AsyncIterator[Event]) -> list[Event]:
    async with asyncio.timeout(5):
        return [event async for event in events if not isinstance(event, Beat)]


async def test_statements_are_told_as_they_are_recorded_until_the_session_ends(scene: Scene) -> None:
    written = await scene.open("select before")
    events = await scene.one("grace", written)
    assert (await following(events, Joined)).session.id == written.path.stem
    masked = Statement(0, 3.0, "select $1", "ok", parameters=["•••"])
    written.add(masked, "select 2")
    said = await following(events, Said)
    assert (said.statement.text, said.statement.parameters) == ("select $1", ("•••",))
    assert (said.at - said.session.opened_at).total_seconds() == 3.0
    assert (await following(events, Said)).statement.text == "select 2"
    await following(events, Beat)
    await scene.end(written)
    left, over = await rest(events)
    assert (left.how, over.why) == ("client", "the session ended")  # type: ignore[union-attr]


async def test_from_the_start_everything_is_told_once(scene: Scene) -> None:
    written = await scene.open(*(f"select {n}" for n in range(500)))
    events = await scene.one("ada", written, from_start=True)
    written.add("select 500")
    await scene.end(written)
    said = [event.statement.text for event in await rest(events) if isinstance(event, Said)]
    assert said == [f"select {n}" for n in range(501)]


@pytest.mark.parametrize(
    ("who", "may"), [("ada", 1), ("grace", 1), ("sam", 1), ("bob", 0), ("zoe", 0), ("", 0)]
)
async def test_it_is_for_whoever_may_see_the_session(scene: Scene, who: str, may: int) -> None:
    written = await scene.open()
    events = await scene.one(who, written)
    guessed = await scene.watching.one("S-GUESSED", who, scene.still, from_start=False, via="api")
    assert isinstance(guessed, Refusal)
    if not may:
        assert events == guessed
    else:
        assert await following(events, Joined)
        await events.aclose()


@pytest.mark.parametrize("how", ["logged out", "left", "no approver any more"])
async def test_the_watch_ends_with_the_right_to_it(scene: Scene, current: Any, how: str) -> None:
    written = await scene.open()
    events = await scene.one("grace", written)
    await following(events, Joined)
    if how == "logged out":
        scene.logged_in = False
    elif how == "left":
        current.person("grace", active=False)
    else:
        current.person("grace", groups=frozenset({"engineers"}))
    async with asyncio.timeout(1):
        ended = await rest(events)
    assert isinstance(ended[-1], Over)
    assert "any more" in ended[-1].why
    written.add("select secret")
    assert await rest(events) == []


async def test_a_session_that_is_over_is_replayed_and_not_watched(scene: Scene) -> None:
    written = await scene.open()
    await scene.end(written)
    refused = await scene.one("ada", written)
    assert isinstance(refused, Refusal)
    assert refused.code == "session-over"


async def test_a_session_whose_gate_died_ends_for_the_watcher_too(scene: Scene, clock: Any) -> None:
    written = await scene.open("select 1")
    events = await scene.one("ada", written)
    await following(events, Joined)
    clock.advance(minutes=2)
    assert await scene.authority.close_lost() == 1
    left, over = await rest(events)
    assert (left.how, over.why) == ("lost", "the session ended")  # type: ignore[union-attr]


async def test_a_recording_that_is_changed_is_told_no_further(scene: Scene) -> None:
    written = await scene.open("select 1")
    events = await scene.one("ada", written, from_start=True)
    await following(events, Said)
    with written.path.open("ab") as file:
        file.write(b'{"kind":"statement","n":2,"at":1,"text":"forged","outcome":"ok"}\n')
        file.write(b'{"seal":"' + b"0" * 64 + b'"}\n')
    left, over = await rest(events)
    assert isinstance(left, Left)
    assert "does not hold" in left.how
    assert isinstance(over, Over)


async def test_a_recording_that_is_elsewhere_is_said_to_be(scene: Scene) -> None:
    written = await scene.open()
    written.path.unlink()
    events = await scene.one("ada", written)
    left = (await rest(events))[-2]
    assert isinstance(left, Left)
    assert "at its gate g1" in left.how


async def test_all_sessions_on_a_resource_and_those_that_come(scene: Scene) -> None:
    first = await scene.open("select before")
    events = await scene.watching.all_on("shop", "grace", scene.still, via="cli")
    assert not isinstance(events, Refusal)
    assert (await following(events, Joined)).session.id == first.path.stem
    second = await scene.open("select at once")
    assert (await following(events, Joined)).session.id == second.path.stem
    assert (await following(events, Said)).statement.text == "select at once"
    first.add("select more")
    assert (await following(events, Said)).statement.text == "select more"
    await scene.end(first)
    assert (await following(events, Left)).session.id == first.path.stem
    await following(events, Beat)  # and it goes on
    await events.aclose()  # type: ignore[attr-defined]


async def test_on_a_resource_each_sees_only_what_is_theirs_to_see(
    scene: Scene, authority: LocalAuthority
) -> None:
    await grant_to(authority, "bob")
    await scene.open()
    events = await scene.watching.all_on("prod-db", "bob", scene.still, via="cli")
    assert not isinstance(events, Refusal)
    for _ in range(3):
        assert await anext(events) == Beat()  # type: ignore[call-overload]
    await events.aclose()  # type: ignore[attr-defined]
    hidden = await scene.watching.all_on("prod-db", "zoe", scene.still, via="cli")
    nowhere = await scene.watching.all_on("prod-dc", "zoe", scene.still, via="cli")
    assert isinstance(hidden, Refusal)
    assert isinstance(nowhere, Refusal)
    assert str(hidden).replace("prod-db", "") == str(nowhere).replace("prod-dc", "")


async def test_that_somebody_watched_which_session_is_in_the_trail_before_anything_is_told(
    scene: Scene, authority: LocalAuthority
) -> None:
    written = await scene.open()
    events = await scene.one("linus", written)
    await following(events, Joined)
    async with authority.service.store.read() as tx:
        noted = [(e.actor, e.subject) async for e in all_entries(tx) if e.kind == "session.watched"]
    assert noted == [("linus", written.path.stem)]
    await events.aclose()


async def test_more_watchers_than_the_broker_allows_are_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_WATCHERS", 2)
    written = await scene.open()
    watches = [await scene.one("grace", written) for _ in range(2)]
    for events in watches:
        await following(events, Joined)
    refused = await scene.one("grace", written)
    assert isinstance(refused, Refusal)
    assert refused.code == "too-many-watchers"
    for events in watches:
        await events.aclose()
    again = await scene.one("grace", written)
    assert await following(again, Joined)
    await again.aclose()


async def test_more_sessions_than_are_watched_at_once_are_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_SESSIONS", 2)
    opened = [await scene.open() for _ in range(3)]
    events = await scene.watching.all_on("prod-db", "sam", scene.still, via="cli")
    assert not isinstance(events, Refusal)
    assert (await following(events, Joined)).left_out == 1
    await following(events, Joined)
    await scene.end(opened[0])
    assert (await following(events, Joined)).session.id == opened[2].path.stem, "there is room again"
    await events.aclose()  # type: ignore[attr-defined]
