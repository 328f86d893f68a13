"""The decision of a role's guardrails on one text that could be read.

Every statement of the text is judged by itself: the first guardrail that fits it applies, and the strictest
answer counts for the text. In doubt a guardrail that refuses or holds fits, and one that allows does not:

- A strict one with `tables` fits when any of them is mentioned, or reached through a view, a parent or a
  child or a foreign key, or when the statement may touch what it does not name (DO, an unlisted function,
  GRANT ON ALL TABLES). An allowing one
  fits only when every table mentioned is among them and nothing else can be touched.
- A strict one with `classes` fits when any part of the statement is of such a class; an allowing one when
  the worst part is.
- A condition that cannot be evaluated counts as true for a strict one and as false for an allowing one.

Where no guardrail fits: what is known is allowed, as far as the target's own rights go; a statement of class
unknown is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar

from proxy.sql.classify import worst_of
from proxy.sql.guard import StatementVerdict, Verdict
from proxy.sql.reach import EVERY, Reach
from workflows import condition
from workflows.model import Action, Guardrail, Quorum, StatementClass

UNREAD_RULE = "unread"
"""The name of the rule behind the refusal of what is of class unknown."""

_T = TypeVar("_T", int, timedelta)
_NO_MESSAGE = "a {0} statement is not allowed here"


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds an allowed text: rows that each statement returns or affects, and its time."""

    rows: int | None = None
    timeout: timedelta | None = None

    def tighter(self, other: Limits) -> Limits:
        return Limits(_least(self.rows, other.rows), _least(self.timeout, other.timeout))


@dataclass(frozen=True, slots=True)
class Allow:
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Refuse:
    """`rule` is the guardrail's name; `message` says what and why, `hint` what to do next.

    `sqlstate` is 26000 where a name stands for nothing, in the target's own words.
    """

    rule: str
    message: str
    hint: str = "Ask for a role that may do this."
    sqlstate: str = "42501"


@dataclass(frozen=True, slots=True)
class Hold:
    """The text waits for people: for all that its guardrails ask for, and no longer than the shortest."""

    guardrails: tuple[Guardrail, ...]
    limits: Limits = Limits()

    @property
    def rule(self) -> str:
        return ", ".join(rail.name for rail in self.guardrails)

    @property
    def quorum(self) -> tuple[Quorum, ...]:
        """Each group once, with the greatest number that any guardrail asks of it."""
        most: dict[str, Quorum] = {}
        for quorum in (q for rail in self.guardrails for q in rail.quorum):
            known = most.get(quorum.group)
            if known is None or known.needed < quorum.needed:
                most[quorum.group] = quorum
        return tuple(most.values())

    @property
    def hold_for(self) -> timedelta:
        return min(rail.hold_for for rail in self.guardrails)


Judgement = Allow | Refuse | Hold


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Who sends the text, and where. `prepared` is what the session's prepared statements do."""

    principal: str = ""
    resource: str = ""
    role: str = ""
    prepared: Mapping[tuple[str, str], StatementVerdict] = field(default_factory=dict)


def judge(
    verdict: Verdict, guardrails: Sequence[Guardrail], circumstances: Circumstances | None = None
) -> Judgement:
    """What becomes of a text. A verdict that refuses is not looked at: its own reason stands."""
    where = circumstances or Circumstances()
    prepared = dict(where.prepared)
    limits = Limits()
    holds: list[Guardrail] = []
    for statement in verdict.statements:
        for one in _parts(statement, prepared):
            rail = next((rail for rail in guardrails if fits(rail, one, where)), None)
            if rail is None:
                if one.statement_class is StatementClass.UNKNOWN:
                    return _unknown(statement, prepared)
                continue
            if rail.action is Action.REFUSE:
                return _refused(rail, one)
            limits = limits.tighter(Limits(rail.row_limit, rail.timeout))
            if rail.action is Action.HOLD and rail not in holds:
                holds.append(rail)
        if statement.defines is not None:
            prepared[statement.defines] = statement
    return Hold(tuple(holds), limits) if holds else Allow(limits)


def _parts(
    statement: StatementVerdict, prepared: Mapping[tuple[str, str], StatementVerdict]
) -> Iterable[StatementVerdict]:
    """The statement, and what it executes: an unknown name may stand for anything."""
    yield statement
    if statement.runs is not None:
        unread = replace(statement, statement_class=StatementClass.UNKNOWN, traits=_ANYTHING, runs=None)
        yield prepared.get(statement.runs, unread)


_ANYTHING = StatementVerdict("", StatementClass.UNKNOWN, frozenset()).traits


def _refused(rail: Guardrail, statement: StatementVerdict) -> Refuse:
    said = rail.message or _NO_MESSAGE.format(_name(statement))
    return Refuse(rail.name, f"{said} (guardrail {rail.name})")


def _name(statement: StatementVerdict) -> str:
    return statement.statement_class.value


def _unknown(statement: StatementVerdict, prepared: Mapping[tuple[str, str], StatementVerdict]) -> Refuse:
    if statement.runs is not None and statement.runs not in prepared:
        return Refuse(UNREAD_RULE, no_such_statement(statement.runs[1]), "", "26000")
    what = statement.kind.removesuffix("_stmt").replace("_", " ").upper()
    return Refuse(
        UNREAD_RULE,
        f"the gate does not know what {what} may do, and refuses what it does not know",
        "A guardrail that allows the class unknown would let it through.",
    )


def no_such_statement(name: str) -> str:
    """The target's own words for a name that was never prepared."""
    return (
        f'prepared statement "{name}" does not exist' if name else "unnamed prepared statement does not exist"
    )


# ------------------------------------------------------------------- fitting


def fits(rail: Guardrail, statement: StatementVerdict, where: Circumstances) -> bool:
    """Whether a guardrail applies to a statement."""
    strict = rail.action is not Action.ALLOW
    return (
        _class_fits(rail, statement, strict)
        and _kind_fits(rail, statement, strict)
        and _table_fits(rail, statement, strict)
        and _column_fits(rail, statement, strict)
        and _bound_fits(rail, statement, strict)
        and _condition_fits(rail, statement, where, strict)
    )


def _class_fits(rail: Guardrail, statement: StatementVerdict, strict: bool) -> bool:
    if not rail.classes:
        # Silence about the unknown is no leave to run it.
        return strict or statement.statement_class is not StatementClass.UNKNOWN
    if strict:
        return not rail.classes.isdisjoint({*statement.traits.classes, statement.statement_class})
    return statement.statement_class in rail.classes


def _kind_fits(rail: Guardrail, statement: StatementVerdict, strict: bool) -> bool:
    if not rail.kinds:
        return True
    kinds = set(statement.traits.kinds)
    return (
        not rail.kinds.isdisjoint(kinds) or (strict and statement.traits.opaque)
        if strict
        else kinds <= rail.kinds
    )


def _table_fits(rail: Guardrail, statement: StatementVerdict, strict: bool) -> bool:
    if not rail.tables:
        return True
    if strict:
        hidden = statement.traits.opaque or statement.reach.wide
        return hidden or any(_any(rail.tables, table) for table in statement.reach.reached)
    tables = statement.reach.tables | statement.reach.along
    return bool(tables) and not statement.traits.opaque and all(_any(rail.tables, table) for table in tables)


def _column_fits(rail: Guardrail, statement: StatementVerdict, strict: bool) -> bool:
    """An allowing guardrail cannot be sure that no other column is meant: with columns it fits nothing."""
    if not rail.columns:
        return True
    if not strict:
        return False
    hidden = statement.traits.opaque or statement.reach.wide
    return hidden or any(mentions(pattern, statement.reach) for pattern in rail.columns)


def mentions(pattern: str, reach: Reach) -> bool:
    """Whether a column (`schema.table.column`) may be meant by what a statement says."""
    table, _, column = pattern.rpartition(".")
    if any(_any((pattern,), name) or name == f"{table}.{EVERY}" for name in reach.through):
        return True
    if not any(_any((table,), name) for name in reach.family):
        return False
    return EVERY in reach.names or any(_pattern(column).fullmatch(name) for name in reach.names)


def _bound_fits(rail: Guardrail, statement: StatementVerdict, strict: bool) -> bool:
    bounded = statement.traits.bounded
    if rail.bounded is None or bounded is rail.bounded:
        return True
    return strict and bounded is None and statement.traits.opaque


def _condition_fits(rail: Guardrail, statement: StatementVerdict, where: Circumstances, strict: bool) -> bool:
    if not rail.when:
        return True
    answer = condition.holds(rail.when, facts(statement, where))
    return strict if answer is None else answer


def facts(statement: StatementVerdict, where: Circumstances) -> dict[str, object]:
    """What a condition sees."""
    traits = statement.traits
    return {
        "statement": {
            "class": statement.statement_class.value,
            "classes": sorted(c.value for c in traits.classes),
            "kind": traits.kinds[0] if traits.kinds else "",
            "kinds": list(traits.kinds),
            "tables": sorted(statement.reach.reached),
            "bounded": traits.bounded,
            "opaque": traits.opaque,
        },
        "principal": where.principal,
        "resource": where.resource,
        "role": where.role,
    }


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    """`*` is any run of characters within one part of a name."""
    return re.compile("[^.]*".join(re.escape(part) for part in pattern.split("*")), re.S)


def _any(patterns: Iterable[str], name: str) -> bool:
    """Whether a name fits: one whose schema the gate does not know fits by its last part."""
    for pattern in patterns:
        if _pattern(pattern).fullmatch(name):
            return True
        if "." not in name and _pattern(pattern.rpartition(".")[2]).fullmatch(name):
            return True
    return False


def _least(one: _T | None, other: _T | None) -> _T | None:
    return other if one is None else one if other is None else min(one, other)


def worst_class(verdict: Verdict, circumstances: Circumstances | None = None) -> StatementClass:
    """The worst class of a text, with what its EXECUTEs run."""
    where = circumstances or Circumstances()
    prepared = dict(where.prepared)
    found = [verdict.statement_class]
    for statement in verdict.statements:
        found += [one.statement_class for one in _parts(statement, prepared)]
        if statement.defines is not None:
            prepared[statement.defines] = statement
    return worst_of(found)
