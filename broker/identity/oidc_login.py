"""A login at an OpenID Connect provider: from its verified claims to who it is and in which groups.

The recipes for Okta (a claim), Microsoft Entra ID (a claim, app roles, or Graph where there are too many
groups for a token) and Google (the Directory API, since its tokens hold no groups) meet here.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import httpx2
import msgspec

from broker.clock import Chance, Clock
from broker.config import OidcSettings
from broker.identity.answer import Identity, LoginError, Logout, Sent, origin_of
from broker.identity.groups_entra import EntraGroups, overage
from broker.identity.groups_google import GoogleGroups
from broker.identity.kept import Keep
from broker.identity.oidc import Begun, OidcProvider, Told
from broker.trust import system_trust

MOST_GROUPS = 5000


class OidcLogin:
    def __init__(
        self,
        settings: OidcSettings,
        keep: Keep,
        clock: Clock,
        chance: Chance,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            secret = settings.client_secret.read() if settings.client_secret else ""
        except LookupError as error:
            raise LoginError(f"{settings.title} is not set up: {error}.") from None
        self.settings = settings
        self._keep = keep
        self._clock = clock
        verify = ssl.create_default_context(cadata=settings.ca) if settings.ca else None
        self.provider = OidcProvider(
            settings.issuer,
            settings.client_id,
            secret,
            clock=clock,
            chance=chance,
            scopes=settings.scopes,
            transport=transport,
            verify=verify,
        )
        self._http = httpx2.AsyncClient(timeout=10, transport=transport, verify=verify or system_trust())
        self._entra = EntraGroups(settings, secret, self._http)
        self._google = GoogleGroups(settings, self._http, clock)

    async def aclose(self) -> None:
        await self.provider.aclose()
        await self._http.aclose()

    async def begin(self, callback: str) -> Sent:
        address, begun = await self.provider.begin(callback)
        return Sent(address, msgspec.json.encode(begun).decode())

    async def finish(self, begun: str, answer: Mapping[str, str]) -> Identity:
        return await self._identity(
            await self.provider.redeem(msgspec.json.decode(begun, type=Begun), answer)
        )

    async def renew(self, renewal: str) -> Identity:
        """Who a login is of now, and in which groups. Raises LoginOver where it stands no more."""
        return await self._identity(await self.provider.renew(renewal))

    async def _identity(self, told: Told) -> Identity:
        claims = told.claims
        email = self._email(claims)
        return Identity(
            issuer=self.settings.issuer,
            subject=self._subject(claims),
            email=email,
            name=self._name(claims, email),
            groups=await self._groups(claims, email),
            session=_text(claims.get("sid")),
            renewal=told.renewal if self.settings.check_every else None,
        )

    async def logged_out(self, token: str) -> Logout:
        """Whose logins end, by a logout token that is good and comes for the first time. Raises
        LoginError.
        """
        said = await self.provider.logout(token)
        if not await self._keep.first_time(f"logout {self.settings.issuer} {said.jti}", said.until):
            raise LoginError("This logout token was used before.")
        if said.sid:
            return Logout(self.settings.issuer, origin=origin_of(self.settings.issuer, said.sid))
        if self.settings.subject != "sub":
            raise LoginError("The logout token does not say which login ends.")
        return Logout(self.settings.issuer, subject=said.sub)

    def logged_out_in_front(self, issuer: str, sid: str) -> Logout:
        """The same, told through the browser. It takes the name of the login there, which is not to guess."""
        if issuer != self.settings.issuer or not sid:
            raise LoginError("The identity provider did not say which login ends.")
        return Logout(issuer, origin=origin_of(issuer, sid))

    async def groups_of(self, subject: str, email: str) -> tuple[str, ...] | None:
        source = self.settings.groups
        if source is None:
            return None
        if source.look_up == "google":
            return await self._google.of(email)
        if source.look_up == "entra" and self.settings.subject == "oid":
            return await self._entra.of(subject, self._token_endpoint)
        return None

    async def _token_endpoint(self) -> str:
        return (await self.provider.metadata()).token_endpoint

    def _subject(self, claims: Mapping[str, Any]) -> str:
        """What names the account for good: `sub`, or another claim that the provider never gives anew."""
        subject = _text(claims.get(self.settings.subject))
        if not subject:
            raise LoginError(f"The identity provider did not tell {self.settings.subject}.")
        return subject

    def _email(self, claims: Mapping[str, Any]) -> str:
        """An address that counts: verified, by the standard claim or by Entra's (xms_edov), or trusted."""
        email = _text(claims.get("email"))
        edov = claims.get("xms_edov")
        verified = claims.get("email_verified") is True or edov is True or edov in (1, "1", "true")
        return email if verified or self.settings.trust_email else ""

    def _name(self, claims: Mapping[str, Any], email: str) -> str:
        return email if self.settings.match == "email" else _text(claims.get(self.settings.match))

    async def _groups(self, claims: Mapping[str, Any], email: str) -> tuple[str, ...] | None:
        source = self.settings.groups
        if source is None:
            return None
        if source.look_up == "google":
            return await self._google.of(email or _text(claims.get("email")))
        if overage(claims, source.claim):
            if source.look_up != "entra":
                raise LoginError(
                    "You are in more groups than the identity provider puts into its token.",
                    "Whoever keeps the policy has them looked up: groups: {look_up: entra}.",
                )
            return await self._entra.of(_text(claims.get("oid")), self._token_endpoint)
        return _listed(claims.get(source.claim), source.claim)


def _listed(told: Any, claim: str) -> tuple[str, ...]:
    """The groups of a claim. No claim is no groups: Okta and Entra leave it out where nothing fits."""
    if told is None:
        return ()
    names = [told] if isinstance(told, str) else told
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LoginError(f"The identity provider told your groups in a form that cannot be read ({claim}).")
    if len(names) > MOST_GROUPS:
        raise LoginError(f"The identity provider told more than {MOST_GROUPS} groups.")
    return tuple(names)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
