"""The sessions of an emergency in its thread: which are open, and what is done in them. Pure.

A statement is shown as it was recorded, shortened; never a value that it read, and no text of an error, which
may hold one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zlib import crc32

from bot.markup import Blocks, button, code, context, date, plain, section
from bot.shown import Card, Faces, Sitting, count, metadata, pointer, replay
from broker.recordings import RecordedStatement
from workflows.model import Story

MOST_LINES = 10
MOST_TEXT = 3000
"""Characters of one message, so that Slack neither cuts nor refuses it."""
MOST_OPEN = 5
_READS = frozenset(
    {"SELECT", "SHOW", "EXPLAIN", "FETCH", "BEGIN", "COMMIT", "ROLLBACK", "SET", "DECLARE", ""}
)


def open_card(story: Story, faces: Faces, place: str) -> Card:
    """Which sessions are open now, each with a button that ends it."""
    sittings = [it for it in faces.sittings if it.closed_at is None]
    if not sittings:
        text = "🔌 No session is open."
        return Card(text, [section(text)], metadata(story, place))
    text = f"🔌 Open now: {count(len(sittings), 'session')}"
    blocks: Blocks = [section(f"*{text}*"), *(_one(story, faces, it) for it in sittings[:MOST_OPEN])]
    if len(sittings) > MOST_OPEN:
        blocks.append(context(f"and {len(sittings) - MOST_OPEN} more: {code('access sessions list')}"))
    return Card(text, blocks, metadata(story, place))


def open_version(faces: Faces) -> int:
    """What the card above shows, as a number that changes with it."""
    shown = [(it.id, it.killed_by) for it in faces.sittings if it.closed_at is None]
    return crc32(repr(shown).encode()) & 0x7FFFFFFF


def _one(story: Story, faces: Faces, it: Sitting) -> dict[str, object]:
    line = f"{code(it.id)} {plain(it.protocol, 20)}, since {date(it.opened_at, ago=False)}"
    if it.killed_by:
        return section(f"{line}\n🛑 Killed by {faces.person(it.killed_by)}; the gate is cutting it.")
    question = ("Kill this session?", "It is cut at once. The access itself stays.", "Kill it")
    value = f"{pointer(story)} {it.id}"
    kill = button("kill_session", "Kill session", value, style="danger", confirm=question)
    return section(line, kill)


@dataclass
class Told:
    """What one message tells: the range of statements of each session, by its id, and what stands out.

    `add` may be called for any number of statements; no more than a message's lines are kept.
    """

    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    total: int = 0
    _lines: list[tuple[int, int, datetime, str]] = field(default_factory=list)

    def add(self, sitting: Sitting, it: RecordedStatement) -> None:
        first, last = self.ranges.get(sitting.id, (it.n, it.n))
        self.ranges[sitting.id] = (min(first, it.n), max(last, it.n))
        self.total += 1
        at = sitting.opened_at + timedelta(seconds=it.at)
        # What changes or was refused stands out: it cannot be hidden behind many reads.
        line = (_weight(it), -self.total, at, _line(it, at))
        if len(self._lines) < MOST_LINES:
            heapq.heappush(self._lines, line)
        else:
            heapq.heappushpop(self._lines, line)

    def text(self, public_url: str) -> str:
        """The message."""
        first, *others = self.ranges
        names = ", ".join(code(key) for key in [first, *others][:3]) + (" …" if len(self.ranges) > 3 else "")
        lines = [f"📜 {names}", *self._within(MOST_TEXT)]
        more = self.total - (len(lines) - 1)
        whole = " · ".join(replay(key, public_url) for key in [first, *others][:3])
        lines.append(f"and {more} more · {whole}" if more else whole)
        return "\n".join(lines)

    def _within(self, most: int) -> Iterator[str]:
        """The lines in the order of time, as many as there is room for; the weightiest are sure of it."""
        kept, room = set[int](), most
        for index, it in sorted(enumerate(self._lines), key=lambda pair: pair[1], reverse=True):
            room -= len(it[3]) + 1
            if room < 0:
                break
            kept.add(index)
        chosen = [it for index, it in enumerate(self._lines) if index in kept]
        yield from (it[3] for it in sorted(chosen, key=lambda it: (it[2], -it[1])))


def _weight(it: RecordedStatement) -> int:
    """How much a statement stands out: refused or held, changing, failed, reading."""
    if it.outcome == "refused" or it.decision:
        return 3
    if it.statement_class not in {"", "read"} or it.tag.split(" ")[0].strip(";") not in _READS:
        return 2
    return 1 if it.outcome != "ok" else 0


def _line(it: RecordedStatement, at: datetime) -> str:
    mark = {3: "⛔" if it.outcome == "refused" else "⏸️", 2: "✏️", 1: "⚠️", 0: "·"}[_weight(it)]
    clock = f"<!date^{int(at.timestamp())}^{{time_secs}}|{at.astimezone(UTC):%H:%M:%S} UTC>"
    return f"{clock} {mark} {code(it.text[:400])} → {_outcome(it)}"


def _outcome(it: RecordedStatement) -> str:
    if it.outcome == "ok":
        said = plain(it.tag, 60) or "done"
    elif it.outcome == "error":
        said = f"error {plain(it.sqlstate, 5)}"
    else:
        said = plain(it.outcome, 20)
    return f"{said} ({plain(it.decision, 20)} by {plain(it.decided_by, 60)})" if it.decided_by else said


def kinds(end: str, ranges: dict[str, tuple[int, int]]) -> list[str]:
    """Under which names the ledger holds that a thread was told: `stm:0:7K3F9Q2X1ABC:1-37`."""
    return [f"{prefix(end, key)}{first}-{last}" for key, (first, last) in ranges.items()]


def prefix(end: str, session: str) -> str:
    return f"stm:{end}:{session.removeprefix('S-')[:12]}:"


def range_of(kind: str) -> tuple[int, int]:
    first, _, last = kind.rpartition(":")[2].partition("-")
    return int(first), int(last)


def latest(known: Sequence[str]) -> tuple[int, int]:
    """The last range among the names of one session's; (1, 0) where there is none."""
    return max(map(range_of, known), default=(1, 0))
