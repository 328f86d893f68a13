"""Whose account at a provider it is: decided once, by its subject from then on, never by an address alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from broker.config import Config, GroupSource, OidcSettings, SamlSettings
from broker.identity.answer import Identity, LoginError
from broker.identity.bindings import Bindings
from broker.identity.directory import Person
from broker.identity.people import AnyProvider, People, outdated
from broker.store.engine import Store
from broker.store.tables import audit

OKTA = OidcSettings("okta", "Okta", frozenset({"example.com"}), issuer="https://example.okta.com")
GUESTS = SamlSettings("guests", "Guests", frozenset({"partner.example"}), entity="https://partner.example")
ADA_AT_OKTA = Identity("https://example.okta.com", "00u1", "ada@example.com", "ada@example.com")


class House:
    """A configuration that a test changes, and what is made of it."""

    def __init__(self, store: Store, clock: Any, config: Config, *providers: AnyProvider) -> None:
        self.config = replace(config, providers={one.name: one for one in providers})
        self.people = People(store, lambda: self.config, clock)
        self.bindings = Bindings(store, self.people, clock)

    async def comes(self, provider: AnyProvider, identity: Identity) -> str:
        return (await self.bindings.person(provider, identity)).id

    def has(self, name: str, **more: Any) -> None:
        """Put somebody into the file, or change them there."""
        directory: Any = self.config.directory
        people = dict(directory.people)
        known = people.get(name, Person(replace(people["ada"].principal, id=name)))
        account = {key: more.pop(key) for key in ("provider", "subject") if key in more}
        people[name] = replace(known, principal=replace(known.principal, **more), **account)
        self.config = replace(self.config, directory=replace(directory, people=people))


@pytest.fixture
def house(store: Store, clock: Any, config: Config) -> Callable[..., House]:
    return lambda *providers: House(store, clock, config, *providers)


async def test_the_first_login_binds_and_the_next_is_by_subject(house: Any, store: Store) -> None:
    it: House = house(OKTA)
    assert await it.comes(OKTA, ADA_AT_OKTA) == "ada"
    renamed = Identity(ADA_AT_OKTA.issuer, "00u1", "lovelace@example.com", "lovelace@example.com")
    assert await it.comes(OKTA, renamed) == "ada", "an address that changes there changes nobody"
    async with store.read() as tx:
        kinds = [row.kind for row in await tx.execute(select(audit))]
    assert kinds == ["identity.bound"]


async def test_an_address_that_is_given_to_somebody_else_is_not_its_former_owner(house: Any) -> None:
    it: House = house(OKTA)
    await it.comes(OKTA, ADA_AT_OKTA)
    with pytest.raises(LoginError, match="another account"):
        await it.comes(OKTA, Identity(ADA_AT_OKTA.issuer, "00u2", "ada@example.com", "ada@example.com"))


async def test_a_subject_of_one_provider_is_nobody_at_another(house: Any) -> None:
    it: House = house(OKTA, GUESTS)
    await it.comes(OKTA, ADA_AT_OKTA)
    with pytest.raises(LoginError, match="not here"):
        await it.comes(GUESTS, Identity(GUESTS.entity, "00u1", "x@partner.example", "x@partner.example"))


async def test_a_provider_cannot_speak_for_the_people_of_another(house: Any) -> None:
    it: House = house(OKTA, GUESTS)
    with pytest.raises(LoginError, match="not here"):
        await it.comes(GUESTS, Identity(GUESTS.entity, "x", "ada@example.com", "ada@example.com"))
    it.has("ada", provider="guests")
    with pytest.raises(LoginError, match="not here"):
        await it.comes(OKTA, ADA_AT_OKTA)
    assert await it.comes(GUESTS, Identity(GUESTS.entity, "x", "ada@example.com", "ada@example.com")) == "ada"


async def test_an_answer_in_the_name_of_another_provider_is_refused(house: Any) -> None:
    it: House = house(OKTA, GUESTS)
    with pytest.raises(LoginError, match="another identity provider"):
        await it.comes(GUESTS, ADA_AT_OKTA)


async def test_an_account_that_the_file_names_is_the_only_one(house: Any) -> None:
    it: House = house(OKTA)
    it.has("ada", provider="okta", subject="00u9")
    with pytest.raises(LoginError, match="not here"):
        await it.comes(OKTA, ADA_AT_OKTA)
    assert await it.comes(OKTA, Identity(OKTA.issuer, "00u9")) == "ada", "it needs no address"


async def test_who_is_not_in_the_file_or_not_active_is_nobody(house: Any) -> None:
    it: House = house(OKTA)
    with pytest.raises(LoginError, match="not here"):
        await it.comes(OKTA, Identity(OKTA.issuer, "7", "eve@example.com", "eve@example.com"))
    await it.comes(OKTA, ADA_AT_OKTA)
    it.has("ada", active=False)
    with pytest.raises(LoginError, match="not here"):
        await it.comes(OKTA, ADA_AT_OKTA)


async def test_two_people_with_one_address_are_nobody(house: Any) -> None:
    it: House = house(OKTA)
    it.has("ada2", email="ADA@example.com")
    with pytest.raises(LoginError, match="not here"):
        await it.comes(OKTA, ADA_AT_OKTA)


async def test_an_address_that_nobody_vouches_for_is_nobody(house: Any) -> None:
    it: House = house(OKTA)
    with pytest.raises(LoginError, match="not verified"):
        await it.comes(OKTA, Identity(OKTA.issuer, "00u1"))


async def test_addresses_are_compared_without_case(house: Any) -> None:
    it: House = house(OKTA)
    assert await it.comes(OKTA, Identity(OKTA.issuer, "1", "Ada@Example.com", "Ada@Example.com")) == "ada"


async def test_another_claim_is_matched_against_the_ids(house: Any) -> None:
    by_name = replace(OKTA, match="preferred_username", against="id")
    it: House = house(by_name)
    assert await it.comes(by_name, Identity(OKTA.issuer, "1", "", "grace")) == "grace"
    with pytest.raises(LoginError):
        await it.comes(by_name, Identity(OKTA.issuer, "2", "", "Ada"))


async def test_an_account_that_was_made_anew_comes_in_once_the_old_one_is_released(house: Any) -> None:
    it: House = house(OKTA)
    await it.comes(OKTA, ADA_AT_OKTA)
    assert await it.bindings.unbind("ada", actor="sam", via="cli")
    assert not await it.bindings.unbind("ada", actor="sam", via="cli")
    anew = Identity(OKTA.issuer, "00u2", "ada@example.com", "ada@example.com")
    assert await it.comes(OKTA, anew) == "ada"
    with pytest.raises(LoginError, match="another account"):
        await it.comes(OKTA, ADA_AT_OKTA)


async def test_a_house_that_changes_its_provider_binds_its_people_anew(house: Any) -> None:
    it: House = house(OKTA)
    await it.comes(OKTA, ADA_AT_OKTA)
    entra = OidcSettings("entra", "Entra", frozenset({"example.com"}), issuer="https://login.example/t/v2.0")
    it.config = replace(it.config, providers={"entra": entra})
    assert await it.comes(entra, Identity(entra.issuer, "oid", "ada@example.com", "ada@example.com")) == "ada"


# ------------------------------------------------------------------ groups

SOURCE = GroupSource("groups", {"prod-dba": "dba", "everyone": "engineers"}, max_age=timedelta(hours=12))


def groups_of(it: House, name: str) -> set[str]:
    person = it.people().directory.principal(name)
    return set(person.groups) if person else set()


async def test_only_groups_that_the_file_names_give_anything(house: Any) -> None:
    okta = replace(OKTA, groups=SOURCE)
    it: House = house(okta)
    zoe = Identity(OKTA.issuer, "z", "zoe@example.com", "zoe@example.com", ("prod-dba", "security", "dba"))
    await it.comes(okta, zoe)
    assert groups_of(it, "zoe") == {"dba"}
    assert it.people().directory.everyone()["zoe"].groups == {"dba"}


async def test_what_the_provider_takes_away_is_gone_with_the_next_login(house: Any) -> None:
    okta = replace(OKTA, groups=SOURCE)
    it: House = house(okta)
    zoe = Identity(OKTA.issuer, "z", "zoe@example.com", "zoe@example.com", ("prod-dba",))
    await it.comes(okta, zoe)
    await it.comes(okta, Identity(OKTA.issuer, "z", groups=()))
    assert groups_of(it, "zoe") == set()


async def test_groups_count_until_they_are_too_old(house: Any, clock: Any) -> None:
    okta = replace(OKTA, groups=SOURCE)
    it: House = house(okta)
    await it.comes(okta, Identity(OKTA.issuer, "z", "zoe@example.com", "zoe@example.com", ("prod-dba",)))
    clock.advance(hours=11, minutes=59)
    assert groups_of(it, "zoe") == {"dba"}
    assert outdated(it.people(), "zoe", clock) is None
    clock.advance(minutes=1)
    assert groups_of(it, "zoe") == set()
    told = outdated(it.people(), "zoe", clock)
    assert told is not None
    assert (told.code, told.way_out) == ("groups-too-old", "Log in again: access login.")


async def test_groups_of_a_provider_that_no_longer_speaks_for_somebody_do_not_count(house: Any) -> None:
    okta = replace(OKTA, groups=SOURCE)
    it: House = house(okta, GUESTS)
    await it.comes(okta, Identity(OKTA.issuer, "z", "zoe@example.com", "zoe@example.com", ("prod-dba",)))
    assert groups_of(it, "zoe") == {"dba"}
    it.has("zoe", provider="guests")
    assert groups_of(it, "zoe") == set()


async def test_another_broker_sees_what_this_one_heard(
    house: Any, store: Store, clock: Any, config: Config
) -> None:
    okta = replace(OKTA, groups=SOURCE)
    it, other = house(okta), House(store, clock, config, okta)
    await other.people.refresh()
    await it.comes(okta, Identity(OKTA.issuer, "z", "zoe@example.com", "zoe@example.com", ("prod-dba",)))
    await other.people.refresh()
    assert groups_of(other, "zoe") == {"dba"}
