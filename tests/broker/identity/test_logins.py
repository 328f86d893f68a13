"""What is kept while people log in: web sessions, flows, codes and devices, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from broker.config import Config, OidcSettings
from broker.identity.answer import Identity, LoginError, Sent
from broker.identity.bindings import Bindings
from broker.identity.device_codes import tidy_code
from broker.identity.kept import Keep, Kind
from broker.identity.logins import CliGoal, Logins, WebGoal
from broker.identity.people import People
from broker.identity.pkce import challenge_of
from broker.identity.providers import Providers
from broker.identity.tokens import TokenKind, Tokens
from broker.identity.web import WebSessions, own_page
from broker.store.engine import Store
from broker.store.tables import tokens as table
from workflows.model import Principal

ADA = Principal("ada", "Ada", "ada@example.com")


async def test_the_database_gives_no_session_away(keep: Keep, store: Store) -> None:
    session = await WebSessions(keep).open("ada")
    async with store.read() as tx:
        rows = (await tx.execute(select(table))).all()
    assert rows
    assert session.secret not in str(rows)
    assert session.csrf not in str(rows)


async def test_a_new_login_ends_the_browsers_former_session(keep: Keep) -> None:
    web = WebSessions(keep)
    first = await web.open("ada")
    second = await web.open("ada", first.secret)
    assert second.secret != first.secret
    assert await web.check(first.secret) is None
    assert await web.check(second.secret) is not None


async def test_a_session_ends_when_it_is_not_used(keep: Keep, clock: Any) -> None:
    web = WebSessions(keep)
    session = await web.open("ada")
    clock.advance(minutes=59)
    assert await web.check(session.secret) is not None
    clock.advance(minutes=59)
    assert await web.check(session.secret) is not None
    clock.advance(minutes=60)
    assert await web.check(session.secret) is None
    clock.advance(minutes=-60)
    assert await web.check(session.secret) is None, "it stays over"


async def test_a_session_ends_in_any_case_after_twelve_hours(keep: Keep, clock: Any) -> None:
    web = WebSessions(keep)
    session = await web.open("ada")
    for _ in range(23):
        clock.advance(minutes=30)
        assert await web.check(session.secret) is not None
    clock.advance(minutes=31)
    assert await web.check(session.secret) is None


async def test_a_form_of_another_session_is_not_accepted(keep: Keep) -> None:
    web = WebSessions(keep)
    ada, mallory = await web.open("ada"), await web.open("mallory")
    assert ada.accepts(ada.csrf)
    assert not ada.accepts(mallory.csrf)
    assert not ada.accepts("")


async def test_a_kept_thing_of_one_kind_is_nothing_of_another(keep: Keep) -> None:
    secret = (await WebSessions(keep).open("ada")).secret
    for kind in set(Kind) - {Kind.WEB}:
        assert await keep.look(kind, secret) is None
        assert await keep.take(kind, secret) is None
    assert await WebSessions(keep).check(secret) is not None


async def test_ending_all_tokens_of_a_person_ends_their_web_sessions(keep: Keep, tokens: Tokens) -> None:
    session = await WebSessions(keep).open("ada")
    await tokens.end_all("ada", actor="sam", via="api")
    assert await WebSessions(keep).check(session.secret) is None


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example.com",
        "//evil.example.com/enter/",
        "/\\evil.example.com",
        "/enter/\\evil",
        "/enter//evil.example.com",
        "javascript:alert(1)",
        "/enter/\r\nSet-Cookie: a=b",
        "/auth/cli/start?port=1",
        "/enter/\u2028",
        "",
    ],
)
def test_a_login_comes_back_to_pages_of_ours_only(address: str) -> None:
    assert own_page(address) == "/"


@given(st.text())
def test_no_text_makes_an_open_redirect(address: str) -> None:
    page = own_page(address)
    assert page.startswith("/")
    assert not page.startswith(("//", "/\\"))


def test_pages_of_ours_are_kept() -> None:
    assert own_page("/enter/G-7K3F9Q") == "/enter/G-7K3F9Q"
    assert own_page("/device?code=ABCD-EFGH") == "/device?code=ABCD-EFGH"


# ------------------------------------------------ logins, without the network


class Friendly:
    """A provider in whose place only the two calls of a login are used."""

    async def begin(self, callback: str) -> Sent:
        return Sent(f"https://idp.example.com/authorize?to={callback}", "begun")

    async def finish(self, begun: str, answer: Any) -> Identity:
        assert begun == "begun"
        email = f"{answer['sub']}@example.com"
        return Identity("https://idp.example.com", answer["sub"], email, email, session="sid-1")


class FriendlyOnes(Providers):
    def __getitem__(self, name: str) -> Any:
        self.settings(name)
        return Friendly()


@pytest.fixture
def logins(store: Store, keep: Keep, tokens: Tokens, clock: Any, chance: Any, config: Config) -> Logins:
    corp = OidcSettings("corp", "Corp", frozenset({"example.com"}), issuer="https://idp.example.com")
    other = OidcSettings("other", "Other", frozenset({"other.example"}), issuer="https://other.example")
    known = replace(config, providers={"corp": corp, "other": other})
    people = People(store, lambda: known, clock)
    providers = FriendlyOnes(people, clock, chance, keep, "https://us")
    return Logins(providers, Bindings(store, people, clock), keep, tokens, chance)


async def test_a_login_is_bound_to_its_browser_and_used_once(logins: Logins) -> None:
    address, secret = await logins.begin("corp", WebGoal("/enter/G-1"))
    assert address.endswith("?to=https://us/auth/callback/corp")
    for stranger in ("", "x" * 43):
        with pytest.raises(LoginError, match="not begun in this browser"):
            await logins.finish(stranger, "corp", {"sub": "ada"})
    came = await logins.finish(secret, "corp", {"sub": "ada"})
    assert (came.person.id, came.goal) == ("ada", WebGoal("/enter/G-1"))
    with pytest.raises(LoginError, match="used before"):
        await logins.finish(secret, "corp", {"sub": "ada"})


async def test_an_answer_at_another_providers_place_is_refused(logins: Logins) -> None:
    """The mix-up attack (RFC 9700 section 4.4): the code of one provider must not go to another."""
    _, secret = await logins.begin("other", WebGoal("/"))
    with pytest.raises(LoginError, match="does not come from the identity provider that was asked"):
        await logins.finish(secret, "corp", {"sub": "ada"})


async def test_a_login_that_takes_too_long_is_over(logins: Logins, clock: Any) -> None:
    _, secret = await logins.begin("corp", WebGoal("/"))
    clock.advance(minutes=10)
    with pytest.raises(LoginError):
        await logins.finish(secret, "corp", {"sub": "ada"})


async def test_a_code_is_redeemed_once_and_by_its_verifier_only(logins: Logins, tokens: Tokens) -> None:
    goal = CliGoal(5000, challenge_of("v" * 43), "s" * 20)
    stolen = await logins.hand_over(ADA, goal)
    assert await logins.redeem(stolen, "w" * 43) is None
    assert await logins.redeem(stolen, "v" * 43) is None, "a code that somebody tried with is spent"
    code = await logins.hand_over(ADA, goal)
    outcomes = await asyncio.gather(*(logins.redeem(code, "v" * 43) for _ in range(5)))
    won = [outcome for outcome in outcomes if outcome]
    assert len(won) == 1
    held = await tokens.check(TokenKind.LOGIN, won[0][1].token)
    assert held is not None
    assert held.principal == "ada"


async def test_a_code_is_over_after_two_minutes(logins: Logins, clock: Any) -> None:
    code = await logins.hand_over(ADA, CliGoal(5000, challenge_of("v" * 43), "s" * 20))
    clock.advance(minutes=2)
    assert await logins.redeem(code, "v" * 43) is None


async def test_a_device_waits_until_somebody_confirms_its_code(logins: Logins) -> None:
    started = await logins.devices.start()
    assert await logins.poll_device(started.device_code) == "pending"
    assert await logins.devices.waits(started.user_code.lower().replace("-", " ")) == ""
    assert await logins.devices.decide(started.user_code, ADA, yes=True)
    assert not await logins.devices.decide(started.user_code, ADA, yes=False), "it is decided"
    outcome = await logins.poll_device(started.device_code)
    assert isinstance(outcome, tuple)
    assert outcome[0] == "ada"
    assert await logins.poll_device(started.device_code) == "gone"


async def test_a_device_that_was_turned_down_gets_nothing(logins: Logins) -> None:
    started = await logins.devices.start()
    await logins.devices.decide(started.user_code, ADA, yes=False)
    assert await logins.poll_device(started.device_code) == "denied"
    assert await logins.poll_device(started.device_code) == "gone"


async def test_the_short_code_is_not_enough_to_get_the_token(logins: Logins) -> None:
    started = await logins.devices.start()
    await logins.devices.decide(started.user_code, ADA, yes=True)
    assert await logins.poll_device(started.user_code) == "gone"


async def test_a_device_code_is_over_after_ten_minutes(logins: Logins, clock: Any) -> None:
    started = await logins.devices.start()
    clock.advance(minutes=10)
    assert not await logins.devices.decide(started.user_code, ADA, yes=True)
    assert await logins.poll_device(started.device_code) == "gone"


def test_a_short_code_is_read_however_it_is_typed() -> None:
    assert tidy_code(" abcd efgh ") == "ABCD-EFGH"
    assert tidy_code("o1il-00oo") == "0111-0000"
