"""Gates on other machines: invited with a token for one use, known by their newest certificate, removed.

A certificate that nobody wrote down opens nothing, whoever signed it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, replace

from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit
from broker.credentials.seal import Seal
from broker.door import Via
from broker.gates.authority import LIFETIME, GateBearer, GateCa, Signed, Trust, key_print, read_request
from broker.service import Service
from broker.store import gates as table
from broker.store.gates import AuthorityRow, GateRow
from workflows.model import Refusal

JOIN_WITHIN = dt.timedelta(hours=1)
"""How long a join token may be used."""
REPLACED_AFTER = dt.timedelta(days=180)
"""At which age an authority is replaced by itself."""

NOT_ADMIN = Refusal("not-an-admin", "Only administrators say which gates there are.")
NO_GATE = Refusal("no-such-gate", "There is no gate of this name.", "See them: access gates list.")
BAD_REQUEST = Refusal("invalid", "This is no certification request for a key on P-256, signed with it.")
BAD_JOIN = Refusal(
    "bad-join-token",
    "This join token is not good, or no longer.",
    "Have an administrator make another: access gates add.",
)
JOINED_ALREADY = Refusal(
    "joined-already",
    "A gate with another key has joined with this token.",
    "If that was not you, the token was stolen: access gates remove, and then add it again.",
)
UNDER_WAY = Refusal(
    "rotating", "The authority is being replaced already.", "It takes a day; see: access gates list."
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """A join token, shown once."""

    gate: str
    token: str
    until: dt.datetime


class Gates:
    """The gates of one installation, beside its service. `refresh` before anything else, and every now and
    then. `lifetime` is that of certificates.
    """

    def __init__(self, service: Service, seal: Seal, *, lifetime: dt.timedelta = LIFETIME) -> None:
        self.service = service
        self.lifetime = lifetime
        self._seal = seal
        self._trust = Trust(())

    @property
    def trust(self) -> Trust:
        """The authorities, as of the last `refresh`."""
        return self._trust

    async def refresh(self) -> None:
        """Read which authorities there are; make one where there is none, or the newest is old."""
        now = self.service.clock.now()
        async with self.service.store.read() as tx:
            rows = await table.authorities(tx)
        if not rows or rows[-1].made_at + REPLACED_AFTER <= now:
            async with self.service.store.write() as tx:
                rows = await table.authorities(tx)
                if not rows or rows[-1].made_at + REPLACED_AFTER <= now:
                    made = await self._make(tx, actor="", via="system")
                    rows.append(made)
        if [row.id for row in rows] != [ca.id for ca in self._trust.authorities]:
            self._trust = Trust(tuple(self._open(row) for row in rows))

    async def rotate(self, actor: str, *, via: Via) -> Refusal | None:
        """Replace the authority: both are trusted until every gate has a certificate of the new one."""
        if not self.service.is_admin(actor):
            return NOT_ADMIN
        await self.refresh()
        if not self._trust.settled(self.service.clock.now()):
            return UNDER_WAY
        async with self.service.store.write() as tx:
            await self._make(tx, actor=actor, via=via)
        await self.refresh()
        return None

    # ------------------------------------------------------------ the gates

    async def add(self, name: str, actor: str, *, via: Via) -> Invitation | Refusal:
        """Invite a gate. One of this name that is there goes on until the invited one joins."""
        if not self.service.is_admin(actor):
            return NOT_ADMIN
        now, token = self.service.clock.now(), self.service.chance.token(32)
        async with self.service.store.write() as tx:
            there = await table.find(tx, name, lock=True)
            if there is None or there.ended_at is not None:
                there = GateRow(name, "", now, "", "", "", None, actor, now, None, None)
            invited = replace(there, token_hash=_hash(token), token_until=now + JOIN_WITHIN, joined_key="")
            await table.save(tx, invited)
            note = audit.Note("gate.added", name, {"until": invited.token_until})
            await audit.append(tx, [note], at=now, actor=actor, via=via)
        return Invitation(name, token, invited.token_until)

    async def join(self, token: str, request: str, client: str) -> tuple[str, Signed] | Refusal:
        """The name and the first certificate of an invited gate. The same key may ask again while the token
        is good, so that an answer that was lost is not the end; any other key is refused.
        """
        try:
            asked = read_request(request)
        except ValueError:
            return BAD_REQUEST
        now = self.service.clock.now()
        async with self.service.store.write() as tx:
            row = await table.by_token(tx, _hash(token))
            if row is None or row.ended_at is not None or now >= row.token_until:
                return BAD_JOIN
            actor = f"gate:{row.name}"
            if row.joined_key not in ("", key_print(asked)):
                await audit.refused(tx, "join", row.name, JOINED_ALREADY, at=now, actor=actor, via="api")
                return JOINED_ALREADY
            made = self._sign(row.name, asked, now)
            joined = replace(
                row,
                joined_key=key_print(asked),
                serial=made.serial,
                former="",
                until=made.until,
                joined_at=now,
            )
            await table.save(tx, joined)
            note = audit.Note("gate.joined", row.name, {"certificate": made.serial, "client": client[:100]})
            await audit.append(tx, [note], at=now, actor=actor, via="api")
        return row.name, made

    async def renew(self, bearer: GateBearer, request: str) -> Signed | Refusal:
        """The next certificate, for a gate that has shown its last."""
        try:
            asked = read_request(request)
        except ValueError:
            return BAD_REQUEST
        now = self.service.clock.now()
        async with self.service.store.write() as tx:
            row = await table.find(tx, bearer.gate, lock=True)
            if row is None or not row.has(bearer.serial):
                return NO_GATE
            made = self._sign(row.name, asked, now)
            await table.save(tx, replace(row, serial=made.serial, former=bearer.serial, until=made.until))
            body = {"certificate": made.serial, "former": bearer.serial}
            note = audit.Note("gate.renewed", row.name, body)
            await audit.append(tx, [note], at=now, actor=f"gate:{row.name}", via="api")
        return made

    async def known(self, certificate: str) -> GateBearer | None:
        """Which gate shows this certificate (PEM); None for one that does not open, or no longer."""
        bearer = self._trust.read(certificate, self.service.clock.now())
        if bearer is None:
            return None
        async with self.service.store.read() as tx:
            row = await table.find(tx, bearer.gate)
        if row is None or not row.has(bearer.serial):
            return None
        if row.former and bearer.serial == row.serial:
            await self._arrived(bearer)
        return bearer

    async def listed(self) -> list[GateRow]:
        async with self.service.store.read() as tx:
            return await table.listed(tx)

    async def remove(self, name: str, actor: str, *, via: Via) -> Refusal | None:
        """What a gate has opens nothing from now on; its sessions end with their leases."""
        if not self.service.is_admin(actor):
            return NOT_ADMIN
        now = self.service.clock.now()
        async with self.service.store.write() as tx:
            row = await table.find(tx, name, lock=True)
            if row is None or row.ended_at is not None:
                return NO_GATE
            await table.save(tx, replace(row, ended_at=now))
            note = audit.Note("gate.removed", name, {"certificate": row.serial})
            await audit.append(tx, [note], at=now, actor=actor, via=via)
        return None

    # ----------------------------------------------------------- the inside

    async def _arrived(self, bearer: GateBearer) -> None:
        """The newest certificate is in use: the one before it opens nothing any more."""
        async with self.service.store.write() as tx:
            row = await table.find(tx, bearer.gate, lock=True)
            if row is not None and row.serial == bearer.serial:
                await table.save(tx, replace(row, former=""))

    def _sign(self, gate: str, asked: x509.CertificateSigningRequest, now: dt.datetime) -> Signed:
        return self._trust.signing(now).sign(gate, asked, now, self.lifetime)

    async def _make(self, tx: AsyncConnection, *, actor: str, via: Via) -> AuthorityRow:
        now = self.service.clock.now()
        made = GateCa.new(self.service.chance.id("GA", 12), now)
        row = AuthorityRow(made.id, made.certificate, self._seal.close(made.key, _bound_to(made.id)), now)
        await table.add_authority(tx, row)
        note = audit.Note("gate.authority_made", made.id, {})
        await audit.append(tx, [note], at=now, actor=actor, via=via)
        return row

    def _open(self, row: AuthorityRow) -> GateCa:
        key = self._seal.open(row.sealed, _bound_to(row.id))
        return GateCa(row.id, row.certificate, key, row.made_at)


def _bound_to(ca_id: str) -> str:
    return f"gate authority {ca_id}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
