"""The broker as an OpenID Connect relying party: authorization code flow with PKCE, state and nonce.

Sources: OpenID Connect Core 1.0 section 3.1, Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (issuer in the answer),
RFC 9700 (security best practice). The flow is authlib's, the verification of the ID token joserfc's.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from broker.clock import Chance, Clock
from broker.identity.answer import LoginError, LoginOver
from broker.trust import system_trust

ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA", "RS512", "ES384")
"""Signature algorithms an ID token may use: asymmetric ones only, so that a client secret is never a key."""

LEEWAY = 30
"""Seconds of clock skew tolerated between the provider and the broker."""

_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_KEEP_METADATA = 3600.0
_KEEP_KEYS_AT_LEAST = 30.0
_ANSWER_LIMIT = 512 * 1024


@dataclass(frozen=True, slots=True)
class Begun:
    """A login on its way to the provider. Kept on the server side until the answer comes; used once."""

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Told:
    """Verified claims, and the refresh token by which the provider is asked again, if it gave one."""

    claims: Mapping[str, Any]
    renewal: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """What a verified logout token says: once (`jti`), of whom (`sub`) or of which login (`sid`)."""

    jti: str
    sub: str
    sid: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is used of the provider's discovery document."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_auth_method: str
    names_issuer: bool


class OidcProvider:
    """One identity provider. Safe for concurrent use; close it with `aclose`.

    `issuer` must be https, except on loopback. `transport` replaces the network in tests of failure.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        *,
        clock: Clock,
        chance: Chance,
        scopes: tuple[str, ...] = ("openid", "email", "profile"),
        transport: httpx2.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        if not _acceptable(issuer):
            raise ValueError(f"The OIDC issuer must be an https address: {issuer}")
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = " ".join(scopes)
        self._clock = clock
        self._chance = chance
        self._transport = transport
        self._tls = verify or system_trust()
        self._http = httpx2.AsyncClient(timeout=10, transport=transport, verify=self._tls)
        self._lock = asyncio.Lock()
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def aclose(self) -> None:
        await self._http.aclose()

    async def begin(self, redirect_uri: str) -> tuple[str, Begun]:
        """Start a login: the provider's address to send the browser to, and what to keep for `finish`."""
        metadata = await self.metadata()
        begun = Begun(
            state=self._chance.token(24),
            nonce=self._chance.token(24),
            verifier=self._chance.token(48),
            redirect_uri=redirect_uri,
        )
        async with self._client(metadata, redirect_uri) as client:
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint,
                state=begun.state,
                code_verifier=begun.verifier,
                nonce=begun.nonce,
            )
        return cast(str, url), begun

    async def finish(self, begun: Begun, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """The verified ID-token claims of `redeem`."""
        return (await self.redeem(begun, answer)).claims

    async def redeem(self, begun: Begun, answer: Mapping[str, str]) -> Told:
        """Redeem the provider's answer (the query of the callback) for what it says in its ID token.

        Raises LoginError where the answer, the exchange or the token is not what this login began.
        """
        metadata = await self.metadata()
        if not hmac.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise LoginError("The answer belongs to another login.")
        # RFC 9207 section 2.4: promised, it has to be there; there, it has to be right.
        if (metadata.names_issuer or "iss" in answer) and answer.get("iss") != metadata.issuer:
            raise LoginError("The answer does not name the identity provider that was asked.")
        if "error" in answer:
            raise LoginError(f"The identity provider said no ({_plain(answer['error'])}).")
        if not answer.get("code"):
            raise LoginError("The identity provider answered without a code.")
        how = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "code_verifier": begun.verifier,
        }
        id_token, renewal = await self._exchange(metadata, begun.redirect_uri, how)
        return Told(await self._verify(id_token, begun.nonce), renewal)

    async def renew(self, renewal: str) -> Told:
        """Ask again by a refresh token (OpenID Connect Core section 12). Raises LoginOver where the provider
        lets that login in no more, LoginError where it cannot be asked.
        """
        metadata = await self.metadata()
        how = {"grant_type": "refresh_token", "refresh_token": renewal}
        id_token, new = await self._exchange(metadata, "", how)
        return Told(await self._verify(id_token, None), new or renewal)

    async def metadata(self) -> Metadata:
        """The provider's discovery document, read again every hour."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._metadata is None or now - self._metadata[0] > _KEEP_METADATA:
                address = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
                self._metadata = (now, _read_metadata(self.issuer, await self._get(address)))
            return self._metadata[1]

    def _client(self, metadata: Metadata, redirect_uri: str) -> Any:
        client: Any = AsyncOAuth2Client  # untyped
        return client(
            self._client_id,
            self._client_secret or None,
            token_endpoint_auth_method=metadata.token_auth_method if self._client_secret else "none",
            scope=self._scope,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=10,
            transport=self._transport,
            verify=self._tls,
        )

    async def _exchange(
        self, metadata: Metadata, redirect_uri: str, how: dict[str, str]
    ) -> tuple[str, str | None]:
        """The ID token, and the refresh token if one came."""
        try:
            async with self._client(metadata, redirect_uri) as client:
                token = await client.fetch_token(metadata.token_endpoint, **how)
        except OAuthError as error:
            if how["grant_type"] == "refresh_token" and error.error == "invalid_grant":
                raise LoginOver(
                    "The identity provider lets this login in no more.", "Log in again."
                ) from None
            raise LoginError(
                f"The identity provider did not honour the code ({_plain(error.error)})."
            ) from None
        except (httpx2.HTTPError, ValueError):
            raise LoginError("The identity provider could not be reached to finish the login.") from None
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise LoginError("The identity provider gave no ID token.")
        renewal = token.get("refresh_token")
        return id_token, renewal if isinstance(renewal, str) else None

    async def logout(self, token: str) -> LogoutToken:
        """A verified logout token (Back-Channel Logout 1.0 section 2.6). That it comes once is the
        caller's.
        """
        found = await self._signed(token, "logout token")
        if str(found.header.get("typ", "logout+jwt")).lower() not in {"logout+jwt", "jwt"}:
            raise LoginError("The logout token is of another kind.")
        claims = self._checked(found.claims, "logout token", jti={"essential": True})
        events, sid, sub = claims.get("events"), claims.get("sid"), claims.get("sub")
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
            raise LoginError("The logout token tells of no logout.")
        if "nonce" in claims:
            raise LoginError("The logout token is an ID token.")
        if not isinstance(sub or sid, str) or not all(isinstance(it, str | None) for it in (sub, sid)):
            raise LoginError("The logout token does not say whose logins end.")
        until = datetime.fromtimestamp(claims["exp"], UTC) + timedelta(seconds=LEEWAY)
        return LogoutToken(str(claims["jti"]), sub or "", sid or "", until)

    async def _verify(self, id_token: str, nonce: str | None) -> Mapping[str, Any]:
        """The claims; without a `nonce` those of a token that was renewed."""
        found = await self._signed(id_token, "ID token")
        more: dict[str, Any] = {"sub": {"essential": True}}
        if nonce is not None:
            more["nonce"] = {"essential": True, "value": nonce}
        claims = self._checked(found.claims, "ID token", **more)
        audience = claims["aud"]
        others = isinstance(audience, list) and len(audience) > 1
        if (others or "azp" in claims) and claims.get("azp") != self._client_id:
            raise LoginError("The ID token was issued to another application.")
        return claims

    async def _signed(self, token: str, what: str) -> jwt.Token:
        try:
            return jwt.decode(token, await self._key_set(), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            # The provider may have rotated its keys since they were read: look once more, not more often.
            try:
                return jwt.decode(token, await self._key_set(again=True), algorithms=list(ALGORITHMS))
            except (JoseError, ValueError):
                raise LoginError(f"The {what} is not signed by a key of the identity provider.") from None

    def _checked(self, claims: dict[str, Any], what: str, **more: Any) -> dict[str, Any]:
        """The claims, where they are of this provider, for us and of now."""
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
            **more,
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise LoginError(f"The {what} does not hold: {_plain(str(error))}.") from None
        return claims

    async def _key_set(self, *, again: bool = False) -> KeySet:
        metadata = await self.metadata()
        async with self._lock:
            now = self._clock.monotonic()
            age = now - self._keys[0] if self._keys else _KEEP_METADATA + 1
            if age > _KEEP_METADATA or (again and age > _KEEP_KEYS_AT_LEAST):
                try:
                    self._keys = (now, KeySet.import_key_set(cast(Any, await self._get(metadata.jwks_uri))))
                except (JoseError, ValueError, KeyError, TypeError):
                    raise LoginError("The identity provider's keys cannot be read.") from None
            assert self._keys is not None
            return self._keys[1]

    async def _get(self, address: str) -> Mapping[str, Any]:
        try:
            answer = await self._http.get(address, headers={"Accept": "application/json"})
            answer.raise_for_status()
            if len(answer.content) > _ANSWER_LIMIT:
                raise ValueError("too long")
            document = answer.json()
        except (httpx2.HTTPError, ValueError):
            raise LoginError("The identity provider cannot be reached.", "Try again in a minute.") from None
        if not isinstance(document, dict):
            raise LoginError("The identity provider answered in a form that cannot be read.")
        return document


def _read_metadata(issuer: str, document: Mapping[str, Any]) -> Metadata:
    if document.get("issuer") != issuer:
        raise LoginError(
            "The identity provider names itself differently than configured.", "Check the issuer."
        )
    addresses = [document.get(n) for n in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if not all(isinstance(address, str) and _acceptable(address) for address in addresses):
        raise LoginError("The identity provider's addresses are missing or not https.", "Check the issuer.")
    authorization, token, jwks = cast(list[str], addresses)
    challenges = document.get("code_challenge_methods_supported")
    if isinstance(challenges, list) and "S256" not in challenges:
        raise LoginError("The identity provider does not know PKCE with S256.", "Switch it on there.")
    # Discovery 1.0 section 3: client_secret_basic where nothing is said.
    methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    return Metadata(
        issuer=issuer,
        authorization_endpoint=authorization,
        token_endpoint=token,
        jwks_uri=jwks,
        token_auth_method="client_secret_basic" if "client_secret_basic" in methods else "client_secret_post",
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _acceptable(address: str) -> bool:
    """Whether an address may carry a login: https, or plain http that does not leave this machine."""
    try:
        parts = urlsplit(address)
        return parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
        )
    except ValueError:
        return False


def _plain(text: str) -> str:
    """Text from outside, made harmless for a message."""
    return "".join(c for c in str(text) if c.isalnum() or c in " _-.,:'")[:120].strip().rstrip(".")
