"""Reading a request line: resource, role, duration and reason in any order.

Parts that are read with confidence are taken first; what is left over is matched against what is still
missing. A mistake is mended on the way, so that the answer carries one whole line with everything mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rapidfuzz.distance import DamerauLevenshtein

from workflows.access import FARTHEST_START
from workflows.lines import MAX_REASON, Context, Mistake, Offer, Request, Target, TargetKind
from workflows.policy import spell
from workflows.spans import is_number, read_moment, read_number_and_unit, read_span, read_until
from workflows.words import MENTION, TICKET, Word, is_slip_for, without_mentions

_FILLERS = frozenset({"access", "to", "on", "the", "please", "me", "a", "an", "with", "give", "and", ","})
_BECAUSE = frozenset({"because", "bc", "reason", "reason:", "because:", "--reason", "-reason"})
_UNTIL = frozenset({"until", "til", "till"})
_AS = frozenset({"as", "role", "--role", "-role"})
_FOR = frozenset({"for", "--for", "--duration", "-duration"})
_FROM = frozenset({"from", "at", "starting", "--from", "-from"})
KEYWORDS = _FILLERS | _BECAUSE | _UNTIL | _AS | _FOR | _FROM | {"eod", "cob"}
_NEAR = 0.6
_SHORTEST = timedelta(minutes=1)


@dataclass
class _Parts:
    """What has been read so far."""

    offers: list[Offer] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    spans: list[timedelta] = field(default_factory=list)
    untils: list[str] = field(default_factory=list)
    """Times of day at which it ends: how long that is depends on when it begins."""
    starts: list[datetime] = field(default_factory=list)
    people: list[Target] = field(default_factory=list)
    tickets: list[str] = field(default_factory=list)
    quoted: list[str] = field(default_factory=list)
    because: str = ""
    loose: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    hopeless: bool = False


def read_person(word: Word) -> Target | None:
    """Whom `@ada`, or Slack's own way to write that, means; None where the word is no person."""
    if mention := MENTION.fullmatch(word.text):
        return Target(TargetKind.SLACK_USER, mention[1])
    if word.text.startswith("@") and len(word.text) > 1:
        return Target(TargetKind.PERSON, word.text[1:])
    return None


def nearest(word: str, names: Sequence[str], count: int = 3) -> list[str]:
    """The names most like `word`, best first; none where none is like it."""
    scored = [(DamerauLevenshtein.normalized_similarity(word, name.casefold()), name) for name in names]
    likely = [(score, name) for score, name in scored if score >= _NEAR]
    return [name for _, name in sorted(likely, key=lambda pair: -pair[0])[:count]]


def read_request(words: Sequence[Word], context: Context) -> Request | Mistake:
    """The request that `words`, those after the verb, ask for."""
    parts = _collect(words, context)
    offer = _one_resource(parts, context)
    role = _one_role(parts, offer)
    role = _take_loose(parts, offer, role)
    starts_at = _one_start(parts)
    duration = _one_span(parts, context, starts_at)
    beneficiary = _one_person(parts)
    reason = without_mentions(" ".join([*parts.tickets, *parts.quoted, parts.because])).strip()
    reason = _bounded(parts, " ".join(reason.split()))
    draft = Request(offer.name if offer else "", role, duration, reason, starts_at, beneficiary)
    if offer is not None and not parts.hopeless:
        draft = _within_rule(parts, offer, draft, context)
    if not parts.troubles and offer is not None:
        return draft
    whole = offer is not None and not parts.hopeless
    return Mistake(" ".join(parts.troubles), draft.line() if whole else None, draft)


# ------------------------------------------------------------------ taking the words in


def _collect(words: Sequence[Word], context: Context) -> _Parts:
    parts = _Parts()
    index = 0
    while index < len(words):
        index = _take(words, index, context, parts)
    return parts


def _take(words: Sequence[Word], index: int, context: Context, parts: _Parts) -> int:
    """Read the part that begins at `index`; the index after it."""
    word, key = words[index], words[index].key
    if word.quoted:
        parts.quoted.append(word.text)
        return index + 1
    if offer := _offer(key, context):
        parts.offers.append(offer)
        return index + 1
    if meant := _slip(words, index, context):
        parts.troubles.append(f"“{word.text}” is no word I know; I read it as {meant}.")
        key = meant
    if key in _BECAUSE and index + 1 < len(words):
        return _take_because(words, index + 1, context, parts)
    if key in _AS and index + 1 < len(words):
        parts.roles.append(words[index + 1].key or words[index + 1].text)
        return index + 2
    if key in _UNTIL and index + 1 < len(words):
        return _take_until(words, index, context, parts)
    if key in _FROM and (taken := _take_start(words, index, context, parts)):
        return index + taken
    if taken := _take_span(words, index, context, parts):
        return index + taken
    if key in _FOR and index + 1 < len(words):
        return _take_for(words, index + 1, context, parts)
    if TICKET.fullmatch(word.text) and word.text == word.text.upper():
        parts.tickets.append(word.text)
    elif key not in _FILLERS or any(offer.role(key) for offer in context.offers):
        parts.loose.append(word.text)
    return index + 1


def _slip(words: Sequence[Word], index: int, context: Context) -> str:
    """The keyword that a word is a slip for; empty where it is none. `until` needs a time after it, since
    `unit` is a word as well.
    """
    key = words[index].key
    if index + 1 == len(words) or any(offer.role(key) for offer in context.offers):
        return ""
    if is_slip_for(key, "because"):
        return "because"
    time = read_until(words[index + 1].key, context.now, context.zone)
    return "until" if time is not None and is_slip_for(key, "until") else ""


def _take_span(words: Sequence[Word], index: int, context: Context, parts: _Parts) -> int:
    """How many words from `index` on name a span: 0, 1 or 2."""
    key = words[index].key
    if key in ("eod", "cob"):
        parts.untils.append(key)
        return 1
    if index + 1 < len(words) and (span := read_number_and_unit(key, words[index + 1].key)) is not None:
        parts.spans.append(span)
        return 2
    if (span := read_span(key)) is not None:
        parts.spans.append(span)
        return 1
    if is_number(key):
        minutes = read_span(f"{key}m")
        parts.troubles.append(f"“{key}” of what? Say {key}m or {key}h.")
        parts.spans.append(minutes or _SHORTEST)
        return 1
    if key[:1].isdigit() and not _is_ticket(words[index].text):
        parts.troubles.append(f"“{words[index].text}” is no duration; say 45m, 1h30, 2d, until 18:00 or eod.")
        return 1
    return 0


def _take_until(words: Sequence[Word], index: int, context: Context, parts: _Parts) -> int:
    time = words[index + 1]
    key, taken = time.key, 2
    if index + 2 < len(words) and words[index + 2].key in ("am", "pm"):
        key, taken = key + words[index + 2].key, 3
    span = read_until(key, context.now, context.zone)
    if span is None:
        parts.troubles.append(f"“until {time.text}” names no time of day; say until 18:00, until 6pm or eod.")
    else:
        parts.untils.append(key)
    return index + taken


def _take_start(words: Sequence[Word], index: int, context: Context, parts: _Parts) -> int:
    """How many words from `index` on say when it begins; 0 where these say something else."""
    found = read_moment([word.key for word in words[index + 1 : index + 4]], context.now, context.zone)
    if found is None:
        return 0
    parts.starts.append(found[0])
    return found[1] + 1


def _take_because(words: Sequence[Word], index: int, context: Context, parts: _Parts) -> int:
    """The reason: a quoted text, a ticket with the other parts after it, or the rest of the line."""
    word = words[index]
    if word.quoted:
        parts.quoted.append(word.text)
        return index + 1
    if _is_ticket(word.text) and index + 1 < len(words):
        rest = _collect(words[index + 1 :], context) if _plain(words[index + 1 :]) else None
        only_span = (
            rest is not None
            and (rest.spans or rest.untils)
            and not (rest.offers or rest.roles or rest.loose or rest.people)
        )
        has_resource = rest is not None and rest.offers and not parts.offers and not rest.loose
        if rest is not None and not rest.troubles and not rest.tickets and (only_span or has_resource):
            parts.tickets.append(word.text)
            return index + 1
    parts.because = word.rest
    return len(words)


def _plain(words: Sequence[Word]) -> bool:
    """Whether no nested reason and no filler stands in these words, so that they can be parts only."""
    return not any(word.quoted or word.key in _BECAUSE | _FILLERS for word in words)


def _take_for(words: Sequence[Word], index: int, context: Context, parts: _Parts) -> int:
    """`for 1h` is a duration, `for @ada` whom it is for, `for INC-142` a reason, and `for the checkout` a
    reason up to the next part.
    """
    word = words[index]
    if not word.quoted and (person := read_person(word)) is not None:
        parts.people.append(person)
        return index + 1
    if word.quoted or _offer(word.key, context):
        return index
    if taken := _take_span(words, index, context, parts):
        return index + taken
    if _is_ticket(word.text):
        parts.tickets.append(word.text)
        return index + 1
    end = index
    while end < len(words) and not _ends_for(words, end, context):
        end += 1
    parts.quoted.append(" ".join(w.text for w in words[index:end]))
    return max(end, index + 1)


def _ends_for(words: Sequence[Word], index: int, context: Context) -> bool:
    word = words[index]
    starts = word.quoted or word.key in _BECAUSE | _UNTIL | {"as", "eod"} or _offer(word.key, context)
    last_span = index == len(words) - 1 and read_span(word.key) is not None
    last_two = index == len(words) - 2 and read_number_and_unit(word.key, words[-1].key) is not None
    return bool(starts or last_span or last_two)


def _offer(key: str, context: Context) -> Offer | None:
    for offer in context.offers:
        if key and key in (offer.name.casefold(), *(alias.casefold() for alias in offer.aliases)):
            return offer
    return None


def _is_ticket(text: str) -> bool:
    return TICKET.fullmatch(text) is not None


# ------------------------------------------------------------------ making sense of them


def _one_resource(parts: _Parts, context: Context) -> Offer | None:
    offers = list(dict.fromkeys(parts.offers))
    if len(offers) > 1:
        # A name can be that of a resource and of a role on another one.
        for offer in offers:
            others = [other for other in offers if other is not offer]
            if len(others) == 1 and offer.role(others[0].name):
                parts.roles.append(others[0].name)
                return offer
        names = " and ".join(offer.name for offer in offers)
        parts.troubles.append(f"One resource at a time: {names}.")
        return offers[0]
    if offers:
        return offers[0]
    return _guess_resource(parts, context)


def _guess_resource(parts: _Parts, context: Context) -> Offer | None:
    names = [offer.name for offer in context.offers]
    roles = {role.name.casefold() for offer in context.offers for role in offer.roles}
    words = [w for w in parts.loose if w.casefold() not in roles]
    ranked = [(near[0], word) for word in words if (near := nearest(word.casefold(), names))]
    ranked.sort(key=lambda pair: -DamerauLevenshtein.normalized_similarity(pair[1].casefold(), pair[0]))
    may = f"You may ask for: {', '.join(names[:10])}." if names else "No rule opens anything to you."
    if not words:
        in_reason = [o for w in parts.because.split() if (o := _offer(w.casefold(), context))]
        offer = in_reason[0] if in_reason else context.offers[0] if len(names) == 1 else None
        parts.troubles.append(f"Which resource? {may}")
        return offer
    if not ranked:
        parts.troubles.append(f"There is no resource “{words[0]}” that you may ask for. {may}")
        parts.loose.remove(words[0])
        return None
    best, word = ranked[0]
    parts.loose.remove(word)
    close = nearest(word.casefold(), names)
    parts.troubles.append(
        f"There is no resource “{word}” that you may ask for. Did you mean {' or '.join(close)}?"
    )
    return next(offer for offer in context.offers if offer.name == best)


def _one_role(parts: _Parts, offer: Offer | None) -> str:
    if offer is None:
        return parts.roles[0] if parts.roles else ""
    known = {role.name.casefold(): role.name for role in offer.roles}
    for word in list(parts.loose):
        if word.casefold() in known:
            parts.loose.remove(word)
            parts.roles.append(known[word.casefold()])
    named = list(dict.fromkeys(known.get(role.casefold(), role) for role in parts.roles))
    if len(named) > 1:
        parts.troubles.append(f"One role at a time: {' and '.join(named)}.")
    if not named:
        return ""
    if named[0] in known.values():
        return named[0]
    close = nearest(named[0].casefold(), list(known.values())) or [offer.roles[0].name]
    parts.troubles.append(
        f"There is no role “{named[0]}” on {offer.name} that you may ask for; "
        f"there is {', '.join(known.values())}."
    )
    return close[0]


def _take_loose(parts: _Parts, offer: Offer | None, role: str) -> str:
    """What is left over is a ticket in small letters, a slip for a role, or was meant as the reason.

    Answers with the role.
    """
    for word in list(parts.loose):
        if offer is not None and _is_ticket(word):
            parts.loose.remove(word)
            parts.tickets.append(word.upper())
    if not parts.loose:
        return role
    text = " ".join(parts.loose)
    roles = {r.name.casefold(): r.name for r in offer.roles} if offer else {}
    if len(parts.loose) == 1 and not role and (close := nearest(text.casefold(), list(roles.values()))):
        parts.troubles.append(f"“{text}” is no role here; did you mean {close[0]}?")
        role = close[0]
    elif not (parts.because or parts.quoted):
        parts.troubles.append(f"Put “because” before the reason: because {text}")
        parts.because = text
    else:
        parts.troubles.append(f"I do not understand “{text}”.")
    parts.loose.clear()
    return role


def _one_start(parts: _Parts) -> datetime | None:
    starts = list(dict.fromkeys(parts.starts))
    if len(starts) > 1:
        parts.troubles.append("One beginning at a time.")
    return starts[0] if starts else None


def _one_person(parts: _Parts) -> Target | None:
    people = list(dict.fromkeys(parts.people))
    if len(people) > 1:
        parts.troubles.append(f"For one person at a time: {' and '.join(map(str, people))}.")
    return people[0] if people else None


def _one_span(parts: _Parts, context: Context, starts_at: datetime | None) -> timedelta | None:
    begins = starts_at or context.now
    ends = [read_until(key, begins, context.zone) or _SHORTEST for key in parts.untils]
    spans = list(dict.fromkeys([*parts.spans, *ends]))
    if len(spans) > 1:
        parts.troubles.append(f"One duration at a time: {' and '.join(map(spell, spans))}.")
    return min(spans) if spans else None


def _bounded(parts: _Parts, reason: str) -> str:
    if len(reason) <= MAX_REASON:
        return reason
    parts.troubles.append(f"A reason has at most {MAX_REASON} characters; yours has {len(reason)}.")
    return reason[:MAX_REASON].rstrip()


def _within_rule(parts: _Parts, offer: Offer, draft: Request, context: Context) -> Request:
    """Hold the draft against the rule that lets its writer ask; the broker does so again when it is asked."""
    role = offer.role(draft.role) or offer.roles[0]
    duration = draft.duration
    if duration is not None and duration > role.longest:
        parts.troubles.append(f"{offer.name} can be had for at most {spell(role.longest)}.")
        duration = role.longest
    if duration is not None and duration < _SHORTEST:
        parts.troubles.append("The shortest grant is 1 minute.")
        duration = role.usual
    if role.reason_required and not draft.reason:
        parts.troubles.append("A reason is wanted. Add one: because INC-142 checkout is slow.")
        parts.hopeless = True
    if draft.starts_at is not None and not context.now <= draft.starts_at <= context.now + FARTHEST_START:
        parts.troubles.append(f"Access begins within {spell(FARTHEST_START)} from now, not in the past.")
        return replace(draft, duration=duration, starts_at=None)
    return replace(draft, duration=duration)
