"""The verbs about locks: `lock person @ada because …`, `lock` alone, `unlock L-…`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workflows.asking import nearest
from workflows.lines import MAX_REASON, Context, Mistake, Target, TargetKind, because
from workflows.lock import LockKind
from workflows.words import MENTION, Word, is_slip_for, without_mentions

LOCK_ID = re.compile(r"[Ll]-[0-9A-Za-z]{6,12}")
_DEVICE = re.compile(r"[0-9a-f]{16}")
_USAGE = "Say lock person @name, lock device ID, lock resource NAME or lock everything, and because …"


@dataclass(frozen=True, slots=True)
class LockLine:
    """No `kind` means: which locks are there? `target` is None for everything."""

    kind: LockKind | None = None
    target: Target | None = None
    reason: str = ""

    def line(self) -> str:
        parts = ["lock", self.kind or "", str(self.target or ""), because(self.reason)]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class UnlockLine:
    """`target` is a lock's id, or what is locked: a person, a resource, a device, or `everything`."""

    target: Target

    def line(self) -> str:
        return f"unlock {self.target}"


def read_lock(words: Sequence[Word], context: Context) -> LockLine | Mistake:
    if not words:
        return LockLine()
    kinds = {kind.value: kind for kind in LockKind}
    kind, rest = kinds.get(words[0].key), words[1:]
    if kind is None and (close := nearest(words[0].key, list(kinds), 1)):
        mended = read_lock_of(kinds[close[0]], rest, context)
        why = f"“{words[0].text[:80]}” cannot be locked; did you mean {close[0]}?"
        return Mistake(why, mended.line() if isinstance(mended, LockLine) else None)
    if kind is None:
        return Mistake(_USAGE)
    return read_lock_of(kind, rest, context)


def read_lock_of(kind: LockKind, words: Sequence[Word], context: Context) -> LockLine | Mistake:
    """What follows `lock KIND`."""
    target: Target | None = None
    if kind is not LockKind.EVERYTHING:
        found = _target(kind, words[0], context) if words else None
        if found is None:
            return Mistake(_USAGE)
        target, words = found, words[1:]
    reason = _reason(words)
    if not reason:
        return Mistake(f"A lock wants a reason. {_USAGE}")
    return LockLine(kind, target, reason)


def read_unlock(words: Sequence[Word], context: Context) -> UnlockLine | Mistake:
    if words and words[0].key in ("person", "device", "resource") and len(words) > 1:
        words = words[1:]
    if not words:
        return Mistake("Unlock what? Say unlock L-…; lock alone lists them.", LockLine().line())
    word = words[0]
    if word.key == "everything":
        target = Target(TargetKind.RESOURCE, "everything")
    elif LOCK_ID.fullmatch(word.text):
        target = Target(TargetKind.ID, word.text.upper())
    elif _DEVICE.fullmatch(word.text):
        target = Target(TargetKind.ID, word.text)
    else:
        target = _person(word) or Target(TargetKind.RESOURCE, _resource(word, context))
    command = UnlockLine(target)
    return command if len(words) == 1 else Mistake("unlock takes one lock.", command.line())


def _target(kind: LockKind, word: Word, context: Context) -> Target | None:
    if kind is LockKind.PERSON:
        return _person(word) or Target(TargetKind.PERSON, word.text)
    if kind is LockKind.DEVICE:
        return Target(TargetKind.ID, word.text) if _DEVICE.fullmatch(word.text) else None
    return Target(TargetKind.RESOURCE, _resource(word, context))


def _person(word: Word) -> Target | None:
    if mention := MENTION.fullmatch(word.text):
        return Target(TargetKind.SLACK_USER, mention[1])
    if word.text.startswith("@") and len(word.text) > 1:
        return Target(TargetKind.PERSON, word.text[1:])
    return None


def _resource(word: Word, context: Context) -> str:
    """The resource's own name for its alias; what is not known is handed on as it is."""
    for offer in context.offers:
        if word.key in (offer.name.casefold(), *(alias.casefold() for alias in offer.aliases)):
            return offer.name
    return next((name for name in context.known if name.casefold() == word.key), word.text)


def _reason(words: Sequence[Word]) -> str:
    if words and (words[0].key in ("because", "bc", "for") or is_slip_for(words[0].key, "because")):
        words = words[1:]
    if not words:
        return ""
    text = words[0].text if len(words) == 1 else words[0].rest
    return " ".join(without_mentions(text).split())[:MAX_REASON].rstrip()
