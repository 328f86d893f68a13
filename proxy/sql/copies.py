"""What the guard reads about COPY ... TO STDOUT: its format and its columns. copy.py rewrites the rows."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.sql.lineage import Lineage
from proxy.sql.parse import Parsed
from proxy.sql.scope import Columns, Refused
from proxy.sql.tree import Message, inner, kind, strings

NO_SEARCH = "this COPY cannot be searched for what the session's detectors hide"
COPY_HINT = "Use COPY ... TO STDOUT in the text or CSV format without other options, or SELECT."


@dataclass(frozen=True, slots=True)
class CopyFormat:
    """PostgreSQL's own text or CSV format; with a `header` the first row holds names."""

    csv: bool = False
    header: bool = False


def sends_rows(parsed: Parsed) -> bool:
    """Whether it is a COPY to the client."""
    return parsed.kind == "copy_stmt" and not parsed.tree.is_from


def copy_format(statement: Message) -> CopyFormat | None:
    """The format of a COPY; None for one that is not read: binary, another delimiter, quote or NULL."""
    csv = header = False
    for node in statement.options:
        option = node.def_elem
        value = _value(option)
        if option.defname == "format" and value in ("text", "csv"):
            csv = value == "csv"
        elif option.defname == "header" and value in ("", "true", "on", "1", "false", "off", "0"):
            header = value in ("", "true", "on", "1")
        else:
            return None
    return CopyFormat(csv, header)


def _value(option: Message) -> str | None:
    what = kind(option.arg)
    if what == "":
        return ""
    if what == "string":
        return str(option.arg.string.sval).lower()
    if what == "boolean":
        return "true" if option.arg.boolean.boolval else "false"
    return str(option.arg.integer.ival) if what == "integer" else None


def copied_columns(statement: Message, lineage: Lineage) -> Columns:
    """The columns of the rows that a COPY to the client sends. Raises Refused."""
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
