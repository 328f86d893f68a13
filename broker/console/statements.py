"""The pages of one statement: what waits, or was decided, and what came of it. They only show."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from broker.api.auth import P
from broker.console.pages import render
from broker.console.routes import Known, Visitor
from broker.reviews import Reviews
from workflows.model import Refusal

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Path(pattern=r"^V-[0-9A-Z]{4,26}$")]


@router.get("/statements/{key}")
async def statement(key: Key, parts: P, visitor: Known) -> HTMLResponse:
    """One statement, for whoever sent it, whoever may decide it, and administrators."""
    found = await Reviews(parts.service).find_for(key, visitor.person.id)
    if isinstance(found, Refusal):
        return _no(visitor, found)
    return render("statement.html", it=found, output=None, person=visitor.person, csrf=visitor.session.csrf)


@router.get("/statements/{key}/result")
async def result(key: Key, parts: P, visitor: Known) -> HTMLResponse:
    """The same with what came of it; that it was read is noted."""
    if parts.runs is None:
        return _no(visitor, Refusal("no-result", "There is no result here."))
    found = await parts.runs.result(key, visitor.person.id)
    if isinstance(found, Refusal):
        return _no(visitor, found)
    review, output = found
    return render(
        "statement.html", it=review, output=output, person=visitor.person, csrf=visitor.session.csrf
    )


def _no(visitor: Visitor, refusal: Refusal) -> HTMLResponse:
    return render(
        "message.html",
        404,
        title="Nothing to see",
        why=refusal.why,
        way_out=refusal.way_out,
        person=visitor.person,
        csrf=visitor.session.csrf,
    )
