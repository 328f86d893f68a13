"""Constants in conditions that leave nothing out: `> 0`, `LIKE '%'`, `IN (true, false)`."""

from __future__ import annotations

from proxy.sql.tree import Message, kind, named, strings, walk, words

_HUGE = 2_147_483_647
_EVERYTHING = frozenset("%_")
_ANY_REGEX = frozenset("^$.*+?()|{}[]0123456789,\\wWdDsS")


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
    value = constant(node)
    if value is None or operator not in ("<", "<=", ">", ">="):
        return False
    upper = operator.startswith("<")
    if value.strip() in ("", "infinity", "-infinity") or value.startswith("(0,"):  # (0,0) is the first ctid
        return True
    try:
        number = float(value)
    except ValueError:
        return _distant(value, upper)
    return number >= _HUGE if upper else number <= 1


def _distant(value: str, upper: bool) -> bool:
    """A date beyond what rows have, or a text after nearly all texts."""
    year = value.strip()[:4]
    if year.isdigit():
        return int(year) >= 2900 if upper else int(year) <= 1970
    return upper and value[:1] >= "y"


def shows_all(node: Message) -> bool:
    """Whether a pattern matches every text, or the two ends of a BETWEEN are both open."""
    if kind(node) == "list":
        ends = list(node.list.items)
        return (
            len(ends) == 2
            and starts_at_nothing(">", ends[0])
            and (starts_at_nothing("<", ends[1]) or _many(ends[1]))
        )
    if kind(node) == "func_call" and len(node.func_call.args):  # SIMILAR TO, LIKE ... ESCAPE
        return shows_all(node.func_call.args[0])
    value = constant(node)
    if value is None or kind(node) not in ("a_const", "type_cast"):
        return False
    letters = set(value)
    return ("%" in letters and letters <= _EVERYTHING) or (
        letters <= _ANY_REGEX and not value.strip("^$").isdigit()
    )


def _many(node: Message) -> bool:
    value = constant(node) or ""
    return value.lstrip("-").isdigit() and int(value) >= 1_000_000


def holds_nothing(node: Message) -> bool:
    """An empty document, list or prefix: everything contains it."""
    return (constant(node) or "").strip() in ("", "{}", "[]", "null")


def covers_all(node: Message) -> bool:
    """`IN (true, false)`: all there is."""
    if kind(node) != "list":
        return False
    found = {constant(item) for item in node.list.items}
    return {"true", "false"} <= found
