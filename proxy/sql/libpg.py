"""libpg_query, PostgreSQL's own parser, held on a short lead.

The C library recurses over the tree it built: a long chain (`1+1+1+...`) overflows the stack and takes the
process with it, and its output grows quadratically with depth. So a long text is first scanned into tokens by
the same library (flat, no recursion) and refused when a chain in it could be too deep.
"""

from __future__ import annotations

import ctypes

import google._upb._message as upb
import pg_query
from pg_query import pg_query_pb2
from pg_query.native import PgQueryProtobufParseResult, lib

from proxy.sql.tree import Message

# Texts up to this many bytes cannot hold a chain deep enough to hurt (measured: 5,000 levels take 30 ms).
_SHORT = 8192
_MAX_CHAIN = 2000

_Token = pg_query_pb2.Token
_OPENERS = frozenset({_Token.ASCII_40, _Token.ASCII_91})
_CLOSERS = frozenset({_Token.ASCII_41, _Token.ASCII_93})
_SEMICOLON = _Token.ASCII_59
# After one of these the grammar starts a new, flat list element: no chain runs across.
_RESETS = frozenset({_Token.ASCII_44, _Token.AND, _Token.OR})
# These chain to the left over commas and ANDs alike, so they are counted to the end of the statement.
_LASTING = frozenset({_Token.JOIN, _Token.UNION, _Token.INTERSECT, _Token.EXCEPT})

# protobuf's default depth of 100 is about 20 nested subqueries; the depth of our own trees is bounded above.
upb.SetAllowOversizeProtos(True)

lib.pg_query_scan.argtypes = [ctypes.c_char_p]
lib.pg_query_scan.restype = PgQueryProtobufParseResult
lib.pg_query_free_scan_result.argtypes = [PgQueryProtobufParseResult]
lib.pg_query_free_scan_result.restype = None


class TooDeep(Exception):
    """The text nests or chains deeper than the gate reads."""


def parse(text: str) -> Message:
    """Parse with PostgreSQL's grammar. Raises pg_query.PgQueryError for a syntax error, or TooDeep."""
    if len(text) > _SHORT:
        _check_chains(text)
    try:
        return pg_query.parse(text)
    except UnicodeDecodeError as error:  # the library cut a letter in two in its message
        raise pg_query.PgQueryError("syntax error") from error


def _scan(text: str) -> Message:
    result = lib.pg_query_scan(text.encode())
    try:
        if result.error:
            raise pg_query.PgQueryError((result.error.contents.message or b"").decode())
        data = ctypes.string_at(result.parse_tree.data, result.parse_tree.len)
        found = pg_query_pb2.ScanResult()
        found.ParseFromString(data)  # type: ignore[no-untyped-call]
        return found
    finally:
        lib.pg_query_free_scan_result(result)


def with_names_for_parameters(text: str) -> str:
    """The text with each parameter (`$1`) as a plain name (`p1`). Raises pg_query.PgQueryError."""
    raw, parts, at = text.encode(), [], 0
    for token in _scan(text).tokens:
        if token.token == _Token.PARAM:
            parts += [raw[at : token.start], b"p", raw[token.start + 1 : token.end]]
            at = token.end
    return b"".join((*parts, raw[at:])).decode()


def _check_chains(text: str) -> None:
    levels: list[list[int]] = [[0, 0]]  # per open bracket: tokens since the last reset, lasting words
    for token in _scan(text).tokens:
        word = token.token
        top = levels[-1]
        if word in _OPENERS:
            levels.append([0, 0])
        elif word in _CLOSERS:
            if len(levels) > 1:
                levels.pop()
        elif word == _SEMICOLON:
            levels = [[0, 0]]
        elif word in _RESETS:
            top[0] = 0
        else:
            top[0] += 1
            top[1] += word in _LASTING
        if top[0] > _MAX_CHAIN or top[1] > _MAX_CHAIN or len(levels) > _MAX_CHAIN:
            raise TooDeep
