"""What a write does beside what it says, where columns are masked.

Triggers and rules get whole rows and may put them where no mask is. A check between a masked column and
another one fails or not by the masked value, and an exclusion constraint by what overlaps it: written again
and again, either gives the value away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.sql import functions
from proxy.sql.catalog import Catalog, Trigger
from proxy.sql.reach import closure
from proxy.sql.scope import Refused
from proxy.sql.tree import Message, strings

if TYPE_CHECKING:
    from proxy.sql.masked import MaskSet

INSERT, DELETE, UPDATE = 4, 8, 16
_BY_COMMAND = {3: UPDATE, 4: INSERT, 5: DELETE}
"""The events of MERGE's commands (libpg_query's numbers)."""

# A trigger that stamps the time, as most tables have one, and nothing else.
_STAMP = re.compile(
    r"\s*begin\s+(new\s*\.\s*\w+\s*:?=\s*"
    r"(now\s*\(\s*\)|current_timestamp|localtimestamp|(clock|statement|transaction)_timestamp\s*\(\s*\)"
    r"|timezone\s*\(\s*'utc'(::text)?\s*,\s*now\s*\(\s*\)\s*\)|now\s*\(\s*\)\s+at\s+time\s+zone\s+'utc')\s*;\s*)+"
    r"return\s+new\s*;\s*end\s*;?\s*",
    re.IGNORECASE,
)
_CARRIES_NOTHING = frozenset({("pg_catalog", "suppress_redundant_updates_trigger")})


def may_carry(trigger: Trigger, trusted: frozenset[str]) -> bool:
    """Whether a trigger or a rule may put a row's values elsewhere: where nobody vouches for its function."""
    if not trigger.function:
        return True
    if trigger.function in _CARRIES_NOTHING or functions.vouched(trigger.function, trusted):
        return False
    return _STAMP.fullmatch(trigger.text) is None


@dataclass(frozen=True, slots=True)
class _Write:
    """What one statement does to its target: the events, and the columns it inserts and updates by name."""

    events: int = 0
    inserts: frozenset[str] = frozenset()
    updates: frozenset[str] = frozenset()


_EVERY = frozenset({"*"})


def check_writes(nodes: Iterable[tuple[str, Message]], masks: MaskSet, trusted: frozenset[str]) -> None:
    """Refuse the writes among a statement's nodes that may tell about masked values. Raises Refused."""
    for name, message in nodes:
        if name not in _CHANGES:
            continue
        catalog, target = masks.catalog, message.relation
        named = {relation.oid for relation in catalog.find(target.schemaname, target.relname)}
        write = _CHANGES[name](message)
        family = _family(catalog, named)
        reached = _reached(catalog, family, write.events)
        _check_triggers(reached, masks, trusted)
        if any(catalog.relations[oid].kind == "v" for oid in named):  # its columns may have other names
            write = replace(write, inserts=write.inserts and _EVERY, updates=write.updates and _EVERY)
        for oid in reached:
            _check_ties(oid, write if oid in family else _Write(write.events, _EVERY, _EVERY), masks)


def _update(statement: Message) -> _Write:
    return _Write(UPDATE, updates=_names(statement.target_list))


def _insert(statement: Message) -> _Write:
    updates = _names(statement.on_conflict_clause.target_list)
    events = INSERT | UPDATE if updates else INSERT
    return _Write(events, _names(statement.cols) or _EVERY, updates)


def _merge(statement: Message) -> _Write:
    write = _Write()
    for node in statement.merge_when_clauses:
        when = node.merge_when_clause
        names = _names(when.target_list)
        event = _BY_COMMAND.get(when.command_type, 0)
        inserts = (names or _EVERY) if event == INSERT else frozenset[str]()
        updates = names if event == UPDATE else frozenset[str]()
        write = _Write(write.events | event, write.inserts | inserts, write.updates | updates)
    return write


def _copy(statement: Message) -> _Write:
    if not statement.is_from:
        return _Write()
    return _Write(INSERT, frozenset(strings(statement.attlist)) or _EVERY)


_CHANGES: dict[str, Callable[[Message], _Write]] = {
    "UpdateStmt": _update,
    "InsertStmt": _insert,
    "DeleteStmt": lambda _: _Write(DELETE),
    "MergeStmt": _merge,
    "CopyStmt": _copy,
}


def _names(targets: Iterable[Message]) -> frozenset[str]:
    return frozenset(node.res_target.name for node in targets)


def _family(catalog: Catalog, start: Iterable[int]) -> set[int]:
    return closure(catalog.above, closure(catalog.below, start))


def _reached(catalog: Catalog, family: Iterable[int], events: int) -> Mapping[int, int]:
    """The relations whose rows change, with the events on them: also those that foreign keys take along."""
    events_of = dict.fromkeys(family, events)
    left = list(events_of)
    while left:
        oid = left.pop()
        for child, parent, by in catalog.cascades:
            if parent != oid or not (happens := by & events_of[oid]):
                continue
            for other in _family(catalog, (child,)):
                more = events_of.get(other, 0) | UPDATE | (happens & DELETE)
                if more != events_of.get(other):
                    events_of[other] = more
                    left.append(other)
    return events_of


def _check_triggers(reached: Mapping[int, int], masks: MaskSet, trusted: frozenset[str]) -> None:
    """A row that is only inserted holds what the client sent."""
    masked = {oid for oid, _ in masks.columns}
    for trigger in masks.catalog.triggers:
        fired = trigger.events & reached.get(trigger.relation, 0) & (UPDATE | DELETE)
        if not (fired and trigger.relation in masked and may_carry(trigger, trusted)):
            continue
        what = f"trigger {trigger.name}" if trigger.function else f"rule {trigger.name}"
        table = masks.catalog.relations[trigger.relation].full_name
        raise Refused(f"the {what} on {table} gets whole rows and may carry masked values away", _VOUCH)


_VOUCH = "An operator can list a trigger's function under trusted_functions in access.yaml."


def _check_ties(oid: int, write: _Write, masks: MaskSet) -> None:
    catalog = masks.catalog
    ties: dict[int, dict[int, str]] = {}
    for relation, group, number, how in catalog.ties:
        if relation == oid:
            ties.setdefault(group, {})[number] = how
    for relation, number, source in catalog.generated:
        if relation == oid:
            ties.setdefault(-number, {})[source] = "c"
    for columns in ties.values():
        masked = {number for number in columns if (oid, number) in masks.columns}
        names = {c.number: c.name for c in catalog.relations[oid].columns}
        if masked and _tells(columns, masked, names, write):
            raise Refused(
                f"a constraint of {catalog.relations[oid].full_name} holds a masked column against what is"
                " written here: it would tell the value by failing or not",
                "Leave that column out, or ask for a role without masks.",
            )


def _tells(columns: Mapping[int, str], masked: set[int], names: Mapping[int, str], write: _Write) -> bool:
    def written(by: frozenset[str]) -> set[int]:
        return set(columns) if "*" in by else {number for number in columns if names.get(number) in by}

    if any(columns[number] == "x" for number in masked):  # other rows decide
        return bool(written(write.inserts | write.updates))
    updated = written(write.updates)
    return bool(updated - masked) and ("*" in write.updates or not masked <= updated)
