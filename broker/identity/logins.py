"""Logging in, from the first address to a session or a token, without HTTP in it.

A browser goes to the identity provider and comes back; a command line either listens on loopback for the
answer (RFC 8252, with PKCE towards us as well) or shows a short code that somebody confirms in a browser
(in the manner of RFC 8628).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

import msgspec

from broker.clock import Chance
from broker.identity.device_codes import DeviceCodes, DeviceState
from broker.identity.kept import Keep, Kind
from broker.identity.oidc import Begun, OidcError, OidcProvider, person_of
from broker.identity.tokens import Issued, TokenKind, Tokens
from broker.identity.web import own_page
from workflows.model import Principal

FLOW_LIFETIME = timedelta(minutes=10)
CODE_LIFETIME = timedelta(minutes=2)
DEVICE_INTERVAL = 2
"""Seconds between two questions of a command line whether its short code was confirmed."""


class WebGoal(msgspec.Struct, frozen=True, tag="web"):
    """Come back to this page of ours."""

    page: str


class CliGoal(msgspec.Struct, frozen=True, tag="cli"):
    """Hand a one-time code to the command line that listens on this port of the person's own machine."""

    port: int
    challenge: str
    state: str


Goal = WebGoal | CliGoal


class _Flow(msgspec.Struct, frozen=True):
    begun: Begun
    goal: Goal


class Logins:
    def __init__(
        self,
        provider: OidcProvider,
        keep: Keep,
        tokens: Tokens,
        chance: Chance,
        people: Callable[[], Iterable[Principal]],
        claim: str,
    ) -> None:
        self._provider = provider
        self._keep = keep
        self._tokens = tokens
        self.devices = DeviceCodes(keep, chance)
        self._people = people
        self._claim = claim

    async def begin(self, goal: Goal, callback: str) -> tuple[str, str]:
        """Start at the provider: where to send the browser, and the secret to bind it to that browser."""
        if isinstance(goal, WebGoal):
            goal = WebGoal(own_page(goal.page))
        address, begun = await self._provider.begin(callback)
        flow = msgspec.json.encode(_Flow(begun, goal)).decode()
        return address, await self._keep.put(Kind.FLOW, FLOW_LIFETIME, payload=flow)

    async def finish(self, secret: str, answer: Mapping[str, str]) -> tuple[Principal, Goal]:
        """The person who came back from the provider, and what they wanted. Raises OidcError; works once."""
        kept = await self._keep.take(Kind.FLOW, secret) if secret else None
        if kept is None:
            raise OidcError(
                "This login was not begun in this browser, took too long, or was used before.", "Start again."
            )
        flow = msgspec.json.decode(kept.payload, type=_Flow)
        claims = await self._provider.finish(flow.begun, answer)
        return person_of(claims, self._people(), self._claim), flow.goal

    async def hand_over(self, person: Principal, goal: CliGoal) -> str:
        """A one-time code for the command line that has the verifier of the challenge."""
        return await self._keep.put(Kind.CODE, CODE_LIFETIME, principal=person.id, payload=goal.challenge)

    async def redeem(self, code: str, verifier: str) -> tuple[str, Issued] | None:
        """The login token for a code and its verifier, with whose it is. A code is good for one try."""
        kept = await self._keep.take(Kind.CODE, code)
        if kept is None or not hmac.compare_digest(challenge_of(verifier), kept.payload):
            return None
        return kept.principal, await self._issue(kept.principal, "command line")

    async def poll_device(self, device_code: str) -> tuple[str, Issued] | DeviceState:
        """What a waiting command line gets: the token (once) with whose it is, or how things stand."""
        found = await self.devices.take(device_code)
        if isinstance(found, str):
            return found
        (principal,) = found
        return principal, await self._issue(principal, "command line, by code")

    async def _issue(self, principal: str, label: str) -> Issued:
        return await self._tokens.issue(TokenKind.LOGIN, principal, via="cli", label=label)


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
