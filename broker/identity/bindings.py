"""Whose account at an identity provider it is: decided at its first login, and from then on by its subject.

An address is only looked at once. Whoever gets it later, at the same provider or at another, is not that
person.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit
from broker.clock import Clock
from broker.config import Config
from broker.credentials.seal import Seal
from broker.identity.answer import Identity, LoginError
from broker.identity.people import AnyProvider, People, issuer_of, speaks_for
from broker.store import identities
from broker.store.engine import Store
from broker.store.identities import Binding
from workflows.model import Principal


class Bindings:
    def __init__(self, store: Store, people: People, clock: Clock, seal: Seal | None = None) -> None:
        """Without a `seal` no refresh token is kept."""
        self._seal = seal
        self._store = store
        self._people = people
        self._clock = clock

    async def person(self, provider: AnyProvider, identity: Identity) -> Principal:
        """Who has come, as `provider` has proved them; what it tells of their groups is kept. Raises
        LoginError.
        """
        if identity.issuer != issuer_of(provider):
            raise LoginError("The answer comes from another identity provider.")
        now = self._clock.now()
        try:
            async with self._store.write() as tx:
                person = await self._settle(tx, provider, identity, now)
                await identities.know_groups(tx, identity.issuer, identity.subject, identity.groups, now)
                renewal = sealed(self._seal, identity)
                await identities.confirm(tx, identity.issuer, identity.subject, now, renewal)
        except IntegrityError:  # two first logins at once
            raise LoginError("Another login for you came at the same time.", "Start again.") from None
        await self._people.refresh()
        return self._people().directory.principal(person.id) or person

    async def unbind(self, principal: str, *, actor: str, via: str) -> bool:
        """Let the next login say anew whose account it is. False where none was bound."""
        async with self._store.write() as tx:
            found = await identities.of_principal(tx, principal)
            if found is None or not await identities.remove(tx, principal):
                return False
            body = {"issuer": found.issuer, "subject": found.subject}
            note = audit.Note("identity.unbound", principal, body)
            await audit.append(tx, [note], at=self._clock.now(), actor=actor, via=via)
        await self._people.refresh()
        return True

    async def _settle(
        self, tx: AsyncConnection, provider: AnyProvider, identity: Identity, now: datetime
    ) -> Principal:
        config = self._people()
        bound = await identities.of_account(tx, identity.issuer, identity.subject)
        if bound is None:
            person = _first(config, provider, identity)
            former = await identities.of_principal(tx, person.id)
            if former is not None:
                await self._replace(tx, config, former, person)
            await self._bind(tx, provider, identity, person, now)
            return person
        found = config.directory.principal(bound.principal)
        if found is None or not _known(found) or not _may(config, provider, found, identity):
            raise _not_here()
        return found

    async def _replace(self, tx: AsyncConnection, config: Config, former: Binding, person: Principal) -> None:
        """A person has one account. Another takes its place only where the former's provider is no more."""
        if any(issuer_of(one) == former.issuer for one in config.providers.values()):
            raise LoginError(
                f"{person.id} logs in with another account at {former.provider}.",
                "If the account was made anew, an administrator releases the old one: "
                f"access unbind {person.id}",
            )
        await identities.remove(tx, person.id)

    async def _bind(
        self,
        tx: AsyncConnection,
        provider: AnyProvider,
        identity: Identity,
        person: Principal,
        now: datetime,
    ) -> None:
        it = Binding(identity.issuer, identity.subject, person.id, provider.name, identity.email, now)
        await identities.add(tx, it)
        body = {"issuer": it.issuer, "subject": it.subject, "email": it.email}
        note = audit.Note("identity.bound", person.id, body)
        await audit.append(tx, [note], at=now, actor=person.id, via="api")


def sealed(seal: Seal | None, identity: Identity) -> str:
    """The refresh token of a login, as it is kept."""
    if seal is None or not identity.renewal:
        return ""
    return seal.close(identity.renewal, f"renewal {identity.issuer} {identity.subject}")


def _not_here() -> LoginError:
    return LoginError(
        "You are known to the identity provider, but not here.",
        "Ask whoever keeps the access policy to add you.",
    )


def _may(config: Config, provider: AnyProvider, person: Principal, identity: Identity) -> bool:
    """Whether this provider speaks for them, and this account is theirs where the file names one."""
    _, subject = config.directory.account(person.id)
    alone = len(config.providers) == 1
    return speaks_for(provider, person, config.directory, alone) and subject in ("", identity.subject)


def _first(config: Config, provider: AnyProvider, identity: Identity) -> Principal:
    """The one active person whom a first login is of."""
    people = [p for p in config.directory.everyone().values() if _may(config, provider, p, identity)]
    named = [p for p in people if config.directory.account(p.id)[1] == identity.subject]
    found = named or [p for p in people if _matches(provider, p, identity)]
    if len(found) != 1 or not _known(found[0]):
        if not identity.name and provider.match == "email" and not named:
            raise LoginError(
                "Your e-mail address is not verified at the identity provider.", "Verify it there."
            )
        raise _not_here()
    return found[0]


def _known(person: Principal) -> bool:
    """Whether somebody is known here; one who is locked is, and is told so by whoever lets people in."""
    return person.active or person.locked


def _matches(provider: AnyProvider, person: Principal, identity: Identity) -> bool:
    if not identity.name:
        return False
    if provider.against == "email":
        return person.email.casefold() == identity.name.casefold()
    return person.id == identity.name
