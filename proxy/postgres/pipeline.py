"""What a client has asked for and the target has not answered yet, in order.

Every message that is forwarded and answered leaves a step here; the target's answers take the steps off in
the same order. Statements and portals come into being when the target confirms them, not when the client
names them, so that a Parse that failed changes nothing here either. A reply that does not fit the step at the
head means that the two readings of the conversation differ, and the session ends (codec.WireError).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.postgres import codec, turns
from proxy.postgres.holding import Review
from proxy.postgres.reading import PASS
from proxy.recorder import kept_text
from proxy.recording import Statement
from proxy.sql.guard import Verdict
from proxy.sql.rows import MaskPlan

if TYPE_CHECKING:
    from proxy.postgres.limits import Limit


class Step:
    """One message under way. `own` is the gate's own message, whose answers the client does not get."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own = False


class Sync(Step):
    """A Sync: answered by ReadyForQuery, and where skipping after an error ends."""

    __slots__ = ()


class CopyEnd(Step):
    """A CopyDone or CopyFail; it has no answer of its own."""

    __slots__ = ()


class CloseStep(Step):
    __slots__ = ("name", "of")

    def __init__(self, of: int, name: bytes) -> None:
        self.own = False
        self.of = of
        self.name = name


class DescribeStep(Step):
    """`of` is ord("S") for a statement, ord("P") for a portal."""

    __slots__ = ("name", "of")

    def __init__(self, of: int, name: bytes, own: bool = False) -> None:
        self.own = own
        self.of = of
        self.name = name


class Execution(Step):
    """Something that runs, or was refused, with its outcome: what a recording holds of it.

    Times are monotonic seconds until `entry`, which needs `origin`, the session's start.
    """

    __slots__ = (
        "bound",
        "described",
        "late",
        "limit",
        "meaning",
        "message",
        "origin",
        "outcome",
        "plan",
        "result",
        "review",
        "rows",
        "sqlstate",
        "started",
        "tag",
        "text",
        "took",
        "verdict",
    )

    def __init__(self, text: bytes, verdict: Verdict, started: float, origin: float) -> None:
        self.own = False
        self.text = text
        self.verdict = verdict
        self.started = started
        self.origin = origin
        self.took = 0.0
        self.bound = b""
        self.outcome = "ok"
        self.tag = b""
        self.rows = 0
        self.sqlstate = b""
        self.message = b""
        self.plan: MaskPlan | None = None
        self.described = False
        self.result = 0  # how many results of a simple query came before
        self.meaning = b""  # what the names that it executes stand for
        self.review: Review | None = None
        self.limit: Limit | None = None
        self.late: Verdict | None = None  # what to say when it was cancelled for taking too long

    def line(self, n: int) -> bytes | None:
        """The recording's entry as its line, where that is soon made."""
        return recorded(self, n) if self.outcome == "ok" and self.review is None else None

    def entry(self, n: int) -> Statement:
        """The recording's entry. Its fields stand in Statement's order: here names would cost time."""
        text, digest, length = kept_text(self.text)
        verdict = self.verdict
        return Statement(
            n,
            int((self.started - self.origin) * 1e6) / 1e6,
            text,
            self.outcome,
            int(self.took * 1e6) / 1e6,
            self.tag.decode("utf-8", "replace"),
            self.rows,
            _parameters(self.bound, verdict.scrub_errors) if self.bound else [],
            self.sqlstate.decode("ascii", "replace") if self.sqlstate else "",
            self.message.decode("utf-8", "replace") if self.message else "",
            "" if verdict is PASS else verdict.statement_class._value_,
            digest,
            length,
            **({} if self.review is None else self.review.told),
        )


class QueryStep(Execution):
    """A simple query: any number of statements, one ReadyForQuery."""

    __slots__ = ()


class ParseStep(Execution):
    """A Parse. It is recorded only when it fails or is refused: it runs nothing.

    Its verdict holds as long as the catalog's picture has this `stamp`. `plain` as in reading.is_plain.
    """

    __slots__ = ("name", "parameters", "plain", "stamp", "types")

    def __init__(self, name: bytes, text: bytes, verdict: Verdict, started: float, origin: float) -> None:
        super().__init__(text, verdict, started, origin)
        self.name = name
        self.stamp = ""
        self.plain = False
        self.types = b""  # what the client said of its parameters
        self.parameters = b""  # what the target said of them


class BindStep(Step):
    """A Bind and, once confirmed, the portal it made. `plan` is set by the portal's Describe."""

    __slots__ = ("body", "described", "meaning", "plan", "portal", "prepared", "review", "statement")

    def __init__(self, portal: bytes, statement: bytes, body: bytes) -> None:
        self.own = False
        self.portal = portal
        self.statement = statement
        self.body = body
        self.prepared: ParseStep | None = None
        self.meaning = b""  # the text, where it was prepared by SQL
        self.review: Review | None = None
        self.described = False
        self.plan: MaskPlan | None = None


class ExecuteStep(Execution):
    """An Execute of a portal; text and verdict are filled in from the portal when its answer comes."""

    __slots__ = ("portal",)

    def __init__(self, portal: bytes, started: float, origin: float) -> None:
        super().__init__(b"", PASS, started, origin)
        self.portal = portal


SYNC = Sync()
COPY_END = CopyEnd()
UNKNOWN_TEXT = b"(a statement prepared by SQL PREPARE)"
PORTAL = ord("P")


class Turn:
    """A whole ordinary request under way, see turns.py: a Query, or a batch, whose answer begins with the
    messages of the kinds `ahead`. `described` is false where the gate put a Describe of its own into it.
    `steps` are what it is message by message. Its outcome is what a recording holds of it; `text` and
    `verdict` of a batch are known by then.
    """

    __slots__ = (
        "ahead",
        "bound",
        "described",
        "origin",
        "parse",
        "portal",
        "rows",
        "started",
        "statement",
        "tag",
        "text",
        "took",
        "verdict",
    )

    def __init__(self, text: bytes, verdict: Verdict, started: float, origin: float) -> None:
        self.text = text
        self.verdict = verdict
        self.started = started
        self.origin = origin
        self.ahead = self.bound = self.portal = self.statement = b""
        self.parse: ParseStep | None = None
        self.described = True
        self.took = 0.0
        self.tag = b""
        self.rows = 0

    def steps(self) -> list[Step]:
        if not self.ahead:
            return [QueryStep(self.text, self.verdict, self.started, self.origin)]
        steps: list[Step] = [] if self.parse is None else [self.parse]
        run = ExecuteStep(self.portal, self.started, self.origin)
        return [*steps, self.bind(), DescribeStep(PORTAL, self.portal, own=not self.described), run, SYNC]

    def bind(self) -> BindStep:
        return BindStep(self.portal, self.statement, self.bound)

    def line(self, n: int) -> bytes | None:
        return recorded(self, n)

    def entry(self, n: int) -> Statement:
        step = QueryStep(self.text, self.verdict, self.started, self.origin)
        step.took, step.tag, step.rows, step.bound = self.took, self.tag, self.rows, self.bound
        return step.entry(n)


def recorded(it: Execution | Turn, n: int) -> bytes | None:
    """The recording's line for something that went well; None where its entry has to be made."""
    verdict = it.verdict
    return turns.line(
        n,
        it.started - it.origin,
        it.took,
        it.text,
        it.tag,
        it.rows,
        it.bound,
        verdict.scrub_errors,
        "" if verdict is PASS else verdict.statement_class._value_,
    )


class Pipeline:
    """The steps under way, the confirmed statements and portals, and the target's transaction status.

    A `turn` under way is all that is, and becomes its steps for whoever asks for them.
    """

    __slots__ = (
        "_steps",
        "copying_in",
        "executed",
        "in_copy",
        "portals",
        "skipping",
        "statements",
        "status",
        "turn",
        "unsynced",
    )

    def __init__(self, status: int) -> None:
        self._steps: deque[Step] = deque()
        self.turn: Turn | None = None
        self.statements: dict[bytes, ParseStep] = {}
        self.portals: dict[bytes, BindStep] = {}
        self.status = status
        self.skipping = False
        self.unsynced = False
        """The target has messages of the extended protocol behind the last Sync: a Query would end them."""
        self.executed = False
        """An Execute was sent behind the last Sync."""
        self.in_copy = False
        """The command at the head is a COPY FROM STDIN that the target is reading."""
        self.copying_in = False
        """The same, and the client has not ended its data yet."""

    @property
    def steps(self) -> deque[Step]:
        if self.turn is not None:
            self._steps.extend(self.turn.steps())
            self.turn = None
        return self._steps

    @property
    def takes_turn(self) -> bool:
        """Whether nothing at all is under way."""
        return not (self._steps or self.turn is not None or self.skipping or self.unsynced or self.copying_in)

    def head(self) -> Step:
        """The step that the next answer belongs to. Raises WireError when nothing is under way."""
        steps = self.steps
        while steps:
            step = steps[0]
            if step is not COPY_END:
                return step
            steps.popleft()
        raise codec.WireError("an answer came to nothing that was asked")

    @property
    def rested(self) -> bool:
        """Whether everything that was sent is answered."""
        steps = self.steps
        while steps and steps[0] is COPY_END:
            steps.popleft()
        return not steps

    @property
    def comes_to_rest(self) -> bool:
        """Whether ReadyForQuery will come without anything more from the client, or has come last."""
        if not self.steps:
            return not self.unsynced
        return self.steps[-1] is SYNC or isinstance(self.steps[-1], QueryStep)

    @property
    def busy(self) -> bool:
        return bool(self.steps) or self.status != ord("I")

    def copy_in_began(self) -> None:
        """CopyInResponse. The target now reads CopyData only: a Sync sent right behind the Execute is
        swallowed, as its documentation says ("COPY Operations"), anything else would be lost.
        """
        head, *rest = self.steps
        kept: list[Step] = [head]
        ended = False
        for index, step in enumerate(rest):
            if step is COPY_END:
                kept.extend(rest[index:])
                ended = True
                break
            if step is not SYNC:
                raise codec.WireError("a message came where COPY data was due")
        self._steps = deque(kept)
        self.in_copy = True
        self.copying_in = not ended

    def copy_in_over(self) -> None:
        """The command at the head is through: the CopyDone behind it, if any, has been read."""
        self.in_copy = self.copying_in = False
        if len(self.steps) > 1 and self.steps[1] is COPY_END:
            del self.steps[1]

    def failed(self) -> Sequence[Step]:
        """An error in the extended protocol: the target skips to the next Sync. Returns what it skips."""
        skipped: list[Step] = []
        while self.steps and self.steps[0] is not SYNC:
            skipped.append(self.steps.popleft())
        self.skipping = not self.steps
        self.in_copy = self.copying_in = False
        return skipped


def _parameters(bound: bytes, scrub: bool) -> list[str | None]:
    """A Bind's values for the recording: text as it came, binary as `\\x` and hex; nothing when scrubbed."""
    try:
        formats, values, _ = codec.read_bound(bound, bound.index(b"\0", bound.index(b"\0") + 1) + 1)
    except (codec.WireError, ValueError):
        return []
    if scrub:
        return ["(masked)" if value is not None else None for value in values]
    if not any(formats):
        return [None if value is None else kept_text(value)[0] for value in values]
    kinds = formats if len(formats) > 1 else formats * len(values)
    return [
        None if value is None else ("\\x" + value[:4096].hex() if kind else kept_text(value)[0])
        for value, kind in zip(values, kinds, strict=True)
    ]
