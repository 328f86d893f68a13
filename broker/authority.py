"""What the gate asks of the broker, answered from the database at that moment.

Structurally the Authority of proxy/authority.py, which may not be imported here. Every refusal of a login
has the same words, whoever knocks and whatever they wanted, until the token has proved who they are. A
database that does not answer is a ConnectionError: the gate then fails closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics
from broker.bus import GRANTS
from broker.config import ClusterTarget, Config, HttpTarget, SshTarget
from broker.credentials import http
from broker.credentials.seal import Seal, SealError
from broker.credentials.ssh import CertificateError, Claim, SshAuthorities
from broker.identity import browser_entries, tokens
from broker.identity.certificates import LIFETIME, ClientCertificates
from broker.identity.device_codes import DeviceCodes
from broker.identity.kept import Keep
from broker.identity.tokens import TokenKind, Tokens
from broker.reviews import Reviews
from broker.service import Service
from broker.store import credentials, sessions, stories
from broker.store.sessions import SessionRecord
from workflows import policy
from workflows.gate import (
    Admission,
    Closing,
    GrantEnded,
    GrantMinted,
    HeldStatement,
    Knock,
    LoginLink,
    Notice,
    Progress,
    Renewal,
    ReviewDecided,
    ReviewTicket,
    RunPass,
    SessionKilled,
    Upstream,
)
from workflows.lock import LockKind
from workflows.model import EndReason, Grant, GrantState, Principal, Refusal, Story

LOOK_EVERY = 0.5
"""Seconds between looks at the database where the bus is silent: half of what a cut may take."""
_KINDS_BEHIND = {"postgresql": ("postgres",), "http": ("http", "kubernetes")}
"""The kinds of resources behind a protocol, where the names differ."""
KILLS_KEPT = timedelta(hours=1)
"""A gate that has heard nothing for so long has cut the session for want of a lease."""
ANCHOR_EVERY = 60.0
"""Seconds between two anchors of one session's recording in the trail."""

log = structlog.get_logger(__name__)


@dataclass
class LocalAuthority:
    """The broker in this process. `lease` is in seconds."""

    service: Service
    seal: Seal
    lease: float = 10.0
    public_url: str = ""
    browsers: bool = False
    """Whether people can log in by a browser here."""
    _anchored: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reviews = Reviews(self.service, self.public_url)
        self.certificates = ClientCertificates(self.seal)
        self.ssh = SshAuthorities(self.seal)
        self.identities = http.IdentityTokens(self.seal, self.public_url)
        service = self.service
        self.devices = DeviceCodes(Keep(service.store, service.clock, service.chance), service.chance)
        self.tokens = Tokens(service.store, service.clock, service.chance)

    async def client_ca(self) -> str:
        """The CA whose client certificates are read here."""
        return self.certificates.ca

    async def admit(self, knock: Knock) -> Admission | Refusal:
        """Check the token, the principal and a live grant now, and open a session under it."""
        with _reachable():
            await self.service.look_again(knock.principal)
            proved = await self._by_device(knock) if knock.device else knock
            answer = proved if isinstance(proved, Refusal) else await self._answer(proved)
        outcome = answer.code if isinstance(answer, Refusal) else "admitted"
        metrics.admissions.labels(outcome).inc()
        log.info(
            "knock", outcome=outcome, principal=knock.principal, resource=knock.resource, gate=knock.gate
        )
        return answer

    async def _answer(self, knock: Knock) -> Admission | Refusal:
        async with self.service.store.write() as tx:
            return await self._admit(tx, knock)

    async def start_login(self, knock: Knock) -> LoginLink | Refusal:
        """A page where somebody confirms that this client is theirs."""
        if not self.browsers:
            return Refusal("no-browser-login", "Nobody can log in by a browser here.", "Run: access token")
        what = f"an SSH client at {knock.client}, as {knock.principal}, which asks for {knock.resource}"
        with _reachable():
            started = await self.devices.start(what[:300])
        link = f"{self.public_url}/device?code={started.user_code}"
        return LoginLink(link, started.user_code, started.device_code)

    async def _by_device(self, knock: Knock) -> Knock | Refusal:
        """The knock with a token of whoever confirmed it, good for this entry."""
        found = await self.devices.take(knock.device)
        if found == "pending":
            return Refusal("login-pending", "Nobody has confirmed the login yet.", "Open the link.")
        if isinstance(found, str):
            return Refusal("login-failed", "The login was turned down, or took too long.", "Begin again.")
        principal, _ = found
        issued = await self.tokens.issue(
            TokenKind.ENTRY, principal, via="gate", label="SSH, by a browser", lifetime=timedelta(minutes=1)
        )
        return replace(knock, device="", token=issued.token)

    async def renew(self, gate: str, progress: Sequence[Progress]) -> Renewal:
        """Renew the leases of the sessions that may go on, and say why the others may not."""
        if not progress:
            return Renewal({})
        with _reachable():
            async with self.service.store.write() as tx:
                return await self._renew(tx, gate, progress)

    async def hold(self, gate: str, grant: str) -> None:
        """This gate now knows the grant."""
        with _reachable():
            await self.service.confirm_hold(grant, gate)

    async def close(self, gate: str, closing: Closing) -> None:
        """A session's end. What is repeated is not written twice."""
        with _reachable():
            async with self.service.store.write() as tx:
                record = await sessions.find(tx, closing.session, lock=True)
                if (
                    record is None
                    or record.gate != gate
                    or (record.closed_at and record.close_reason != "lost")
                ):
                    return
                now = self.service.clock.now()
                await sessions.close(tx, closing, now)
                note = audit.Note("session.closed", record.request_id, closing)
                await audit.append(tx, [note], at=now, actor=record.principal, via="gate")
        self._anchored.pop(closing.session, None)

    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        """Put a held statement before those who decide."""
        with _reachable():
            return await self.reviews.ask(gate, held)

    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal:
        """Give out the one run of an approved statement."""
        with _reachable():
            return await self.reviews.take_run(gate, review, session, digest)

    async def finish_run(self, gate: str, review: str, outcome: str) -> None:
        """How the run went."""
        with _reachable():
            await self.reviews.finish_run(gate, review, outcome)

    async def withdraw_review(self, gate: str, review: str, why: str) -> None:
        """The statement is no longer wanted."""
        with _reachable():
            await self.reviews.withdraw(gate, review, why)

    async def notices(self, gate: str) -> AsyncIterator[Notice]:
        """Each live grant, each session here that is to be cut and each answer that one may wait for, then
        changes.

        The bus only wakes this up: what is told is what changed in the database since the last look, so a
        lost wake-up costs half a second and a repeated one nothing.
        """
        wake = self.service.bus.subscribe(GRANTS)
        told: set[str] = set()
        answered: set[ReviewDecided] = set()
        killed: set[SessionKilled] = set()
        try:
            while True:
                with _reachable():
                    notices = await self._changes(told)
                    doomed = await self._killed(gate)
                    answers = await self.reviews.decided_at(gate)
                for notice in (*notices, *(kill for kill in doomed if kill not in killed)):
                    yield notice
                killed = set(doomed)
                for answer in answers:
                    if answer not in answered:
                        yield answer
                answered = set(answers)
                try:
                    async with asyncio.timeout(LOOK_EVERY):
                        await anext(wake)
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    return
        finally:
            if closing := getattr(wake, "aclose", None):
                await closing()

    async def close_lost(self) -> int:
        """Close sessions whose gate has stopped renewing. Returns how many."""
        now = self.service.clock.now()
        async with self.service.store.write() as tx:
            lost = await sessions.claim_lost(tx, now - timedelta(seconds=self.lease))
            for record in lost:
                detail = f"{record.gate} stopped renewing"
                end = Closing(
                    record.id, "lost", detail, record.entries, record.head, record.statements, record.refused,
                    record.rows,
                )  # fmt: skip
                await sessions.close(tx, end, now)
                note = audit.Note("session.lost", record.request_id, end)
                await audit.append(tx, [note], at=now, actor=record.principal, via="system")
                metrics.sessions_lost.inc()
        return len(lost)

    # ------------------------------------------------------------- entering

    async def _admit(self, tx: AsyncConnection, knock: Knock) -> Admission | Refusal:
        await self.service.refresh(tx)
        now = self.service.clock.now()
        found = await self._who(tx, knock, now)
        if isinstance(found, Refusal):
            return found
        person, proved = found
        # A password that was made to run one statement opens that statement's grant only, and once.
        statement = proved.held.payload
        if statement:
            await tokens.end(tx, proved.hash, now)
        answer = await self._enter(tx, knock, person, proved, now)
        if isinstance(answer, Refusal):
            body = {
                "code": answer.code,
                "resource": knock.resource,
                "role": knock.role,
                "client": knock.client,
            }
            note = audit.Note("entry.refused", person.id, body)
            await audit.append(tx, [note], at=now, actor=person.id, via="gate")
            return answer
        return replace(answer, signature=proved.signature)

    async def _who(
        self, tx: AsyncConnection, knock: Knock, now: datetime
    ) -> tuple[Principal, tokens.Proved] | Refusal:
        proved = await self._proved(tx, knock, now)
        # Of an SSH certificate, and of a token over HTTP, the name may be left out: it stands in there.
        itself = knock.certificate or knock.protocol == "http"
        named = proved.held.principal if proved and itself else ""
        person = self.service.principal(knock.principal or named)
        if proved is None or person is None or proved.held.principal != person.id or not person.active:
            return Refusal(
                "login-failed",
                f"Login failed for “{knock.principal}”.",
                "Use a fresh password of your own; it is good for 10 minutes: access token.",
            )
        if knock.certificate and self._just_locked(person.id, now):
            return Refusal(
                "device-locked",
                "A device of yours was just locked, and a certificate does not tell which it came from.",
                "Use a password for ten minutes: access token.",
            )
        return person, proved

    def _just_locked(self, principal: str, now: datetime) -> bool:
        """Whether a certificate of this person may have been made for a device that is locked since."""
        devices = (it for it in self.service.standing.locks if it.kind is LockKind.DEVICE)
        return any(it.principal == principal and now - it.made_at <= LIFETIME for it in devices)

    async def _proved(self, tx: AsyncConnection, knock: Knock, now: datetime) -> tokens.Proved | None:
        if knock.certificate and knock.protocol == "ssh":
            return self._ssh_proved(knock, now)
        if knock.certificate:
            bearer = self.certificates.read(knock.certificate, now)
            whose = tokens.Held(bearer.principal, now) if bearer else None
            return tokens.Proved(whose, "", b"", bearer.grant) if bearer and whose else None
        if knock.protocol == "http" and knock.token.startswith(browser_entries.PREFIX):
            resource = self.service.policy.find(knock.resource)
            named = resource.name if resource else ""
            return await browser_entries.find(tx, knock.token, named, now)
        if knock.proof is not None:
            return await tokens.prove(tx, knock.principal, knock.proof, now)
        held = await tokens.find(tx, TokenKind.ENTRY, knock.token, now)
        return None if held is None else tokens.Proved(held, tokens.hash_of(knock.token), b"")

    def _ssh_proved(self, knock: Knock, now: datetime) -> tokens.Proved | None:
        """Whose SSH certificate this is, and the grant that it was made under, which alone it opens."""
        name = f"{knock.principal}+{knock.resource}" + (f"+{knock.role}" if knock.role else "")
        try:
            claim = self.ssh.read_entry(knock.certificate.decode(), name, knock.client, now)
        except (CertificateError, UnicodeDecodeError) as error:
            log.info("certificate refused", problem=str(error), client=knock.client)
            return None
        return tokens.Proved(tokens.Held(claim.principal, now), "", b"", claim.grant)

    async def _enter(
        self, tx: AsyncConnection, knock: Knock, person: Principal, proved: tokens.Proved, now: datetime
    ) -> Admission | Refusal:
        config = self.service.config
        story = await self._live(tx, config, knock, person, proved, now)
        if isinstance(story, Refusal):
            return story
        grant = story.grant
        assert grant is not None, "only stories with a live grant come here"
        if stopped := self.service.stopped(grant.resource):
            return stopped
        if await sessions.count_open(tx, grant.id) >= grant.terms.max_sessions:
            most = f"{grant.terms.max_sessions} sessions are open under {grant.id}, as many as it allows."
            return Refusal("too-many-sessions", most, "Close one of them.")
        session = self.service.chance.id("S", 12)
        upstream = await self._upstream(tx, config, grant, person, session, now)
        if isinstance(upstream, Refusal):
            return upstream
        record = SessionRecord(
            id=session,
            request_id=grant.request_id,
            grant_id=grant.id,
            principal=person.id,
            resource=grant.resource,
            role=grant.role,
            gate=knock.gate,
            protocol=knock.protocol,
            client=knock.client,
            opened_at=now,
            lease_until=now + timedelta(seconds=self.lease),
            device=proved.held.device,
        )
        await sessions.add(tx, record)
        notes = [audit.Note("session.opened", grant.request_id, record)]
        purpose = story.request.reason if person.owner else ""
        if person.owner:
            told = {"session": session, "agent": person.id, "owner": person.owner, "purpose": purpose}
            notes.append(audit.Note("session.of_agent", grant.request_id, told))
        await audit.append(tx, notes, at=now, actor=person.id, via="gate")
        remaining = (grant.expiry - now).total_seconds()
        return Admission(
            record.id,
            grant.id,
            person.id,
            grant.resource,
            grant.role,
            grant.terms,
            remaining,
            self.lease,
            upstream,
            self.seal.derive(f"mask {grant.resource}"),
            owner=person.owner,
            purpose=purpose,
        )

    async def _live(
        self,
        tx: AsyncConnection,
        config: Config,
        knock: Knock,
        person: Principal,
        proved: tokens.Proved,
        now: datetime,
    ) -> Story | Refusal:
        """The one story whose grant lets this person in, locked against a revocation at the same time. A
        grant that serves one statement is for that statement's own password, and for no other; a certificate
        is for its own grant.
        """
        resource = config.policy.find(knock.resource)
        none = Refusal(
            "no-grant",
            f"You hold no live grant for “{knock.resource}”" + (f" as {knock.role}." if knock.role else "."),
            f"Ask for one: request {knock.resource} 1h because …",
        )
        if resource is None or resource.kind not in _KINDS_BEHIND.get(knock.protocol, (knock.protocol,)):
            return none
        found = await stories.live(tx, now, resource=resource.name, principal=person.id, role=knock.role)
        live = [story for story in found if story.request.statement == proved.held.payload]
        if proved.grant:
            live = [story for story in live if story.grant and story.grant.id == proved.grant]
        roles = sorted({story.request.role for story in live})
        if len(roles) > 1:
            name = (
                f"{person.id}+{resource.name}+{roles[0]}"
                if resource.kind == "ssh"
                else f"{person.id}/{roles[0]}"
            )
            way_out = f"Say which: {name} as the user name."
            return Refusal("which-role", f"You hold {' and '.join(roles)} on {resource.name}.", way_out)
        for one in live:
            story = await stories.lock(tx, one.request.id)
            if story and story.grant and story.grant.live(now):
                return self._no_longer(config, person, story) or story
        return none

    def _no_longer(self, config: Config, person: Principal, story: Story) -> Refusal | None:
        """Why a grant does not let its holder in, now that their groups open this role to them no more.

        An emergency was never a matter of groups alone, and stays until it ends or is ended.
        """
        request = story.request
        if request.emergency is not None:
            return None
        route = policy.route(config.policy, person, request.resource, request.role)
        if not isinstance(route, Refusal):
            return None
        gone = Refusal(
            "groups-changed",
            f"Your groups no longer open {request.role} on {request.resource} to you.",
            "Ask whoever keeps the access policy.",
        )
        return self.service.or_outdated(person.id, gone)

    async def _upstream(
        self,
        tx: AsyncConnection,
        config: Config,
        grant: Grant,
        person: Principal,
        session: str,
        now: datetime,
    ) -> Upstream | Refusal:
        later = Refusal(
            "not-ready", f"The login for {grant.id} is not ready yet.", "Try again in a few seconds."
        )
        login, target = await credentials.ready(tx, grant.id), config.targets.get(grant.resource)
        if login is None or target is None:
            return later
        if isinstance(target, SshTarget):
            return self._host(target, grant, session, now) or later
        if isinstance(target, HttpTarget):
            try:
                return http.upstream(target, self.identities, person, grant, session, now)
            except LookupError as error:
                log.error("the credential for a service is not there", grant=grant.id, problem=str(error))
                return later
        if isinstance(target, ClusterTarget) and target.mint is None:
            return self._own_token(target, grant) or later
        try:
            password = self.seal.open(login.sealed, grant.id)
        except SealError as error:
            log.error("login cannot be unsealed", grant=grant.id, problem=str(error))
            return later
        if isinstance(target, ClusterTarget):
            return _cluster(target, password)
        return Upstream(
            target.host, target.port, target.database, login.login, password, target.tls, target.ca
        )

    def _own_token(self, target: ClusterTarget, grant: Grant) -> Upstream | None:
        """A cluster that is entered with a token of its own; None where that is not there."""
        try:
            return _cluster(target, target.token.read())
        except LookupError as error:
            log.error("the token for a cluster is not there", grant=grant.id, problem=str(error))
            return None

    def _host(self, target: SshTarget, grant: Grant, session: str, now: datetime) -> Upstream | None:
        """Where and as whom a session enters an SSH host; None where the keys for it are not there."""
        host = grant.terms.host
        if host is None:
            return None
        key, certificate = "", ""
        try:
            if target.key is not None:
                key = target.key.read()
        except LookupError as error:
            log.error("the key for a host is not there", grant=grant.id, problem=str(error))
            return None
        if not key:
            claim = Claim(grant.principal, grant.id)
            key, certificate = self.ssh.login(host, claim, session, now, grant.expiry)
        return Upstream(
            target.host, target.port, "", host.user, "", key=key, certificate=certificate,
            host_keys=target.host_keys, host_cas=target.host_cas,
        )  # fmt: skip

    # -------------------------------------------------------------- staying

    async def _renew(self, tx: AsyncConnection, gate: str, progress: Sequence[Progress]) -> Renewal:
        await self.service.refresh(tx)
        now = self.service.clock.now()
        said = {item.session: item for item in progress}
        remaining: dict[str, float] = {}
        ends: dict[GrantEnded | SessionKilled, None] = {}
        renewed: list[Progress] = []
        records = await sessions.open_at(tx, gate, list(said))
        found = await stories.of_grants(tx, list({record.grant_id for record in records}))
        for record in records:
            story, person = found.get(record.grant_id), self.service.principal(record.principal)
            grant = story.grant if story else None
            if record.killed_at is not None:
                ends[_killed(record)] = None
            elif grant and (grant.state is GrantState.ENDED or now >= grant.expiry):
                ends[_ended(grant)] = None
            elif stopped := self.service.stopped(record.resource):
                ends[SessionKilled(record.id, "a lock", stopped.why)] = None
            elif person and person.locked:
                ends[SessionKilled(record.id, "a lock", f"{person.id} is locked")] = None
            elif grant and person and person.active:
                remaining[record.id] = (grant.expiry - now).total_seconds()
                renewed.append(said[record.id])
        await sessions.renew(tx, renewed, now + timedelta(seconds=self.lease))
        await self._anchor(tx, gate, renewed, now)
        return Renewal(remaining, tuple(ends))

    async def _anchor(
        self, tx: AsyncConnection, gate: str, progress: Sequence[Progress], now: datetime
    ) -> None:
        """Bind how far recordings have come into the trail, now and then."""
        clock = self.service.clock.monotonic()
        due = [p for p in progress if clock - self._anchored.get(p.session, -ANCHOR_EVERY) >= ANCHOR_EVERY]
        notes = [audit.Note("recording.anchored", item.session, item) for item in due if item.entries]
        await audit.append(tx, notes, at=now, actor=gate, via="gate")
        self._anchored.update({item.session: clock for item in due if item.entries})

    async def _killed(self, gate: str) -> list[SessionKilled]:
        async with self.service.store.read() as tx:
            found = await sessions.killed_at(tx, gate, self.service.clock.now() - KILLS_KEPT)
        return [_killed(it) for it in found]

    async def _changes(self, told: set[str]) -> list[Notice]:
        """What to tell now; `told` is brought up to date."""
        now = self.service.clock.now()
        async with self.service.store.read() as tx:
            found = await stories.live(tx, now)
            grants = {story.grant.id: story.grant for story in found if story.grant}
            ready = await credentials.ready_of(tx, list(grants))
            gone = await stories.of_grants(tx, sorted(told - ready))
        minted = [
            GrantMinted(key, (grants[key].expiry - now).total_seconds()) for key in sorted(ready - told)
        ]
        ended = [_ended(story.grant) for story in gone.values() if story.grant]
        told.clear()
        told.update(ready)
        return [*ended, *minted]


def _cluster(target: ClusterTarget, token: str) -> Upstream:
    """A cluster as one service account, by its token; whom a session acts as is in its grant's terms."""
    bearer = (("Authorization", f"Bearer {token}"),)
    return Upstream(target.host, target.port, "", "", "", ca=target.ca, headers=bearer)


def _ended(grant: Grant) -> GrantEnded:
    by = f" by {grant.ended_by}" if grant.ended_by else ""
    reason = grant.end_reason or EndReason.EXPIRED
    note = f": {grant.end_note}" if grant.end_note else ""
    return GrantEnded(grant.id, reason, f"{grant.id} {reason}{by}{note}")


def _killed(record: SessionRecord) -> SessionKilled:
    return SessionKilled(record.id, record.killed_by, record.kill_reason)


@contextmanager
def _reachable() -> Iterator[None]:
    """A database that fails is a broker that is away, as far as the gate can tell."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise ConnectionError(f"the broker cannot reach its database ({type(error).__name__})") from error
