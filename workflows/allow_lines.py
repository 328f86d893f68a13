"""Reading `allow @ada prod-db 2h within 5d because …`. Parts stand in a loose order, the reason last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from workflows.allowance import LONGEST
from workflows.asking import nearest, read_person
from workflows.lines import MAX_REASON, Context, Mistake, Target, because
from workflows.policy import spell
from workflows.spans import read_number_and_unit, read_span
from workflows.words import Word, is_slip_for, without_mentions

_BECAUSE = frozenset({"because", "bc", "reason", "reason:", "because:"})
_WITHIN = frozenset({"within", "over"})
_ONCE = frozenset({"once"})
_OFTEN = frozenset({"repeatedly", "repeated", "often", "always"})
_FILLERS = frozenset({"to", "on", "for", "have", "the", "access", "at", "a", "time"})
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class AllowLine:
    """A yes in advance; without a `target` the line asks which there are."""

    target: Target | None = None
    resource: str = ""
    role: str = ""
    longest: timedelta | None = None
    within: timedelta | None = None
    repeated: bool = False
    reason: str = ""

    def line(self) -> str:
        if self.target is None:
            return "allow"
        parts = ["allow", str(self.target), self.resource]
        parts += [f"as {self.role}"] if self.role else []
        parts += [spell(self.longest)] if self.longest is not None else []
        parts += [f"within {spell(self.within)}"] if self.within is not None else []
        parts += ["repeatedly"] if self.repeated else []
        return " ".join([*parts, because(self.reason)]).strip()


def read_allow(words: Sequence[Word], context: Context) -> AllowLine | Mistake:
    """What the words after the verb mean."""
    if not words:
        return AllowLine()
    target: Target | None = None
    resource, role, reason, repeated = "", "", "", False
    longest: timedelta | None = None
    within: timedelta | None = None
    index = 0
    while index < len(words):
        word = words[index]
        key = word.key
        following = words[index + 1] if index + 1 < len(words) else None
        if key in _BECAUSE or is_slip_for(key, "because"):
            reason = _text(words[index + 1 :])
            break
        if not word.quoted and target is None and (person := read_person(word)) is not None:
            target, index = person, index + 1
        elif key in ("as", "role") and following is not None:
            role, index = following.key or following.text, index + 2
        elif key in _WITHIN and following is not None and (taken := _span(words, index + 1)):
            within, index = taken[0], index + 1 + taken[1]
        elif taken := _span(words, index):
            longest, index = taken[0], index + taken[1]
        elif key in _ONCE | _OFTEN:
            repeated, index = key in _OFTEN, index + 1
        elif key in _FILLERS:
            index += 1
        elif not resource and not word.quoted:
            resource, index = word.text, index + 1
        else:
            return Mistake(f"I do not understand “{word.text[:80]}”. Put “because” before the reason.")
    if target is None:
        return Mistake("Allow whom? Say allow @person RESOURCE 2h within 5d because …")
    if not resource:
        return Mistake("Allow what? Say allow @person RESOURCE 2h within 5d because …")
    return _checked(AllowLine(target, resource, role, longest, within, repeated, reason), context)


def _checked(said: AllowLine, context: Context) -> AllowLine | Mistake:
    """With the resource's own name; mended where something is out of its bounds."""
    for offer in context.offers:
        if said.resource.casefold() in (offer.name.casefold(), *(a.casefold() for a in offer.aliases)):
            said = _with(said, resource=offer.name)
    names = list(dict.fromkeys([*(offer.name for offer in context.offers), *context.known]))
    exact = [name for name in names if name.casefold() == said.resource.casefold()]
    if exact:
        said = _with(said, resource=exact[0])
    elif close := nearest(said.resource.casefold(), names, 1):
        mended = _with(said, resource=close[0])
        return Mistake(f"There is no resource “{said.resource[:80]}” that you may see.", mended.line())
    if said.longest is not None and said.longest < _SHORTEST:
        return Mistake("The shortest grant is 1 minute.", _with(said, longest=_SHORTEST).line())
    if said.within is not None and not _SHORTEST <= said.within <= LONGEST:
        mended = _with(said, within=min(max(said.within, _SHORTEST), LONGEST))
        return Mistake(f"A yes in advance is good for at most {spell(LONGEST)}.", mended.line())
    if not said.reason:
        return Mistake("Say why: because … It stands beside every request that it is given to.")
    return said


def _with(said: AllowLine, **changes: object) -> AllowLine:
    return replace(said, **changes)  # type: ignore[arg-type]


def _span(words: Sequence[Word], index: int) -> tuple[timedelta, int] | None:
    key = words[index].key
    if index + 1 < len(words) and (two := read_number_and_unit(key, words[index + 1].key)) is not None:
        return two, 2
    one = read_span(key)
    return (one, 1) if one is not None else None


def _text(words: Sequence[Word]) -> str:
    if not words:
        return ""
    text = words[0].text if len(words) == 1 else words[0].rest
    return " ".join(without_mentions(text).split())[:MAX_REASON].rstrip()
