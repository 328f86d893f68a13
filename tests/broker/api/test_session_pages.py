"""The replay of a session in the browser: for whom, what it shows, and what it does not do."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from broker.api.parts import Parts
from broker.console.sessions import PAGE
from broker.identity.web import WebSession
from broker.service import Service
from broker.store import sessions
from broker.store.engine import Store
from broker.store.sessions import SessionRecord
from broker.store.tables import sessions as table
from proxy.recording import Statement
from tests.recordings_kit import Written, recorded
from workflows.access import Wish
from workflows.gate import Closing
from workflows.model import Story

EVIL = "'\"><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \u202egnp.exe"


class Scene:
    def __init__(self, parts: Parts, service: Service, store: Store, shelf: Any, http: httpx2.AsyncClient):
        self.parts, self.service, self.store, self.shelf, self.http = parts, service, store, shelf, http

    async def session(self, *statements: Statement | str, key: str = "S-7K3F9Q2X1ABC") -> Written:
        """A session of Ada's that has ended."""
        story = await self.service.submit("ada", Wish("prod-db", reason="INC-1"), via="api")
        assert isinstance(story, Story)
        story = await self.service.approve(story.request.id, "grace", via="api")
        assert isinstance(story, Story)
        assert story.grant
        now = self.parts.clock.now()
        record = SessionRecord(
            key,
            story.request.id,
            story.grant.id,
            "ada",
            "prod-db",
            "readonly",
            "g1",
            "postgres",
            EVIL,
            now,
            now,
        )
        written = recorded(self.shelf.directory, key, statements, started=now)
        count = len(statements)
        async with self.store.write() as tx:
            await sessions.add(tx, record)
            await sessions.close(tx, Closing(key, "client", EVIL, count + 2, written.head, count, 0, 5), now)
        return written

    async def page(self, who: str, address: str = "/sessions/S-7K3F9Q2X1ABC") -> httpx2.Response:
        session: WebSession = await self.parts.web.open(who)
        return await self.http.get(address, headers={"cookie": f"portcullis={session.secret}"})


@pytest.fixture
def scene(parts: Parts, service: Service, store: Store, shelf: Any, anyone: httpx2.AsyncClient) -> Scene:
    return Scene(parts, service, store, shelf, anyone)


@pytest.mark.parametrize(
    ("who", "status"),
    [("ada", 200), ("grace", 200), ("sam", 200), ("bob", 404), ("zoe", 404), ("olive", 404)],
)
async def test_it_is_for_its_person_their_approvers_and_administrators(
    scene: Scene, who: str, status: int
) -> None:
    await scene.session("select secret")
    shown = await scene.page(who)
    assert shown.status_code == status
    assert ("select secret" in shown.text) is (status == 200)
    guessed = await scene.page(who, "/sessions/S-000000000000")
    assert guessed.status_code == 404
    if status == 404:  # as one that is not there
        assert re.sub(r"\w{40,}", "", guessed.text) == re.sub(r"\w{40,}", "", shown.text)


async def test_nobody_sees_it_without_logging_in_and_comes_back_to_it(scene: Scene) -> None:
    await scene.session("select secret")
    answer = await scene.http.get("/sessions/S-7K3F9Q2X1ABC?after=100")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fsessions%2FS-7K3F9Q2X1ABC%3Fafter%3D100"


async def test_it_tells_each_statement_with_its_values_time_outcome_and_who_allowed_it(scene: Scene) -> None:
    held = Statement(
        0, 61.25, "delete from users where id = $1", "ok", 0.0125, "DELETE 1", 1, ["•••"],
        verdict="write", review="V-7K3F9Q", decision="approved", decided_by="grace", waited=12.3,
    )  # fmt: skip
    refused = Statement(0, 62.0, "drop table users", "refused", sqlstate="42501", message="the rule no-drop")
    await scene.session("select 1", held, refused)
    page = (await scene.page("grace")).text
    assert "delete from users where id = $1" in page
    assert "•••" in page
    assert "held 12.3 s, approved by grace" in page
    assert '<a href="/statements/V-7K3F9Q">' in page
    assert "DELETE 1" in page
    assert "12.5 ms" in page
    assert "09:01:01.250" in page
    assert '<li class="refused"' in page
    assert "refused 42501 the rule no-drop" in page


async def test_nothing_in_a_recording_is_markup(scene: Scene) -> None:
    evil = Statement(0, 1.0, EVIL, "error", parameters=[EVIL, None], tag=EVIL, message=EVIL, sqlstate=EVIL,
                     review="V-1", decision=EVIL, decided_by=EVIL, verdict=EVIL)  # fmt: skip
    await scene.session(evil)
    answer = await scene.page("sam")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    assert "{{ 7*7 }}" in answer.text, "and no template"
    assert "\u202e" not in answer.text
    assert "\\u202egnp.exe" in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


async def test_a_long_recording_comes_page_by_page_and_whole(scene: Scene) -> None:
    count = 2 * PAGE + 7
    await scene.session(*(f"select {n} as number" for n in range(count)))
    address, seen = "/sessions/S-7K3F9Q2X1ABC", []
    for _ in range(3):
        page = (await scene.page("ada", address)).text
        seen += [int(n) for n in re.findall(r"select (\d+) as number", page)]
        found = re.search(r'href="(/sessions/[^"]+)">Later', page)
        address = found[1] if found else ""
    assert seen == list(range(count))
    assert address == ""
    middle = (await scene.page("ada", f"/sessions/S-7K3F9Q2X1ABC?after={PAGE}")).text
    assert 'href="/sessions/S-7K3F9Q2X1ABC">Earlier' in middle


@pytest.mark.parametrize("query", ["?after=-1", "?after=x", "?after=99999999999999999999"])
async def test_a_place_that_is_none_is_refused(scene: Scene, query: str) -> None:
    await scene.session("select 1")
    assert (await scene.page("ada", f"/sessions/S-7K3F9Q2X1ABC{query}")).status_code == 422


async def test_a_recording_that_was_changed_is_not_shown_and_noted(scene: Scene, service: Service) -> None:
    written = await scene.session("select 1", "select 2")
    written.path.write_bytes(written.path.read_bytes().replace(b"select 2", b"select 3"))
    answer = await scene.page("ada")
    assert answer.status_code == 409
    assert "does not hold" in answer.text
    assert "select 1" not in answer.text
    trail = await service.trail("sam")
    assert isinstance(trail, list)
    assert ("recording.broken", "ada") in {(e.kind, e.actor) for e in trail}


async def test_a_recording_elsewhere_is_said_to_be(scene: Scene) -> None:
    written = await scene.session("select 1")
    written.path.unlink()
    answer = await scene.page("ada")
    assert answer.status_code == 404
    assert "on the disk of its gate, g1" in answer.text


async def test_that_it_was_read_is_noted(scene: Scene, service: Service) -> None:
    await scene.session("select 1")
    await scene.page("grace")
    await scene.page("bob")
    trail = await service.trail("sam")
    assert isinstance(trail, list)
    assert [(e.actor, e.subject) for e in trail if e.kind == "recording.read"] == [
        ("grace", "S-7K3F9Q2X1ABC")
    ]


async def test_a_session_that_was_killed_says_by_whom(scene: Scene, store: Store) -> None:
    await scene.session("select 1")
    async with store.write() as tx:
        await tx.execute(update(table).values(killed_by="grace", kill_reason="wrong <b>table</b>"))
    page = (await scene.page("ada")).text
    assert "grace (wrong &lt;b&gt;table&lt;/b&gt;)" in page
