"""Certificates for people's own SSH keys, by which they enter at the gate under a live grant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker import audit
from broker.credentials.ssh import ENTRY_LONGEST, CertificateError, Claim, SshAuthorities, public_line
from broker.door import Via
from broker.service import Service
from broker.store import stories
from workflows.model import Principal, Refusal, Story


@dataclass(frozen=True, slots=True)
class EntryCertificate:
    """A certificate (an OpenSSH line), the login name that goes with it, and when it runs out."""

    certificate: str
    user: str
    resource: str
    role: str
    expires_at: datetime


class SshEntries:
    """`authorities` are the installation's."""

    def __init__(self, service: Service, authorities: SshAuthorities) -> None:
        self._service = service
        self.authorities = authorities

    async def certify(
        self, person: Principal, resource: str, role: str, public_key: str, source: str, *, via: Via
    ) -> EntryCertificate | Refusal:
        """A certificate for `public_key`, bound to the person and to their grant, until the grant's end or
        for twelve hours; from the address or network `source` only, if one is given.
        """
        now = self._service.clock.now()
        story = await self._held(person, resource, role, now)
        if isinstance(story, Refusal):
            return story
        grant = story.grant
        assert grant is not None, "it was looked for"
        name = f"{person.id}+{grant.resource}"
        try:
            made = self.authorities.entry(
                public_key,
                Claim(person.id, grant.id),
                self._names(story, resource),
                now,
                grant.expiry,
                source,
            )
            key = public_line(public_key)
        except CertificateError as error:
            return Refusal("bad-key", f"No certificate can be made: {error}.", "Let access ssh make a key.")
        until = min(grant.expiry, now + ENTRY_LONGEST)
        note = audit.Note(
            "certificate.issued",
            grant.request_id,
            {"grant": grant.id, "key": key, "until": until, "source": source},
        )
        async with self._service.store.write() as tx:
            await audit.append(tx, [note], at=now, actor=person.id, via=via)
        return EntryCertificate(made, name, grant.resource, grant.role, until)

    async def _held(self, person: Principal, resource: str, role: str, now: datetime) -> Story | Refusal:
        found = self._service.policy.find(resource)
        none = Refusal(
            "no-grant",
            f"You hold no live grant for “{resource}”" + (f" as {role}." if role else "."),
            f"Ask for one: request {resource} 1h because …",
        )
        if found is None or found.kind != "ssh":
            return none
        async with self._service.store.read() as tx:
            live = await stories.live(tx, now, resource=found.name, principal=person.id, role=role)
        held = [story for story in live if not story.request.statement]
        roles = sorted({story.request.role for story in held})
        if len(roles) > 1:
            return Refusal(
                "which-role",
                f"You hold {' and '.join(roles)} on {found.name}.",
                f"Say which: access ssh {found.name} --role {roles[0]}",
            )
        if not held:
            return none
        return max(held, key=lambda story: story.grant.expiry if story.grant else now)

    def _names(self, story: Story, asked: str) -> list[str]:
        """The login names that it is good for: with and without the person and the role."""
        request = story.request
        resource = self._service.policy.find(asked)
        places = (request.resource, *(resource.aliases if resource else ()))
        return [
            f"{person}+{place}{role}"
            for place in places
            for person in (request.requester, "")
            for role in ("", f"+{request.role}")
        ]
