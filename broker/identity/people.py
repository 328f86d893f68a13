"""Everybody as the file and the identity providers know them at this moment.

The directory of the configuration, and over it the groups that each one's provider told last: for as long as
the file says that they count, and never from a provider that does not speak for that person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from broker.clock import Clock
from broker.config import Config, GroupSource, OidcSettings, ProviderSettings, SamlSettings
from broker.identity.directory import Directory
from broker.store import identities
from broker.store.engine import Store
from broker.store.identities import Binding
from workflows.model import Principal, Refusal

AnyProvider = OidcSettings | SamlSettings
DEFAULT = "login"
"""The name of the provider that the environment names."""


def issuer_of(provider: AnyProvider) -> str:
    """How the provider calls itself: what its accounts are bound to, however the file names it."""
    return provider.issuer if isinstance(provider, OidcSettings) else provider.entity


def speaks_for(provider: ProviderSettings, person: Principal, directory: Directory, alone: bool) -> bool:
    """Whether a provider may say that somebody is this person: where the file names their provider, that one;
    else the one whose domain their address has; a provider without domains only where it is `alone`.
    """
    named, _ = directory.account(person.id)
    if named:
        return named == provider.name
    if provider.domains:
        return person.email.rpartition("@")[2].casefold() in provider.domains
    return alone


@dataclass(frozen=True, slots=True)
class Known:
    """A binding that holds, with the provider whose it is."""

    binding: Binding
    provider: AnyProvider
    source: GroupSource

    def age(self, clock: Clock) -> timedelta | None:
        """How old what is known of the groups is; None where the provider has told none."""
        at = self.binding.groups_at
        return clock.now() - at if at is not None and self.binding.groups is not None else None

    def too_old(self, clock: Clock) -> bool:
        age = self.age(clock)
        return age is None or age >= self.source.max_age

    def groups(self, clock: Clock) -> frozenset[str]:
        """Those of our groups that count now."""
        if self.too_old(clock):
            return frozenset()
        told = self.binding.groups or ()
        return frozenset(self.source.names[name] for name in told if name in self.source.names)


@dataclass(frozen=True)
class LiveDirectory:
    """A directory with the groups that identity providers told. `known` is by principal."""

    base: Directory
    known: Mapping[str, Known] = field(repr=False)
    clock: Clock

    def principal(self, principal_id: str) -> Principal | None:
        person = self.base.principal(principal_id)
        return self._with_groups(person) if person else None

    def everyone(self) -> Mapping[str, Principal]:
        return {key: self._with_groups(person) for key, person in self.base.everyone().items()}

    def of_email(self, email: str) -> Principal | None:
        person = self.base.of_email(email)
        return self._with_groups(person) if person else None

    def of_slack(self, team: str, user: str) -> Principal | None:
        person = self.base.of_slack(team, user)
        return self._with_groups(person) if person else None

    def slack_user(self, principal_id: str) -> str | None:
        return self.base.slack_user(principal_id)

    def timezone(self, principal_id: str) -> str:
        return self.base.timezone(principal_id)

    def account(self, principal_id: str) -> tuple[str, str]:
        return self.base.account(principal_id)

    def _with_groups(self, person: Principal) -> Principal:
        known = self.known.get(person.id)
        told = known.groups(self.clock) if known else frozenset[str]()
        return replace(person, groups=person.groups | told) if told - person.groups else person


class People:
    """Call it for the configuration with everybody as they are known; `refresh` reads what other brokers
    wrote.

    `default` is the provider that the environment names, beside those of the file.
    """

    def __init__(
        self,
        store: Store,
        config: Callable[[], Config],
        clock: Clock,
        default: OidcSettings | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._default = default
        self._state = ""
        self._bindings: tuple[Binding, ...] = ()
        self._made: tuple[Config, tuple[Binding, ...], Config] | None = None

    def __call__(self) -> Config:
        return self.over(self._config())

    def over(self, config: Config) -> Config:
        """A configuration with these groups in it, made once for each state of the two."""
        made = self._made
        if made is None or made[0] is not config or made[1] is not self._bindings:
            made = (config, self._bindings, self._compose(config))
            self._made = made
        return made[2]

    def binding(self, principal: str) -> tuple[Binding | None, AnyProvider | None]:
        """The account that somebody logs in with, and its provider; None where that is not known here any
        more.
        """
        found = next((one for one in self._bindings if one.principal == principal), None)
        if found is None:
            return None, None
        every = self().providers.values()
        return found, next((one for one in every if issuer_of(one) == found.issuer), None)

    async def refresh(self) -> None:
        """See what has changed since the last look: one short read where nothing has."""
        async with self._store.read() as tx:
            state = await identities.state(tx)
            if state != self._state:
                self._bindings = tuple(await identities.every(tx))
                self._state = state

    def _compose(self, config: Config) -> Config:
        providers = dict(config.providers)
        if self._default is not None:
            providers.setdefault(self._default.name, self._default)
        by_issuer = {issuer_of(provider): provider for provider in providers.values()}
        known: dict[str, Known] = {}
        for binding in self._bindings:
            provider = by_issuer.get(binding.issuer)
            person = config.directory.principal(binding.principal)
            if provider is None or person is None or provider.groups is None:
                continue
            if speaks_for(provider, person, config.directory, len(providers) == 1):
                known[binding.principal] = Known(binding, provider, provider.groups)
        directory = LiveDirectory(config.directory, known, self._clock)
        return replace(config, providers=providers, directory=directory)


def known_of(config: Config, principal: str) -> Known | None:
    """What a provider told of somebody's groups; None where nobody tells any."""
    directory = config.directory
    return directory.known.get(principal) if isinstance(directory, LiveDirectory) else None


def outdated(config: Config, principal: str, clock: Clock, whose: str = "your") -> Refusal | None:
    """Why somebody's groups do not count now, where that is for want of a newer word of their provider."""
    known = known_of(config, principal)
    if known is None or not known.too_old(clock):
        return None
    age = known.age(clock)
    title = known.provider.title
    why = (
        f"{title} has not told {whose} groups yet."
        if age is None
        else f"{title} told {whose} groups {_spell(age)} ago; they count for {_spell(known.source.max_age)}."
    )
    way_out = (
        "Log in again: access login." if whose == "your" else f"{principal} logs in again: access login."
    )
    return Refusal("groups-too-old", why, way_out)


def _spell(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
