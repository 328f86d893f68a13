"""Small helpers over libpg_query's parse tree (protobuf messages,
https://github.com/pganalyze/libpg_query)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# A protobuf message of pg_query_pb2; its classes are generated, so there is nothing better to name them by.
Message = Any


def kind(node: Message) -> str:
    """Which statement or expression a `Node` holds, e.g. "select_stmt"; "" for an empty node."""
    return node.WhichOneof("node") or ""


def inner(node: Message) -> Message:
    """The message inside a `Node`."""
    return getattr(node, node.WhichOneof("node"))


def strings(nodes: Any) -> tuple[str, ...]:
    """The values of a list of String nodes, other nodes skipped: names of functions, types, operators."""
    return tuple(n.string.sval for n in nodes if n.WhichOneof("node") == "string")


def walk(message: Message) -> Iterator[Message]:
    """Every message in the tree, parents first. Iterative, so that depth costs no stack."""
    stack = [message]
    while stack:
        current = stack.pop()
        yield current
        for field, value in current.ListFields():
            if field.type != field.TYPE_MESSAGE:
                continue
            if field.is_repeated:
                stack.extend(value)
            else:
                stack.append(value)


def named(message: Message) -> str:
    """The message's type name, e.g. "RangeVar"."""
    return type(message).__name__


def words(text: str) -> frozenset[str]:
    """A set of names, written as a text of words: the lists of names in this package."""
    return frozenset(text.split())
