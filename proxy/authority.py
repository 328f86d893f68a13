"""What the gate asks of the broker, as a Protocol: the only place where the two meet.

The gate never trusts an absence: no answer, a late answer or a refusal all mean no entry and, for a session
that is open, the cut. Times cross this border as remaining seconds, not as instants, so that the gate can
hold them on its own monotonic clock and a skewed wall clock on either side can only shorten access.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from workflows.gate import (
    Admission,
    Closing,
    GrantEnded,
    GrantMinted,
    HeldStatement,
    Knock,
    LoginLink,
    Notice,
    Progress,
    Renewal,
    ReviewDecided,
    ReviewTicket,
    RunPass,
    SessionKilled,
    Upstream,
)
from workflows.model import Refusal

__all__ = [
    "Admission",
    "Authority",
    "Closing",
    "GrantEnded",
    "GrantMinted",
    "HeldStatement",
    "Knock",
    "LoginLink",
    "Notice",
    "Progress",
    "Renewal",
    "ReviewDecided",
    "ReviewTicket",
    "RunPass",
    "SessionKilled",
    "Upstream",
]


class Authority(Protocol):
    """The broker as the gate sees it. Every call may raise ConnectionError; the gate then fails closed."""

    async def client_ca(self) -> str:
        """The CA (PEM) whose client certificates the broker reads."""
        ...

    async def admit(self, knock: Knock) -> Admission | Refusal:
        """Check the token, the principal and a live grant now, and open a session under it."""
        ...

    async def start_login(self, knock: Knock) -> LoginLink | Refusal:
        """Let the person of a knock without any proof log in by a browser; a knock with the link's `device`
        is then answered as one with a token of theirs, or by the refusal `login-pending`.
        """
        ...

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Renewal:
        """Renew the leases of open sessions. A session that is missing from the answer is to be cut."""
        ...

    async def hold(self, gate: str, grant: str) -> None:
        """Tell the broker that this gate now knows `grant`. May be repeated."""
        ...

    async def close(self, gate: str, closing: Closing) -> None:
        """Report a session's end. May be repeated."""
        ...

    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        """Put a held statement before those who decide. The same statement of the same session, asked again
        while it waits, is the same review.
        """
        ...

    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal:
        """Spend an approval: the broker gives the run of these very bytes to this session, once."""
        ...

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        """Report how the run went (a command tag, or an error without its values). May be repeated."""
        ...

    async def withdraw_review(self, gate: str, review: str, why: str) -> None:
        """The statement is no longer wanted: cancelled, or its client is gone. May be repeated."""
        ...

    def notices(self, gate: str) -> AsyncIterator[Notice]:
        """Follow grants, kills and reviews: first a GrantMinted for each live grant, a SessionKilled for each
        session here that is to be cut, and a ReviewDecided for each decided review of this gate's sessions
        that has not run, then changes as they happen.

        The iterator ends or raises ConnectionError when the broker is lost; the gate follows anew.
        """
        ...
