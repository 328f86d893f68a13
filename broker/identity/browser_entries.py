"""A browser's entry to one HTTP service: a token in two halves, of which the broker knows one.

The gate gives the browser a verifier, in a cookie of the service's host, and the broker its challenge (S256,
RFC 7636, section 4.2). The broker's half goes through the browser's address bar; it opens nothing without the
verifier. The whole is bound to person, resource and grant.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from broker.identity import tokens
from broker.identity.kept import Keep, Kind
from workflows.model import Grant

PREFIX = "pcw_"
LONGEST = timedelta(hours=12)


async def make(keep: Keep, grant: Grant, challenge: str) -> str:
    """The broker's half for the holder of a live grant, good until its end or for twelve hours."""
    left = min(LONGEST, grant.expiry - keep.clock.now())
    return await keep.put(
        Kind.BROWSER, left, principal=grant.principal, label=f"{grant.id} {grant.resource}", payload=challenge
    )


async def find(tx: AsyncConnection, token: str, resource: str, now: datetime) -> tokens.Proved | None:
    """Whose token this is, and the grant that it opens; None where the halves do not fit, or not here."""
    code, dot, verifier = token.removeprefix(PREFIX).partition(".")
    if not dot or not token.startswith(PREFIX):
        return None
    held = await tokens.find(tx, Kind.BROWSER, code, now)
    if held is None or not hmac.compare_digest(_challenge(verifier), held.payload.encode()):
        return None
    grant, _, bound = held.label.partition(" ")
    if bound != resource:
        return None
    return tokens.Proved(tokens.Held(held.principal, held.expires_at), "", b"", grant)


def _challenge(verifier: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
