"""The second reading: sqlglot's view of a text, reduced to what is compared with libpg_query's.

Only SELECT, INSERT, UPDATE, DELETE and MERGE are compared. sqlglot misreads PostgreSQL's utility statements
(DISCARD, LISTEN and SAVEPOINT become a column with an alias; EXPLAIN, DO, CALL, PREPARE and SET ROLE an
opaque Command), so there its word says nothing and PostgreSQL's own grammar decides from an allow-list.
"""

from __future__ import annotations

import logging
import string
from dataclasses import dataclass

from pg_query import PgQueryError
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from proxy.sql import libpg

# sqlglot backtracks: nested brackets and `date(date(...` double the time with every level. Measured at 20
# levels: 8 s. Eight levels stay below 10 ms.
_MAX_BACKTRACK = 8
_MAX_NESTING = 150

_DIALECT = Postgres()
_PARSER = Postgres.parser_class
_TYPES = frozenset(_PARSER.TYPE_TOKENS)

_KINDS: dict[type[exp.Expr], str] = {
    exp.Select: "select",
    exp.SetOperation: "select",
    exp.Values: "select",
    exp.Subquery: "select",
    exp.Table: "select",
    exp.Insert: "insert",
    exp.Update: "update",
    exp.Delete: "delete",
    exp.Merge: "merge",
}


@dataclass(frozen=True, slots=True)
class Glance:
    """One statement as sqlglot sees it: its kind ("other" when not compared) and the tables it names."""

    kind: str
    tables: frozenset[str]


# What sqlglot raises on texts it was not made for.
_FAILURES = (SqlglotError, PgQueryError, RecursionError, ValueError, AttributeError, TypeError, LookupError)


class Unreadable(Exception):
    """sqlglot cannot read the text, or reading it would cost too much."""


def glance(text: str) -> tuple[Glance, ...]:
    """Read `text` with sqlglot. Raises Unreadable."""
    try:
        tokens = _without_overriding(_tokens(text))
        _check_nesting(tokens)
        return tuple(_summary(tree) for tree in _trees(tokens, text) if not _is_empty(tree))
    except _FAILURES as error:
        raise Unreadable(type(error).__name__) from error


def _tokens(text: str) -> list[Token]:
    """sqlglot takes what stands between `$1` and `$2` for the tag of a dollar quote, and may then give up. A
    parameter is a value, as a name in its place is: no statement and no table can hide in either.
    """
    try:
        return _DIALECT.tokenize(text)
    except TokenError:
        return _DIALECT.tokenize(libpg.with_names_for_parameters(text))


# sqlglot says what it passes over in this mode; we look at it ourselves.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
_TOO_MANY = "The number of provided arguments"


def _trees(tokens: list[Token], text: str) -> list[exp.Expr | None]:
    """sqlglot knows how many arguments the functions of other databases take, and gives up at one more. That
    alone is no reason: what it leaves out then would be missed when its tables are compared.
    """
    try:
        return _PARSER(dialect=_DIALECT).parse(tokens, text)
    except ParseError as error:
        if not _only_too_many(error):
            raise
    lenient = _PARSER(dialect=_DIALECT, error_level=ErrorLevel.WARN)
    trees = lenient.parse(tokens, text)
    if not all(map(_only_too_many, lenient.errors)):
        raise Unreadable("ParseError")
    return trees


def _only_too_many(error: ParseError) -> bool:
    return all(str(one["description"]).startswith(_TOO_MANY) for one in error.errors)


_QUOTED = frozenset({TokenType.STRING, TokenType.IDENTIFIER})


def _without_overriding(tokens: list[Token]) -> list[Token]:
    """INSERT's OVERRIDING SYSTEM VALUE, which sqlglot does not know, left out. PostgreSQL's grammar has these
    three words in a row nowhere else, and no table or statement can hide in them.
    """
    kept: list[Token] = []
    at = 0
    while at < len(tokens):
        three = tokens[at : at + 3]
        words = [token.text.upper() for token in three if token.token_type not in _QUOTED]
        if words in (["OVERRIDING", "SYSTEM", "VALUE"], ["OVERRIDING", "USER", "VALUE"]):
            at += 3
            continue
        kept.append(tokens[at])
        at += 1
    return kept


def _is_empty(tree: exp.Expr | None) -> bool:
    return tree is None or isinstance(tree, exp.Semicolon)


def _summary(tree: exp.Expr | None) -> Glance:
    assert tree is not None
    for cls in type(tree).__mro__:
        if cls in _KINDS:
            return Glance(_KINDS[cls], frozenset(_tables(tree)))
    return Glance("other", frozenset())


def _tables(tree: exp.Expr) -> set[str]:
    ctes = {_folded(cte.args["alias"].this) for cte in tree.find_all(exp.CTE)}
    return {
        _folded(table.this)
        for table in tree.find_all(exp.Table)
        if isinstance(table.this, exp.Identifier)
        and (table.args.get("db") or _folded(table.this) not in ctes)
    }


# ASCII only: PostgreSQL leaves other letters alone in a multi-byte encoding.
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _folded(identifier: exp.Expr) -> str:
    """The name as PostgreSQL keeps it: unquoted ones in lower case, all cut to 63 bytes."""
    name = identifier.name if identifier.args.get("quoted") else identifier.name.translate(_FOLD)
    return name.encode()[:63].decode("utf-8", "ignore")


def _check_nesting(tokens: list[Token]) -> None:
    risky: list[bool] = []
    depth = 0
    before: TokenType | None = None
    for token in tokens:
        kind = token.token_type
        if kind is TokenType.L_PAREN or kind is TokenType.L_BRACKET:
            risky.append(kind is TokenType.L_BRACKET or before in _TYPES)
            depth += risky[-1]
            if depth > _MAX_BACKTRACK or len(risky) > _MAX_NESTING:
                raise Unreadable("nested too deep")
        elif (kind is TokenType.R_PAREN or kind is TokenType.R_BRACKET) and risky:
            depth -= risky.pop()
        before = kind
