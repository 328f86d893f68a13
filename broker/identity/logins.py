"""Logging in, from the first address to a session or a token, without HTTP in it.

A browser goes to the identity provider and comes back; a command line either listens on loopback for the
answer (RFC 8252, with PKCE towards us as well) or shows a short code that somebody confirms in a browser
(in the manner of RFC 8628).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from broker.clock import Chance
from broker.identity.answer import Identity, LoginError, origin_of
from broker.identity.bindings import Bindings
from broker.identity.device_codes import DeviceCodes, DeviceState
from broker.identity.kept import Keep, Kind
from broker.identity.pkce import challenge_of
from broker.identity.providers import Providers
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
    provider: str
    begun: str
    goal: Goal


@dataclass(frozen=True, slots=True)
class Came:
    """Who came back from a provider, what they wanted, and what stands for their login there."""

    person: Principal
    goal: Goal
    origin: str = ""


class Logins:
    def __init__(
        self, providers: Providers, bindings: Bindings, keep: Keep, tokens: Tokens, chance: Chance
    ) -> None:
        self.providers = providers
        self._bindings = bindings
        self._keep = keep
        self._tokens = tokens
        self.devices = DeviceCodes(keep, chance)

    async def begin(self, provider: str, goal: Goal) -> tuple[str, str]:
        """Start at a provider: where to send the browser, and the secret to bind it to that browser."""
        if isinstance(goal, WebGoal):
            goal = WebGoal(own_page(goal.page))
        sent = await self.providers[provider].begin(self.providers.callback(provider))
        flow = msgspec.json.encode(_Flow(provider, sent.begun, goal)).decode()
        return sent.address, await self._keep.put(Kind.FLOW, FLOW_LIFETIME, payload=flow)

    async def finish(self, secret: str, provider: str, answer: Mapping[str, str]) -> Came:
        """Who came back, to where this provider alone sends people back. Raises LoginError; works once."""
        kept = await self._keep.take(Kind.FLOW, secret) if secret else None
        if kept is None:
            raise LoginError(
                "This login was not begun in this browser, took too long, or was used before.", "Start again."
            )
        flow = msgspec.json.decode(kept.payload, type=_Flow)
        if flow.provider != provider:
            raise LoginError("The answer does not come from the identity provider that was asked.")
        identity = await self.providers[provider].finish(flow.begun, answer)
        return await self._came(provider, identity, flow.goal)

    async def unsolicited(self, provider: str, secret: str) -> Came:
        """Who comes from a SAML provider without having begun here, where the policy file allows that."""
        identity = await self.providers.saml(provider).unsolicited(secret)
        return await self._came(provider, identity, WebGoal("/"))

    async def _came(self, provider: str, identity: Identity, goal: Goal) -> Came:
        person = await self._bindings.person(self.providers.settings(provider), identity)
        origin = origin_of(identity.issuer, identity.session) if identity.session else ""
        return Came(person, goal, origin)

    async def unbind(self, principal: str, *, actor: str, via: str) -> bool:
        """Release somebody's account, and end the logins that came of it. False where none was bound."""
        if not await self._bindings.unbind(principal, actor=actor, via=via):
            return False
        await self._tokens.end_all(principal, actor=actor, via=via)
        return True

    async def hand_over(self, person: Principal, goal: CliGoal, origin: str = "") -> str:
        """A one-time code for the command line that has the verifier of the challenge."""
        return await self._keep.put(
            Kind.CODE, CODE_LIFETIME, principal=person.id, payload=goal.challenge, origin=origin
        )

    async def redeem(self, code: str, verifier: str) -> tuple[str, Issued] | None:
        """The login token for a code and its verifier, with whose it is. A code is good for one try."""
        kept = await self._keep.take(Kind.CODE, code)
        if kept is None or not hmac.compare_digest(challenge_of(verifier), kept.payload):
            return None
        return kept.principal, await self._issue(kept.principal, "command line", kept.origin)

    async def poll_device(self, device_code: str) -> tuple[str, Issued] | DeviceState:
        """What a waiting command line gets: the token (once) with whose it is, or how things stand."""
        found = await self.devices.take(device_code)
        if isinstance(found, str):
            return found
        principal, origin = found
        return principal, await self._issue(principal, "command line, by code", origin)

    async def _issue(self, principal: str, label: str, origin: str) -> Issued:
        return await self._tokens.issue(TokenKind.LOGIN, principal, via="cli", label=label, origin=origin)
