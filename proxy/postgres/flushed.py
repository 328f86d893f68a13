"""The gate's own questions in the middle of a client's pipeline: extended messages, and a Flush behind them.

A Query would end the pipeline's transaction. Source: PostgreSQL documentation, "Extended Query": all up to
the Sync is one transaction, and after an error everything up to the Sync is skipped.
"""

from __future__ import annotations

from proxy.postgres import codec
from proxy.postgres.target import Answer

_NAME = b"portcullis_question"
_NO_VALUES = b"\0\0\0\0\0\0"
END = codec.message(b"H")
CLOSE = codec.message(b"C", b"P" + _NAME + b"\0") + codec.message(b"C", b"S" + _NAME + b"\0")
"""Takes the names of a question away, also of one that failed before it came to that."""


def question(text: bytes, types: bytes = b"\0\0", values: bytes = _NO_VALUES) -> bytes:
    """One statement as Parse, Bind, Execute and Close, under a name that is nobody else's.

    `types` and `values` are as in a Parse and a Bind behind their names.
    """
    return b"".join(
        (
            codec.message(b"P", _NAME + b"\0" + text + b"\0" + types),
            codec.message(b"B", _NAME + b"\0" + _NAME + b"\0" + values),
            codec.message(b"E", _NAME + b"\0" + b"\0\0\0\0"),
            CLOSE,
        )
    )


class FlushedAnswer(Answer):
    """The answer to `count` questions: over at the last CloseComplete, or at an error. The transaction's
    status is not told, and stays as it was.
    """

    def __init__(self, status: int, count: int = 1) -> None:
        super().__init__()
        self.status = status
        self.error = b""
        self._left = 2 * count

    def take(self, kind: bytes, body: bytes) -> bool:
        if kind == b"2":
            self._results.append([])
        elif kind == b"E":
            self.error = body
        elif kind == b"3":
            self._left -= 1
        return super().take(kind, body) or not self._left or kind == b"E"
