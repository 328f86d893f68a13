"""What one channel leaves in the recording: its beginning, what was shown, what passed, its end."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.recorder import Track, kept_text
from proxy.recording import FileOperation, Screen, Statement
from proxy.sql.detect import hide

KEPT = 64 * 1024
"""Bytes that are kept of each stream of a command without a terminal; of the rest its size and hash."""
PROGRESS = 16 << 20
"""Bytes after which a channel's recording says how far it is: so a transfer stops where its recording fails,
and not at its end.
"""
_LINE = 4096
"""Characters after which a line is searched for what is to be hidden although its end has not come."""


@dataclass(slots=True)
class Decided:
    """What a recording says of a command that was held. `waited` is in seconds."""

    review: str = ""
    decision: str = ""
    by: str = ""
    waited: float = 0.0


@dataclass(slots=True)
class Execution:
    """A channel's entry, once its outcome is known."""

    text: str
    what: str
    channel: int
    at: float
    outcome: str = "ok"
    took: float = 0.0
    tag: str = ""
    message: str = ""
    verdict: str = ""
    sent: int = 0
    received: int = 0
    decided: Decided = field(default_factory=Decided)

    def line(self, n: int) -> None:
        """There is no shorter way than by `entry`."""

    def entry(self, n: int) -> Statement:
        text, sha256, length = kept_text(self.text.encode("utf-8", "surrogateescape"))
        return Statement(
            n=n,
            at=self.at,
            text=text,
            outcome=self.outcome,
            took=round(self.took, 6),
            tag=self.tag,
            message=self.message,
            verdict=self.verdict,
            sha256=sha256,
            length=length,
            review=self.decided.review,
            decision=self.decided.decision,
            decided_by=self.decided.by,
            waited=round(self.decided.waited, 3),
            channel=self.channel,
            what=self.what,
            sent=self.sent,
            received=self.received,
        )


class Stream:
    """One direction of a channel: what is kept of it, how much passed, and the hash of all of it."""

    def __init__(
        self,
        event: str,
        tell: Callable[[str, str], None],
        kept: int | None,
        hidden: tuple[str, ...],
        *,
        hashed: bool = False,
    ) -> None:
        self._event = event
        self._tell = tell
        self._left = kept
        self._hidden = hidden
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._line = ""
        self._sha256 = hashlib.sha256() if hashed else None
        self.size = 0

    def pass_on(self, data: bytes) -> None:
        self.size += len(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data:
            self._show(self._decode(data))

    def _show(self, text: str) -> None:
        """Tell it; where something is to be hidden, by whole lines, so that nothing is split in two."""
        if not self._hidden:
            self._tell(self._event, text)
            return
        self._line += text
        cut = self._line.rfind("\n") + 1
        if not cut and len(self._line) > _LINE:
            cut = len(self._line)
        if cut:
            shown, self._line = self._line[:cut], self._line[cut:]
            self._tell(self._event, hide(shown, self._hidden))

    def end(self) -> str:
        """Tell what is left; the size and hash, in words, of a stream that passed something."""
        rest = self._line + self._decode(b"", True)
        self._line = ""
        if rest:
            self._tell(self._event, hide(rest, self._hidden) if self._hidden else rest)
        if self._sha256 is None or not self.size:
            return ""
        return f"{self.size} bytes {self._sha256.hexdigest()}"


class Tape:
    """The recording of one channel. `clock` gives seconds since the session began.

    With a `terminal` everything that it shows is kept and nothing that is typed; else the beginning of each
    stream, with its size and hash. Of what `opaque` channels carry only the size is kept.
    """

    def __init__(
        self,
        track: Track,
        clock: Callable[[], float],
        execution: Execution,
        *,
        terminal: bool = False,
        opaque: bool = False,
        hidden: tuple[str, ...] = (),
    ) -> None:
        self._track = track
        self._clock = clock
        self.execution = execution
        kept, hashed = 0 if opaque else KEPT, not (opaque or terminal)
        self._out = Stream("o", self.tell, None if terminal else kept, hidden, hashed=hashed)
        self._err = Stream("e", self.tell, None if terminal else KEPT, hidden, hashed=hashed)
        self._in = Stream("i", self.tell, 0 if terminal else kept, hidden, hashed=hashed)
        self._told = 0
        self._over = False

    def tell(self, event: str, text: str) -> None:
        at = round(self._clock(), 6)
        self._track.tell(Screen(self.execution.channel, at, event, text))

    def file(self, operation: FileOperation) -> None:
        self._track.tell(operation)

    def begin(self) -> None:
        """Before anything runs: what will."""
        self.tell("begin", f"{self.execution.what} {kept_text(self.execution.text.encode())[0]}".strip())

    def shown(self, data: bytes, *, error: bool) -> None:
        (self._err if error else self._out).pass_on(data)
        self.passed(0, len(data))

    def typed(self, data: bytes) -> None:
        self._in.pass_on(data)
        self.passed(len(data), 0)

    def passed(self, sent: int, received: int) -> None:
        """So many bytes went on."""
        it = self.execution
        it.sent += sent
        it.received += received
        if it.sent + it.received - self._told >= PROGRESS:
            self._told = it.sent + it.received
            self.tell("p", f"{it.sent} bytes in, {it.received} out")

    def end(self, outcome: str, message: str = "", tag: str = "") -> Execution | None:
        """Close it; the entry for the recording, once."""
        if self._over:
            return None
        self._over = True
        it = self.execution
        it.outcome, it.message, it.tag = outcome, message, tag
        it.took = self._clock() - it.at
        ends = [f"{name} {said}" for name, stream in self._streams() if (said := stream.end())]
        self.tell("x", "; ".join([it.tag or it.outcome, *ends]))
        return it

    def _streams(self) -> tuple[tuple[str, Stream], ...]:
        return (("in", self._in), ("out", self._out), ("err", self._err))
