"""Web sessions: who a browser is.

The cookie is the only copy of the session's secret. It is made anew at every login, ends after an hour
without use and twelve hours after login in any case. The token that forms carry against cross-site requests
is derived from the secret, so that it fits this one session.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.identity.kept import Keep, Kind

IDLE = timedelta(hours=1)
ABSOLUTE = timedelta(hours=12)
_TOUCH_EVERY = timedelta(minutes=1)

_PAGES = ("/enter/", "/device", "/sessions/", "/statements/", "/account", "/link/", "/decide/", "/http/enter")


@dataclass(frozen=True, slots=True)
class WebSession:
    """A browser that is logged in as `principal` since `since`. `csrf` goes into each of its forms."""

    principal: str
    since: datetime
    csrf: str = field(repr=False)
    secret: str = field(repr=False)
    origin: str = ""

    @property
    def mark(self) -> str:
        """What stands for this session where something is bound to it, without opening it."""
        return hmac.new(self.secret.encode(), b"mark", hashlib.sha256).hexdigest()

    def accepts(self, csrf: str) -> bool:
        """Whether a form comes from one of this session's own pages."""
        return hmac.compare_digest(csrf.encode(), self.csrf.encode())


class WebSessions:
    def __init__(self, keep: Keep) -> None:
        self._keep = keep

    async def open(self, principal: str, former: str = "", origin: str = "") -> WebSession:
        """A new session; the `former` one of the same browser ends with it. `origin` stands for the login at
        the identity provider, which can end it.
        """
        if former:
            await self.close(former)
        now = self._keep.clock.now()
        secret = await self._keep.put(
            Kind.WEB, ABSOLUTE, principal=principal, payload=now.isoformat(), origin=origin
        )
        return _session(principal, now, secret, origin)

    async def check(self, secret: str) -> WebSession | None:
        """The session of this cookie, if it is still good."""
        if not secret:
            return None
        kept = await self._keep.look(Kind.WEB, secret)
        if kept is None:
            return None
        now, seen = self._keep.clock.now(), datetime.fromisoformat(kept.payload)
        if now - seen >= IDLE:
            await self.close(secret)
            return None
        if now - seen >= _TOUCH_EVERY:
            await self._keep.touch(Kind.WEB, secret, now.isoformat())
        return _session(kept.principal, kept.created_at, secret, kept.origin)

    async def close(self, secret: str) -> None:
        await self._keep.take(Kind.WEB, secret)


def _session(principal: str, since: datetime, secret: str, origin: str) -> WebSession:
    csrf = hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()
    return WebSession(principal, since, csrf, secret, origin)


def own_page(address: str) -> str:
    """`address` if it is a page of ours to come back to after a login, else the front page.

    A list of what is allowed, so that nothing that a browser may read as another site gets through.
    """
    plain = address.isascii() and address.isprintable() and not set(address) & set("\\ @")
    return address if plain and address.startswith(_PAGES) and "//" not in address else "/"
