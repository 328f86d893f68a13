"""The broker as an OpenID Connect relying party: authorization code flow with PKCE, state and nonce.

Sources: OpenID Connect Core 1.0 section 3.1, Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (issuer in the answer),
RFC 9700 (security best practice). The flow is authlib's, the verification of the ID token joserfc's.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from broker.clock import Chance, Clock
from workflows.model import Principal

ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA", "RS512", "ES384")
"""Signature algorithms an ID token may use: asymmetric ones only, so that a client secret is never a key."""

LEEWAY = 30
"""Seconds of clock skew tolerated between the provider and the broker."""

_KEEP_METADATA = 3600.0
_KEEP_KEYS_AT_LEAST = 30.0
_ANSWER_LIMIT = 512 * 1024


class OidcError(Exception):
    """A login that did not succeed. `why` and `way_out` are for the person who tried, without secrets."""

    def __init__(
        self, why: str, way_out: str = "Start again; if it stays so, tell whoever runs this."
    ) -> None:
        super().__init__(f"{why} {way_out}")
        self.why = why
        self.way_out = way_out


@dataclass(frozen=True, slots=True)
class Begun:
    """A login on its way to the provider. Kept on the server side until the answer comes; used once."""

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


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
        self._http = httpx2.AsyncClient(timeout=10, transport=transport)
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
        """Redeem the provider's answer (the query of the callback) for verified ID-token claims.

        Raises OidcError where the answer, the exchange or the token is not what this login began.
        """
        metadata = await self.metadata()
        if not hmac.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise OidcError("The answer belongs to another login.")
        if metadata.names_issuer and answer.get("iss") != metadata.issuer:
            raise OidcError("The answer does not name the identity provider that was asked.")
        if "error" in answer:
            raise OidcError(f"The identity provider said no ({_plain(answer['error'])}).")
        if not answer.get("code"):
            raise OidcError("The identity provider answered without a code.")
        return await self._verify(await self._exchange(metadata, begun, answer["code"]), begun.nonce)

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
        )

    async def _exchange(self, metadata: Metadata, begun: Begun, code: str) -> str:
        try:
            async with self._client(metadata, begun.redirect_uri) as client:
                token = await client.fetch_token(
                    metadata.token_endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=begun.verifier,
                )
        except OAuthError as error:
            raise OidcError(
                f"The identity provider did not honour the code ({_plain(error.error)})."
            ) from None
        except (httpx2.HTTPError, ValueError):
            raise OidcError("The identity provider could not be reached to finish the login.") from None
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise OidcError("The identity provider gave no ID token.")
        return id_token

    async def _verify(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        try:
            token = jwt.decode(id_token, await self._key_set(), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            # The provider may have rotated its keys since they were read: look once more, not more often.
            try:
                token = jwt.decode(id_token, await self._key_set(again=True), algorithms=list(ALGORITHMS))
            except (JoseError, ValueError):
                raise OidcError("The ID token is not signed by a key of the identity provider.") from None
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(token.claims)
        except JoseError as error:
            raise OidcError(f"The ID token does not hold: {_plain(str(error))}.") from None
        audience = token.claims["aud"]
        others = isinstance(audience, list) and len(audience) > 1
        if (others or "azp" in token.claims) and token.claims.get("azp") != self._client_id:
            raise OidcError("The ID token was issued to another application.")
        return token.claims

    async def _key_set(self, *, again: bool = False) -> KeySet:
        metadata = await self.metadata()
        async with self._lock:
            now = self._clock.monotonic()
            age = now - self._keys[0] if self._keys else _KEEP_METADATA + 1
            if age > _KEEP_METADATA or (again and age > _KEEP_KEYS_AT_LEAST):
                try:
                    self._keys = (now, KeySet.import_key_set(cast(Any, await self._get(metadata.jwks_uri))))
                except (JoseError, ValueError, KeyError, TypeError):
                    raise OidcError("The identity provider's keys cannot be read.") from None
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
            raise OidcError("The identity provider cannot be reached.", "Try again in a minute.") from None
        if not isinstance(document, dict):
            raise OidcError("The identity provider answered in a form that cannot be read.")
        return document


def person_of(claims: Mapping[str, Any], people: Iterable[Principal], claim: str = "email") -> Principal:
    """The active principal that these verified claims are about.

    `claim` is the one that is matched: "email" against the people's e-mail addresses, and only where the
    provider says it has verified it; any other (such as "sub" or "preferred_username") against their ids.
    Raises OidcError when nobody, or more than one, fits.
    """
    value = claims.get(claim)
    if not isinstance(value, str) or not value:
        raise OidcError(f"The identity provider did not tell your {claim}.")
    if claim == "email":
        if claims.get("email_verified") is not True:
            raise OidcError(
                "Your e-mail address is not verified at the identity provider.", "Verify it there."
            )
        found = [person for person in people if person.email.casefold() == value.casefold()]
    else:
        found = [person for person in people if person.id == value]
    if len(found) != 1 or not found[0].active:
        raise OidcError(
            "You are known to the identity provider, but not here.",
            "Ask whoever keeps the access policy to add you.",
        )
    return found[0]


def _read_metadata(issuer: str, document: Mapping[str, Any]) -> Metadata:
    if document.get("issuer") != issuer:
        raise OidcError(
            "The identity provider names itself differently than configured.", "Check the issuer."
        )
    addresses = [document.get(n) for n in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if not all(isinstance(address, str) and _acceptable(address) for address in addresses):
        raise OidcError("The identity provider's addresses are missing or not https.", "Check the issuer.")
    authorization, token, jwks = cast(list[str], addresses)
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
