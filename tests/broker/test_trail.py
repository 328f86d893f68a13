"""The audit trail: one line of entries, signed heads, and a check that names the first bad entry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from broker import audit
from broker.audit import GENESIS, Entry, Note
from broker.codec import encode
from broker.service import Service
from broker.store.engine import Store
from broker.store.tables import audit as table
from broker.store.tables import audit_checkpoints, audit_head
from broker.trail import (
    Checkpoint,
    Signer,
    Verdict,
    Verifier,
    export,
    load_public_keys,
    read_witness,
    verify_export,
    verify_store,
)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
def keys(signer: Signer, tmp_path: Path) -> Any:
    return load_public_keys([tmp_path / "audit.pub"])


async def write(store: Store, clock: Any, count: int, *, kind: str = "test", body: object = "x") -> None:
    async with store.write() as tx:
        notes = [Note(kind, f"R-{n}", body) for n in range(count)]
        await audit.append(tx, notes, at=clock.now(), actor="ada", via="api")


async def tampered(store: Store, keys: Any, change: Any) -> Verdict:
    async with store.write() as tx:
        await tx.execute(change)
    return await verify_store(store, keys)


async def test_an_untouched_trail_is_good(store: Store, clock: Any, signer: Signer, keys: Any) -> None:
    await write(store, clock, 3)
    await signer.checkpoint(store, clock)
    await write(store, clock, 2)
    assert await verify_store(store, keys) == Verdict(5, 1, 0)
    assert await signer.checkpoint(store, clock) is not None
    assert await signer.checkpoint(store, clock) is None


async def test_writers_at_once_stand_in_one_line(store: Store, clock: Any, keys: Any) -> None:
    await asyncio.gather(*(write(store, clock, 3) for _ in range(10)))
    assert await verify_store(store, keys) == Verdict(30, 0, 0)


async def test_an_entry_of_a_rolled_back_transaction_leaves_no_gap(
    store: Store, clock: Any, keys: Any
) -> None:
    await write(store, clock, 1)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with store.write() as tx:
            await audit.append(tx, [Note("lost", "R-1", {})], at=clock.now(), actor="", via="api")
            raise ZeroDivisionError
    await write(store, clock, 1)
    assert await verify_store(store, keys) == Verdict(2, 0, 0)


@pytest.mark.parametrize("column", ["kind", "subject", "actor", "via", "body", "hash", "prev"])
async def test_a_changed_entry_is_named(store: Store, clock: Any, keys: Any, column: str) -> None:
    await write(store, clock, 5)
    verdict = await tampered(store, keys, update(table).where(table.c.seq == 3).values({column: "forged"}))
    assert verdict.bad == 3
    assert "changed" in verdict.what


async def test_a_changed_instant_is_named(store: Store, clock: Any, keys: Any) -> None:
    await write(store, clock, 5)
    clock.advance(seconds=0.000001)
    verdict = await tampered(store, keys, update(table).where(table.c.seq == 3).values(at=clock.now()))
    assert verdict.bad == 3


async def test_a_removed_entry_is_named(store: Store, clock: Any, keys: Any) -> None:
    await write(store, clock, 5)
    verdict = await tampered(store, keys, delete(table).where(table.c.seq == 3))
    assert (verdict.bad, verdict.entries) == (3, 2)
    assert "removed" in verdict.what


async def test_entries_that_changed_places_are_named(store: Store, clock: Any, keys: Any) -> None:
    await write(store, clock, 5)
    async with store.write() as tx:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            await tx.execute(update(table).where(table.c.seq == old).values(seq=new))
    assert (await verify_store(store, keys)).bad == 2


async def test_a_cut_off_end_is_named_by_the_head_and_by_the_last_checkpoint(
    store: Store, clock: Any, signer: Signer, keys: Any
) -> None:
    await write(store, clock, 5)
    await signer.checkpoint(store, clock)
    verdict = await tampered(store, keys, delete(table).where(table.c.seq > 3))
    assert verdict.bad == 4
    async with store.read() as tx:
        third = [entry async for entry in audit.all_entries(tx)][-1]
    verdict = await tampered(store, keys, update(audit_head).values(seq=3, hash=third.hash))
    assert verdict.bad == 4
    assert "signed checkpoint proves that entry 5 was there" in verdict.what


async def test_a_cut_off_end_without_its_checkpoints_is_named_by_the_witness_file(
    store: Store, clock: Any, signer: Signer, keys: Any
) -> None:
    await write(store, clock, 5)
    await signer.checkpoint(store, clock)
    async with store.write() as tx:
        await tx.execute(delete(table))
        await tx.execute(delete(audit_checkpoints))
        await tx.execute(update(audit_head).values(seq=0, hash=GENESIS))
    assert (await verify_store(store, keys)).good
    assert (await verify_store(store, keys, witness=read_witness(signer.witness))).bad == 1


async def test_a_trail_rewritten_with_good_hashes_is_found_by_its_checkpoint(
    store: Store, clock: Any, signer: Signer, keys: Any
) -> None:
    await write(store, clock, 4)
    await signer.checkpoint(store, clock)
    await rewrite(store, from_seq=2)
    verdict = await verify_store(store, keys)
    assert verdict.bad == 4
    assert "another hash" in verdict.what


async def rewrite(store: Store, from_seq: int) -> None:
    """Forge the trail from an entry on, hashes and head included, as one with the database could."""
    async with store.write() as tx:
        entries = [entry async for entry in audit.all_entries(tx)]
        prev = entries[from_seq - 2].hash if from_seq > 1 else GENESIS
        for entry in entries[from_seq - 1 :]:
            forged = replace(entry, actor="mallory", prev=prev)
            forged = replace(forged, hash=forged.computed())
            values = {"actor": forged.actor, "prev": forged.prev, "hash": forged.hash}
            await tx.execute(update(table).where(table.c.seq == entry.seq).values(values))
            prev = forged.hash
        await tx.execute(update(audit_head).values(hash=prev))


async def test_a_checkpoint_by_an_unknown_key_or_with_a_forged_signature_is_named(
    store: Store, clock: Any, signer: Signer, keys: Any, tmp_path: Path
) -> None:
    await write(store, clock, 2)
    made = await signer.checkpoint(store, clock)
    assert made is not None
    assert (await verify_store(store, {})).what.endswith(f"unknown key {signer.key_id}")
    verdict = await tampered(store, keys, update(audit_checkpoints).values(signature="00" * 64))
    assert "forged" in verdict.what


async def test_an_export_is_checked_without_the_database(
    service: Service, clock: Any, signer: Signer, keys: Any
) -> None:
    await write(service.store, clock, 4)
    await signer.checkpoint(service.store, clock)
    lines: list[str] = []
    assert await export(service.store, lines.append) == 4
    assert verify_export(lines, keys) == Verdict(4, 1, 0)
    lines[1] = lines[1].replace('"ada"', '"eve"')
    assert verify_export(lines, keys).bad == 2
    with pytest.raises(ValueError, match="line 1 is not of an exported trail"):
        verify_export(["{"], keys)


async def test_recordings_are_held_against_their_anchors(store: Store, clock: Any, keys: Any) -> None:
    body = {"session": "S-1", "entries": 7, "head": "ab" * 32}
    await write(store, clock, 1, kind="recording.anchored", body=body)
    asked: list[tuple[str, int, str]] = []

    def good(session: str, entries: int, head: str) -> str | None:
        asked.append((session, entries, head))
        return None

    assert await verify_store(store, keys, recordings=good) == Verdict(1, 0, 1)
    assert asked == [("S-1", 7, "ab" * 32)]
    verdict = await verify_store(store, keys, recordings=lambda *_: "entry 3 was changed")
    assert verdict.bad == 1
    assert "S-1" in verdict.what
    assert "entry 3 was changed" in verdict.what


def test_a_last_line_that_a_crash_cut_short_does_not_count(
    signer: Signer, clock: Any, tmp_path: Path
) -> None:
    made = signer.sign(1, "ab" * 32, clock.now())
    whole = encode({"checkpoint": made}) + "\n"
    signer.witness.write_text(whole + whole[:20])
    assert read_witness(signer.witness) == [made]


def test_the_key_stays_the_same_and_others_may_not_read_it(tmp_path: Path) -> None:
    assert Signer(tmp_path).key_id == Signer(tmp_path).key_id
    (tmp_path / "audit.key").chmod(0o644)
    with pytest.raises(PermissionError, match=r"chmod 600 audit\.key"):
        Signer(tmp_path)


def chain(texts: list[str], clock: Any) -> list[Entry]:
    entries: list[Entry] = []
    prev = GENESIS
    for seq, text in enumerate(texts, 1):
        bare = Entry(seq, clock.now(), "test", text, "ada", "api", "{}", prev, "")
        prev = bare.computed()
        entries.append(replace(bare, hash=prev))
    return entries


def check(entries: list[Entry], checkpoints: list[Checkpoint], keys: Any) -> Verdict:
    verifier = Verifier(checkpoints, keys)
    for entry in entries:
        verifier.feed(entry)
    return verifier.finish()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), texts=st.lists(st.text(max_size=8), min_size=1, max_size=8))
def test_whatever_is_done_to_a_signed_trail_is_found(
    data: st.DataObject, texts: list[str], signed_by: Callable[[], tuple[Signer, Any, Any]]
) -> None:
    signer, keys, clock = signed_by()
    entries = chain(texts, clock)
    checkpoint = signer.sign(len(entries), entries[-1].hash, clock.now())
    assert check(entries, [checkpoint], keys).good
    at = data.draw(st.integers(0, len(entries) - 1))
    how = data.draw(st.sampled_from(["change", "remove", "double", "move", "cut", "rehash"]))
    forged = list(entries)
    if how == "change":
        forged[at] = replace(forged[at], subject=forged[at].subject + "!")
    elif how == "rehash":
        forged = chain([*texts[:at], texts[at] + "!", *texts[at + 1 :]], clock)
    elif how == "remove":
        del forged[at]
    elif how == "double":
        forged.insert(at, forged[at])
    elif how == "cut":
        forged = forged[:at]
    else:
        forged.insert(data.draw(st.integers(0, len(forged) - 1)), forged.pop(at))
    if forged != entries:
        assert not check(forged, [checkpoint], keys).good


@pytest.fixture(scope="module")
def signed_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Signer, Any, Any]]:
    folder = tmp_path_factory.mktemp("keys")
    signer = Signer(folder)
    keys = load_public_keys([folder / "audit.pub"])

    class Still:
        def now(self) -> Any:
            return datetime(2026, 11, 24, tzinfo=UTC)

    return lambda: (signer, keys, Still())
