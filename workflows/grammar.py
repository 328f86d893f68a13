"""One grammar for Slack, the command line and the API: `parse(line, context)`.

    request prod-db 1h because INC-142        status
    request readonly shop until 18:00 INC-142 who prod-db          why R-7K3F9Q
    request prod-db 1h for @ada from tomorrow 9:00 because …
    cancel [R-…]   release [G-…|prod-db]      revoke G-…|prod-db|@ada [because …]
    approve R-…    deny R-… because …         help [verb]
    break-glass prod-db because INC-142 …     extend [G-…|prod-db] 30m
    nudge [R-…]    claim R-…                  review R-… justified
    drill [prod-db]                           allow @ada prod-db 2h within 5d because …
    lock person @ada because …                unlock L-…|@ada|prod-db|everything
    run prod-db "DELETE …" because …          (approve, deny and cancel take a statement's V-… too)

A line is understood or answered with a `Mistake` that carries the mended line. Parsing is total: no text
raises. A verb plugs in by one line in `VERBS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workflows.allow_lines import AllowLine, read_allow
from workflows.asking import KEYWORDS, nearest, read_request
from workflows.lines import (
    MAX_LINE,
    MAX_REASON,
    Approve,
    Cancel,
    Context,
    Deny,
    Help,
    Mistake,
    Offer,
    Release,
    Request,
    Revoke,
    RoleOffer,
    Status,
    Target,
    TargetKind,
    Who,
    Why,
    because,
    context_for,
)
from workflows.lines import Command as PlainCommand
from workflows.link_lines import Link, Unlink, read_link, read_unlink
from workflows.lock_lines import LockLine, UnlockLine, read_lock, read_unlock
from workflows.run_lines import Run, is_run, read_run
from workflows.spans import is_number, read_span
from workflows.urgent_lines import (
    URGENT_VERBS,
    BreakGlass,
    Claim,
    Drill,
    Extend,
    Nudge,
    Review,
    Urgent,
)
from workflows.words import (
    ALLOWANCE_ID,
    MENTION,
    REVIEW_ID,
    STORY_ID,
    Word,
    from_slack,
    is_slip_for,
    split,
    tidy,
    without_mentions,
)

__all__ = [
    "MAX_LINE",
    "MAX_REASON",
    "VERBS",
    "AllowLine",
    "Approve",
    "BreakGlass",
    "Cancel",
    "Claim",
    "Command",
    "Context",
    "Deny",
    "Drill",
    "Extend",
    "Help",
    "Link",
    "LockLine",
    "Mistake",
    "Nudge",
    "Offer",
    "Release",
    "Request",
    "Review",
    "Revoke",
    "RoleOffer",
    "Run",
    "Status",
    "Target",
    "TargetKind",
    "Unlink",
    "UnlockLine",
    "Verb",
    "Who",
    "Why",
    "context_for",
    "from_slack",
    "is_plain_name",
    "parse",
    "spell",
]

Command = PlainCommand | Urgent | Run | AllowLine | Link | Unlink | LockLine | UnlockLine
Reader = Callable[[Sequence[Word], Context], Command | Mistake]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: how it is read, and one line of help."""

    read: Reader
    usage: str
    about: str
    also: tuple[str, ...] = ()


def parse(line: str, context: Context) -> Command | Mistake:
    """What the line means. Slack's text goes through `from_slack` first."""
    answer = _parse(line, context)
    if isinstance(answer, Mistake) and answer.mended is not None:
        mended = _parse(answer.mended, context)
        if isinstance(mended, Mistake):
            # Two mistakes of different kinds: the second is mended as well, or there is no sure line.
            again = mended.mended
            sure = again is not None and not isinstance(_parse(again, context), Mistake)
            return Mistake(answer.why, again if sure else None, answer.draft)
    return answer


def spell(command: Command) -> str:
    """The line that reads as this command."""
    return command.line()


def is_plain_name(name: str) -> bool:
    """Whether a resource, role or alias of this name can be typed without reading as something else."""
    key = name.casefold()
    clash = key in KEYWORDS or key in _VERB_OF or read_span(key) is not None or is_number(key)
    words = split(tidy(name))
    one = len(words) == 1 and words[0].text == name and not words[0].quoted and not key[:1].isdigit()
    return one and not clash and not name.startswith(("@", "<", "-", "#")) and not STORY_ID.fullmatch(name)


def _parse(line: str, context: Context) -> Command | Mistake:
    if is_run(line):
        return read_run(line, context)
    line = tidy(line)
    if len(line) > MAX_LINE:
        return Mistake(f"A line has at most {MAX_LINE} characters; yours has {len(line)}.")
    words = split(line)
    if not words:
        return Help()
    verb = _VERB_OF.get(words[0].key)
    if verb is not None:
        return VERBS[verb].read(words[1:], context)
    return _no_verb(words, context)


def _no_verb(words: Sequence[Word], context: Context) -> Mistake:
    """A line that begins with a resource is a request; one that begins with a slip is that verb."""
    first = words[0].key
    whole = read_request(words, context)
    names = {n.casefold() for offer in context.offers for n in (offer.name, *offer.aliases)}
    if first in names:
        if isinstance(whole, Mistake):
            return Mistake(f"Begin with request. {whole.why}", whole.mended, whole.draft)
        return Mistake("Begin with request.", whole.line(), whole)
    close = nearest(first, list(VERBS), 1)
    if close:
        rest = VERBS[close[0]].read(words[1:], context)
        why = f"“{words[0].text}” is no verb; did you mean {close[0]}?"
        if isinstance(rest, Mistake):
            return Mistake(f"{why} {rest.why}", rest.mended, rest.draft)
        return Mistake(why, rest.line())
    verbs = ", ".join(VERBS)
    return Mistake(f"I do not understand “{words[0].text[:80]}”. I know: {verbs}.", Help().line())


# ------------------------------------------------------------------ the readers of the smaller verbs


def _status(words: Sequence[Word], _: Context) -> Command | Mistake:
    return Mistake("status stands alone.", Status().line()) if words else Status()


def _help(words: Sequence[Word], _: Context) -> Command | Mistake:
    if not words:
        return Help()
    topic = _VERB_OF.get(words[0].key, "")
    if topic and len(words) == 1:
        return Help(topic)
    return Mistake(f"I know: {', '.join(VERBS)}.", Help(topic).line())


def _who(words: Sequence[Word], context: Context) -> Command | Mistake:
    if not words:
        only = context.offers[0].name if len(context.offers) == 1 else None
        return Mistake("Who has what? Say who RESOURCE.", Who(only).line() if only else None)
    target = _target(words[0], context)
    if isinstance(target, Mistake):
        return Mistake(target.why, f"who {target.mended}" if target.mended else None)
    if target.kind is not TargetKind.RESOURCE:
        return Mistake(f"“{words[0].text}” is no resource; say who RESOURCE.")
    command = Who(target.value)
    return command if len(words) == 1 else Mistake("who takes one resource.", command.line())


def _release(words: Sequence[Word], context: Context) -> Command | Mistake:
    if not words:
        return Release()
    target = _target(words[0], context)
    if isinstance(target, Mistake):
        return Mistake(target.why, f"release {target.mended}" if target.mended else None)
    if target.kind in (TargetKind.PERSON, TargetKind.SLACK_USER):
        return Mistake("You release your own access; revoke ends another's.", f"revoke {target}")
    command = Release(target)
    return command if len(words) == 1 else Mistake("release takes one grant or resource.", command.line())


def _revoke(words: Sequence[Word], context: Context) -> Command | Mistake:
    if not words:
        return Mistake("Revoke what? Say revoke G-…, revoke RESOURCE or revoke @somebody.")
    target = _target(words[0], context)
    reason = _reason(words[1:])
    if isinstance(target, Mistake):
        return Mistake(
            target.why, f"revoke {target.mended} {because(reason)}".strip() if target.mended else None
        )
    return Revoke(target, reason)


def _cancel(words: Sequence[Word], _: Context) -> Command | Mistake:
    if not words:
        return Cancel()
    found = _matter_id(words[0])
    if found is None:
        return Mistake(f"“{words[0].text[:80]}” is no id; say cancel R-…, or cancel alone.", Cancel().line())
    return Cancel(found) if len(words) == 1 else Mistake("cancel takes one id.", Cancel(found).line())


def _why(words: Sequence[Word], _: Context) -> Command | Mistake:
    found = _story_id(words[0]) if words else None
    if found is None:
        return _no_id(words, "Why what? Say why R-…; status lists your ids.")
    return Why(found) if len(words) == 1 else Mistake("why takes one id.", Why(found).line())


def _approve(words: Sequence[Word], _: Context) -> Command | Mistake:
    found = _matter_id(words[0]) if words else None
    if found is None:
        return _no_id(words, "Approve what? Say approve R-…; status lists what waits for you.")
    return Approve(found, _reason(words[1:]))


def _deny(words: Sequence[Word], _: Context) -> Command | Mistake:
    found = _matter_id(words[0]) if words else None
    if found is None:
        return _no_id(words, "Deny what? Say deny R-… because …; status lists what waits.")
    return Deny(found, _reason(words[1:]))


def _no_id(words: Sequence[Word], asked: str) -> Mistake:
    """That an id is missing, or that what stands in its place is none."""
    said = (
        f"“{words[0].text[:80]}” is no id; ids are like R-7K3F9Q, and status lists them." if words else asked
    )
    return Mistake(said, Status().line())


def _story_id(word: Word) -> str | None:
    text = word.text
    return text.upper() if not word.quoted and STORY_ID.fullmatch(text) else None


def _matter_id(word: Word) -> str | None:
    """A request's, a grant's or a statement's id."""
    found = None if word.quoted else REVIEW_ID.fullmatch(word.text)
    return word.text.upper() if found else _story_id(word)


def _reason(words: Sequence[Word]) -> str:
    """The rest of the line, with or without `because`, well typed or not."""
    if words and (words[0].key in ("because", "bc", "for") or is_slip_for(words[0].key, "because")):
        words = words[1:]
    if not words:
        return ""
    text = words[0].text if len(words) == 1 else words[0].rest
    return " ".join(without_mentions(text).split())[:MAX_REASON].rstrip()


def _target(word: Word, context: Context) -> Target | Mistake:
    """An id, a person, or a resource. A name that is not known is handed on as it is, for the broker to
    refuse in the words for things that do not exist, unless it is a slip for one that is."""
    if mention := MENTION.fullmatch(word.text):
        return Target(TargetKind.SLACK_USER, mention[1])
    if word.text.startswith("@") and len(word.text) > 1:
        return Target(TargetKind.PERSON, word.text[1:])
    if found := _story_id(word):
        return Target(TargetKind.ID, found)
    if not word.quoted and ALLOWANCE_ID.fullmatch(word.text):
        return Target(TargetKind.ID, word.text.upper())
    for offer in context.offers:
        if word.key in (offer.name.casefold(), *(alias.casefold() for alias in offer.aliases)):
            return Target(TargetKind.RESOURCE, offer.name)
    names = list(dict.fromkeys([*(offer.name for offer in context.offers), *context.known]))
    exact = [name for name in names if name.casefold() == word.key]
    close = exact or nearest(word.key, names, 1)
    if close and not exact:
        return Mistake(f"There is no resource “{word.text[:80]}” that you may see.", close[0])
    if exact or is_plain_name(word.text):
        return Target(TargetKind.RESOURCE, exact[0] if exact else word.text)
    return Mistake(f"“{word.text[:80]}” is no id, person or resource.")


VERBS: dict[str, Verb] = {
    "request": Verb(
        read_request,
        "request RESOURCE [as ROLE] [1h | until 18:00 | eod] [from 18:00] [for @person] because …",
        "Ask for access.",
        ("req", "ask"),
    ),
    "run": Verb(
        lambda words, context: read_run(f"run {words[0].rest}" if words else "run", context),
        'run RESOURCE [as ROLE] "SQL" [because …]',
        "Have one statement run, once those who must have agreed.",
    ),
    "status": Verb(
        _status, "status", "What you have, what you asked, and what waits for you.", ("list", "my")
    ),
    "who": Verb(_who, "who RESOURCE", "Who has access now, and until when."),
    "release": Verb(_release, "release [G-… | RESOURCE]", "Give your access back early.", ("done",)),
    "revoke": Verb(
        _revoke, "revoke G-… | A-… | RESOURCE | @person [because …]", "End somebody's access now."
    ),
    "allow": Verb(
        read_allow,
        "allow [@person RESOURCE [as ROLE] [2h] [within 5d] [repeatedly] because …]",
        "Say yes in advance; alone: what is allowed.",
    ),
    "approve": Verb(_approve, "approve R-… | V-…", "Say yes to a request or a statement."),
    "deny": Verb(_deny, "deny R-… | V-… because …", "Say no to a request or a statement."),
    "cancel": Verb(_cancel, "cancel [R-… | V-…]", "Take your request or statement back."),
    "why": Verb(_why, "why R-…", "Why a request is as it is, rule by rule."),
    **{name: Verb(*verb) for name, verb in URGENT_VERBS.items()},
    "link": Verb(read_link, "link", "Link this Slack account to you, by logging in."),
    "unlink": Verb(read_unlink, "unlink [@person]", "Take that link away; an administrator, anybody's."),
    "lock": Verb(
        read_lock,
        "lock [person @name | device ID | resource NAME | everything because …]",
        "Let nobody in, at once; alone: what is locked.",
    ),
    "unlock": Verb(read_unlock, "unlock L-… | @name | NAME | everything", "Take a lock away."),
    "help": Verb(_help, "help [verb]", "This.", ("?", "--help", "-h")),
}
_VERB_OF = {also: name for name, verb in VERBS.items() for also in (name, *verb.also)}
