"""Workloads that log in: a token of their own issuer, for a short login here (RFC 8693).

GitHub Actions, GitLab, Kubernetes and any OpenID Connect issuer sign tokens that say what runs where. The
policy says which of them is which agent. Keys are looked up at the issuer that the policy names, never where
a token points to; joserfc verifies. Sources: RFC 7519, RFC 8725 (best practice), OpenID Connect Discovery
1.0.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from broker.clock import Clock
from broker.config import AgentRule
from broker.identity.oidc import ALGORITHMS, LEEWAY
from broker.trust import system_trust

LONGEST_TOKEN = 16 * 1024
_KEEP = 3600.0
_KEEP_AT_LEAST = 30.0
_ANSWER_LIMIT = 512 * 1024


class WorkloadError(Exception):
    """A workload's token that opens nothing. `why` is for whoever runs the workload, without secrets."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Workload:
    """Whom a token is of: the agent, and what the issuer calls the workload."""

    agent: AgentRule
    subject: str


class Workloads:
    """The issuers of all agents. Safe for concurrent use; close it with `aclose`."""

    def __init__(self, clock: Clock, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._clock = clock
        self._http = httpx2.AsyncClient(timeout=10, transport=transport, verify=system_trust())
        self._keys: dict[str, tuple[float, KeySet]] = {}
        self._lock = asyncio.Lock()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def read(self, token: str, agents: Mapping[str, AgentRule], named: str = "") -> Workload:
        """The agent that a token is of. `named` chooses among several that fit. Raises WorkloadError."""
        issuer = _claimed_issuer(token)
        rules = [rule for rule in agents.values() if rule.issuer == issuer]
        if not rules:
            raise WorkloadError("No agent of the policy comes from the issuer of this token.")
        claims = await self._verified(token, rules[0])
        fitting = [rule for rule in rules if _fits(rule, claims)]
        if named:
            fitting = [rule for rule in fitting if rule.name == named]
        if not fitting:
            raise WorkloadError("The token's audience and claims are not those of an agent of the policy.")
        if len(fitting) > 1:
            names = ", ".join(rule.name for rule in fitting)
            raise WorkloadError(f"The token fits several agents: say which of {names}.")
        return Workload(fitting[0], str(claims["sub"])[:200])

    async def _verified(self, token: str, rule: AgentRule) -> Mapping[str, Any]:
        try:
            read = jwt.decode(token, await self._key_set(rule), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            # Keys may have been changed since they were read: look once more, not more often.
            try:
                read = jwt.decode(token, await self._key_set(rule, again=True), algorithms=list(ALGORITHMS))
            except (JoseError, ValueError):
                raise WorkloadError("The token is not signed by a key of its issuer.") from None
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=LEEWAY,
            iss={"essential": True, "value": rule.issuer},
            aud={"essential": True},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            registry.validate(read.claims)
        except JoseError:
            raise WorkloadError("The token is over, not yet good, or lacks iss, aud, sub or exp.") from None
        if not isinstance(read.claims["sub"], str) or not read.claims["sub"]:
            raise WorkloadError("The token says of no subject that it is.")
        return read.claims

    async def _key_set(self, rule: AgentRule, *, again: bool = False) -> KeySet:
        async with self._lock:
            now, known = self._clock.monotonic(), self._keys.get(rule.issuer)
            age = now - known[0] if known else _KEEP + 1
            if known is None or age > _KEEP or (again and age > _KEEP_AT_LEAST):
                document = json.loads(rule.keys) if rule.keys else await self._published(rule.issuer)
                try:
                    known = (now, KeySet.import_key_set(cast(Any, document)))
                except (JoseError, ValueError, KeyError, TypeError):
                    raise WorkloadError("The issuer's keys cannot be read.") from None
                self._keys[rule.issuer] = known
            return known[1]

    async def _published(self, issuer: str) -> Mapping[str, Any]:
        discovery = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        address = discovery.get("jwks_uri")
        # A Kubernetes API server names its own address for them; the issuer's name has to be the same.
        if discovery.get("issuer") != issuer or not isinstance(address, str):
            raise WorkloadError("The issuer names itself differently than the policy does.")
        if not address.startswith(("https://", "http://localhost:", "http://127.0.0.1:")):
            raise WorkloadError("The issuer's keys are not at an https address.")
        return await self._get(address)

    async def _get(self, address: str) -> Mapping[str, Any]:
        try:
            answer = await self._http.get(address, headers={"Accept": "application/json"})
            answer.raise_for_status()
            if len(answer.content) > _ANSWER_LIMIT:
                raise ValueError("too long")
            document = answer.json()
        except (httpx2.HTTPError, ValueError):
            raise WorkloadError("The issuer of the token cannot be reached; try again.") from None
        if not isinstance(document, dict):
            raise WorkloadError("The issuer answered in a form that cannot be read.")
        return document


def _claimed_issuer(token: str) -> str:
    """Who the token says signed it, before anything is believed: it only chooses among the policy's own."""
    try:
        if len(token) > LONGEST_TOKEN:
            raise ValueError("too long")
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        issuer = claims["iss"]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise WorkloadError("This is no token of a workload.") from None
    if not isinstance(issuer, str):
        raise WorkloadError("This is no token of a workload.")
    return issuer


def _fits(rule: AgentRule, claims: Mapping[str, Any]) -> bool:
    audience = claims["aud"]
    if rule.audience not in (audience if isinstance(audience, list) else [audience]):
        return False
    return all(_text(claims.get(claim)) in allowed for claim, allowed in rule.claims)


def _text(value: Any) -> str | None:
    """A claim as the policy writes it; None for one that is not there or is no plain value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int) else None
