"""Reading the urgent verbs: break-glass, extend, nudge, claim, review. Parts stand in a loose order.

Names of resources that the writer may not be told about are handed on as they are; the broker refuses them in
the words for things that do not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from workflows.access import Wish
from workflows.asking import nearest
from workflows.lines import MAX_REASON, Context, Mistake, Target, TargetKind, because
from workflows.model import Verdict
from workflows.policy import spell
from workflows.spans import read_number_and_unit, read_span
from workflows.words import STORY_ID, TICKET, Word, is_slip_for, without_mentions

_BECAUSE = frozenset({"because", "bc", "reason", "reason:", "because:"})
_NO = frozenset({"unjustified", "no", "unfounded"})
_YES = frozenset({"justified", "ok", "yes", "fine"})
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """`id` is a waiting request of the writer's that becomes the emergency; else `resource` is taken."""

    resource: str = ""
    role: str = ""
    duration: timedelta | None = None
    reason: str = ""
    id: str = ""

    @property
    def wish(self) -> Wish:
        return Wish(self.resource, self.role, self.duration, self.reason)

    @property
    def incident(self) -> str:
        """The first ticket that the reason names; empty where it names none."""
        return next((word.upper() for word in self.reason.split() if TICKET.fullmatch(word)), "")

    def line(self) -> str:
        parts = ["break-glass", self.id or self.resource]
        if self.role:
            parts.append(f"as {self.role}")
        if self.duration is not None:
            parts.append(spell(self.duration))
        return " ".join([*parts, because(self.reason)]).strip()


@dataclass(frozen=True, slots=True)
class Extend:
    """No `target` means the writer's only grant."""

    span: timedelta
    target: Target | None = None
    reason: str = ""

    def line(self) -> str:
        which = f"{self.target} " if self.target else ""
        return f"extend {which}{spell(self.span)} {because(self.reason)}".strip()


@dataclass(frozen=True, slots=True)
class Nudge:
    """No `id` means the writer's only waiting request."""

    id: str = ""

    def line(self) -> str:
        return f"nudge {self.id}".strip()


@dataclass(frozen=True, slots=True)
class Claim:
    id: str

    def line(self) -> str:
        return f"claim {self.id}"


@dataclass(frozen=True, slots=True)
class Review:
    id: str
    verdict: Verdict
    note: str = ""

    def line(self) -> str:
        return f"review {self.id} {self.verdict} {because(self.note)}".strip()


@dataclass(frozen=True, slots=True)
class Drill:
    """Rehearse breaking the glass of `resource`; none means the only one that the writer may."""

    resource: str = ""

    def line(self) -> str:
        return f"drill {self.resource}".strip()


Urgent = BreakGlass | Extend | Nudge | Claim | Review | Drill


# -------------------------------------------------------------------- readers


def read_break_glass(words: Sequence[Word], context: Context) -> BreakGlass | Mistake:
    if not words:
        return Mistake("Break the glass of what? Say break-glass RESOURCE because INC-142 …")
    story, name = _story_id(words[0]), _resource(words[0], context)
    if not story and isinstance(name, Mistake):
        rest = read_break_glass([Word(name.mended or "", ""), *words[1:]], context) if name.mended else name
        return Mistake(name.why, rest.line() if isinstance(rest, BreakGlass) else None)
    role, span, reason = _rest(words[1:])
    resource = "" if story or isinstance(name, Mistake) else name
    command = BreakGlass(resource, role, span, reason, story)
    if span is not None and span < _SHORTEST:
        return Mistake(
            "The shortest grant is 1 minute.", BreakGlass(resource, role, _SHORTEST, reason, story).line()
        )
    if reason and not command.incident:
        return Mistake("An emergency has an incident: because INC-142 checkout is down.")
    if not reason and not story:
        return Mistake("Say which incident and what is broken: because INC-142 checkout is down.")
    return command


def read_extend(words: Sequence[Word], context: Context) -> Extend | Mistake:
    target: Target | None = None
    if words and (story := _story_id(words[0])):
        target, words = Target(TargetKind.ID, story), words[1:]
    elif words and _span_at(words, 0)[0] is None and words[0].key not in _BECAUSE | {"for", "by"}:
        name = _resource(words[0], context)
        if isinstance(name, Mistake):
            rest = read_extend([Word(name.mended or "", ""), *words[1:]], context) if name.mended else name
            return Mistake(name.why, rest.line() if isinstance(rest, Extend) else None)
        target, words = Target(TargetKind.RESOURCE, name), words[1:]
    role, span, reason = _rest(words)
    if role:
        return Mistake("extend changes the time alone, never the role.")
    if span is None:
        return Mistake(
            "How much longer? Say extend 30m.", Extend(timedelta(minutes=30), target, reason).line()
        )
    if span < _SHORTEST:
        return Mistake("The shortest extension is 1 minute.", Extend(_SHORTEST, target, reason).line())
    return Extend(span, target, reason)


def read_nudge(words: Sequence[Word], _: Context) -> Nudge | Mistake:
    if not words:
        return Nudge()
    found = _story_id(words[0])
    if not found:
        return Mistake(f"“{words[0].text[:80]}” is no id; say nudge R-…, or nudge alone.", Nudge().line())
    return Nudge(found) if len(words) == 1 else Mistake("nudge takes one id.", Nudge(found).line())


def read_claim(words: Sequence[Word], _: Context) -> Claim | Mistake:
    found = _story_id(words[0]) if words else ""
    if not found:
        return Mistake("Look at what? Say claim R-…; status lists what waits for you.")
    return Claim(found) if len(words) == 1 else Mistake("claim takes one id.", Claim(found).line())


def read_review(words: Sequence[Word], _: Context) -> Review | Mistake:
    found = _story_id(words[0]) if words else ""
    if not found:
        return Mistake("Review what? Say review R-… justified, or review R-… not justified because …")
    rest = words[1:]
    if len(rest) > 1 and rest[0].key == "not" and rest[1].key == "justified":
        verdict, rest = Verdict.NOT_JUSTIFIED, rest[2:]
    elif rest and rest[0].key in _NO:
        verdict, rest = Verdict.NOT_JUSTIFIED, rest[1:]
    elif rest and rest[0].key in _YES:
        verdict, rest = Verdict.JUSTIFIED, rest[1:]
    else:
        return Mistake(f"Was it? Say review {found} justified, or review {found} not justified because …")
    note = _text(rest)
    if verdict is Verdict.NOT_JUSTIFIED and not note:
        return Mistake(f"Say why: review {found} not justified because …")
    return Review(found, verdict, note)


def read_drill(words: Sequence[Word], context: Context) -> Drill | Mistake:
    if not words:
        return Drill()
    name = _resource(words[0], context)
    if isinstance(name, Mistake):
        return Mistake(name.why, f"drill {name.mended}" if name.mended else None)
    return Drill(name) if len(words) == 1 else Mistake("drill takes one resource.", Drill(name).line())


URGENT_VERBS: dict[
    str, tuple[Callable[[Sequence[Word], Context], Urgent | Mistake], str, str, tuple[str, ...]]
] = {
    "break-glass": (
        read_break_glass,
        "break-glass RESOURCE | R-… [as ROLE] [30m] because INC-142 …",
        "In an emergency: access at once, everybody told, a review owed.",
        ("breakglass", "emergency"),
    ),
    "drill": (
        read_drill,
        "drill [RESOURCE]",
        "Rehearse breaking the glass: everybody is told, nothing is open.",
        ("rehearse",),
    ),
    "extend": (read_extend, "extend [G-… | RESOURCE] 30m [because …]", "More time on your access.", ()),
    "nudge": (read_nudge, "nudge [R-…]", "Ask the approvers once more.", ("remind",)),
    "claim": (read_claim, "claim R-…", "Say that you are looking at a request.", ("looking",)),
    "review": (
        read_review,
        "review R-… justified | not justified [because …]",
        "After an emergency: whether it was one.",
        (),
    ),
}
"""Verb → (reader, usage, about, other words for it)."""


# --------------------------------------------------------------------- inside


def _story_id(word: Word) -> str:
    return word.text.upper() if not word.quoted and STORY_ID.fullmatch(word.text) else ""


def _resource(word: Word, context: Context) -> str | Mistake:
    """The resource that a word names, mended where it is a slip for one that may be told."""
    for offer in context.offers:
        if word.key and word.key in (offer.name.casefold(), *(alias.casefold() for alias in offer.aliases)):
            return offer.name
    names = list(dict.fromkeys([*(offer.name for offer in context.offers), *context.known]))
    exact = [name for name in names if name.casefold() == word.key]
    if exact:
        return exact[0]
    if close := nearest(word.key, names, 1):
        return Mistake(f"There is no resource “{word.text[:80]}” that you may see.", close[0])
    plain = not word.quoted and not word.text.startswith(("<", "@", "-", '"', "'")) and len(word.text) <= 63
    if not plain or word.key in _BECAUSE:
        return Mistake(f"“{word.text[:80]}” is no resource.")
    return word.text


def _rest(words: Sequence[Word]) -> tuple[str, timedelta | None, str]:
    """Role, span and reason: the reason begins at `because`, or at the first word that is nothing else."""
    role, span, index = "", None, 0
    while index < len(words):
        word = words[index]
        if word.key in ("as", "role") and index + 1 < len(words):
            role, index = words[index + 1].key or words[index + 1].text, index + 2
            continue
        if word.key in ("for", "by") and index + 1 < len(words) and _span_at(words, index + 1)[0]:
            index += 1
            continue
        found, taken = _span_at(words, index)
        if found is None:
            break
        span, index = found, index + taken
    return role, span, _text(words[index:])


def _span_at(words: Sequence[Word], index: int) -> tuple[timedelta | None, int]:
    key = words[index].key
    if index + 1 < len(words) and (two := read_number_and_unit(key, words[index + 1].key)) is not None:
        return two, 2
    return read_span(key), 1


def _text(words: Sequence[Word]) -> str:
    if words and (words[0].key in _BECAUSE or is_slip_for(words[0].key, "because")):
        words = words[1:]
    if not words:
        return ""
    text = words[0].text if len(words) == 1 else words[0].rest
    return " ".join(without_mentions(text).split())[:MAX_REASON].rstrip()
