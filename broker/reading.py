"""What may be read, and by whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit
from broker.bus import Bus
from broker.clock import Chance, Clock
from broker.config import Config
from broker.identity.link_rules import fault
from broker.identity.people import outdated
from broker.standing import Standing, Standings
from broker.store import links, sessions, stories
from broker.store.engine import Store
from broker.store.links import SlackLink
from broker.store.sessions import SessionRecord
from workflows import policy
from workflows.lock import LOCKED, LockKind, may_lock, stops
from workflows.model import Principal, Refusal, Resource, Story
from workflows.policy import Policy, Route
from workflows.quorum import eligible, has_a_say

NO_STORY = Refusal("no-such-request", "There is no such request or grant.", "See yours with: status.")
NOT_AN_AUDITOR = Refusal("not-an-admin", "Only administrators and auditors read the whole trail.")
NO_SESSION = Refusal("no-such-session", "There is no such session that you may see.")
UNKNOWN = Refusal("unknown-person", "You are not known here.", "Ask whoever keeps the policy to add you.")

NOBODY = Refusal("no-such-person", "There is nobody of that name here.", "Say it as @name or by the handle.")


async def _nothing(*_principals: str) -> None:
    """Everybody is known from the policy file alone."""


def _as_it_is(config: Config) -> Config:
    return config


async def _always(_principal: str) -> bool:
    """Nobody but ourselves ends a login."""
    return True


class Reading:
    """The reading half of the service. Nothing here changes anything."""

    def __init__(
        self, store: Store, config: Callable[[], Config], clock: Clock, chance: Chance, bus: Bus
    ) -> None:
        self.store = store
        self.clock = clock
        self.chance = chance
        self.bus = bus
        self.public_url = ""
        """The address by which browsers reach us; the composition root sets it."""
        self.look_again: Callable[..., Awaitable[None]] = _nothing
        """Called with principals before they ask, decide or enter: their groups are then as new as they can
        be. The composition root sets it (broker/identity/looking.py).
        """
        self.overlay: Callable[[Config], Config] = _as_it_is
        """Lays the groups that identity providers told over a configuration. Set likewise."""
        self.stands: Callable[[str], Awaitable[bool]] = _always
        """Whether the logins of a principal still count, as their identity provider says. Set likewise."""
        self._config = config
        self._standings = Standings()

    @property
    def config(self) -> Config:
        """The configuration as it is at this moment: the policy file, with what the database adds to it, and
        the groups that identity providers told.
        """
        return self.overlay(self.filed)

    @property
    def filed(self) -> Config:
        """The same without those groups."""
        return self._standings.on(self._config())

    @property
    def file(self) -> Config:
        """The policy file alone."""
        return self._config()

    @property
    def standing(self) -> Standing:
        """What the database adds, as it was last looked at."""
        return self._standings.now

    async def refresh(self, tx: AsyncConnection) -> None:
        """Look at it again, so that what is decided in this transaction is decided by what is there."""
        await self._standings.refresh(tx)

    async def fresh(self) -> None:
        """The same in a transaction of its own."""
        async with self.store.read() as tx:
            await self.refresh(tx)

    def stopped(self, resource: str) -> Refusal | None:
        """Why nothing is opened on this resource now; None where no lock is on it."""
        return stops(self.standing.locks, resource)

    def login_stopped(self, principal_id: str) -> Refusal | None:
        """Why this person may not log in anew; None where they may."""
        person = self.principal(principal_id)
        if person is None or person.locked:
            return LOCKED
        everything = [lock for lock in self.standing.locks if lock.kind is LockKind.EVERYTHING]
        return stops(everything, "") if everything and not may_lock(self.policy, person) else None

    @property
    def policy(self) -> Policy:
        return self.config.policy

    # ------------------------------------------------------------- people

    def principal(self, principal_id: str) -> Principal | None:
        return self.config.directory.principal(principal_id)

    def person_named(self, name: str) -> Principal | Refusal:
        """Whom a typed `@name` means: a principal's id, address, or the part of it before the @."""
        if found := self.principal(name):
            return found
        key = name.casefold()
        like = [
            person
            for person in self.config.directory.everyone().values()
            if key in (person.email.casefold(), person.email.casefold().partition("@")[0])
        ]
        return like[0] if len(like) == 1 else NOBODY

    async def principal_of_slack(self, team: str, user: str) -> Principal | None:
        """The person behind a Slack account: as the policy file names it, else as it was linked."""
        async with self.store.read() as tx:
            await self.refresh(tx)
            directory = self.config.directory
            if (named := directory.of_slack(team, user)) or not (team and user):
                return named
            link = await links.of_account(tx, team, user)
        return directory.principal(link.principal) if link and not fault(link, self.config) else None

    async def slack_users(self, people: Iterable[str]) -> dict[str, str]:
        """The Slack accounts of these people in the served workspace; the file's come first."""
        directory, team, wanted = self.config.directory, self.config.slack.team, set(people)
        found = {person: user for person in wanted if (user := directory.slack_user(person))}
        if rest := wanted - set(found):
            async with self.store.read() as tx:
                for link in reversed(await links.of_people(tx, rest)):  # the newest stays
                    if team in ("", link.team) and not fault(link, self.config):
                        found[link.principal] = link.slack_user
        return found

    async def slack_user(self, person: str) -> str | None:
        return (await self.slack_users([person])).get(person)

    async def slack_link(self, person: str) -> SlackLink | None:
        """The link of this person that holds; None where there is none or the file names one."""
        async with self.store.read() as tx:
            found = await links.of_people(tx, [person])
        return next((link for link in found if not fault(link, self.config)), None)

    def timezone(self, principal_id: str) -> str:
        """The IANA name of the time zone in which this person reads a clock."""
        return self.config.directory.timezone(principal_id)

    def is_admin(self, principal_id: str) -> bool:
        person = self.principal(principal_id)
        return person is not None and person.active and not self.policy.admins.isdisjoint(person.groups)

    def reads_all(self, principal_id: str) -> bool:
        """Whether this person may read everything: an auditor, or an administrator."""
        person = self.principal(principal_id)
        return person is not None and person.active and not self.policy.readers.isdisjoint(person.groups)

    def or_outdated(self, principal_id: str, refusal: Refusal, *, told: str = "") -> Refusal:
        """A refusal for want of a group; where the groups are too old to count, that instead. `told` is who
        hears it, where that is somebody else.
        """
        whose = f"{principal_id}'s" if told not in ("", principal_id) else "your"
        return outdated(self.config, principal_id, self.clock, whose) or refusal

    # ------------------------------------------------------------- policy

    def explain(self, principal_id: str, resource: str) -> tuple[str, ...]:
        person = self.principal(principal_id)
        if person is None:
            return (f"{principal_id}: no such person in the policy.",)
        return policy.explain(self.policy, person, resource)

    def route(self, actor: str, resource: str, role: str = "") -> Route | Refusal:
        person = self.principal(actor)
        return policy.route(self.policy, person, resource, role) if person else UNKNOWN

    def requestable(self, actor: str) -> tuple[Resource, ...]:
        person = self.principal(actor)
        return policy.requestable(self.policy, person) if person else ()

    # ------------------------------------------------------------ stories

    async def story(self, key: str) -> Story | None:
        """The story of a request id or grant id, for our own use: whoever shows it decides to whom."""
        async with self.store.read() as tx:
            return await stories.find(tx, key)

    async def story_for(self, key: str, actor: str) -> Story | Refusal:
        """The same for a person who asks. What they may not see is refused like what does not exist."""
        story = await self.story(key)
        return story if story and self.may_see(story, actor) else NO_STORY

    def may_see(self, story: Story, actor: str) -> bool:
        """Whoever takes part, and those who may read everything."""
        return self.takes_part(story, actor) or self.reads_all(actor)

    def takes_part(self, story: Story, actor: str) -> bool:
        """The requester, whom it is for, whoever may decide it, and administrators."""
        person = self.principal(actor)
        if person is None or not person.active:
            return False
        return person.id in story.request.parties or has_a_say(story.request, person) or self.is_admin(actor)

    async def stories_of(self, actor: str, limit: int = 50) -> list[Story]:
        """What this person asked for or was asked for them, newest first; not the grants that serve one
        submitted statement.
        """
        async with self.store.read() as tx:
            found = await stories.of_requester(tx, actor, limit)
        return [story for story in found if not story.request.statement]

    async def waiting_for(self, actor: str) -> list[Story]:
        """Pending requests that this person may decide now and has not decided yet, oldest first."""
        person, now = self.principal(actor), self.clock.now()
        everyone = self.config.directory.everyone()
        async with self.store.read() as tx:
            pending = await stories.pending(tx)
        return [
            story
            for story in pending
            if eligible(story.request, person, everyone)
            and now < story.request.lapses_at
            and all(approval.approver != actor for approval in story.request.approvals)
        ]

    async def who(self, resource: str, actor: str) -> list[Story] | Refusal:
        """Live grants on a resource, as their stories, for those who may ask for it or decide on it."""
        person, found = self.principal(actor), self.policy.find(resource)
        if person is None:
            return UNKNOWN
        if found is None or not self._may_see_resource(person, found):
            refusal = policy.route(self.policy, person, resource)
            return refusal if isinstance(refusal, Refusal) else NO_STORY
        async with self.store.read() as tx:
            return await stories.live(tx, self.clock.now(), resource=found.name)

    def _may_see_resource(self, person: Principal, resource: Resource) -> bool:
        decides = any(
            quorum.group in person.groups
            for rule in self.policy.rules
            if resource.name in rule.resources
            for quorum in rule.quorum
        )
        return person.active and (
            decides or resource in self.requestable(person.id) or self.reads_all(person.id)
        )

    async def next_deadline(self) -> datetime | None:
        """When the next grant expires or request lapses."""
        async with self.store.read() as tx:
            return await stories.next_deadline(tx)

    # ----------------------------------------------------------- sessions

    async def sessions(
        self, actor: str, *, resource: str = "", key: str = "", limit: int = 50
    ) -> list[SessionRecord]:
        """Sessions that this person may see, newest first: their own, those of requests they may decide, and
        all for those who may read everything. `key` is a request id or a grant id.
        """
        person = self.principal(actor)
        if person is None or not person.active:
            return []
        async with self.store.read() as tx:
            if self.reads_all(actor):
                return await sessions.newest(tx, resource=resource, key=key, limit=limit)
            found = await sessions.newest(tx, resource=resource, key=key, limit=max(limit, 500))
            owners = {record.request_id for record in found if record.principal != actor}
            seen = {i for i in owners if (s := await stories.find(tx, i)) and self.may_see(s, actor)}
        return [r for r in found if r.principal == actor or r.request_id in seen][:limit]

    async def session(self, session_id: str, actor: str) -> SessionRecord | Refusal:
        async with self.store.read() as tx:
            record = await sessions.find(tx, session_id)
            story = await stories.find(tx, record.request_id) if record else None
        return record if record and story and self.may_see(story, actor) else NO_SESSION

    async def session_at(self, gate: str, session_id: str) -> SessionRecord | None:
        """A session of this gate's, for our own use."""
        async with self.store.read() as tx:
            record = await sessions.find(tx, session_id)
        return record if record and record.gate == gate else None

    # -------------------------------------------------------------- trail

    async def trail_of(self, key: str, actor: str) -> list[audit.Entry] | Refusal:
        """The audit entries of one story, oldest first."""
        story = await self.story_for(key, actor)
        if isinstance(story, Refusal):
            return story
        async with self.store.read() as tx:
            return await audit.of_subject(tx, story.request.id)

    async def trail(
        self, actor: str, *, before: int | None = None, limit: int = 100
    ) -> list[audit.Entry] | Refusal:
        """The last entries of the whole trail, newest first, for administrators and auditors."""
        if not self.reads_all(actor):
            return NOT_AN_AUDITOR
        async with self.store.read() as tx:
            return await audit.newest(tx, before=before, limit=limit)
