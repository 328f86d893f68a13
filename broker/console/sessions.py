"""The replay of a session: what was done in it, statement by statement. It only shows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse

from broker.api import told
from broker.api.auth import P
from broker.console.pages import render
from broker.console.routes import Known, Visitor
from broker.recordings import Found, RecordedStatement, Sought
from broker.store.sessions import SessionRecord
from workflows.model import Refusal

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Path(pattern=r"^S-[0-9A-Z]{1,26}$")]
PAGE = 100
"""Statements on one page."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One statement as the page tells it."""

    n: int
    at: str
    text: str
    parameters: tuple[str, ...]
    outcome: str
    mark: str
    facts: tuple[str, ...]
    review: str
    held: str


@router.get("/sessions/{key}")
async def replay(
    key: Key, parts: P, visitor: Known, after: Annotated[int, Query(ge=0, le=10**12)] = 0
) -> HTMLResponse:
    """A page of a session's recording, for its person, those who may decide on its grant, administrators.
    All of it is verified; that it was read is noted.
    """
    found = await parts.service.session(key, visitor.person.id)
    if isinstance(found, Refusal):
        return _no(visitor, 404, found.why, "Only its person, those who decide, and administrators see it.")
    try:
        page = await asyncio.to_thread(
            parts.recordings.search, found.id, found.head, Sought(below=after + PAGE + 1), PAGE
        )
    except LookupError:
        where = (
            f"It is on the disk of its gate, {found.gate}." if found.entries else "Nothing is written yet."
        )
        return _no(visitor, 404, "The recording is not on this broker's disk.", where)
    except ValueError as error:
        await parts.service.note("recording.broken", found.id, {}, actor=visitor.person.id, via="api")
        return _no(visitor, 409, f"The recording does not hold: {error}.", "Tell security. Nothing is shown.")
    await parts.service.note("recording.read", found.id, {}, actor=visitor.person.id, via="api")
    return _page(visitor, found, page, after)


def _page(visitor: Visitor, record: SessionRecord, found: Found, after: int) -> HTMLResponse:
    said = [it for it in reversed(found.statements) if it.n > after]
    last = said[-1].n if said else after
    total = max(record.statements, last)
    return render(
        "session.html",
        it=record,
        how=_ended(record),
        client=seen(record.client),
        kill_reason=seen(record.kill_reason),
        opened=told.clock(record.opened_at),
        closed=told.clock(record.closed_at) if record.closed_at else "",
        statements=[_shown(one, found.started) for one in said],
        before=max(0, after - PAGE) if after else None,
        after=last if len(said) == PAGE and (record.closed_at is None or last < total) else None,
        person=visitor.person,
        csrf=visitor.session.csrf,
    )


def _ended(record: SessionRecord) -> str:
    if record.closed_at is None:
        return "it is being cut" if record.killed_by else "it is open"
    how = {
        "client": "its client left",
        "target": "its target ended it",
        "cut": "it was cut",
        "error": "it failed",
        "lost": "its gate fell silent",
    }.get(record.close_reason, record.close_reason)
    return f"{how}: {seen(record.detail)}" if record.detail else how


def _shown(it: RecordedStatement, started: datetime) -> Shown:
    at = (started + timedelta(seconds=it.at)).astimezone(UTC)
    facts = [f"{it.rows} row{'' if it.rows == 1 else 's'}"] if it.rows else []
    facts.append(f"{it.took * 1000:.1f} ms")
    if it.statement_class:
        facts.append(it.statement_class)
    if it.length:
        facts.append(f"cut here, {it.length:,} bytes in all")
    by = f" by {it.decided_by}" if it.decided_by else ""
    return Shown(
        n=it.n,
        at=at.strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}",
        text=seen(it.text),
        parameters=tuple("NULL" if value is None else seen(value) for value in it.parameters),
        outcome=seen(it.tag if it.outcome == "ok" else f"{it.outcome} {it.sqlstate} {it.message}").strip(),
        mark={"ok": "fine", "suspended": "fine", "refused": "refused"}.get(it.outcome, "failed"),
        facts=tuple(map(seen, facts)),
        review=it.review,
        held=seen(f"held {it.waited:.1f} s, {it.decision}{by}") if it.decision else "",
    )


def seen(text: str) -> str:
    """The text with everything in it seen: what reorders or hides text as its code point."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)


def _no(visitor: Visitor, status: int, why: str, way_out: str) -> HTMLResponse:
    who = {"person": visitor.person, "csrf": visitor.session.csrf}
    return render("message.html", status, title="Nothing to see", why=why, way_out=way_out, **who)
