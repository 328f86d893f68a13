"""The identity providers that people log in at: those of the file, and the one that the environment names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httpx2

from broker.clock import Chance, Clock
from broker.config import OidcSettings, SamlSettings, SecretGiven
from broker.identity.answer import Identity, LoginError, Sent
from broker.identity.kept import Keep
from broker.identity.oidc_login import OidcLogin
from broker.identity.people import DEFAULT, AnyProvider, People
from broker.identity.saml import SamlLogin
from broker.settings import Settings


class Provider(Protocol):
    """One identity provider, whatever its protocol. Every failure is a LoginError."""

    async def begin(self, callback: str) -> Sent:
        """Start a login: where to send the browser, and what to keep for `finish`."""
        ...

    async def finish(self, begun: str, answer: Mapping[str, str]) -> Identity:
        """Who the provider says has come, verified against what this login began."""
        ...

    async def groups_of(self, subject: str, email: str) -> tuple[str, ...] | None:
        """Somebody's groups now, asked of the provider; None where it cannot be asked without them."""
        ...

    async def aclose(self) -> None: ...


class Providers:
    """Those of the configuration at this moment. One whose settings changed is made anew."""

    def __init__(
        self,
        people: People,
        clock: Clock,
        chance: Chance,
        keep: Keep,
        public_url: str,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._people = people
        self._clock = clock
        self._chance = chance
        self._keep = keep
        self.public_url = public_url
        self._transport = transport
        self._made: dict[str, tuple[AnyProvider, OidcLogin | SamlLogin]] = {}
        self._former: list[OidcLogin | SamlLogin] = []

    async def aclose(self) -> None:
        for one in [*self._former, *(made for _, made in self._made.values())]:
            await one.aclose()

    def every(self) -> list[AnyProvider]:
        return list(self._people().providers.values())

    def settings(self, name: str) -> AnyProvider:
        """Raises LoginError where there is none of this name."""
        found = self._people().providers.get(name)
        if found is None:
            raise LoginError("There is no such identity provider here.", "Start again: log in.")
        return found

    def of_email(self, email: str) -> AnyProvider | None:
        """Who speaks for the domain of this address; nothing is said of whether it is anybody's."""
        domain = email.strip().rpartition("@")[2].casefold()
        return next((one for one in self.every() if domain and domain in one.domains), None)

    def oidc(self, name: str) -> OidcLogin:
        found = self[name]
        if not isinstance(found, OidcLogin):
            raise LoginError("That identity provider does not speak OpenID Connect.")
        return found

    def saml(self, name: str) -> SamlLogin:
        found = self[name]
        if not isinstance(found, SamlLogin):
            raise LoginError("That identity provider does not speak SAML.")
        return found

    def callback(self, name: str) -> str:
        """Where the provider sends the browser back. Each has its own, so that no answer passes for
        another's (RFC 9700 section 4.4.2).
        """
        if isinstance(self.settings(name), SamlSettings):
            return f"{self.public_url}/auth/saml/{name}/acs"
        return f"{self.public_url}/auth/callback" + ("" if name == DEFAULT else f"/{name}")

    def __getitem__(self, name: str) -> OidcLogin | SamlLogin:
        settings = self.settings(name)
        kept = self._made.get(name)
        if kept is not None and kept[0] == settings:
            return kept[1]
        made = self._make(settings)
        if kept is not None:
            self._former.append(kept[1])
        self._made[name] = (settings, made)
        return made

    def _make(self, settings: AnyProvider) -> OidcLogin | SamlLogin:
        if isinstance(settings, SamlSettings):
            return SamlLogin(settings, self.public_url, self._keep, self._clock, self._chance)
        return OidcLogin(settings, self._keep, self._clock, self._chance, transport=self._transport)


def from_environment(settings: Settings) -> OidcSettings | None:
    """The provider that PORTCULLIS_OIDC_… names; None where they name none."""
    if not settings.oidc_issuer:
        return None
    claim, secret = settings.oidc_claim, settings.oidc_client_secret.get_secret_value()
    return OidcSettings(
        name=DEFAULT,
        title="the identity provider",
        match=claim,
        against="email" if claim == "email" else "id",
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=SecretGiven(secret) if secret else None,
    )
