"""What is known of people at the moment when it counts: what other brokers heard, and a new word of the
provider's.

Groups that are too old are looked up anew where the provider can be asked. Logins at a provider with
`check_every` count only as long as it has confirmed them: it is asked again by the refresh token of the last
login, and where it says no, all logins of that account end at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from broker.clock import Clock
from broker.config import OidcSettings
from broker.credentials.seal import Seal, SealError
from broker.identity.answer import Identity, LoginError, LoginOver, Logout
from broker.identity.bindings import sealed
from broker.identity.kept import Keep
from broker.identity.people import Known, People, known_of
from broker.identity.providers import Providers
from broker.store import identities
from broker.store.engine import Store
from broker.store.identities import Binding

AFTER_FAILURE = 30.0
"""Seconds for which a provider that did not answer is not asked again about the same person."""

log = structlog.get_logger(__name__)


async def _nothing(_logout: Logout) -> object:
    return None


class Looking:
    """`ended` is told whose logins the provider lets in no more."""

    def __init__(
        self,
        store: Store,
        people: People,
        providers: Providers,
        clock: Clock,
        *,
        seal: Seal | None = None,
        keep: Keep | None = None,
        ended: Callable[[Logout], Awaitable[object]] = _nothing,
    ) -> None:
        self._store = store
        self._people = people
        self._providers = providers
        self._clock = clock
        self._seal = seal
        self._keep = keep
        self._ended = ended
        self._failed: dict[str, float] = {}

    async def again(self, *principals: str) -> None:
        """Make what is known of these people as new as it can be. What stays too old does not count."""
        await self._people.refresh()
        for principal in dict.fromkeys(principals):
            known = known_of(self._people(), principal) if principal else None
            if known is not None and known.too_old(self._clock):
                await self._look_up(principal, known)

    async def stands(self, principal: str) -> bool:
        """Whether the logins of somebody still count: asked of their provider where its last word is too old.

        While it cannot be asked they count for as long again, and then no more.
        """
        binding, provider = self._people.binding(principal)
        if not isinstance(provider, OidcSettings) or provider.check_every is None:
            return True
        every = provider.check_every
        if binding is None or binding.confirmed_at is None:
            return True
        age = self._clock.now() - binding.confirmed_at
        if age < every:
            return True
        if not binding.renewal or self._seal is None:
            return False
        if await self._mine(binding, every):
            renewed = await self._renew(principal, binding, provider.name)
            if renewed is not None:
                return renewed
        return age < 2 * every

    # ----------------------------------------------------------- the inside

    async def _mine(self, binding: Binding, every: timedelta) -> bool:
        """Whether it is for us to ask now: of several brokers, and of several calls at once, one is. A
        refresh token that is used twice would end the login at most providers.
        """
        if self._keep is None:
            return True
        now = self._clock.now()
        slot = int(now.timestamp() // AFTER_FAILURE)
        what = f"renew {binding.issuer} {binding.subject} {binding.confirmed_at} {slot}"
        return await self._keep.first_time(what, now + every)

    async def _renew(self, principal: str, binding: Binding, provider: str) -> bool | None:
        """Whether the provider lets them in still; None where it cannot be asked."""
        assert self._seal is not None
        bound_to = f"renewal {binding.issuer} {binding.subject}"
        try:
            renewal = self._seal.open(binding.renewal, bound_to)
            identity = await self._providers.oidc(provider).renew(renewal)
            if (identity.issuer, identity.subject) != (binding.issuer, binding.subject):
                raise LoginOver("The identity provider told another account.")
        except LoginOver as error:
            log.warning("login over at the provider", principal=principal, why=error.why)
            await self._over(binding)
            return False
        except (LoginError, SealError) as error:
            log.warning("login not confirmed", principal=principal, why=str(error))
            return None
        await self._heard(identity, self._clock.now())
        return True

    async def _heard(self, identity: Identity, now: datetime) -> None:
        async with self._store.write() as tx:
            if identity.groups is not None:
                await identities.know_groups(tx, identity.issuer, identity.subject, identity.groups, now)
            renewal = sealed(self._seal, identity)
            await identities.confirm(tx, identity.issuer, identity.subject, now, renewal)
        await self._people.refresh()

    async def _over(self, binding: Binding) -> None:
        async with self._store.write() as tx:
            await identities.know_groups(tx, binding.issuer, binding.subject, (), self._clock.now())
            at = binding.confirmed_at or binding.bound_at
            await identities.confirm(tx, binding.issuer, binding.subject, at, "")
        await self._people.refresh()
        await self._ended(Logout(binding.issuer, subject=binding.subject))

    async def _look_up(self, principal: str, known: Known) -> None:
        now, binding = self._clock.monotonic(), known.binding
        if now - self._failed.get(principal, now - AFTER_FAILURE) < AFTER_FAILURE:
            return
        try:
            provider = self._providers[known.provider.name]
            groups = await provider.groups_of(binding.subject, binding.email)
        except LoginError as error:
            self._failed[principal] = now
            log.warning("groups not looked up", principal=principal, why=error.why)
            return
        if groups is None:
            if binding.renewal and self._seal is not None and await self._mine(binding, known.source.max_age):
                await self._renew(principal, binding, known.provider.name)
            return
        self._failed.pop(principal, None)
        async with self._store.write() as tx:
            at = self._clock.now()
            await identities.know_groups(tx, binding.issuer, binding.subject, groups, at)
        await self._people.refresh()
