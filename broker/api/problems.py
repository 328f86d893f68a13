"""Errors as RFC 9457 problem details: what happened, why, and the way out, with a stable code."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from broker.console.pages import render
from workflows.model import Refusal

MEDIA_TYPE = "application/problem+json"


class ProblemOut(BaseModel):
    """Why something was not done. `code` is stable; `why` and `way_out` are for people."""

    type: str = Field(description="`urn:portcullis:problem:` and the code.")
    title: str
    status: int
    code: str
    why: str
    way_out: str
    link: str = Field("", description="A page where it goes on, such as that of a decision with a passkey.")


class Problem(Exception):
    """Answer with this problem."""

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.status = status
        self.refusal = refusal


_STATUS = {
    "no-such-request": 404,
    "no-such-session": 404,
    "no-such-review": 404,
    "no-such-resource": 404,
    "no-such-role": 404,
    "no-such-recording": 404,
    "no-such-allowance": 404,
    "no-such-person": 404,
    "no-result": 404,
    "no-grant": 404,
    "own-request": 403,
    "not-an-approver": 403,
    "not-an-admin": 403,
    "not-yours": 403,
    "unknown-person": 403,
    "inactive": 403,
    "not-a-reviewer": 403,
    "not-on-call": 403,
    "no-emergency-rule": 403,
    "bad-code": 403,
    "no-emergency": 404,
    "only-for-yourself": 403,
    "not-for-them": 403,
    "not-linked": 404,
    "not-bound": 404,
    "no-such-device": 404,
    "step-up": 403,
    "not-a-keeper": 403,
    "locked": 403,
    "no-such-lock": 404,
    "no-such-gate": 404,
}
"""Refusals that are not a conflict with what is (409)."""

_TITLES = {
    400: "Bad request",
    401: "Not logged in",
    403: "Not yours to do",
    404: "Not found",
    405: "Method not allowed",
    409: "Not possible now",
    413: "Too large",
    422: "Not understood",
    500: "Something broke",
    503: "Not available",
}


def refused(refusal: Refusal) -> Problem:
    """The problem for a refusal of the rules."""
    return Problem(_STATUS.get(refusal.code, 409), refusal)


def problem_response(status: int, refusal: Refusal, headers: dict[str, str] | None = None) -> JSONResponse:
    body = ProblemOut(
        type=f"urn:portcullis:problem:{refusal.code}",
        title=_TITLES.get(status, "Error"),
        status=status,
        code=refusal.code,
        why=refusal.why,
        way_out=refusal.way_out,
        link=refusal.link,
    )
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems."""
    schema = {"$ref": "#/components/schemas/ProblemOut"}
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Let every error of this application be a problem."""

    @app.exception_handler(Problem)
    async def on_problem(_request: Request, problem: Problem) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
        return problem_response(problem.status, problem.refusal, headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        # Where and what, never the value: it may be a secret in the wrong place.
        said = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:5]
        )
        return problem_response(422, Refusal("invalid", said[:1000], "See /api/v1/openapi.json."))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
            why, way_out = (
                "There is nothing at this address.",
                "Look again at what led you here, or begin anew.",
            )
            return render("message.html", 404, title="Not found", why=why, way_out=way_out)
        code = {400: "invalid", 404: "no-such-page", 405: "no-such-method"}.get(error.status_code, "refused")
        headers = dict(error.headers) if error.headers else None
        return problem_response(error.status_code, Refusal(code, str(error.detail)), headers)

    @app.exception_handler(ConnectionError)
    async def on_unreachable(_request: Request, _error: ConnectionError) -> JSONResponse:
        refusal = Refusal("unavailable", "The database does not answer.", "Try again in a moment.")
        return problem_response(503, refusal)

    @app.exception_handler(Exception)
    async def on_bug(_request: Request, _error: Exception) -> JSONResponse:
        refusal = Refusal("broken", "Something broke here.", "Nothing was changed half; try again.")
        return problem_response(500, refusal)
