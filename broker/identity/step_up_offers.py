"""Where a decision goes on that lacks a passkey: a single-use page for whoever tried to make it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import msgspec

from broker.identity.kept import Keep, Kind
from broker.reading import Reading
from workflows.model import Refusal

OFFER_LIFETIME = timedelta(minutes=10)


class Wanted(msgspec.Struct, frozen=True):
    """A decision as it was tried: `verb` on the story or review `key`, with what goes with the verb."""

    verb: Literal["approve", "less", "extension", "statement", "break-glass"]
    via: Literal["slack", "api", "cli", "system", "gate"]
    key: str = ""
    reason: str = ""
    seconds: int | None = None
    role: str = ""
    row_budget: int | None = None
    resource: str = ""
    incident: str = ""


async def with_page(service: Reading, refusal: Refusal, actor: str, wanted: Wanted) -> Refusal:
    """The refusal with the address of a page that is good for ten minutes, once, and for `actor` only."""
    if not service.public_url:
        return replace(refusal, way_out="Set PORTCULLIS_PUBLIC_URL, so that there is a page for it.")
    keep = Keep(service.store, service.clock, service.chance)
    payload = msgspec.json.encode(wanted).decode()
    secret = await keep.put(Kind.STEP_UP, OFFER_LIFETIME, principal=actor, label=wanted.key, payload=payload)
    address = f"{service.public_url.rstrip('/')}/decide/{secret}"
    return replace(refusal, way_out=f"Decide it with your passkey: {address}", link=address)
