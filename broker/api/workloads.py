"""Token exchange (RFC 8693): a workload shows its own issuer's token and gets a short login."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from broker.api.auth import P
from broker.identity.tokens import TokenKind
from broker.identity.workloads import LONGEST_TOKEN, WorkloadError

router = APIRouter(tags=["login"])

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
SUBJECT_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
ISSUED_TYPE = "urn:ietf:params:oauth:token-type:access_token"


class ExchangedOut(BaseModel):
    """RFC 8693 section 2.2.1. `principal` is the agent, `owner` the person it belongs to."""

    access_token: str
    issued_token_type: str = ISSUED_TYPE
    token_type: str = "Bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds. Use does not prolong it: exchange again.")
    principal: str
    owner: str


@router.post("/auth/token", include_in_schema=False)
async def exchange(
    parts: P,
    grant_type: Annotated[str, Form(max_length=100)],
    subject_token: Annotated[str, Form(min_length=1, max_length=LONGEST_TOKEN)],
    subject_token_type: Annotated[str, Form(max_length=100)],
    agent: Annotated[str, Form(max_length=63, description="Which agent, where the token fits several.")] = "",
) -> ExchangedOut:
    """A login for an agent of the policy, for the token of its workload (GitHub Actions, GitLab, Kubernetes,
    any OpenID Connect issuer). Errors are those of RFC 6749 section 5.2.
    """
    if grant_type != GRANT_TYPE:
        raise ExchangeRefused("unsupported_grant_type", f"The grant type here is {GRANT_TYPE}.")
    if subject_token_type not in SUBJECT_TYPES:
        raise ExchangeRefused(
            "invalid_request", f"The subject token type is one of {', '.join(SUBJECT_TYPES)}."
        )
    await parts.service.fresh()
    try:
        found = await parts.workloads.read(subject_token, parts.service.config.agents, agent)
    except WorkloadError as error:
        await parts.service.note("login.refused", "", {"why": error.why}, actor="", via="api")
        raise ExchangeRefused("invalid_grant", error.why) from None
    rule = found.agent
    principal = parts.service.principal(rule.name)
    if principal is None or not principal.active or parts.service.login_stopped(rule.name):
        why = "This agent may not log in now: it or its owner is locked or not active."
        await parts.service.note("login.refused", rule.name, {"why": why}, actor=rule.name, via="api")
        raise ExchangeRefused("invalid_grant", why)
    issued = await parts.tokens.issue(
        TokenKind.AGENT, rule.name, via="api", label=found.subject, lifetime=rule.login
    )
    body = {"how": "workload", "issuer": rule.issuer, "subject": found.subject, "owner": rule.owner}
    await parts.service.note("login", rule.name, body, actor=rule.name, via="api")
    return ExchangedOut(
        access_token=issued.token,
        expires_in=int(rule.login.total_seconds()),
        principal=rule.name,
        owner=rule.owner,
    )


class ExchangeRefused(Exception):
    """Answer with this error of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


def refused(_request: object, error: Exception) -> JSONResponse:
    """The handler of ExchangeRefused."""
    assert isinstance(error, ExchangeRefused)
    return JSONResponse({"error": error.error, "error_description": error.description}, 400)
