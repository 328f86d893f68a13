"""From the outbox to the targets: logins made for new grants, dropped with old ones.

Work may be done twice: a login's password is chosen and sealed before anything is made, so a second attempt
makes the same login; a drop of what is gone does nothing. What a crash leaves at a target the sweep removes.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics
from broker.bus import GRANTS
from broker.config import ClusterTarget, HttpTarget, SshTarget, Target
from broker.credentials.kubernetes import ClusterLogins
from broker.credentials.postgres import NewLogin, PostgresLogins, TargetError, login_name
from broker.credentials.seal import Seal, SealError
from broker.credentials.ssh import SshLogins
from broker.outbox import DROP, MINT, Outbox, Work, backoff, finish, work_off
from broker.service import Service
from broker.store import credentials, stories
from broker.store.credentials import SealedLogin
from workflows.model import Grant

MOST_ATTEMPTS = 6
"""Then the grant has failed and the person is told: after some 15 seconds of waiting in between."""
AT_MOST = 45.0
"""Seconds that one attempt may take."""
LEASE = timedelta(seconds=6)
"""How soon another broker takes over the work of one that was killed; prolonged while work is being done."""

log = structlog.get_logger(__name__)


class Logins(Protocol):
    """The logins at one target: see PostgresLogins for what each of these promises. `make` gives the secret
    to log in with where the target chose it.
    """

    async def make(self, login: NewLogin) -> str | None: ...
    async def drop(self, name: str) -> str: ...
    async def ours(self) -> dict[str, str]: ...


class CredentialWorker:
    """`run` works until it is cancelled; `drain` does what is due and returns."""

    def __init__(self, service: Service, outbox: Outbox, seal: Seal, installation: str) -> None:
        self._service = service
        self._outbox = outbox
        self._seal = seal
        self._installation = installation

    async def run(self) -> None:
        await work_off("credentials", self._service.bus, self.drain, partial(self._outbox.pause, MINT, DROP))

    async def drain(self) -> int:
        """Do everything that is due now; how much there was."""
        count = 0
        while work := await self._outbox.claim(MINT, DROP, lease=LEASE):
            await self.do(work)
            count += 1
        return count

    async def do(self, work: Work) -> None:
        """Do one claimed row. A failure is written down and tried again later."""
        try:
            async with self._outbox.holding(work, LEASE), asyncio.timeout(AT_MOST):
                await (self._mint(work) if work.kind == MINT else self._drop(work))
            metrics.outbox_done.labels(work.kind).inc()
        except (TargetError, SealError, TimeoutError) as error:
            await self._failed(work, str(error) or "It took too long.")

    async def sweep_orphans(self) -> int:
        """Drop the logins of ours that the database does not know (any more). Returns how many."""
        dropped = 0
        for resource, target in self._service.config.targets.items():
            try:
                logins = _logins(resource, target, self._installation)
                there = await logins.ours()  # looked up before the database: what is made meanwhile is known
                async with self._service.store.read() as tx:
                    known = await credentials.standing(tx)
                for name in there.keys() - known:
                    log.warning("orphan login dropped", login=name, resource=resource)
                    await logins.drop(name)
                    dropped += 1
            except TargetError as error:
                log.warning("orphans cannot be looked for", resource=resource, problem=str(error))
        return dropped

    # --------------------------------------------------------------- mint

    async def _mint(self, work: Work) -> None:
        async with self._service.store.write() as tx:
            login = await self._prepare(tx, work.key)
        given: str | None = None
        if login is not None:
            resource, new = login
            given = await self._logins(resource).make(new)
        await self._conclude_mint(work, made=login is not None, given=given)
        await self._service.bus.publish(GRANTS, work.key)

    async def _prepare(self, tx: AsyncConnection, grant_id: str) -> tuple[str, NewLogin] | None:
        """Choose and seal the password, or find the one chosen before; None where the grant is over."""
        grant = await self._live(tx, grant_id)
        if grant is None:
            return None
        resource = self._service.policy.find(grant.resource)
        role = resource.role(grant.role) if resource else None
        if role is None:
            raise TargetError(f"The policy no longer has {grant.role} on {grant.resource}.")
        row = await credentials.find(tx, grant_id)
        if row is None:
            row = await self._choose(tx, grant)
        new = NewLogin(
            name=row.login,
            password=self._seal.open(row.sealed, grant_id),
            grant=grant_id,
            memberships=role.memberships,
            expiry=grant.expiry,
            max_sessions=grant.terms.max_sessions,
        )
        return grant.resource, new

    async def _choose(self, tx: AsyncConnection, grant: Grant) -> SealedLogin:
        sealed = self._seal.close(self._service.chance.token(32), grant.id)
        name = login_name(grant.principal, grant.id)
        now = self._service.clock.now()
        row = SealedLogin(grant.id, grant.resource, name, sealed, self._seal.current, now)
        await credentials.add(tx, row)
        return row

    async def _conclude_mint(self, work: Work, *, made: bool, given: str | None) -> None:
        """Ready, unless the grant ended meanwhile: its drop then waits behind this work."""
        now = self._service.clock.now()
        async with self._service.store.write() as tx:
            grant = await self._live(tx, work.key)
            row = await credentials.find(tx, work.key, lock=True)
            if made and grant and row and not row.dropped_at and not row.ready_at:
                if given is not None:
                    sealed = self._seal.close(given, grant.id)
                    await credentials.reseal(tx, work.key, sealed, self._seal.current)
                await credentials.mark_ready(tx, work.key, now)
                note = audit.Note(
                    "credential.made", grant.request_id, {"grant": grant.id, "login": row.login}
                )
                await audit.append(tx, [note], at=now, actor="", via="system")
            await finish(tx, work, now)

    async def _live(self, tx: AsyncConnection, grant_id: str) -> Grant | None:
        story = await stories.lock(tx, grant_id)
        grant = story.grant if story else None
        return grant if grant and grant.live(self._service.clock.now()) else None

    # --------------------------------------------------------------- drop

    async def _drop(self, work: Work) -> None:
        async with self._service.store.read() as tx:
            row = await credentials.find(tx, work.key)
            story = await stories.find(tx, work.key)
        kept = ""
        if row and not row.dropped_at:
            kept = await self._logins(row.resource).drop(row.login)
        now = self._service.clock.now()
        async with self._service.store.write() as tx:
            row = await credentials.find(tx, work.key, lock=True)
            if row and story and not row.dropped_at:
                await credentials.mark_dropped(tx, work.key, now)
                body = {"grant": work.key, "login": row.login, "kept": kept}
                note = audit.Note("credential.dropped", story.request.id, body)
                await audit.append(tx, [note], at=now, actor="", via="system")
            await finish(tx, work, now)

    # ------------------------------------------------------------ failing

    async def _failed(self, work: Work, why: str) -> None:
        metrics.outbox_failed.labels(work.kind).inc()
        log.warning(
            "credentials: failed", kind=work.kind, grant=work.key, attempts=work.attempts, problem=why
        )
        if work.kind == MINT and work.attempts >= MOST_ATTEMPTS:
            await self._service.fail_grant(work.key, why)
            await self._outbox.finish(work)
        else:
            await self._outbox.retry(work, why, backoff(work.attempts))

    def _logins(self, resource: str) -> Logins:
        target = self._service.config.targets.get(resource)
        if target is None:
            raise TargetError(f"The policy no longer says where {resource} is.")
        return _logins(resource, target, self._installation)


def _logins(resource: str, target: Target, installation: str) -> Logins:
    if isinstance(target, SshTarget | HttpTarget):
        return SshLogins()
    if isinstance(target, ClusterTarget):
        return ClusterLogins(resource, target, installation)
    return PostgresLogins(resource, target, installation)
