"""Where one is logged in: seen by its owner, ended one by one or all at once."""

from __future__ import annotations

from typing import Any

from broker.identity.devices import Devices
from broker.identity.kept import Keep, Kind
from broker.identity.tokens import TokenKind, Tokens
from broker.identity.web import WebSessions
from broker.store.engine import Store


async def test_command_lines_and_browsers_are_listed_the_last_used_first(
    store: Store, keep: Keep, tokens: Tokens, clock: Any
) -> None:
    devices, web = Devices(store, clock), WebSessions(keep)
    issued = await tokens.issue(TokenKind.LOGIN, "ada", via="cli")
    await tokens.issue(TokenKind.ENTRY, "ada", via="cli")
    await tokens.issue(TokenKind.LOGIN, "grace", via="cli")
    await keep.put(Kind.CODE, web_lifetime(), principal="ada")
    clock.advance(minutes=10)
    session = await web.open("ada")
    assert [(d.kind, d.used == clock.now()) for d in await devices.of("ada")] == [
        ("browser", True), ("command line", False),
    ]  # fmt: skip
    clock.advance(minutes=10)
    await tokens.check(TokenKind.LOGIN, issued.token)
    first, second = await devices.of("ada")
    assert (first.kind, first.used) == ("command line", clock.now())
    for device in (first, second):
        assert device.id not in issued.token
        assert device.id not in session.secret


def web_lifetime() -> Any:
    from datetime import timedelta

    return timedelta(hours=1)


async def test_an_ended_login_opens_nothing_and_the_others_stay(
    store: Store, keep: Keep, tokens: Tokens, clock: Any
) -> None:
    devices, web = Devices(store, clock), WebSessions(keep)
    issued, session = await tokens.issue(TokenKind.LOGIN, "ada", via="cli"), await web.open("ada")
    browser = next(d for d in await devices.of("ada") if d.kind == "browser")
    assert await devices.end("grace", actor="grace", via="api", device=browser.id) == 0
    assert await devices.end("ada", actor="ada", via="api", device="%") == 0
    assert await devices.end("ada", actor="ada", via="api", device=browser.id) == 1
    assert await web.check(session.secret) is None
    assert await tokens.check(TokenKind.LOGIN, issued.token) is not None
    assert await devices.end("ada", actor="sam", via="api") == 1
    assert await tokens.check(TokenKind.LOGIN, issued.token) is None
    assert await devices.of("ada") == []
