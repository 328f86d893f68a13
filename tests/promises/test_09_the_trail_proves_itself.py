"""Promise 9: every transition is in an append-only chain (hash-linked, signed checkpoints) that is checked
offline; a removed, changed or reordered entry is found.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from broker.audit import all_entries
from broker.bus.in_process import InProcessBus
from broker.clock import SystemChance, SystemClock
from broker.policy_file.holder import load
from broker.service import Service
from broker.store.engine import Store
from broker.store.tables import audit, audit_head
from broker.trail import Signer, Verdict, export, load_public_keys, read_witness, verify_export, verify_store
from workflows.access import Wish
from workflows.model import Story

POLICY = """\
people:
  ada: {name: Ada, groups: [engineers]}
  grace: {name: Grace, groups: [dba]}
groups: {engineers: {}, dba: {}}
resources:
  prod-db:
    kind: postgres
    address: 127.0.0.1:5432
    database: shop
    admin: {user: keeper, password: env:PROD}
    roles: {readonly: {memberships: [app_readonly]}}
rules:
  - {name: read, who: [engineers], resources: [prod-db], roles: [readonly], longest: 4h,
     approval: [{group: dba}]}
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trail of some stories: the first part of it signed, the rest not yet."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "access.yaml").write_text(POLICY)
    config = load(folder / "access.yaml")

    async def live() -> None:
        store = Store(f"sqlite:///{folder / 'portcullis.db'}")
        await store.migrate()
        clock, signer = SystemClock(), Signer(folder)
        service = Service(store, lambda: config, clock, SystemChance(), InProcessBus())
        await tell(service)
        await signer.checkpoint(store, clock)
        await tell(service)
        lines: list[str] = []
        await export(store, lines.append)
        (folder / "export.jsonl").write_text("".join(lines))
        await store.close()

    asyncio.run(live())
    checkpointed = sqlite3.connect(folder / "portcullis.db")
    checkpointed.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    checkpointed.close()
    return folder


async def tell(service: Service) -> None:
    """Asked, approved and revoked; asked and denied; asked and cancelled; presses that were refused."""
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")
    for end in ("approve", "deny", "cancel"):
        story = await service.submit("ada", wish, via="slack")
        assert isinstance(story, Story)
        await service.approve(story.request.id, "ada", via="slack")
        await getattr(service, end)(story.request.id, "ada" if end == "cancel" else "grace", via="slack")
        await service.revoke(story.request.id, "grace", via="api", reason="done")


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(kept, folder)
    return folder


def verify(folder: Path) -> Verdict:
    async def run() -> Verdict:
        store = Store(f"sqlite:///{folder / 'portcullis.db'}")
        try:
            witness = read_witness(folder / "audit-checkpoints.jsonl")
            return await verify_store(store, load_public_keys([folder / "audit.pub"]), witness=witness)
        finally:
            await store.close()

    return asyncio.run(run())


def rows(folder: Path) -> list[tuple[int, str]]:
    return query(folder, "SELECT seq, body FROM audit ORDER BY seq")


def query(folder: Path, sql: str) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(folder / "portcullis.db")) as database:
        return database.execute(sql).fetchall()


def put(folder: Path, content: bytes) -> None:
    """Make the database file this, whatever SQLite still has beside it."""
    for beside in ("portcullis.db-wal", "portcullis.db-shm"):
        (folder / beside).unlink(missing_ok=True)
    (folder / "portcullis.db").write_bytes(content)


def attack(folder: Path, *statements: str) -> None:
    """Whoever owns the database writes into it, past the keeper."""
    database = sqlite3.connect(folder / "portcullis.db")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def test_the_trail_of_honest_work_is_good(copy: Path) -> None:
    verdict = verify(copy)
    assert verdict.good
    assert verdict.entries == len(rows(copy))
    assert verdict.entries > 20


def test_one_byte_changed_in_the_file_on_disk_is_told_with_its_entry(copy: Path) -> None:
    """Every entry in its turn, one byte of it, in the bytes of the database file."""
    file = copy / "portcullis.db"
    honest = file.read_bytes()
    marks = query(copy, "SELECT seq, body || prev || hash FROM audit ORDER BY seq")
    draw = random.Random(9)
    for seq, mark in marks:
        text = mark.encode()  # a row's columns lie one after the other in the file
        start = honest.index(text)
        changed = bytearray(honest)
        changed[start + draw.randrange(len(text))] ^= draw.randrange(1, 256)
        put(copy, bytes(changed))
        assert verify(copy).bad == seq
    put(copy, honest)
    assert verify(copy).good


def test_a_removed_entry_is_told_wherever_it_was(copy: Path) -> None:
    honest = (copy / "portcullis.db").read_bytes()
    for seq, _ in rows(copy):
        attack(copy, f"DELETE FROM audit WHERE seq = {seq}")
        assert verify(copy).bad == seq
        put(copy, honest)


def test_a_removed_entry_is_told_even_when_the_rest_moves_up(copy: Path) -> None:
    attack(
        copy,
        "DELETE FROM audit WHERE seq = 5",
        "UPDATE audit SET seq = -seq WHERE seq > 5",
        "UPDATE audit SET seq = -seq - 1 WHERE seq < 0",
        "UPDATE audit_head SET seq = seq - 1",
    )
    assert verify(copy).bad == 5


def test_two_entries_that_changed_places_are_told(copy: Path) -> None:
    attack(
        copy,
        "UPDATE audit SET seq = -1 WHERE seq = 7",
        "UPDATE audit SET seq = 7 WHERE seq = 8",
        "UPDATE audit SET seq = 8 WHERE seq = -1",
    )
    assert verify(copy).bad == 7


def test_an_end_that_was_cut_off_is_told(copy: Path) -> None:
    last = len(rows(copy))
    attack(copy, f"DELETE FROM audit WHERE seq > {last - 3}")
    assert verify(copy).bad == last - 2


def test_nothing_before_the_last_checkpoint_can_be_rewritten(
    copy: Path,
) -> None:
    """With every hash recomputed and the head set right, the signature still tells."""
    asyncio.run(rewrite(copy))
    verdict = verify(copy)
    assert not verdict.good
    assert "another hash" in verdict.what


async def rewrite(folder: Path) -> None:
    store = Store(f"sqlite:///{folder / 'portcullis.db'}")
    async with store.write() as tx:
        prev = ""
        for entry in [entry async for entry in all_entries(tx)]:
            forged = replace(entry, actor="mallory" if entry.seq >= 4 else entry.actor)
            forged = replace(forged, prev=prev or entry.prev)
            prev = forged.computed()
            values = {"actor": forged.actor, "prev": forged.prev, "hash": prev}
            await tx.execute(update(audit).where(audit.c.seq == entry.seq).values(values))
        await tx.execute(update(audit_head).values(hash=prev))
    await store.close()


def test_an_export_is_checked_on_another_machine_with_the_public_key_alone(copy: Path) -> None:
    keys = load_public_keys([copy / "audit.pub"])
    lines = (copy / "export.jsonl").read_text().splitlines()
    assert verify_export(lines, keys).good
    for at in range(len(lines) - 1):
        shorter = lines[:at] + lines[at + 1 :]
        verdict = verify_export(shorter, keys)
        # What is after the last checkpoint and at the very end can only be missed with the database at hand.
        assert not verdict.good or at == verdict.entries
