"""Locks: made, ended and listed. What is locked is cut in the transaction that locks it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics, standing
from broker.bus import GRANTS, OUTBOX
from broker.door import Via
from broker.reading import NOBODY, UNKNOWN
from broker.service import Service
from broker.store import locks as table
from workflows.lock import NO_LOCK, Lock, LockKind, against_ending, against_making, may_lock
from workflows.model import Refusal

NO_DEVICE = Refusal("no-such-device", "There is no such login.", "See yours: access devices list.")
SEVERAL = Refusal(
    "several-devices", "Several logins begin like that.", "Give the whole id: access devices list."
)
_SEEN = Refusal("not-a-keeper", "Only those who keep the locks see them.", "The policy names them.")


@dataclass(frozen=True, slots=True)
class Locked:
    """What came of locking: the lock, and how many sessions and logins ended by it."""

    lock: Lock
    sessions: int = 0
    logins: int = 0


class Locks:
    """The locks of one broker, beside its service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def make(
        self, kind: LockKind, target: str, actor: str, *, via: Via, reason: str = ""
    ) -> Locked | Refusal:
        """Lock a person (id), device (id), resource (name) or everything, at once; asked again, the lock that
        is there.
        """
        async with self.service.store.write() as tx:
            await self.service.refresh(tx)
            made = await self._make(tx, kind, target, actor, via, reason)
        if isinstance(made, Locked):
            await self._tell(made.lock)
        return made

    async def end(self, key: str, actor: str, *, via: Via) -> list[Lock] | Refusal:
        """Take a lock away, named by its id or by what it is on."""
        async with self.service.store.write() as tx:
            await self.service.refresh(tx)
            now = self.service.clock.now()
            resource = self.service.policy.find(key)
            found = await table.find(tx, resource.name if resource else key)
            refusal = against_ending(self.service.policy, self.service.principal(actor))
            if refusal is None and not found:
                refusal = NO_LOCK
            if refusal:
                return await self._refuse(tx, "unlock", key, actor, via, refusal)
            for lock in found:
                await table.end(tx, lock.id, actor, now)
            notes = [audit.Note("lock.ended", lock.id, lock) for lock in found]
            await audit.append(tx, notes, at=now, actor=actor, via=via)
            await standing.changed(tx, self.service.chance)
        for lock in found:
            await self._tell(lock)
        return found

    async def listed(self, actor: str) -> list[Lock] | Refusal:
        """The locks that are on, for those who keep them and administrators."""
        await self.service.fresh()
        person = self.service.principal(actor)
        if not (may_lock(self.service.policy, person) or self.service.is_admin(actor)):
            return _SEEN
        return list(self.service.standing.locks)

    # ----------------------------------------------------------- the inside

    async def _make(
        self, tx: AsyncConnection, kind: LockKind, target: str, actor: str, via: Via, reason: str
    ) -> Locked | Refusal:
        now, person = self.service.clock.now(), self.service.principal(actor)
        wanted = Lock("", kind, target, " ".join(reason.split())[:500], actor, now)
        refusal: Refusal | None = UNKNOWN
        if person is not None:
            named = await self._named(tx, wanted)
            if isinstance(named, Refusal):
                return await self._refuse(tx, "lock", str(wanted), actor, via, named)
            wanted = named
            everyone = self.service.config.directory.everyone()
            refusal = against_making(self.service.policy, person, everyone, wanted) or self._unknown(wanted)
        if refusal:
            return await self._refuse(tx, "lock", str(wanted), actor, via, refusal)
        for there in await table.find(tx, wanted.target or kind):
            if there.kind is kind:
                return Locked(there)
        lock = replace(wanted, id=self.service.chance.id("L"))
        await table.add(tx, lock)
        cut = await table.kill_sessions(tx, lock, f"locked: {lock.reason}", now)
        ended = 0
        if kind in (LockKind.PERSON, LockKind.DEVICE):
            owner, device = (target, "") if kind is LockKind.PERSON else (lock.principal, lock.target)
            ended = await table.end_tokens(tx, now, principal=owner, device=device)
        body = {"lock": lock, "sessions": cut, "logins": ended}
        await audit.append(tx, [audit.Note("lock.made", lock.id, body)], at=now, actor=actor, via=via)
        await standing.changed(tx, self.service.chance)
        return Locked(lock, cut, ended)

    async def _named(self, tx: AsyncConnection, lock: Lock) -> Lock | Refusal:
        """The lock with what it is on by its own name. The beginning of a device's id will do, where it is
        that of one device alone.
        """
        if lock.kind is LockKind.DEVICE:
            found = await table.devices(tx, lock.target) if lock.target else []
            if len(found) > 1:
                return SEVERAL
            return replace(lock, target=found[0][0], principal=found[0][1]) if found else lock
        resource = self.service.policy.find(lock.target) if lock.kind is LockKind.RESOURCE else None
        return replace(lock, target=resource.name) if resource else lock

    def _unknown(self, lock: Lock) -> Refusal | None:
        if lock.kind is LockKind.DEVICE and not lock.principal:
            return NO_DEVICE
        if lock.kind is LockKind.PERSON and self.service.principal(lock.target) is None:
            return NOBODY
        if lock.kind is LockKind.RESOURCE and lock.target not in self.service.policy.resources:
            return Refusal("no-such-resource", f"There is no resource “{lock.target[:80]}” to lock.")
        return None

    async def _refuse(
        self, tx: AsyncConnection, verb: str, subject: str, actor: str, via: Via, refusal: Refusal
    ) -> Refusal:
        now = self.service.clock.now()
        await audit.refused(tx, verb, subject[:100], refusal, at=now, actor=actor, via=via)
        metrics.refusals.labels(verb, refusal.code).inc()
        return refusal

    async def _tell(self, lock: Lock) -> None:
        """Bring our own standing up to date, and wake whoever waits: gates cut at once."""
        await self.service.fresh()
        await self.service.bus.publish(GRANTS, lock.id)
        await self.service.bus.publish(OUTBOX, lock.id)
