"""Linking a Slack account: a link that works once, in one browser, after a login of now, for one's own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from broker import audit
from broker.config import Config, SlackSettings
from broker.identity.kept import Keep
from broker.identity.links import Account, Links, Offer
from broker.identity.web import WebSession, WebSessions
from broker.service import Service
from broker.store.engine import Store
from broker.store.links import SlackLink
from broker.store.tables import outbox
from workflows.model import Principal, PrincipalKind, Refusal

TEAM = "T0HOME"
HERS = Account(TEAM, "U1ADA", "Example", "ada", "Ada Lovelace", "ada@example.com")


@pytest.fixture
def policy(config: Config) -> list[Config]:
    """The policy of the moment, in which no person has a Slack account by the file, but for zoe."""
    people = config.directory.people
    bare = {name: replace(known, slack="U0ZOE" if name == "zoe" else "") for name, known in people.items()}
    return [replace(config, directory=replace(config.directory, people=bare, team=TEAM))]


@pytest.fixture
def service(store: Store, clock: Any, chance: Any, policy: list[Config]) -> Service:
    from broker.bus.in_process import InProcessBus

    return Service(store, lambda: policy[0], clock, chance, InProcessBus())


@pytest.fixture
def links(service: Service) -> Links:
    return Links(service)


@pytest.fixture
def web(store: Store, clock: Any, chance: Any) -> WebSessions:
    return WebSessions(Keep(store, clock, chance))


def person(service: Service, name: str) -> Principal:
    found = service.principal(name)
    assert found is not None
    return found


async def linked(
    links: Links, web: WebSessions, service: Service, name: str = "ada", account: Account = HERS
) -> SlackLink | Refusal:
    """The whole way: offered in Slack, a login, a yes."""
    secret = await links.offer(account)
    return await links.confirm(secret, await web.open(name), person(service, name))


async def trail(store: Store, kind: str) -> list[dict[str, Any]]:
    async with store.read() as tx:
        return [json.loads(e.body) for e in await audit.newest(tx, limit=500) if e.kind == kind]


async def told(store: Store) -> list[dict[str, Any]]:
    async with store.read() as tx:
        rows = await tx.execute(
            select(outbox.c.payload).where(outbox.c.kind == "account").order_by(outbox.c.id)
        )
        return [json.loads(row) for row in rows.scalars()]


def changed(policy: list[Config], name: str, **fields: Any) -> None:
    """From now on the directory has this person so."""
    directory = policy[0].directory
    known = directory.people[name]
    new = replace(known, principal=replace(known.principal, **fields))
    policy[0] = replace(policy[0], directory=replace(directory, people={**directory.people, name: new}))


async def test_after_a_login_and_a_yes_the_account_acts_for_the_person(
    links: Links, web: WebSessions, service: Service, store: Store
) -> None:
    assert await service.principal_of_slack(TEAM, "U1ADA") is None
    secret = await links.offer(HERS, "request prod-db 1h")
    made = await links.confirm(secret, await web.open("ada"), person(service, "ada"))
    assert isinstance(made, SlackLink)
    found = await service.principal_of_slack(TEAM, "U1ADA")
    assert found is not None
    assert found.id == "ada"
    assert await service.slack_user("ada") == "U1ADA"
    assert await trail(store, "slack.linked") == [{"team": TEAM, "slack_user": "U1ADA", "how": "login"}]
    assert await told(store) == [
        {"what": "linked", "user": "U1ADA", "principal": "ada", "line": "request prod-db 1h"}
    ]


async def test_accounts_are_told_apart_by_their_workspace(
    links: Links, web: WebSessions, service: Service
) -> None:
    assert isinstance(await linked(links, web, service), SlackLink)
    for team, user in (("T0EVIL", "U1ADA"), ("", "U1ADA"), (TEAM, ""), (TEAM, "u1ada")):
        assert await service.principal_of_slack(team, user) is None


# ------------------------------------------------------------------ the link


async def test_a_link_links_once_however_many_confirm_it_at_once(
    links: Links, web: WebSessions, service: Service, store: Store
) -> None:
    secret, session = await links.offer(HERS), await web.open("ada")
    ada = person(service, "ada")
    done = await asyncio.gather(*(links.confirm(secret, session, ada) for _ in range(4)))
    assert [isinstance(one, SlackLink) for one in done].count(True) == 1
    again = await links.confirm(secret, session, ada)
    assert isinstance(again, Refusal)
    assert again.code == "link-over"
    assert len(await trail(store, "slack.linked")) == 1


async def test_a_link_is_over_after_ten_minutes(
    links: Links, web: WebSessions, service: Service, clock: Any
) -> None:
    secret = await links.offer(HERS)
    clock.advance(minutes=10)
    made = await links.confirm(secret, await web.open("ada"), person(service, "ada"))
    assert isinstance(made, Refusal)
    assert await service.principal_of_slack(TEAM, "U1ADA") is None


async def test_a_newer_link_for_the_same_account_ends_the_older_one(
    links: Links, web: WebSessions, service: Service
) -> None:
    older, newer, session = await links.offer(HERS), await links.offer(HERS), await web.open("ada")
    assert isinstance(await links.confirm(older, session, person(service, "ada")), Refusal)
    assert isinstance(await links.confirm(newer, session, person(service, "ada")), SlackLink)


async def test_a_link_belongs_to_the_browser_that_opened_it_first(
    links: Links, web: WebSessions, service: Service, store: Store
) -> None:
    secret = await links.offer(HERS)
    first, second = await web.open("ada"), await web.open("ada")
    assert isinstance(await links.open(secret, first), Offer)
    assert isinstance(await links.open(secret, second), Refusal)
    assert isinstance(await links.confirm(secret, second, person(service, "ada")), Refusal)
    assert [body["why"] for body in await trail(store, "slack.link_refused")] == [
        "opened in a second browser"
    ] * 2
    assert isinstance(await links.confirm(secret, first, person(service, "ada")), SlackLink)


async def test_a_login_from_before_the_link_does_not_count(
    links: Links, web: WebSessions, service: Service, clock: Any
) -> None:
    """Session fixation: a session that somebody left or planted in this browser links nothing."""
    planted = await web.open("ada")
    clock.advance(seconds=1)
    secret = await links.offer(HERS)
    assert await links.open(secret, planted) is None
    assert isinstance(await links.confirm(secret, planted, person(service, "ada")), Refusal)
    assert isinstance(await links.open(secret, await web.open("ada", planted.secret)), Offer)


async def test_the_offer_of_another_account_is_not_confirmed_with_this_ones_page(
    links: Links, web: WebSessions, service: Service
) -> None:
    """Swapped state: the browser has one link open and sends its yes to another, opened elsewhere."""
    mine, session = await links.offer(HERS), await web.open("ada")
    other = await links.offer(replace_account(user="U1EVIL", email=""))
    assert isinstance(await links.open(mine, session), Offer)
    assert isinstance(await links.open(other, await web.open("bob")), Offer)
    assert isinstance(await links.confirm(other, session, person(service, "ada")), Refusal)
    assert await service.principal_of_slack(TEAM, "U1EVIL") is None


async def test_a_no_ends_the_link_and_stands_in_the_trail(
    links: Links, web: WebSessions, service: Service, store: Store
) -> None:
    secret, session = await links.offer(HERS), await web.open("ada")
    assert await links.decline(secret, session) is None
    assert isinstance(await links.confirm(secret, session, person(service, "ada")), Refusal)
    assert len(await trail(store, "slack.link_declined")) == 1


# ---------------------------------------------------- who may be linked to what


def replace_account(**fields: str) -> Account:
    import msgspec

    return msgspec.structs.replace(HERS, **fields)


async def test_a_forwarded_link_does_not_give_its_sender_the_name_of_whoever_opens_it(
    links: Links, web: WebSessions, service: Service
) -> None:
    """Mallory sends the link for her account to Ada, who logs in and even says yes."""
    hers = replace_account(user="U1MALLORY", email="mallory@example.com")
    made = await linked(links, web, service, "ada", hers)
    assert isinstance(made, Refusal)
    assert made.code == "other-email"
    assert await service.principal_of_slack(TEAM, "U1MALLORY") is None


async def test_the_policy_can_allow_accounts_with_another_address(
    links: Links, web: WebSessions, service: Service, policy: list[Config]
) -> None:
    policy[0] = replace(policy[0], slack=SlackSettings(TEAM, other_email=True))
    made = await linked(links, web, service, "ada", replace_account(email="ada@elsewhere.example"))
    assert isinstance(made, SlackLink)


async def test_an_account_that_is_linked_stays_with_its_person(
    links: Links, web: WebSessions, service: Service, policy: list[Config], store: Store
) -> None:
    policy[0] = replace(policy[0], slack=SlackSettings(TEAM, other_email=True))
    assert isinstance(await linked(links, web, service), SlackLink)
    made = await linked(links, web, service, "bob")
    assert isinstance(made, Refusal)
    assert made.code == "account-taken"
    found = await service.principal_of_slack(TEAM, "U1ADA")
    assert found is not None
    assert found.id == "ada"
    assert (await trail(store, "slack.link_refused"))[0]["code"] == "account-taken"


async def test_one_person_has_one_account_and_is_told_how_to_change_it(
    links: Links, web: WebSessions, service: Service
) -> None:
    assert isinstance(await linked(links, web, service), SlackLink)
    second = replace_account(user="U2ADA")
    made = await linked(links, web, service, account=second)
    assert isinstance(made, Refusal)
    assert made.code == "linked-elsewhere"
    assert isinstance(await links.unlink("ada", actor="ada", via="api"), SlackLink)
    assert isinstance(await linked(links, web, service, account=second), SlackLink)
    assert await service.slack_user("ada") == "U2ADA"


async def test_two_accounts_that_are_linked_at_the_same_moment_make_one_link(
    links: Links, web: WebSessions, service: Service
) -> None:
    session = await web.open("ada")
    secrets = [await links.offer(replace_account(user=f"U{n}ADA")) for n in range(4)]
    ada = person(service, "ada")
    done = await asyncio.gather(*(links.confirm(secret, session, ada) for secret in secrets))
    assert [isinstance(one, SlackLink) for one in done].count(True) == 1


async def test_what_the_policy_file_says_comes_before_any_link(
    links: Links, web: WebSessions, service: Service, policy: list[Config], store: Store
) -> None:
    taken = await linked(links, web, service, "ada", replace_account(user="U0ZOE"))
    named = await linked(links, web, service, "zoe", replace_account(user="U9ZOE", email="zoe@example.com"))
    assert [r.code for r in (taken, named) if isinstance(r, Refusal)] == ["account-taken", "named-by-policy"]
    assert isinstance(await linked(links, web, service), SlackLink)
    directory = policy[0].directory
    ada = replace(directory.people["ada"], slack="U5ADA")
    policy[0] = replace(policy[0], directory=replace(directory, people={**directory.people, "ada": ada}))
    assert await service.principal_of_slack(TEAM, "U1ADA") is None
    assert await service.slack_user("ada") == "U5ADA"
    assert await links.sweep() == 1
    assert "policy file" in (await trail(store, "slack.unlinked"))[0]["why"]


@pytest.mark.parametrize("fields", [{"active": False}, {"kind": PrincipalKind.AGENT}])
async def test_neither_an_agent_nor_somebody_inactive_is_linked(
    links: Links, web: WebSessions, service: Service, policy: list[Config], fields: dict[str, Any]
) -> None:
    changed(policy, "ada", **fields)
    assert isinstance(await linked(links, web, service), Refusal)


async def test_an_account_of_another_workspace_is_not_linked(
    links: Links, web: WebSessions, service: Service, policy: list[Config]
) -> None:
    policy[0] = replace(policy[0], slack=SlackSettings(TEAM))
    made = await linked(links, web, service, account=replace_account(team="T0EVIL"))
    assert isinstance(made, Refusal)


# ------------------------------------------------------------------- the end


@pytest.mark.parametrize("fields", [{"active": False}, {"email": "ada@new.example"}, None])
async def test_who_leaves_or_gets_another_address_is_linked_no_more_at_that_moment(
    links: Links,
    web: WebSessions,
    service: Service,
    policy: list[Config],
    store: Store,
    fields: dict[str, Any] | None,
) -> None:
    assert isinstance(await linked(links, web, service), SlackLink)
    if fields is None:
        directory = policy[0].directory
        others = {name: known for name, known in directory.people.items() if name != "ada"}
        policy[0] = replace(policy[0], directory=replace(directory, people=others))
    else:
        changed(policy, "ada", **fields)
    assert await service.principal_of_slack(TEAM, "U1ADA") is None
    assert await service.slack_users(["ada"]) == {}
    assert await links.sweep() == 1
    assert await links.sweep() == 0
    assert [body["slack_user"] for body in await trail(store, "slack.unlinked")] == ["U1ADA"]
    assert [it["what"] for it in await told(store)] == ["linked", "unlinked"]


@pytest.mark.parametrize(
    ("deleted", "email", "stays"),
    [
        (True, "ada@example.com", False),
        (False, "mallory@example.com", False),
        (False, "ADA@example.com", True),
        (False, "", True),
    ],
)
async def test_what_slack_says_of_an_account_ends_its_link(
    links: Links, web: WebSessions, service: Service, deleted: bool, email: str, stays: bool
) -> None:
    assert isinstance(await linked(links, web, service), SlackLink)
    await links.account_changed(TEAM, "U1ADA", deleted=deleted, email=email)
    await links.account_changed(TEAM, "U0NOBODY", deleted=True, email="")
    assert (await service.principal_of_slack(TEAM, "U1ADA") is not None) is stays


async def test_oneself_and_administrators_take_a_link_away_and_nobody_else(
    links: Links, web: WebSessions, service: Service, store: Store
) -> None:
    assert isinstance(await linked(links, web, service), SlackLink)
    assert isinstance(await links.unlink("ada", actor="grace", via="slack"), Refusal)
    assert isinstance(await links.unlink("ada", actor="sam", via="cli"), SlackLink)
    again = await links.unlink("ada", actor="ada", via="api")
    assert isinstance(again, Refusal)
    assert again.code == "not-linked"
    assert len(await trail(store, "slack.unlinked")) == 1


# ----------------------------------------------------------------- by e-mail


async def test_an_address_is_enough_only_where_the_policy_says_so_and_only_as_long(
    links: Links, service: Service, policy: list[Config]
) -> None:
    assert await links.by_email(HERS) is None
    policy[0] = replace(policy[0], slack=SlackSettings(TEAM, match_email=True))
    assert await links.by_email(replace_account(email="")) is None
    assert await links.by_email(replace_account(email="nobody@example.com")) is None
    assert isinstance(await links.by_email(HERS), SlackLink)
    assert await service.slack_user("ada") == "U1ADA"
    policy[0] = replace(policy[0], slack=SlackSettings(TEAM))
    assert await service.principal_of_slack(TEAM, "U1ADA") is None
    assert await links.sweep() == 1


def test_the_secret_of_a_session_stands_in_nothing_that_is_bound_to_it() -> None:
    from datetime import UTC, datetime

    session = WebSession("ada", datetime.now(UTC), "csrf", "the secret")
    assert "secret" not in session.mark
    assert session.mark != session.csrf
