"""The decision of a role's guardrails on one command line.

Every command in the line, those inside it among them, is judged by itself: the first guardrail that fits it
applies, and the strictest answer counts for the line. In doubt a guardrail that refuses or holds fits, and
one that allows does not. Where none fits, what is known is allowed, as far as the host's own rights go; what
is not known is refused. proxy/sql/guardrails.py says the same of statements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache

from proxy.sql.guardrails import UNREAD_RULE, Allow, Circumstances, Hold, Judgement, Refuse
from proxy.ssh.shell.commands import Arguments
from proxy.ssh.shell.read import Command, Line
from workflows import condition
from workflows.model import Action, Guardrail, StatementClass

_UNREAD = Command((), StatementClass.UNKNOWN)


def judge(line: Line, guardrails: Sequence[Guardrail], where: Circumstances) -> Judgement:
    """What becomes of a line."""
    holds: list[Guardrail] = []
    for command in line.commands or (_UNREAD,):
        rail = next((rail for rail in guardrails if fits(rail, command, where)), None)
        if rail is None:
            if command.statement_class is StatementClass.UNKNOWN:
                return _unknown(line, command)
        elif rail.action is Action.REFUSE:
            return _refused(line, rail, command)
        elif rail.action is Action.HOLD and rail not in holds:
            holds.append(rail)
    return Hold(tuple(holds)) if holds else Allow()


def _unknown(line: Line, command: Command) -> Refuse:
    if line.problem:
        what = f"the gate cannot read this line ({line.problem}), and refuses what it cannot read"
        return Refuse(UNREAD_RULE, what, "Write it more plainly: one command, quoted simply.")
    what = f"the gate does not know what {shown(command)} may do, and refuses what it does not know"
    return Refuse(UNREAD_RULE, what, "A guardrail that allows this command by name would let it through.")


def _refused(line: Line, rail: Guardrail, command: Command) -> Refuse:
    what = shown(command) if command.words else f"a line that cannot be read ({line.problem})"
    said = rail.message or f"{what} ({command.statement_class.value}) is not allowed here"
    return Refuse(rail.name, f"{said} (guardrail {rail.name})")


def shown(command: Command) -> str:
    """A command in a few words, for people."""
    words = " ".join("…" if word is None else word for word in command.words)
    return f"“{words[:80]}{'…' if len(words) > 80 else ''}”"


# ------------------------------------------------------------------- fitting


def fits(rail: Guardrail, command: Command, where: Circumstances) -> bool:
    """Whether a guardrail applies to a command."""
    strict = rail.action is not Action.ALLOW
    return (
        _class_fits(rail, command, strict)
        and _kind_fits(rail, command, strict)
        and _command_fits(rail, command, strict)
        and _condition_fits(rail, command, where, strict)
    )


def _class_fits(rail: Guardrail, command: Command, strict: bool) -> bool:
    if rail.classes:
        return command.statement_class in rail.classes
    # Silence about the unknown is no leave to run it; naming the command is.
    return strict or bool(rail.commands) or command.statement_class is not StatementClass.UNKNOWN


def _kind_fits(rail: Guardrail, command: Command, strict: bool) -> bool:
    if not rail.kinds:
        return True
    if strict:
        return not command.words or command.words[0] is None or not rail.kinds.isdisjoint(command.kinds)
    return bool(command.kinds) and command.kinds <= rail.kinds


def _command_fits(rail: Guardrail, command: Command, strict: bool) -> bool:
    if not rail.commands:
        return True
    if not command.words:
        return strict
    return any(matches(tuple(pattern.split()), command.words, strict) for pattern in rail.commands)


def matches(pattern: tuple[str, ...], words: Arguments, strict: bool) -> bool:
    """Whether a command's words fit a pattern's, word by word; a `*` at the end fits any that follow. A word
    that is known only when it runs fits every pattern of a strict guardrail, and `*` only of another.
    """
    rest = pattern[-1:] == ("*",)
    fixed = pattern[:-1] if rest else pattern
    if len(words) < len(fixed) or (len(words) > len(fixed) and not rest):
        return strict and None in words
    return all(
        (strict or part == "*") if word is None else _pattern(part).fullmatch(word) is not None
        for part, word in zip(fixed, words, strict=False)
    )


def _condition_fits(rail: Guardrail, command: Command, where: Circumstances, strict: bool) -> bool:
    if not rail.when:
        return True
    answer = condition.holds(rail.when, _facts(command, where))
    return strict if answer is None else answer


def _facts(command: Command, where: Circumstances) -> dict[str, object]:
    return {
        "statement": {
            "class": command.statement_class.value,
            "classes": [command.statement_class.value],
            "kind": command.name,
            "kinds": sorted(command.kinds),
            "tables": [],
            "bounded": None,
            "opaque": not command.words or None in command.words,
        },
        "principal": where.principal,
        "resource": where.resource,
        "role": where.role,
    }


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.S)
