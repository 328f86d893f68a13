"""What the guard reads about COPY ... TO STDOUT: its format and its columns. copy.py rewrites the rows.

Options: https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.sql.lineage import Lineage
from proxy.sql.parse import Parsed
from proxy.sql.scope import Columns, Refused
from proxy.sql.tree import Message, inner, kind, strings

_HINT = "Use COPY ... TO STDOUT in the text, CSV or binary format, or SELECT."
_SEARCH_HINT = "Use COPY ... TO STDOUT in the text or CSV format, or SELECT."
_UTF8 = frozenset({"utf8", "utf-8", "unicode"})
_ON, _OFF = frozenset({"", "true", "on", "1"}), frozenset({"false", "off", "0"})
_FORMATS = frozenset({"text", "csv", "binary"})
_NEVER_IN_TEXT = rb"\\.a-z0-9"


@dataclass(frozen=True, slots=True)
class CopyFormat:
    """How the rows of a COPY are written. `name` is text, csv or binary; with a `header` the first row holds
    names; `forced` says that values are quoted where they need not be.
    """

    name: str = "text"
    header: bool = False
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    quote: bytes = b'"'
    escape: bytes = b'"'
    forced: bool = False


def sends_rows(parsed: Parsed) -> bool:
    """Whether it is a COPY to the client."""
    return parsed.kind == "copy_stmt" and not parsed.tree.is_from


def has_title(statement: Message) -> bool:
    """Whether a COPY to the client begins with a line of names."""
    given = {node.def_elem.defname: _value(node.def_elem) for node in statement.options}
    return (given.get("header", "off") or "").lower() in _ON


def copy_format(statement: Message, *, searched: bool = False) -> CopyFormat:
    """The format of a COPY whose rows have to be rewritten, or only `searched` by detectors.

    Raises Refused for an option whose rows the gate does not read.
    """
    given: dict[str, str] = {}
    for node in statement.options:
        name, value = node.def_elem.defname, _value(node.def_elem)
        if value is None or name in given or not _is_read(name, value):
            raise Refused(f"the gate cannot rewrite the rows of a COPY with this {name.upper()}", _HINT)
        given[name] = value
    form = given.get("format", "text")
    if searched and form == "binary":
        raise Refused("a binary COPY cannot be searched for what the session's detectors hide", _SEARCH_HINT)
    csv = form == "csv"
    quote = given.get("quote", '"')
    found = CopyFormat(
        form,
        given.get("header", "off").lower() in _ON,
        given.get("delimiter", "," if csv else "\t").encode(),
        given.get("null", "" if csv else "\\N").encode(),
        quote.encode(),
        given.get("escape", quote).encode(),
        "force_quote" in given,
    )
    if not _is_sound(found):
        raise Refused("the gate cannot tell the values of a COPY with these options apart", _HINT)
    return found


def _is_read(option: str, value: str) -> bool:
    if option == "format":
        return value in _FORMATS
    if option == "header":
        return value.lower() in _ON | _OFF
    if option == "encoding":
        return value.lower() in _UTF8
    return option in ("delimiter", "null", "quote", "escape", "force_quote")


def _is_sound(form: CopyFormat) -> bool:
    """Whether values, delimiters and NULL cannot be taken for each other. The server checks most of it."""
    singles = [form.delimiter, form.quote, form.escape] if form.name == "csv" else [form.delimiter]
    if any(len(single) != 1 or single in b"\r\n" for single in singles):
        return False
    if re.search(rb"[\r\n]", form.null) or form.delimiter in form.null:
        return False
    if form.name == "csv":
        return form.quote != form.delimiter and form.quote not in form.null
    # A NULL of one's own with a backslash in it could swallow the delimiter behind it.
    own = form.null != b"\\N"
    return not re.match(rb"[" + _NEVER_IN_TEXT + rb"]", form.delimiter) and not (own and b"\\" in form.null)


def _value(option: Message) -> str | None:
    what = kind(option.arg)
    if what == "":
        return ""
    if what == "string":
        return str(option.arg.string.sval)
    if what == "boolean":
        return "true" if option.arg.boolean.boolval else "false"
    if what == "integer":
        return str(option.arg.integer.ival)
    return "" if option.defname == "force_quote" and what in ("a_star", "list") else None


def copied_columns(statement: Message, lineage: Lineage) -> Columns:
    """The columns of the rows that a COPY to the client sends. Raises Refused, also where none are known."""
    columns = _copied(statement, lineage)
    if columns is None:
        raise Refused(
            "the gate cannot tell which columns this COPY sends, and a masked one may be among them",
            "Name the columns: COPY (SELECT a, b FROM ...) TO STDOUT.",
        )
    return columns


def _copied(statement: Message, lineage: Lineage) -> Columns:
    if kind(statement.query):
        return lineage.query(inner(statement.query), None)
    columns = lineage.relation(statement.relation)
    chosen = strings(statement.attlist)
    if not chosen:
        skipped = _generated(statement.relation, lineage)
        return tuple(column for column in columns if column[0] not in skipped)
    known = dict(columns)
    for name in chosen:
        if name not in known:
            raise Refused(f'the gate does not know a column "{name}" here', sqlstate="42703")
    return tuple((name, known[name]) for name in chosen)


def _generated(ref: Message, lineage: Lineage) -> frozenset[str]:
    """The generated columns of a table: COPY leaves them out unless they are named."""
    catalog = lineage.catalog
    numbers = {(oid, number) for oid, number, _ in catalog.generated}
    found = catalog.find(ref.schemaname, ref.relname)
    return frozenset(c.name for r in found for c in r.columns if (r.oid, c.number) in numbers)
