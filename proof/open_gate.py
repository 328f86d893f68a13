"""A gate of its own process whose authority lets everybody in as whom they say, into any database.

This is the gate as it is; only the broker is a plain one, so that a suite can log in as any role, into any
database, and differences are the gate's own.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
import uvloop

from proxy import tls
from proxy.authority import (
    Admission,
    Closing,
    GrantMinted,
    HeldStatement,
    Knock,
    Notice,
    Progress,
    ReviewTicket,
    RunPass,
    Upstream,
)
from proxy.gate import Gate, GateSettings
from workflows.model import Action, Guardrail, Refusal, Terms

NAMES = ("localhost", "127.0.0.1")
_HOUR = 3600.0
_SESSIONS = 10_000
POLICIES = {
    "open": Terms(max_sessions=_SESSIONS),
    "reading": Terms(max_sessions=_SESSIONS, guardrails=(Guardrail("all", Action.ALLOW),)),
}
"""`open` asks for no reading at all; `reading` has every statement read and then allows it."""


class EverybodyComesIn:
    """An Authority: the principal is the login, the resource the database, the superuser's token counts."""

    def __init__(self, host: str, port: int, ca: str, superuser: str, password: str, terms: Terms) -> None:
        self._host = host
        self._port = port
        self._ca = ca
        self._superuser = superuser
        self._password = password
        self._terms = terms
        self._numbers = itertools.count(1)

    async def client_ca(self) -> str:
        raise ConnectionError("nobody comes by certificate here")

    async def admit(self, knock: Knock) -> Admission | Refusal:
        if knock.principal == self._superuser and not hmac.compare_digest(knock.token, self._password):
            return Refusal("wrong-token", "The token is not valid.", "Ask for a new one.")
        tls_mode = "verify-full" if self._ca else "disable"
        at = (self._host, self._port, knock.resource, knock.principal, knock.token)
        upstream = Upstream(*at, tls_mode, self._ca)
        session = f"S-{next(self._numbers)}"
        return Admission(
            session,
            "G-1",
            knock.principal,
            knock.resource,
            "superuser",
            self._terms,
            _HOUR * 12,
            _HOUR,
            upstream,
            bytes(32),
        )

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Mapping[str, float]:
        return {it.session: _HOUR * 12 for it in progress}

    async def hold(self, gate: str, grant: str) -> None:
        return None

    async def close(self, gate: str, closing: Closing) -> None:
        if closing.reason in ("cut", "error"):
            print(f"{closing.session} {closing.reason}: {closing.detail}", file=sys.stderr, flush=True)

    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        return Refusal("no-reviews", "Nobody decides here.")

    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal:
        return Refusal("no-reviews", "Nobody decides here.")

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        return None

    async def withdraw_review(self, gate: str, review: str, why: str) -> None:
        return None

    async def notices(self, gate: str) -> AsyncIterator[Notice]:
        yield GrantMinted("G-1", _HOUR * 12)
        await asyncio.Event().wait()


async def _serve(options: argparse.Namespace) -> None:
    home: Path = options.home
    identity = tls.self_made(home / "tls", NAMES, datetime.now(UTC))
    ca = options.ca.read_text() if options.ca else ""
    password = options.password_file.read_text().strip()
    terms = POLICIES[options.policy]
    authority = EverybodyComesIn("127.0.0.1", options.target, ca, "postgres", password, terms)
    settings = GateSettings(
        "proof",
        home / "recordings",
        tls.server_context(identity.certificate, identity.key),
        login="password",  # whoever comes is let in as what they say: the target sees the password itself
        port=options.port,
        max_message=1 << 30,
    )
    gate = Gate(authority, settings)
    await gate.start()
    (home / "ready").write_text(str(identity.ca))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await gate.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--policy", choices=POLICIES, default="open")
    options = parser.parse_args()
    # What a session says of itself goes to stderr; the gate's own log only where something failed.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    uvloop.run(_serve(options))


if __name__ == "__main__":
    main()
