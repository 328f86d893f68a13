"""Statements that were sent, looked for over recordings: for whom, page by page, and what is no recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.audit import all_entries
from broker.authority import LocalAuthority
from broker.identity.tokens import Tokens
from broker.searching import Page, Search, Searching
from broker.store import sessions
from cli.recordings import Shelf
from proxy.recording import Statement
from tests.broker.test_authority import (  # noqa: F401  (fixtures are imported by name)
    authority,
    current,
    entry,
    grant_to,
    knock,
    tokens,
)
from tests.recordings_kit import Written, recorded
from workflows.gate import Admission, Closing
from workflows.model import Refusal

# ruff: noqa: F811


class Sessions:
    """Sessions in the database, with recordings on disk."""

    def __init__(self, authority: LocalAuthority, tokens: Tokens, directory: Path) -> None:
        self.authority, self.tokens, self.directory = authority, tokens, directory

    async def done(self, *statements: Statement | str, person: str = "ada", closed: bool = True) -> Written:
        if not await self.authority.service.stories_of(person):
            await grant_to(self.authority, person)
        answer = await self.authority.admit(knock(await entry(self.tokens, person), principal=person))
        assert isinstance(answer, Admission)
        admission = answer
        now = self.authority.service.clock.now()
        written = recorded(
            self.directory, admission.session, statements, principal=person, started=now, closed=closed
        )
        refused = sum(isinstance(it, Statement) and it.outcome == "refused" for it in statements)
        if closed:
            count = len(statements)
            end = Closing(admission.session, "client", "", count + 2, written.head, count, refused, count)
            await self.authority.close("g1", end)
        return written


@pytest.fixture
def made(authority: LocalAuthority, tokens: Tokens, tmp_path: Path) -> Sessions:
    return Sessions(authority, tokens, tmp_path / "recordings")


@pytest.fixture
def searching(authority: LocalAuthority, tmp_path: Path) -> Searching:
    return Searching(authority.service, Shelf(tmp_path / "recordings"))


async def found(searching: Searching, actor: str, **wish: Any) -> list[str]:
    page = await searching.search(actor, Search(**wish), via="api")
    assert isinstance(page, Page)
    return [hit.statement.text for hit in page.hits]


async def test_everybody_finds_in_the_sessions_that_they_may_see(
    made: Sessions, searching: Searching
) -> None:
    await made.done("delete from a", "select 1")
    await made.done("delete from b", person="bob")
    assert await found(searching, "ada", like="DELETE") == ["delete from a"]
    assert await found(searching, "bob", like="DELETE") == ["delete from b"]
    for who in ("linus", "grace", "sam"):  # they decide on both; sam is an administrator
        assert await found(searching, who, like="DELETE") == ["delete from b", "delete from a"]
        assert await found(searching, who, like="DELETE", by="ada") == ["delete from a"]
    for who in ("zoe", "olive"):
        assert await found(searching, who, like="DELETE") == []
        assert await found(searching, who, by="ada") == []


async def test_a_person_who_left_or_is_not_known_finds_nothing(
    made: Sessions, searching: Searching, current: Any
) -> None:
    await made.done("select 1")
    assert isinstance(await searching.search("nobody", Search(), via="api"), Refusal)
    current.person("ada", active=False)
    assert isinstance(await searching.search("ada", Search(), via="api"), Refusal)


async def test_by_resource_time_and_what_was_refused(
    made: Sessions, searching: Searching, clock: Any
) -> None:
    await made.done("select old")
    clock.advance(minutes=30)
    middle = clock.now()
    await made.done("select new", Statement(1, 0.0, "drop table users", "refused", verdict="destructive"))
    assert await found(searching, "ada", since=middle) == ["drop table users", "select new"]
    assert await found(searching, "ada", until=middle) == ["select old"]
    assert await found(searching, "ada", refused=True) == ["drop table users"]
    assert await found(searching, "ada", statement_class="destructive") == ["drop table users"]
    assert len(await found(searching, "ada", on="shop")) == 3, "by its alias"
    assert await found(searching, "ada", on="other-db") == []


async def test_an_open_session_is_looked_in_as_far_as_it_is_written(
    made: Sessions, searching: Searching
) -> None:
    written = await made.done("select 1", closed=False)
    assert await found(searching, "ada") == ["select 1"]
    written.add("select 2")
    assert await found(searching, "ada") == ["select 2", "select 1"]


async def test_what_the_gate_masked_is_masked_here_and_cannot_be_found(
    made: Sessions, searching: Searching
) -> None:
    await made.done(Statement(1, 0.0, "select $1", "ok", parameters=["•••", None]))
    page = await searching.search("sam", Search(like="$1"), via="api")
    assert isinstance(page, Page)
    assert page.hits[0].statement.parameters == ("•••", None)
    assert await found(searching, "sam", like="•••") == []


async def pages(searching: Searching, actor: str, **wish: Any) -> list[Page]:
    """All pages to the end."""
    told, place = [], ""
    while not told or place:
        page = await searching.search(actor, Search(**wish, place=place), via="api")
        assert isinstance(page, Page)
        assert not page.place or page.place != place, "no progress"
        told.append(page)
        place = page.place
        assert len(told) < 100
    return told


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_together_are_everything_and_nothing_twice(
    made: Sessions, searching: Searching, clock: Any, limit: int
) -> None:
    for count in (3, 0, 1, 4):
        await made.done(*(f"select {count}.{n}" for n in range(count)))
        if count:  # two of them at the same instant
            clock.advance(seconds=10)
    whole = await found(searching, "ada", limit=500)
    assert len(whole) == 8
    told = await pages(searching, "ada", limit=limit)
    assert [hit.statement.text for page in told for hit in page.hits] == whole
    assert all(len(page.hits) <= limit for page in told)


async def test_a_search_that_takes_long_says_where_to_go_on_and_names_nobody_elses_session(
    made: Sessions, searching: Searching, clock: Any, tmp_path: Path, authority: LocalAuthority
) -> None:
    names = []
    for person in ("ada", "bob", "bob", "ada", "bob"):
        written = await made.done(f"select {person}", person=person)
        names += [written.path.stem] if person == "bob" else []
        clock.advance(seconds=1)
    hurried = Searching(authority.service, Shelf(tmp_path / "recordings"), seconds=0)
    told = await pages(hurried, "ada")
    assert len(told) > 1
    assert [hit.statement.text for page in told for hit in page.hits] == ["select ada"] * 2
    assert not [name for name in names for page in told if name in page.place]


@pytest.mark.parametrize(
    "place", ["S-NOBODY:3", "nonsense", "2026-11-24T09:00:00", "S-1:x", ":", "S-" + "9" * 150]
)
async def test_a_place_that_was_made_up_leads_nowhere(
    made: Sessions, searching: Searching, place: str
) -> None:
    await made.done("select 1")
    refused = await searching.search("ada", Search(place=place), via="api")
    assert isinstance(refused, Refusal)
    assert refused.code == "no-such-place"


async def test_the_place_of_another_persons_session_leads_nowhere(
    made: Sessions, searching: Searching
) -> None:
    written = await made.done("select secret", person="bob")
    refused = await searching.search("ada", Search(place=f"{written.path.stem}:99"), via="api")
    assert isinstance(refused, Refusal)
    assert refused.code == "no-such-place"


async def test_recordings_that_are_elsewhere_or_were_changed_are_named(
    made: Sessions, searching: Searching
) -> None:
    gone, broken, cut, good = [await made.done(f"select {n}", f"select {n}{n}") for n in range(4)]
    gone.path.unlink()
    broken.path.write_bytes(broken.path.read_bytes().replace(b"select 11", b"select 99"))
    cut.path.write_bytes(b"".join(cut.path.read_bytes().splitlines(keepends=True)[:-2]))
    page = await searching.search("sam", Search(), via="cli")
    assert isinstance(page, Page)
    assert page.missing == [gone.path.stem]
    assert set(page.broken) == {broken.path.stem, cut.path.stem}
    assert "its end is missing" in page.broken[cut.path.stem]
    assert [hit.session.id for hit in page.hits] == [good.path.stem] * 2


async def test_that_somebody_looked_and_for_what_is_in_the_trail(
    made: Sessions, searching: Searching, authority: LocalAuthority
) -> None:
    await searching.search("sam", Search(by="ada", like="DELETE", refused=True), via="cli")
    async with authority.service.store.read() as tx:
        noted = [e async for e in all_entries(tx) if e.kind == "statements.searched"]
    assert [(e.actor, e.via) for e in noted] == [("sam", "cli")]
    assert json.loads(noted[0].body) == {"by": "ada", "like": "DELETE", "refused": True}


async def test_a_session_that_is_known_to_hold_nothing_is_not_read(
    made: Sessions, searching: Searching, authority: LocalAuthority
) -> None:
    await made.done("select 1")
    await made.done()
    page = await searching.search("ada", Search(), via="api")
    assert isinstance(page, Page)
    assert page.searched == 1
    page = await searching.search("ada", Search(refused=True), via="api")
    assert isinstance(page, Page)
    assert page.searched == 0
    # One whose gate fell silent has counts that nobody told: it is read.
    async with authority.service.store.write() as tx:
        newest = (await sessions.newest(tx, principal="ada"))[-1]
        end = Closing(newest.id, "lost", "", newest.entries, newest.head, 0, 0, 0)
        await sessions.close(tx, end, authority.service.clock.now())
    assert await found(searching, "ada", like="select") == ["select 1"]
