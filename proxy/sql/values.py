"""Constants in conditions that leave nothing out: `> 0`, `LIKE '%'`, `IN (true, false)`."""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.sql.patterns import like_shows_all, regex_shows_all, similar_shows_all
from proxy.sql.tree import Message, kind, named, strings, walk, words

_HUGE = 2_000_000_000
_BLOCKS = 1_000_000
"""Pages of a table: a ctid beyond is one that no row has."""
_OLD, _FAR = 1970, 2900
_DAYS = 15_000
"""A distance in time that reaches beyond what rows have."""


def constant(node: Message) -> str | None:
    """The text of a constant, through casts; None for anything else."""
    if kind(node) == "type_cast":
        return constant(node.type_cast.arg)
    if kind(node) == "a_expr" and not kind(node.a_expr.lexpr):  # -1
        value = constant(node.a_expr.rexpr)
        return None if value is None else "-" + value
    if kind(node) != "a_const":
        return None
    which = node.a_const.WhichOneof("val")
    if which == "sval":
        return str(node.a_const.sval.sval)
    if which == "boolval":
        return str(node.a_const.boolval.boolval).lower()
    if which == "ival":
        return str(node.a_const.ival.ival)
    return str(node.a_const.fval.fval) if which == "fval" else ""


_CLOCKS = words(
    """
    now clock_timestamp statement_timestamp transaction_timestamp localtimestamp current_timestamp
    date_trunc make_date make_timestamp make_timestamptz make_interval to_date to_timestamp timezone date
    """
)
_ESCAPED = words("similar_to_escape like_escape")


def is_written(node: Message) -> bool:
    """Whether the edge of a range or a pattern is what the client wrote down, or the time and a distance from
    it, as `now() - interval '30 days'`.
    """
    what = kind(node)
    if what == "list":
        return all(map(is_written, node.list.items))
    if what == "type_cast":
        return is_written(node.type_cast.arg)
    if what == "func_call":
        name = strings(node.func_call.funcname)[-1]
        return name in _CLOCKS | _ESCAPED and all(map(is_written, node.func_call.args))
    if what == "a_expr" and kind(node.a_expr.lexpr):
        timed = any(named(m) in ("FuncCall", "SQLValueFunction") for m in walk(node))
        sides = (node.a_expr.lexpr, node.a_expr.rexpr)
        return timed and strings(node.a_expr.name)[-1] in ("+", "-", "*") and all(map(is_written, sides))
    return what == "sqlvalue_function" or constant(node) is not None


def starts_at_nothing(operator: str, node: Message) -> bool:
    """Whether `column OPERATOR constant` holds for nearly every value: above zero, below the greatest."""
    if operator not in ("<", "<=", ">", ">="):
        return False
    upper = operator.startswith("<")
    value = constant(node)
    if value is None:
        return is_written(node) and _reaches_far(node, upper)
    if value.strip() in ("", "infinity", "-infinity"):
        return True
    if (page := re.match(r"\((\d+),", value)) is not None:  # a ctid
        return int(page[1]) >= _BLOCKS if upper else int(page[1]) == 0
    try:
        number = float(value)
    except ValueError:
        return _distant(value.strip().lower(), upper)
    return number >= _HUGE if upper else number <= 1


def _distant(value: str, upper: bool) -> bool:
    """A date beyond what rows have, or a text before or after nearly all texts."""
    if value.endswith("bc") or value in ("epoch", "tomorrow"):
        return upper is (value == "tomorrow")
    if (year := value[:4]).isdigit():
        return int(year) >= _FAR if upper else int(year) <= _OLD
    return value[:1] >= "y" if upper else value[:1] < "b"


_UNITS = {
    "year": 365,
    "decade": 3650,
    "centur": 36_500,
    "millenni": 365_000,
    "month": 30,
    "week": 7,
    "day": 1,
}


def _reaches_far(node: Message, upper: bool) -> bool:
    """Whether a time that is computed lies beyond what rows have: `now() - interval '500 years'`,
    `to_timestamp(0)`, `make_date(1, 1, 1)`."""
    if kind(node) == "func_call" and (arguments := node.func_call.args):
        name = strings(node.func_call.funcname)[-1]
        first = constant(arguments[0]) or ""
        if name == "to_timestamp" and first.isdigit():
            return not upper and int(first) < 86_400 * 365
        if name.startswith(("make_", "to_")) and re.match(r"\d+", first):
            year = int(re.findall(r"\d+", first)[0])
            return year >= _FAR if upper else year <= _OLD
    days = 1.0
    for message in walk(node):
        if named(message) == "A_Const":
            days *= _days(message)
    return days > _DAYS


def _days(const: Message) -> float:
    """How many days a constant stands for, or multiplies."""
    if const.WhichOneof("val") == "ival":
        return float(max(1, abs(const.ival.ival)))
    text = const.sval.sval.lower()
    found = re.findall(r"(\d+)\s*(" + "|".join(_UNITS) + ")", text)
    return max(1.0, sum(float(count) * _UNITS[unit] for count, unit in found))


def between_shows_all(node: Message) -> bool:
    """Whether the two ends of a BETWEEN, in either order, are both open."""
    ends = list(node.list.items) if kind(node) == "list" else []
    return len(ends) == 2 and (_open_between(*ends) or _open_between(*reversed(ends)))


def _open_between(low: Message, high: Message) -> bool:
    return starts_at_nothing(">", low) and (starts_at_nothing("<", high) or _many(high))


_PATTERNS: dict[str, Callable[[str], bool]] = {
    "~~": like_shows_all,
    "~~*": like_shows_all,
    "~": regex_shows_all,
    "~*": lambda pattern: regex_shows_all(pattern, folded=True),
}


def shows_all(operator: str, node: Message) -> bool:
    """Whether a pattern matches every text, or any of a list of patterns does."""
    if kind(node) == "func_call" and len(node.func_call.args):  # SIMILAR TO, LIKE ... ESCAPE
        inside = constant(node.func_call.args[0])
        similar = strings(node.func_call.funcname)[-1] == "similar_to_escape"
        return inside is None or (similar_shows_all if similar else like_shows_all)(inside)
    value = constant(node)
    if value is None or operator not in _PATTERNS:
        return False
    return any(map(_PATTERNS[operator], [value, *(_elements(value) or ())]))


def _elements(value: str) -> list[str] | None:
    """The elements of an array written as text, `{a,b}`; None for any other text."""
    if not (value.startswith("{") and value.endswith("}")):
        return None
    return [part.strip().strip('"') for part in value[1:-1].split(",")]


def _many(node: Message) -> bool:
    value = constant(node) or ""
    return value.lstrip("-").isdigit() and int(value) >= 1_000_000


_NO_ENDS = re.compile(r"[{(\[]+(-?infinity)?,(infinity)?[)\]}]+")
_SEARCHED = re.compile(r"[\w\s&|:*'()-]*\w[\w\s&|:*'()-]*")


def holds_nothing(operator: str, node: Message) -> bool:
    """An empty document, list or prefix, which everything contains, a range without ends, or a search for
    what is not there.
    """
    value = "".join((constant(node) or "").split())
    if operator == "@@" and not _SEARCHED.fullmatch(value):
        return True
    return value in ("", "{}", "[]", "null") or _NO_ENDS.fullmatch(value) is not None


_TRUTHS = {
    **dict.fromkeys(words("true tru tr t yes ye y on 1"), True),
    **dict.fromkeys(words("false fals fal fa f no n off of 0"), False),
}


def truths(node: Message) -> frozenset[bool] | None:
    """The truth values that a constant, a list or an array of them stands for; None for anything else."""
    what = kind(node)
    if what in ("list", "a_array_expr"):
        parts = [truths(item) for item in (node.list.items if what == "list" else node.a_array_expr.elements)]
        return None if None in parts else frozenset().union(*(part for part in parts if part is not None))
    if what == "type_cast":
        return truths(node.type_cast.arg)
    if what != "a_const" or node.a_const.WhichOneof("val") not in ("sval", "boolval", None):
        return None
    value = (constant(node) or "").strip().lower()
    if node.a_const.isnull:
        return frozenset()
    texts = _elements(value) or [value]
    found = [_TRUTHS.get(text) for text in texts]
    return None if None in found else frozenset(truth for truth in found if truth is not None)


_BOTH = frozenset({True, False})


def covers_all(left: Message, right: Message) -> bool:
    """`active IN (true, false)`: all there is, in each column that is compared."""
    if kind(left) != "row_expr":
        return truths(right) == _BOTH
    rows = [item.row_expr.args for item in right.list.items] if kind(right) == "list" else []
    if not rows or any(len(row) != len(left.row_expr.args) for row in rows):
        return False
    columns = [i for i, part in enumerate(left.row_expr.args) if constant(part) is None]
    return all(frozenset().union(*(truths(row[i]) or {None} for row in rows)) == _BOTH for i in columns)
