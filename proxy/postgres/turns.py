"""Reading a whole request and its whole answer at once, where they are the ordinary ones.

A turn is what most clients send most of the time: a Query, or Bind, Execute and Sync of one portal, with an
unnamed Parse ahead or not, and a Describe amid it or not, in one piece and with nothing else under way; and
its answer in one piece, of one result without an error. Anything else is None here, and its messages are read
one by one.

The functions are compiled (_turns.c); those here run where there was no compiler, and are what the compiled
ones are tested against. Format: PostgreSQL documentation, "Message Formats".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from proxy.postgres import codec
from proxy.postgres.codec import BROKEN

_NAME = 63
_BYTES = 64 << 10
_VALUE = 4096

Batch = tuple[bytes, bytes, bytes, bytes | None, bytes | None, bool]
Answer = tuple[bytes | None, bytes, int, int]


def read_query_in_python(chunk: bytes) -> bytes | None:
    """The text of the Query that the chunk is."""
    match _messages(chunk):
        case [(0x51, body)] if body.find(b"\0") == len(body) - 1 >= 0:
            return body[:-1]
    return None


def read_batch_in_python(chunk: bytes) -> Batch | None:
    """Portal, statement and body of the Bind; text and parameter types of the Parse, if there is one; and
    whether the portal is described.
    """
    messages = _messages(chunk)
    text = types = None
    if messages and messages[0][0] == ord("P"):
        name, *rest = messages.pop(0)[1].split(b"\0", 2)
        if name or len(rest) != 2 or len(rest[1]) < 2:
            return None
        text, types = rest
    kinds = bytes(kind for kind, _ in messages)
    if kinds not in (b"BDES", b"BES"):
        return None
    (_, bind), *describes, (_, execute), (_, sync) = messages
    portal, *names = bind.split(b"\0", 2)
    if len(names) != 2 or sync or describes not in ([], [(ord("D"), b"P" + portal + b"\0")]):
        return None
    statement = names[0]
    if execute[:-4] != portal + b"\0" or max(len(portal), len(statement)) > _NAME or (types and statement):
        return None
    return portal, statement, bind, text, types, bool(describes)


def read_answer_in_python(chunk: bytes, ahead: bytes) -> Answer | None:
    """Body of the RowDescription (None where there are no rows), the command's tag, the rows it counts, and
    the transaction's status. `ahead` are the kinds of the empty messages that have to come first.
    """
    messages = _messages(chunk)
    kinds = bytes(kind for kind, _ in messages)
    shape = re.fullmatch(ahead + (b"(TD*|n)" if ahead else b"(TD*|)") + b"CZ", kinds)
    if shape is None or any(body for kind, body in messages if kind in b"12n"):
        return None
    described = messages[len(ahead)][1] if shape[1][:1] == b"T" else None
    complete, status = messages[-2][1], messages[-1][1]
    tag = complete[:-1]
    last = tag[tag.rfind(b" ") + 1 :]
    if complete.find(b"\0") != len(complete) - 1 or not complete or len(status) != 1 or len(last) > 18:
        return None
    return described, tag, int(last) if last.isdigit() else 0, status[0]


_NUMBER = re.compile(rb"[0-9](?<![0-9A-Za-z_$.].)[0-9]*(?:\.[0-9]+)?(?![0-9A-Za-z_$.])", re.DOTALL)
"""The lexer's own number, put so that the search can skip to the next digit."""

_PLAIN = bytes({*range(0x20, 0x7F), 9, 10, 13} - set(b"'\"\\$-/"))


def key_in_python(text: bytes) -> bytes | None:
    """The lexer's key for a text of plain words and numbers, in much less time; None for any other."""
    odd = text.translate(None, _PLAIN)
    if odd and (odd.strip(b"-/") or b"--" in text or b"/*" in text):
        return None
    return _NUMBER.sub(b"0", text)


def line_in_python(
    n: int, at: float, took: float, text: bytes, tag: bytes, rows: int, bind: bytes, scrub: bool, verdict: str
) -> bytes | None:
    """The recording's line for execution `n` that went well: proxy.recording.Statement as JSON.

    `at` and `took` are seconds, `bind` is the body of the Bind or empty; `scrub` hides its values.
    None where there is more to say than ASCII can, or very much of it.
    """
    if len(text) + len(tag) + len(bind) + len(verdict) > _BYTES or not (0 <= at < 1e9 and 0 <= took < 1e9):
        return None
    told: dict[str, object] = {"kind": "statement", "n": n, "at": int(at * 1e6) / 1e6}
    try:
        told |= {"text": text.decode("ascii"), "outcome": "ok", "took": int(took * 1e6) / 1e6}
        told |= {"tag": tag.decode("ascii"), "rows": rows, "parameters": _values(bind, scrub) if bind else []}
    except (UnicodeDecodeError, ValueError, *BROKEN):
        return None
    told["verdict"] = verdict
    kept = {name: it for name, it in told.items() if it or name in ("at", "text")}
    return json.dumps(kept, separators=(",", ":")).encode() + b"\n"


def _values(bind: bytes, scrub: bool) -> list[str | None]:
    at = bind.index(b"\0", bind.index(b"\0") + 1) + 1
    formats, values, _ = codec.read_bound(bind, at)
    kinds = formats if len(formats) > 1 else (formats or (0,)) * len(values)
    return [_value(value, kind, scrub) for value, kind in zip(values, kinds, strict=True)]


def _value(value: bytes | None, kind: int, scrub: bool) -> str | None:
    if value is None:
        return None
    if len(value) > _VALUE:
        raise ValueError
    if scrub:
        return "(masked)"
    return "\\x" + value.hex() if kind else value.decode("ascii")


def _messages(chunk: bytes) -> list[tuple[int, bytes]]:
    """The messages that the chunk is whole; nothing where it is not."""
    try:
        return list(codec.split(chunk))
    except BROKEN:
        return []


read_query: Callable[[bytes], bytes | None] = read_query_in_python
read_batch: Callable[[bytes], Batch | None] = read_batch_in_python
read_answer: Callable[[bytes, bytes], Answer | None] = read_answer_in_python
key: Callable[[bytes], bytes | None] = key_in_python
line: Callable[[int, float, float, bytes, bytes, int, bytes, bool, str], bytes | None] = line_in_python

try:
    from proxy.postgres import _turns
except ImportError:  # built without a C compiler
    COMPILED = False
else:
    COMPILED = True
    """Whether turns are read by the compiled functions."""
    read_query, read_batch, read_answer = _turns.read_query, _turns.read_batch, _turns.read_answer
    key, line = _turns.key, _turns.line
