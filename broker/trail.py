"""The trail proves itself: signed checkpoints of its head, and a check of the whole that needs only them.

A checkpoint is an Ed25519 signature over the number and the hash of an entry. Each is stored beside the trail
and, as a witness outside of the database, in a file of the data directory. Whoever rewrites the trail from
some entry on must forge the checkpoints after it; whoever cuts off its end is betrayed by the last of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.audit import GENESIS, Entry, all_entries
from broker.clock import Clock
from broker.codec import encode
from broker.keyfile import read_or_make
from broker.store.engine import Store
from broker.store.tables import audit_checkpoints as t
from broker.store.tables import audit_head

RecordingCheck = Callable[[str, int, str], str | None]
"""(session, entries, head) → what is wrong with that recording, None where it is as the trail says."""

_CONTEXT = "portcullis audit checkpoint v1"
_ANCHORS = ("recording.anchored", "session.closed", "session.lost")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Entry `seq` had this hash, says the key `key_id`. `signature` is hexadecimal."""

    seq: int
    hash: str
    at: datetime
    key_id: str
    signature: str

    def signed(self) -> bytes:
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        return encode([_CONTEXT, self.seq, self.hash, at, self.key_id]).encode()


# ----------------------------------------------------------------- signing


class Signer:
    """The installation's audit key: `audit.key` in the data directory, its public half in `audit.pub`."""

    def __init__(self, data_dir: Path) -> None:
        text = read_or_make(data_dir / "audit.key", _new_key)
        key = serialization.load_pem_private_key(text, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("audit.key is not an Ed25519 key")
        self._key = key
        self.public = key.public_key()
        self.key_id = key_id(self.public)
        self.witness = data_dir / "audit-checkpoints.jsonl"
        (data_dir / "audit.pub").write_bytes(_pem(self.public))

    def sign(self, seq: int, hash_: str, at: datetime) -> Checkpoint:
        bare = Checkpoint(seq, hash_, at, self.key_id, "")
        return Checkpoint(seq, hash_, at, self.key_id, self._key.sign(bare.signed()).hex())

    async def checkpoint(self, store: Store, clock: Clock) -> Checkpoint | None:
        """Sign the head of the trail; None where it is signed already."""
        async with store.write() as tx:
            head = (await tx.execute(select(audit_head.c.seq, audit_head.c.hash))).one()
            last = (await tx.execute(select(func.max(t.c.seq)))).scalar() or 0
            if head.seq <= last:
                return None
            made = self.sign(head.seq, head.hash, clock.now())
            insert = sqlite.insert if store.sqlite else postgresql.insert
            await tx.execute(insert(t).values(**asdict(made)).on_conflict_do_nothing())
        with self.witness.open("a") as file:
            file.write(encode({"checkpoint": made}) + "\n")
        return made


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_id(public: Ed25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def load_public_keys(files: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """The keys to trust, by their id. Raises ValueError where a file holds none."""
    keys = {}
    for file in files:
        key = serialization.load_pem_public_key(file.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{file.name} is not an Ed25519 public key")
        keys[key_id(key)] = key
    return keys


# --------------------------------------------------------------- verifying


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found. `bad` is the number of the first bad entry and `what` what is wrong with it."""

    entries: int
    checkpoints: int
    recordings: int
    bad: int | None = None
    what: str = ""

    @property
    def good(self) -> bool:
        return self.bad is None


@dataclass
class Verifier:
    """Feed it the trail entry by entry, then `finish`. It stops thinking at the first bad one."""

    checkpoints: Iterable[Checkpoint]
    keys: Mapping[str, Ed25519PublicKey]
    recordings: RecordingCheck | None = None
    _due: dict[int, list[Checkpoint]] = field(default_factory=dict)
    _seq: int = 0
    _hash: str = GENESIS
    _checked: int = 0
    _heard: int = 0
    _bad: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        for checkpoint in self.checkpoints:
            self._due.setdefault(checkpoint.seq, []).append(checkpoint)

    def feed(self, entry: Entry) -> None:
        if self._bad:
            return
        if what := self._wrong(entry):
            self._bad = (min(entry.seq, self._seq + 1), what)
            return
        self._seq, self._hash = entry.seq, entry.hash

    def unreadable(self) -> None:
        """The next entry cannot even be read."""
        self._bad = self._bad or (self._seq + 1, "changed: it cannot be read any more")

    def finish(self, head: tuple[int, str] | None = None) -> Verdict:
        """The verdict. `head` is what the database says its last entry is."""
        last = max(self._due, default=0)
        if not self._bad and last > self._seq:
            self._bad = (self._seq + 1, f"removed: a signed checkpoint proves that entry {last} was there")
        if not self._bad and head and head != (self._seq, self._hash):
            self._bad = (self._seq + 1, f"removed: the head of the trail says that entry {head[0]} was there")
        bad, what = self._bad or (None, "")
        return Verdict(self._seq, self._checked, self._heard, bad, what)

    def _wrong(self, entry: Entry) -> str | None:
        if entry.seq != self._seq + 1:
            return f"removed or out of order: after {self._seq} comes {entry.seq}"
        if entry.computed() != entry.hash:
            return "changed: its content does not have its hash"
        if entry.prev != self._hash:
            return "changed or replaced: it does not follow from the entry before"
        for checkpoint in self._due.get(entry.seq, ()):
            if what := self._unsigned(checkpoint, entry):
                return what
        return self._unheard(entry)

    def _unsigned(self, checkpoint: Checkpoint, entry: Entry) -> str | None:
        key = self.keys.get(checkpoint.key_id)
        if key is None:
            return f"its checkpoint is signed with the unknown key {checkpoint.key_id}"
        try:
            key.verify(bytes.fromhex(checkpoint.signature), checkpoint.signed())
        except (InvalidSignature, ValueError):
            return "its checkpoint is forged: the signature does not fit"
        if checkpoint.hash != entry.hash:
            return "rewritten: a signed checkpoint has another hash for it"
        self._checked += 1
        return None

    def _unheard(self, entry: Entry) -> str | None:
        if self.recordings is None or entry.kind not in _ANCHORS:
            return None
        body = json.loads(entry.body)
        if not body.get("entries"):
            return None
        self._heard += 1
        if what := self.recordings(body["session"], body["entries"], body["head"]):
            return f"the recording of {body['session']} is not the one it tells of: {what}"
        return None


async def verify_store(
    store: Store,
    keys: Mapping[str, Ed25519PublicKey],
    *,
    witness: Iterable[Checkpoint] = (),
    recordings: RecordingCheck | None = None,
) -> Verdict:
    """Check the trail in a database, which may go on being written to."""
    async with store.read() as tx:
        head = (await tx.execute(select(audit_head.c.seq, audit_head.c.hash))).one()
        stored = [Checkpoint(*row) for row in await tx.execute(select(t).order_by(t.c.seq))]
        verifier = Verifier([*stored, *witness], keys, recordings)
        seen = await _feed_all(tx, verifier)
    return verifier.finish((head.seq, head.hash) if seen <= head.seq else None)


async def _feed_all(tx: AsyncConnection, verifier: Verifier) -> int:
    """Feed the trail by pages, and where a page cannot be read, one by one up to the entry that is broken."""
    seen: int | None = None
    for page in (1000, 1):
        try:
            async for entry in all_entries(tx, after=seen, page=page):
                verifier.feed(entry)
                seen = entry.seq
            return seen or 0
        except (SQLAlchemyError, ValueError, TypeError):
            continue
    verifier.unreadable()
    return 0


def verify_export(
    lines: Iterable[str],
    keys: Mapping[str, Ed25519PublicKey],
    *,
    witness: Iterable[Checkpoint] = (),
    recordings: RecordingCheck | None = None,
) -> Verdict:
    """Check an exported trail. Raises ValueError where a line is not of an export."""
    items = list(_read(lines))
    checkpoints = [item for item in items if isinstance(item, Checkpoint)]
    verifier = Verifier([*checkpoints, *witness], keys, recordings)
    for item in items:
        if isinstance(item, Entry):
            verifier.feed(item)
    return verifier.finish()


# --------------------------------------------------------------- exporting


async def export(store: Store, write: Callable[[str], object]) -> int:
    """Write the trail and its checkpoints as JSON lines. Returns the number of entries."""
    count = 0
    async with store.read() as tx:
        stored = [Checkpoint(*row) for row in await tx.execute(select(t).order_by(t.c.seq))]
        async for entry in all_entries(tx):
            write(encode({"entry": entry}) + "\n")
            count += 1
    for checkpoint in stored:
        write(encode({"checkpoint": checkpoint}) + "\n")
    return count


def read_witness(file: Path) -> list[Checkpoint]:
    """The checkpoints in the witness file; a last line that a crash cut short does not count."""
    if not file.exists():
        return []
    whole = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [item for item in _read(whole) if isinstance(item, Checkpoint)]


class _Line(msgspec.Struct):
    entry: Entry | None = None
    checkpoint: Checkpoint | None = None


def _read(lines: Iterable[str]) -> Iterator[Entry | Checkpoint]:
    for number, line in enumerate(lines, 1):
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError as error:
            raise ValueError(f"line {number} is not of an exported trail: {error}") from error
        if item := found.entry or found.checkpoint:
            yield item
