"""What the provider's people are here: which principal, which address, which name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from zoneinfo import available_timezones

from scim2_models import EnterpriseUser, User

from broker.config import Config

_UNFIT = re.compile(r"[^a-z0-9._-]+")


def address_of(user: User[EnterpriseUser]) -> str:
    """The primary e-mail address, else the work one, else the first, else a userName that is one."""
    emails = [email for email in user.emails or [] if email.value]
    chosen = next((email for email in emails if email.primary), None)
    chosen = chosen or next((email for email in emails if str(email.type or "").endswith("work")), None)
    chosen = chosen or next(iter(emails), None)
    if chosen is not None:
        return str(chosen.value)
    return user.user_name if user.user_name and "@" in user.user_name else ""


def name_of(user: User[EnterpriseUser]) -> str:
    name = user.name
    parts = (name.given_name, name.family_name) if name else ()
    whole = " ".join(part for part in parts if part)
    return (user.display_name or (name.formatted if name else "") or whole or user.user_name or "")[:320]


def timezone_of(user: User[EnterpriseUser]) -> str:
    zone = str(user.timezone or "")
    return zone if zone in available_timezones() else ""


def of_the_file(config: Config, user_name: str, email: str) -> str:
    """The person of the policy file that a provider's user is, by the id or the address; "" for nobody."""
    people = config.directory.everyone()
    if user_name in people:
        return user_name
    wanted = email.casefold()
    found = [key for key, person in people.items() if wanted and person.email.casefold() == wanted]
    return found[0] if len(found) == 1 else ""


def new_id(user_name: str, taken: Mapping[str, object]) -> str:
    """An id that nobody has or had, out of the part of the userName before its @."""
    base = _UNFIT.sub("-", user_name.casefold().partition("@")[0]).strip("-._")[:50] or "person"
    if base not in taken:
        return base
    return next(name for n in range(2, len(taken) + 3) if (name := f"{base}-{n}") not in taken)
