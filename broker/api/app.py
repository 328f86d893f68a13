"""The HTTP application of the broker: `create_api(parts)`."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from broker.api import (
    allowances,
    certificates,
    devices,
    gate,
    gates,
    health,
    http,
    identities,
    lines,
    locks,
    login,
    logout,
    problems,
    provisioning,
    reading,
    requests,
    runs,
    saml,
    scim,
    searching,
    sessions,
    ssh,
    statements,
    tokens,
    urgent,
    workloads,
)
from broker.api.auth import only_known_query
from broker.api.parts import Parts
from broker.api.shield import BodyLimit, SecurityHeaders
from broker.console import account, deciding, entering, linking
from broker.console import routes as console
from broker.console import sessions as session_pages
from broker.console import statements as statement_pages
from broker.watching import Watching

VERSION = "1"


def create_api(parts: Parts) -> FastAPI:
    """The API, logins, pages and the gates' door, over these parts."""
    app = _bare()
    app.state.parts = parts
    app.state.watching = Watching(parts.service, parts.recordings)
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders, secure=parts.secure)
    return app


def create_gates_door(parts: Parts) -> FastAPI:
    """What gates on other machines may ask, and nothing else; to be served by mutual TLS alone."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.parts = parts
    app.include_router(gate.router)
    problems.install(app)
    app.add_middleware(BodyLimit)
    return app


def openapi() -> dict[str, Any]:
    """The description of the API, which depends on no parts."""
    return _bare().openapi()


def _bare() -> FastAPI:
    app = FastAPI(
        title="Portcullis",
        version=VERSION,
        summary="Ask for access, decide, enter, and see who did what.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        generate_unique_id_function=_name,
    )
    asking = (lines, urgent, allowances, requests, searching, statements, runs, locks, provisioning)
    own = (sessions, reading, tokens, certificates, ssh, http, devices, identities, gates)
    for module in (*asking, *own):
        app.include_router(module.router, dependencies=[Depends(only_known_query)])
    pages = (session_pages, statement_pages, account, linking, deciding, entering)
    for module in (login, workloads, saml, logout, health, gate, scim, console, *pages):
        app.include_router(module.router)
    app.include_router(gate.joining)
    problems.install(app)
    app.add_exception_handler(console.LoginFirst, console.login_first)
    app.add_exception_handler(scim.ScimRefused, scim.refused)
    app.add_exception_handler(workloads.ExchangeRefused, workloads.refused)
    _describe_problems(app)
    return app


def _name(route: APIRoute) -> str:
    return route.name


def _describe_problems(app: FastAPI) -> None:
    """Put the schema that every error points to into the description, once."""
    plain = app.openapi

    def with_problems() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["ProblemOut"] = problems.ProblemOut.model_json_schema()
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = with_problems  # type: ignore[method-assign]
