"""Who people are: from access.yaml for now; an identity provider's directory fits the same Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from workflows.model import Principal, PrincipalKind


class Directory(Protocol):
    """Everybody as they are known at this moment. Answers None for whom it does not know."""

    def principal(self, principal_id: str) -> Principal | None: ...

    def everyone(self) -> Mapping[str, Principal]: ...

    def of_email(self, email: str) -> Principal | None:
        """The person with this address, compared without case."""
        ...

    def of_slack(self, team: str, user: str) -> Principal | None:
        """The person behind a Slack user of this workspace."""
        ...

    def slack_user(self, principal_id: str) -> str | None:
        """The person's Slack user id, or None where none is linked."""
        ...

    def timezone(self, principal_id: str) -> str:
        """The IANA name of the person's time zone."""
        ...

    def account(self, principal_id: str) -> tuple[str, str]:
        """The identity provider that the file names for somebody, and their account there; "" for neither."""
        ...


@dataclass(frozen=True, slots=True)
class Person:
    """`provider` is who alone speaks for them, `subject` their account there, where the file says so."""

    principal: Principal
    slack: str = ""
    timezone: str = ""
    provider: str = ""
    subject: str = ""


def with_owners(people: Mapping[str, Person]) -> dict[str, Person]:
    """The same people, with every agent as active as the person it belongs to."""
    found = dict(people)
    for key, person in people.items():
        if it := person.principal.owner:
            owner = people.get(it)
            if owner is None or not owner.principal.active or owner.principal.kind is PrincipalKind.AGENT:
                found[key] = replace(person, principal=replace(person.principal, active=False))
    return found


@dataclass(frozen=True, slots=True)
class StaticDirectory:
    """People as access.yaml lists them. An empty `team` means that Slack's workspace is checked elsewhere."""

    people: Mapping[str, Person]
    team: str = ""
    default_timezone: str = "UTC"

    def principal(self, principal_id: str) -> Principal | None:
        person = self.people.get(principal_id)
        return person.principal if person else None

    def everyone(self) -> Mapping[str, Principal]:
        return {key: person.principal for key, person in self.people.items()}

    def of_email(self, email: str) -> Principal | None:
        wanted = email.casefold()
        found = [p.principal for p in self.people.values() if p.principal.email.casefold() == wanted]
        return found[0] if wanted and len(found) == 1 else None

    def of_slack(self, team: str, user: str) -> Principal | None:
        if not user or (self.team and team != self.team):
            return None
        return next((p.principal for p in self.people.values() if p.slack == user), None)

    def slack_user(self, principal_id: str) -> str | None:
        person = self.people.get(principal_id)
        return person.slack or None if person else None

    def timezone(self, principal_id: str) -> str:
        person = self.people.get(principal_id)
        return (person.timezone if person else "") or self.default_timezone

    def account(self, principal_id: str) -> tuple[str, str]:
        person = self.people.get(principal_id)
        return (person.provider, person.subject) if person else ("", "")
