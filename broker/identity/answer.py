"""What an identity provider's answer comes to, whatever its protocol."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

START_AGAIN = "Start again; if it stays so, tell whoever runs this."


class LoginError(Exception):
    """A login that did not succeed. `why` and `way_out` are for the person who tried, without secrets."""

    def __init__(self, why: str, way_out: str = START_AGAIN) -> None:
        super().__init__(f"{why} {way_out}")
        self.why = why
        self.way_out = way_out


class LoginOver(LoginError):
    """The provider says that a login, which stood until now, stands no more."""


class Identity(msgspec.Struct, frozen=True):
    """Somebody as a provider has proved them.

    `issuer` and `subject` name the account for good; `email` is an address that the provider vouches for,
    else "". `name` is what the first login is matched by where that is no address. `groups` are the
    provider's own names; None where its answer says nothing of groups. `session` is the provider's name of
    this login, by which it ends it.
    """

    issuer: str
    subject: str
    email: str = ""
    name: str = ""
    groups: tuple[str, ...] | None = None
    session: str = ""
    renewal: str | None = None
    """A refresh token, by which the provider is asked again; None: it gave none."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Where to send the browser, and what is kept here until it comes back. Used once."""

    address: str
    begun: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logout:
    """Whose logins end: all of the account `subject`, or (without one) those of the login `origin` there."""

    issuer: str
    subject: str = ""
    origin: str = ""


def origin_of(issuer: str, session: str) -> str:
    """What stands for a login at a provider, so that the provider can end what came of it."""
    return hashlib.sha256(f"{issuer} {session}".encode()).hexdigest()
