"""Whether this process lives, can do its work, and what it counts."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from broker.api.auth import P
from broker.api.problems import Problem, documented
from workflows.model import Refusal

router = APIRouter(tags=["health"])


class HealthOut(BaseModel):
    status: str


class ReadyOut(BaseModel):
    status: str
    checks: dict[str, str]


@router.get("/healthz")
async def healthz() -> HealthOut:
    """The process answers."""
    return HealthOut(status="ok")


@router.get("/readyz", responses=documented(503))
async def readyz(parts: P) -> ReadyOut:
    """Every part that this process needs can do its work."""
    checks = {}
    for name, check in parts.ready.items():
        try:
            async with asyncio.timeout(5):
                await check()
        except Exception as error:
            why = f"{name} is not ready ({type(error).__name__})."
            raise Problem(503, Refusal("not-ready", why, "It is tried again with the next call.")) from None
        checks[name] = "ok"
    return ReadyOut(status="ok", checks=checks)


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
