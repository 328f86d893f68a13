"""Names in a query and what flows through them.

A Taint says which masked columns a value derives from. Its shape says what may be done with it:
- plain: the value is exactly one masked base column's value. It may be compared for equality with a constant
  (the client already holds its guess) or with another plain one.
- folded: a plain value in another case (lower, upper). Compared like a plain one; never partly shown.
- row: a whole row of a relation with masked columns. It may be tested for NULL and counted.
- mixed: anything computed. It may only reach the output, where it is masked in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

# (relation oid, attnum)
Origin = tuple[int, int]

SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax", "oid"})


class Refused(Exception):
    """The statement may not run in a session with masks. `hint` says what to do instead."""

    def __init__(self, reason: str, hint: str = "", sqlstate: str = "42501") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Taint:
    """The masked columns a value derives from (none: the value is clear) and its shape."""

    origins: frozenset[Origin] = frozenset()
    shape: str = "mixed"

    def __bool__(self) -> bool:
        return bool(self.origins)


CLEAR = Taint()
# Shapes that may be compared for equality, grouped by and joined on.
COMPARABLE = frozenset({"plain", "folded"})


def merge(taints: Iterable[Taint]) -> Taint:
    """The taint of something computed from several values."""
    return Taint(frozenset().union(*(t.origins for t in taints)))


def alternatives(taints: Iterable[Taint]) -> Taint:
    """The taint of a value that is one of several: plain only when each of them is."""
    listed = list(taints)
    merged = merge(listed)
    shapes = {t.shape for t in listed}
    if not merged or not shapes <= COMPARABLE:
        return merged
    return replace(merged, shape="plain" if shapes == {"plain"} else "folded")


# Output columns of a query, or None when their number is not known; then nothing in them is masked.
Columns = tuple[tuple[str, Taint], ...] | None


@dataclass(slots=True)
class Item:
    """One thing in FROM: its alias (or "") and its columns.

    `open` means that it may have further columns, all clear: a function's result. `schemas` are those that a
    table without an alias may stand in: only such a one is meant by `schema.table.column`.
    """

    name: str
    columns: list[tuple[str, Taint]] = field(default_factory=list)
    open: bool = False
    schemas: frozenset[str] = frozenset()

    def named(self, name: str) -> list[Taint]:
        return [taint for column, taint in self.columns if column == name]

    def row(self) -> Taint:
        merged = merge(taint for _, taint in self.columns)
        return replace(merged, shape="row") if merged else CLEAR


@dataclass(slots=True)
class Scope:
    """The names one query level sees.

    `star` is what an unqualified `*` expands to and what unqualified names are looked up in: joins with USING
    have merged their columns there. `items` answers qualified names.
    """

    outer: Scope | None = None
    ctes: Mapping[str, Columns] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    star: list[tuple[str, Taint]] = field(default_factory=list)

    def levels(self) -> Iterator[Scope]:
        level: Scope | None = self
        while level is not None:
            yield level
            level = level.outer

    def add(self, items: Iterable[Item], star: Iterable[tuple[str, Taint]]) -> None:
        self.items.extend(items)
        self.star.extend(star)

    @property
    def countable(self) -> bool:
        return not any(item.open for item in self.items)

    def item(self, name: str, schema: str = "") -> Item:
        """The nearest FROM item called `name`, or the nearest table of that schema. Raises Refused when there
        is none.
        """
        for level in self.levels():
            found = [i for i in level.items if i.name == name and (not schema or schema in i.schemas)]
            if found:
                if len(found) == 1:
                    return found[0]
                return Item(name, [c for i in found for c in i.columns], any(i.open for i in found))
        raise Refused(f'the gate cannot tell what "{name}" stands for', sqlstate="42P01")

    def unqualified(self, name: str) -> Taint:
        """What a bare name stands for: a column, else a whole row. Raises Refused when neither is known."""
        candidates: list[Taint] = []
        for level in self.levels():
            found = [taint for column, taint in level.star if column == name]
            found += [item.row() for item in level.items if item.name == name] if not found else []
            if found:
                return alternatives([*candidates, *found]) if not candidates else merge([*candidates, *found])
            if any(item.open for item in level.items):
                candidates.append(CLEAR)  # it may be the open item's column, or one further out
        if candidates or name in SYSTEM_COLUMNS:
            return CLEAR
        raise Refused(f'the gate does not know a column "{name}" here', sqlstate="42703")

    def qualified(self, table: str, column: str, schema: str = "") -> Taint:
        """What `table.column` stands for; a function called in this notation on a masked row is refused."""
        item = self.item(table, schema)
        found = item.named(column)
        if found:
            return alternatives(found)
        if column in SYSTEM_COLUMNS or not item.row():
            return CLEAR
        raise Refused(f'"{table}.{column}" is no column the gate knows', sqlstate="42703")
